"""Who the master is: sentinels, with and without passwords of their own, and what does not answer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from restante_server.stores.contract import StoreRefused, StoreUnavailable
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import parse_redis
from support.certificates import Authority
from support.proxies import Proxy
from support.redis_servers import MASTERS, RedisCluster, RedisServer, free_ports
from support.stores import address, bodies, deposit, give_addresses, make_mailbox
from support.waiting import until, until_done


@dataclass
class Watched:
    """A master with a replica, watched by a sentinel."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    def url(self, credentials: str = "", query: str = "") -> str:
        return f"redis+sentinel://{credentials}127.0.0.1:{self.sentinel.port}/mine{query}"


@pytest.fixture
async def watched(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Watched]:
    """All with passwords, if it is asked for: the servers' is another than the sentinel's."""
    give_addresses({})
    secret = bool(getattr(request, "param", False))
    options = ("--requirepass", "servers'", "--masterauth", "servers'") if secret else ()
    master, replica, sentinel = (RedisServer(tmp_path / str(port), port) for port in free_ports(3))
    for server in (master, replica) if secret else ():
        server.options, server.password = options, "servers'"
    config = sentinel.folder / "sentinel.conf"
    lines = [
        f"sentinel monitor mine 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds mine 500",
        "sentinel failover-timeout mine 2000",
    ]
    if secret:
        sentinel.password = "the watcher's"
        lines += [
            'sentinel auth-pass mine "servers\'"',
            'requirepass "the watcher\'s"',
            'user reader on ">read er" ~* &* +@all',
        ]
    config.write_text("\n".join(lines) + "\n")
    try:
        await asyncio.to_thread(master.start)
        await asyncio.to_thread(replica.start, "--replicaof", f"127.0.0.1 {master.port}")
        await until(lambda: replica.command("INFO", "replication")["master_link_status"] == "up")
        await until(lambda: master.command("WAIT", 1, 100) == 1)
        await asyncio.to_thread(sentinel.start_sentinel, config)
        await until(lambda: sentinel.command("SENTINEL MASTER", "mine")["num-slaves"] == 1)
        yield Watched(master, replica, sentinel)
    finally:
        for each in (sentinel, replica, master):
            each.stop()


def _is_master(server: RedisServer) -> bool:
    try:
        return str(server.command("INFO", "replication")["role"]) == "master"
    except redis.exceptions.ConnectionError:  # whom a sentinel promotes, it cuts from its clients
        return False


async def test_sentinels_name_the_master(watched: Watched) -> None:
    master, replica = watched.master, watched.replica
    silent = free_ports(1)[0]
    url = watched.url().replace("://", f"://127.0.0.1:{silent},")  # the next is asked
    store = await RedisStore.open(parse_redis(url))
    assert store.level == "failover"
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)], body=b"before"))
    await asyncio.to_thread(master.kill)
    await until(lambda: _is_master(replica))
    await asyncio.to_thread(master.start, "--replicaof", f"127.0.0.1 {replica.port}")
    await until_done(lambda: store.deposit(deposit(2, [address(1)], body=b"after")), StoreUnavailable)
    assert await bodies(store, 1) == [b"before", b"after"]
    await store.close()


@pytest.mark.parametrize("watched", [True], indirect=True)
async def test_sentinels_have_credentials_of_their_own(watched: Watched) -> None:
    for query, text in (
        ("", "NOAUTH"),
        ("?sentinel_password=servers'", "WRONGPASS"),
        ("?sentinel_username=nobody&sentinel_password=the%20watcher's", "WRONGPASS"),
    ):
        with pytest.raises(StoreRefused, match=text) as refused:
            await RedisStore.open(parse_redis(watched.url(":servers'@", query)))
        assert "servers'" not in str(refused.value)
    with pytest.raises(StoreRefused, match="wants a password"):  # the servers want theirs
        await RedisStore.open(parse_redis(watched.url("", "?sentinel_password=the+watcher's")))
    for query in ("?sentinel_password=the+watcher's", "?sentinel_username=reader&sentinel_password=read%20er"):
        store = await RedisStore.open(parse_redis(watched.url(":servers'@", query)))
        assert store.level == "failover"
        await make_mailbox(store, 1)
        await store.close()


async def test_sentinels_are_spoken_to_with_tls(watched: Watched, tmp_path: Path) -> None:
    """The sentinel names a port without TLS, so that one is refused: what is named is not spoken to in the clear."""
    authority = Authority(tmp_path)
    proxy = await Proxy(watched.sentinel.port, tls=authority.context("127.0.0.1")).start()
    url = f"rediss+sentinel://127.0.0.1:{proxy.port}/mine?ssl_ca_certs="
    with pytest.raises(StoreRefused, match=r"no sentinel names a master: .*CERTIFICATE_VERIFY_FAILED"):
        await RedisStore.open(parse_redis(url + str(Authority(tmp_path, "other").file)))
    with pytest.raises(StoreRefused, match="does not answer") as refused:
        await RedisStore.open(parse_redis(url + str(authority.file)))
    assert "sentinel" not in str(refused.value)
    await proxy.stop()


async def test_who_is_not_known_or_does_not_answer(watched: Watched) -> None:
    silent = free_ports(1)[0]
    with pytest.raises(StoreRefused, match="no sentinel names a master: they do not know it"):
        await RedisStore.open(parse_redis(watched.url().replace("/mine", "/other")))
    with pytest.raises(StoreRefused, match="no sentinel names a master: ERR unknown command"):
        await RedisStore.open(parse_redis(f"redis+sentinel://127.0.0.1:{watched.master.port}/mine"))
    with pytest.raises(StoreRefused, match="no sentinel names a master"):
        await RedisStore.open(parse_redis(f"redis+sentinel://127.0.0.1:{silent}/mine"))
    with pytest.raises(StoreRefused, match="no node of the cluster answers"):
        await RedisStore.open(parse_redis(f"redis+cluster://127.0.0.1:{silent}"))


async def test_a_cluster_over_tls(tmp_path: Path) -> None:
    give_addresses({})
    authority = Authority(tmp_path)
    tls = authority.context("127.0.0.1")
    cluster = RedisCluster(tmp_path / "cluster", replicas=0)
    proxies = [await Proxy(server.port, tls=tls).start() for server in cluster.servers]
    for server, proxy in zip(cluster.servers, proxies, strict=True):
        server.options = (*server.options, "--cluster-announce-port", str(proxy.port))
    try:
        await asyncio.to_thread(cluster.start)
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
        store = await RedisStore.open(parse_redis(f"rediss+cluster://{hosts}?ssl_ca_certs={authority.file}"))
        for number in (1, 81, 161):  # in buckets of different masters
            await make_mailbox(store, number, [number])
            await store.deposit(deposit(number, [address(number)], body=b"sealed twice"))
            assert await bodies(store, number) == [b"sealed twice"]
        assert len(store.masters.links()) == MASTERS
        await store.close()
    finally:
        for proxy in proxies:
            await proxy.stop()
        cluster.stop()
