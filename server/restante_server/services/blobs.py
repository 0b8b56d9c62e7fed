"""Blobs: who may upload, fetch and delete them, and how many there may be. PROTOCOL.md section 6.11.

Nobody answers for a blob, so what bounds them is kept in memory: how fast they come, how many are on their way at a
time, and how much all of them are together.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from restante_crypto import primitives, proofs
from restante_protocol import ids, limits
from restante_protocol.errors import Code
from restante_server.clock import Clock
from restante_server.config import (
    BLOB_CREATIONS,
    BLOB_CREATIONS_BYTES,
    BLOB_CREATIONS_BYTES_PER_SECOND,
    BLOB_CREATIONS_PER_SECOND,
    BLOB_HEADS,
    BLOB_LEAST_CHARGE,
    BLOB_TRANSFERS,
)
from restante_server.errors import Refused
from restante_server.metrics import Metrics
from restante_server.services.allowance import Allowance, Rate
from restante_server.stores.blobs import BlobHead, BlobStore, Upload

_UNKNOWN: Final = 2**64  # an expiry that was not looked up yet


@dataclass(frozen=True, slots=True, repr=False)
class Proof:
    """Who asks: write key, the nonce of the id, signature."""

    write_key: bytes
    nonce: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Put:
    """A request to upload: id, size in bytes, lifetime in seconds, digest, proof; lengths were checked."""

    blob: bytes
    size: int
    lifetime: int
    digest: bytes
    proof: Proof


class Incoming:
    """An upload under way: ``write`` its pieces, then ``finish``; or ``abort``."""

    def __init__(self, blobs: "Blobs", put: Put, upload: Upload) -> None:
        self._blobs = blobs
        self._put = put
        self._upload = upload
        self._left = put.size
        self._hash = primitives.blake2b_hash(size=ids.DIGEST_BYTES)

    async def write(self, data: bytes) -> None:
        """Take a piece. Raises Refused(MALFORMED) if it is too much, and what a store raises."""
        self._left -= len(data)
        if self._left < 0:
            raise Refused(Code.MALFORMED, "size")
        await asyncio.to_thread(self._hash.update, data)
        await self._upload.write(data)

    async def finish(self) -> bool:
        """Store it; False if the same blob is there already. Raises Refused(MALFORMED or CONFLICT)."""
        if self._left or not primitives.equal(self._hash.digest(), self._put.digest):
            raise Refused(Code.MALFORMED, "digest" if not self._left else "size")
        if await self._upload.commit():
            self._blobs.keep(self._put)
            return True
        if not await self._blobs.is_there(self._put):
            raise Refused(Code.CONFLICT)
        return False

    async def abort(self) -> None:
        """Leave nothing of it; after ``finish`` that is nothing but the reservation."""
        self._blobs.reserved.give_back(_charge(self._put.size))
        await self._upload.abort()


class Blobs:
    """The blobs of one relay.

    Attributes:
        transfers: how many may be under way.
        reserved: bytes of uploads under way and of what is stored, as far as this process knows.
    """

    def __init__(
        self,
        store: BlobStore,
        relay_key: bytes,
        metrics: Metrics,
        clock: Clock,
        cap: int,
        bury: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Take what ``count`` finds to be there; together blobs may be ``cap`` bytes.

        ``bury``: called before a blob is deleted by who wrote it.
        """
        self._bury = bury
        self._store = store
        self._relay_key = relay_key
        self._metrics = metrics
        self._clock = clock
        self._known: dict[bytes, tuple[int, int]] = {}  # id: size, expiry or _UNKNOWN
        self._creations = Rate(BLOB_CREATIONS, BLOB_CREATIONS_PER_SECOND)
        self._creation_bytes = Rate(BLOB_CREATIONS_BYTES, BLOB_CREATIONS_BYTES_PER_SECOND)
        self.transfers = Allowance(BLOB_TRANSFERS)
        self.reserved = Allowance(cap)

    def _now(self) -> int:
        return self._clock() // 1000

    def _prove(self, blob: bytes, proof: Proof, message: bytes) -> None:
        expected = proofs.blob_id(blob[0], proof.write_key, proof.nonce)
        fits = primitives.ed25519_verify(proof.write_key, message, proof.signature)
        if not (primitives.equal(expected, blob) and fits):
            raise Refused(Code.UNAUTHORIZED)

    async def begin(self, put: Put) -> Incoming | None:
        """Begin an upload; None if the same blob is there already.

        Raises:
            Refused: UNAUTHORIZED; LIMIT; CONFLICT with another blob of this id; FULL.
        """
        message = proofs.blob_put_message(self._relay_key, put.blob, put.lifetime, put.size, put.digest)
        self._prove(put.blob, put.proof, message)
        if not limits.MIN_LIFETIME <= put.lifetime <= limits.MAX_BLOB_LIFETIME:
            raise Refused(Code.LIMIT, "lifetime")
        if not 1 <= put.size <= limits.MAX_BLOB_BYTES:
            raise Refused(Code.LIMIT, "size")
        if await self.is_there(put):
            return None
        now, charge = self._clock(), _charge(put.size)
        if charge > self.reserved.limit:
            raise Refused(Code.LIMIT, "all blobs")  # not FULL: waiting would not help
        if not (self._creations.take(now) and self._creation_bytes.take(now, charge)):
            raise Refused(Code.FULL, "new blobs")
        if not self.reserved.take(charge):
            raise Refused(Code.FULL, "all blobs")
        try:
            head = BlobHead(self._now() + put.lifetime, put.digest, put.size)
            return Incoming(self, put, await self._store.begin(put.blob, head))
        except BaseException:
            self.reserved.give_back(charge)
            raise

    async def is_there(self, put: Put) -> bool:
        """Say whether the blob is stored, for good. Raises Refused(CONFLICT) if it is another one."""
        head = await self._fresh(put.blob)
        if head is None:
            return False
        if head.digest != put.digest:
            raise Refused(Code.CONFLICT)
        await self._store.settle(put.blob)
        return True

    def keep(self, put: Put) -> None:
        """Count an upload among what is stored."""
        self._remember(put.blob, put.size, self._now() + put.lifetime)

    def _remember(self, blob: bytes, size: int, expires: int) -> None:
        self._forget(blob)  # a count may have been first
        self._known[blob] = size, expires
        self.reserved.used += _charge(size)

    async def _fresh(self, blob: bytes) -> BlobHead | None:
        """Return the head of a blob that has not expired; one that has is deleted."""
        head = await self._store.head(blob)
        if head is not None and head.expires <= self._now():
            await self._drop(blob)
            return None
        return head

    async def size(self, blob: bytes) -> int:
        """Return the size of a blob. Raises Refused(NOT_FOUND)."""
        head = await self._store.head(blob)
        if head is None or head.expires <= self._now():
            raise Refused(Code.NOT_FOUND)
        return head.size

    async def read(self, blob: bytes, start: int, size: int) -> bytes:
        """Return a piece. Raises Refused(NOT_FOUND) if the blob went while it was read."""
        data = await self._store.read(blob, start, size)
        if not data:
            raise Refused(Code.NOT_FOUND)
        return data

    async def delete(self, blob: bytes, proof: Proof) -> None:
        """Delete a blob, if it exists. Raises Refused(UNAUTHORIZED)."""
        self._prove(blob, proof, proofs.blob_delete_message(self._relay_key, blob))
        if await self._store.head(blob) is not None:
            await self._bury(blob)
        await self._drop(blob)

    async def _drop(self, blob: bytes) -> None:
        await self._store.delete(blob)
        self._forget(blob)

    def _forget(self, blob: bytes) -> None:
        known = self._known.pop(blob, None)
        if known is not None:
            self.reserved.give_back(_charge(known[0]))

    async def count(self) -> None:
        """Count what is there: other relays may store and delete as well."""
        before = set(self._known)
        listed = await self._store.list()
        for blob in before - listed.keys():
            self._forget(blob)
        for blob in listed.keys() - self._known.keys():
            self._remember(blob, listed[blob], _UNKNOWN)
        self._metrics.blobs.set(len(self._known))
        self._metrics.blob_size.set(sum(size for size, _ in self._known.values()))

    async def sweep(self) -> None:
        """Drop what has expired."""
        await self.count()
        unknown = [blob for blob, (_, expires) in self._known.items() if expires == _UNKNOWN]
        for start in range(0, len(unknown), BLOB_HEADS):
            some = unknown[start : start + BLOB_HEADS]
            for blob, head in zip(some, await self._store.heads(some), strict=True):
                self._relearn(blob, head)
        for blob in [blob for blob, (_, expires) in self._known.items() if expires <= self._now()]:
            self._relearn(blob, await self._fresh(blob))  # somebody may have stored it anew
        await self.count()

    def _relearn(self, blob: bytes, head: BlobHead | None) -> None:
        if head is None:
            self._forget(blob)
        else:
            self._remember(blob, head.size, head.expires)


def _charge(size: int) -> int:
    """Return what a blob counts: a small one is a file and a place in memory, too."""
    return max(size, BLOB_LEAST_CHARGE)
