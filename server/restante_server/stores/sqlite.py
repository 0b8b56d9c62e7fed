"""The embedded store: one SQLite file (WAL, every commit synced), one writing and one reading thread.

``stores.contract`` says what each method does. The epoch, the lock and the tables are in ``sqlite_schema``; the group
commit is in ``sqlite_writer``; deposits and entries are in ``sqlite_deposits``.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

import apsw
from restante_protocol import ids, limits
from restante_protocol.errors import Code

from restante_server.clock import Clock, system_clock
from restante_server.stores import sqlite_deposits, sqlite_schema
from restante_server.stores.contract import (
    Accepted,
    AddressSpec,
    Claimed,
    Deposit,
    FenceLost,
    Level,
    Listener,
    Pool,
    PoolLow,
    SeenPool,
    Status,
    StoredEntry,
    StoredSlot,
    StoreRefused,
    StoreUnavailable,
    Subscription,
    Totals,
    Winner,
)
from restante_server.stores.sqlite_deposits import Digest, Quotas
from restante_server.stores.sqlite_writer import Writer

_ENTRIES: Final = "SELECT mailbox, sequence, payload, address, invite FROM entry WHERE "
SWEEP_BATCH: Final = 1000  # rows of each kind per transaction, so that a sweep holds up nobody
T = TypeVar("T")


class SqliteStore:
    """A store in one file. Open it with ``open``."""

    def __init__(  # noqa: PLR0913 -- made by ``open`` alone
        self,
        writer: Writer,
        write_db: apsw.Connection,
        read_db: apsw.Connection,
        lock: IO[bytes],
        *,
        epoch: bytes,
        clock: Clock,
        quotas: Quotas,
        digest: Digest,
        random: Callable[[int], bytes],
    ) -> None:
        """Take over what ``open`` made."""
        self._writer = writer
        self._write_db = write_db
        self._read_db = read_db
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._lock = lock
        self._epoch = epoch
        self._clock = clock
        self._quotas = quotas
        self._digest = digest
        self._random = random
        self._owners: dict[bytes, bytes] = {}
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        digest: Digest,
        clock: Clock = system_clock,
        quotas: Quotas | None = None,
        max_bytes: int = 0,
        vfs: str | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Open or create a store; its folder is created with mode 0700.

        Args:
            path: the database file.
            digest: BLAKE2b-256 of a body.
            clock: Unix milliseconds.
            quotas: per mailbox.
            max_bytes: of the database file; 0 for no limit.
            vfs: SQLite's file layer, for tests.
            random: n -> n random bytes.

        Raises:
            StoreRefused: it is locked, newer or damaged.
        """

        def prepare() -> tuple[IO[bytes], apsw.Connection, apsw.Connection, bytes]:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = sqlite_schema.lock(path)
            try:
                if not path.exists():
                    path.touch(0o600)
                write_db = sqlite_schema.connect(path, vfs, max_bytes)
                epoch = sqlite_schema.prepare(write_db, path, random)
                return lock, write_db, sqlite_schema.connect_reader(path, vfs), epoch
            except apsw.Error as error:
                lock.close()
                raise StoreRefused(f"not a usable database: {type(error).__name__}") from None
            except BaseException:
                lock.close()
                raise

        lock, write_db, read_db, epoch = await asyncio.to_thread(prepare)
        return cls(
            Writer(write_db),
            write_db,
            read_db,
            lock,
            epoch=epoch,
            clock=clock,
            quotas=quotas or Quotas(),
            digest=digest,
            random=random,
        )

    @property
    def level(self) -> Level:
        """Every commit is synced."""
        return "power"

    @property
    def failed(self) -> asyncio.Event:
        """Set once the store can no longer be written: the relay has to stop."""
        return self._writer.failed

    def listen(self, listener: Listener) -> None:
        """See contract."""
        self._writer.listen(listener)

    async def close(self) -> None:
        """See contract."""
        if self._closed:
            return
        self._closed = True
        await self._writer.close()

        def finish() -> None:
            self._reader.shutdown()
            self._read_db.close()
            self._write_db.close()
            self._lock.close()

        await asyncio.to_thread(finish)

    def _now(self) -> int:
        return self._clock() // 1000

    async def _read(self, function: Callable[[apsw.Connection], T]) -> T:
        if self._closed:
            raise StoreUnavailable
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, function, self._read_db)
        except apsw.Error:
            raise StoreUnavailable from None

    # Mailboxes.

    async def create_mailbox(self, mailbox: bytes, receive_key: bytes, code_hash: bytes | None) -> bytes | None:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> bytes | None:
            known = db.execute("SELECT incarnation FROM mailbox WHERE id=?", (mailbox,)).get
            if known is not None:
                return bytes(known)
            if code_hash is not None:
                used = db.execute(
                    "DELETE FROM code WHERE hash=? AND expires>? RETURNING 1", (code_hash, self._now())
                ).fetchone()
                if used is None:
                    return None
            incarnation = self._random(ids.INCARNATION_BYTES)
            db.execute(
                "INSERT INTO mailbox (id, receive_key, incarnation, epoch) VALUES (?, ?, ?, ?)",
                (mailbox, receive_key, incarnation, self._epoch),
            )
            return incarnation

        return await self._writer.submit(run)

    async def has_mailbox(self, mailbox: bytes) -> bool:
        """See contract."""
        return await self._read(
            lambda db: db.execute("SELECT 1 FROM mailbox WHERE id=?", (mailbox,)).fetchone() is not None
        )

    async def delete_mailbox(self, mailbox: bytes) -> None:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> None:
            n = db.execute("SELECT n FROM mailbox WHERE id=?", (mailbox,)).get
            if n is None:
                return
            rows: list[Any] = db.execute(_ENTRIES + "mailbox=?", (n,)).fetchall()
            sqlite_deposits.drop_entries(db, rows)
            for table in ("address", "pool", "prekey"):
                db.execute(f"DELETE FROM {table} WHERE mailbox=?", (n,))  # noqa: S608 -- names of our own
            db.execute("DELETE FROM mailbox WHERE n=?", (n,))

        await self._writer.submit(run)
        self._owners.pop(mailbox, None)

    async def subscribe(
        self, mailbox: bytes, incarnation: bytes, seen: int, pools: Sequence[SeenPool]
    ) -> Subscription | None:
        """See contract."""
        token = self._random(ids.OWNER_TOKEN_BYTES)

        def run(db: apsw.Connection, _deliveries: object) -> Subscription | None:
            row = db.execute(
                "SELECT n, incarnation, epoch, last, acknowledged FROM mailbox WHERE id=?", (mailbox,)
            ).fetchone()
            if row is None:
                return None
            n, current, epoch, last, acknowledged = row
            held = {pool.suite: pool for pool in _pools(db, n)}
            behind = any(
                (pool.uploaded > held[pool.suite].uploaded if pool.suite in held else pool.uploaded > 0)
                for pool in pools
            )
            if (incarnation and incarnation != current) or seen > last or behind or epoch != self._epoch:
                current, last, acknowledged = self._random(ids.INCARNATION_BYTES), max(last, seen), 0
                db.execute(
                    "UPDATE mailbox SET incarnation=?, epoch=?, last=?, acknowledged=0 WHERE n=?",
                    (current, self._epoch, last, n),
                )
                db.execute("DELETE FROM prekey WHERE mailbox=?", (n,))
                db.execute("UPDATE pool SET left=0 WHERE mailbox=?", (n,))
                for pool in pools:
                    above = max(pool.uploaded, pool.used)
                    db.execute(
                        "INSERT INTO pool VALUES (?, ?, ?, ?, 0, x'') ON CONFLICT DO UPDATE SET"
                        " uploaded=max(uploaded, excluded.uploaded), issued=max(issued, excluded.issued)",
                        (n, pool.suite, above, above),
                    )
            return Subscription(bytes(current), token, acknowledged, last, _pools(db, n))

        result = await self._writer.submit(run)
        if result is not None:
            self._owners[mailbox] = token
        return result

    async def release(self, mailbox: bytes, owner_token: bytes) -> None:
        """See contract."""
        if self._owners.get(mailbox) == owner_token:
            del self._owners[mailbox]

    async def acknowledge(
        self, mailbox: bytes, owner_token: bytes, incarnation: bytes, sequence: int, exceptions: Sequence[int]
    ) -> bool:
        """See contract."""
        if self._owners.get(mailbox) != owner_token:
            return False

        def run(db: apsw.Connection, _deliveries: object) -> bool:
            row = db.execute("SELECT n, incarnation, last FROM mailbox WHERE id=?", (mailbox,)).fetchone()
            if row is None or row[1] != incarnation:
                return False
            n, _, last = row
            rows: list[Any] = db.execute(
                _ENTRIES + "mailbox=? AND sequence<=?",
                (n, sequence),
            ).fetchall()
            kept = set(exceptions)
            sqlite_deposits.drop_entries(db, [row for row in rows if row[1] not in kept])
            db.execute("UPDATE mailbox SET acknowledged=max(acknowledged, ?) WHERE n=?", (min(sequence, last), n))
            return True

        return await self._writer.submit(run)

    async def read(self, mailbox: bytes, after: int, entries: int, size: int) -> Sequence[StoredEntry]:
        """See contract."""
        now = self._now()
        return await self._read(lambda db: sqlite_deposits.read(db, mailbox, after, entries, size, now))

    async def status(self, mailbox: bytes) -> Status | None:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object = None) -> Status | None:
            row = db.execute("SELECT n, last, entries, size FROM mailbox WHERE id=?", (mailbox,)).fetchone()
            return Status(row[1], row[2], row[3], _pools(db, row[0])) if row is not None else None

        return await self._writer.submit(run)  # in its order among the calls, so that what came before counts

    # Addresses and prekeys.

    async def put_addresses(self, mailbox: bytes, addresses: Sequence[AddressSpec]) -> Code | None:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> Code | None:
            row = db.execute("SELECT n, addresses FROM mailbox WHERE id=?", (mailbox,)).fetchone()
            if row is None:
                return Code.NO_MAILBOX
            n, count = row
            known = {
                spec.address
                for spec in addresses
                if db.execute("SELECT 1 FROM address WHERE id=?", (spec.address,)).fetchone()
            }
            fresh = {spec.address for spec in addresses} - known
            if count + len(fresh) > self._quotas.addresses:
                return Code.LIMIT
            for spec in addresses:
                db.execute(
                    "INSERT INTO address (id, mailbox, cap, kind) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET cap=excluded.cap, kind=excluded.kind",
                    (spec.address, n, spec.cap, spec.kind),
                )
            db.execute("UPDATE mailbox SET addresses=addresses+? WHERE n=?", (len(fresh), n))
            return None

        return await self._writer.submit(run)

    async def revoke_addresses(self, mailbox: bytes, addresses: Sequence[bytes]) -> None:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> None:
            n = db.execute("SELECT n FROM mailbox WHERE id=?", (mailbox,)).get
            gone = 0
            for address in addresses:
                rows = db.execute("DELETE FROM address WHERE id=? AND mailbox=? RETURNING 1", (address, n)).fetchall()
                gone += len(rows)
            db.execute("UPDATE mailbox SET addresses=addresses-? WHERE n=?", (gone, n))

        await self._writer.submit(run)

    async def put_prekeys(
        self, mailbox: bytes, suite: int, first: int, packages: Sequence[bytes], last_resort: bytes, *, replace: bool
    ) -> Code | None:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> Code | None:
            n = db.execute("SELECT n FROM mailbox WHERE id=?", (mailbox,)).get
            if n is None:
                return Code.NO_MAILBOX
            pools = {pool.suite: pool for pool in _pools(db, n)}
            pool = pools.get(suite, Pool(suite, 0, 0, 0, last_resort=False))
            skip = max(0, pool.uploaded + 1 - first)
            fresh = list(packages[skip:])
            left = (0 if replace else pool.left) + len(fresh)
            if left > self._quotas.prekeys or (suite not in pools and len(pools) >= limits.MAX_SUITES):
                return Code.LIMIT
            if replace:
                db.execute("DELETE FROM prekey WHERE mailbox=? AND suite=?", (n, suite))
            for offset, package in enumerate(fresh):
                db.execute("INSERT INTO prekey VALUES (?, ?, ?, ?)", (n, suite, first + skip + offset, package))
            uploaded = max(pool.uploaded, first + len(packages) - 1 if packages else 0)
            db.execute(
                "INSERT INTO pool VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET uploaded=excluded.uploaded,"
                " left=excluded.left, last_resort=iif(length(excluded.last_resort), excluded.last_resort, last_resort)",
                (n, suite, uploaded, pool.issued, left, last_resort),
            )
            return None

        return await self._writer.submit(run)

    async def claim(self, suite: int, addresses: Sequence[bytes]) -> tuple[Sequence[Claimed], Sequence[PoolLow]]:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> tuple[list[Claimed], list[PoolLow]]:
            low: list[PoolLow] = []
            return [_claim(db, suite, address, low) for address in addresses], low

        return await self._writer.submit(run)

    # Deposits.

    async def resolve(self, addresses: Sequence[bytes]) -> Sequence[bytes | None]:
        """See contract."""
        sql = "SELECT m.id FROM address AS a JOIN mailbox AS m ON m.n = a.mailbox WHERE a.id=?"
        return await self._read(lambda db: [db.execute(sql, (address,)).get for address in addresses])

    async def deposit(self, deposit: Deposit) -> Accepted | FenceLost:
        """See contract."""
        return await self._writer.submit(
            lambda db, deliveries: sqlite_deposits.deposit(
                db, deliveries, deposit, self._quotas, self._clock(), self._digest
            )
        )

    async def winner(self, fence: bytes) -> Winner | None:
        """See contract."""
        return await self._read(lambda db: sqlite_deposits.winner(db, fence))

    # Slots and codes.

    async def get_slot(self, slot: bytes) -> StoredSlot | None:
        """See contract."""
        now = self._now()

        def run(db: apsw.Connection) -> StoredSlot | None:
            row = db.execute("SELECT version, body FROM slot WHERE id=? AND expires>?", (slot, now)).fetchone()
            return StoredSlot(*row) if row is not None else None

        return await self._read(run)

    async def put_slot(self, slot: bytes, version: int, lifetime: int, body: bytes) -> bool:
        """See contract."""

        def run(db: apsw.Connection, _deliveries: object) -> bool:
            now = self._now()
            row = db.execute("SELECT version, body FROM slot WHERE id=? AND expires>?", (slot, now)).fetchone()
            stored = row[0] if row is not None else 0
            if row != (version, body) and stored != version - 1:
                return False
            db.execute("REPLACE INTO slot VALUES (?, ?, ?, ?)", (slot, version, now + lifetime, body))
            return True

        return await self._writer.submit(run)

    async def delete_slot(self, slot: bytes) -> None:
        """See contract."""
        await self._writer.submit(lambda db, _deliveries: db.execute("DELETE FROM slot WHERE id=?", (slot,)).get)

    async def add_codes(self, hashes: Sequence[bytes], lifetime: int) -> None:
        """See contract."""
        expires = self._now() + lifetime

        def run(db: apsw.Connection, _deliveries: object) -> None:
            for code in hashes:
                db.execute("REPLACE INTO code VALUES (?, ?)", (code, expires))

        await self._writer.submit(run)

    # Upkeep.

    async def sweep(self) -> None:
        """See contract."""
        while await self._writer.submit(self._sweep):
            pass

    def _sweep(self, db: apsw.Connection, _deliveries: object) -> bool:
        """Drop one batch of what has expired; say whether there is more."""
        now = self._now()
        more = False
        fences: list[Any] = db.execute(
            "SELECT tag, payload FROM fence WHERE expires<=? LIMIT ?", (now, SWEEP_BATCH)
        ).fetchall()
        for tag, payload in fences:
            db.execute("DELETE FROM fence WHERE tag=?", (tag,))
            sqlite_deposits.release_payload(db, payload)
        rows: list[Any] = db.execute(  # the names are our own
            _ENTRIES + "payload IN (SELECT n FROM payload WHERE expires<=?) LIMIT ?",
            (now, SWEEP_BATCH),
        ).fetchall()
        sqlite_deposits.drop_entries(db, rows)
        more = max(len(fences), len(rows)) == SWEEP_BATCH
        for table, key in (("deduplication", "digest"), ("slot", "id"), ("code", "hash")):
            db.execute(
                f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE expires<=? LIMIT ?)",  # noqa: S608 -- names of our own
                (now, SWEEP_BATCH),
            )
            more |= db.changes() == SWEEP_BATCH
        return more

    async def totals(self) -> Totals:
        """See contract."""
        sql = "SELECT count(*), coalesce(sum(entries), 0), coalesce(sum(size), 0) FROM mailbox"
        return await self._read(lambda db: Totals(*next(db.execute(sql))))


def _pools(db: apsw.Connection, mailbox: int) -> tuple[Pool, ...]:
    rows: list[Any] = db.execute(
        "SELECT suite, uploaded, issued, left, length(last_resort) > 0 FROM pool WHERE mailbox=? ORDER BY suite",
        (mailbox,),
    ).fetchall()
    return tuple(Pool(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows)


def _claim(db: apsw.Connection, suite: int, address: bytes, low: list[PoolLow]) -> Claimed:
    row = db.execute(
        "SELECT m.n, m.id FROM address AS a JOIN mailbox AS m ON m.n = a.mailbox WHERE a.id=?", (address,)
    ).fetchone()
    if row is None:
        return Claimed(Code.GONE, 0, b"")
    n, mailbox = row
    prekey = db.execute(
        "SELECT number, package FROM prekey WHERE mailbox=? AND suite=? ORDER BY number LIMIT 1", (n, suite)
    ).fetchone()
    if prekey is not None:
        number, package = prekey
        db.execute("DELETE FROM prekey WHERE mailbox=? AND suite=? AND number=?", (n, suite, number))
        left = db.execute(
            "UPDATE pool SET issued=?, left=left-1 WHERE mailbox=? AND suite=? RETURNING left", (number, n, suite)
        ).get
        if left == limits.PREKEYS_LOW_MARK - 1:
            low.append(PoolLow(mailbox, suite, left))
        return Claimed(None, number, package)
    last = db.execute("SELECT last_resort FROM pool WHERE mailbox=? AND suite=?", (n, suite)).get
    if not last:
        return Claimed(Code.EMPTY, 0, b"")
    return Claimed(None, 0, last)
