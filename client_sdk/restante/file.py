"""The client's file: one SQLite database, one connection, every value sealed.

A *cell* is a key and a value in a table, with a group and a number to sort by. On the disk the key and the group are
keyed hashes and the value is sealed with table, key, group and number as associated data: who has the file without the
passphrase sees how many cells there are and how large, and cannot move one to another place. ::

    passphrase ─ Argon2id ─▶ unseals the file key ─ BLAKE2b ─┬▶ seal key
                                                             └▶ index key
"""

import contextlib
import sqlite3
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from restante_crypto import primitives, sealing
from restante_crypto.primitives import Random

from restante.errors import AlreadyOpen, FileDamaged, FileError, WrongPassphrase

VERSION: Final = 1
SALT_BYTES: Final = 16
OPERATIONS: Final = 3  # Argon2id passes
MEMORY: Final = 64 * 1024 * 1024  # Argon2id bytes: about 0.1 s on a current machine
_KEY_BYTES: Final = 32
_BLIND_BYTES: Final = 16

_SCHEMA: Final = """
CREATE TABLE header (salt BLOB NOT NULL, operations INTEGER NOT NULL, memory INTEGER NOT NULL, key BLOB NOT NULL);
CREATE TABLE cell (
    tab INTEGER NOT NULL,
    key BLOB NOT NULL,
    grp BLOB NOT NULL,
    sort INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (tab, key)
) WITHOUT ROWID;
CREATE INDEX cell_group ON cell (tab, grp, sort);
CREATE INDEX cell_sort ON cell (tab, sort);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A cell."""

    key: bytes
    group: bytes = field(repr=False)
    sort: int
    value: bytes = field(repr=False)


def _normalised(passphrase: str | bytes) -> bytes:
    return unicodedata.normalize("NFC", passphrase).encode() if isinstance(passphrase, str) else passphrase


def _lock(path: Path) -> IO[bytes]:
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
        raise AlreadyOpen(f"another client has {path.name} open") from None
    return file


class ClientFile:
    """An open file. One thread at a time may use it."""

    def __init__(
        self, db: sqlite3.Connection, lock: IO[bytes], file_key: bytes, tables: tuple[str, ...], random: Random
    ) -> None:
        """Take over what ``open`` made."""
        self._db = db
        self._file_lock = lock
        self._file_key = file_key
        self.random = random
        self.seal_key = primitives.blake2b(b"", size=_KEY_BYTES, key=file_key, person=b"restante seal")
        self.index_key = primitives.blake2b(b"", size=_KEY_BYTES, key=file_key, person=b"restante index")
        self._tables = {name: Table(self, db, number, name) for number, name in enumerate(tables)}
        self.writing = False

    @classmethod
    def open(cls, path: Path, passphrase: str | bytes, *, random: Random, tables: tuple[str, ...]) -> Self:
        """Open or create a file (mode 0600).

        Args:
            path: the file; a ``.lock`` and SQLite's own files stand beside it.
            passphrase: a text (normalised to NFC) or bytes.
            random: n -> n random bytes.
            tables: their names; the position is the number in the file.

        Raises:
            AlreadyOpen: another client holds it.
            WrongPassphrase: it does not unseal the file.
            FileDamaged: it is no such file, or a newer version wrote it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        db = None
        try:
            if not path.exists():
                path.touch(0o600)
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
            db.execute("PRAGMA secure_delete=ON")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            return cls(db, lock, _file_key(db, _normalised(passphrase), random), tables, random)
        except sqlite3.Error as error:
            _close(db, lock)
            raise FileDamaged(f"not a usable file: {type(error).__name__}") from None
        except BaseException:
            _close(db, lock)
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        _close(self._db, self._file_lock)

    def change_passphrase(self, passphrase: str | bytes) -> None:
        """Seal the file's key under another passphrase."""
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM header")
            _put_header(self._db, _normalised(passphrase), self._file_key, self.random)
            self._db.execute("COMMIT")
        self.checkpoint()

    def table(self, name: str) -> "Table":
        """Return a table."""
        return self._tables[name]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise FileError(f"the file cannot be written: {error}") from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Change the file all or nothing; what was changed survives a power loss once the block has ended.

        Raises:
            FileError: the disk is full or fails; nothing was changed.
        """
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            self.writing = True
            try:
                yield
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self.writing = False
            self._db.execute("COMMIT")

    def checkpoint(self) -> None:
        """Empty the write-ahead log, so that no deleted key stays in it."""
        with self._translated():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _close(db: sqlite3.Connection | None, lock: IO[bytes]) -> None:
    if db is not None:
        db.close()
    lock.close()


def _put_header(db: sqlite3.Connection, passphrase: bytes, file_key: bytes, random: Random) -> None:
    salt = random(SALT_BYTES)
    key = primitives.argon2id(passphrase, salt, operations=OPERATIONS, memory=MEMORY)
    sealed = sealing.seal(key, file_key, b"restante file key", random)
    db.execute("INSERT INTO header VALUES (?, ?, ?, ?)", (salt, OPERATIONS, MEMORY, sealed))


def _file_key(db: sqlite3.Connection, passphrase: bytes, random: Random) -> bytes:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise FileDamaged("a newer version wrote this file: upgrade")
    if version == 0:
        file_key = random(_KEY_BYTES)
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            db.execute(statement)
        _put_header(db, passphrase, file_key, random)
        db.execute(f"PRAGMA user_version={VERSION}")
        db.execute("COMMIT")
        return file_key
    row = db.execute("SELECT salt, operations, memory, key FROM header").fetchone()
    if row is None:
        raise FileDamaged("the file has no header")
    salt, operations, memory, sealed = row
    key = primitives.argon2id(passphrase, salt, operations=operations, memory=memory)
    try:
        return sealing.open_sealed(key, sealed, b"restante file key")
    except sealing.SealError:
        raise WrongPassphrase("the passphrase does not open this file") from None


class Table:
    """A table of cells. Reading is always possible; writing needs ``ClientFile.transaction``."""

    def __init__(self, file: ClientFile, db: sqlite3.Connection, number: int, name: str) -> None:
        """Name a table."""
        self._file = file
        self._db = db
        self._number = number
        self._name = name.encode()

    def _blind(self, kind: bytes, value: bytes) -> bytes:
        return primitives.blake2b(b"\x00".join((kind, self._name, value)), size=_BLIND_BYTES, key=self._file.index_key)

    def _associated(self, key: bytes, group: bytes, sort: int) -> bytes:
        return b"".join((self._number.to_bytes(2, "big"), key, group, sort.to_bytes(8, "big", signed=True)))

    def _execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
        if not self._file.writing:
            raise FileError("a change outside a transaction")
        return self._db.execute(sql, arguments)

    def _open(self, blind_key: bytes, blind_group: bytes, sort: int, sealed: bytes) -> Row:
        try:
            plain = sealing.open_sealed(self._file.seal_key, sealed, self._associated(blind_key, blind_group, sort))
        except sealing.SealError:
            raise FileDamaged("a cell of the file fails its seal") from None
        key_end = 2 + int.from_bytes(plain[:2], "big")
        group_end = key_end + 2 + int.from_bytes(plain[key_end : key_end + 2], "big")
        return Row(plain[2:key_end], plain[key_end + 2 : group_end], sort, plain[group_end:])

    def put(self, key: bytes, value: bytes, *, group: bytes = b"", sort: int = 0) -> None:
        """Write a cell over whatever has this key."""
        blind_key, blind_group = self._blind(b"key", key), self._blind(b"group", group)
        plain = b"".join((len(key).to_bytes(2, "big"), key, len(group).to_bytes(2, "big"), group, value))
        sealed = sealing.seal(
            self._file.seal_key, plain, self._associated(blind_key, blind_group, sort), self._file.random
        )
        self._execute("REPLACE INTO cell VALUES (?, ?, ?, ?, ?)", self._number, blind_key, blind_group, sort, sealed)

    def get(self, key: bytes) -> bytes | None:
        """Return the value with this key, or None. Raises FileDamaged if its seal fails."""
        blind_key = self._blind(b"key", key)
        row = self._db.execute(
            "SELECT key, grp, sort, value FROM cell WHERE tab=? AND key=?", (self._number, blind_key)
        ).fetchone()
        return self._open(*row).value if row is not None else None

    def delete(self, key: bytes) -> None:
        """Delete the cell with this key, if there is one."""
        self._execute("DELETE FROM cell WHERE tab=? AND key=?", self._number, self._blind(b"key", key))

    def rows(self, group: bytes | None = None, *, limit: int = -1) -> list[Row]:
        """Return cells, of one group or all, by their number. Raises FileDamaged."""
        if group is None:
            found = self._db.execute(
                "SELECT key, grp, sort, value FROM cell WHERE tab=? ORDER BY sort LIMIT ?", (self._number, limit)
            )
        else:
            found = self._db.execute(
                "SELECT key, grp, sort, value FROM cell WHERE tab=? AND grp=? ORDER BY sort LIMIT ?",
                (self._number, self._blind(b"group", group), limit),
            )
        return [self._open(*row) for row in found.fetchall()]

    def exists(self, group: bytes | None = None) -> bool:
        """Say whether there is any cell, of one group or at all."""
        where, arguments = self._where(group)
        return self._db.execute(f"SELECT 1 FROM cell {where} LIMIT 1", arguments).fetchone() is not None  # noqa: S608 -- our own text

    def count(self, group: bytes | None = None) -> int:
        """Return the number of cells, of one group or all."""
        where, arguments = self._where(group)
        counted: int = self._db.execute(f"SELECT count(*) FROM cell {where}", arguments).fetchone()[0]  # noqa: S608 -- our own text
        return counted

    def max_sort(self) -> int | None:
        """Return the largest number in the table."""
        found: int | None = self._db.execute("SELECT max(sort) FROM cell WHERE tab=?", (self._number,)).fetchone()[0]
        return found

    def delete_group(self, group: bytes) -> None:
        """Delete a group's cells."""
        where, arguments = self._where(group)
        self._execute(f"DELETE FROM cell {where}", *arguments)  # noqa: S608 -- our own text

    def delete_below(self, sort: int, group: bytes | None = None) -> None:
        """Delete cells with a smaller number, of one group or all."""
        where, arguments = self._where(group)
        self._execute(f"DELETE FROM cell {where} AND sort<?", *arguments, sort)  # noqa: S608 -- our own text

    def _where(self, group: bytes | None) -> tuple[str, tuple[object, ...]]:
        if group is None:
            return "WHERE tab=?", (self._number,)
        return "WHERE tab=? AND grp=?", (self._number, self._blind(b"group", group))
