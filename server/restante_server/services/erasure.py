"""Erasing for good: tombstones that outlive older backups, and files that hold no byte of what was erased.

A tombstone is a slot of the relay whose id is a keyed hash of what was erased, with the time in it: it names nothing to
who does not have both the relay's key and the erased id. The same is in a list beside the relay's key. ``restore``
applies both to backups that are older; and a relay whose store lacks a tombstone of the list has an older one, whoever
put it there: ``catch_up`` erases from it what was erased since, whatever kind of store it is.
"""

import asyncio
import contextlib
from typing import Final

from restante_server.clock import Clock
from restante_server.config import TOMBSTONE_LIFETIME
from restante_server.identity import Identity
from restante_server.stores.blobs import BlobStore
from restante_server.stores.contract import Store, StoreFull
from restante_server.stores.tombstones import TIME_BYTES, Journal

_LOOKS: Final = 500  # tombstones that are looked up at a time
PACE: Final = 20  # a scrub waits for this many times as long as the last one took: it holds up everybody else


class Eraser:
    """What erases. One per relay."""

    def __init__(self, store: Store, identity: Identity, clock: Clock, journal: Journal) -> None:
        """Take an open store."""
        self._journal = journal
        self._newest = b""  # the tombstone that was made or found last
        self._store = store
        self._identity = identity
        self._clock = clock
        self._waiting: asyncio.Task[None] | None = None
        self._rest_until = 0.0

    async def erase_mailbox(self, mailbox: bytes) -> int:
        """Erase a mailbox, if it exists; return when (Unix seconds): no file of the store holds it any more.

        Raises:
            StoreError: erased or not, the files may still hold it: try again.
        """
        now = self._clock() // 1000
        if await self._store.has_mailbox(mailbox):
            await self._bury(mailbox, now)
            await self._store.delete_mailbox(mailbox)
        await self._scrub()
        return now

    async def erase_slot(self, slot: bytes, *, scrub: bool = False) -> int:
        """Delete a slot, if it exists; return when (Unix seconds).

        Without ``scrub`` its bytes go with the next thing that is scrubbed, or as space is used again. With it no file
        of the store holds them any more: for what somebody takes back, such as a consent.

        Raises:
            StoreError: deleted or not, the files may still hold it: try again.
        """
        now = self._clock() // 1000
        if await self._store.get_slot(slot) is not None:
            await self._bury(slot, now)
            await self._store.delete_slot(slot)
        if scrub:
            await self._scrub()
        return now

    async def bury_blob(self, blob: bytes) -> None:
        """Keep a blob that is to be deleted from coming back; on a full disk it is deleted without that."""
        with contextlib.suppress(StoreFull):
            await self._bury(blob, self._clock() // 1000)

    async def _bury(self, identifier: bytes, now: int) -> None:
        tombstone = self._identity.tombstone(identifier)
        try:
            await asyncio.to_thread(self._journal.add, tombstone, now)
        except OSError:
            raise StoreFull from None
        await self._mark(tombstone, now, TOMBSTONE_LIFETIME)

    async def _mark(self, tombstone: bytes, made: int, lifetime: int) -> None:
        stored = await self._store.get_slot(tombstone)
        version = stored.version + 1 if stored is not None else 1
        await self._store.put_slot(tombstone, version, lifetime, made.to_bytes(TIME_BYTES, "big"))
        self._newest = tombstone

    async def look(self, blobs: BlobStore) -> None:
        """Catch up if the newest tombstone has gone: the store was put back while the relay ran."""
        if self._newest and await self._store.get_slot(self._newest) is None:
            await self.catch_up(blobs)

    async def catch_up(self, blobs: BlobStore) -> int:
        """Erase from an older store what was erased since, as the list knows; return how much that was.

        Raises:
            StoreError: it is not erased yet.
            OSError: the list cannot be read.
        """
        now = self._clock() // 1000
        known = await asyncio.to_thread(self._journal.tidy, now)
        tombstones = list(known)
        missing: dict[bytes, int] = {}
        for start in range(0, len(tombstones), _LOOKS):
            some = tombstones[start : start + _LOOKS]
            stored = await asyncio.gather(*(self._store.get_slot(each) for each in some))
            missing |= {each: known[each] for each, slot in zip(some, stored, strict=True) if slot is None}
        self._newest = tombstones[-1] if tombstones else b""
        if not missing:
            return 0

        def erased(identifier: bytes) -> bool:
            return self._identity.tombstone(identifier) in missing

        mailboxes, slots = await self._store.find(erased)
        for mailbox in mailboxes:
            await self._store.delete_mailbox(mailbox)
        for slot in slots:
            await self._store.delete_slot(slot)
        found = [blob for blob in await blobs.list() if erased(blob)]
        for blob in found:
            await blobs.delete(blob)
        if mailboxes or slots:
            await self._scrub()
        for tombstone, made in missing.items():  # last: an interruption begins again
            await self._mark(tombstone, made, made + TOMBSTONE_LIFETIME - now)
        return len(mailboxes) + len(slots) + len(found)

    async def _scrub(self) -> None:
        """Scrub after now; those who come while one waits for its turn share it."""
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_task(self._scrub_in_turn())
        await asyncio.shield(self._waiting)

    async def _scrub_in_turn(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._rest_until - loop.time()))
        self._waiting = None  # who comes from here on needs another one
        begun = loop.time()
        try:
            await self._store.scrub()
        finally:
            self._rest_until = loop.time() + PACE * (loop.time() - begun)
