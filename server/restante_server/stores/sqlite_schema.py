"""The embedded store's tables, and its identity: schema version, epoch, lock.

The *epoch* names one history of the database. Beside the file stands a sidecar with the mark of the last start or
end; a database whose mark is not there is an older copy put back, and takes a new epoch: mailboxes get new
incarnations, and one-time prekeys are discarded, because some of them may have been issued in the history that was
lost. What this cannot notice is a copy made while the relay ran, put back after that same run was killed: use
``backup``.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import apsw

from restante_server.stores.contract import StoreRefused
from restante_server.stores.sqlite_supplies import settle_log

VERSION: Final = 1
MARK_BYTES: Final = 16
BUSY_MILLISECONDS: Final = 5000  # for another process's short write: an invite code, a backup

SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE mailbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: payloads name it
    id BLOB NOT NULL UNIQUE,
    receive_key BLOB NOT NULL,
    incarnation BLOB NOT NULL,
    epoch BLOB NOT NULL,
    last INTEGER NOT NULL DEFAULT 0,  -- sequences are above this, above cursor, and above any in payload
    acknowledged INTEGER NOT NULL DEFAULT 0,  -- in this incarnation
    cursor INTEGER NOT NULL DEFAULT 0,  -- entries up to here are gone,
    kept BLOB NOT NULL DEFAULT x'',  -- but for these sequences
    addresses INTEGER NOT NULL DEFAULT 0,
    spent BLOB NOT NULL DEFAULT x''  -- addresses, until the owner is told
);
CREATE TABLE address (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    mailbox INTEGER NOT NULL,
    cap INTEGER NOT NULL,
    kind INTEGER NOT NULL
);
CREATE INDEX address_mailbox ON address (mailbox);
CREATE TABLE payload (
    n INTEGER PRIMARY KEY,
    message_id BLOB NOT NULL,
    fence BLOB,
    expires INTEGER NOT NULL,  -- a fenced payload that nobody waits for any more: with its fence
    large INTEGER NOT NULL,
    members INTEGER NOT NULL,  -- of the group that begins here, or 0
    recipients BLOB NOT NULL,  -- of the group that begins here: see sqlite_index
    body BLOB NOT NULL
);
CREATE INDEX payload_expires ON payload (expires) WHERE members > 0;
CREATE TABLE fence (
    tag BLOB PRIMARY KEY,
    message_id BLOB NOT NULL,
    digest BLOB NOT NULL,
    payload INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE deduplication (
    digest BLOB PRIMARY KEY,
    failed BLOB NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE deduplication_log (
    n INTEGER PRIMARY KEY,
    expires INTEGER NOT NULL,
    digests BLOB NOT NULL  -- see sqlite_digests
);
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
CREATE TABLE code (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
"""
UPGRADES: Final[Mapping[int, str]] = {}
"""SQL that makes version v + 1 of a store of version v."""


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
    """Hold the lock of a store, or of what is named so, until the returned file is closed.

    Raises StoreRefused: somebody else holds it.
    """
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


def connect(path: Path, vfs: str | None, max_bytes: int = 0) -> apsw.Connection:
    """Open the writing connection: WAL, every commit synced. ``max_bytes`` bounds the file; 0 is no limit."""
    db = apsw.Connection(str(path), vfs=vfs)
    db.set_busy_timeout(BUSY_MILLISECONDS)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=FAST",  # overwrites what costs no write of its own
        "cache_size=-65536",  # KiB
        "wal_autocheckpoint=4000",  # pages
        "journal_size_limit=33554432",  # bytes: a burst's log does not stay
    ):
        db.execute(f"PRAGMA {pragma}")
    if max_bytes:
        page = db.execute("PRAGMA page_size").get
        db.execute(f"PRAGMA max_page_count={max(1, max_bytes // page)}")
    return db


def connect_reader(path: Path, vfs: str | None) -> apsw.Connection:
    """Open a reading connection."""
    db = apsw.Connection(str(path), vfs=vfs)
    db.set_busy_timeout(BUSY_MILLISECONDS)
    db.execute("PRAGMA query_only=ON")
    return db


def prepare(
    db: apsw.Connection,
    path: Path,
    random: Callable[[int], bytes],
    upgrades: Mapping[int, str] = UPGRADES,
) -> bytes:
    """Create, check or upgrade the schema, and return the store's epoch.

    An upgrade first copies the store to ``<name>.v<version>``, a file that the operator deletes.

    Raises:
        StoreRefused: a newer version wrote it, or it is no store.
    """
    known = 1 + max(upgrades, default=VERSION - 1)
    version = db.execute("PRAGMA user_version").get
    if version > known:
        raise StoreRefused("a newer version of the relay wrote this store: upgrade the relay")
    if version == 0:
        if db.execute("SELECT count(*) FROM sqlite_schema").get:
            raise StoreRefused("this file is a database, but no store of a relay")
        with transaction(db):
            db.execute(SCHEMA)
            db.execute("INSERT INTO meta VALUES ('epoch', ?), ('mark', x'')", (random(MARK_BYTES),))
            db.execute(f"PRAGMA user_version={known}")
    elif version < known:
        _copy(db, path.with_name(f"{path.name}.v{version}"))
        with transaction(db):
            for step in range(version, known):
                db.execute(upgrades[step])
            db.execute(f"PRAGMA user_version={known}")
    change_mark(db, path, random)
    return meta(db, "epoch")


def change_mark(db: apsw.Connection, path: Path, random: Callable[[int], bytes]) -> None:
    """Mark store and sidecar anew, at each start and each orderly end; a store of another history gets a new epoch."""
    sidecar = path.with_name(path.name + ".epoch")
    fresh = random(MARK_BYTES)
    mark = meta(db, "mark")
    content = sidecar.read_bytes() if sidecar.exists() else b""
    known = mark in {content[i : i + MARK_BYTES] for i in range(0, len(content), MARK_BYTES)}
    write_durably(sidecar, (mark if known else b"") + fresh)  # either is right until the commit below
    with transaction(db):
        settle_log(db)
        if not known:
            db.execute("UPDATE meta SET value=? WHERE key='epoch'", (random(MARK_BYTES),))
            db.execute("DELETE FROM prekey")
            db.execute("UPDATE pool SET left=0")
        db.execute("UPDATE meta SET value=? WHERE key='mark'", (fresh,))
    write_durably(sidecar, fresh)


def meta(db: apsw.Connection, key: str) -> bytes:
    """Return a value of the table ``meta``."""
    return bytes(db.execute("SELECT value FROM meta WHERE key=?", (key,)).get)


def _copy(db: apsw.Connection, destination: Path) -> None:
    temporary = destination.with_name(destination.name + ".new")
    temporary.unlink(missing_ok=True)
    temporary.touch(0o600)
    db.execute("VACUUM INTO ?", (str(temporary),))
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(destination)
    sync_folder(destination.parent)
