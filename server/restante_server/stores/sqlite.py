"""The embedded store: one SQLite file (WAL, every commit synced), one writing and one reading thread.

``stores.contract`` says what each method does. The tables, the epoch and the lock are in ``sqlite_schema``, the group
commit is in ``sqlite_writer``, what waits is in ``sqlite_index``, and the operations are in the modules named for them.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

import apsw

from restante_protocol.errors import Code
from restante_server.clock import Clock, system_clock
from restante_server.stores import (
    sqlite_deposits,
    sqlite_holdings,
    sqlite_mailboxes,
    sqlite_prekeys,
    sqlite_schema,
    sqlite_slots,
)
from restante_server.stores.contract import (
    Accepted,
    AddressSpec,
    Deposit,
    FenceLost,
    Holding,
    Issued,
    Level,
    Listener,
    Outcome,
    SeenPool,
    Status,
    StoredEntry,
    StoredSlot,
    StoreRefused,
    StoreUnavailable,
    Subscription,
    Totals,
    Watcher,
    Winner,
)
from restante_server.stores.quotas import Quotas
from restante_server.stores.sqlite_deposits import Deposits
from restante_server.stores.sqlite_index import Index
from restante_server.stores.sqlite_writer import Batch, Writer

PART_ENTRIES: Final = 64  # in one part of what is held of a mailbox,
PART_BYTES: Final = 512 * 1024  # and bytes of their bodies
SWEEP_BATCH: Final = 250  # rows of each kind per transaction, so that a sweep holds up nobody
T = TypeVar("T")


class SqliteStore:
    """A store in one file. Open it with ``open``."""

    def __init__(
        self,
        files: "_Files",
        *,
        clock: Clock,
        quotas: Quotas,
        random: Callable[[int], bytes],
        free_bytes: Callable[[], int],
    ) -> None:
        self._files = files
        self._clock = clock
        self._quotas = quotas
        self._random = random
        self._index = files.index
        self._writer = Writer(files.write_db, self._index, free_bytes, self._deposits)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock = system_clock,
        quotas: Quotas | None = None,
        max_bytes: int = 0,
        vfs: str | None = None,
        random: Callable[[int], bytes] = os.urandom,
        free_bytes: Callable[[], int] | None = None,
    ) -> Self:
        """Open or create a store; its folder is created with mode 0700.

        Args:
            path: the database file.
            clock: Unix milliseconds.
            quotas: per mailbox; by default those of ``restante_protocol.limits``.
            max_bytes: of the database file, without its log; 0 for no limit.
            vfs: SQLite's file layer, for tests.
            random: n -> n random bytes.
            free_bytes: of the file system; by default asks it.

        Raises:
            StoreRefused: it is locked, newer, damaged, or no store.
        """
        files = await asyncio.to_thread(_Files.open, path, vfs, max_bytes, random)
        folder = str(path.parent)  # it is asked for at each commit
        return cls(
            files,
            clock=clock,
            quotas=quotas or Quotas(),
            random=random,
            free_bytes=free_bytes or (lambda: shutil.disk_usage(folder).free),
        )

    @property
    def level(self) -> Level:
        """Every commit is synced."""
        return "power"

    @property
    def failed(self) -> asyncio.Event:
        """Set once the store can no longer be written: the relay has to stop."""
        return self._writer.failed

    @property
    def reachable(self) -> bool:
        """It is in this process."""
        return True

    def listen(self, listener: Listener) -> None:
        """See contract."""
        self._writer.listen(listener)

    def watch(self, watcher: Watcher) -> None:
        """See contract: nobody else uses this store."""

    async def close(self) -> None:
        """See contract."""
        if self._closed:
            return
        self._closed = True
        in_order = await self._writer.close()
        await asyncio.to_thread(self._reader.shutdown)
        await asyncio.to_thread(self._files.close, self._random if in_order else None)

    def _deposits(self, batch: Batch) -> Deposits:
        return Deposits(batch, self._index, self._quotas, self._clock())

    def _now(self) -> int:
        return self._clock() // 1000

    def _check_usable(self) -> None:
        if self._closed or self.failed.is_set():
            raise StoreUnavailable

    async def _read(self, function: Callable[[apsw.Connection], T]) -> T:
        self._check_usable()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, function, self._files.read_db)
        except apsw.Error:
            raise StoreUnavailable from None

    # Mailboxes.

    async def create_mailbox(self, mailbox: bytes, receive_key: bytes, code_hash: bytes | None) -> bytes | None:
        """See contract."""
        return await self._writer.submit(
            lambda batch: sqlite_mailboxes.create(
                batch,
                mailbox,
                receive_key,
                code_hash,
                epoch=self._files.epoch,
                random=self._random,
                now=self._now(),
            ),
            grows=True,
        )

    async def has_mailbox(self, mailbox: bytes) -> bool:
        """See contract."""
        return await self._read(lambda db: db.execute("SELECT 1 FROM mailbox WHERE id=?", (mailbox,)).get is not None)

    async def delete_mailbox(self, mailbox: bytes) -> None:
        """See contract."""
        await self._writer.submit(lambda batch: sqlite_mailboxes.delete(batch, self._index, mailbox))

    async def subscribe(
        self, mailbox: bytes, incarnation: bytes, seen: int, pools: Sequence[SeenPool]
    ) -> Subscription | None:
        """See contract."""
        return await self._writer.submit(
            lambda batch: sqlite_mailboxes.subscribe(
                batch,
                self._index,
                mailbox,
                incarnation,
                seen,
                pools,
                epoch=self._files.epoch,
                random=self._random,
            )
        )

    async def release(self, mailbox: bytes, owner_token: bytes) -> None:
        """See contract."""

        def run(_batch: object) -> None:
            if self._index.owners.get(mailbox) == owner_token:
                del self._index.owners[mailbox]

        await self._writer.submit(run, writes=False)

    async def is_served(self, mailbox: bytes) -> bool:
        """See contract."""
        return mailbox in self._index.owners

    def acknowledge(
        self, mailbox: bytes, owner_token: bytes, incarnation: bytes, sequence: int, exceptions: Sequence[int]
    ) -> "bool | asyncio.Future[bool]":
        """See contract. What is in memory is changed at once."""
        self._check_usable()
        if self._index.owners.get(mailbox) != owner_token:
            return False
        known = self._index.mailboxes.get(mailbox)
        if known is None:
            return self._writer.submit(
                lambda batch: sqlite_mailboxes.acknowledge(
                    batch, self._index, mailbox, owner_token, incarnation, sequence, exceptions
                ),
                writes=False,
            )
        if known.incarnation != incarnation:
            return False
        self._index.acknowledge(known, sequence, frozenset(exceptions) if exceptions else ())
        self._writer.unsaved()
        return True

    async def read(self, mailbox: bytes, after: int, entries: int, size: int) -> Sequence[StoredEntry]:
        """See contract."""
        self._check_usable()
        now = self._now()
        position = after
        while True:
            planned = self._index.read(mailbox, position, entries, size)
            found = await self._read(partial(sqlite_deposits.fetch, planned=planned, now=now)) if planned else []
            if found or not planned:
                return found
            position = planned[-1][0]  # all of these have expired, or were acknowledged just now

    async def status(self, mailbox: bytes) -> Status | None:
        """See contract."""
        return await self._writer.submit(
            lambda batch: sqlite_mailboxes.status(batch, self._index, mailbox), writes=False
        )

    # Addresses and prekeys.

    async def put_addresses(self, mailbox: bytes, addresses: Sequence[AddressSpec]) -> Code | None:
        """See contract."""
        return await self._writer.submit(
            lambda batch: sqlite_mailboxes.put_addresses(
                batch, self._index, mailbox, addresses, self._quotas.addresses
            ),
            grows=True,
        )

    async def revoke_addresses(self, mailbox: bytes, addresses: Sequence[bytes]) -> None:
        """See contract."""
        await self._writer.submit(
            lambda batch: sqlite_mailboxes.revoke_addresses(batch, self._index, mailbox, addresses)
        )

    async def put_prekeys(
        self, mailbox: bytes, suite: int, first: int, packages: Sequence[bytes], last_resort: bytes, *, replace: bool
    ) -> Code | None:
        """See contract."""
        return await self._writer.submit(
            lambda batch: sqlite_prekeys.put(
                batch,
                self._index,
                mailbox,
                suite,
                first,
                packages,
                last_resort,
                replace=replace,
                quota=self._quotas.prekeys,
            ),
            grows=True,
        )

    def claim(self, suite: int, addresses: Sequence[bytes], spent: Collection[int] = ()) -> Awaitable[Issued]:
        """See contract."""
        return self._writer.submit(lambda batch: sqlite_prekeys.claim(batch, self._index, suite, addresses, spent))

    def begin_claim(self, suite: int, addresses: Sequence[bytes], outcome: Outcome) -> None:
        """See contract."""
        self._writer.begin(lambda batch: sqlite_prekeys.claim(batch, self._index, suite, addresses, ()), outcome)

    async def mark_spent(self, address: bytes) -> bytes | None:
        """See contract."""
        return await self._writer.submit(lambda batch: sqlite_mailboxes.mark_spent(batch, self._index, address))

    # Deposits.

    async def resolve(self, addresses: Sequence[bytes]) -> Sequence[bytes | None]:
        """See contract."""
        sql = "SELECT m.id FROM address AS a JOIN mailbox AS m ON m.n = a.mailbox WHERE a.id=?"
        return await self._read(lambda db: [db.execute(sql, (address,)).get for address in addresses])

    async def pass_on(self, addresses: Sequence[bytes], message_id: bytes, body: bytes) -> Sequence[bytes | None]:
        """See contract: nobody else uses this store."""
        del message_id, body
        return await self.resolve(addresses)

    def deposit(self, deposit: Deposit) -> Awaitable[Accepted | FenceLost]:
        """See contract."""
        future: asyncio.Future[Accepted | FenceLost] = asyncio.get_running_loop().create_future()
        self._writer.deposit(deposit, future)
        return future

    def begin_deposit(self, deposit: Deposit, outcome: Outcome) -> None:
        """See contract."""
        self._writer.deposit(deposit, outcome)

    async def winner(self, fence: bytes) -> Winner | None:
        """See contract."""
        return await self._read(lambda db: sqlite_deposits.winner(db, fence))

    # Slots and codes.

    async def get_slot(self, slot: bytes) -> StoredSlot | None:
        """See contract."""
        now = self._now()
        return await self._read(lambda db: sqlite_slots.get(db, slot, now))

    async def put_slot(self, slot: bytes, version: int, lifetime: int, body: bytes) -> bool:
        """See contract."""
        return await self._writer.submit(
            lambda batch: sqlite_slots.put(batch.db, slot, version, lifetime, body, self._now()), grows=True
        )

    async def delete_slot(self, slot: bytes) -> None:
        """See contract."""
        await self._writer.submit(lambda batch: sqlite_slots.delete(batch.db, slot))

    async def add_codes(self, hashes: Sequence[bytes], lifetime: int) -> None:
        """See contract."""
        expires = self._now() + lifetime
        await self._writer.submit(lambda batch: sqlite_slots.add_codes(batch.db, hashes, expires), grows=True)

    # What is held of a mailbox.

    async def holdings(self, mailbox: bytes, after: bytes) -> tuple[Sequence[Holding], bytes]:
        """See contract."""
        if self._index.supplies.unsaved:
            await self._writer.submit(lambda batch: self._index.save(batch.db, batch.undo))
        section, place = after[:1], after[1:]
        waiting: Sequence[tuple[int, int]] = ()
        if section == b"\x04":
            waiting = self._index.read(mailbox, int.from_bytes(place, "big"), PART_ENTRIES, PART_BYTES)
        return await self._read(partial(sqlite_holdings.part, mailbox=mailbox, after=after, waiting=waiting))

    async def find(self, wanted: Callable[[bytes], bool]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """See contract."""

        def run(db: apsw.Connection) -> tuple[Sequence[bytes], Sequence[bytes]]:
            mailboxes: list[Any] = db.execute("SELECT id FROM mailbox").fetchall()
            slots: list[Any] = db.execute("SELECT id FROM slot").fetchall()
            return [each for (each,) in mailboxes if wanted(each)], [each for (each,) in slots if wanted(each)]

        return await self._read(run)

    async def scrub(self) -> None:
        """See contract. The whole database is written anew: the callers see to it that this is not too often."""
        await self._writer.submit(lambda batch: self._index.save(batch.db, batch.undo))
        await self._read(lambda _db: None)  # what the reader has begun is over
        await self._writer.submit_apart(sqlite_holdings.rewrite)

    # Upkeep.

    async def sweep(self) -> None:
        """See contract."""
        for run in (
            lambda batch: sqlite_deposits.sweep(batch, self._index, self._now(), SWEEP_BATCH),
            lambda batch: sqlite_slots.sweep(batch.db, self._now(), SWEEP_BATCH),
            lambda batch: self._index.digests.sweep(batch.db, self._now(), SWEEP_BATCH),
        ):
            while await self._writer.submit(run):
                pass

    async def totals(self) -> Totals:
        """See contract."""
        mailboxes = await self._read(lambda db: db.execute("SELECT count(*) FROM mailbox").get)
        return Totals(mailboxes, self._index.entries, self._index.size)


class _Files:
    """What is open: lock, connections, and the index of what was read from them."""

    def __init__(self, lock: IO[bytes], path: Path, epoch: bytes, connections: tuple[apsw.Connection, ...]) -> None:
        self.epoch = epoch
        self.write_db, self.read_db = connections
        self.index = Index()
        self._lock = lock
        self._path = path

    @classmethod
    def open(cls, path: Path, vfs: str | None, max_bytes: int, random: Callable[[int], bytes]) -> Self:
        """See ``SqliteStore.open``."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = sqlite_schema.lock(path)
        connections: list[apsw.Connection] = []
        try:
            if not path.exists():
                path.touch(0o600)
            connections.append(sqlite_schema.connect(path, vfs, max_bytes))
            epoch = sqlite_schema.prepare(connections[0], path, random)
            connections.append(sqlite_schema.connect_reader(path, vfs))
            files = cls(lock, path, epoch, tuple(connections))
            files.index.rebuild(files.write_db)
        except BaseException as error:
            _close(connections, lock)
            if isinstance(error, apsw.Error):
                raise StoreRefused(f"not a usable database: {type(error).__name__}") from None
            raise
        return files

    def close(self, random: Callable[[int], bytes] | None) -> None:
        """Close all; with randomness, mark the orderly end."""
        with contextlib.suppress(apsw.Error, OSError):  # then it is as after a crash
            if random is not None:
                sqlite_schema.change_mark(self.write_db, self._path, random)
        _close((self.read_db, self.write_db), self._lock)


def _close(connections: Sequence[apsw.Connection], lock: IO[bytes]) -> None:
    for connection in connections:
        with contextlib.suppress(apsw.Error):  # of a last checkpoint
            connection.close(True)
    lock.close()
