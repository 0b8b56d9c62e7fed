"""What waits in the embedded store, in memory: the payloads' rows are a log, and this is its index.

A deposit is one row, and deposits that one commit gives to the same recipients are a *group*: consecutive rows, whose
first one names the recipients for all. Nothing is written per recipient, and an acknowledgement moves a cursor that is
saved later, for many at once. The index is rebuilt when the store is opened. A mailbox holds a *part* per group, 40
bytes: what of the group waits for it, under consecutive sequences. A group of one deposit to one mailbox has nothing
else; any other has an object of some 200 bytes for all its recipients. Mailboxes without entries, and addresses, are
caches of their rows.

``sqlite_log`` has the rows. An entry waits if its mailbox exists and its sequence is above the mailbox's ``cursor`` or
among ``kept``. Groups that nobody waits for are deleted with or after the cursors of all who had them: so a power loss
may bring back what was acknowledged shortly before, and never loses anything else.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import apsw

from restante_server.stores.sqlite_digests import Digests
from restante_server.stores.sqlite_log import pack, unpack, unpack_recipients
from restante_server.stores.sqlite_supplies import Supplies

CACHE: Final = 50_000  # idle mailboxes, and addresses, that are kept in memory
GROUP_ENTRIES: Final = 512  # deposits of one group; a part's place in it has ten bits
_COUNT_BITS: Final = 10
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1

Undo = list[Callable[[], object]]
"""What a rolled back transaction calls, last first."""

_MAILBOX = "SELECT n, id, incarnation, last, cursor, acknowledged FROM mailbox"


def _integers() -> "array[int]":
    return array("q")


def _spans() -> "array[int]":
    return array("i")


@dataclass(slots=True, repr=False, eq=False)
class Mailbox:
    """A mailbox's row, and the parts that wait, as columns: those from ``head`` on.

    Attributes:
        entries: how many wait.
        size: bytes of their bodies.
        large_size: of these, in large bodies.
        invites: how many of them came through invites.
        group: the lead of the newest group that is being made for this mailbox; see sqlite_deposits.
        sequences: of each part's first entry, ascending.
        leads: number of the first payload of the part's group.
        spans: the part's place in its group · 1024 + how many entries it has.
        origins: address · 2 + (1 for an invite).
        sizes: bytes of the part's bodies, negative if they are large.
    """

    n: int
    id: bytes
    incarnation: bytes
    last: int
    cursor: int
    acknowledged: int
    entries: int = 0
    size: int = 0
    large_size: int = 0
    invites: int = 0
    head: int = 0
    group: object = None
    sequences: "array[int]" = field(default_factory=_integers)
    leads: "array[int]" = field(default_factory=_integers)
    spans: "array[int]" = field(default_factory=_spans)
    origins: "array[int]" = field(default_factory=_integers)
    sizes: "array[int]" = field(default_factory=_integers)

    @property
    def columns(self) -> "tuple[array[int], ...]":
        """The columns."""
        return self.sequences, self.leads, self.spans, self.origins, self.sizes


@dataclass(slots=True, repr=False, eq=False)
class Group:
    """Payloads that share their recipients.

    Attributes:
        references: how many parts wait for it.
        sizes: bytes of each body.
    """

    references: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """An address's row and its mailbox."""

    n: int
    mailbox: Mailbox
    cap: int
    kind: int


class Index:
    """The index. The writer changes it under the lock that the reader takes for looking into it.

    Attributes:
        mailboxes: by id: all that have entries or unsaved cursors, and a cache of others.
        addresses: by id, a cache.
        waiting: by number of an address, how many entries wait that came through it.
        groups: by number of their first payload, but for those of one payload with one recipient.
        fenced: payloads that a fence needs for longer; each is a group of its own.
        owners: by mailbox id, the token of the newest subscription.
        supplies: prekey pools.
        digests: of deposits.
        entries: of all mailboxes together.
        size: bytes of the bodies of these.
    """

    def __init__(self) -> None:
        self.mailboxes: dict[bytes, Mailbox] = {}
        self.addresses: dict[bytes, Address] = {}
        self.waiting: dict[int, int] = {}
        self.groups: dict[int, Group] = {}
        self.fenced: set[int] = set()
        self.owners: dict[bytes, bytes] = {}
        self.supplies = Supplies()
        self.digests = Digests()
        self.entries = 0
        self.size = 0
        self._by_number: dict[int, Mailbox] = {}
        self._dirty: dict[Mailbox, int] = {}  # oldest first; how many were spent before it changed
        self._spent: list[tuple[int, int]] = []  # leads, and how many payloads,
        self._deleted = 0  # and how many of those before are deleted
        self._next_payload = 1
        self._committed = 1  # the payloads before are

    # Rows.

    def rebuild(self, db: apsw.Connection) -> None:
        """Read the log."""
        self.digests.rebuild(db)
        self._next_payload = self._committed = 1 + (db.execute("SELECT max(n) FROM payload").get or 0)
        kept: dict[int, frozenset[int]] = {
            n: frozenset(unpack(data)) for n, data in db.execute("SELECT n, kept FROM mailbox WHERE kept != x''")
        }
        log = "SELECT n, recipients, length(body), large, fence IS NOT NULL, members FROM payload ORDER BY n"
        lead: Any = None
        sizes: list[int] = []
        for row in db.execute(log):
            if row[5]:
                if lead is not None:
                    self._restore(db, lead, tuple(sizes), kept)
                lead, sizes = row, []
            sizes.append(row[2])
        if lead is not None:
            self._restore(db, lead, tuple(sizes), kept)

    def _restore(self, db: apsw.Connection, row: Any, sizes: tuple[int, ...], kept: dict[int, frozenset[int]]) -> None:  # noqa: ANN401 -- a row
        lead, recipients, _, large, fenced, _ = row
        if not recipients:
            return  # only its fence needs it
        parts: list[tuple[Mailbox, int, int, int, int]] = []
        for number, origin, first, count in unpack_recipients(recipients, len(sizes)):
            mailbox = self._by_number.get(number) or self._load(db, "n", number)
            if mailbox is None:
                continue
            mailbox.last = max(mailbox.last, first + count - 1)
            still = kept.get(number, frozenset())
            parts += (
                (mailbox, first + start, start, length, origin)
                for start, length in _runs(
                    offset for offset in range(count) if first + offset > mailbox.cursor or first + offset in still
                )
            )
        if fenced:
            self.fenced.add(lead)
        if not parts:
            self._spent.append((lead, len(sizes)))
            return
        if len(parts) > 1 or len(sizes) > 1:
            self.groups[lead] = Group(len(parts), sizes)
        for mailbox, sequence, start, length, origin in parts:
            size = sum(sizes[start : start + length])
            self.append(mailbox, sequence, lead, origin, -size if large else size, start, length)

    def mailbox(self, db: apsw.Connection, identifier: bytes, undo: Undo) -> Mailbox | None:
        """Return a mailbox, if it exists."""
        found = self.mailboxes.get(identifier) or self._load(db, "id", identifier)
        if found is not None and not found.entries:
            undo.append(lambda: self._doubt(found))
        return found

    def address(self, db: apsw.Connection, identifier: bytes, undo: Undo) -> Address | None:
        """Return an address, if it exists: unknown, revoked and deleted ones take the same way."""
        found = self.addresses.get(identifier)
        if found is None:
            row: Any = db.execute(
                "SELECT a.n, m.id, a.cap, a.kind FROM address AS a JOIN mailbox AS m ON m.n = a.mailbox WHERE a.id=?",
                (identifier,),
            ).fetchone()
            mailbox = self.mailbox(db, row[1], undo) if row is not None else None
            if mailbox is None:
                return None
            found = self.addresses[identifier] = Address(row[0], mailbox, row[2], row[3])
            undo.append(self.addresses.clear)
        return found

    def delete(self, mailbox: Mailbox, undo: Undo, done: Undo) -> None:
        """Take a mailbox out, its entries only when that is committed."""
        owner = self.owners.pop(mailbox.id, None)
        dirty = mailbox in self._dirty
        self._forget(mailbox)

        def restore() -> None:
            self.mailboxes[mailbox.id] = self._by_number[mailbox.n] = mailbox
            if dirty:
                self._dirty = {mailbox: 0} | self._dirty
            if owner is not None:
                self.owners[mailbox.id] = owner

        def finish() -> None:
            for position in range(mailbox.head, len(mailbox.sequences)):
                self._release(mailbox, position)
            mailbox.head = len(mailbox.sequences)

        undo.append(restore)
        done.append(finish)

    def _load(self, db: apsw.Connection, column: str, key: bytes | int) -> Mailbox | None:
        row: Any = db.execute(f"{_MAILBOX} WHERE {column}=?", (key,)).fetchone()
        if row is None:
            return None
        found = Mailbox(*row)
        self.mailboxes[found.id] = self._by_number[found.n] = found
        return found

    def _doubt(self, mailbox: Mailbox) -> None:
        """Forget a mailbox that may have been created in a transaction that is rolled back."""
        if mailbox not in self._dirty:  # or it was there before: nobody acknowledges before that
            self._forget(mailbox)
        self.addresses.clear()

    def _forget(self, mailbox: Mailbox) -> None:
        self.mailboxes.pop(mailbox.id, None)
        self._by_number.pop(mailbox.n, None)
        self._dirty.pop(mailbox, None)

    # Entries.

    def new_payloads(self, count: int) -> int:
        """Take the numbers for so many payloads, above all that wait; return the first."""
        self._next_payload += count
        return self._next_payload - count

    def committed(self) -> None:
        """What was appended may be read: before, it could not be told from what is gone."""
        self._committed = self._next_payload

    def append(
        self, mailbox: Mailbox, sequence: int, lead: int, origin: int, size: int, start: int, count: int
    ) -> None:
        """Put a part at the end of a mailbox: ``count`` entries of the group, from ``start`` on.

        ``size``: bytes of the bodies, negative if they are large.
        """
        mailbox.sequences.append(sequence)
        mailbox.leads.append(lead)
        mailbox.spans.append(start << _COUNT_BITS | count)
        mailbox.origins.append(origin)
        mailbox.sizes.append(size)
        last = sequence + count - 1
        if last > mailbox.last:  # noqa: PLR1730 -- a call would take as long as two of these columns
            mailbox.last = last
        self._count(mailbox, origin, count, size)

    def _count(self, mailbox: Mailbox, origin: int, count: int, size: int) -> None:
        """Add so many entries to all counts, or take them out if ``count`` is negative; large: ``size`` negative."""
        if size < 0:
            size = -size
            mailbox.large_size += size if count > 0 else -size
        if count < 0:
            size = -size
        mailbox.entries += count
        mailbox.size += size
        if origin & 1:
            mailbox.invites += count
        address = origin >> 1
        waiting = self.waiting.get(address, 0) + count
        if waiting:
            self.waiting[address] = waiting
        else:
            del self.waiting[address]
        self.entries += count
        self.size += size

    def take_back(self, mailboxes: Iterable[Mailbox], lead: int) -> None:
        """Undo a group: drop its entries, unless they were acknowledged in the meantime. Sequences stay used."""
        spent = len(self._spent)
        for mailbox in mailboxes:
            if mailbox.head < len(mailbox.leads) and mailbox.leads[-1] == lead:
                self._release(mailbox, -1)
                for column in mailbox.columns:
                    column.pop()
        self.groups.pop(lead, None)
        self.fenced.discard(lead)
        del self._spent[spent:]

    def acknowledge(self, mailbox: Mailbox, sequence: int, exceptions: Collection[int]) -> None:
        """Drop the entries up to a sequence but the exceptions."""
        sequence = min(sequence, mailbox.last)
        self._change(mailbox)
        if exceptions:
            self._split(mailbox, sequence, exceptions)
        else:
            sequences, spans = mailbox.sequences, mailbox.spans
            head, end = mailbox.head, len(sequences)
            while head < end and sequences[head] <= sequence:
                count = spans[head] & _COUNT_MASK
                taken = sequence + 1 - sequences[head]
                if taken < count:
                    self._shorten(mailbox, head, taken)
                    break
                self._release(mailbox, head)
                head += 1
            mailbox.head = head
        self._drop_head(mailbox)
        if sequence > mailbox.cursor:  # noqa: PLR1730 -- calls take as long as the rest of this, here and below
            mailbox.cursor = sequence
        if sequence > mailbox.acknowledged:  # noqa: PLR1730
            mailbox.acknowledged = sequence

    def _shorten(self, mailbox: Mailbox, position: int, taken: int) -> None:
        """Take the first entries out of a part."""
        span = mailbox.spans[position]
        start = span >> _COUNT_BITS
        size = sum(self.groups[mailbox.leads[position]].sizes[start : start + taken])
        mailbox.sequences[position] += taken
        mailbox.spans[position] = (start + taken) << _COUNT_BITS | ((span & _COUNT_MASK) - taken)
        mailbox.sizes[position] -= size
        self._count(mailbox, mailbox.origins[position], -taken, size)

    def _split(self, mailbox: Mailbox, sequence: int, exceptions: Collection[int]) -> None:
        """Drop the entries up to a sequence but the exceptions: what is left of a part may be several."""
        end = bisect_right(mailbox.sequences, sequence, mailbox.head)
        old = [tuple(column[position] for column in mailbox.columns) for position in range(mailbox.head, end)]
        after = [column[end:] for column in mailbox.columns]
        for column in mailbox.columns:
            del column[mailbox.head :]
        last = mailbox.last
        for first, lead, span, origin, size in old:
            start, count = span >> _COUNT_BITS, span & _COUNT_MASK
            runs = _runs(offset for offset in range(count) if first + offset > sequence or first + offset in exceptions)
            self._count(mailbox, origin, -count, size)
            self._refer(lead, len(runs) - 1)
            for at, length in runs:
                left = self._size(lead, start + at, length, size)
                self.append(mailbox, first + at, lead, origin, left, start + at, length)
        for column, rest in zip(mailbox.columns, after, strict=True):
            column.extend(rest)
        mailbox.last = last

    def _size(self, lead: int, start: int, count: int, whole: int) -> int:
        """Return the bytes of a part's bodies; of a group of one, the whole."""
        group = self.groups.get(lead)
        return whole if group is None or len(group.sizes) == 1 else sum(group.sizes[start : start + count])

    def _drop_head(self, mailbox: Mailbox) -> None:
        """Give the room of what is gone back, now and then."""
        head, length = mailbox.head, len(mailbox.sequences)
        if head == length or head > max(64, length // 2):
            for column in mailbox.columns:
                del column[:head]
            mailbox.head = 0

    def expire(self, lead: int, recipients: bytes, members: int) -> None:
        """Drop the entries of a group, wherever they wait."""
        for number, _, first, _ in unpack_recipients(recipients, members):
            mailbox = self._by_number.get(number)
            if mailbox is None:
                continue
            position = bisect_left(mailbox.sequences, first, mailbox.head)
            while position < len(mailbox.sequences) and mailbox.sequences[position] < first + members:
                if mailbox.leads[position] != lead:
                    position += 1
                    continue
                self._change(mailbox)
                self._release(mailbox, position)
                for column in mailbox.columns:
                    del column[position]

    def read(self, mailbox: bytes, after: int, entries: int, size: int) -> list[tuple[int, int]]:
        """Return what is committed above ``after``, as (sequence, payload).

        At most so many, and so many bytes, but at least one.
        """
        box = self.mailboxes.get(mailbox)
        if box is None:
            return []
        found: list[tuple[int, int]] = []
        position = max(box.head, bisect_right(box.sequences, after, box.head) - 1)
        while position < len(box.sequences):
            first, lead, span = box.sequences[position], box.leads[position], box.spans[position]
            if lead >= self._committed:
                break
            start, count = span >> _COUNT_BITS, span & _COUNT_MASK
            for offset in range(max(0, after + 1 - first), count):
                size -= abs(self._size(lead, start + offset, 1, box.sizes[position]))
                if len(found) == entries or (size < 0 and found):
                    return found
                found.append((first + offset, lead + start + offset))
            position += 1
        return found

    def _release(self, mailbox: Mailbox, position: int) -> None:
        """Take one part out of all counts; its place in the columns is the caller's."""
        size = mailbox.sizes[position]
        self._count(mailbox, mailbox.origins[position], -(mailbox.spans[position] & _COUNT_MASK), size)
        self._refer(mailbox.leads[position], -1)

    def _refer(self, lead: int, change: int) -> None:
        """Change how many parts wait for a group."""
        group = self.groups.get(lead)
        if group is None:
            if change < 0:
                self._spent.append((lead, 1))
            return
        group.references += change
        if group.references <= 0:
            del self.groups[lead]
            self._spent.append((lead, len(group.sizes)))

    # Saving.

    def _change(self, mailbox: Mailbox) -> None:
        """Have a mailbox' row saved. Called before anything is taken out of it."""
        if mailbox not in self._dirty:
            self._dirty[mailbox] = self._deleted + len(self._spent)

    @property
    def unsaved(self) -> int:
        """How many rows ``save`` is to write."""
        return len(self._dirty) + len(self._spent) + self.supplies.unsaved + self.digests.unsaved

    def save(self, db: apsw.Connection, undo: Undo, limit: int = sys.maxsize) -> int:
        """Write cursors, and delete what nobody waits for any more: of each kind so many rows, the oldest ones.

        A payload is deleted with, or after, the cursors of all who had it. Returns how many rows were saved.
        """
        dirty = dict(islice(self._dirty.items(), limit))
        for mailbox in dirty:
            del self._dirty[mailbox]
        deletable = next(iter(self._dirty.values()), self._deleted + len(self._spent)) - self._deleted
        spent: list[tuple[int, int]] = []
        rows = 0
        for lead, members in islice(self._spent, max(deletable, 0)):
            if rows >= limit:
                break
            spent.append((lead, members))
            rows += members
        del self._spent[: len(spent)]
        self._deleted += len(spent)
        fenced = {lead for lead, _ in spent if lead in self.fenced}

        def restore() -> None:
            self._dirty = dirty | {mailbox: at for mailbox, at in self._dirty.items() if mailbox not in dirty}
            for mailbox in dirty:  # they may have been forgotten, as those are that are saved
                self.mailboxes[mailbox.id] = self._by_number[mailbox.n] = mailbox
            self._spent[:0] = spent
            self._deleted -= len(spent)
            self.fenced.update(fenced)

        undo.append(restore)
        saved = len(dirty) + len(spent)
        saved += self.supplies.save(db, undo, limit)
        saved += self.digests.save(db, undo, limit)
        free = _ranges((lead, members) for lead, members in spent if lead not in fenced)
        db.executemany("DELETE FROM payload WHERE n BETWEEN ? AND ?", free)  # first: what follows may need the room
        db.executemany(
            "UPDATE payload SET recipients=x'', expires=(SELECT expires FROM fence WHERE tag=payload.fence) WHERE n=?",
            [(lead,) for lead in fenced],
        )
        self.fenced -= fenced
        db.executemany(
            "UPDATE mailbox SET last=?, cursor=?, kept=?, acknowledged=? WHERE n=? AND id=?",
            [(m.last, m.cursor, _kept(m), m.acknowledged, m.n, m.id) for m in dirty],
        )
        return saved

    def trim(self) -> None:
        """Forget what is only cached, if there is much of it."""
        self.supplies.trim()
        if len(self.addresses) > CACHE or len(self.mailboxes) > CACHE + self.entries:
            self.addresses.clear()
            for mailbox in [m for m in self.mailboxes.values() if not m.entries and m not in self._dirty]:
                self._forget(mailbox)


def _kept(mailbox: Mailbox) -> bytes:
    """Return the sequences up to the cursor that wait."""
    kept: list[int] = []
    for position in range(mailbox.head, len(mailbox.sequences)):
        first = mailbox.sequences[position]
        if first > mailbox.cursor:
            break
        count = mailbox.spans[position] & _COUNT_MASK
        kept += range(first, min(first + count, mailbox.cursor + 1))
    return pack(kept)


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as pairs (first, count) of consecutive ones."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][0] + runs[-1][1] == number:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _ranges(groups: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return groups (lead, members) as ranges (first, last) of payloads, those that touch joined."""
    ranges: list[tuple[int, int]] = []
    for lead, members in sorted(groups):
        if ranges and ranges[-1][1] + 1 == lead:
            ranges[-1] = (ranges[-1][0], lead + members - 1)
        else:
            ranges.append((lead, lead + members - 1))
    return ranges
