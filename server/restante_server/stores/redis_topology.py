"""Which master holds which bucket: one server, the one that sentinels name, or a cluster's."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot
from redis.exceptions import RedisError

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
    secure = {"ssl": True, "ssl_ca_certs": address.ca_file or None} if address.tls else {}
    sentinel = Sentinel(address.hosts, socket_timeout=_PATIENCE, **secure)  # type: ignore[no-untyped-call]
    try:
        host, port = await sentinel.discover_master(address.service)
    except (RedisError, OSError) as error:
        raise LinkLost(f"no sentinel names a master ({type(error).__name__})") from None
    finally:
        for client in sentinel.sentinels:
            await client.aclose()
    return str(host), int(port)


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
