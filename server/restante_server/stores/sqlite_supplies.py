"""What is left of prekey pools in the embedded store, in memory, and the log of what was issued.

A claim takes a package from memory and adds its number to the log, one row in ``meta`` for a request; that is what is
synced before the answer. Pools' rows and the packages' deletion are saved later, for many at once, with the index.
Until then the log says which packages are void; ``settle_log`` makes the tables say it, when the store is opened.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Final

import apsw

from restante_protocol import frames
from restante_server.stores.sqlite_log import pack, unpack

READ: Final = 64  # packages of one pool that are read at a time
KEPT_PACKAGES: Final = 200_000  # in memory before those of idle pools are forgotten: 60 MB of usual ones
_LOG: Final = "claims "  # then the row, 16 hexadecimal digits
_LOG_END: Final = "claims!"
_OWN_LOG: Final = "key >= 'claims ' AND key < ?"

Undo = list[Callable[[], object]]


@dataclass(slots=True, repr=False, eq=False)
class Supply:
    """A pool, as it is after all claims.

    Attributes:
        mailbox: number of its mailbox.
        suite: of its packages.
        issued: highest number given out.
        left: packages that are left.
        ready: of these the next ones, last first: number, and the answer to a claim.
        unsaved: how many were taken since its row was written.
    """

    mailbox: int
    suite: int
    issued: int
    left: int
    ready: list[tuple[int, bytes]]
    unsaved: int = 0


Taken = list[tuple[Supply, int, int, bytes]]
"""What an operation took: pool, its highest number before, and the package."""


class Supplies:
    """The pools that were claimed from lately."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[int, dict[int, Supply]] = {}  # by mailbox and suite
        self._dirty: dict[Supply, int] = {}  # oldest first; the row of the log that has the first number to be saved
        self._rows = 0  # of the log, since the start
        self._read = 0  # packages, since the last trim
        self.unsaved = 0

    def find(self, db: apsw.Connection, mailbox: int, suite: int) -> Supply | None:
        """Return a pool, if there is one."""
        known = self._known.get(mailbox)
        found = None if known is None else known.get(suite)
        if found is None:
            row: Any = db.execute(
                "SELECT issued, left FROM pool WHERE mailbox=? AND suite=?", (mailbox, suite)
            ).fetchone()
            if row is None:
                return None
            found = Supply(mailbox, suite, row[0], row[1], [])
            self._known.setdefault(mailbox, {})[suite] = found
        return found

    def take(self, db: apsw.Connection, supply: Supply, taken: Taken) -> bytes:
        """Take the next package of a pool that has one left; return the answer to the claim."""
        if not supply.ready:
            self._fill(db, supply)
        number, answer = supply.ready.pop()
        taken.append((supply, supply.issued, number, answer))
        supply.issued = number
        supply.left -= 1
        return answer

    def _fill(self, db: apsw.Connection, supply: Supply) -> None:
        rows: list[Any] = db.execute(
            "SELECT number, package FROM prekey WHERE mailbox=? AND suite=? AND number>? ORDER BY number LIMIT ?",
            (supply.mailbox, supply.suite, supply.issued, READ),
        ).fetchall()
        supply.ready = [(number, frames.encode_prekey(0, number, package)) for number, package in reversed(rows)]
        self._read += len(rows)

    def log(self, db: apsw.Connection, taken: Taken) -> None:
        """Write down what an operation took."""
        numbers: list[int] = []
        self._rows += 1
        for supply, _, number, _ in taken:
            numbers += (supply.mailbox, supply.suite, number)
            self._dirty.setdefault(supply, self._rows)
            supply.unsaved += 1
        self.unsaved += len(taken)
        db.execute("INSERT INTO meta VALUES (?, ?)", (_log_key(self._rows), pack(numbers)))

    def give_back(self, taken: Taken) -> None:
        """Undo an operation."""
        for supply, before, number, answer in reversed(taken):
            supply.ready.append((number, answer))
            supply.issued = before
            supply.left += 1
            supply.unsaved -= 1
        self.unsaved -= len(taken)

    def counts(self, mailbox: int, suite: int, issued: int, left: int) -> tuple[int, int]:
        """Return (issued, left) of a pool whose row says these."""
        supply = self._known.get(mailbox, {}).get(suite)
        return (issued, left) if supply is None else (supply.issued, supply.left)

    def settle(self, db: apsw.Connection, mailbox: int, undo: Undo) -> None:
        """Write a mailbox' pools to their rows, and forget them: the rows are about to change."""
        known = self._known.pop(mailbox, {})
        dirty = {supply: self._dirty.pop(supply) for supply in known.values() if supply in self._dirty}
        undo.append(partial(self._restore, mailbox, known, dirty))
        _write(db, dirty)

    def _restore(self, mailbox: int, known: dict[int, Supply], dirty: dict[Supply, int]) -> None:
        self._known[mailbox] = known
        self._dirty = dict(sorted((self._dirty | dirty).items(), key=itemgetter(1)))

    def save(self, db: apsw.Connection, undo: Undo, limit: int) -> int:
        """Write pools to their rows, the oldest first, until so many packages are saved; return how many.

        What of the log only these need is deleted.
        """
        if not self.unsaved:
            return 0
        chosen: dict[Supply, tuple[int, int]] = {}  # row, and packages
        packages = 0
        for supply, row in self._dirty.items():
            if packages >= limit:
                break
            chosen[supply] = row, supply.unsaved
            packages += supply.unsaved
        for supply in chosen:
            del self._dirty[supply]
            supply.unsaved = 0
        if not self._dirty:  # what was settled counted too
            packages = self.unsaved
        self.unsaved -= packages

        def restore() -> None:
            self._dirty = {supply: row for supply, (row, _) in chosen.items()} | self._dirty
            self.unsaved += packages
            for supply, (_, unsaved) in chosen.items():
                supply.unsaved += unsaved
                self._known.setdefault(supply.mailbox, {})[supply.suite] = supply  # it may have been forgotten

        undo.append(restore)
        _write(db, chosen)
        needed = next(iter(self._dirty.values()), None)
        end = _LOG_END if needed is None else _log_key(needed)
        db.execute(f"DELETE FROM meta WHERE {_OWN_LOG}", (end,))  # noqa: S608 -- our own words
        return packages

    def trim(self) -> None:
        """Forget what is only cached, if there is much of it."""
        if self._read > KEPT_PACKAGES:
            self._read = 0
            busy = {supply.mailbox for supply in self._dirty}
            self._known = {mailbox: known for mailbox, known in self._known.items() if mailbox in busy}


def _log_key(row: int) -> str:
    return f"{_LOG}{row:016x}"


def _write(db: apsw.Connection, supplies: Iterable[Supply]) -> None:
    rows = [(each.issued, each.left, each.mailbox, each.suite) for each in supplies]
    db.executemany("UPDATE pool SET issued=?, left=? WHERE mailbox=? AND suite=?", rows)
    db.executemany(
        "DELETE FROM prekey WHERE mailbox=? AND suite=? AND number<=?",
        [(mailbox, suite, issued) for issued, _, mailbox, suite in rows],
    )


def settle_log(db: apsw.Connection) -> None:
    """Make the tables say what the log of a store that was not closed in order says; in the caller's transaction."""
    issued: dict[tuple[int, int], int] = {}
    rows: Iterable[Any] = db.execute(f"SELECT value FROM meta WHERE {_OWN_LOG}", (_LOG_END,))  # noqa: S608 -- our own words
    for (value,) in rows:
        numbers = iter(unpack(value))
        for mailbox, suite, number in zip(numbers, numbers, numbers, strict=True):
            issued[mailbox, suite] = max(number, issued.get((mailbox, suite), 0))
    for (mailbox, suite), number in issued.items():
        db.execute("DELETE FROM prekey WHERE mailbox=? AND suite=? AND number<=?", (mailbox, suite, number))
        db.execute(
            "UPDATE pool SET issued=max(issued, ?1), left=(SELECT count(*) FROM prekey WHERE mailbox=?2 AND suite=?3)"
            " WHERE mailbox=?2 AND suite=?3",
            (number, mailbox, suite),
        )
    db.execute(f"DELETE FROM meta WHERE {_OWN_LOG}", (_LOG_END,))  # noqa: S608 -- our own words
