"""What a mailbox has in the directory: one sealed slot of the relay for each mailbox that has anything there.

It says where the mailbox's records are, so that they can be exported, changed and erased, and is written before them:
a relay that ends in between leaves no record that nobody answers for.
"""

from collections.abc import Callable

import msgspec

from restante_protocol import limits
from restante_server.oprf_key import OprfKey
from restante_server.services.erasure import Eraser
from restante_server.stores.contract import Store


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What one mailbox has.

    Attributes:
        handles: places of its record: one, or for a moment the old and the new.
        number: mark of its verified number, or empty.
        place: the number's.
        verified_at: Unix seconds.
    """

    handles: tuple[bytes, ...] = ()
    number: bytes = b""
    place: bytes = b""
    verified_at: int = 0

    def __repr__(self) -> str:
        """Name the type."""
        return "Entry()"


NOTHING = Entry()


class Entries:
    """The entries of one store."""

    def __init__(self, store: Store, key: OprfKey, eraser: Eraser) -> None:
        """Take an open store."""
        self._store = store
        self._key = key
        self._eraser = eraser

    def slot(self, mailbox: bytes) -> bytes:
        """Return where a mailbox's entry is."""
        return self._key.slot("entry", mailbox, mailbox[0])

    async def read(self, mailbox: bytes) -> Entry:
        """Return what the mailbox has."""
        return (await self._read(self.slot(mailbox)))[1]

    async def _read(self, slot: bytes) -> tuple[int, Entry]:
        stored = await self._store.get_slot(slot)
        if stored is None:
            return 0, NOTHING
        plain = self._key.open_sealed(slot, stored.body)
        return stored.version, msgspec.msgpack.decode(plain, type=Entry)

    async def change(self, mailbox: bytes, change: Callable[[Entry], Entry]) -> Entry:
        """Change what the mailbox has, and keep it for MAX_SLOT_LIFETIME; nothing is kept of who has nothing."""
        slot = self.slot(mailbox)
        while True:
            version, before = await self._read(slot)
            after = change(before)
            if after == NOTHING:
                await self._eraser.erase_slot(slot)
                return after
            body = self._key.seal(slot, msgspec.msgpack.encode(after))
            if await self._store.put_slot(slot, version + 1, limits.MAX_SLOT_LIFETIME, body):
                return after
