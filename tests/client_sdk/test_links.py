import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from restante import diagnostics, links
from restante.errors import Refused, RelayChanged, RelayError
from restante.links import Backoff, Connection, Disconnected, socket_url
from restante_crypto import primitives, proofs
from restante_protocol import frames, limits
from restante_protocol.connection import NumberedEntry, RelayConnection
from restante_protocol.diagnostics import Measure
from restante_protocol.errors import Code, LocalError
from support.people import people, person, together
from support.proxies import Proxy, Spread
from support.relay import relay_in_process

SEED = b"r" * 32
KEY = primitives.ed25519_public(SEED)
SENDER, RECEIVER = frames.ROLE_SENDER, frames.ROLE_RECEIVER


@dataclass
class Peer:
    """The relay's end of one connection."""

    socket: web.WebSocketResponse
    protocol: RelayConnection = field(default_factory=RelayConnection)

    async def receive(self) -> frames.ClientFrame:
        return self.protocol.receive(await self.socket.receive_bytes())

    async def send(self, *answers: frames.RelayFrame) -> None:
        for answer in answers:
            await self.socket.send_bytes(self.protocol.send(answer))

    async def welcome(self, seed: bytes = SEED) -> None:
        hello = await self.receive()
        assert isinstance(hello, frames.Hello)
        signature = primitives.ed25519_sign(seed, proofs.welcome_message(KEY, hello.nonce, b"n" * 32))
        await self.send(frames.Welcome(1, KEY, b"n" * 32, signature, frames.ADMISSION_CODE, "power"))

    async def subscribed(self) -> None:
        """Prove and subscribe whoever asks, without looking."""
        await self.welcome()
        opened = await self.receive()
        assert isinstance(opened, frames.Open)
        self.protocol.proved()
        await self.send(frames.Done(opened.request))
        subscribe = await self.receive()
        assert isinstance(subscribe, frames.Subscribe)
        await self.send(frames.Subscribed(subscribe.request, bytes(16), bytes(8), 0, []))

    async def gone(self) -> int | None:
        """Wait until the client closes; return its close code."""
        while (await self.socket.receive()).type not in {web.WSMsgType.CLOSE, web.WSMsgType.CLOSED}:
            pass
        return self.socket.close_code


Behaviour = Callable[[Peer], Awaitable[object]]


@asynccontextmanager
async def relay(behaviour: Behaviour, *, autoping: bool = True) -> AsyncIterator[str]:
    """Serve one behaviour per connection; a failing behaviour fails the test."""
    failures: list[BaseException] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=1, compress=True, autoping=autoping)
        await socket.prepare(request)
        assert not socket.compress
        try:
            await behaviour(Peer(socket))
        except BaseException as error:
            failures.append(error)
            raise
        return socket

    app = web.Application()
    app.router.add_get("/v1/socket", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
    assert not failures


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with links.open_session() as session:
        yield session


async def connected(
    session: aiohttp.ClientSession, url: str, role: int = SENDER, relay_key: bytes | None = KEY
) -> Connection:
    return await Connection.connect(session, url, role, random=os.urandom, relay_key=relay_key)


async def subscribed(session: aiohttp.ClientSession, url: str) -> Connection:
    connection = await connected(session, url, RECEIVER)
    await connection.request(lambda request: frames.Open(request, bytes(24), bytes(32), bytes(16), bytes(64)))
    answer = await connection.request(lambda request: frames.Subscribe(request, b"", 0, []))
    assert isinstance(answer, frames.Subscribed)
    return connection


def entry(number: int) -> frames.Entry:
    return frames.Entry(number.to_bytes(16, "big"), b"body", None)


def fence_get(request: int) -> frames.FenceGet:
    return frames.FenceGet(request, bytes(32))


@pytest.mark.parametrize("pinned", [KEY, None])
async def test_connecting_verifies_the_relay(session: aiohttp.ClientSession, pinned: bytes | None) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        assert await peer.gone() == 1000

    async with relay(behaviour) as url:
        connection = await connected(session, url, relay_key=pinned)
        assert connection.relay_key == KEY
        assert (connection.admission, connection.level) == (frames.ADMISSION_CODE, "power")
        assert (len(connection.client_nonce), connection.relay_nonce) == (32, b"n" * 32)
        assert connection.lost is None
        await connection.close()
        await connection.close()
        assert isinstance(connection.lost, Disconnected)


async def test_another_key_than_the_pinned_one_is_refused(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await peer.gone()

    async with relay(behaviour) as url:
        with pytest.raises(RelayChanged):
            await connected(session, url, relay_key=b"other".ljust(32))


async def test_a_relay_that_only_shows_the_key_is_refused(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome(b"another seed".ljust(32))
        await peer.gone()

    async with relay(behaviour) as url:
        with pytest.raises(RelayError, match="does not hold"):
            await connected(session, url)


async def test_requests_are_pipelined_and_answered_in_any_order(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        asked = [await peer.receive() for _ in range(20)]
        assert [frame.handle for frame in asked if isinstance(frame, frames.ListDrop)] == list(range(20))
        random.Random(1).shuffle(asked)
        for frame in asked:
            assert isinstance(frame, frames.ListDrop)
            await peer.send(frames.Done(frame.request))
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        calls = [
            connection.request(lambda request, handle=handle: frames.ListDrop(request, handle))  # type: ignore[misc]  # mypy does not infer a lambda's default
            for handle in range(20)
        ]
        answers = await asyncio.gather(*calls)
        assert all(isinstance(answer, frames.Done) for answer in answers)
        await connection.close()


async def test_an_error_answer_is_refused_and_the_connection_goes_on(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        first = await peer.receive()
        assert isinstance(first, frames.FenceGet)
        await peer.send(frames.Error(first.request, Code.NOT_FOUND, "fence"))
        second = await peer.receive()
        assert isinstance(second, frames.FenceGet)
        await peer.send(frames.Fence(second.request, bytes(16), bytes(32), b"winner"))
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        with pytest.raises(Refused, match="fence") as refused:
            await connection.request(fence_get)
        assert refused.value.code == Code.NOT_FOUND
        answer = await connection.request(fence_get)
        assert isinstance(answer, frames.Fence)
        await connection.close()


async def test_a_cancelled_request_leaves_the_others_alone(session: aiohttp.ClientSession) -> None:
    cancelled = asyncio.Event()

    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        first, second = await peer.receive(), await peer.receive()
        assert isinstance(first, frames.FenceGet)
        assert isinstance(second, frames.FenceGet)
        await cancelled.wait()
        for frame in (first, second):
            await peer.send(frames.Fence(frame.request, bytes(16), bytes(32), b"winner"))
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        first = asyncio.ensure_future(connection.request(fence_get))
        second = asyncio.ensure_future(connection.request(fence_get))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        cancelled.set()
        assert isinstance(await second, frames.Fence)
        await connection.close()


async def test_pushes_arrive_in_order_and_acknowledgements_leave(session: aiohttp.ClientSession) -> None:
    acks: list[frames.ClientFrame] = []

    async def behaviour(peer: Peer) -> None:
        await peer.subscribed()
        await peer.send(frames.Run(7, 2), entry(7), entry(8), frames.Drained(8), frames.PrekeysLow(3, 5))
        acks.append(await peer.receive())
        await peer.send(frames.Error(0, Code.REPLACED, "newer connection"))

    async with relay(behaviour) as url:
        connection = await subscribed(session, url)
        got: list[links.Push] = []
        while len(got) < 4:
            got += await connection.next_batch()
        assert [push.sequence for push in got[:2] if isinstance(push, NumberedEntry)] == [7, 8]
        assert got[2:] == [frames.Drained(8), frames.PrekeysLow(3, 5)]
        ack = frames.Ack(bytes(8), bytes(16), 8, [])
        connection.send(ack)
        assert await connection.next_batch() == [frames.Error(0, Code.REPLACED, "newer connection")]
        with pytest.raises(Disconnected):
            await connection.next_batch()
        with pytest.raises(Disconnected):
            connection.send(ack)
        assert acks == [ack]
        await connection.close()


async def test_what_arrived_before_the_loss_is_still_handed_out(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.subscribed()
        await peer.send(frames.Run(1, 1), entry(1))
        await peer.receive()
        await peer.socket.close()

    async with relay(behaviour) as url:
        connection = await subscribed(session, url)
        with pytest.raises(Disconnected):
            await connection.request(frames.Status)
        batch = await connection.next_batch()
        assert [push.sequence for push in batch if isinstance(push, NumberedEntry)] == [1]
        with pytest.raises(Disconnected):
            await connection.next_batch()
        await connection.close()


async def test_a_reader_that_does_not_take_stops_the_reading(session: aiohttp.ClientSession) -> None:
    count = 3 * links.MAX_WAITING

    async def behaviour(peer: Peer) -> None:
        await peer.subscribed()
        await peer.send(frames.Run(1, count), *(entry(number) for number in range(count)))
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await subscribed(session, url)
        sizes: list[int] = []
        taken: list[int] = []
        while len(taken) < count:
            for _ in range(100):
                await asyncio.sleep(0)
            batch = await connection.next_batch()
            sizes.append(len(batch))
            taken += [push.sequence for push in batch if isinstance(push, NumberedEntry)]
        assert taken == list(range(1, count + 1))
        assert max(sizes) <= links.MAX_WAITING
        await connection.close()


async def test_what_nobody_took_is_bounded_in_bytes_as_well(session: aiohttp.ClientSession) -> None:
    count, body = 12, bytes(limits.MAX_LARGE_BODY_BYTES)

    async def behaviour(peer: Peer) -> None:
        await peer.subscribed()
        await peer.send(frames.Run(1, count), *(frames.Entry(bytes(16), body, None) for _ in range(count)))
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await subscribed(session, url)
        taken = 0
        while taken < count:
            for _ in range(1000):
                await asyncio.sleep(0)
            batch = await connection.next_batch()
            assert len(batch) == 1, "the one that brought it above the bound"
            taken += len(batch)
        await connection.close()


@pytest.mark.parametrize("ending", ["close", "abort", "garbage", "text", "unasked"])
async def test_whoever_waits_hears_of_the_loss(session: aiohttp.ClientSession, ending: str) -> None:
    codes: list[int | None] = []

    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive()
        if ending == "close":
            await peer.socket.close(code=1001)
        elif ending == "abort":
            transport = peer.socket._req.transport  # type: ignore[union-attr]  # set while it is served
            assert transport is not None
            transport.abort()
        elif ending == "garbage":
            await peer.socket.send_bytes(b"\xc1")
            codes.append(await peer.gone())
        elif ending == "text":
            await peer.socket.send_str("hello")
            await peer.gone()
        else:
            await peer.socket.send_bytes(frames.encode(frames.Done(99)))
            codes.append(await peer.gone())

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        waiting = asyncio.ensure_future(connection.next_batch())
        with pytest.raises(Disconnected):
            await connection.request(fence_get)
        with pytest.raises(Disconnected):
            await waiting
        with pytest.raises(Disconnected):
            await connection.request(fence_get)
        assert connection.lost is not None
        await connection.close()
    assert codes in ([], [1002])


@asynccontextmanager
async def silent_relay() -> AsyncIterator[str]:
    """A relay that says Welcome and nothing more, until the client is gone: it reads nothing, so it answers no ping."""
    done = asyncio.Event()

    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await done.wait()

    async with relay(behaviour) as url:
        try:
            yield url
        finally:
            done.set()


async def test_a_relay_that_answers_no_ping_is_lost(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HEARTBEAT_SECONDS", 0.05)
    async with silent_relay() as url:
        connection = await connected(session, url)
        with pytest.raises(Disconnected):
            await connection.next_batch()
        await connection.close()


async def test_a_relay_that_falls_silent_while_an_answer_is_due_is_lost(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.05)
    async with silent_relay() as url:
        connection = await connected(session, url)
        with pytest.raises(Disconnected):
            await connection.request(fence_get)
        with pytest.raises(Disconnected):
            await connection.next_batch()
        await asyncio.wait_for(connection.close(), links.CLOSE_SECONDS / 2)  # nobody is waited for


async def test_a_relay_that_should_bring_something_and_falls_silent_is_lost(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.05)
    async with silent_relay() as url:
        connection = await connected(session, url)
        for _ in range(2):
            connection.expect(asyncio.get_running_loop().time())
        with pytest.raises(Disconnected):
            await connection.next_batch()
        await connection.close()


async def test_a_relay_that_lives_may_take_its_time(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.02)
    pings = 0

    async def behaviour(peer: Peer) -> None:
        nonlocal pings
        await peer.welcome()
        asked = await peer.receive()
        await peer.socket.ping(b"are you there")
        while pings < 4:
            message = await peer.socket.receive()
            pings += message.type is web.WSMsgType.PING
            if message.type is web.WSMsgType.PING:
                await peer.socket.pong(message.data)
        assert isinstance(asked, frames.FenceGet)
        await peer.send(frames.Fence(asked.request, bytes(16), bytes(32), b"late"))
        await peer.gone()

    async with relay(behaviour, autoping=False) as url:
        connection = await connected(session, url)
        answer = await connection.request(fence_get)
        assert isinstance(answer, frames.Fence)
        assert answer.body == b"late"
        connection.suspect()
        await connection.close()


async def test_who_is_suspected_for_nothing_stays(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.02)

    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await peer.gone()  # it answers pings

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        connection.suspect()
        connection.suspect()
        assert connection._probe is not None
        await connection._probe
        assert connection.lost is None
        await connection.close()


async def test_after_the_last_word_of_the_relay_nothing_is_sent(session: aiohttp.ClientSession) -> None:
    done = asyncio.Event()

    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await peer.send(frames.Error(0, Code.GOING_AWAY, "shutting down"))
        await done.wait()

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        assert await connection.next_batch() == [frames.Error(0, Code.GOING_AWAY, "shutting down")]
        assert connection.lost is None
        with pytest.raises(Disconnected, match="closing"):
            await connection.request(fence_get)
        done.set()
        await connection.close()


async def test_a_frame_of_the_other_role_is_our_own_error(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        with pytest.raises(LocalError):
            await connection.request(frames.Status)
        await connection.close()


async def test_closing_ends_what_waits(session: aiohttp.ClientSession) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.welcome()
        await peer.gone()

    async with relay(behaviour) as url:
        connection = await connected(session, url)
        waiting = [
            asyncio.ensure_future(connection.next_batch()),
            asyncio.ensure_future(connection.request(fence_get)),
        ]
        await asyncio.sleep(0)
        await connection.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, Disconnected) for result in results)


async def _overloaded(peer: Peer) -> None:
    await peer.receive()
    await peer.send(frames.Error(0, Code.OVERLOADED, "no room"))


async def _version(peer: Peer) -> None:
    await peer.receive()
    await peer.send(frames.Error(0, Code.VERSION, "version"))


async def _silent(peer: Peer) -> None:
    await peer.gone()


async def _closing(peer: Peer) -> None:
    await peer.socket.close()


async def _garbage(peer: Peer) -> None:
    await peer.socket.send_bytes(b"\xc1")
    await peer.gone()


@pytest.mark.parametrize("behaviour", [_overloaded, _silent, _closing, _garbage])
async def test_no_welcome_is_no_connection(
    session: aiohttp.ClientSession, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HANDSHAKE_SECONDS", 0.3)
    async with relay(behaviour) as url:
        with pytest.raises(Disconnected):
            await connected(session, url)


async def test_a_relay_without_a_common_version_is_not_tried_again(session: aiohttp.ClientSession) -> None:
    async with relay(_version) as url:
        with pytest.raises(Refused) as refused:
            await connected(session, url)
    assert refused.value.code == Code.VERSION


async def test_a_relay_leads_nobody_elsewhere(session: aiohttp.ClientSession) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPFound("/router/reboot")

    app = web.Application()
    app.router.add_get("/{path:.*}", elsewhere)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        with pytest.raises(Disconnected):
            await connected(session, url)
        assert not await diagnostics.send(url, Measure.USE, 0)
    finally:
        await runner.cleanup()
    assert asked == ["/v1/socket", "/v1/diagnostics"]


async def test_nobody_there_or_no_relay_there(session: aiohttp.ClientSession) -> None:
    async with relay(_silent) as url:
        with pytest.raises(Disconnected):
            await connected(session, url + "elsewhere")
    with pytest.raises(Disconnected):
        await connected(session, url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://relay.example", "ws://relay.example/v1/socket"),
        ("https://relay.example/", "wss://relay.example/v1/socket"),
        ("HTTPS://relay.example:8443/under/", "wss://relay.example:8443/under/v1/socket"),
        ("ws://[::1]:8787", "ws://[::1]:8787/v1/socket"),
        (" wss://relay.example//\n", "wss://relay.example/v1/socket"),
    ],
)
def test_socket_urls(url: str, expected: str) -> None:
    assert socket_url(url) == expected


@pytest.mark.parametrize("url", ["", "relay.example", "ftp://relay.example", "https://", "://x", "http://a:b:c"])
async def test_what_is_not_a_relays_url(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(RelayError, match="URL"):
        await connected(session, url)


@given(seed=st.integers(), tries=st.integers(1, 40))
def test_backoff_doubles_its_bound_and_starts_anew(seed: int, tries: int) -> None:
    backoff = Backoff(random.Random(seed))
    for number in range(tries):
        assert 0 <= backoff.next() <= min(0.1 * 2**number, 30)
    backoff.reset()
    assert backoff.next() <= 0.1


@pytest.mark.parametrize("which", [0, 1])
async def test_a_client_whose_connections_are_at_two_relays_notices_when_either_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """One of the two receives, and nothing is asked of it: what this client sends to itself should come there."""
    monkeypatch.setattr(links, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(links, "HEARTBEAT_SECONDS", 1000)
    async with relay_in_process(tmp_path / "relay") as server, people(tmp_path, server.url, "bob") as (bob,):
        target = int(server.url.rpartition(":")[2])
        proxies = [await Proxy(target).start() for _ in range(2)]
        front = await Spread([proxy.port for proxy in proxies]).start()
        async with person(tmp_path, "alice", f"http://127.0.0.1:{front.port}") as alice:
            room, other = await together(alice, bob)
            assert all(len(proxy._pairs) == 1 for proxy in proxies)
            front._ports = [proxies[1 - which].port]
            proxies[which].cut(b"", silent=True)
            await room.send("is anybody there")
            await other.send("yes")
            await alice.reads("yes")
        for each in (front, *proxies):
            await each.stop()
