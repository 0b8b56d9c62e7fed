"""What keeps blobs: the contract that a folder and an object store fulfil alike, and the form of a blob's object.

::

    object = magic (16) ‖ expires, Unix seconds (8) ‖ BLAKE2b-256 of the body (32) ‖ body

So an object says all that is known of it, and any number of relays may share a place without a database. Sizes are
those of bodies. Every method raises StoreUnavailable, and those that store something StoreFull.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

_MAGIC: Final = b"restante blob 1\0"
_EXPIRES_BYTES: Final = 8
HEAD_BYTES: Final = len(_MAGIC) + _EXPIRES_BYTES + 32
FIELDS: Final = ("id", "expires", "digest", "body")
"""What is stored of a blob, for docs/data.md."""


@dataclass(frozen=True, slots=True, repr=False)
class BlobHead:
    """What is known of a blob beside its id: expiry in Unix seconds, digest, size of the body in bytes."""

    expires: int
    digest: bytes
    size: int

    def encode(self) -> bytes:
        """Return the bytes in front of the body."""
        return _MAGIC + self.expires.to_bytes(_EXPIRES_BYTES, "big") + self.digest

    @classmethod
    def decode(cls, data: bytes, size: int) -> Self | None:
        """Return the head of an object of this size; None for what is no blob."""
        if len(data) < HEAD_BYTES or not data.startswith(_MAGIC):
            return None
        rest = data[len(_MAGIC) : HEAD_BYTES]
        return cls(int.from_bytes(rest[:_EXPIRES_BYTES], "big"), rest[_EXPIRES_BYTES:], size - HEAD_BYTES)


def default_blobs(store: Path) -> Path:
    """Return the folder that blobs are in unless the operator names another: beside the database."""
    return store.with_name(store.name + ".blobs")


class Upload(Protocol):
    """A blob on its way in. Either ``commit`` or ``abort`` ends it."""

    async def write(self, data: bytes) -> None:
        """Append a piece."""
        ...

    async def commit(self) -> bool:
        """Make it a blob, durably; False if there is one of this id."""
        ...

    async def abort(self) -> None:
        """Leave nothing of it."""
        ...


class BlobStore(Protocol):
    """Where blobs are kept."""

    async def head(self, blob: bytes) -> BlobHead | None:
        """Return a blob's head; None if there is none."""
        ...

    async def heads(self, blobs: Sequence[bytes]) -> Sequence[BlobHead | None]:
        """Return the heads of some blobs, in order."""
        ...

    async def settle(self, blob: bytes) -> None:
        """Return once a blob that is there will stay there: it may have been stored by somebody else just now."""
        ...

    async def read(self, blob: bytes, start: int, size: int) -> bytes | None:
        """Return bytes of the body, fewer at its end; None if it is gone."""
        ...

    async def begin(self, blob: bytes, head: BlobHead) -> Upload:
        """Begin to store a blob."""
        ...

    async def delete(self, blob: bytes) -> None:
        """Delete a blob, if it exists."""
        ...

    async def list(self) -> Mapping[bytes, int]:
        """Return all ids and the sizes of their bodies. Drops what uploads left behind that ended in a crash."""
        ...
