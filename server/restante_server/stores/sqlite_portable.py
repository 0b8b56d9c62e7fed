"""The embedded store as records, for ``stores.migration``: opened and locked for as long as that takes."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import apsw

from restante_server.stores import sqlite_schema
from restante_server.stores.backup import KEY_NAME
from restante_server.stores.contract import StoreRefused
from restante_server.stores.migration import (
    AddressRecord,
    CodeRecord,
    EntryRecord,
    FenceRecord,
    MailboxRecord,
    PayloadRecord,
    PoolRecord,
    Record,
    SlotRecord,
)
from restante_server.stores.sqlite_log import Recipient, pack_recipients, payloads, unpack


class SqlitePortable:
    """A database file. Open it with ``open``."""

    def __init__(self, path: Path, lock: IO[bytes], db: apsw.Connection, epoch: bytes) -> None:
        self._path = path
        self._lock = lock
        self._db = db
        self._epoch = epoch
        self._retired = False

    @classmethod
    def open(cls, path: Path, *, create: bool, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Lock and open a store. Raises StoreRefused: it is in use, damaged, or not there and not to be created."""
        if not create and not path.exists():
            raise StoreRefused(f"there is no store at {path}")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = sqlite_schema.lock(path)
        try:
            if not path.exists():
                path.touch(0o600)
            db = sqlite_schema.connect(path, None)
            epoch = sqlite_schema.prepare(db, path, random)
        except BaseException as error:
            lock.close()
            if isinstance(error, apsw.Error):
                raise StoreRefused(f"not a usable database: {type(error).__name__}") from None
            raise
        return cls(path, lock, db, epoch)

    def close(self) -> None:
        """Mark the orderly end, close and unlock."""
        with contextlib.suppress(apsw.Error, OSError):
            if not self._retired:
                sqlite_schema.change_mark(self._db, self._path, os.urandom)
        self._db.close()
        self._lock.close()

    # migration.Portable: a file is read and written at once, nobody waits for this process.

    async def key(self) -> bytes:
        """See ``migration.Portable``."""
        path = self._path.with_name(KEY_NAME)
        return path.read_bytes() if path.exists() else b""

    async def empty(self) -> bool:
        """See ``migration.Portable``."""
        tables = ("mailbox", "payload", "fence", "slot", "code")
        return not any(self._db.execute(f"SELECT count(*) FROM {table}").get for table in tables)  # noqa: S608 -- ours

    async def retire(self) -> None:
        """See ``migration.Portable``: without its mark the file is an older copy."""
        self._retired = True
        self._path.with_name(self._path.name + ".epoch").unlink(missing_ok=True)

    async def records(self) -> AsyncIterator[Record]:
        """See ``migration.Portable``."""
        for record in self._records():
            yield record

    def _records(self) -> Iterator[Record]:
        db = self._db
        cursors: dict[int, tuple[bytes, int, frozenset[int]]] = {}
        rows: Iterable[Any] = db.execute(
            "SELECT n, id, receive_key, incarnation, last, acknowledged, cursor, kept FROM mailbox ORDER BY n"
        )
        mailboxes = []
        for n, identifier, key, incarnation, last, acknowledged, cursor, kept in rows:
            cursors[n] = identifier, cursor, frozenset(unpack(kept))
            mailboxes.append([identifier, key, incarnation, max(last, cursor), acknowledged])
        entries = self._entries(cursors)
        highest: dict[bytes, int] = {}
        for payload in entries:
            for entry in payload.entries:
                highest[entry.mailbox] = max(highest.get(entry.mailbox, 0), entry.sequence)
        for identifier, key, incarnation, last, acknowledged in mailboxes:
            yield MailboxRecord(identifier, key, incarnation, max(last, highest.get(identifier, 0)), acknowledged)
        rows = db.execute("SELECT a.id, m.id, cap, kind FROM address AS a JOIN mailbox AS m ON m.n = a.mailbox")
        yield from (AddressRecord(*row) for row in rows)
        yield from entries
        rows = db.execute(
            "SELECT tag, f.message_id, digest, body, f.expires FROM fence AS f JOIN payload AS p ON p.n = f.payload"
        )
        yield from (FenceRecord(*row) for row in rows)
        rows = db.execute(
            "SELECT mailbox, id, suite, uploaded, issued, last_resort FROM pool JOIN mailbox ON n = mailbox"
        )
        for n, identifier, suite, uploaded, issued, last_resort in list(rows):
            prekeys: Iterable[Any] = db.execute(
                "SELECT number, package FROM prekey WHERE mailbox=? AND suite=? ORDER BY number", (n, suite)
            )
            yield PoolRecord(identifier, suite, uploaded, issued, last_resort, tuple((a, b) for a, b in prekeys))
        yield from (SlotRecord(*row) for row in self._rows("SELECT id, version, expires, body FROM slot"))
        yield from (CodeRecord(code, expires, bool(used)) for code, expires, used in self._rows("SELECT * FROM code"))

    def _rows(self, sql: str) -> Iterable[Any]:
        return self._db.execute(sql)

    def _entries(self, cursors: Mapping[int, tuple[bytes, int, frozenset[int]]]) -> list[PayloadRecord]:
        """Return the payloads that somebody waits for."""
        addresses = dict(self._rows("SELECT n, id FROM address"))
        found = []
        for _, message_id, fence, expires, large, body, recipients in payloads(self._db):
            entries = []
            for number, origin, sequence in recipients:
                identifier, cursor, kept = cursors.get(number, (b"", 0, frozenset()))
                if identifier and (sequence > cursor or sequence in kept):
                    entries.append(EntryRecord(identifier, sequence, addresses.get(origin >> 1, b""), bool(origin & 1)))
            if entries:
                found.append(PayloadRecord(message_id, fence, expires, bool(large), body, tuple(entries)))
        return found

    async def write(self, records: AsyncIterator[Record], key: bytes) -> None:
        """See ``migration.Portable``."""
        if key:
            sqlite_schema.write_durably(self._path.with_name(KEY_NAME), key)
        self._db.execute("BEGIN IMMEDIATE")
        self._mailboxes: dict[bytes, int] = {}
        self._addresses: dict[bytes, int] = {}
        self._fences: dict[bytes, int] = {}
        self._last = 0
        async for record in records:
            self._WRITERS[type(record)](self, record)
        self._db.execute("COMMIT")

    def _write_mailbox(self, record: MailboxRecord) -> None:
        self._db.execute(
            "INSERT INTO mailbox (id, receive_key, incarnation, epoch, last, acknowledged) VALUES (?, ?, ?, ?, ?, ?)",
            (record.id, record.receive_key, record.incarnation, self._epoch, record.last, record.acknowledged),
        )
        self._mailboxes[record.id] = self._db.last_insert_rowid()

    def _write_address(self, record: AddressRecord) -> None:
        n = self._mailboxes[record.mailbox]
        self._db.execute(
            "INSERT INTO address (id, mailbox, cap, kind) VALUES (?, ?, ?, ?)", (record.id, n, record.cap, record.kind)
        )
        self._addresses[record.id] = self._db.last_insert_rowid()
        self._db.execute("UPDATE mailbox SET addresses=addresses+1 WHERE n=?", (n,))

    def _write_payload(self, record: PayloadRecord) -> None:
        self._last += 1
        recipients = []
        for entry in record.entries:
            origin = self._addresses.get(entry.address, 0) * 2 + entry.invite  # no address has 0: revoked
            recipients.append(Recipient(self._mailboxes[entry.mailbox], origin, entry.sequence, 1))
        self._db.execute(
            "INSERT INTO payload VALUES (?, ?, ?, ?, ?, 1, ?, ?)",
            (
                self._last,
                record.message_id,
                record.fence,
                record.expires,
                record.large,
                pack_recipients(recipients, 1),
                record.body,
            ),
        )
        if record.fence is not None:
            self._fences.setdefault(record.fence, self._last)

    def _write_fence(self, record: FenceRecord) -> None:
        payload = self._fences.get(record.tag)
        if payload is None:
            payload = self._last = self._last + 1
            self._db.execute(
                "INSERT INTO payload VALUES (?, ?, ?, ?, 0, 1, x'', ?)",
                (payload, record.message_id, record.tag, record.expires, record.body),
            )
        self._db.execute(
            "INSERT INTO fence VALUES (?, ?, ?, ?, ?)",
            (record.tag, record.message_id, record.digest, payload, record.expires),
        )

    def _write_pool(self, record: PoolRecord) -> None:
        n = self._mailboxes[record.mailbox]
        self._db.execute(
            "INSERT INTO pool VALUES (?, ?, ?, ?, ?, ?)",
            (n, record.suite, record.uploaded, record.issued, len(record.prekeys), record.last_resort),
        )
        self._db.executemany(
            "INSERT INTO prekey VALUES (?, ?, ?, ?)",
            [(n, record.suite, number, package) for number, package in record.prekeys],
        )

    def _write_slot(self, record: SlotRecord) -> None:
        self._db.execute(
            "INSERT INTO slot VALUES (?, ?, ?, ?)", (record.id, record.version, record.expires, record.body)
        )

    def _write_code(self, record: CodeRecord) -> None:
        self._db.execute("INSERT INTO code VALUES (?, ?, ?)", (record.hash, record.expires, record.used))

    _WRITERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        MailboxRecord: _write_mailbox,
        AddressRecord: _write_address,
        PayloadRecord: _write_payload,
        FenceRecord: _write_fence,
        PoolRecord: _write_pool,
        SlotRecord: _write_slot,
        CodeRecord: _write_code,
    }
