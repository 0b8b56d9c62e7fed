"""What is particular to the store on Redis: what it refuses, and what it lives through."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from restante_protocol.errors import Code
from restante_server.stores.contract import (
    Accepted,
    Delivery,
    PoolLow,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from restante_server.stores.redis import LEASE_SECONDS, RedisStore
from restante_server.stores.redis_address import parse_redis
from restante_server.stores.redis_fan import FanOut
from restante_server.stores.redis_shard import Committed, Group
from support.redis_servers import MASTERS, RedisCluster, RedisServer, free_ports
from support.stores import (
    DAY,
    MovedClock,
    Watched,
    acknowledge,
    address,
    bodies,
    code,
    deposit,
    fence,
    give_addresses,
    identifier,
    mailbox,
    make_mailbox,
    new_redis,
    read_all,
    subscribe,
    two_nodes,
)
from support.waiting import until, until_done


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of its own, to be maltreated."""
    give_addresses({})
    server = RedisServer(tmp_path / "redis", free_ports(1)[0])
    server.start()
    yield server
    server.stop()


def url(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}"


async def test_a_code_that_a_stopped_node_has_kept_is_for_that_mailbox_and_used_up_by_its_retry(redis_url: str) -> None:
    """It was stopped before the mailbox was made, or after that: what the store has then is made here step by step."""
    give_addresses({})
    store = await new_redis(redis_url).open()
    for number in (1, 2):
        await store.add_codes([code(number)], DAY)
        assert await store._call(code(number), "take_code", code(number), mailbox(number), store._now())
    await make_mailbox(store, 2)
    for number in (1, 2):
        assert await store.create_mailbox(mailbox(3), bytes(32), code(number)) is None
    assert await store.create_mailbox(mailbox(2), bytes(32), code(1)) is not None, (
        "it exists, and that code is another's"
    )
    for number in (1, 2):
        assert await store.create_mailbox(mailbox(number), bytes(32), code(number)) is not None
        await store.delete_mailbox(mailbox(number))
        assert await store.create_mailbox(mailbox(number), bytes(32), code(number)) is None
    await store.close()


# Levels.


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("appendonly", "no", "appendonly yes"),
        ("appendfsync", "everysec", "appendfsync always"),
        ("appendfsync", "no", "appendfsync always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite no"),
    ],
)
async def test_a_server_that_would_lose_mail_is_refused(server: RedisServer, name: str, value: str, text: str) -> None:
    server.command("CONFIG", "SET", name, value)
    with pytest.raises(StoreRefused, match=text):
        await RedisStore.open(parse_redis(url(server)))


async def test_a_loss_on_power_failure_has_to_be_accepted(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "appendfsync", "everysec")
    store = await RedisStore.open(parse_redis(url(server)), accept_loss=True)
    assert store.level == "process"
    await store.close()
    server.command("CONFIG", "SET", "appendfsync", "always")
    store = await RedisStore.open(parse_redis(url(server)), accept_loss=True)
    assert store.level == "power"
    await store.close()


async def test_what_cannot_be_read_counts_as_wrong(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "mute", "on", ">secret", "~*", "&*", "+@all", "-config")
    with pytest.raises(StoreRefused, match="CONFIG GET appendonly is not allowed"):
        await RedisStore.open(parse_redis(f"redis://mute:secret@127.0.0.1:{server.port}"))
    server.command("ACL", "SETUSER", "mute", "+config", "-info")
    with pytest.raises(StoreRefused, match="INFO must be allowed"):
        await RedisStore.open(parse_redis(f"redis://mute:secret@127.0.0.1:{server.port}"))
    with pytest.raises(StoreRefused, match="WRONGPASS"):
        await RedisStore.open(parse_redis(f"redis://mute:wrong@127.0.0.1:{server.port}"))


async def test_databases_and_prefixes_are_stores_of_their_own(server: RedisServer) -> None:
    for where in ("/1", "/1?prefix=other", "/2"):
        store = await RedisStore.open(parse_redis(url(server) + where))
        assert (await store.totals()).mailboxes == 0
        await make_mailbox(store, 1)
        await store.close()


async def test_no_server_no_replica_and_no_newer_store(server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="does not answer"):
        await RedisStore.open(parse_redis(f"redis://127.0.0.1:{free_ports(1)[0]}"))
    replica = RedisServer(tmp_path / "replica", free_ports(1)[0])
    replica.start("--replicaof", f"127.0.0.1 {server.port}")
    with pytest.raises(StoreRefused, match="is a replica"):
        await RedisStore.open(parse_redis(url(replica)))
    replica.stop()
    with pytest.raises(StoreRefused, match="no cluster"):
        await RedisStore.open(parse_redis(f"redis+cluster://127.0.0.1:{server.port}"))
    server.command("HSET", "restante:{0}:store", "version", 2)
    with pytest.raises(StoreRefused, match="newer version"):
        await RedisStore.open(parse_redis(url(server)))


async def test_a_server_that_comes_back_with_less_is_not_used(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await RedisStore.open(parse_redis(url(server)))
    await make_mailbox(store, 1, [1])
    server.kill()
    server.start("--appendfsync", "everysec")
    with pytest.raises(StoreUnavailable):
        await store.deposit(deposit(1, [address(1)]))
    server.command("CONFIG", "SET", "appendfsync", "always")
    await until(store._masters._whole)
    assert await store.deposit(deposit(1, [address(1)])) == Accepted(())
    await store.close()


# What it lives through.


async def test_calls_go_on_after_a_restart(server: RedisServer) -> None:
    store = await RedisStore.open(parse_redis(url(server)))
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)], body=b"1"))
    server.kill()
    waiting = asyncio.ensure_future(store.deposit(deposit(2, [address(1)], body=b"2")))
    await asyncio.to_thread(server.start)
    assert await waiting == Accepted(())
    assert await bodies(store, 1) == [b"1", b"2"]
    await store.close()


async def test_scripts_that_are_forgotten_are_loaded_again(server: RedisServer) -> None:
    store = await RedisStore.open(parse_redis(url(server)))
    await make_mailbox(store, 1, [1])
    server.command("SCRIPT", "FLUSH")
    assert await store.deposit(deposit(1, [address(1)])) == Accepted(())
    await store.close()


async def test_a_server_that_does_not_answer_is_unavailable(server: RedisServer) -> None:
    store = await RedisStore.open(parse_redis(url(server)))
    server.signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable):
        await store.has_mailbox(mailbox(1))
    server.signal(signal.SIGCONT)
    await until(store._masters._whole)
    assert not await store.has_mailbox(mailbox(1))
    await store.close()


async def test_a_full_server_is_full_and_can_be_emptied(server: RedisServer) -> None:
    store = await RedisStore.open(parse_redis(url(server)))
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    owner = await subscribe(store, 1)
    server.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreFull):
        await store.deposit(deposit(2, [address(1)]))
    (entry,) = await read_all(store, 1)
    assert await acknowledge(store, 1, entry.sequence, owner=owner)
    assert await read_all(store, 1) == []
    await store.sweep()
    server.command("CONFIG", "SET", "maxmemory", 0)
    assert await store.deposit(deposit(2, [address(1)])) == Accepted(())
    await store.close()


async def test_an_error_of_ours_fails_only_its_call(server: RedisServer) -> None:
    store = await RedisStore.open(parse_redis(url(server)))
    server.command("SET", "restante:{0}:slot", "not a hash")
    with pytest.raises(StoreUnavailable):
        await store.get_slot(identifier("slot", 1))
    await make_mailbox(store, 1)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.masters.command("PING")


async def test_a_long_queue_counts_by_address(server: RedisServer) -> None:
    opener = new_redis(url(server))
    store = await opener.open()
    await make_mailbox(store, 1, [1, 2])
    await make_mailbox(store, 1, [3], cap=270)
    for first in range(0, 600, 200):
        items = [deposit(n, [address(n % 3 + 1)]) for n in range(first, first + 200)]
        assert set(await asyncio.gather(*(store.deposit(item) for item in items))) == {Accepted(())}
    for number in range(1000, 1070):
        assert await store.deposit(deposit(number, [address(3)])) == Accepted(())
    assert await store.deposit(deposit(2000, [address(3), address(1)])) == Accepted(((0, Code.FULL),))
    entries = await read_all(store, 1)
    await acknowledge(store, 1, entries[2].sequence)
    assert await store.deposit(deposit(2001, [address(3)])) == Accepted(())
    assert await store.deposit(deposit(2002, [address(3)])) == Accepted(((0, Code.FULL),))
    await acknowledge(store, 1, entries[-1].sequence + (1 << 30))
    assert not await opener.holds_entries(store)
    await store.close()


# Nodes.


@pytest.mark.parametrize("where", ["redis_url", "cluster_url"])
async def test_a_fence_that_its_node_left_is_finished_by_another(where: str, request: pytest.FixtureRequest) -> None:
    clock = MovedClock()
    give_addresses({2: 2})
    first, second = await two_nodes(request.getfixturevalue(where), clock)
    await make_mailbox(first, 1, [1])
    await make_mailbox(first, 2, [2])
    item = deposit(1, [address(1), address(2), address(9)], body=b"commit", fence=fence(1))
    assert await first.win_fence(item) == 1
    await second._redrive()
    assert await read_all(second, 1) == []
    clock.advance(LEASE_SECONDS)
    await second._redrive()
    assert [await bodies(second, n) for n in (1, 2)] == [[b"commit"], [b"commit"]]
    assert await first.deposit(item) == Accepted(((2, Code.GONE),))
    assert len(await read_all(second, 1)) == 1
    await first.close()
    await second.close()


@pytest.mark.parametrize("where", ["redis_url", "cluster_url"])
async def test_what_another_node_commits_comes_with_its_message(where: str, request: pytest.FixtureRequest) -> None:
    give_addresses({2: 2})
    first, second = await two_nodes(request.getfixturevalue(where), MovedClock())
    seen = Watched()
    first.watch(seen)
    for number in (1, 2):
        await make_mailbox(first, number, [number])
        await subscribe(first, number)
    items = [deposit(number, [address(1), address(2)]) for number in (1, 2)]
    await asyncio.gather(*(second.deposit(item) for item in items))
    wanted = {(mailbox(number), item.message_id, item.body, item.fence) for number in (1, 2) for item in items}

    def told() -> set[tuple[object, ...]]:
        return {
            (recipient, *entry)
            for delivery in seen.told
            for recipient, _, _ in delivery.recipients
            for entry in delivery.entries
        }

    await until(lambda: told() == wanted)
    assert set(seen.seen) == {("told",)}, "nothing has to be read"
    await first.close()
    await second.close()


async def test_an_entry_that_another_node_stored_within_a_pipeline_is_read(redis_url: str) -> None:
    store = await new_redis(redis_url).open()
    seen = Watched()
    store.watch(seen)
    await make_mailbox(store, 1, [1])
    last = (await subscribe(store, 1)).last_sequence
    fans = [FanOut(deposit(number, [address(1)]), number, 1, asyncio.Future()) for number in (1, 2)]
    calls = [
        Committed(0, [Group((fan,), [(mailbox(1), sequence, 1)])], [(mailbox(1), before)], b"")
        for fan, before, sequence in zip(fans, (last, last + 2), (last + 1, last + 3), strict=True)
    ]
    store.deposited(calls, in_order=True)
    assert seen.seen == [("wake", mailbox(1))]
    await store.close()


@pytest.mark.parametrize("calls", [1, 2])
async def test_deposits_that_were_tried_again_are_announced_as_they_were_stored(redis_url: str, calls: int) -> None:
    store = await new_redis(redis_url).open()
    announced: list[Delivery] = []
    store.listen(announced.extend)
    for number in (1, 2):
        await make_mailbox(store, number, [number])
    lists = {6: [address(1)], 5: [address(1), address(2)]}  # the later one first, as after the loss of a connection
    outcomes: list[asyncio.Future[Accepted]] = [asyncio.Future() for _ in lists]
    for (number, addresses), outcome in zip(lists.items(), outcomes, strict=True):
        store._submit(FanOut(deposit(number, addresses, body=b"%d" % number), number, 1, outcome))
        if calls > 1:
            store._call(mailbox(1), "status", mailbox(1))  # what comes after it is another script call
    await asyncio.gather(*outcomes)
    stored = [entry.body for entry in await read_all(store, 1)]
    assert [body for delivery in announced for _, body, _ in delivery.entries] == stored
    await store.close()


async def test_nodes_find_out_what_nobody_told_them(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    seen = Watched()
    first.watch(seen)
    await make_mailbox(first, 1, [1])
    owner = await subscribe(first, 1)
    second._masters.publish = lambda *_: None  # type: ignore[method-assign]  # what it says is lost
    await second.deposit(deposit(1, [address(1)]))
    await first._look()
    assert seen.seen == [("wake", mailbox(1))]
    await first._look()
    assert len(seen.seen) == 1, "it is known now"
    await subscribe(second, 1)
    await first._look()
    assert seen.seen[1:] == [("replace", mailbox(1), owner.owner_token)]
    await second.delete_mailbox(mailbox(1))
    await first._look()
    assert seen.seen[2:] == [("lose", mailbox(1))]
    await first.close()
    await second.close()


async def test_an_entry_whose_predecessor_was_not_announced_is_read(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    seen = Watched()
    announced: list[Delivery] = []
    first.watch(seen)
    first.listen(announced.extend)
    await make_mailbox(first, 1, [1])
    await subscribe(first, 1)
    await first.deposit(deposit(1, [address(1)]))
    second._masters.publish = lambda *_: None  # type: ignore[method-assign]  # what it says is lost
    await second.deposit(deposit(2, [address(1)]))
    assert seen.seen == []
    await first.deposit(deposit(3, [address(1)]))
    assert seen.seen == [("wake", mailbox(1))]
    assert len(announced) == 2
    await first.close()
    await second.close()


async def test_nodes_tell_each_other(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    seen = Watched()
    first.watch(seen)
    await make_mailbox(first, 1, [1, 2])
    owner = await subscribe(first, 1)
    await second.pass_on([address(1), address(2), address(1), address(9)], bytes(16), b"typing")
    await until(lambda: ("ephemeral", [mailbox(1)], bytes(16), b"typing") in seen.seen)
    await first.put_prekeys(mailbox(1), 3, 1, [b"x"] * 20, b"", replace=False)
    await second.claim(3, [address(1)])
    await until(lambda: ("low", [PoolLow(mailbox(1), 3, 19)]) in seen.seen)
    assert [each[0] for each in seen.seen] == ["ephemeral", "low"], "once, however often the list names the mailbox"
    await subscribe(second, 1)
    await until(lambda: ("replace", mailbox(1), owner.owner_token) in seen.seen)
    await subscribe(first, 1)
    await second.delete_mailbox(mailbox(1))
    await until(lambda: ("deleted", mailbox(1)) in seen.seen)
    await first.close()
    await second.close()


# Clusters and replicas.


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster of its own."""
    give_addresses({})
    cluster = RedisCluster(tmp_path / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


async def test_nothing_is_accepted_that_a_replica_does_not_confirm(cluster: RedisCluster) -> None:
    store = await RedisStore.open(parse_redis(cluster.url))
    assert store.level == "failover"
    await make_mailbox(store, 1, [1])
    replicas = cluster.servers[MASTERS:]
    for replica in replicas:
        replica.signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable):
        await store.deposit(deposit(1, [address(1)]))
    for replica in replicas:
        replica.signal(signal.SIGCONT)
    again = await until_done(lambda: store.deposit(deposit(1, [address(1)])), StoreUnavailable)
    assert again == Accepted(())
    assert len(await read_all(store, 1)) == 1
    await store.close()


async def test_an_acknowledgement_waits_for_no_replica_and_may_go_with_its_master(cluster: RedisCluster) -> None:
    store = await RedisStore.open(parse_redis(cluster.url))
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    owner = await subscribe(store, 1)
    (entry,) = await read_all(store, 1)
    replicas = cluster.servers[MASTERS:]
    for replica in replicas:
        replica.signal(signal.SIGSTOP)
    version = store.masters.versions[1]
    assert await acknowledge(store, 1, entry.sequence, owner=owner)
    assert store.masters.versions[1] == version, "a replica that is promoted without it is not behind"
    for replica in replicas:
        replica.signal(signal.SIGCONT)
    assert await until_done(lambda: store.deposit(deposit(2, [address(1)])), StoreUnavailable) == Accepted(())
    assert store.masters.versions[1] > version + 1, "of both"
    await store.close()


async def test_a_bucket_moves_while_it_is_used(cluster: RedisCluster) -> None:
    store = await RedisStore.open(parse_redis(cluster.url))
    await make_mailbox(store, 1, [1])
    first = await subscribe(store, 1)
    slot = key_slot(b"1")
    source = next(s for s in cluster.servers[:MASTERS] if holds(s, slot))
    target = next(s for s in cluster.servers[:MASTERS] if s is not source)
    accepted: list[int] = []

    async def speak() -> None:
        while True:
            number = len(accepted)
            assert await store.deposit(deposit(number, [address(1)], body=b"%d" % number)) == Accepted(())
            accepted.append(number)

    speaker = asyncio.create_task(speak())
    await until(lambda: len(accepted) > 20)
    await asyncio.to_thread(move, cluster, slot, source, target)
    count = len(accepted)
    await until(lambda: len(accepted) > count + 20)
    speaker.cancel()
    await asyncio.wait([speaker])
    assert [int(body) for body in await bodies(store, 1)][: len(accepted)] == accepted
    again = await store.subscribe(mailbox(1), first.incarnation, 0, [])
    assert again is not None
    await store.close()


def holds(server: RedisServer, slot: int) -> bool:
    return any(first <= slot <= last and master[1] == server.port for first, last, master, *_ in slots(server))


def slots(server: RedisServer) -> list[tuple[int, int, tuple[str, int]]]:
    with redis.Redis(port=server.port) as client:
        found = client.cluster("SLOTS")
    return [(first, last, ("", master[1])) for first, last, master, *_ in found]


def move(cluster: RedisCluster, slot: int, source: RedisServer, target: RedisServer) -> None:
    """Move a slot the way redis-cli does, slowly enough to be seen."""
    source_id, target_id = (server.command("CLUSTER", "MYID").decode() for server in (source, target))
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, 100)
    for key in keys:
        source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        time.sleep(0.01)  # while some of its keys are here and some are there, the store is used
    for server in (target, source, *cluster.servers[:MASTERS]):
        server.command("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def test_redis_itself_is_among_the_stores_where_it_is_installed(redis_itself_url: str) -> None:
    with redis.Redis.from_url(redis_itself_url) as client:
        assert "valkey_version" not in client.info("server")
