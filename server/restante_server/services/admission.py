"""Invite codes for relays whose mailboxes are not open to everybody. Only their hashes are stored."""

import base64
import os
from pathlib import Path

from restante_crypto import proofs

from restante_server.services.requests import CODE_LIFETIME
from restante_server.stores.sqlite import SqliteStore

_CODE_BYTES = 15


async def make_codes(store: Path, count: int) -> list[str]:
    """Make codes and store their hashes. Raises StoreRefused if a relay is using the store."""
    codes = [base64.b32encode(os.urandom(_CODE_BYTES)).decode().lower() for _ in range(count)]
    opened = await SqliteStore.open(store, digest=proofs.body_digest)
    try:
        await opened.add_codes([proofs.body_digest(code.encode()) for code in codes], CODE_LIFETIME)
    finally:
        await opened.close()
    return codes
