"""Turns of ``restante bench``: counted, timed, cleared away, and nothing in them that lasts."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.app import Relay
from restante_server.config import BenchLimits
from restante_server.services import bench
from restante_server.stores.contract import StoreUnavailable
from support import relay as support
from support.relay import Owner, Peer, relay_in_process
from support.waiting import until

LIMITS = BenchLimits(seconds=60, mailboxes=2, deposits=2)


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "PATH", "/v1/bench")


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with relay_in_process(tmp_path, bench=LIMITS, admission="invite") as running:
        yield running


async def _status(relay: Relay) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{relay.url}/v1/bench") as answer:
        return answer.status


async def _ended(relay: Relay) -> None:
    async def empty() -> bool:
        return not (await relay.store.totals()).mailboxes

    await until(empty)


async def _offered(relay: Relay) -> None:
    async def offered() -> bool:
        return await _status(relay) == 200

    await until(offered)


async def test_limits_are_told(relay: Relay) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{relay.url}/v1/bench") as answer:
        assert await answer.json() == {"seconds": 60, "mailboxes": 2, "deposits": 2}


async def test_a_relay_without_limits_has_no_such_place(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        assert await _status(relay) == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await Peer.connect(relay.url)


async def test_what_is_no_handshake_is_refused(relay: Relay) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "12"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{relay.url}/v1/bench", headers=headers) as answer,
    ):
        assert answer.status == 426


async def test_deposits_and_mailboxes_are_counted(relay: Relay) -> None:
    async with await Peer.connect(relay.url) as sender, await Peer.own(relay.url, Owner()) as receiver:
        async with await Peer.own(relay.url, Owner()):
            with pytest.raises(AssertionError):  # the answer to Create is an Error
                await Peer.own(relay.url, Owner())
        for _ in range(2):
            assert isinstance(await sender.deposit([bytes(24)]), frames.Deposited)
        assert (await sender.deposit([bytes(24)])).code == Code.FULL
        assert isinstance(await receiver.ask(lambda n: frames.Create(n, b"")), frames.Created), "it has this one"


async def test_connections_are_counted(relay: Relay) -> None:
    peers = [await Peer.connect(relay.url) for _ in range(4)]
    assert await _status(relay) == 429
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await Peer.connect(relay.url)
    for peer in peers:
        await peer.close()


async def test_what_a_turn_made_is_deleted_and_then_others_have_time(relay: Relay) -> None:
    async with await Peer.own(relay.url, Owner()):
        assert (await relay.store.totals()).mailboxes == 1
    await _ended(relay)
    assert await _status(relay) == 429


async def test_after_the_rest_there_is_another(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BENCH_REST", 0)
    for _ in range(2):
        for _ in range(2):
            async with await Peer.connect(relay.url) as sender:
                assert isinstance(await sender.deposit([bytes(24)]), frames.Deposited)
        await _offered(relay)


async def test_its_seconds_end_it(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path, bench=BenchLimits(seconds=1)) as relay,
        await Peer.own(relay.url, Owner()) as peer,
    ):
        assert await peer.next() == frames.Error(0, Code.GOING_AWAY, "the turn is over")
        assert await _status(relay) == 429
        await _ended(relay)


async def test_it_admits_nobody_for_later(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as peer:
        created = await peer.ask(lambda n: frames.Create(n, b""))
        key = peer.welcome.relay_key
    await _ended(relay)
    monkeypatch.setattr(support, "PATH", "/v1/socket")
    async with await Peer.own(relay.url, owner, create=False) as peer:
        answer = await peer.ask(lambda n: frames.Create(n, created.receipt))
        assert answer.code == Code.NOT_ADMITTED
        assert peer.welcome.relay_key != key


async def test_a_store_that_fails_is_asked_again(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_RETRY", 0.01)
    delete, failures = relay.store.delete_mailbox, [StoreUnavailable()]

    async def fail_once(mailbox: bytes) -> None:
        if failures:
            raise failures.pop()
        await delete(mailbox)

    monkeypatch.setattr(relay.store, "delete_mailbox", fail_once)
    async with await Peer.own(relay.url, Owner()):
        pass
    await _ended(relay)
    assert failures == []


async def test_a_relay_that_stops_deletes_it_before(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, bench=LIMITS) as relay:
        peer = await Peer.own(relay.url, Owner())
    async with relay_in_process(tmp_path) as relay:
        assert (await relay.store.totals()).mailboxes == 0
    await peer.close()


async def test_a_relay_that_stops_does_not_wait_for_a_broken_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: bytes) -> None:
        raise StoreUnavailable

    monkeypatch.setattr("restante_server.app.SHUTDOWN_GRACE", 0.05)
    async with relay_in_process(tmp_path, bench=LIMITS) as relay:
        monkeypatch.setattr(relay.store, "delete_mailbox", fail)
        peer = await Peer.own(relay.url, Owner())
    await peer.close()
