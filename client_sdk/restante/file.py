"""The client's file: sealed cells in one SQLite database, held by one process at a time.

::

    passphrase --(passphrase.py)--> data key --BLAKE2b--> seal key, index key

    cell: table number, BLAKE2b-128(index key; table ‖ key), the same of the group, sort,
          box(seal key; lengths, key, group, value)
          with (table, blinded key, blinded group, sort, "value") as associated data

So the file shows how many cells of what size a table has and their sort numbers, but no id, and a cell that is moved,
exchanged or changed fails its seal. What is not here: nothing tells that the whole file (or one cell) is an older copy
of itself; the relay's acknowledged sequence does.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from restante import passphrase as passphrases
from restante.errors import AlreadyOpen, FileDamaged, FileError
from restante_crypto import primitives, sealing
from restante_crypto.primitives import Random

if sys.platform == "win32":  # pragma: no cover -- the other system's lock
    import msvcrt
else:
    import fcntl

APPLICATION: Final = 0x52535445
"""SQLite's application_id: "RSTE"."""
SCHEMA: Final = 1
"""The version this module writes, in SQLite's user_version."""

_KEY_BYTES: Final = 32
_BLIND_BYTES: Final = 16
_OWNER_ONLY: Final = 0o600

_SCHEMA: Final = f"""
CREATE TABLE header(
    id INTEGER PRIMARY KEY CHECK(id = 1),
    salt BLOB NOT NULL, operations INTEGER NOT NULL, memory INTEGER NOT NULL, box BLOB NOT NULL
) STRICT;
CREATE TABLE cell(
    tab INTEGER NOT NULL, key BLOB NOT NULL, grp BLOB NOT NULL, sort INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY(tab, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX cell_by_group ON cell(tab, grp, sort, key);
CREATE INDEX cell_by_sort ON cell(tab, sort, key);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA};
"""
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class _Database:
    """The open database and the two keys of its cells: what a file and its tables share."""

    __slots__ = ("connection", "index_key", "random", "seal_key", "written")

    def __init__(self, connection: sqlite3.Connection, data_key: bytes, random: Random) -> None:
        self.connection = connection
        self.random = random
        self.written = True  # since the last checkpoint; of an earlier process that was killed nobody knows
        self.seal_key = primitives.blake2b(b"", size=_KEY_BYTES, person=b"restante seal", key=data_key)
        self.index_key = primitives.blake2b(b"", size=_KEY_BYTES, person=b"restante index", key=data_key)

    def is_writing(self) -> bool:
        """Say whether a transaction is open."""
        return self.connection.in_transaction

    def execute(self, sql: str, values: Sequence[bytes | int] = ()) -> list[Any]:
        """Run a statement and return its rows. Raises FileError."""
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error

    def write(self, sql: str, values: Sequence[bytes | int]) -> int:
        """Run a statement in a transaction and return how many rows it wrote. Raises FileError."""
        if not self.is_writing():
            raise RuntimeError("a write outside a transaction")
        self.written = True
        try:
            return self.connection.execute(sql, values).rowcount
        except sqlite3.Error as error:
            raise _translated(error) from error


class ClientFile:
    """An open file. One thread at a time may use it."""

    def __init__(self, database: _Database, data_key: bytes, lock: int, tables: Sequence[str]) -> None:
        """Take over an open database and the lock's descriptor; ``open`` is the way in."""
        self._database = database
        self._data_key = data_key
        self._lock: int | None = lock
        self._numbers = {name: number for number, name in enumerate(tables)}

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], passphrase: str | bytes, *, random: Random, tables: Sequence[str]
    ) -> Self:
        """Open the file, or make it if there is none; its folder must exist.

        Args:
            path: of the file; ``-wal`` and ``.lock`` stand beside it.
            passphrase: a text counts as its NFC form in UTF-8.
            random: n -> n random bytes.
            tables: all tables' names; a table's number in the file is its position, so new ones go to the end.

        Raises:
            AlreadyOpen: somebody holds it.
            WrongPassphrase: the passphrase does not open it.
            FileDamaged: it is no client's file, or not whole, or of a newer version.
            FileError: the operating system refuses.
        """
        place = Path(path).resolve()
        try:
            lock = _lock(place)
        except OSError as error:
            raise FileError(f"{place}: {error.strerror}") from error
        connection = None
        try:
            made = None if place.exists() else _create(place, passphrase, random)
            if not place.is_file():
                raise FileError(f"{place} is not a file")  # noqa: TRY301 -- cleaned up after below like all others
            connection = sqlite3.connect(place, isolation_level=None, check_same_thread=False, timeout=0)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # before WAL: then there is no shared memory file
            data_key = made or _read_lock(connection).open(passphrase)
            place.chmod(_OWNER_ONLY)  # only now: a file that is not ours stays as it is
            _configure(connection)
            return cls(_Database(connection, data_key, random), data_key, lock, tables)
        except BaseException as error:
            if connection is not None:
                connection.close()
            os.close(lock)
            if isinstance(error, sqlite3.Error):
                raise _translated(error) from error
            if isinstance(error, OSError):
                raise FileError(f"{place}: {error.strerror}") from error
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing. An open transaction is rolled back."""
        if self._lock is not None:
            self._database.connection.close()
            os.close(self._lock)
            self._lock = None

    def table(self, name: str) -> "Table":
        """Return the table of this name. Raises KeyError for one that ``open`` was not told of."""
        return Table(self._database, name, self._numbers[name])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes inside durable together, or none of them if anything is raised. They do not nest.

        Raises:
            FileError: the commit failed; nothing was changed.
        """
        if self._database.is_writing():
            raise RuntimeError("a transaction inside a transaction")
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.is_writing():  # SQLite has rolled back by itself after some failures
                self._database.execute("ROLLBACK")
            raise

    def checkpoint(self) -> None:
        """Empty the WAL into the database, so that no deleted key survives there. Not inside a transaction.

        Costs a sync of the database and one of the WAL, and nothing if nothing was written since the last one.
        """
        if self._database.written:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._database.written = False

    def change_passphrase(self, new: str | bytes) -> None:
        """Seal the data key under another passphrase. Copies of the file made before open with the old one."""
        lock = passphrases.lock(new, self._data_key, self._database.random)
        with self.transaction():
            self._database.write(
                "UPDATE header SET salt = ?, operations = ?, memory = ?, box = ? WHERE id = 1", _row(lock)
            )
        self.checkpoint()


@dataclass(frozen=True, slots=True)
class Row:
    """A cell as it was put."""

    key: bytes
    group: bytes
    sort: int
    value: bytes = field(repr=False)


class Table:
    """One table: values by key, each in one group and with a sort number (signed, 64 bits).

    Reading raises FileDamaged for a cell that fails its seal. Writing is possible only in ``ClientFile.transaction``.
    """

    __slots__ = ("_context", "_database", "_number", "_prefix")

    def __init__(self, database: _Database, name: str, number: int) -> None:
        """Name a table of the file; ``ClientFile.table`` is the way in."""
        self._database = database
        self._number = number
        self._prefix = number.to_bytes(2, "big")
        self._context = len(name.encode()).to_bytes(2, "big") + name.encode()

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None if there is no such key."""
        found = self._database.execute(_GET, (self._number, self._blind_key(key)))
        return self._open(*found[0]).value if found else None

    def put(self, key: bytes, value: bytes, *, group: bytes = b"", sort: int = 0) -> None:
        """Write a cell over the one of this key, group and sort number included."""
        blind, blind_group = self._blind_key(key), self._blind_group(group)
        content = b"".join((len(key).to_bytes(4, "big"), key, len(group).to_bytes(4, "big"), group, value))
        box = sealing.seal(
            self._database.seal_key, content, self._associated(blind, blind_group, sort), self._database.random
        )
        # Most writes replace a value alone, and then no index needs to be touched.
        if not self._write(_REPLACE, box, blind, blind_group, sort):
            self._write(_PUT, blind, blind_group, sort, box)

    def delete(self, key: bytes) -> None:
        """Delete a cell, if it is there."""
        self._write("DELETE FROM cell WHERE tab = ?1 AND key = ?2", self._blind_key(key))

    def rows(self, group: bytes | None = None, *, limit: int | None = None) -> list[Row]:
        """Return the cells of a group (None: of all) by sort number, at most ``limit`` of them.

        Cells of the same sort number come in an order that is stable and means nothing.
        """
        count = -1 if limit is None else limit
        if group is None:
            found = self._database.execute(_ROWS, (self._number, count))
        else:
            found = self._database.execute(_GROUP_ROWS, (self._number, count, self._blind_group(group)))
        return [self._open(*row) for row in found]

    def count(self, group: bytes | None = None) -> int:
        """Return how many cells there are."""
        return self._number_of("count(*)", group) or 0

    def exists(self, group: bytes | None = None) -> bool:
        """Say whether there is any row (of this group)."""
        return bool(self.rows(group, limit=1))

    def min_sort(self, group: bytes | None = None) -> int | None:
        """Return the lowest sort number, or None if there is no cell."""
        return self._number_of("min(sort)", group)

    def max_sort(self, group: bytes | None = None) -> int | None:
        """Return the highest sort number, or None if there is no cell."""
        return self._number_of("max(sort)", group)

    def delete_group(self, group: bytes) -> None:
        """Delete all cells of a group."""
        self._write("DELETE FROM cell WHERE tab = ?1 AND grp = ?2", self._blind_group(group))

    def delete_below(self, sort: int, group: bytes | None = None) -> int:
        """Delete the cells with a lower sort number; return how many."""
        if group is None:
            return self._write("DELETE FROM cell WHERE tab = ?1 AND sort < ?2", sort)
        return self._write("DELETE FROM cell WHERE tab = ?1 AND sort < ?2 AND grp = ?3", sort, self._blind_group(group))

    def _number_of(self, what: str, group: bytes | None) -> int | None:
        sql = f"SELECT {what} FROM cell WHERE tab = ?1"  # noqa: S608 -- ``what`` is one of three constants above
        if group is None:
            found = self._database.execute(sql, (self._number,))
        else:
            found = self._database.execute(sql + " AND grp = ?2", (self._number, self._blind_group(group)))
        number: int | None = found[0][0]
        return number

    def _write(self, sql: str, *values: bytes | int) -> int:
        return self._database.write(sql, (self._number, *values))

    def _blind_key(self, key: bytes) -> bytes:
        return primitives.blake2b(
            self._prefix + key,
            size=_BLIND_BYTES,
            person=b"restante key",
            key=self._database.index_key,
        )

    def _blind_group(self, group: bytes) -> bytes:
        return primitives.blake2b(
            self._prefix + group,
            size=_BLIND_BYTES,
            person=b"restante group",
            key=self._database.index_key,
        )

    def _associated(self, blind: bytes, blind_group: bytes, sort: int) -> bytes:
        return b"".join((self._context, blind, blind_group, sort.to_bytes(8, "big", signed=True), b"value"))

    def _open(self, blind: bytes, blind_group: bytes, sort: int, box: bytes) -> Row:
        try:
            content = sealing.open_sealed(
                self._database.seal_key,
                box,
                self._associated(blind, blind_group, sort),
            )
        except sealing.SealError:
            raise FileDamaged("a cell of the file fails its seal") from None
        key_end = 4 + int.from_bytes(content[:4], "big")
        group_end = key_end + 4 + int.from_bytes(content[key_end : key_end + 4], "big")
        return Row(content[4:key_end], content[key_end + 4 : group_end], sort, content[group_end:])


_GET: Final = "SELECT key, grp, sort, value FROM cell WHERE tab = ?1 AND key = ?2"
_REPLACE: Final = "UPDATE cell SET value = ?2 WHERE tab = ?1 AND key = ?3 AND grp = ?4 AND sort = ?5"
_PUT: Final = (
    "INSERT INTO cell(tab, key, grp, sort, value) VALUES(?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT(tab, key) DO UPDATE SET grp = excluded.grp, sort = excluded.sort, value = excluded.value"
)
_ROWS: Final = "SELECT key, grp, sort, value FROM cell WHERE tab = ?1 ORDER BY sort, key LIMIT ?2"
_GROUP_ROWS: Final = "SELECT key, grp, sort, value FROM cell WHERE tab = ?1 AND grp = ?3 ORDER BY sort, key LIMIT ?2"


def _row(lock: passphrases.Lock) -> tuple[bytes, int, int, bytes]:
    return lock.salt, lock.operations, lock.memory, lock.box


def _read_lock(connection: sqlite3.Connection) -> passphrases.Lock:
    _check_schema(connection)
    found = connection.execute("SELECT salt, operations, memory, box FROM header").fetchone()
    if found is None:
        raise FileDamaged("the file has no header")
    return passphrases.Lock(*found)


def _create(place: Path, passphrase: str | bytes, random: Random) -> bytes:
    """Make the file under another name and rename it: an empty file is never a new one. Return the data key."""
    wal = place.with_name(place.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise FileDamaged(f"{place} is missing, but {wal.name} is there: it was moved without what belongs to it")
    new = place.with_name(place.name + ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, _OWNER_ONLY))
    data_key = random(_KEY_BYTES)
    header = _row(passphrases.lock(passphrase, data_key, random))
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO header VALUES(1, ?, ?, ?, ?)", header)
    finally:
        connection.close()
    new.replace(place)
    if sys.platform != "win32":
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the new name is lost with the power
        finally:
            os.close(folder)
    return data_key


def _configure(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        "temp_store = MEMORY",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _check_schema(connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise FileDamaged("this is not a client's file, or it was emptied")
    if version != SCHEMA:
        raise FileDamaged(f"the file is of version {version}, written by a newer release; this one reads {SCHEMA}")


def _lock(place: Path) -> int:
    """Return the descriptor that holds the lock; closing it, or the end of the process, lets go."""
    descriptor = os.open(place.with_name(place.name + ".lock"), os.O_CREAT | os.O_RDWR, _OWNER_ONLY)
    try:
        if sys.platform == "win32":  # pragma: no cover -- the other system's lock
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AlreadyOpen(f"{place} is in use: by another process, or by another Client in this one") from None
    return descriptor


def _translated(error: sqlite3.Error) -> FileError:
    """Return what an error of SQLite means to the caller; its texts hold no values."""
    code = getattr(error, "sqlite_errorcode", 0)  # errors of the module itself have none
    if code & 0xFF in _DAMAGED:
        return FileDamaged(f"the file is damaged: {error}")
    if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return AlreadyOpen("another program holds the file")
    return FileError(f"the file cannot be used: {error}")
