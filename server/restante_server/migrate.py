"""``restante migrate``: which stores are meant, and what came of it."""

import contextlib
from pathlib import Path
from typing import Final

from restante_server.stores.migration import Portable, Summary, migrate
from restante_server.stores.redis_address import is_redis, parse_redis
from restante_server.stores.redis_portable import RedisPortable
from restante_server.stores.sqlite_portable import SqlitePortable

_PLURALS: Final = {
    "mailbox": "mailboxes",
    "address": "addresses",
    "entry": "entries",
    "fence": "fences",
    "pool": "prekey pools",
    "slot": "slots",
    "code": "invite codes",
}


async def run(source: str, target: str, *, accept_loss: bool = False) -> Summary:
    """Migrate from one store to another, each sqlite:PATH or the URL of a Redis store.

    Raises:
        StoreRefused: one of them cannot be used; the text says why.
    """
    async with contextlib.AsyncExitStack() as stack:
        opened = [
            await _open(stack, each, create=number == 1, accept_loss=accept_loss)
            for number, each in enumerate((source, target))
        ]
        return await migrate(*opened)


async def _open(stack: contextlib.AsyncExitStack, name: str, *, create: bool, accept_loss: bool) -> Portable:
    if is_redis(name):
        shared = await RedisPortable.open(parse_redis(name), accept_loss=accept_loss)
        stack.push_async_callback(shared.close)
        return shared
    portable = SqlitePortable.open(Path(name.removeprefix("sqlite:")), create=create)
    stack.callback(portable.close)
    return portable


def describe(summary: Summary) -> str:
    """Return the counts and the digest for the operator."""
    counts = ", ".join(f"{summary.counts[kind]} {name}" for kind, name in _PLURALS.items())
    return f"{counts}; digest {summary.digest:064x}"
