"""What waits in the embedded store, in memory: the payloads' rows are a log, and this is its index.

A deposit is one row: body and recipients. Nothing is written per recipient, and an acknowledgement moves a cursor that
is saved later, for many at once. The index is rebuilt when the store is opened: 28 bytes per waiting entry and some 100
per payload. Mailboxes without entries, and addresses, are caches of their rows.

The row's ``recipients`` are three signed 64-bit integers each, little-endian: mailbox, address · 2 + (1 for an invite),
sequence. An entry waits if its mailbox exists and its sequence is above the mailbox's ``cursor`` or among ``kept``.
Cursors and the deletion of payloads that nobody waits for are saved in one transaction: so a power loss may bring back
what was acknowledged shortly before, and never loses anything else.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

CACHE: Final = 50_000  # idle mailboxes, and addresses, that are kept in memory

Undo = list[Callable[[], object]]
"""What a rolled back transaction calls, last first."""

_MAILBOX = "SELECT n, id, incarnation, last, cursor, acknowledged FROM mailbox"


def _integers() -> "array[int]":
    return array("q")


def _sizes() -> "array[int]":
    return array("i")


@dataclass(slots=True, repr=False, eq=False)
class Mailbox:
    """A mailbox's row, and its entries as columns: those from ``head`` on are waiting.

    Attributes:
        sequences: ascending.
        payloads: numbers of payloads.
        origins: address · 2 + (1 for an invite).
        sizes: bytes of the body, negative if it is large.
    """

    n: int
    id: bytes
    incarnation: bytes
    last: int
    cursor: int
    acknowledged: int
    size: int = 0
    large_size: int = 0
    invites: int = 0
    head: int = 0
    sequences: "array[int]" = field(default_factory=_integers)
    payloads: "array[int]" = field(default_factory=_integers)
    origins: "array[int]" = field(default_factory=_integers)
    sizes: "array[int]" = field(default_factory=_sizes)

    @property
    def entries(self) -> int:
        """How many wait."""
        return len(self.sequences) - self.head

    @property
    def columns(self) -> "tuple[array[int], ...]":
        """The columns."""
        return self.sequences, self.payloads, self.origins, self.sizes


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """An address's row and its mailbox."""

    n: int
    mailbox: Mailbox
    cap: int
    kind: int


def pack(numbers: Iterable[int]) -> bytes:
    """Return signed 64-bit integers, little-endian."""
    packed = array("q", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack(data: bytes) -> "array[int]":
    """Return what ``pack`` packed."""
    numbers = array("q")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def triples(recipients: bytes) -> Iterator[tuple[int, int, int]]:
    """Return (mailbox, origin, sequence) of each recipient."""
    numbers = iter(unpack(recipients))
    return zip(numbers, numbers, numbers, strict=True)


class Index:
    """The index. The writer changes it under the lock that the reader takes for looking into it.

    Attributes:
        mailboxes: by id: all that have entries or unsaved cursors, and a cache of others.
        addresses: by id, a cache.
        waiting: by number of an address, how many entries wait that came through it.
        references: by number of a payload, how many entries wait for it.
        fenced: of these payloads, those that a fence needs for longer.
        owners: by mailbox id, the token of the newest subscription.
        entries: of all mailboxes together.
        size: bytes of the bodies of these.
    """

    def __init__(self) -> None:
        self.mailboxes: dict[bytes, Mailbox] = {}
        self.addresses: dict[bytes, Address] = {}
        self.waiting: dict[int, int] = {}
        self.references: dict[int, int] = {}
        self.fenced: set[int] = set()
        self.owners: dict[bytes, bytes] = {}
        self.entries = 0
        self.size = 0
        self._by_number: dict[int, Mailbox] = {}
        self._dirty: set[Mailbox] = set()
        self._spent: list[int] = []
        self._next_payload = 1

    # Rows.

    def rebuild(self, db: apsw.Connection) -> None:
        """Read the log."""
        self._next_payload = 1 + (db.execute("SELECT max(n) FROM payload").get or 0)
        kept: dict[int, frozenset[int]] = {
            n: frozenset(unpack(data)) for n, data in db.execute("SELECT n, kept FROM mailbox WHERE kept != x''")
        }
        log = "SELECT n, recipients, length(body), large, fence IS NOT NULL FROM payload WHERE recipients != x''"
        rows: Iterable[Any] = db.execute(log)
        for payload, recipients, size, large, fenced in rows:
            count = 0
            for number, origin, sequence in triples(recipients):
                mailbox = self._by_number.get(number) or self._load(db, "n", number)
                if mailbox is None:
                    continue
                last = max(mailbox.last, sequence)
                if sequence > mailbox.cursor or sequence in kept.get(number, ()):
                    self.append(mailbox, sequence, payload, origin, -size if large else size)
                    count += 1
                mailbox.last = last  # a client may have seen more than the log holds
            if fenced:
                self.fenced.add(payload)
            if count:
                self.references[payload] = count
            else:
                self._spent.append(payload)

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
                self._dirty.add(mailbox)
            if owner is not None:
                self.owners[mailbox.id] = owner

        def finish() -> None:
            for position in range(mailbox.head, len(mailbox.sequences)):
                self._release(mailbox, position)

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
        self._forget(mailbox)
        self.addresses.clear()

    def _forget(self, mailbox: Mailbox) -> None:
        self.mailboxes.pop(mailbox.id, None)
        self._by_number.pop(mailbox.n, None)
        self._dirty.discard(mailbox)

    # Entries.

    def new_payload(self) -> int:
        """Return the number for the next payload: above all that wait."""
        self._next_payload += 1
        return self._next_payload - 1

    def append(self, mailbox: Mailbox, sequence: int, payload: int, origin: int, size: int) -> None:
        """Put an entry at the end of a mailbox. ``size`` is negative for a large body."""
        mailbox.sequences.append(sequence)
        mailbox.payloads.append(payload)
        mailbox.origins.append(origin)
        mailbox.sizes.append(size)
        mailbox.last = sequence
        if size < 0:
            size = -size
            mailbox.large_size += size
        mailbox.size += size
        mailbox.invites += origin & 1
        self.waiting[origin >> 1] = self.waiting.get(origin >> 1, 0) + 1
        self.entries += 1
        self.size += size

    def take_back(self, mailboxes: Iterable[Mailbox], payload: int) -> None:
        """Undo a deposit: drop its entries, unless they were acknowledged in the meantime. Sequences stay used."""
        for mailbox in mailboxes:
            if mailbox.entries and mailbox.payloads[-1] == payload:
                self._release(mailbox, -1)
                for column in mailbox.columns:
                    column.pop()
        self.references.pop(payload, None)
        self.fenced.discard(payload)

    def acknowledge(self, mailbox: Mailbox, sequence: int, exceptions: Collection[int]) -> None:
        """Drop the entries up to a sequence but the exceptions."""
        sequence = min(sequence, mailbox.last)
        sequences, head = mailbox.sequences, mailbox.head
        end = bisect_right(sequences, sequence, head)
        kept: list[int] = []
        for position in range(head, end):
            if exceptions and sequences[position] in exceptions:
                kept.append(position)
            else:
                self._release(mailbox, position)
        new_head = end - len(kept)
        if kept:
            for column in mailbox.columns:
                column[new_head:end] = array(column.typecode, [column[position] for position in kept])
        mailbox.head = new_head
        if new_head == len(sequences) or new_head > max(64, len(sequences) // 2):
            for column in mailbox.columns:
                del column[:new_head]
            mailbox.head = 0
        mailbox.cursor = max(mailbox.cursor, sequence)
        mailbox.acknowledged = max(mailbox.acknowledged, sequence)
        self._dirty.add(mailbox)

    def expire(self, payload: int, recipients: bytes) -> None:
        """Drop a payload's entries, wherever they wait."""
        for number, _, sequence in triples(recipients):
            mailbox = self._by_number.get(number)
            if mailbox is None:
                continue
            position = bisect_left(mailbox.sequences, sequence, mailbox.head)
            if position < len(mailbox.sequences) and mailbox.payloads[position] == payload:
                self._release(mailbox, position)
                for column in mailbox.columns:
                    del column[position]
                self._dirty.add(mailbox)

    def read(self, mailbox: bytes, after: int, entries: int, size: int) -> list[tuple[int, int]]:
        """Return (sequence, payload) above ``after``: at most so many, and so many bytes, but at least one."""
        found = self.mailboxes.get(mailbox)
        if found is None:
            return []
        start = bisect_right(found.sequences, after, found.head)
        end = start
        while end < len(found.sequences) and end < start + entries:
            size -= abs(found.sizes[end])
            if size < 0 and end > start:
                break
            end += 1
        return list(zip(found.sequences[start:end], found.payloads[start:end], strict=True))

    def _release(self, mailbox: Mailbox, position: int) -> None:
        """Take one entry out of all counts; its place in the columns is the caller's."""
        size = mailbox.sizes[position]
        if size < 0:
            size = -size
            mailbox.large_size -= size
        mailbox.size -= size
        origin = mailbox.origins[position]
        mailbox.invites -= origin & 1
        left = self.waiting[origin >> 1] - 1
        if left:
            self.waiting[origin >> 1] = left
        else:
            del self.waiting[origin >> 1]
        self.entries -= 1
        self.size -= size
        payload = mailbox.payloads[position]
        left = self.references.get(payload, 0) - 1
        if left > 0:
            self.references[payload] = left
        elif left == 0:
            del self.references[payload]
            self._spent.append(payload)

    # Saving.

    @property
    def unsaved(self) -> int:
        """How many rows ``save`` is to write."""
        return len(self._dirty) + len(self._spent)

    def save(self, db: apsw.Connection, undo: Undo) -> None:
        """Write cursors, and delete what nobody waits for any more."""
        dirty, self._dirty = self._dirty, set()
        spent, self._spent = self._spent, []

        def restore() -> None:
            self._dirty |= dirty
            self._spent += spent

        undo.append(restore)
        free = [(payload,) for payload in spent if payload not in self.fenced]
        db.executemany("DELETE FROM payload WHERE n=?", free)  # first: what follows may need the room
        fenced = [(payload,) for payload in spent if payload in self.fenced]
        db.executemany(
            "UPDATE payload SET recipients=x'', expires=(SELECT expires FROM fence WHERE tag=payload.fence) WHERE n=?",
            fenced,
        )
        db.executemany(
            "UPDATE mailbox SET last=?, cursor=?, kept=?, acknowledged=? WHERE n=? AND id=?",
            [(m.last, m.cursor, _kept(m), m.acknowledged, m.n, m.id) for m in dirty],
        )

    def trim(self) -> None:
        """Forget what is only cached, if there is much of it."""
        self.fenced.intersection_update(self.references)
        if len(self.addresses) > CACHE or len(self.mailboxes) > CACHE + self.entries:
            self.addresses.clear()
            for mailbox in [m for m in self.mailboxes.values() if not m.entries and m not in self._dirty]:
                self._forget(mailbox)


def _kept(mailbox: Mailbox) -> bytes:
    end = bisect_right(mailbox.sequences, mailbox.cursor, mailbox.head)
    return pack(mailbox.sequences[mailbox.head : end])
