"""The one writing thread of the embedded store: it commits everything that waits in one transaction.

Batches grow with the load: while one commit is being synced, the next ones queue. An operation is a function of the
database; it is all or nothing by a savepoint, and may be run again. What it returns is handed out after the commit.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import apsw

from restante_server.stores.contract import Delivery, Listener, StoreError, StoreFull, StoreUnavailable

MAX_BATCH: Final = 512  # operations per commit: bounds what one waits for
T = TypeVar("T")


@dataclass(slots=True)
class _Operation:
    run: Callable[[apsw.Connection, list[Delivery]], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs operations in order, in its own thread.

    Attributes:
        failed: set in the event loop once the store can no longer be written: a failed sync leaves it unknown what
            the disk holds, so nothing more is promised.
    """

    def __init__(self, db: apsw.Connection) -> None:
        """Start the thread; the running event loop is told of results."""
        self._db = db
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Operation | None] = queue.SimpleQueue()
        self._listener: Listener = lambda _deliveries: None
        self._closed = False
        self.failed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def listen(self, listener: Listener) -> None:
        """Set who is told of deliveries."""
        self._listener = listener

    async def submit(self, run: Callable[[apsw.Connection, list[Delivery]], T]) -> T:
        """Run an operation; return its result after the commit.

        Raises:
            StoreFull: no room; it did not happen.
            StoreUnavailable: unknown whether it happened.
        """
        if self._closed or self.failed.is_set():
            raise StoreUnavailable
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Operation(run, future))
        return await future

    async def close(self) -> None:
        """Commit what waits and end the thread."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        ending = False
        while not ending:
            operation = self._queue.get()
            batch: list[_Operation] = []
            while True:
                if operation is None:
                    ending = True
                    break
                batch.append(operation)
                if len(batch) >= MAX_BATCH or self._queue.empty():
                    break
                operation = self._queue.get()
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Operation]) -> None:
        deliveries: list[Delivery] = []
        failed = False
        try:
            self._transaction(batch, deliveries)
        except apsw.FullError:
            deliveries = []
            for operation in batch:  # one by one: what does not fit fails alone
                operation.error = None
                try:
                    self._transaction([operation], deliveries)
                except apsw.FullError:
                    operation.error = StoreFull()
                except apsw.Error:
                    operation.error = StoreUnavailable()
                    failed = True
        except apsw.Error:
            failed = True
            deliveries = []
            for operation in batch:
                operation.error = StoreUnavailable()
        self._loop.call_soon_threadsafe(self._finish, batch, deliveries, failed)

    def _transaction(self, batch: list[_Operation], deliveries: list[Delivery]) -> None:
        db = self._db
        before = len(deliveries)
        try:
            db.execute("BEGIN IMMEDIATE")
            for operation in batch:
                own: list[Delivery] = []
                db.execute("SAVEPOINT operation")
                try:
                    operation.result = operation.run(db, own)
                except StoreError as error:
                    operation.error = error
                    db.execute("ROLLBACK TO operation")
                    own = []
                db.execute("RELEASE operation")
                deliveries.extend(own)
            db.execute("COMMIT")
        except BaseException:
            del deliveries[before:]
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _finish(self, batch: list[_Operation], deliveries: list[Delivery], failed: bool) -> None:
        if failed:
            self.failed.set()
        if deliveries:
            self._listener(deliveries)
        for operation in batch:
            if operation.future.done():
                continue
            if operation.error is not None:
                operation.future.set_exception(operation.error)
            else:
                operation.future.set_result(operation.result)
