"""Versions of the schema, and files that are replaced whole."""

import os
from pathlib import Path

import apsw
import pytest

from restante_server.stores import sqlite_schema
from restante_server.stores.contract import StoreRefused

UPGRADES = {1: "CREATE TABLE second (column)", 2: "ALTER TABLE second ADD COLUMN third"}


def test_an_upgrade_keeps_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    db = sqlite_schema.connect(path, None)
    epoch = sqlite_schema.prepare(db, path, os.urandom)
    db.execute("INSERT INTO code VALUES (x'01', 5, 0)")
    assert sqlite_schema.prepare(db, path, os.urandom, UPGRADES) == epoch
    assert db.execute("PRAGMA user_version").get == 3
    assert db.execute("SELECT third FROM second").fetchall() == []
    assert db.execute("SELECT expires FROM code").get == 5
    copy = apsw.Connection(str(tmp_path / "relay.db.v1"))
    assert copy.execute("PRAGMA user_version").get == 1
    assert copy.execute("SELECT expires FROM code").get == 5
    copy.close()
    assert (tmp_path / "relay.db.v1").stat().st_mode & 0o777 == 0o600
    assert sqlite_schema.prepare(db, path, os.urandom, UPGRADES) == epoch
    with pytest.raises(StoreRefused):
        sqlite_schema.prepare(db, path, os.urandom)
    db.close()


def test_a_failed_upgrade_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    db = sqlite_schema.connect(path, None)
    epoch = sqlite_schema.prepare(db, path, os.urandom)
    with pytest.raises(apsw.SQLError):
        sqlite_schema.prepare(db, path, os.urandom, {**UPGRADES, 2: "nonsense"})
    assert db.execute("PRAGMA user_version").get == 1
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name='second'").get == 0
    assert sqlite_schema.prepare(db, path, os.urandom) == epoch
    db.close()


def test_a_new_store_has_the_newest_schema(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    db = sqlite_schema.connect(path, None)
    sqlite_schema.prepare(db, path, os.urandom)
    assert db.execute("PRAGMA user_version").get == sqlite_schema.VERSION
    assert db.execute("PRAGMA journal_mode").get == "wal"
    assert db.execute("PRAGMA synchronous").get == 2
    db.close()


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    sqlite_schema.write_durably(path, b"old")
    sqlite_schema.write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
