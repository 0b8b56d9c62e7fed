"""Blobs in a folder: whole or not at all, durable before they are there, and never changed."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from restante_server.stores.blob_folder import BlobFolder
from restante_server.stores.blobs import HEAD_BYTES, BlobHead
from restante_server.stores.contract import StoreFull, StoreRefused, StoreUnavailable
from support.stores import identifier

BLOB, OTHER = identifier("blob", 1), identifier("blob", 2)
HEAD = BlobHead(1_900_000_000, bytes(range(32)), 6)


@pytest.fixture
async def folder(tmp_path: Path) -> BlobFolder:
    return await BlobFolder.open(tmp_path / "blobs")


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def store(folder: BlobFolder, blob: bytes = BLOB, body: bytes = b"sealed", head: BlobHead = HEAD) -> bool:
    upload = await folder.begin(blob, head)
    await upload.write(body[:2])
    await upload.write(body[2:])
    stored = await upload.commit()
    await upload.abort()
    return stored


async def test_a_blob_is_there_as_it_was_given(folder: BlobFolder, tmp_path: Path) -> None:
    assert await folder.head(BLOB) is None
    assert await folder.read(BLOB, 0, 9) is None
    assert await store(folder)
    assert await folder.head(BLOB) == HEAD
    assert [await folder.read(BLOB, *part) for part in ((0, 9), (2, 3), (6, 1))] == [b"sealed", b"ale", b""]
    assert await folder.list() == {BLOB: 6}
    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


async def test_what_is_not_committed_leaves_nothing(folder: BlobFolder, tmp_path: Path) -> None:
    upload = await folder.begin(BLOB, HEAD)
    await upload.write(b"sea")
    assert await folder.head(BLOB) is None
    await upload.abort()
    assert files(tmp_path) == []


async def test_a_deleted_blob_is_gone_and_may_be_stored_again(folder: BlobFolder, tmp_path: Path) -> None:
    await store(folder)
    await folder.delete(BLOB)
    await folder.delete(BLOB)
    assert files(tmp_path) == []
    assert await store(folder)


async def test_relays_share_a_folder(folder: BlobFolder, tmp_path: Path) -> None:
    second = await BlobFolder.open(tmp_path / "blobs")
    await store(folder)
    assert await second.read(BLOB, 0, 9) == b"sealed"
    await second.settle(BLOB)
    await second.delete(BLOB)
    assert await folder.list() == {}


async def test_what_is_no_blob_is_not_taken_for_one(folder: BlobFolder, tmp_path: Path) -> None:
    await store(folder)
    (path,) = files(tmp_path)
    for data in (b"", bytes(HEAD_BYTES + 5)):
        path.write_bytes(data)
        assert await folder.head(BLOB) is None
    path.with_name("stray").touch()
    assert await folder.list() == {BLOB: 5}


async def test_a_name_comes_after_the_content_and_before_the_answer(
    folder: BlobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the calls that make a blob survive a loss of power at any moment."""
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        (path,) = (each for each in tmp_path.rglob("*") if os.path.samestat(each.stat(), os.fstat(descriptor)))
        steps.append(f"sync {path.relative_to(tmp_path)}")
        fsync(descriptor)

    def linked(source: Path, target: Path) -> None:
        steps.append(f"link {target.relative_to(tmp_path)}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    await store(folder)
    bucket = f"blobs/{BLOB[:1].hex()}"
    assert steps[0].startswith("sync blobs/new/")
    assert steps[1:] == [f"link {bucket}/{BLOB.hex()}", f"sync {bucket}", "sync blobs"]
    steps.clear()
    await folder.settle(BLOB)
    assert steps == [f"sync {bucket}", "sync blobs"], "nor is a blob of somebody else's called stored before that"
    await folder.delete(BLOB)
    assert steps[2:] == [f"sync {bucket}"]


async def test_after_a_failed_sync_nothing_more_is_promised(
    folder: BlobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> None:
        raise OSError(errno.EIO, "")

    upload = await folder.begin(BLOB, HEAD)
    await upload.write(b"sealed")
    with monkeypatch.context() as patch:
        patch.setattr("restante_server.stores.blob_folder.sync_folder", broken)
        with pytest.raises(StoreUnavailable):
            await upload.commit()
    with pytest.raises(StoreUnavailable):
        await folder.settle(BLOB)
    with pytest.raises(StoreUnavailable):
        await folder.begin(OTHER, HEAD)
    assert await folder.read(BLOB, 0, 9) == b"sealed", "reading goes on"
    again = await BlobFolder.open(tmp_path / "blobs")
    await again.settle(BLOB)


async def test_a_full_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 32 * 1024 * 1024 + 6
    folder = await BlobFolder.open(tmp_path / "blobs", free_bytes=lambda: free)
    await store(folder)
    free -= 1
    with pytest.raises(StoreFull):
        await folder.begin(OTHER, HEAD)
    free += 1
    upload = await folder.begin(OTHER, HEAD)

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(StoreFull):
            await upload.commit()
    await upload.abort()
    assert len(files(tmp_path)) == 1
    assert await folder.read(BLOB, 0, 9) == b"sealed"


async def test_what_a_crash_left_is_removed_when_nobody_can_be_writing_it(folder: BlobFolder, tmp_path: Path) -> None:
    for name, age in (("old", 20_000), ("fresh", 60)):
        path = tmp_path / "blobs" / "new" / name
        path.touch()
        before = path.stat().st_mtime - age
        os.utime(path, (before, before))
    assert await folder.list() == {}
    assert [path.name for path in files(tmp_path)] == ["fresh"]


async def test_a_file_system_without_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_: Path, __: Path) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", unsupported)
    with pytest.raises(StoreRefused, match="not supported"):
        await BlobFolder.open(tmp_path / "blobs")
    assert files(tmp_path) == []


async def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "file").touch)
    with pytest.raises(StoreRefused, match="folder for blobs"):
        await BlobFolder.open(tmp_path / "file" / "blobs")
