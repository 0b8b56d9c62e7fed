"""Deposits, entries and fences in the embedded store: run by the writer, on the database and the index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import apsw

from restante_crypto import proofs
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.stores.contract import DIGEST_BYTES, Accepted, Delivery, Deposit, FenceLost, StoredEntry, Winner
from restante_server.stores.quotas import Quotas
from restante_server.stores.sqlite_index import GROUP_ENTRIES, Address, Group, Index, Mailbox
from restante_server.stores.sqlite_log import Recipient, pack, pack_recipient, pack_recipients, unpack
from restante_server.stores.sqlite_writer import Batch

_ACCEPTED = Accepted(())


class Asked(Protocol):
    """A deposit, and the place for its result."""

    item: Deposit
    result: Any


@dataclass(slots=True, repr=False, eq=False)
class _Group:
    """Deposits to the same addresses that are being stored together.

    Attributes:
        addresses: the list that the deposits share.
        known: those that are known, with their positions.
        failed: positions of the others.
        asked: the deposits.
    """

    addresses: Sequence[bytes]
    known: list[tuple[int, Address]]
    failed: list[tuple[int, Code]]
    asked: list[Asked]
    sealed: bool = False


class Deposits:
    """The deposits of one transaction: those to the same addresses become one group.

    A group takes deposits until one of its mailboxes is met in another group, or something else happens in the
    transaction: so each mailbox has its entries in the order of the deposits.
    """

    def __init__(self, batch: Batch, index: Index, quotas: Quotas, now_ms: int) -> None:
        """Begin with none."""
        self._batch = batch
        self._index = index
        self._quotas = quotas
        self._now = now_ms // 1000
        self._least = now_ms << limits.SEQUENCE_TIME_SHIFT
        self._open: dict[tuple[int, int], _Group] = {}
        self._seen: dict[bytes, Asked] = {}
        self._again: list[Asked] = []
        self._payloads: list[tuple[int, bytes, bytes | None, int, int, int, bytes, bytes]] = []
        self._digests: list[bytes] = []  # of those that every address took
        self._failed: list[tuple[bytes, bytes]] = []  # and of others, with what failed

    def store(self, asked: Sequence[Asked]) -> None:
        """Take deposits, in their order; each has its result after ``finish``. See ``contract.Store.deposit``."""
        digests = [each.item.digest[:DIGEST_BYTES] for each in asked]
        stored = self._index.digests.find(self._batch.db, digests, self._now)
        for each, digest in zip(asked, digests, strict=True):
            item = each.item
            failed = stored.get(digest)
            if failed is not None:
                each.result = Accepted(_unpack_failed(failed))
            elif item.digest in self._seen:
                self._again.append(each)
            else:
                self._seen[item.digest] = each
                self._add(each)

    def seal(self) -> None:
        """Close all groups: what happens next in the transaction comes after them."""
        for group in tuple(self._open.values()):
            self._seal(group)
        self._open.clear()

    def finish(self) -> None:
        """Write the rows."""
        self.seal()
        db = self._batch.db
        db.executemany("INSERT INTO payload VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._payloads)
        expires = self._now + limits.DEDUPLICATION_LIFETIME
        if self._digests:
            self._index.digests.add(db, self._digests, expires, self._batch.undo)
        if self._failed:
            self._index.digests.add_failed(db, [(digest, failed, expires) for digest, failed in self._failed])
        for each in self._again:
            each.result = self._seen[each.item.digest].result

    def _add(self, asked: Asked) -> None:
        item = asked.item
        if item.fence is not None:
            self._fenced(asked, item.fence)
            return
        if len(item.addresses) == 1:
            self._store_for_one(asked)
            return
        key = id(item.addresses), item.lifetime
        group = self._open.get(key)
        if group is not None and not item.large and not group.sealed and len(group.asked) < GROUP_ENTRIES:
            group.asked.append(asked)
            return
        group, alone = self._group(asked)
        if item.large or alone:
            self._seal(group)
        else:
            self._open[key] = group

    def _group(self, asked: Asked) -> tuple[_Group, bool]:
        """Begin a group; say also whether it must stay alone, because a mailbox is in it twice."""
        group = _Group(asked.item.addresses, [], [], [asked])
        twice = False
        for position, identifier in enumerate(group.addresses):
            address = self._address(identifier)
            if address is None:
                group.failed.append((position, Code.GONE))
                continue
            group.known.append((position, address))
            mailbox = address.mailbox
            other = mailbox.group
            if other is group:
                twice = True
            elif isinstance(other, _Group) and not other.sealed:
                self._seal(other)
            mailbox.group = group
        return group, twice

    def _seal(self, group: _Group) -> None:
        """Give the group's deposits to its mailboxes; this settles their results."""
        if group.sealed:
            return
        group.sealed = True
        index, least = self._index, self._least
        first_item = group.asked[0].item
        sizes = tuple(len(each.item.body) for each in group.asked)
        count, total, large = len(sizes), sum(sizes), first_item.large
        lead = index.new_payloads(count)
        touched: list[Mailbox] = []
        self._batch.undo.append(partial(index.take_back, touched, lead))
        recipients: list[tuple[bytes, int, int]] = []
        origins: list[int] = []
        numbers: list[int] = []  # what is logged of them, if all have room
        full: list[tuple[int, int]] = []
        for position, address in group.known:
            mailbox = address.mailbox
            mailbox.group = None
            invite = address.kind == frames.KIND_INVITE
            taken, size = count, total
            if not self._fits(address, count, total, large=large):
                taken = self._room(address, sizes, large=large)
                full.append((position, taken))
                if not taken:
                    continue
                size = sum(sizes[:taken])
            sequence = max(mailbox.last + 1, least)
            origin = address.n * 2 + invite
            index.append(mailbox, sequence, lead, origin, -size if large else size, 0, taken)
            touched.append(mailbox)
            origins.append(origin)
            numbers += (mailbox.n, origin, sequence)
            recipients.append((mailbox.id, sequence, taken))
        if full:
            count = max((taken for _, _, taken in recipients), default=0)
        self._settle(group, full)
        if not recipients:
            return
        if count > 1 or len(touched) > 1:
            index.groups[lead] = Group(len(touched), sizes[:count])
        self._batch.deliveries.append(
            Delivery(
                [(each.item.message_id, each.item.body, each.item.fence) for each in group.asked[:count]], recipients
            )
        )
        if full:
            whose = (
                Recipient(mailbox.n, origin, sequence, taken)
                for mailbox, origin, (_, sequence, taken) in zip(touched, origins, recipients, strict=True)
            )
            self._log(lead, group.asked[:count], pack_recipients(whose, count))
        else:
            self._log(lead, group.asked[:count], pack(numbers))

    def _store_for_one(self, asked: Asked) -> None:
        """Store a deposit for one address: a group of its own, and nothing made that only others need."""
        index, item = self._index, asked.item
        address = self._address(item.addresses[0])
        if address is None:
            asked.result = Accepted(((0, Code.GONE),))
            return
        mailbox, size = address.mailbox, len(item.body)
        if isinstance(mailbox.group, _Group):
            self._seal(mailbox.group)
        invite = address.kind == frames.KIND_INVITE
        if not self._fits(address, 1, size, large=item.large):
            asked.result = Accepted(((0, Code.FULL),))
            return
        asked.result = _ACCEPTED
        lead, origin = index.new_payloads(1), address.n * 2 + invite
        sequence = max(mailbox.last + 1, self._least)
        self._batch.undo.append(partial(index.take_back, (mailbox,), lead))
        index.append(mailbox, sequence, lead, origin, -size if item.large else size, 0, 1)
        self._batch.deliveries.append(
            Delivery(((item.message_id, item.body, item.fence),), ((mailbox.id, sequence, 1),))
        )
        self._log(lead, (asked,), pack_recipient(mailbox.n, origin, sequence))

    def _address(self, identifier: bytes) -> Address | None:
        batch = self._batch
        return self._index.addresses.get(identifier) or self._index.address(batch.db, identifier, batch.undo)

    def _fits(self, address: Address, count: int, size: int, *, large: bool) -> bool:
        """Say whether so many entries, of so many bytes together, fit into a mailbox."""
        quotas, mailbox = self._quotas, address.mailbox
        return not (
            self._index.waiting.get(address.n, 0) + count > address.cap
            or mailbox.entries + count > quotas.entries
            or mailbox.size + size > quotas.size
            or (large and mailbox.large_size + size > quotas.large_size)
            or (address.kind == frames.KIND_INVITE and mailbox.invites + count > quotas.invite_entries)
        )

    def _room(self, address: Address, sizes: Sequence[int], *, large: bool) -> int:
        """Return how many of a group's entries, from the first one on, fit into a mailbox."""
        quotas, mailbox = self._quotas, address.mailbox
        room = min(address.cap - self._index.waiting.get(address.n, 0), quotas.entries - mailbox.entries)
        if address.kind == frames.KIND_INVITE:
            room = min(room, quotas.invite_entries - mailbox.invites)
        left = quotas.size - mailbox.size
        if large:
            left = min(left, quotas.large_size - mailbox.large_size)
        for taken, size in enumerate(sizes):
            left -= size
            if taken >= room or left < 0:
                return taken
        return len(sizes)

    def _settle(self, group: _Group, full: Sequence[tuple[int, int]]) -> None:
        """Say to each deposit of a group which addresses did not take it."""
        for place, each in enumerate(group.asked):
            failed = group.failed
            if full:
                failed = sorted([*failed, *((position, Code.FULL) for position, taken in full if taken <= place)])
            each.result = Accepted(tuple(failed))

    def _log(self, lead: int, asked: Sequence[Asked], recipients: bytes) -> None:
        """Keep the rows of a group for ``finish``."""
        members = len(asked)
        for number, each in enumerate(asked, lead):
            item, result = each.item, each.result
            expires = self._now + item.lifetime
            self._payloads.append(
                (number, item.message_id, item.fence, expires, int(item.large), members, recipients, item.body)
            )
            members, recipients = 0, b""
            if isinstance(result, Accepted):
                digest = item.digest[:DIGEST_BYTES]
                if result.failed:
                    self._failed.append((digest, _pack_failed(result.failed)))
                else:
                    self._digests.append(digest)

    def _fenced(self, asked: Asked, tag: bytes) -> None:
        """Store a deposit whose fence nobody has won; it is a group of its own."""
        db, index, item = self._batch.db, self._index, asked.item
        digest = proofs.body_digest(item.body)
        won = db.execute("SELECT message_id, digest FROM fence WHERE tag=?", (tag,)).fetchone()
        if won is not None:
            asked.result = Accepted(()) if won == (item.message_id, digest) else FenceLost()
            del self._seen[item.digest]  # only the fence remembers it
            return
        group, _ = self._group(asked)
        written = len(self._payloads)
        self._seal(group)
        kept_until = self._now + limits.FENCE_LIFETIME
        if len(self._payloads) == written:  # nobody takes it: only who asks for the winner
            lead = index.new_payloads(1)
            self._log(lead, [asked], b"")
            self._payloads[-1] = (*self._payloads[-1][:3], kept_until, *self._payloads[-1][4:])
        else:
            lead = self._payloads[written][0]
            index.fenced.add(lead)
        db.execute("INSERT INTO fence VALUES (?, ?, ?, ?, ?)", (tag, item.message_id, digest, lead, kept_until))


def sweep(batch: Batch, index: Index, now: int, limit: int) -> bool:
    """Drop payloads, with their entries, and fences that have expired: at most ``limit``; say if there may be more."""
    db = batch.db
    rows: list[Any] = db.execute(
        "SELECT n, recipients, fence, members FROM payload WHERE members > 0 AND expires<=? LIMIT ?", (now, limit)
    ).fetchall()
    for payload, recipients, tag, members in rows:
        if recipients:
            index.expire(payload, recipients, members)  # needs no undo: it would be found again
        else:
            db.execute("DELETE FROM payload WHERE n=?", (payload,))
            db.execute("DELETE FROM fence WHERE tag=?", (tag,))
    index.save(db, batch.undo)  # so that these are not found again
    return len(rows) == limit


def fetch(db: apsw.Connection, planned: Sequence[tuple[int, int]], now: int) -> list[StoredEntry]:
    """Return the entries at (sequence, payload) that are committed, not expired, and not acknowledged meanwhile."""
    found: list[StoredEntry] = []
    for sequence, payload in planned:
        row = db.execute(
            "SELECT message_id, body, fence FROM payload WHERE n=? AND expires>?", (payload, now)
        ).fetchone()
        if row is not None:
            found.append(StoredEntry(sequence, *row))
    return found


def winner(db: apsw.Connection, tag: bytes) -> Winner | None:
    """Return who won a fence."""
    row = db.execute(
        "SELECT f.message_id, f.digest, p.body FROM fence AS f JOIN payload AS p ON p.n = f.payload WHERE f.tag=?",
        (tag,),
    ).fetchone()
    return Winner(*row) if row is not None else None


def _pack_failed(failed: Sequence[tuple[int, Code]]) -> bytes:
    return pack([number for index, code in failed for number in (index, code)])


def _unpack_failed(data: bytes) -> tuple[tuple[int, Code], ...]:
    numbers = iter(unpack(data))
    return tuple((index, Code(code)) for index, code in zip(numbers, numbers, strict=True))
