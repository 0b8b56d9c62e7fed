"""A file layer for SQLite that loses power: writes that were not synced are lost, kept or torn, as real disks do."""

from pathlib import Path
from random import Random

import apsw

SECTOR = 512


class PowerLossFile(apsw.VFSFile):
    """A file whose unsynced writes are kept apart."""

    def __init__(self, vfs: "PowerLossVfs", name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(vfs.base, name, flags)
        self._vfs = vfs
        self._name = Path(name if isinstance(name, str) else name.filename()).name if name else ""

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- SQLite's name
        self._vfs.step()
        super().xWrite(data, offset)
        self._vfs.unsynced.setdefault(self._name, []).append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 -- SQLite's name
        self._vfs.step()
        super().xTruncate(newsize)
        self._vfs.unsynced.setdefault(self._name, []).append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802 -- SQLite's name
        self._vfs.step()
        super().xSync(flags)
        image = self._vfs.synced.setdefault(self._name, bytearray())
        for write in self._vfs.unsynced.pop(self._name, []):
            apply(image, *write)
        self._vfs.step()


class PowerLossVfs(apsw.VFS):
    """The layer: it fails at the n-th operation and keeps what the disk held then.

    Attributes:
        name: by which SQLite knows it.
        base: of the layer below, empty for the system's.
        synced: by file name, the bytes that survive.
        unsynced: by file name, writes since the last sync: (offset, bytes), or (size, None) for a truncation.
        lost: the power is off.
    """

    def __init__(self, name: str, operations: int, base: str = "") -> None:
        self.name = name
        self.base = base
        self.synced: dict[str, bytearray] = {}
        self.unsynced: dict[str, list[tuple[int, bytes | None]]] = {}
        self.lost = False
        self._left = operations
        super().__init__(name, base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> PowerLossFile:  # noqa: N802 -- SQLite's name
        return PowerLossFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 -- SQLite's name
        self.step()
        super().xDelete(filename, syncdir)
        self.synced.pop(Path(filename).name, None)
        self.unsynced.pop(Path(filename).name, None)

    def step(self) -> None:
        """Count an operation; raise once the power is off."""
        self._left -= 1
        if self._left <= 0:
            self.lost = True
            raise apsw.IOError

    def load(self, folder: Path) -> None:
        """Take over files that are on the disk already."""
        for path in (folder / "relay.db", folder / "relay.db-wal"):
            if path.exists():
                self.synced[path.name] = bytearray(path.read_bytes())

    def survivors(self, random: Random) -> dict[str, bytes]:
        """Return what the disk holds after the loss: of what was not synced, any part."""
        images = {}
        for name in self.synced.keys() | self.unsynced.keys():
            image = bytearray(self.synced.get(name, b""))
            for offset, data in self.unsynced.get(name, []):
                fate = random.random()
                if fate < 0.4:
                    apply(image, offset, data)
                elif fate < 0.6 and data is not None:
                    for start in range(0, len(data), SECTOR):  # torn
                        if random.random() < 0.5:
                            apply(image, offset + start, data[start : start + SECTOR])
            images[name] = bytes(image)
        return images


def apply(image: bytearray, offset: int, data: bytes | None) -> None:
    """Write to an image of a file, or truncate it to ``offset``."""
    if data is None:
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data
