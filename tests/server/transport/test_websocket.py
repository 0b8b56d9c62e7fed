import asyncio
import contextlib
from pathlib import Path

import aiohttp
import pytest
from aiohttp import EofStream

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server import app
from restante_server.config import SPARE_FILES
from support.relay import Owner, Peer, relay_in_process
from support.websockets import frame


async def test_silent_peers_are_pinged_and_then_closed(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path, ping_interval=0.05, ping_timeout=0.3) as relay,
        await Peer.connect(relay.url, autoping=False) as peer,
    ):
        for _ in range(10):  # longer than the timeout
            assert (await peer.socket.receive(timeout=20)).type is aiohttp.WSMsgType.PING
            await peer.socket.pong()
        while (message := await peer.socket.receive(timeout=20)).type is aiohttp.WSMsgType.PING:
            pass  # unanswered
        assert frames.decode_relay_frame(message.data) == frames.Error(0, Code.TIMEOUT, "silence")
        assert await peer.receive() == 1008


async def test_who_says_nothing_is_sent_away(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, handshake_timeout=0.05) as relay:
        for peer in (
            await Peer.dial(relay.url, frames.ROLE_SENDER),
            await Peer.connect(relay.url, frames.ROLE_RECEIVER),
        ):
            async with peer:
                assert await peer.receive() == frames.Error(0, Code.TIMEOUT, "handshake")
                assert await peer.receive() == 1008


async def test_who_never_asks_for_a_websocket_is_dropped(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, handshake_timeout=0.05) as relay:
        host, _, port = relay.url.removeprefix("http://").rpartition(":")
        for request in (b"", b"GET /v1/socket HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(request)
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
        async with await Peer.connect(relay.url) as peer, await Peer.dial(relay.url, frames.ROLE_SENDER) as late:
            assert (await late.receive()).code == Code.TIMEOUT
            assert (await peer.deposit([bytes(24)])).failed == [(0, Code.GONE)], "who was in time stays"


async def test_beyond_the_files_that_there_are_nobody_may_think_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_max_connections", lambda: 1 - SPARE_FILES // 2)
    async with relay_in_process(tmp_path) as relay:
        host, _, port = relay.url.removeprefix("http://").rpartition(":")
        _, first = await asyncio.open_connection(host, int(port))
        reader, second = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        first.close()
        second.close()


async def test_new_connections_are_refused_while_buffers_are_full(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, buffer_bytes=-1) as relay:
        async with await Peer.dial(relay.url, frames.ROLE_SENDER) as peer:
            assert await peer.receive() == frames.Error(0, Code.OVERLOADED, "connections")
            assert await peer.receive() == 1013
        assert relay.metrics.registry.get_sample_value("restante_connections_refused_total") == 1


async def test_who_makes_the_relay_hold_most_is_sent_away_when_buffers_are_full(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path, buffer_bytes=200_000, ping_interval=0.4) as relay,
        await Peer.connect(relay.url) as modest,
        await Peer.connect(relay.url) as greedy,
    ):
        build = frames.Deposit(modest.connection.next_request(), bytes(16), [bytes(24)], bytes(50_000), 60, None, 0)
        deposit = frame(modest.connection.send(build))
        for peer, data in ((modest, deposit[:-1]), (greedy, frame(bytes(800_000), final=False)[:400_000])):
            await _write(peer, data)
        assert await greedy.receive() == frames.Error(0, Code.OVERLOADED, "connections")
        assert await greedy.receive() == 1013
        await _write(modest, deposit[-1:])
        assert await modest.answer(1) == frames.Deposited(1, [(0, Code.GONE)])


async def _write(peer: Peer, data: bytes) -> None:
    """Send bytes that are no complete frame."""
    connection = peer.socket._conn
    assert connection is not None
    assert connection.protocol is not None
    assert connection.protocol.transport is not None
    connection.protocol.transport.write(data)


async def _everything(peer: Peer) -> list[object]:
    found: list[object] = []
    while not found or not isinstance(found[-1], int):
        found.append(await peer.next())
    return found


async def test_at_the_end_everything_received_is_answered(tmp_path: Path) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path) as relay:
        receiver = await Peer.own(relay.url, owner)
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        sender = await Peer.connect(relay.url)
        build = lambda n: frames.Deposit(n, n.to_bytes(16, "big"), [address], b"x", 3600, None, 0)  # noqa: E731
        numbers = [await sender.send(build) for _ in range(100)]
        reading = asyncio.gather(_everything(sender), _everything(receiver))
    answers, pushes = await reading
    goodbye = [frames.Error(0, Code.GOING_AWAY, "shutting down"), 1001]
    assert answers == [*(frames.Deposited(number, []) for number in numbers), *goodbye]
    assert len(pushes) == 1 + 100 + 2
    assert pushes[-2:] == goodbye
    await sender.close()
    await receiver.close()
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, owner) as again:
        assert (await again.ask(frames.Status)).entries == 100


async def test_a_peer_that_does_not_answer_the_close_is_dropped(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, handshake_timeout=0.5) as relay:
        peer = await Peer.dial(relay.url, frames.ROLE_SENDER)
        reader = peer.socket._reader
        messages = [await reader.read() for _ in range(2)]  # without aiohttp's answer to a close
        assert [message.type for message in messages] == [aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.CLOSE]
        async with asyncio.timeout(20):
            with pytest.raises(EofStream):
                await reader.read()
        await peer.session.close()
