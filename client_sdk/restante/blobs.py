"""Blobs from the client's side: what opens one travels in messages, what deletes it stays in the client's file.

A blob is uploaded whole or not at all. A ``BlobKeys`` makes the same bytes of the same content every time, so an upload
whose outcome is unknown is done again with the same one: keep it before the first try. PROTOCOL.md section 6.11.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, Self

import aiohttp

from restante.errors import Refused, RelayError
from restante.links import PATH, Disconnected, socket_url
from restante.packed import Packed, check
from restante_crypto import primitives, proofs
from restante_crypto.blobs import (
    CHUNK_BYTES,
    DIGEST_BYTES,
    KEY_BYTES,
    BlobError,
    BlobSecret,
    Decoder,
    Encoder,
    sealed_length,
    span,
)
from restante_crypto.primitives import Random
from restante_protocol import frames, ids, limits
from restante_protocol.errors import RemoteError

_SEED_BYTES: Final = 32
_ERROR_BYTES: Final = 1024  # an Error with any detail
_STORED: Final = frozenset({200, 201})


class BlobReference(Packed, frozen=True, array_like=True):
    """Where a blob is and what opens it: whoever has this can read it.

    Attributes:
        blob: its id.
        key: of ``BlobSecret``, as the next two.
        digest: of the sealed blob.
        length: bytes of the content.
    """

    blob: bytes
    key: bytes
    digest: bytes
    length: int

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(ids.is_id(self.blob), "blob")
        check(len(self.key) == KEY_BYTES, "key")
        check(len(self.digest) == DIGEST_BYTES, "digest")
        check(0 <= self.length <= limits.MAX_BLOB_BYTES, "length")

    @property
    def secret(self) -> BlobSecret:
        """What opens it."""
        return BlobSecret(self.key, self.digest, self.length)


class BlobKeys(Packed, frozen=True, array_like=True):
    """The secrets of one blob: what seals it, and what writes and deletes it.

    Attributes:
        seed: of the write key (Ed25519, 32 bytes).
        nonce: in the id.
        bucket: of the id.
        key: seals this blob's content and nothing else.
    """

    seed: bytes
    nonce: bytes
    bucket: int
    key: bytes

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(len(self.seed) == _SEED_BYTES, "seed")
        check(len(self.nonce) == ids.ID_NONCE_BYTES, "nonce")
        check(0 <= self.bucket < ids.BUCKETS, "bucket")
        check(len(self.key) == KEY_BYTES, "key")

    @classmethod
    def make(cls, random: Random) -> Self:
        """Return new ones, for one content."""
        bucket = ids.bucket_from(random(ids.BUCKET_ENTROPY_BYTES))
        return cls(random(_SEED_BYTES), random(ids.ID_NONCE_BYTES), bucket, random(KEY_BYTES))

    @property
    def write_key(self) -> bytes:
        """The public key that the id commits to."""
        return primitives.ed25519_public(self.seed)

    @property
    def blob(self) -> bytes:
        """The blob's id."""
        return proofs.blob_id(self.bucket, self.write_key, self.nonce)

    def reference(self, content: bytes) -> BlobReference:
        """Return where this content will be, and what opens it."""
        secret, _ = _measure(self.key, content)
        return BlobReference(self.blob, secret.key, secret.digest, secret.length)

    def headers(self, message: bytes) -> dict[str, str]:
        """Return the headers that prove a request."""
        return {
            "Restante-Write-Key": self.write_key.hex(),
            "Restante-Nonce": self.nonce.hex(),
            "Restante-Signature": primitives.ed25519_sign(self.seed, message).hex(),
        }


async def upload(
    session: aiohttp.ClientSession, url: str, relay_key: bytes, keys: BlobKeys, content: bytes, lifetime: int
) -> BlobReference:
    """Store a content at the relay for ``lifetime`` seconds; return when the relay has it for good.

    Raises:
        Refused: by the relay, for good (LIMIT) or for now (FULL, UNAVAILABLE, OVERLOADED).
        Disconnected: unknown whether it is stored: do the same again.
    """
    secret, size = await asyncio.to_thread(_measure, keys.key, content)
    message = proofs.blob_put_message(relay_key, keys.blob, lifetime, size, secret.digest)
    headers = keys.headers(message) | {
        "Content-Length": str(size),
        "Restante-Lifetime": str(lifetime),
        "Restante-Digest": secret.digest.hex(),
    }
    async with _request(session, "PUT", url, keys.blob, headers, _pieces(keys.key, content), size) as response:
        if response.status not in _STORED:
            raise RelayError("no answer to an upload")
    return BlobReference(keys.blob, secret.key, secret.digest, secret.length)


async def download(
    session: aiohttp.ClientSession, url: str, reference: BlobReference, start: int = 0, stop: int | None = None
) -> bytes:
    """Return the content, or the range [start, stop) of it.

    Raises:
        BlobError: the relay has given something else.
        Refused: NOT_FOUND: deleted, expired, or never stored; or for now.
        Disconnected: try again.
    """
    decoder = Decoder(reference.secret, start, stop)
    headers = {}
    if stop is not None or start:
        part = span(reference.length, start, reference.length if stop is None else stop)
        headers["Range"] = f"bytes={part.start}-{part.stop - 1}"
    async with _request(session, "GET", url, reference.blob, headers, None, reference.length) as response:
        opened = [decoder.update(data) async for data in response.content.iter_chunked(CHUNK_BYTES)]
    decoder.finish()
    return b"".join(opened)


def _unmetered(_size: int) -> None:
    pass


async def fetch(
    session: aiohttp.ClientSession, url: str, reference: BlobReference, meter: Callable[[int], None] = _unmetered
) -> bytes:
    """Return the whole blob as it is stored, sealed; its digest is the one that ``reference`` names.

    ``meter`` is told of every part that comes, how many bytes it has.

    Raises:
        BlobError: the relay has given something else.
        Refused: NOT_FOUND: deleted, expired, or never stored; or for now.
        Disconnected: try again.
    """
    sealed = await stored(session, url, reference.blob, sealed_length(reference.length), meter)
    if not primitives.equal(digest_of(sealed), reference.digest):
        raise BlobError("digest")
    return sealed


async def stored(
    session: aiohttp.ClientSession,
    url: str,
    blob: bytes,
    size: int = limits.MAX_BLOB_BYTES,
    meter: Callable[[int], None] = _unmetered,
) -> bytes:
    """Return what the relay has under this id, unchecked: of more than ``size`` bytes the beginning.

    Raises:
        Refused, Disconnected: as ``fetch``.
    """
    sealed = bytearray()
    async with _request(session, "GET", url, blob, {}, None, size) as response:
        async for data in response.content.iter_chunked(CHUNK_BYTES):
            sealed += data
            meter(len(data))
            if len(sealed) > size:
                break
    return bytes(sealed)


def digest_of(sealed: bytes) -> bytes:
    """Return the digest that the relay keeps with a blob."""
    return primitives.blake2b(sealed, size=DIGEST_BYTES)


def opened(reference: BlobReference, sealed: bytes) -> bytes:
    """Return the content of a blob with the right digest. Raises BlobError: who made it did so wrongly."""
    decoder = Decoder(reference.secret)
    content = decoder.update(sealed)
    decoder.finish()
    return content


async def delete(session: aiohttp.ClientSession, url: str, relay_key: bytes, keys: BlobKeys) -> None:
    """Delete a blob, if it exists. Raises Refused or Disconnected."""
    headers = keys.headers(proofs.blob_delete_message(relay_key, keys.blob))
    async with _request(session, "DELETE", url, keys.blob, headers, None, 0):
        pass


def _sealed(key: bytes, content: bytes) -> Iterator[bytes | BlobSecret]:
    """Yield the pieces of the sealed blob, and at the end what opens it."""
    encoder = Encoder(key)
    for start in range(0, len(content), CHUNK_BYTES):
        yield encoder.update(content[start : start + CHUNK_BYTES])
    rest, secret = encoder.finish()
    yield rest
    yield secret


def _measure(key: bytes, content: bytes) -> tuple[BlobSecret, int]:
    size = 0
    for piece in _sealed(key, content):
        if isinstance(piece, BlobSecret):
            return piece, size
        size += len(piece)
    raise AssertionError


async def _pieces(key: bytes, content: bytes) -> AsyncIterator[bytes]:
    for piece in _sealed(key, content):
        if isinstance(piece, bytes):
            yield piece
            await asyncio.sleep(0)  # the loop has others


@asynccontextmanager
async def _request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    blob: bytes,
    headers: dict[str, str],
    data: AsyncIterator[bytes] | None,
    size: int,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send a request; give the answer if it is no refusal. Raises Refused or Disconnected."""
    patience = limits.BLOB_PATIENCE + size / limits.BLOB_LEAST_RATE
    try:
        async with (
            asyncio.timeout(patience),
            session.request(
                method,
                _blob_url(url, blob),
                headers=headers,
                data=data,
                expect100=data is not None,
                allow_redirects=False,
            ) as response,
        ):
            if response.status >= 300:  # noqa: PLR2004 -- a class of HTTP
                raise _refusal(await response.content.read(_ERROR_BYTES))
            yield response
    except (aiohttp.ClientError, OSError, TimeoutError):
        raise Disconnected from None


def _refusal(body: bytes) -> Exception:
    try:
        frame = frames.decode_relay_frame(body)
    except RemoteError:
        return Disconnected()  # not the relay speaks: a proxy
    return Refused(frame.code, frame.detail) if isinstance(frame, frames.Error) else Disconnected()


def _blob_url(url: str, blob: bytes) -> str:
    base = socket_url(url).removeprefix("ws").removesuffix(PATH)
    return f"http{base}/v1/blobs/{blob.hex()}"
