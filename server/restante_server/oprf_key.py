"""The directory's secret: a file of its own, outside store and backups. Without it the store says nothing about names.

It gives the PRF's keys, and all that the relay keeps of the directory is under it: ids and marks are keyed hashes, and
who holds what is sealed. So a stolen store or backup does not say who has an entry, nor which records are decoys.
All relays over one store need the same file; that they have it is seen by the public keys, which the store publishes.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from restante_crypto import directory, oprf, primitives
from restante_protocol import ids, limits
from restante_server.stores.contract import StoreRefused
from restante_server.stores.sqlite_schema import sync_folder, write_durably

NAME: Final = "oprf.key"
MARK_BYTES: Final = 16
_NONCE: Final = primitives.XCHACHA_NONCE_BYTES
_PERSON: Final = b"restante names"


def _make(path: Path) -> None:
    """Make the file, unless another process is faster: one file, whole, for all of them."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}")
    write_durably(made, os.urandom(directory.SEED_BYTES))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()
    sync_folder(path.parent)


@dataclass(frozen=True, slots=True)
class OprfKey:
    """The secret, and what is derived from it."""

    _seed: bytes = field(repr=False)

    @classmethod
    def open(cls, path: Path, *, make: bool) -> Self:
        """Read the file, or make it (mode 0600).

        Raises:
            StoreRefused: it is no key of 32 bytes, or it is not there and not to be made.
        """
        if not path.exists():
            if not make:
                raise StoreRefused(
                    f"{path} is not there, and the store has a directory under such a key: bring the file that the "
                    "other relays have, or, if it is lost for good, begin an empty directory with --new-oprf-key"
                )
            _make(path)
        seed = path.read_bytes()
        if len(seed) != directory.SEED_BYTES:
            raise StoreRefused(f"{path} is not a key of {directory.SEED_BYTES} bytes")
        return cls(seed)

    def public(self) -> dict[str, str]:
        """Return what is published: by kind, the public key, hexadecimal."""
        return {kind.name.lower(): self.pair(kind).public.hex() for kind in directory.Kind}

    def pair(self, kind: directory.Kind) -> oprf.KeyPair:
        """Return the PRF's key pair for a kind."""
        return directory.key_pair(self._seed, kind)

    def slot(self, what: str, name: bytes, bucket: int = 0) -> bytes:
        """Return the id of a slot of the relay: what is in it, and of whom or what, hashed under the secret."""
        return bytes((bucket,)) + self._hash(f"slot {what}", name, ids.ID_BYTES - 1)

    def mark(self, what: str, *parts: bytes) -> bytes:
        """Return 16 bytes that stand for parts, each below 64 KiB, and say nothing of them."""
        return self._hash(f"mark {what}", b"".join(len(part).to_bytes(2, "big") + part for part in parts), MARK_BYTES)

    def seal(self, slot: bytes, plain: bytes) -> bytes:
        """Return what a slot of the relay has as body: 40 bytes longer."""
        nonce = os.urandom(_NONCE)
        return nonce + primitives.xchacha_seal(self._key("seal"), nonce, plain, slot)

    def open_sealed(self, slot: bytes, body: bytes) -> bytes:
        """Return what was sealed into this slot. Raises ``primitives.AuthenticationError``."""
        return primitives.xchacha_open(self._key("seal"), body[:_NONCE], body[_NONCE:], slot)

    def decoy_place(self, bucket: int, number: int) -> bytes:
        """Return the place of a decoy, always the same."""
        return self.slot("decoy", bytes((bucket,)) + number.to_bytes(2, "big"), bucket)

    def decoy_record(self, place: bytes) -> bytes:
        """Return a record that nobody can tell from a sealed one."""
        return primitives.shake256(self._key("record") + place, limits.DIRECTORY_RECORD_BYTES)

    def _key(self, what: str) -> bytes:
        return primitives.blake2b(what.encode(), size=32, person=_PERSON, key=self._seed)

    def _hash(self, what: str, name: bytes, size: int) -> bytes:
        return primitives.blake2b(name, size=size, person=_PERSON, key=self._key(what))
