"""Backups of the embedded store: a folder with the database, the relay's key, and nothing that was issued once.

One-time prekeys are left out: after a restore some of them might be issued a second time. Their owners upload fresh
ones when they see the restored relay's new incarnation; last-resort packages stay.
"""

import os
import shutil
from pathlib import Path
from typing import Final

import apsw

from restante_server.stores import sqlite_schema
from restante_server.stores.contract import StoreRefused

KEY_NAME: Final = "relay.key"
DATABASE_NAME: Final = "relay.db"


def backup(store: Path, destination: Path) -> None:
    """Copy a store, which may be in use, into a new folder (mode 0700).

    Raises:
        StoreRefused: there is no store, or the destination exists.
    """
    if not store.exists():
        raise StoreRefused("there is no store at this place")
    if destination.exists():
        raise StoreRefused("the destination exists already")
    destination.mkdir(mode=0o700, parents=True)
    target_path = destination / DATABASE_NAME
    target_path.touch(0o600)
    source = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    target = apsw.Connection(str(target_path))
    try:
        with target.backup("main", source, "main") as copy:
            copy.step()
        target.execute("DELETE FROM prekey; UPDATE pool SET left=0; DELETE FROM deduplication")
        target.execute("PRAGMA journal_mode=DELETE")
        target.execute("VACUUM")
    finally:
        source.close()
        target.close()
    key = store.with_name(KEY_NAME)
    if key.exists():
        sqlite_schema.write_durably(destination / KEY_NAME, key.read_bytes())
    sqlite_schema.sync_folder(destination)


def restore(source: Path, store: Path, *, force: bool = False) -> None:
    """Put a backup in the place of a store that is not in use. It takes a new epoch at its next start.

    Raises:
        StoreRefused: not a backup, the store is in use, or it exists and ``force`` is not given.
    """
    database = source / DATABASE_NAME
    if not database.exists():
        raise StoreRefused("this folder is not a backup")
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sqlite_schema.lock(store):
        if store.exists() and not force:
            raise StoreRefused("a store exists at this place; --force replaces it")
        for suffix in ("-wal", "-shm", ".epoch"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        temporary = store.with_name(store.name + ".restored")
        shutil.copyfile(database, temporary)
        temporary.chmod(0o600)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(store)
        key = source / KEY_NAME
        if key.exists():
            sqlite_schema.write_durably(store.with_name(KEY_NAME), key.read_bytes())
        sqlite_schema.sync_folder(store.parent)
