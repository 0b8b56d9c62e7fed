"""The queue of events: what the application is to be told, until it has handled it."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Final

from restante.engine.records import StoredEvent, unpack_event
from restante.file import Table

PAGE: Final = 8  # events that are read at once, beside those that are skipped


class Events:
    """Events in the order in which they happened, numbered. ``handled`` is a transaction, all others run inside one."""

    def __init__(self, table: Table, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        """Continue where the file ends."""
        self._table = table
        self._transaction = transaction
        self.load()

    def load(self) -> None:
        """Read anew where the file ends."""
        self._next = (self._table.max_sort() or 0) + 1

    def emit(self, event: StoredEvent, *, hold: bytes = b"") -> None:
        """Queue an event; with ``hold`` (a conversation's id) until that is released."""
        number = self._next
        self._next += 1
        self._table.put(number.to_bytes(8, "big"), event.pack(), group=hold, sort=number)

    def release(self, hold: bytes) -> None:
        """What was held follows, as if it had never been."""
        for row in self._table.rows(hold):
            self._table.put(row.key, row.value, sort=row.sort)

    def are_waiting(self) -> bool:
        """Say whether there is any that is not held."""
        return self._table.exists(b"")

    def next(self, skip: Collection[int], wanted: Callable[[StoredEvent], bool]) -> tuple[int, StoredEvent] | None:
        """Return number and content of the oldest that is not held, not among ``skip``, and wanted."""
        limit = len(skip) + PAGE
        while True:
            rows = self._table.rows(b"", limit=limit)
            for row in rows:
                if row.sort not in skip and wanted(event := unpack_event(row.value)):
                    return row.sort, event
            if len(rows) < limit:
                return None
            limit *= 4

    def handled(self, number: int) -> None:
        """The application has handled this event."""
        with self._transaction():
            self._table.delete(number.to_bytes(8, "big"))
