"""Invite codes on their way from ``restante admit`` to a relay: it finds their hashes beside its store."""

import asyncio
from pathlib import Path
from typing import Final

from restante_protocol import ids
from restante_server import letters
from restante_server.config import CODE_LIFETIME
from restante_server.services.admission import code_hash, new_code
from restante_server.stores.contract import Store

_KIND: Final = "codes"


def leave(store: Path, count: int) -> list[str]:
    """Make codes and leave their hashes for the relay of this store; return the codes. Raises OSError."""
    codes = [new_code() for _ in range(count)]
    letters.leave(store, _KIND, b"".join(code_hash(code.encode()) for code in codes))
    return codes


def find(store: Path) -> list[tuple[Path, list[bytes]]]:
    """Return the files that wait beside the store, and the hashes in each."""
    return [
        (path, [data[i : i + ids.DIGEST_BYTES] for i in range(0, len(data), ids.DIGEST_BYTES)])
        for path, data in letters.find(store, _KIND)
    ]


async def collect(found: list[tuple[Path, list[bytes]]], store: Store) -> None:
    """Put the hashes into the store and remove their files; a crash between the two does no harm."""
    for path, hashes in found:
        await store.add_codes(hashes, CODE_LIFETIME)
        await asyncio.to_thread(path.unlink, missing_ok=True)
