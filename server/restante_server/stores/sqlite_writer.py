"""The one writing thread of the embedded store: it commits everything that waits in one transaction.

Batches grow with the load: while one commit is being synced, the next operations queue. An operation is a function of
the batch; those that write may be rolled back and run again, so their changes of memory register an undo. What an
operation returns is handed out after the commit.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import apsw

from restante_server.stores.contract import Delivery, Listener, StoreFull, StoreUnavailable
from restante_server.stores.sqlite_index import Index, Undo

MAX_BATCH: Final = 512  # operations per commit: bounds what one waits for
SAVE_SECONDS: Final = 0.2  # an acknowledged entry is deleted from the disk after so long
SAVE_ROWS: Final = 20_000  # or when so many rows wait for it
LEAST_FREE_BYTES: Final = 32 * 1024 * 1024  # twice SQLite's log between checkpoints: deleting has to be logged too

T = TypeVar("T")


@dataclass(slots=True)
class Batch:
    """What operations see: the database in a transaction, and what is to be done after its end.

    Attributes:
        db: the writing connection.
        deliveries: what the listener is told after the commit.
        undo: called, last first, after a rollback.
        done: called after the commit.
    """

    db: apsw.Connection
    deliveries: list[Delivery] = field(default_factory=list)
    undo: Undo = field(default_factory=list)
    done: Undo = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Operation:
    run: Callable[[Batch], Any]
    future: asyncio.Future[Any] | None
    writes: bool
    grows: bool
    alone: bool = False
    ran: bool = False
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs operations in order, in its own thread.

    Attributes:
        failed: set in the event loop once the store can no longer be written: a failed sync leaves it unknown what
            the disk holds, so nothing more is promised.
    """

    def __init__(self, db: apsw.Connection, index: Index, lock: threading.Lock, free_bytes: Callable[[], int]) -> None:
        """Start the thread; the running event loop is told of results. The lock guards the index."""
        self._db = db
        self._index = index
        self._lock = lock
        self._free_bytes = free_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._listener: Listener = lambda _deliveries: None
        self._closed = False
        self._broken = False
        self._saved = time.monotonic()
        self.failed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Set who is told of deliveries."""
        self._listener = listener

    async def submit(
        self, run: Callable[[Batch], T], *, writes: bool = True, grows: bool = False, alone: bool = False
    ) -> T:
        """Run an operation; return its result after the commit.

        Args:
            run: the operation. It registers an undo for each change of memory, unless it does not write.
            writes: it changes the database. Otherwise it cannot be rolled back: it reads, or only changes memory.
            alone: it runs between transactions, and locks nobody out of the index; it does not write.
            grows: it stores something: refused when the disk has only the room left that deleting needs.

        Raises:
            StoreFull: no room; it did not happen.
            StoreUnavailable: unknown whether it happened.
        """
        if self._closed or self._broken:
            raise StoreUnavailable
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Operation(run, future, writes, grows, alone))
        return await future

    async def close(self) -> bool:
        """Commit what waits, save the index, and end the thread. Say whether all went well."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        return not self._broken

    def _run(self) -> None:
        ending = False
        while not ending:
            batch, ending = self._take()
            if batch:
                apart = [operation for operation in batch if operation.alone]
                deliveries = self._commit(self._refuse_if_full([each for each in batch if not each.alone]))
                self._loop.call_soon_threadsafe(self._finish, [each for each in batch if not each.alone], deliveries)
                for operation in apart:
                    self._run_apart(operation)
            if ending or self._index.unsaved > SAVE_ROWS or time.monotonic() - self._saved > SAVE_SECONDS:
                self._save()

    def _take(self) -> tuple[list[_Operation], bool]:
        """Wait for an operation, or until it is time to save; return all that wait, and whether the store closes."""
        batch: list[_Operation] = []
        try:
            operation = self._queue.get(timeout=SAVE_SECONDS if self._index.unsaved else None)
            while operation is not None:
                batch.append(operation)
                if len(batch) == MAX_BATCH:
                    return batch, False
                operation = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _refuse_if_full(self, operations: list[_Operation]) -> list[_Operation]:
        """Fail what stores something if there is no room; return the others."""
        if not any(operation.grows for operation in operations) or self._free_bytes() >= LEAST_FREE_BYTES:
            return operations
        _fail((operation for operation in operations if operation.grows), StoreFull())
        return [operation for operation in operations if not operation.grows]

    def _commit(self, operations: list[_Operation]) -> list[Delivery]:
        if self._broken:
            _fail(operations, StoreUnavailable())
            return []
        try:
            return self._transaction(operations)
        except Exception as error:  # noqa: BLE001 -- each error reaches the operation that it belongs to
            rest = [operation for operation in operations if operation.writes or not operation.ran]
            if _is_fatal(error):
                self._broken = True
                _fail(rest, StoreUnavailable())
                return []
            if len(rest) == 1:
                _fail(rest, StoreFull() if isinstance(error, apsw.FullError) else error)
                return []
        return [delivery for operation in rest for delivery in self._commit([operation])]  # what fails, fails alone

    def _transaction(self, operations: list[_Operation]) -> list[Delivery]:
        db = self._db
        batch = Batch(db)
        writes = any(operation.writes for operation in operations)
        try:
            if writes:
                db.execute("BEGIN IMMEDIATE")
            for operation in operations:
                with self._lock:
                    if operation.writes:
                        operation.result = operation.run(batch)
                    else:
                        self._run_alone(operation, batch)
            if writes:
                db.execute("COMMIT")
        except BaseException:
            with self._lock:
                for undo in reversed(batch.undo):
                    undo()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        with self._lock:
            for done in batch.done:
                done()
        return batch.deliveries

    def _run_alone(self, operation: _Operation, batch: Batch) -> None:
        """Run what does not write: whatever happens to it is no reason to roll back the others."""
        operation.ran = True
        try:
            operation.result = operation.run(batch)
        except Exception as error:  # noqa: BLE001 -- it reaches the caller
            operation.error = error
            if _is_fatal(error):
                self._broken = True
                operation.error = StoreUnavailable()

    def _run_apart(self, operation: _Operation) -> None:
        if self._broken:
            _fail([operation], StoreUnavailable())
        else:
            try:
                operation.result = operation.run(Batch(self._db))
            except (StoreFull, apsw.FullError):
                operation.error = StoreFull()
            except apsw.Error:  # nothing was changed: another try may go well
                operation.error = StoreUnavailable()
        self._loop.call_soon_threadsafe(self._finish, [operation], [])

    def _save(self) -> None:
        """Write the index's cursors, in a transaction of its own; if the disk is full they wait for the next time."""
        self._saved = time.monotonic()
        if self._broken or not self._index.unsaved:
            return
        save = _Operation(lambda batch: self._index.save(batch.db, batch.undo), None, writes=True, grows=False)
        self._commit([save])
        with self._lock:
            self._index.trim()
        self._loop.call_soon_threadsafe(self._finish, [save], [])

    def _finish(self, operations: list[_Operation], deliveries: list[Delivery]) -> None:
        if self._broken:
            self.failed.set()
        if deliveries:
            self._listener(deliveries)
        for operation in operations:
            if operation.future is None or operation.future.done():
                continue
            if operation.error is not None:
                operation.future.set_exception(operation.error)
            else:
                operation.future.set_result(operation.result)


def _is_fatal(error: Exception) -> bool:
    return isinstance(error, apsw.Error) and not isinstance(error, apsw.FullError)


def _fail(operations: Iterable[_Operation], error: Exception) -> None:
    for operation in operations:
        operation.error = error
