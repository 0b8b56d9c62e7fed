"""Invite codes on their way from ``restante admit`` to a relay: it finds their hashes beside its store.

A letter is when the codes were made (Unix seconds, 8 bytes), then their hashes. Whoever is stopped between putting
codes in and removing their letter finds it again: a store leaves a code that it knows as it is, and keeps it, used up
or not, until it is void, which is counted from when it was made. So a letter can come in any number of times, to any
number of relays, at any time.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from restante_protocol import ids
from restante_server import letters
from restante_server.clock import Clock
from restante_server.config import CODE_LIFETIME
from restante_server.services.admission import code_hash, new_code
from restante_server.stores.contract import Store

_KIND: Final = "codes"
_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Letter:
    """Where it is, when its codes were made (Unix seconds), and their hashes."""

    path: Path
    made: int
    hashes: tuple[bytes, ...]


def leave(store: Path, count: int, now: int) -> list[str]:
    """Make codes, now (Unix milliseconds), and leave their hashes for the relay of this store. Raises OSError."""
    codes = [new_code() for _ in range(count)]
    made = (now // 1000).to_bytes(_TIME_BYTES, "big")
    letters.leave(store, _KIND, made + b"".join(code_hash(code.encode()) for code in codes))
    return codes


def find(store: Path) -> list[Letter]:
    """Return the letters that wait beside the store."""
    return [
        Letter(
            path,
            int.from_bytes(data[:_TIME_BYTES], "big"),
            tuple(data[i : i + ids.DIGEST_BYTES] for i in range(_TIME_BYTES, len(data), ids.DIGEST_BYTES)),
        )
        for path, data in letters.find(store, _KIND)
    ]


async def collect(path: Path, store: Store, clock: Clock) -> None:
    """Put the hashes that wait beside a store into it, but those that are void, and remove their letters."""
    for letter in await asyncio.to_thread(find, path):
        lifetime = letter.made + CODE_LIFETIME - clock() // 1000
        if lifetime > 0:
            await store.add_codes(letter.hashes, lifetime)
        await asyncio.to_thread(letter.path.unlink, missing_ok=True)
