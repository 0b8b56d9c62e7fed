"""Blobs as files of one folder: ``BUCKET/ID``, and ``new`` for what is on its way in.

An upload is written and synced under a random name, linked to its own, and the folders are synced: after a power loss a
blob is there as a whole or not at all. A link is made only if there is none of this name, so a blob never changes.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Protocol, Self, TypeVar

import structlog

from restante_protocol import ids, limits
from restante_server.stores.blobs import HEAD_BYTES, BlobHead
from restante_server.stores.contract import StoreFull, StoreRefused, StoreUnavailable
from restante_server.stores.sqlite_schema import sync_folder
from restante_server.stores.sqlite_writer import LEAST_FREE_BYTES

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ABANDONED: Final = 2 * (limits.BLOB_PATIENCE + limits.MAX_BLOB_BYTES // limits.BLOB_LEAST_RATE)
"""Seconds after which a file that no transfer may still be writing is removed."""
T = TypeVar("T")
_log = structlog.get_logger("blobs")


class BlobFolder:
    """Blobs in a folder, which any number of relays may share."""

    def __init__(self, root: Path, free_bytes: Callable[[], int]) -> None:
        self._root = root
        self._free_bytes = free_bytes
        self._new = root / "new"
        self._unsure = False  # a sync has failed: what is on the disk is unknown until the next start

    @classmethod
    async def open(cls, root: Path, *, free_bytes: Callable[[], int] | None = None) -> Self:
        """Open or create the folder, with mode 0700. ``free_bytes``: of the file system; by default asks it.

        Raises:
            StoreRefused: it cannot be used.
        """
        folder = cls(root, free_bytes or (lambda: shutil.disk_usage(root).free))
        try:
            await asyncio.to_thread(folder._prepare)
        except OSError as error:
            raise StoreRefused(f"the folder for blobs cannot be used: {error.strerror}") from None
        return folder

    def _prepare(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._new.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._root)
        sync_folder(self._root.parent)
        trial = self._new / os.urandom(16).hex()  # some file systems have no links, and no blob could be stored there
        linked = trial.with_suffix(".link")
        trial.touch(0o600)
        try:
            os.link(trial, linked)
            linked.unlink()
        finally:
            trial.unlink()

    def _path(self, blob: bytes) -> Path:
        return self._root / blob[:1].hex() / blob.hex()

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(function)
        except OSError as error:
            raise (StoreFull if error.errno in _FULL else StoreUnavailable) from None

    async def head(self, blob: bytes) -> BlobHead | None:
        """See contract."""
        return await self._run(lambda: self._head(blob))

    async def heads(self, blobs: Sequence[bytes]) -> Sequence[BlobHead | None]:
        """See contract."""
        return await self._run(lambda: [self._head(blob) for blob in blobs])

    def _head(self, blob: bytes) -> BlobHead | None:
        try:
            with self._path(blob).open("rb") as file:
                return BlobHead.decode(file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size)
        except FileNotFoundError:
            return None

    async def settle(self, blob: bytes) -> None:
        """See contract: its contents were synced before it got its name."""
        await self._run(lambda: self._sync(blob))

    async def read(self, blob: bytes, start: int, size: int) -> bytes | None:
        """See contract."""

        def run() -> bytes | None:
            try:
                with self._path(blob).open("rb") as file:
                    file.seek(HEAD_BYTES + start)
                    return file.read(size)
            except FileNotFoundError:
                return None

        return await self._run(run)

    async def begin(self, blob: bytes, head: BlobHead) -> "_Upload":
        """See contract."""
        if self._unsure:
            raise StoreUnavailable
        path = self._new / os.urandom(16).hex()

        def start() -> IO[bytes]:
            if self._free_bytes() < head.size + LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, "")
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            file.write(head.encode())
            return file

        return _Upload(await self._run(start), path, self._run, lambda: self._publish(blob, path))

    async def delete(self, blob: bytes) -> None:
        """See contract."""

        def run() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._path(blob).unlink()
                sync_folder(self._path(blob).parent)  # what was deleted does not come back

        await self._run(run)

    async def list(self) -> Mapping[bytes, int]:
        """See contract."""
        return await self._run(self._list)

    def _list(self) -> Mapping[bytes, int]:
        found = {}
        for folder in os.scandir(self._root):
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = entry.stat()
                    if folder.name == self._new.name:
                        if time.time() - status.st_mtime > _ABANDONED:
                            Path(entry.path).unlink()
                    elif len(entry.name) == 2 * ids.ID_BYTES:
                        found[bytes.fromhex(entry.name)] = status.st_size - HEAD_BYTES
        return found

    def _publish(self, blob: bytes, written: Path) -> bool:
        """Give a file that was synced its name; False if another has it."""
        path = self._path(blob)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.link(written, path)
        except FileExistsError:
            self._sync(blob)
            return False
        finally:
            written.unlink()
        self._sync(blob)
        return True

    def _sync(self, blob: bytes) -> None:
        """Make names durable. After a failure no name is trusted: a second sync might hide it."""
        if self._unsure:
            raise OSError(errno.EIO, "")
        try:
            sync_folder(self._path(blob).parent)
            sync_folder(self._root)
        except OSError:
            self._unsure = True
            _log.warning("a sync of the blobs failed: no more uploads")
            raise


def copy_blobs(source: Path, destination: Path, wanted: Callable[[bytes], bool] = lambda _blob: True) -> list[Path]:
    """Put what is in one folder of blobs into another, durably; return the files there. Either may be in use.

    Only blobs whose ids are wanted. Those that the destination has stay as they are. On one file system nothing is
    copied: a blob never changes.
    """
    copied = []
    new = destination / "new"
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.mkdir(mode=0o700, exist_ok=True)
    for path in sorted(each for each in source.glob("??/*") if wanted(bytes.fromhex(each.name))):
        target = destination / path.parent.name / path.name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = new / os.urandom(16).hex()
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            _link_or_copy(path, temporary)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, target)
            temporary.unlink()
            copied.append(target)
    for folder in {path.parent for path in copied}:
        sync_folder(folder)
    sync_folder(destination)
    sync_folder(destination.parent)
    return copied


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        target.touch(0o600)
        shutil.copyfile(source, target)
        with target.open("rb+") as file:
            os.fsync(file.fileno())


class _Run(Protocol):
    """Runs what blocks, in a thread."""

    async def __call__(self, function: Callable[[], T], /) -> T:
        """Raise StoreFull or StoreUnavailable for an OSError."""
        ...


class _Upload:
    """See ``blobs.Upload``."""

    def __init__(self, file: IO[bytes], path: Path, run: _Run, publish: Callable[[], bool]) -> None:
        self._file = file
        self._path = path
        self._run = run
        self._publish = publish

    async def write(self, data: bytes) -> None:
        """See contract."""
        await self._run(lambda: self._file.write(data))

    async def commit(self) -> bool:
        """See contract."""

        def run() -> bool:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            return self._publish()

        return await self._run(run)

    async def abort(self) -> None:
        """See contract."""

        def run() -> None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._path.unlink(missing_ok=True)

        await self._run(run)
