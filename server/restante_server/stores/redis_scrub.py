"""Writing a Redis or Valkey server's files anew, so that they hold nothing that was deleted before."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import hiredis

from restante_server.stores.contract import StoreUnavailable
from restante_server.stores.redis_address import Host
from restante_server.stores.redis_durability import info
from restante_server.stores.redis_link import Link, LinkLost

_WAIT_MILLISECONDS: Final = 1000  # for replicas to have what the master has
_LOOK_SECONDS: Final = 0.05  # between looks at a rewrite that is under way
_BUSY: Final = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")


async def rewrite_all(link: Link, connect: Callable[[Host], Awaitable[Link]]) -> None:
    """Rewrite the files of a master and of all its replicas.

    Raises:
        StoreUnavailable: one of them does not answer, refuses, or is behind: what it would keep is unknown.
    """
    try:
        (reply,) = await link.call([("INFO", "replication")])
        if isinstance(reply, hiredis.ReplyError):
            raise StoreUnavailable("the server does not tell of its replicas")
        replicas = _replicas(info(reply))
        (behind,) = await link.call([("WAIT", len(replicas), _WAIT_MILLISECONDS)])
        if behind != len(replicas):
            raise StoreUnavailable("a replica is behind")
        await rewrite(link)
        for host in replicas:
            replica = await connect(host)
            try:
                await rewrite(replica)
            finally:
                replica.close()
    except (LinkLost, OSError):
        raise StoreUnavailable from None


def _replicas(facts: Mapping[str, str]) -> list[Host]:
    """Return where the replicas are that a master tells of: slave0:ip=127.0.0.1,port=6380,state=online,..."""
    found = []
    for name, value in facts.items():
        if name.startswith("slave") and name[5:].isdigit():
            told = dict(each.partition("=")[::2] for each in value.split(","))
            found.append((told["ip"], int(told["port"])))
    return found


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
