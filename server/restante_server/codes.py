"""Invite codes on their way from ``restante admit`` to a relay, which may be running or not.

The command leaves the codes' hashes in a file beside the store; the relay moves them into its store within seconds, or
at its next start. So the command needs neither the store's lock nor an open port.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from restante_protocol import ids
from restante_server.config import CODE_LIFETIME
from restante_server.services.admission import code_hash, new_code
from restante_server.stores.contract import Store
from restante_server.stores.sqlite_schema import write_durably

_SUFFIX: Final = ".codes-"


def leave(store: Path, count: int) -> list[str]:
    """Make codes and leave their hashes for the relay of this store; return the codes. Raises OSError."""
    codes = [new_code() for _ in range(count)]
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = store.with_name(f"{store.name}{_SUFFIX}{os.urandom(8).hex()}")
    write_durably(path, b"".join(code_hash(code.encode()) for code in codes))
    return codes


def find(store: Path) -> list[tuple[Path, list[bytes]]]:
    """Return the files that wait beside the store, and the hashes in each."""
    found = []
    for path in store.parent.glob(f"{store.name}{_SUFFIX}*"):
        if path.suffix == ".new":
            continue  # not yet complete
        data = path.read_bytes()
        found.append((path, [data[i : i + ids.DIGEST_BYTES] for i in range(0, len(data), ids.DIGEST_BYTES)]))
    return found


async def collect(found: list[tuple[Path, list[bytes]]], store: Store) -> None:
    """Put the hashes into the store and remove their files; a crash between the two does no harm."""
    for path, hashes in found:
        await store.add_codes(hashes, CODE_LIFETIME)
        await asyncio.to_thread(path.unlink, missing_ok=True)
