"""The log of what was disclosed: entries that each name the hash of the one before, in slots of the relay.

Entry N is in a slot whose id is a keyed hash, so that nobody else finds it; how many there are, their grounds and the
newest one's hash are published under the relay's signature (``HEAD``). So an entry that is changed, left out or taken
away is noticed. Several relays over one store append in turn: an entry that was begun is completed by whoever sees it.
An entry names the mailbox by a keyed hash, and so outlives it without holding it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from restante_crypto import primitives, proofs
from restante_protocol import ids, limits
from restante_server.clock import Clock
from restante_server.grounds import Ground
from restante_server.identity import Identity
from restante_server.services.bulletin import LIFETIME, Bulletin
from restante_server.stores.contract import Store

HEAD: Final = "transparency"  # the publication's name
NO_HASH: Final = bytes(ids.DIGEST_BYTES).hex()
_PERSON: Final = b"restante ledger"


class ChainBroken(Exception):  # noqa: N818 -- says what is the case
    """The log is not what was written: an entry was changed or is missing."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One disclosure.

    Attributes:
        number: from 1.
        id: random, 32 hexadecimal digits: the same request is logged once.
        at: when, Unix seconds.
        ground: a value of ``Ground``.
        to: who received it.
        reason: the operator's words for it.
        fields: names in the inventory.
        subject: ``Identity.subject`` of the mailbox, hexadecimal.
        barred_until: Unix seconds until which its owner may not be told, or 0.
        previous: the hash of the entry before.
    """

    number: int
    id: str
    at: int
    ground: str
    to: str
    reason: str
    fields: list[str]
    subject: str
    barred_until: int
    previous: str

    def __repr__(self) -> str:
        """Name the type."""
        return f"{type(self).__name__}()"


def hash_of(data: bytes) -> str:
    """Return the hash of an entry, hexadecimal."""
    return primitives.blake2b(data, size=ids.DIGEST_BYTES, person=_PERSON).hex()


class Ledger:
    """The log of one relay, as far as it has been read."""

    def __init__(self, store: Store, identity: Identity, clock: Clock) -> None:
        """Take an open store; ``refresh`` reads it."""
        self._store = store
        self._identity = identity
        self._clock = clock
        self._published = Bulletin(store, identity, clock)
        self._read: list[tuple[Entry, bytes]] = []
        self._version = 0  # of the publication

    @property
    def entries(self) -> Sequence[Entry]:
        """What has been read."""
        return [entry for entry, _ in self._read]

    def _head(self) -> str:
        return hash_of(self._read[-1][1]) if self._read else NO_HASH

    def _summary(self) -> dict[str, Any]:
        grounds = Counter(entry.ground for entry, _ in self._read)
        return {
            "count": len(self._read),
            "head": self._head(),
            "grounds": {ground: grounds[ground] for ground in Ground if grounds[ground]},
        }

    async def refresh(self) -> None:
        """Read what was appended. Raises ChainBroken."""
        version, summary = await self._published.read(HEAD)
        if version and summary is None:
            raise ChainBroken("another key has signed the head")
        count = summary["count"] if summary is not None else 0
        if count < len(self._read):
            raise ChainBroken("the log is shorter than it was")
        for number in range(len(self._read) + 1, count + 1):
            stored = await self._store.get_slot(self._identity.ledger_slot(number))
            if stored is None:
                raise ChainBroken(f"entry {number} is missing")
            self._take(stored.body)
        if summary is not None and summary != self._summary():
            raise ChainBroken("the entries do not lead to the head")
        self._version = version

    def _take(self, data: bytes) -> None:
        number = len(self._read) + 1
        try:
            entry = msgspec.json.decode(data, type=Entry)
        except msgspec.DecodeError:
            raise ChainBroken(f"entry {number} is none") from None
        if entry.number != number or entry.previous != self._head():
            raise ChainBroken(f"entry {number} does not follow the one before")
        self._read.append((entry, data))

    async def verify(self) -> None:
        """Read everything again. Raises ChainBroken."""
        again = Ledger(self._store, self._identity, self._clock)
        await again.refresh()
        if again._read[: len(self._read)] != self._read:
            raise ChainBroken("an entry is not what it was")

    async def append(self, draft: Entry) -> Entry:
        """Append a disclosure unless it is there; its number and hash are given here. Raises ChainBroken."""
        while True:
            await self.refresh()
            for entry in self.entries:
                if entry.id == draft.id:
                    return entry
            number = len(self._read) + 1
            data = msgspec.json.encode(msgspec.structs.replace(draft, number=number, previous=self._head()))
            if len(data) > limits.MAX_DISCLOSURE_BYTES:
                raise ValueError("an entry that long is not taken")
            slot = self._identity.ledger_slot(number)
            stored = await self._store.get_slot(slot)
            if stored is None:
                if not await self._store.put_slot(slot, 1, LIFETIME, data):
                    continue
            else:
                data = stored.body  # another relay has begun it, or this one before a crash
            self._take(data)
            if not await self._published.write(HEAD, self._version + 1, self._summary()):
                self._read.pop()  # another relay was faster

    async def keep(self) -> None:
        """Publish the head if there is none, and keep all slots from expiring. Raises ChainBroken."""
        await self.refresh()
        await self.verify()
        for entry, data in self._read:
            await self._store.put_slot(self._identity.ledger_slot(entry.number), 1, LIFETIME, data)
        await self._published.write(HEAD, max(1, self._version), self._summary())

    def notices(self, mailbox: bytes, after: int = -1) -> list[tuple[bytes, bytes]]:
        """Return what the owner of a mailbox may be told now and could not be at ``after`` (Unix seconds).

        Each is an entry and the relay's signature.
        """
        if not self._read:
            return []
        now, subject = self._clock() // 1000, self._identity.subject(mailbox).hex()
        return [
            (data, self._identity.sign(proofs.disclosed_message(mailbox, data)))
            for entry, data in self._read
            if entry.subject == subject and after < max(entry.at, entry.barred_until) <= now
        ]
