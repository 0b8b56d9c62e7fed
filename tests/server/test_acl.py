"""The user that the manual gives a relay on Redis: it may do what a relay does, and nothing to what is not its own."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from restante_server.stores.redis import RedisStore
from support.people import people, together
from support.redis_servers import RedisCluster, RedisServer, free_ports
from support.relay import relay_in_process

MANUAL = Path(__file__).parents[2] / "docs" / "operations.md"


def rule() -> list[str]:
    """Return the manual's command, a word each."""
    match = re.search(r"`(ACL SETUSER [^`]*)`", MANUAL.read_text())
    assert match is not None
    return match[1].replace("PASSWORD", "password").split()


@pytest.fixture(params=["one", "cluster"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, list[RedisServer]]]:
    """Return the URL with this user, and the servers."""
    if request.param == "one":
        server = RedisServer(tmp_path / "redis", free_ports(1)[0])
        server.start()
        url, all_of_them = f"redis://127.0.0.1:{server.port}", [server]
    else:
        cluster = RedisCluster(tmp_path / "cluster")
        cluster.start()
        url, all_of_them = cluster.url, cluster.servers
    for each in all_of_them:
        each.command(*rule())
    yield url.replace("://", "://restante:password@"), all_of_them
    for each in all_of_them:
        each.stop()


async def test_a_relay_works_with_the_manual_s_user(servers: tuple[str, list[RedisServer]], tmp_path: Path) -> None:
    url, all_of_them = servers
    async with (
        relay_in_process(tmp_path / "relay", redis=url) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        room, _ = await together(alice, bob)
        await room.send("read by name, and by nobody else")
        await bob.reads("read by name, and by nobody else")
        await relay.store.sweep()
        assert isinstance(relay.store, RedisStore)
        assert await relay.store.masters.command("PUBSUB", "SHARDNUMSUB", "restante:{0}:node:other")
        assert (await relay.store.totals()).mailboxes == 2
    client = redis.Redis(port=all_of_them[0].port, username="restante", password="password")
    for command in (
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("GET", "foreign"),
        ("CONFIG", "SET", "appendfsync", "no"),
        ("SAVE",),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            await asyncio.to_thread(client.execute_command, *command)
    client.close()
