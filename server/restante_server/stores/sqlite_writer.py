"""The writer of the embedded store: it commits everything that waits in one transaction.

Operations run in the event loop, in microseconds, and the commit, which waits for the disk, in a thread: nothing else
is ever contended for between them. Batches grow with the load: while one commit is being synced, the next operations
queue. An operation is a function of the batch; it may be rolled back and run again, so its changes of memory register
an undo. What it returns is handed out after the commit.
"""

import asyncio
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import apsw

from restante_server.stores.contract import Delivery, Deposit, Listener, Outcome, StoreFull, StoreUnavailable
from restante_server.stores.sqlite_index import Index, Undo

MAX_BATCH: Final = 512  # operations per commit: bounds what one waits for
MAX_BATCH_ADDRESSES: Final = 16_384  # that their deposits go to, each list once: some 100 ms if nobody knows them
SAVE_SECONDS: Final = 0.2  # an acknowledged entry is deleted from the disk after so long
SAVE_ROWS: Final = 20_000  # or when so many rows wait for it
SAVE_PART: Final = 512  # rows of each kind in one transaction: about a millisecond, for which everything else waits;
SAVE_SHARE: Final = 16  # or this part of all that wait, if it is more: a part may have to keep up with many commits
BUSY_SECONDS: Final = 5  # for another process's short write: a backup's, a tool's
BUSY_RETRY_SECONDS: Final = 0.01
MAX_ENTRIES: Final = 10_000_000  # that wait in all mailboxes: each is some 70 bytes of memory, at the next start too
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
class Operation:
    """Something to be done in a transaction: ``run``, or else a deposit.

    Attributes:
        run: what to do.
        item: the deposit, if there is no ``run``.
        outcome: is told the result after the commit.
        writes: it changes the database.
        grows: it stores something.
        apart: it runs in the thread, between transactions.
        result: what it came to.
    """

    run: Callable[[Batch], Any] | None
    item: Any
    outcome: Outcome
    writes: bool
    grows: bool
    apart: bool = False
    result: Any = None


class Depositor(Protocol):
    """The deposits of one transaction: see ``sqlite_deposits.Deposits``."""

    def store(self, asked: Sequence[Operation]) -> None:
        """Take deposits, in their order."""
        ...

    def seal(self) -> None:
        """What happens next comes after them."""
        ...

    def finish(self) -> None:
        """Write their rows and settle their results."""
        ...


class Writer:
    """Runs operations in order, in the event loop, and commits them in a thread.

    Attributes:
        failed: set once the store can no longer be written: a failed sync leaves it unknown what the disk holds, so
            nothing more is promised.
    """

    def __init__(
        self,
        db: apsw.Connection,
        index: Index,
        free_bytes: Callable[[], int],
        depositor: Callable[[Batch], Depositor],
    ) -> None:
        """Start the thread."""
        db.set_busy_timeout(0)  # the event loop does not wait
        self._db = db
        self._index = index
        self._free_bytes = free_bytes
        self._depositor = depositor
        self._loop = asyncio.get_running_loop()
        self._listener: Listener = lambda _deliveries: None
        self._waiting: list[Operation] = []
        self._alone: deque[Operation] = deque()  # of a transaction that failed: each in one of its own
        self._running: tuple[list[Operation], Batch] | None = None  # being committed
        self._begin_handle: asyncio.Handle | None = None
        self._save_timer: asyncio.TimerHandle | None = None
        self._saving = 0  # rows that are left of those that waited when this began
        self._save_failed = False
        self._blocked_since = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._broken = False
        self.failed = asyncio.Event()
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work_forever, name="store-writer", daemon=True)
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Set who is told of deliveries."""
        self._listener = listener

    def submit(self, run: Callable[[Batch], T], *, writes: bool = True, grows: bool = False) -> asyncio.Future[T]:
        """Queue an operation; the future has its result after the commit.

        Args:
            run: the operation. It registers an undo for each change of memory, unless it does not write.
            writes: it changes the database. Otherwise it reads, or only changes memory.
            grows: it stores something: refused when the disk has only the room left that deleting needs.

        Raises:
            StoreFull: (the future does) no room; it did not happen.
            StoreUnavailable: (the future does) unknown whether it happened.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue(Operation(run, None, future, writes, grows))
        return future

    def submit_apart(self, run: Callable[[apsw.Connection], T]) -> asyncio.Future[T]:
        """Queue what takes long and changes nothing that operations see: it runs in the thread, in no transaction.

        Raises what ``submit`` raises; StoreUnavailable here means that another try may go well.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue(Operation(lambda batch: run(batch.db), None, future, writes=False, grows=False, apart=True))
        return future

    def begin(self, run: Callable[[Batch], object], outcome: Outcome) -> None:
        """Queue an operation that writes; tell the outcome what ``submit`` would."""
        self._queue(Operation(run, None, outcome, writes=True, grows=False))

    def deposit(self, item: Deposit, outcome: Outcome) -> None:
        """Queue a deposit; tell the outcome what ``submit`` would."""
        self._queue(Operation(None, item, outcome, writes=True, grows=True))

    def _queue(self, operation: Operation) -> None:
        if self._closed or self._broken:
            _fail([operation], StoreUnavailable())
            return
        self._waiting.append(operation)
        self._idle.clear()
        if self._running is None and self._begin_handle is None:
            self._begin_handle = self._loop.call_soon(self._begin)

    def unsaved(self) -> None:
        """The index has changed: save it soon."""
        if self._closed or self._saving:
            return
        if self._save_timer is None:
            self._save_timer = self._loop.call_later(SAVE_SECONDS, self._save)
        elif self._index.unsaved > SAVE_ROWS and not self._save_failed:
            self._save_timer.cancel()
            self._save()

    async def close(self) -> bool:
        """Commit what waits, save the index, and end the thread. Say whether all went well."""
        if self._save_timer is not None:
            self._save_timer.cancel()
        if not self._closed and not self._broken:
            self._save_rows(sys.maxsize)
        self._closed = True
        await self._idle.wait()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        return not self._broken

    def _work_forever(self) -> None:
        """Do whatever waits for the disk: commits, mostly."""
        while (work := self._work.get()) is not None:
            error: Exception | None = None
            try:
                work()
            except Exception as raised:  # noqa: BLE001 -- the loop decides what it means
                error = raised
            self._loop.call_soon_threadsafe(self._worked, error)

    def _commit(self) -> None:
        self._db.execute("COMMIT")

    def _begin(self) -> None:
        """Run what waits, as one transaction, unless one is being committed."""
        self._begin_handle = None
        while self._running is None:
            if self._alone:
                operations = [self._alone.popleft()]
            elif self._waiting:
                operations = self._take()
            else:
                self._idle.set()
                return
            if not self._execute(operations):
                return

    def _take(self) -> list[Operation]:
        """Take what can go into one transaction; whatever is first, goes."""
        count = addresses = 0
        before: tuple[Sequence[bytes], int] | None = None
        for each in self._waiting[:MAX_BATCH]:
            if each.apart:
                break
            item = each.item
            if item is not None:
                if before is None or item.addresses is not before[0] or item.lifetime != before[1] or item.fence:
                    before = item.addresses, item.lifetime
                    addresses += len(item.addresses)
                if addresses > MAX_BATCH_ADDRESSES:
                    break
            count += 1
        operations = self._waiting[: count or 1]
        del self._waiting[: count or 1]
        return operations

    def _refuse_if_full(self, operations: list[Operation]) -> list[Operation]:
        """Fail what stores something if there is no room; return the others."""
        if not any(operation.grows for operation in operations):
            return operations
        full = self._free_bytes() < LEAST_FREE_BYTES
        if not full and self._index.entries < MAX_ENTRIES:
            return operations
        refused = {operation for operation in operations if (operation.grows if full else operation.run is None)}
        _fail(refused, StoreFull())
        return [operation for operation in operations if operation not in refused]

    def _execute(self, operations: list[Operation]) -> bool:
        """Run operations and have them committed; False: another process writes, and they wait."""
        if self._broken:
            _fail(operations, StoreUnavailable())
            return True
        batch = Batch(self._db)
        if operations and operations[0].apart:
            self._running = operations, batch
            self._work.put(partial(_run_apart, operations[0], batch))
            return True
        try:
            operations = self._refuse_if_full(operations)
            writes = any(operation.writes for operation in operations)
            if writes:
                self._db.execute("BEGIN IMMEDIATE")
            self._run(operations, batch)
        except apsw.BusyError:
            return self._wait_for_others(operations)
        except Exception as error:  # noqa: BLE001 -- each error reaches the operation that it belongs to
            self._roll_back(operations, batch, error)
            return True
        self._blocked_since = 0.0
        if writes:
            self._running = operations, batch
            self._work.put(self._commit)
        else:
            self._finish(operations, batch)
        return True

    def _run(self, operations: list[Operation], batch: Batch) -> None:
        deposits: Depositor | None = None
        start = 0
        for position, operation in enumerate(operations):
            if operation.run is None:
                continue
            if start < position:
                deposits = deposits or self._depositor(batch)
                deposits.store(operations[start:position])
            if deposits is not None:
                deposits.seal()
            operation.result = operation.run(batch)
            start = position + 1
        if start < len(operations):
            deposits = deposits or self._depositor(batch)
            deposits.store(operations[start:])
        if deposits is not None:
            deposits.finish()

    def _wait_for_others(self, operations: list[Operation]) -> bool:
        """Another process writes: try again soon, for so long."""
        now = self._loop.time()
        self._blocked_since = self._blocked_since or now
        if now - self._blocked_since > BUSY_SECONDS:
            self._blocked_since = 0.0
            _fail(operations, StoreUnavailable())
            return True
        self._alone.extend(operations)
        self._loop.call_later(BUSY_RETRY_SECONDS, self._begin)
        return False

    def _roll_back(self, operations: list[Operation], batch: Batch, error: Exception) -> None:
        """Undo all; what fails, fails alone, unless nothing can be written any more."""
        for undo in reversed(batch.undo):
            undo()
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error as worse:
            error = worse
        if _is_fatal(error):
            self._broken = True
            self.failed.set()
            _fail(operations, StoreUnavailable())
        elif len(operations) == 1:
            _fail(operations, StoreFull() if isinstance(error, apsw.FullError) else error)
        else:
            self._alone.extend(operations)

    def _worked(self, error: Exception | None) -> None:
        """The thread has done what it was given, or not."""
        if self._running is None:
            raise RuntimeError("nothing was being done")
        operations, batch = self._running
        self._running = None
        if error is not None and operations[0].apart:
            full = isinstance(error, StoreFull | apsw.FullError)
            _fail(operations, StoreFull() if full else StoreUnavailable())
            self._begin()
            return
        if error is not None:
            self._roll_back(operations, batch, error)
            self._begin()
            return
        self._index.committed()
        for done in batch.done:
            done()
        self._begin()  # first: the disk syncs while what follows is sent
        self._finish(operations, batch)

    def _finish(self, operations: list[Operation], batch: Batch) -> None:
        if batch.deliveries:
            self._listener(batch.deliveries)
        for operation in operations:
            if not operation.outcome.done():
                operation.outcome.set_result(operation.result)
        if self._index.unsaved:
            self.unsaved()

    def _save(self) -> None:
        """Write the index's cursors; if the disk is full they wait for the next time."""
        self._save_timer = None
        self._saving = self._index.unsaved
        if self._saving:
            self._save_part()

    def _save_part(self) -> None:
        part = max(SAVE_PART, self._index.unsaved // SAVE_SHARE)
        self._save_rows(sys.maxsize if self._save_failed else part)  # deleting comes first, and makes room

    def _save_rows(self, limit: int) -> None:
        saved = self.submit(lambda batch: self._index.save(batch.db, batch.undo, limit))
        saved.add_done_callback(self._saved)

    def _saved(self, saved: asyncio.Future[int]) -> None:
        self._save_failed = saved.cancelled() or saved.exception() is not None
        done = 0 if self._save_failed else saved.result()
        self._saving = max(0, self._saving - done) if done else 0
        if self._closed or self._broken:
            return
        if self._saving:
            self._save_part()
            return
        if not self._save_failed:
            self._index.trim()
        if self._index.unsaved:  # since this began
            self.unsaved()


def _run_apart(operation: Operation, batch: Batch) -> None:
    if operation.run is not None:
        operation.result = operation.run(batch)


def _is_fatal(error: Exception) -> bool:
    return isinstance(error, apsw.Error) and not isinstance(error, apsw.FullError)


def _fail(operations: Iterable[Operation], error: Exception) -> None:
    for operation in operations:
        if not operation.outcome.done():
            operation.outcome.set_exception(error)
