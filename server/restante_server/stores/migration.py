"""``restante migrate``: everything of one store into another of another kind, while no relay uses either.

A store is read as records that name nothing by running numbers, written into an empty store, read again from there, and
compared by counts and digests. Not taken along: which deposits are known again (24 h; clients know messages again by
themselves). The source takes another epoch at the end: should it ever be used again, it issues no prekey twice.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Protocol

import msgspec

from restante_server.stores.contract import StoreRefused


@dataclass(frozen=True, slots=True, repr=False)
class MailboxRecord:
    """A mailbox: id, public key, incarnation, last sequence, highest acknowledged."""

    id: bytes
    receive_key: bytes
    incarnation: bytes
    last: int
    acknowledged: int


@dataclass(frozen=True, slots=True, repr=False)
class AddressRecord:
    """An address of a mailbox."""

    id: bytes
    mailbox: bytes
    cap: int
    kind: int


@dataclass(frozen=True, slots=True, repr=False)
class EntryRecord:
    """An entry: mailbox, sequence, the address that it came through (empty if revoked), whether that was an invite."""

    mailbox: bytes
    sequence: int
    address: bytes
    invite: bool


@dataclass(frozen=True, slots=True, repr=False)
class PayloadRecord:
    """A payload and the entries that wait for it; in a cluster there is one for every bucket touched."""

    message_id: bytes
    fence: bytes | None
    expires: int
    large: bool
    body: bytes
    entries: tuple[EntryRecord, ...]


@dataclass(frozen=True, slots=True, repr=False)
class FenceRecord:
    """A fence and its winner."""

    tag: bytes
    message_id: bytes
    digest: bytes
    body: bytes
    expires: int


@dataclass(frozen=True, slots=True, repr=False)
class PoolRecord:
    """A prekey pool: highest number accepted, highest issued, the last resort or empty, and (number, package) left."""

    mailbox: bytes
    suite: int
    uploaded: int
    issued: int
    last_resort: bytes
    prekeys: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True, repr=False)
class SlotRecord:
    """A slot."""

    id: bytes
    version: int
    expires: int
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class CodeRecord:
    """An invite code's hash, and whether it is used up, or kept for one mailbox by a relay that was stopped."""

    hash: bytes
    expires: int
    used: bool


Record = MailboxRecord | AddressRecord | PayloadRecord | FenceRecord | PoolRecord | SlotRecord | CodeRecord


class Portable(Protocol):
    """A store that is not in use, as records."""

    async def key(self) -> bytes:
        """Return the relay's key; empty if there is none."""
        ...

    def records(self) -> AsyncIterator[Record]:
        """Return everything, kinds in the order of ``Record``, a mailbox's payloads in that of its sequences."""
        ...

    async def empty(self) -> bool:
        """Say whether nothing is stored."""
        ...

    async def write(self, records: AsyncIterator[Record], key: bytes) -> None:
        """Take everything, in the order of ``records``."""
        ...

    async def retire(self) -> None:
        """Take another epoch: what was issued elsewhere since is not issued again."""
        ...


@dataclass(slots=True)
class Summary:
    """Counts by kind, and one digest that does not depend on the order.

    Attributes:
        counts: of mailboxes, addresses, entries and so on.
        digest: sum of the hashes of all, modulo 2^256.
    """

    counts: Counter[str] = field(default_factory=Counter)
    digest: int = 0

    def add(self, record: Record) -> None:
        """Count a record; a payload as its entries, so that it may be divided."""
        if isinstance(record, PayloadRecord):
            head = (record.message_id, record.fence, record.expires, record.large, blake2b(record.body).digest())
            for entry in record.entries:
                self._add("entry", (*head, entry.mailbox, entry.sequence, entry.address, entry.invite))
            return
        self._add(type(record).__name__.removesuffix("Record").lower(), _fields(record))

    def _add(self, kind: str, values: Iterable[object]) -> None:
        self.counts[kind] += 1
        data = blake2b(msgspec.msgpack.encode([kind, *values]), digest_size=32).digest()
        self.digest = (self.digest + int.from_bytes(data, "big")) % (1 << 256)


def _fields(record: Record) -> tuple[object, ...]:
    return tuple(getattr(record, each.name) for each in fields(record))


async def migrate(source: Portable, target: Portable) -> Summary:
    """Write everything into the target, compare, and retire the source; return what there was.

    Raises:
        StoreRefused: the target is not empty, or does not hold what the source holds.
    """
    if not await target.empty():
        raise StoreRefused("the target holds something already: name an empty store")
    await target.write(source.records(), await source.key())
    before, after = await _summary(source), await _summary(target)
    if before != after or await source.key() != await target.key():
        raise StoreRefused("the target does not hold what the source holds: remove it; the source is unchanged")
    await source.retire()
    return before


async def _summary(store: Portable) -> Summary:
    summary = Summary()
    async for record in store.records():
        summary.add(record)
    return summary
