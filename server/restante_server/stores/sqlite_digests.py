"""By what the embedded store knows a deposit again for a day: its digest.

A digest's place in a sorted table is random, and for each place a page of 4 KiB is written. So what one commit brings
is a row of a log, and is in memory. What is above RECENT moves to the table later, a range of digests at a time: there
many share a page, and the log's rows go when all their ranges have moved. Those whose deposit not every address took
are in the table at once.

A digest that has expired is not found, whether it was swept or not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import apsw

from restante_server.stores.contract import DIGEST_BYTES

RECENT: Final = 65_536  # digests in memory and in the log: 9 MB
RANGES: Final = 256  # of digests, by the first byte
SWEEP_SECONDS: Final = 300  # between sweeps of the table: each looks at all of it

Undo = list[Callable[[], object]]


class Digests:
    """The digests of one store.

    Attributes:
        unsaved: how many are in memory and should move.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._recent: list[dict[bytes, int]] = [{} for _ in range(RANGES)]  # when they expire, by range
        self._count = 0
        self._moved = [0] * RANGES  # the last row of the log of which nothing is left in memory, by range
        self._last = 0  # row of the log
        self._next = 0  # range to move
        self._swept = 0  # next range of the table to sweep,
        self._due = 0  # and when, in Unix seconds, a sweep begins with the first
        self._table = False  # there may be something in it

    def rebuild(self, db: apsw.Connection) -> None:
        """Read the log."""
        rows: Any = db.execute("SELECT n, expires, digests FROM deduplication_log ORDER BY n")
        for number, expires, digests in rows:
            self._remember(_split(digests), expires)
            self._last = number
        self._table = _any(db)

    @property
    def unsaved(self) -> int:
        """See the class."""
        return max(0, self._count - RECENT)

    def find(self, db: apsw.Connection, digests: Sequence[bytes], now: int) -> dict[bytes, bytes]:
        """Return what is known of these: what failed of each deposit. ``now``: Unix seconds."""
        recent = self._recent
        found = {
            digest: b""
            for digest in digests
            if (expires := recent[digest[0]].get(digest)) is not None and expires > now
        }
        if self._table:
            marks = ",".join("?" * len(digests))
            found.update(
                db.execute(
                    f"SELECT digest, failed FROM deduplication WHERE digest IN ({marks}) AND expires > ?",  # noqa: S608 -- question marks
                    (*digests, now),
                )
            )
        return found

    def add(self, db: apsw.Connection, digests: Sequence[bytes], expires: int, undo: Undo) -> None:
        """Remember deposits that every address took."""
        self._last += 1
        db.execute("INSERT INTO deduplication_log VALUES (?, ?, ?)", (self._last, expires, b"".join(digests)))
        undo.append(partial(self._forget, digests))
        self._remember(digests, expires)

    def add_failed(self, db: apsw.Connection, rows: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Remember other deposits: digest, what failed, when it expires."""
        self._forget([digest for digest, _, _ in rows])  # what was there has expired: it must not move over these
        db.executemany("REPLACE INTO deduplication VALUES (?, ?, ?)", rows)
        self._table = True

    def save(self, db: apsw.Connection, undo: Undo, limit: int) -> int:
        """Move ranges to the table while there are too many in memory, until so many have moved; return how many."""
        before = self._count
        while self._count > RECENT and before - self._count < limit:
            self._move(db, self._next, undo)
            self._next = (self._next + 1) % RANGES
        moved = before - self._count
        if moved:
            db.execute("DELETE FROM deduplication_log WHERE n<=?", (min(self._moved),))
        return moved

    def _move(self, db: apsw.Connection, chosen: int, undo: Undo) -> None:
        digests, self._recent[chosen] = self._recent[chosen], {}
        before, self._moved[chosen] = self._moved[chosen], self._last
        self._count -= len(digests)

        def restore() -> None:
            self._count += len(digests)
            self._recent[chosen].update(digests)
            self._moved[chosen] = before

        undo.append(restore)
        db.executemany("REPLACE INTO deduplication VALUES (?, x'', ?)", sorted(digests.items()))
        self._table = True

    def _remember(self, digests: Sequence[bytes], expires: int) -> None:
        recent = self._recent
        for digest in digests:
            known = recent[digest[0]]
            if digest not in known:
                self._count += 1
            known[digest] = expires

    def _forget(self, digests: Sequence[bytes], now: int = 0) -> None:
        """Drop digests from memory; with a time, those that have expired."""
        for digest in digests:
            known = self._recent[digest[0]]
            if digest in known and not (now and known[digest] > now):
                del known[digest]
                self._count -= 1

    # Expiry. It needs no undo: what has expired is not found.

    def sweep(self, db: apsw.Connection, now: int, limit: int) -> bool:
        """Drop expired rows, at most ``limit`` of the log and of a range of the table; say if this sweep goes on."""
        more = self._sweep_log(db, now, limit)
        if not self._table or now < self._due:
            return more
        return self._sweep_range(db, now, limit) or more

    def _sweep_log(self, db: apsw.Connection, now: int, limit: int) -> bool:
        rows: Any = db.execute("SELECT n, expires, digests FROM deduplication_log ORDER BY n LIMIT ?", (limit,))
        last = dropped = 0
        for number, expires, digests in rows:
            if expires > now:
                break
            self._forget(_split(digests), now)
            last, dropped = number, dropped + 1
        db.execute("DELETE FROM deduplication_log WHERE n<=?", (last,))
        return dropped == limit

    def _sweep_range(self, db: apsw.Connection, now: int, limit: int) -> bool:
        after = self._swept + 1
        end = bytes((after,)) if after < RANGES else b"\xff" * (DIGEST_BYTES + 1)
        db.execute(
            "DELETE FROM deduplication WHERE digest IN"
            " (SELECT digest FROM deduplication WHERE digest>=? AND digest<? AND expires<=? LIMIT ?)",
            (bytes((self._swept,)), end, now, limit),
        )
        if db.changes() == limit:
            return True
        self._swept = (self._swept + 1) % RANGES
        if self._swept:
            return True
        self._table = _any(db)
        self._due = now + SWEEP_SECONDS
        return False


def _any(db: apsw.Connection) -> bool:
    return db.execute("SELECT 1 FROM deduplication LIMIT 1").get is not None


def _split(digests: bytes) -> list[bytes]:
    return [digests[place : place + DIGEST_BYTES] for place in range(0, len(digests), DIGEST_BYTES)]
