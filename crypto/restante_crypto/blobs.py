"""Blobs: large contents encrypted in chunks, so that a range is opened without the rest.

::

    padded = content ‖ 0x80 ‖ zeros, to a size class of ``padding`` (at least MINIMUM)
    sealed = chunks of CHUNK_BYTES of it (the last may be shorter), each
             XChaCha20-Poly1305(key, nonce = zeros (15) ‖ index (8) ‖ 1 for the last chunk or 0, chunk)

A key is random and seals one blob, so its nonces, which count, never repeat. Index and mark keep chunks in their
places: left out, swapped, repeated or cut off, they do not open. A reader knows the content's length and with it the
number of chunks. The digest (BLAKE2b-256 of everything sealed) binds a whole blob to one content even where two keys
would open it; who reads a range has the chunks' seals alone.

Nothing here does I/O: ``Encoder`` and ``Decoder`` take pieces of any size. What is not here: where a blob is kept, and
who may delete it (PROTOCOL.md section 6.11).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from restante_crypto import padding, primitives

KEY_BYTES: Final = 32
DIGEST_BYTES: Final = 32
CHUNK_BYTES: Final = 64 * 1024
MINIMUM: Final = 4096
"""Bytes of the smallest padded content: below it, envelopes serve as well."""
_TAG: Final = primitives.AEAD_TAG_BYTES
_SEALED_CHUNK: Final = CHUNK_BYTES + _TAG
_MARK: Final = 0x80


class BlobError(Exception):
    """Not this blob: a chunk does not open in its place, or there are too few or too many bytes."""


@dataclass(frozen=True, slots=True)
class BlobSecret:
    """What opens a blob: it travels inside of messages.

    Attributes:
        key: 32 bytes, of this blob alone.
        digest: BLAKE2b-256 of the sealed blob.
        length: bytes of the content.
    """

    key: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    length: int


@dataclass(frozen=True, slots=True)
class Span:
    """Which sealed bytes hold a range of the content: [start, stop), whole chunks, the first of number ``chunk``."""

    start: int
    stop: int
    chunk: int


def padded_length(length: int) -> int:
    """Return the bytes that a content of this length is padded to."""
    return padding.padded_length(length + 1, MINIMUM)


def sealed_length(length: int) -> int:
    """Return the bytes of the sealed blob with a content of this length."""
    padded = padded_length(length)
    return padded + _chunks(padded) * _TAG


def span(length: int, start: int, stop: int) -> Span:
    """Return where [start, stop) of a content of this length is; 0 <= start < stop <= length."""
    if not 0 <= start < stop <= length:
        raise ValueError("range")
    first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
    return Span(first * _SEALED_CHUNK, min((last + 1) * _SEALED_CHUNK, sealed_length(length)), first)


def _chunks(padded: int) -> int:
    return -(-padded // CHUNK_BYTES)


def _nonce(index: int, *, last: bool) -> bytes:
    return bytes(15) + index.to_bytes(8, "big") + bytes((last,))


class Encoder:
    """Seals one content. ``update`` with its pieces, then ``finish`` once.

    The same key and content give the same bytes, so a second pass can send what a first one has measured.
    """

    def __init__(self, key: bytes) -> None:
        """Begin with a key of 32 random bytes that seals nothing else."""
        self._key = key
        self._held = bytearray()  # not sealed yet: at most a chunk, which may be the last
        self._index = 0
        self._length = 0
        self._hash = primitives.blake2b_hash(size=DIGEST_BYTES)

    def update(self, data: bytes) -> bytes:
        """Take a piece of the content; return what is sealed so far and was not returned before."""
        self._length += len(data)
        return self._add(data)

    def finish(self) -> tuple[bytes, BlobSecret]:
        """Pad; return the rest of the sealed blob, and what opens it."""
        length = self._length
        sealed = self._add(bytes((_MARK,)))
        zeros = padded_length(length) - length - 1
        while zeros:
            piece = min(zeros, CHUNK_BYTES)
            sealed += self._add(bytes(piece))
            zeros -= piece
        sealed += self._seal(bytes(self._held), last=True)
        return sealed, BlobSecret(self._key, self._hash.digest(), length)

    def _add(self, data: bytes) -> bytes:
        self._held += data
        sealed = []
        while len(self._held) > CHUNK_BYTES:
            sealed.append(self._seal(bytes(self._held[:CHUNK_BYTES]), last=False))
            del self._held[:CHUNK_BYTES]
        return b"".join(sealed)

    def _seal(self, chunk: bytes, *, last: bool) -> bytes:
        box = primitives.xchacha_seal(self._key, _nonce(self._index, last=last), chunk, b"")
        self._index += 1
        self._hash.update(box)
        return box


class Decoder:
    """Opens a whole blob, or the range [start, stop) of its content. ``update`` with pieces, then ``finish`` once.

    What ``update`` returns is authentic, chunk by chunk; that nothing is missing, and of a whole blob the digest, is
    known only after ``finish``.
    """

    def __init__(self, secret: BlobSecret, start: int = 0, stop: int | None = None) -> None:
        """Begin. The sealed bytes to give are those of ``span``, of a whole blob all."""
        length = secret.length
        self._secret = secret
        self._whole = start == 0 and stop is None
        self._start = start
        self._stop = length if stop is None else stop
        self._padded = padded_length(length)
        self._sealed = Span(0, sealed_length(length), 0) if self._whole else span(length, start, self._stop)
        self._index = self._sealed.chunk
        self._left = self._sealed.stop - self._sealed.start  # sealed bytes still to come
        self._held = bytearray()
        self._hash = primitives.blake2b_hash(size=DIGEST_BYTES)

    def update(self, data: bytes) -> bytes:
        """Take sealed bytes; return the content that they open. Raises BlobError."""
        self._left -= len(data)
        if self._left < 0:
            raise BlobError("too long")
        self._held += data
        self._hash.update(data)
        return b"".join(self._open())

    def finish(self) -> None:
        """Raise BlobError if this was not all, or not the blob that the digest names."""
        if self._left:
            raise BlobError("too short")
        if self._whole and not primitives.equal(self._hash.digest(), self._secret.digest):
            raise BlobError("digest")

    def _open(self) -> Iterator[bytes]:
        while len(self._held) >= _SEALED_CHUNK or (self._held and not self._left):
            box = bytes(self._held[:_SEALED_CHUNK])
            del self._held[:_SEALED_CHUNK]
            offset = self._index * CHUNK_BYTES
            try:
                chunk = primitives.xchacha_open(
                    self._secret.key, _nonce(self._index, last=offset + CHUNK_BYTES >= self._padded), box, b""
                )
            except primitives.AuthenticationError:
                raise BlobError("chunk") from None
            self._index += 1
            if self._whole:
                self._check_padding(chunk[max(0, self._secret.length - offset) :], offset)
            yield chunk[max(0, self._start - offset) : max(0, self._stop - offset)]

    def _check_padding(self, pad: bytes, offset: int) -> None:
        begins = offset <= self._secret.length < offset + CHUNK_BYTES
        if pad != (bytes((_MARK,)) if begins else b"").ljust(len(pad), b"\x00"):
            raise BlobError("padding")
