"""Letters: small files that commands leave beside the store for its relay, which may be running or not.

The relay takes them within seconds, or at its next start. So a command needs neither the store's lock nor an open port.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from restante_server.stores.sqlite_schema import write_durably

_UNFINISHED: Final = ".new"


def leave(store: Path, kind: str, data: bytes) -> None:
    """Leave a letter of this kind for the relay of this store. Raises OSError."""
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(store.with_name(f"{store.name}.{kind}-{os.urandom(8).hex()}"), data)


def find(store: Path, kind: str) -> list[tuple[Path, bytes]]:
    """Return the letters of this kind that wait, oldest first, and what is in each."""
    found: list[tuple[int, Path, bytes]] = []
    for path in store.parent.glob(f"{store.name}.{kind}-*"):
        if path.suffix != _UNFINISHED:
            with contextlib.suppress(FileNotFoundError):  # another relay of the same folder has taken it
                found.append((path.stat().st_mtime_ns, path, path.read_bytes()))
    return [(path, data) for _, path, data in sorted(found)]


def name(path: Path) -> str:
    """Return what names this letter alone: 16 random hexadecimal digits."""
    return path.name.rpartition("-")[2]
