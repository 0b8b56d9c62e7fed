"""Writing a Redis or Valkey server's files anew, so that they hold nothing that was deleted before."""

import asyncio
from typing import Final

import hiredis

from restante_server.stores.contract import StoreUnavailable
from restante_server.stores.redis_durability import info
from restante_server.stores.redis_link import Link, LinkLost

_LOOK_SECONDS: Final = 0.05  # between looks at a rewrite that is under way
_BUSY: Final = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")


async def rewrite(link: Link) -> None:
    """Rewrite the server's log and its dump, and wait for both. Raises StoreUnavailable if the server refuses."""
    try:
        for command in (("BGREWRITEAOF",), ("BGSAVE",)):
            await _idle(link)  # one that runs already may have begun too early
            (reply,) = await link.call([command])
            if isinstance(reply, hiredis.ReplyError):
                raise StoreUnavailable("the server does not rewrite its files")
        await _idle(link)
    except LinkLost:
        raise StoreUnavailable from None


async def _idle(link: Link) -> None:
    while True:
        (reply,) = await link.call([("INFO", "persistence")])
        if isinstance(reply, hiredis.ReplyError):
            raise StoreUnavailable("the server does not tell of its files")
        facts = info(reply)
        if not any(int(facts.get(name, 0)) for name in _BUSY):
            return
        await asyncio.sleep(_LOOK_SECONDS)
