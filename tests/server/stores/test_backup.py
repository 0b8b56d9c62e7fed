"""Backups of a running store, and what a restored one forgets."""

import asyncio
import errno
import json
import os
from pathlib import Path

import apsw
import pytest

from restante_protocol import limits
from restante_protocol.frames import encode_prekey
from restante_server.stores import backup as backups
from restante_server.stores.blob_folder import BlobFolder
from restante_server.stores.blobs import BlobHead
from restante_server.stores.contract import Accepted, FenceLost, StoredSlot, StoreRefused
from support.stores import (
    DAY,
    SUITE,
    Opener,
    acknowledge,
    address,
    bodies,
    deposit,
    fence,
    identifier,
    mailbox,
    make_mailbox,
    subscribe,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_running_store_is_backed_up_and_restored(opener: Opener, tmp_path: Path) -> None:
    store = await opener.open()
    opener.path.with_name("relay.key").write_bytes(bytes(32))
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"one-time package"], b"last", replace=False)
    await store.put_slot(identifier("slot", 1), 1, DAY, b"slot")
    item = deposit(1, [address(1)], fence=fence(1))
    await store.deposit(item)
    first = await subscribe(store, 1)
    await asyncio.to_thread(backups.backup, opener.path, tmp_path / "backups" / "monday")
    await store.deposit(deposit(2, [address(1)], body=b"after the backup"))
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    await store.close()

    folder = tmp_path / "backups" / "monday"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert names(folder) == {"relay.db", "relay.key", "manifest.json", "blobs"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {0o600}
    assert (folder / "blobs").stat().st_mode & 0o777 == 0o700
    assert b"one-time package" not in (folder / "relay.db").read_bytes()

    elsewhere = Opener(tmp_path / "elsewhere" / "relay.db", opener.clock)
    for path, force in ((elsewhere.path, False), (opener.path, True)):
        backups.restore(folder, path, force=force)
        assert path.with_name("relay.key").read_bytes() == bytes(32)
        assert path.stat().st_mode & 0o777 == 0o600
        store = await Opener(path, opener.clock).open()
        assert await bodies(store, 1) == [b"ciphertext"]
        assert await store.get_slot(identifier("slot", 1)) == StoredSlot(1, b"slot")
        assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 0, b"last")]
        assert await store.deposit(deposit(3, [address(1)], fence=fence(1))) == FenceLost()
        new = await store.subscribe(mailbox(1), first.incarnation, first.last_sequence, [])
        assert new is not None
        assert new.incarnation != first.incarnation
        assert await store.deposit(deposit(4, [address(1)])) == Accepted(())
        await store.close()


async def put_blob(folder: Path, number: int, body: bytes) -> None:
    blobs = await BlobFolder.open(folder)
    upload = await blobs.begin(identifier("blob", number), BlobHead(2_000_000_000, bytes(32), len(body)))
    await upload.write(body)
    assert await upload.commit()


@pytest.mark.parametrize("links", [True, False])
async def test_blobs_go_with_a_backup_and_are_added_by_a_restore(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    here, copy = opener.path.with_name("relay.db.blobs"), tmp_path / "backup"
    await (await opener.open()).close()
    await put_blob(here, 1, b"one")
    await put_blob(here, 2, b"two")
    link = os.link

    def without(source: Path, target: Path) -> None:
        if "new" not in source.parts:
            raise OSError(errno.EXDEV, "")
        link(source, target)

    with monkeypatch.context() as patch:
        if not links:
            patch.setattr(os, "link", without)
        backups.backup(opener.path, copy)
    stored = copy / "blobs" / identifier("blob", 1)[:1].hex() / identifier("blob", 1).hex()
    assert stored.stat().st_nlink == (2 if links else 1)
    assert stored.stat().st_mode & 0o777 == 0o600
    blobs = await BlobFolder.open(here)
    await blobs.delete(identifier("blob", 1))  # lost, and not deleted by who wrote it: see test_erasure
    await put_blob(here, 3, b"since then")

    for path in (opener.path, tmp_path / "elsewhere" / "relay.db"):
        backups.restore(copy, path, force=True)
        there = await BlobFolder.open(path.with_name("relay.db.blobs"))
        assert await there.read(identifier("blob", 1), 0, 99) == b"one"
        assert await there.read(identifier("blob", 2), 0, 99) == b"two"
        here_too = path == opener.path
        assert await there.read(identifier("blob", 3), 0, 99) == (b"since then" if here_too else None)
        assert len(await there.list()) == 2 + here_too
    stored.unlink()
    with pytest.raises(StoreRefused, match="complete backup"):
        backups.restore(copy, tmp_path / "third" / "relay.db")


async def test_blobs_of_another_folder_are_copied_from_and_to_it(opener: Opener, tmp_path: Path) -> None:
    await (await opener.open()).close()
    await put_blob(tmp_path / "large disk", 1, b"one")
    backups.backup(opener.path, tmp_path / "backup", tmp_path / "large disk")
    backups.restore(tmp_path / "backup", tmp_path / "new" / "relay.db", blobs=tmp_path / "other disk")
    assert await (await BlobFolder.open(tmp_path / "other disk")).read(identifier("blob", 1), 0, 9) == b"one"
    assert not (tmp_path / "new" / "relay.db.blobs").exists()


async def test_a_backup_without_a_key(opener: Opener, tmp_path: Path) -> None:
    await (await opener.open()).close()
    backups.backup(opener.path, tmp_path / "backup")
    backups.restore(tmp_path / "backup", tmp_path / "new" / "relay.db")
    assert not (tmp_path / "new" / "relay.key").exists()


async def test_a_backup_is_not_made_of_nothing_or_over_something(opener: Opener, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="no store"):
        backups.backup(opener.path, tmp_path / "backup")
    await (await opener.open()).close()
    (tmp_path / "backup").mkdir()
    with pytest.raises(StoreRefused, match="exists already"):
        backups.backup(opener.path, tmp_path / "backup")
    opener.path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreRefused, match="cannot be read"):
        backups.backup(opener.path, tmp_path / "other")
    assert names(tmp_path) == {"store", "backup"}


async def test_a_backup_is_not_restored_over_a_store(opener: Opener, tmp_path: Path) -> None:
    store = await opener.open()
    backups.backup(opener.path, tmp_path / "backup")
    with pytest.raises(StoreRefused, match="another process"):
        backups.restore(tmp_path / "backup", opener.path, force=True)
    await store.close()
    with pytest.raises(StoreRefused, match="--force"):
        backups.restore(tmp_path / "backup", opener.path)


@pytest.mark.parametrize(
    ("manifest", "match"),
    [
        (None, "not a complete"),
        ("nonsense", "not a complete"),
        ('{"format": 1, "schema": 1}', "not a complete"),
        ('{"format": 1, "schema": 1, "files": {}}', "not a complete"),
        ('{"format": 1, "schema": 1, "files": {"relay.db": 1}}', "not a complete"),
        ('{"format": 1, "schema": 1, "files": {"relay.db": 5, "relay.key": 32}}', "not a complete"),
        ('{"format": 1, "schema": 1, "files": {"relay.db": 5}}', "not a complete"),
        ('{"format": 2, "schema": 1, "files": {"relay.db": 5}}', "newer"),
        ('{"format": 1, "schema": 9, "files": {"relay.db": 5}}', "newer"),
    ],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, manifest: str | None, match: str) -> None:
    (tmp_path / "relay.db").write_bytes(b"five.")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(StoreRefused, match=match):
        backups.restore(tmp_path, tmp_path / "store" / "relay.db")
    assert not (tmp_path / "store").exists()


async def test_the_manifest_says_what_is_there(opener: Opener, tmp_path: Path) -> None:
    await (await opener.open()).close()
    backups.backup(opener.path, tmp_path / "backup", clock=opener.clock)
    manifest = json.loads((tmp_path / "backup" / "manifest.json").read_text())
    size = (tmp_path / "backup" / "relay.db").stat().st_size
    assert manifest == {"format": 1, "schema": 1, "made": opener.clock() // 1000, "files": {"relay.db": size}}
    db = apsw.Connection(str(tmp_path / "backup" / "relay.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()
