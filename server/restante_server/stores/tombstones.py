"""Tombstones beside the store: a list that only grows, for when the store itself is lost or put back from a copy.

A record is a tombstone's id (24 bytes, ``backup.tombstone_id``) and when it was made (Unix seconds, 8 bytes): it names
nothing to who does not have both the relay's key and the id of what was erased. A part of a record at the end is what a
crash left.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from restante_protocol import ids
from restante_server.config import TOMBSTONE_LIFETIME
from restante_server.stores.sqlite_schema import sync_folder, write_durably

NAME: Final = "relay.tombstones"
TIME_BYTES: Final = 8
_RECORD_BYTES: Final = ids.ID_BYTES + TIME_BYTES


class Journal:
    """The list in one file, mode 0600. Several processes may append to it."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of the relay's key; nothing is read or made yet."""
        self._path = folder / NAME

    def read(self) -> Mapping[bytes, int]:
        """Return when each tombstone was made last. Raises OSError."""
        data = self._path.read_bytes() if self._path.exists() else b""
        records = [data[i : i + _RECORD_BYTES] for i in range(0, len(data) - _RECORD_BYTES + 1, _RECORD_BYTES)]
        return {each[: ids.ID_BYTES]: int.from_bytes(each[ids.ID_BYTES :], "big") for each in records}

    def tidy(self, now: int) -> Mapping[bytes, int]:
        """Drop what is older than TOMBSTONE_LIFETIME, and what a crash left; return the rest. Raises OSError."""
        read = self.read()
        kept = {tombstone: made for tombstone, made in read.items() if made + TOMBSTONE_LIFETIME > now}
        if self._path.exists() and self._path.stat().st_size != len(kept) * _RECORD_BYTES:
            write_durably(self._path, b"".join(self._record(*each) for each in kept.items()))
        return kept

    @staticmethod
    def _record(tombstone: bytes, made: int) -> bytes:
        return tombstone + made.to_bytes(TIME_BYTES, "big")

    def add(self, tombstone: bytes, made: int) -> None:
        """Append a tombstone, durably. Raises OSError."""
        fresh = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, self._record(tombstone, made))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            sync_folder(self._path.parent)
