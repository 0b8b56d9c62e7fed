"""Backups of the embedded store: a folder with database, blobs, the relay's key, a manifest, and nothing issued once.

One-time prekeys are left out: after a restore some of them might be issued a second time. Their owners upload fresh
ones when they see the restored relay's new incarnations; last-resort packages stay. What suppresses repeated deposits
for a day is left out as well. The manifest is JSON: ``format``, ``schema`` and ``files``, names with sizes in bytes.
A backup holds the blobs that were there, as links where it is on their file system; to restore adds those to the ones
that are there now, but for those that were deleted since.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Final

import apsw

from restante_crypto import primitives
from restante_server.clock import Clock, system_clock
from restante_server.config import BACKUP_LIFETIME
from restante_server.stores import sqlite_schema, sqlite_tombstones
from restante_server.stores.blob_folder import copy_blobs
from restante_server.stores.blobs import default_blobs
from restante_server.stores.contract import StoreRefused
from restante_server.stores.tombstones import Journal

FORMAT: Final = 1
KEY_NAME: Final = "relay.key"
DATABASE_NAME: Final = "relay.db"
MANIFEST_NAME: Final = "manifest.json"
BLOBS_NAME: Final = "blobs"

_TOMBSTONE: Final = b"restante erased"

_STRIP: Final = """
DELETE FROM prekey;
UPDATE pool SET left=0;
DELETE FROM deduplication;
DELETE FROM deduplication_log;
UPDATE meta SET value=x'' WHERE key='mark';
"""  # without a mark it takes a new epoch wherever it is opened


def tombstone_id(seed: bytes, identifier: bytes) -> bytes:
    """Return the id of the slot that says when a mailbox or slot was erased: a hash keyed by the relay's key."""
    key = primitives.blake2b(seed, size=32, person=_TOMBSTONE)
    return b"\x00" + primitives.blake2b(identifier, size=23, person=_TOMBSTONE, key=key)


def backup(store: Path, destination: Path, blobs: Path | None = None, *, clock: Clock = system_clock) -> None:
    """Copy a store, which may be in use, into a new folder (mode 0700) that appears when it is complete.

    ``blobs`` is the folder of the blobs, by default the one beside the store.

    Raises:
        StoreRefused: there is no store, it cannot be read, or the destination exists.
    """
    if not store.is_file():
        raise StoreRefused("there is no store at this place")
    if destination.exists():
        raise StoreRefused("the destination exists already")
    folder = destination.with_name(destination.name + ".new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    made = clock() // 1000  # before the copy: what is erased while it is made is erased from it when it is restored
    try:
        schema = _copy_database(store, folder / DATABASE_NAME)
    except apsw.Error as error:
        shutil.rmtree(folder)
        raise StoreRefused(f"the store cannot be read: {type(error).__name__}") from None
    copy_blobs(blobs or default_blobs(store), folder / BLOBS_NAME)
    (folder / BLOBS_NAME / "new").rmdir()
    key = store.with_name(KEY_NAME)
    if key.exists():
        sqlite_schema.write_durably(folder / KEY_NAME, key.read_bytes())
    manifest = {
        "format": FORMAT,
        "made": made,
        "schema": schema,
        "files": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    sqlite_schema.write_durably(folder / MANIFEST_NAME, json.dumps(manifest, indent=2).encode() + b"\n")
    folder.rename(destination)
    sqlite_schema.sync_folder(destination.parent)


def restore(
    source: Path, store: Path, *, blobs: Path | None = None, force: bool = False, clock: Clock = system_clock
) -> None:
    """Put a backup in the place of a store that is not in use. It takes a new epoch at its next start.

    What was erased after the backup was made, as far as the store that it replaces and the list beside that know, is
    erased from it, and deleted blobs are not brought back.

    ``blobs`` as in ``backup``.

    Raises:
        StoreRefused: not a complete backup, or older than BACKUP_LIFETIME; the store is in use, or it exists and
            ``force`` is not given.
    """
    files, made = _read_manifest(source)
    if clock() // 1000 - made > BACKUP_LIFETIME:
        raise StoreRefused("the backup is older than a year: what was erased since is not known any more")
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sqlite_schema.lock(store):
        if store.exists() and not force:
            raise StoreRefused("a store exists at this place; --force replaces it")
        erased = _erased(store, made)
        seed = (source / KEY_NAME).read_bytes() if KEY_NAME in files else b""

        def tombstone(identifier: bytes) -> bytes:
            return tombstone_id(seed, identifier)

        temporary = _prepare(source, store)
        sqlite_tombstones.apply(temporary, erased if seed else {}, tombstone)
        for suffix in ("-wal", "-shm", ".epoch"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        if KEY_NAME in files:
            sqlite_schema.write_durably(store.with_name(KEY_NAME), (source / KEY_NAME).read_bytes())
        copy_blobs(
            source / BLOBS_NAME,
            blobs or default_blobs(store),
            lambda blob: not seed or tombstone(blob) not in erased,
        )
        temporary.replace(store)
        sqlite_schema.sync_folder(store.parent)


def _erased(store: Path, made: int) -> sqlite_tombstones.Rows:
    """Return the tombstones since then: of the store that is replaced, if it is there, and of the list beside it."""
    erased = dict(sqlite_tombstones.listed(Journal(store.parent), made))
    if store.exists():
        try:
            erased.update(sqlite_tombstones.stored(store, made))
        except apsw.Error as error:
            raise StoreRefused(f"the store that is replaced cannot be read: {type(error).__name__}") from None
    return erased


def _prepare(source: Path, store: Path) -> Path:
    """Copy the backup's database beside the store; return the copy."""
    temporary = store.with_name(store.name + ".restored")
    temporary.unlink(missing_ok=True)
    temporary.touch(0o600)
    shutil.copyfile(source / DATABASE_NAME, temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    return temporary


def _copy_database(store: Path, destination: Path) -> int:
    """Copy what must be kept, durably; return the version of its schema."""
    destination.touch(0o600)
    source = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    target = apsw.Connection(str(destination))
    try:
        source.set_busy_timeout(sqlite_schema.BUSY_MILLISECONDS)
        with target.backup("main", source, "main") as copy:
            copy.step()
        target.execute("PRAGMA journal_mode=DELETE")
        target.execute(_STRIP)
        target.execute("VACUUM")
        version: int = target.execute("PRAGMA user_version").get
    finally:
        source.close()
        target.close()
    return version


def _read_manifest(source: Path) -> tuple[dict[str, int], int]:
    """Return the backup's files and their sizes, and when it was made (Unix seconds)."""
    try:
        manifest = json.loads((source / MANIFEST_NAME).read_bytes())
        files: dict[str, int] = manifest["files"]
        complete = DATABASE_NAME in files and all((source / name).stat().st_size == files[name] for name in files)
        known = manifest["format"] == FORMAT and manifest["schema"] <= sqlite_schema.VERSION
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreRefused("this folder is not a complete backup") from None
    if not complete:
        raise StoreRefused("this folder is not a complete backup")
    if not known:
        raise StoreRefused("a newer version of the relay made this backup: upgrade the relay")
    try:
        return files, int(manifest["made"])
    except (KeyError, TypeError, ValueError):
        raise StoreRefused("this folder is not a complete backup") from None
