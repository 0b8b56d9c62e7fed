"""Erasing for good: tombstones that outlive older backups, and files that hold no byte of what was erased.

A tombstone is a slot of the relay whose id is a keyed hash of what was erased, with the time in it: it names nothing to
who does not have both the relay's key and the erased id. ``restore`` applies tombstones to backups that are older.
"""

import asyncio
from typing import Final

from restante_server.clock import Clock
from restante_server.config import TOMBSTONE_LIFETIME
from restante_server.identity import Identity
from restante_server.stores.contract import Store

TIME_BYTES: Final = 8  # Unix seconds
PACE: Final = 20  # a scrub waits for this many times as long as the last one took: it holds up everybody else


class Eraser:
    """What erases. One per relay."""

    def __init__(self, store: Store, identity: Identity, clock: Clock) -> None:
        """Take an open store."""
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

    async def _bury(self, identifier: bytes, now: int) -> None:
        tombstone = self._identity.tombstone(identifier)
        stored = await self._store.get_slot(tombstone)
        version = stored.version + 1 if stored is not None else 1
        await self._store.put_slot(tombstone, version, TOMBSTONE_LIFETIME, now.to_bytes(TIME_BYTES, "big"))

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
