"""A file layer for SQLite over a disk that the test makes full or broken."""

import apsw


class BrokenDiskFile(apsw.VFSFile):
    """A file on this disk."""

    def __init__(self, vfs: "BrokenDiskVfs", name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(vfs.base, name, flags)
        self._vfs = vfs

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- SQLite's name
        if self._vfs.full and offset + len(data) > super().xFileSize():
            raise apsw.FullError
        super().xWrite(data, offset)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 -- SQLite's name
        if self._vfs.unreadable:
            raise apsw.IOError
        return super().xRead(amount, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 -- SQLite's name
        if self._vfs.unsyncable:
            raise apsw.IOError
        super().xSync(flags)


class BrokenDiskVfs(apsw.VFS):
    """The layer.

    Attributes:
        name: by which SQLite knows it.
        base: of the layer below, empty for the system's.
        full: no file can grow.
        unreadable: reading fails.
        unsyncable: syncing fails.
    """

    def __init__(self, name: str, base: str = "") -> None:
        self.name = name
        self.base = base
        self.full = False
        self.unreadable = False
        self.unsyncable = False
        super().__init__(name, base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> BrokenDiskFile:  # noqa: N802 -- SQLite's name
        return BrokenDiskFile(self, name, flags)
