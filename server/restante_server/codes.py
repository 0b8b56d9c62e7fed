"""Invite codes on their way from ``restante admit`` to a relay: it finds their hashes beside its store."""

import asyncio
from pathlib import Path
from typing import Final

from restante_protocol import ids
from restante_server import letters
from restante_server.config import CODE_LIFETIME
from restante_server.services.admission import code_hash, new_code
from restante_server.stores.contract import Store, StoreRefused
from restante_server.stores.sqlite_schema import lock

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


async def collect(path: Path, store: Store) -> None:
    """Put the hashes that wait beside a store into it and remove their files, one relay of a folder at a time.

    A code that was put in by two relays could be used twice. After a crash between the two it is put in again.
    """
    try:
        held = await asyncio.to_thread(lock, path.with_name(f"{path.name}.{_KIND}"))
    except StoreRefused:
        return  # another relay is at it
    with held:
        for letter, hashes in await asyncio.to_thread(find, path):
            await store.add_codes(hashes, CODE_LIFETIME)
            await asyncio.to_thread(letter.unlink, missing_ok=True)
