import asyncio
import os
import random

import aiohttp
import msgpack
import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_FRAME_BYTES, MAX_UNPROVED_FRAME_BYTES
from restante_server.app import Relay
from restante_server.services.sender import Sender
from restante_server.stores.contract import Outcome, StoreFull
from restante_server.transport import rfc6455
from support.relay import HOUR, PATH, Owner, Peer
from support.websockets import frame

HELLO = frames.encode(frames.Hello([1], frames.ROLE_SENDER, bytes(32)))
DEPOSIT = frames.encode(frames.Deposit(1, bytes(16), [bytes(24)], b"x", HOUR, None, 0))

FATAL = {
    "no MessagePack": ([b"\xc1"], Code.MALFORMED, 1002),
    "nothing": ([b""], Code.MALFORMED, 1002),
    "not an array": ([msgpack.packb({})], Code.MALFORMED, 1002),
    "unknown number": ([msgpack.packb([99, 1])], Code.MALFORMED, 1002),
    "a relay's frame": ([frames.encode(frames.Done(1))], Code.MALFORMED, 1002),
    "too few fields": ([msgpack.packb([1, [1]])], Code.MALFORMED, 1002),
    "too many fields": ([msgpack.packb([1, [1], 0, bytes(32), 0])], Code.MALFORMED, 1002),
    "wrong type": ([msgpack.packb([1, "1", 0, bytes(32)])], Code.MALFORMED, 1002),
    "wrong length": ([msgpack.packb([1, [1], 0, bytes(31)])], Code.MALFORMED, 1002),
    "trailing bytes": ([HELLO + b"\x00"], Code.MALFORMED, 1002),
    "deep nesting": ([b"\x91" * 1000], Code.MALFORMED, 1002),
    "a request before Hello": ([DEPOSIT], Code.UNEXPECTED, 1002),
    "unknown role": ([msgpack.packb([1, [1], 2, bytes(32)])], Code.MALFORMED, 1002),
    "no version in common": ([msgpack.packb([1, [2, 3], 0, bytes(32)])], Code.VERSION, 1002),
    "large before Hello": ([bytes(MAX_UNPROVED_FRAME_BYTES + 1)], Code.TOO_LARGE, 1009),
    "Hello twice": ([HELLO, HELLO], Code.UNEXPECTED, 1002),
    "a receiver's frame from a sender": ([HELLO, frames.encode(frames.Status(1))], Code.UNEXPECTED, 1002),
    "request number 0": ([HELLO, frames.encode(frames.FenceGet(0, bytes(32)))], Code.MALFORMED, 1002),
    "a limit with number 0": ([HELLO, frames.encode(frames.ListPut(0, 1, []))], Code.MALFORMED, 1002),
    "above the largest frame": ([HELLO, bytes(MAX_FRAME_BYTES + 1)], Code.TOO_LARGE, 1009),
    "request number in flight": ([HELLO, DEPOSIT, DEPOSIT], Code.UNEXPECTED, 1002),
}


async def _until_closed(socket: aiohttp.ClientWebSocketResponse) -> tuple[list[object], int | None]:
    found: list[object] = []
    while (message := await socket.receive(timeout=20)).type is aiohttp.WSMsgType.BINARY:
        found.append(frames.decode_relay_frame(message.data))
    return found, socket.close_code


@pytest.mark.parametrize("name", FATAL)
async def test_a_broken_rule_is_named_and_closes_its_connection_alone(relay: Relay, name: str) -> None:
    messages, code, close_code = FATAL[name]
    async with (
        await Peer.connect(relay.url) as bystander,
        aiohttp.ClientSession() as session,
        session.ws_connect(relay.url + PATH, max_msg_size=0) as socket,
    ):
        for message in messages:
            await socket.send_bytes(message)
        received, closed = await _until_closed(socket)
        error = received[-1]
        assert isinstance(error, frames.Error)
        assert (error.request, error.code, closed) == (0, code, close_code)
        assert (await bystander.deposit([bytes(24)])).failed == [(0, Code.GONE)]


async def test_text_is_malformed(relay: Relay) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(relay.url + PATH) as socket:
        await socket.send_str("hello")
        received, closed = await _until_closed(socket)
        assert received == [frames.Error(0, Code.MALFORMED, "text message")]
        assert closed == 1002


async def test_far_too_large_messages_are_refused_by_their_length(relay: Relay) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(relay.url + PATH) as socket:
        try:
            await socket.send_bytes(bytes(4 * MAX_FRAME_BYTES))
        except ConnectionError:
            return  # closed while it was sent
        assert await _until_closed(socket) == ([frames.Error(0, Code.TOO_LARGE, "first frame")], 1009)


async def test_requests_before_the_proof_are_unexpected(relay: Relay) -> None:
    async with await Peer.connect(relay.url, frames.ROLE_RECEIVER) as peer:
        await peer.socket.send_bytes(frames.encode(frames.Status(1)))
        assert (await peer.receive()).code == Code.UNEXPECTED
        assert await peer.receive() == 1002


async def test_what_is_no_websocket_gets_http_errors(relay: Relay) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(relay.url + PATH) as response:
            assert response.status == 400
        async with session.get(relay.url + "/healthz") as response:
            assert response.status == 404, "the operator's pages are elsewhere"


async def test_pings_are_answered(relay: Relay) -> None:
    async with await Peer.connect(relay.url, autoping=False) as peer:
        await peer.socket.ping(b"payload")
        message = await peer.socket.receive(timeout=20)
        assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"payload")
        await peer.socket.pong(b"unasked")
        assert (await peer.deposit([bytes(24)])).failed == [(0, Code.GONE)]


async def test_more_messages_than_have_their_turn_at_once(relay: Relay) -> None:
    host, _, port = relay.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /v1/socket HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with asyncio.timeout(20):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        numbers = [b"%04d" % number for number in range(3000)]
        writer.write(b"".join(frame(number, rfc6455.PING) for number in numbers))
        assert [(await reader.readexactly(6))[2:] for _ in numbers] == numbers
    writer.close()


async def test_more_requests_than_may_be_in_work_are_all_answered(relay: Relay) -> None:
    async with await Peer.connect(relay.url) as peer:
        claim = [bytes(24)] * 128  # its answer may be half a mebibyte
        numbers = [await peer.send(lambda n: frames.Claim(n, 3, claim)) for _ in range(20)]
        numbers += [
            await peer.send(lambda n: frames.Deposit(n, os.urandom(16), [bytes(24)], b"x", HOUR, None, 0))
            for _ in range(600)
        ]
        answered = [(await peer.receive()).request for _ in numbers]
        assert sorted(answered) == sorted(numbers)


async def test_a_peer_that_vanishes_leaves_nothing_behind(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.connect(relay.url) as sender:
        receiver = await Peer.own(relay.url, owner)
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert receiver.socket._response.connection is not None
        transport = receiver.socket._response.connection.transport
        assert transport is not None
        transport.abort()
        await receiver.session.close()
        assert (await sender.deposit([address], b"kept")).failed == []
        async with await Peer.own(relay.url, owner) as again:
            await again.subscribe()
            assert [each.entry.body for each in await again.entries(1)] == [b"kept"]


async def test_without_its_store_the_relay_says_so(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        await sender.deposit([address])
        (numbered,) = await receiver.entries(1)
        await relay.store.close()
        assert (await sender.deposit([address])).code == Code.UNAVAILABLE
        await receiver.acknowledge(numbered.sequence)
        assert await receiver.next() == frames.Error(0, Code.GOING_AWAY, "store")
        assert await receiver.next() == 1001


async def test_a_bug_of_ours_fails_its_request_alone(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(_suite: int, _addresses: object, outcome: Outcome) -> None:
        outcome.set_exception(KeyError("secret"))

    monkeypatch.setattr(relay.store, "begin_claim", claim)
    async with await Peer.connect(relay.url) as sender:
        answer = await sender.ask(lambda n: frames.Claim(n, 3, [bytes(24)]))
        assert (answer.code, answer.detail) == (Code.UNAVAILABLE, "internal")
        assert (await sender.deposit([bytes(24)])).failed == [(0, Code.GONE)]


async def test_a_bug_of_ours_in_the_reader_is_said_before_the_end(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setitem(Sender._HANDLERS, frames.ListDrop, broken)
    async with await Peer.connect(relay.url) as sender:
        await sender.send(lambda n: frames.ListDrop(n, 1))
        assert await sender.receive() == frames.Error(0, Code.GOING_AWAY, "internal")
        assert await sender.receive() == 1001


async def test_a_bug_of_ours_in_an_answer_is_said_before_the_end(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def deposit(_: object, outcome: Outcome) -> None:
        outcome.set_result(None)

    monkeypatch.setattr(relay.store, "begin_deposit", deposit)
    monkeypatch.setattr(relay.metrics.commit, "observe", lambda _: 1 / 0)
    async with await Peer.connect(relay.url) as sender:
        assert (await sender.deposit([bytes(24)])).detail == "internal"
        assert await sender.receive() == frames.Error(0, Code.GOING_AWAY, "internal")


async def test_a_full_store_refuses_and_goes_on(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def deposit(_: object, outcome: Outcome) -> None:
        outcome.set_exception(StoreFull())

    monkeypatch.setattr(relay.store, "begin_deposit", deposit)
    async with await Peer.connect(relay.url) as sender:
        assert (await sender.deposit([bytes(24)])).code == Code.FULL
        assert isinstance(await sender.ask(lambda n: frames.Claim(n, 3, [bytes(24)])), frames.Claimed)


def _mutated(rng: random.Random, valid: list[bytes]) -> bytes:
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randrange(60))
        case 1:
            return bytes(
                msgpack.packb([rng.randrange(90), *(rng.choice([0, b"", "x", None, [], -1]) for _ in range(4))])
            )
    data = bytearray(rng.choice(valid))
    for _ in range(rng.randrange(1, 4)):
        if data and rng.random() < 0.8:
            data[rng.randrange(len(data))] = rng.randrange(256)
        else:
            del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


async def test_random_and_mutated_frames(relay: Relay, request: pytest.FixtureRequest) -> None:
    rng = random.Random(request.config.getoption("--seed"))
    valid = [
        DEPOSIT,
        frames.encode(frames.Deposit(2, bytes(16), 5, b"x", HOUR, bytes(32), 0)),
        frames.encode(frames.ListPut(3, 5, [bytes(24)])),
        frames.encode(frames.Claim(4, 3, [bytes(24)])),
        frames.encode(frames.FenceGet(5, bytes(32))),
        frames.encode(frames.SlotGet(6, bytes(24))),
        frames.encode(frames.SlotPut(7, bytes(24), bytes(32), bytes(16), 1, HOUR, b"", bytes(64))),
        frames.encode(frames.Open(8, bytes(24), bytes(32), bytes(16), bytes(64))),
        frames.encode(frames.Subscribe(9, b"", 0, [])),
        frames.encode(frames.Ack(bytes(8), bytes(16), 9, [1])),
    ]
    async with aiohttp.ClientSession() as session, await Peer.connect(relay.url) as bystander:
        for _ in range(request.config.getoption("--frames") // 20):
            role = rng.choice([frames.ROLE_SENDER, frames.ROLE_RECEIVER])
            async with session.ws_connect(relay.url + PATH, compress=0) as socket:
                await socket.send_bytes(frames.encode(frames.Hello([1], role, bytes(32))))
                try:
                    for _ in range(20):
                        await socket.send_bytes(_mutated(rng, valid))
                except ConnectionError:
                    pass  # it was closed at an earlier frame
                welcome = await socket.receive(timeout=20)
                assert isinstance(frames.decode_relay_frame(welcome.data), frames.Welcome)
            assert (await bystander.deposit([bytes(24)])).failed == [(0, Code.GONE)]
    internal = relay.metrics.registry.get_sample_value("restante_refusals_total", {"code": "unavailable"})
    assert not internal, "no request failed for a reason of ours"
