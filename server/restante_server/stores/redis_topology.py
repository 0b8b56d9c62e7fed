"""Which master holds which bucket: one server, the one that sentinels name, or a cluster's."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import hiredis
from redis.crc import key_slot

from restante_server.stores.redis_address import Host, RedisAddress
from restante_server.stores.redis_link import Link, LinkLost

_PATIENCE: Final = 1.0  # seconds for one server to describe the cluster

HostOf = Callable[[int], Host | None]
"""The master of a bucket, if it is known."""


async def find_masters(address: RedisAddress, links: Iterable[Link], known: Iterable[Host]) -> HostOf:
    """Ask who holds what; the open links first. Raises LinkLost if nobody answers."""
    match address.kind:
        case "single":
            host = address.hosts[0]
        case "sentinel":
            host = await _ask_sentinels(address)
        case "cluster":
            return await _ask_cluster(address, links, [*known, *address.hosts])
    return lambda _bucket: host


async def _ask_sentinels(address: RedisAddress) -> Host:
    """Ask one after the other, as a client of sentinels does; that it is a master is checked when it is connected."""
    why = "no answer"
    for sentinel in address.hosts:
        try:
            async with asyncio.timeout(_PATIENCE):
                link = await Link.open(address.sentinels(), sentinel)
                try:
                    (reply,) = await link.call([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.service)])
                finally:
                    link.close()
        except (LinkLost, OSError, TimeoutError) as error:
            why = str(error) or why
            continue
        if isinstance(reply, list):
            host, port = reply
            return host.decode(), int(port)
        why = str(reply) if isinstance(reply, hiredis.ReplyError) else "they do not know it"
    raise LinkLost(f"no sentinel names a master: {why}")


class _NoClusterError(LinkLost):
    """A server answers that is no node of a cluster."""


async def _ask_cluster(address: RedisAddress, links: Iterable[Link], hosts: Iterable[Host]) -> HostOf:
    why = LinkLost("no node of the cluster answers")
    for link in links:
        if not link.lost:
            try:
                return await _slots(link)
            except (LinkLost, TimeoutError):
                continue
    for host in dict.fromkeys(hosts):
        try:
            link = await Link.open(address, host)
        except (LinkLost, OSError):
            continue
        try:
            return await _slots(link)
        except _NoClusterError as error:
            why = error
        except (LinkLost, TimeoutError):
            continue
        finally:
            link.close()
    raise why


async def _slots(link: Link) -> HostOf:
    async with asyncio.timeout(_PATIENCE):
        (reply,) = await link.call([("CLUSTER", "SLOTS")])
    if not isinstance(reply, list):
        raise _NoClusterError("this server is no cluster: its URL begins with redis://")
    ranges: list[tuple[int, int, Host]] = [
        (first, last, ((master[0] or b"").decode() or link.host[0], master[1])) for first, last, master, *_ in reply
    ]

    def host_of(bucket: int) -> Host | None:
        slot = key_slot(str(bucket).encode())
        return next((host for first, last, host in ranges if first <= slot <= last), None)

    return host_of
