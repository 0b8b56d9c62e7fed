"""The embedded store's tables, and its identity: schema version, epoch, lock.

The *epoch* names one history of the database. Beside the file stands a sidecar with the mark of the last start; a
database whose mark is not there is an older copy put back, and takes a new epoch: mailboxes get new incarnations, and
one-time prekeys are discarded, because some of them may have been issued in the history that was lost.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import apsw

from restante_server.stores.contract import StoreRefused

VERSION: Final = 1
MARK_BYTES: Final = 16

SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE mailbox (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    receive_key BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    epoch BLOB NOT NULL,
    last INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    entries INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    large_size INTEGER NOT NULL DEFAULT 0,
    invite_entries INTEGER NOT NULL DEFAULT 0,
    addresses INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE address (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    mailbox INTEGER NOT NULL,
    cap INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    entries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX address_mailbox ON address (mailbox);
CREATE TABLE payload (
    n INTEGER PRIMARY KEY,
    message_id BLOB NOT NULL,
    fence BLOB,
    expires INTEGER NOT NULL,
    refs INTEGER NOT NULL,
    large INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX payload_expires ON payload (expires);
CREATE TABLE entry (
    mailbox INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    payload INTEGER NOT NULL,
    address INTEGER NOT NULL,
    invite INTEGER NOT NULL,
    PRIMARY KEY (mailbox, sequence)
) WITHOUT ROWID;
CREATE INDEX entry_payload ON entry (payload);
CREATE TABLE fence (
    tag BLOB PRIMARY KEY,
    message_id BLOB NOT NULL,
    digest BLOB NOT NULL,
    payload INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX fence_expires ON fence (expires);
CREATE TABLE deduplication (
    digest BLOB PRIMARY KEY,
    failed BLOB NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX deduplication_expires ON deduplication (expires);
CREATE TABLE pool (
    mailbox INTEGER NOT NULL,
    suite INTEGER NOT NULL,
    uploaded INTEGER NOT NULL,
    issued INTEGER NOT NULL,
    left INTEGER NOT NULL,
    last_resort BLOB NOT NULL,
    PRIMARY KEY (mailbox, suite)
) WITHOUT ROWID;
CREATE TABLE prekey (
    mailbox INTEGER NOT NULL,
    suite INTEGER NOT NULL,
    number INTEGER NOT NULL,
    package BLOB NOT NULL,
    PRIMARY KEY (mailbox, suite, number)
) WITHOUT ROWID;
CREATE TABLE slot (
    id BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX slot_expires ON slot (expires);
CREATE TABLE code (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
"""


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable, where the system can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file (mode 0600) so that after a power loss the old or the new content is there."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def lock(path: Path) -> IO[bytes]:
    """Hold the store's lock until the returned file is closed. Raises StoreRefused if somebody else holds it."""
    file = path.with_name(path.name + ".lock").open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 -- of this system alone

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 -- of these systems alone

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreRefused("another process holds this store") from None
    return file


@contextlib.contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Change the database all or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def connect(path: Path, vfs: str | None, max_bytes: int) -> apsw.Connection:
    """Open the writing connection: WAL, every commit synced."""
    db = apsw.Connection(str(path), vfs=vfs)
    db.set_busy_timeout(5000)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA secure_delete=FAST")
    if max_bytes:
        page = db.execute("PRAGMA page_size").get
        db.execute(f"PRAGMA max_page_count={max(64, max_bytes // page)}")
    return db


def connect_reader(path: Path, vfs: str | None) -> apsw.Connection:
    """Open a reading connection."""
    db = apsw.Connection(str(path), vfs=vfs)
    db.set_busy_timeout(5000)
    db.execute("PRAGMA query_only=ON")
    return db


def prepare(db: apsw.Connection, path: Path, random: Callable[[int], bytes]) -> bytes:
    """Create or check the schema, and return the store's epoch.

    Raises:
        StoreRefused: a newer version wrote it.
    """
    version = db.execute("PRAGMA user_version").get
    if version > VERSION:
        raise StoreRefused("a newer version of the relay wrote this store: upgrade the relay")
    sidecar = path.with_name(path.name + ".epoch")
    fresh = random(MARK_BYTES)
    if version == 0:
        with transaction(db):
            db.execute(SCHEMA)
            db.execute("INSERT INTO meta VALUES ('epoch', ?), ('mark', ?)", (random(MARK_BYTES), fresh))
            db.execute(f"PRAGMA user_version={VERSION}")
        write_durably(sidecar, fresh)
        return _meta(db, "epoch")
    mark = _meta(db, "mark")
    known = sidecar.read_bytes() if sidecar.exists() else b""
    marks = {known[i : i + MARK_BYTES] for i in range(0, len(known), MARK_BYTES)}
    write_durably(sidecar, (mark if mark in marks else b"") + fresh)  # both hold until the commit below
    with transaction(db):
        if mark not in marks:
            db.execute("UPDATE meta SET value=? WHERE key='epoch'", (random(MARK_BYTES),))
            db.execute("DELETE FROM prekey")
            db.execute("UPDATE pool SET left=0")
        db.execute("UPDATE meta SET value=? WHERE key='mark'", (fresh,))
    write_durably(sidecar, fresh)
    return _meta(db, "epoch")


def _meta(db: apsw.Connection, key: str) -> bytes:
    value = db.execute("SELECT value FROM meta WHERE key=?", (key,)).get
    return bytes(value)
