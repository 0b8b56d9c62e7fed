"""Redis forgets everything, or comes back with what it once was: clients notice, lose nothing unread, and go on."""

import asyncio
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from support.people import people, together
from support.redis_servers import MASTERS, RedisCluster, RedisServer, free_ports
from support.relay import Owner, Peer, relay_in_process
from support.waiting import until, until_done

SUITE = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of its own, to be maltreated."""
    server = RedisServer(tmp_path / "redis", free_ports(1)[0])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """The same of a cluster."""
    cluster = RedisCluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def url(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}"


async def test_a_relay_out_of_reach_of_its_store_sends_everybody_away(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante_server.transport.websocket.STRANDED_SECONDS", 0.3)
    async with (
        relay_in_process(tmp_path / "relay", redis=url(server), ping_interval=0.4) as relay,
        await Peer.connect(relay.url) as sender,
    ):
        server.signal(signal.SIGSTOP)
        await sender.send(lambda n: frames.Deposit(n, bytes(16), [bytes(24)], b"body", 3600, None, 0))
        assert await sender.receive() == frames.Error(0, Code.GOING_AWAY, "store out of reach")
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await Peer.connect(relay.url)
        server.signal(signal.SIGCONT)
        async with await until_done(lambda: Peer.connect(relay.url), aiohttp.WSServerHandshakeError) as again:
            assert (await again.deposit([bytes(24)])).failed == [(0, Code.GONE)]


async def test_people_go_on_after_a_cluster_was_flushed(tmp_path: Path, cluster: RedisCluster) -> None:
    async with (
        relay_in_process(tmp_path / "first", redis=cluster.url) as first,
        relay_in_process(tmp_path / "second", redis=cluster.url) as second,
        people(tmp_path, first.url, "alice") as (alice,),
        people(tmp_path, second.url, "bob") as (bob,),
    ):
        assert first.store.level == "failover"
        a, b = await together(alice, bob)
        await a.send("before")
        await bob.reads("before")
        for master in cluster.masters():
            await asyncio.to_thread(master.command, "FLUSHALL")
        await a.send("after")
        await bob.reads("before", "after")
        await b.send("back")
        await alice.reads("back")
        assert alice.alarms == bob.alarms == []


async def test_people_go_on_after_a_cluster_was_put_back(tmp_path: Path, cluster: RedisCluster) -> None:
    """Every server, masters and replicas, comes back with what it had before the second message."""
    async with (
        relay_in_process(tmp_path / "relay", redis=cluster.url) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, b = await together(alice, bob)
        await a.send("one")
        await bob.reads("one")
        for server in cluster.servers:
            await asyncio.to_thread(shutil.copytree, server.folder, tmp_path / "copy" / server.folder.name)
        await a.send("two")
        await bob.reads("one", "two")
        for server in cluster.servers:
            await asyncio.to_thread(server.kill)
        for server in cluster.servers:
            await asyncio.to_thread(shutil.rmtree, server.folder)
            await asyncio.to_thread(shutil.copytree, tmp_path / "copy" / server.folder.name, server.folder)
            await asyncio.to_thread(server.start)
        await a.send("three")
        await bob.reads("one", "two", "three")
        await b.send("back")
        await alice.reads("back")
        assert alice.alarms == bob.alarms == []


async def test_people_go_on_after_everything_was_flushed(tmp_path: Path, server: RedisServer) -> None:
    async with (
        relay_in_process(tmp_path / "first", redis=url(server)) as first,
        relay_in_process(tmp_path / "second", redis=url(server)) as second,
        people(tmp_path, first.url, "alice") as (alice,),
        people(tmp_path, second.url, "bob") as (bob,),
    ):
        a, b = await together(alice, bob)
        await a.send("before")
        await bob.reads("before")
        server.command("FLUSHALL")
        await a.send("after")
        await bob.reads("before", "after")
        await b.send("back")
        await alice.reads("back")
        assert alice.alarms == bob.alarms == []


async def test_people_go_on_after_an_older_copy_was_put_back(tmp_path: Path, server: RedisServer) -> None:
    async with (
        relay_in_process(tmp_path / "relay", redis=url(server)) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, b = await together(alice, bob)
        await a.send("one")
        await bob.reads("one")
        await asyncio.to_thread(shutil.copytree, server.folder / "appendonlydir", tmp_path / "copy")
        await a.send("two")
        await bob.reads("one", "two")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(shutil.rmtree, server.folder / "appendonlydir")
        await asyncio.to_thread(shutil.copytree, tmp_path / "copy", server.folder / "appendonlydir")
        await asyncio.to_thread(server.start)
        await a.send("three")
        await bob.reads("one", "two", "three")
        await b.send("back")
        await alice.reads("back")
        assert alice.alarms == bob.alarms == []


async def test_an_older_copy_gives_new_incarnations_and_issues_nothing_again(
    tmp_path: Path, server: RedisServer
) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path / "relay", redis=url(server)) as relay:
        async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
            address = await receiver.add_address(owner.address())
            packages = [b"%d" % number for number in range(30)]
            await receiver.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, packages, b"last", replace=False))
            await sender.deposit([address], b"unread")
            first = await receiver.subscribe()
            await asyncio.to_thread(shutil.copytree, server.folder / "appendonlydir", tmp_path / "copy")
            claimed = await sender.ask(lambda n: frames.Claim(n, SUITE, [address]))
            assert claimed.prekeys[0].package == b"0"
            (unread,) = await receiver.entries(1)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(shutil.rmtree, server.folder / "appendonlydir")
            await asyncio.to_thread(shutil.copytree, tmp_path / "copy", server.folder / "appendonlydir")
            await asyncio.to_thread(server.start)
            assert isinstance(await receiver.next(), frames.Drained)
            assert (await receiver.next()).code == Code.GOING_AWAY
        async with await Peer.connect(relay.url) as sender:
            claimed = await sender.ask(lambda n: frames.Claim(n, SUITE, [address]))
            assert (claimed.prekeys[0].number, claimed.prekeys[0].package) == (0, b"last")
        async with await Peer.own(relay.url, owner, create=False) as receiver:
            again = await receiver.subscribe(first.incarnation, unread.sequence)
            assert again.incarnation != first.incarnation
            assert again.pools[0].left == 0
            (entry,) = await receiver.entries(1)
            assert entry.entry.body == b"unread"


async def test_a_stale_replica_that_is_promoted_gives_new_incarnations(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path / "cluster", replicas=2)
    try:
        await asyncio.to_thread(cluster.start)
        await go_stale(tmp_path, cluster)
    finally:
        await asyncio.to_thread(cluster.stop)


async def go_stale(tmp_path: Path, cluster: RedisCluster) -> None:
    owner = Owner(bucket_of_first_master())
    master, stale, fresh = cluster.servers[0], cluster.servers[MASTERS], cluster.servers[2 * MASTERS]
    async with (
        relay_in_process(tmp_path / "relay", redis=cluster.url) as relay,
        await Peer.own(relay.url, owner) as receiver,
        await Peer.connect(relay.url) as sender,
    ):
        assert relay.store.level == "failover"
        address = await receiver.add_address(owner.address())
        await sender.deposit([address], b"everywhere")
        await asyncio.to_thread(stale.kill)

        async def accepted() -> bool:
            return isinstance(await sender.deposit([address], b"not on one", message_id=bytes(16)), frames.Deposited)

        await until(accepted)  # as long as it counts as a replica, nothing is accepted without it
        first = await receiver.subscribe()
        highest = 0
        bodies: list[bytes] = []
        while len(bodies) < 2:
            if not isinstance(each := await receiver.next(), frames.Drained):
                bodies.append(each.entry.body)
                highest = each.sequence
        assert bodies == [b"everywhere", b"not on one"]
        for server in (fresh, master):
            await asyncio.to_thread(server.kill)
        await asyncio.to_thread(stale.start)
        await asyncio.to_thread(stale.command, "CLUSTER", "FAILOVER", "TAKEOVER")
        await asyncio.to_thread(fresh.start)
        while isinstance(each := await receiver.next(), frames.Drained):
            pass
        assert each.code == Code.GOING_AWAY

        async def comes_back() -> None:
            async with await Peer.own(relay.url, owner, create=False) as again:
                answer = await again.subscribe(first.incarnation, highest)
                assert answer.incarnation != first.incarnation
                (entry,) = await again.entries(1)
                assert entry.entry.body == b"everywhere"

        await until_done(comes_back, AssertionError)  # as long as the cluster is not whole, it answers with errors


def bucket_of_first_master() -> int:
    """Return a bucket whose slot is among the first master's."""
    from redis.crc import key_slot  # noqa: PLC0415 -- for this alone

    return next(bucket for bucket in range(48) if key_slot(str(bucket).encode()) < 16384 // MASTERS)
