"""Claims over HTTP, against a relay: the frames of the WebSocket, what is refused, and what is cut off."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgpack
import pytest

from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.app import Relay
from restante_server.stores.contract import Outcome, StoreFull, StoreUnavailable
from restante_server.transport import claims
from restante_server.transport.websocket import Acceptor
from support.relay import TIMEOUT, Owner, Peer, relay_in_process

SUITE = 3


class Post:
    """A connection that speaks HTTP by hand, so that it is known to be the same one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, relay: Relay) -> AsyncIterator["Post"]:
        host, port = relay.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    def send(self, body: bytes, *, size: int | None = None) -> None:
        head = f"POST {claims.PATH} HTTP/1.1\r\nHost: relay\r\nContent-Length: {len(body) if size is None else size}"
        self.writer.write(head.encode() + b"\r\n\r\n" + body)

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(TIMEOUT):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            return int(head.split()[1]), await self.reader.readexactly(int(length.split(b":")[1]))

    async def ask(self, frame: frames.ClientFrame) -> tuple[int, frames.RelayFrame]:
        self.send(frames.encode(frame))
        status, body = await self.answer()
        return status, frames.decode_relay_frame(body)

    async def closed(self) -> bool:
        async with asyncio.timeout(TIMEOUT):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(2**20):
                    pass
        return True


async def pool(relay: Relay, packages: list[bytes], last_resort: bytes = b"") -> bytes:
    """Make a mailbox with a pool; return its address."""
    owner = Owner()
    async with await Peer.own(relay.url, owner) as peer:
        address = await peer.add_address(owner.address())
        assert isinstance(
            await peer.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, packages, last_resort, False)), frames.Done
        )
    return address


async def test_it_is_the_same_claim_as_over_the_websocket(relay: Relay) -> None:
    address = await pool(relay, [b"one", b"two"], b"last")
    claim = frames.Claim(5, SUITE, [address, bytes(24), address])
    async with Post.connect(relay) as http, await Peer.connect(relay.url) as socket:
        first = frames.Claimed(
            5,
            [
                frames.ClaimedPrekey(0, 1, b"one"),
                frames.ClaimedPrekey(Code.GONE, 0, b""),
                frames.ClaimedPrekey(0, 2, b"two"),
            ],
        )
        assert await http.ask(claim) == (200, first)
        again = await socket.ask(lambda n: frames.Claim(n, SUITE, claim.addresses))
        http.send(frames.encode(claim))
        assert await http.answer() == (200, frames.encode(frames.Claimed(5, again.prekeys)))


async def test_claims_of_one_connection_are_answered_in_their_order(relay: Relay) -> None:
    packages = [bytes([number]) for number in range(20)]
    address = await pool(relay, packages)
    async with Post.connect(relay) as http:
        for number in range(1, 21):
            http.send(frames.encode(frames.Claim(number, SUITE, [address])))
        for number in range(1, 21):
            expected = frames.Claimed(number, [frames.ClaimedPrekey(0, number, bytes([number - 1]))])
            assert await http.answer() == (200, frames.encode(expected))


async def test_the_owner_hears_that_a_pool_runs_low(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as peer, Post.connect(relay) as http:
        address = await peer.add_address(owner.address())
        packages = [bytes([number]) for number in range(limits.PREKEYS_LOW_MARK)]
        await peer.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, packages, b"", False))
        await peer.subscribe()
        assert isinstance(await peer.next(), frames.Drained)
        await http.ask(frames.Claim(1, SUITE, [address]))
        assert await peer.next() == frames.PrekeysLow(SUITE, limits.PREKEYS_LOW_MARK - 1)


@pytest.mark.parametrize(
    ("body", "status", "request_number", "code"),
    [
        (b"", 400, 0, Code.MALFORMED),
        (b"\xc1", 400, 0, Code.MALFORMED),
        (frames.encode(frames.FenceGet(1, bytes(32))), 400, 0, Code.MALFORMED),
        (frames.encode(frames.Claim(1, SUITE, [bytes(23)])), 400, 0, Code.MALFORMED),
        (frames.encode(frames.Claim(0, SUITE, [bytes(24)])), 400, 0, Code.MALFORMED),
        (frames.encode(frames.Claim(1, 0, [bytes(24)])), 400, 0, Code.MALFORMED),
        (msgpack.packb([19, 1, SUITE, [bytes(24)], 0]), 400, 0, Code.MALFORMED),
        (frames.encode(frames.Claim(9, SUITE, [])), 413, 9, Code.LIMIT),
        (frames.encode(frames.Claim(9, SUITE, [bytes(24)] * (limits.MAX_CLAIM_ADDRESSES + 1))), 413, 9, Code.LIMIT),
        (bytes(limits.MAX_CLAIM_BYTES + 1), 413, 0, Code.TOO_LARGE),
    ],
)
async def test_what_is_refused(relay: Relay, body: bytes, status: int, request_number: int, code: Code) -> None:
    async with Post.connect(relay) as http:
        http.send(body)
        found, answer = await http.answer()
        error = frames.decode_relay_frame(answer)
        assert isinstance(error, frames.Error)
        assert (found, error.request, error.code) == (status, request_number, code)
        assert await http.closed()


async def test_the_largest_claim_fits(relay: Relay) -> None:
    async with Post.connect(relay) as http:
        claim = frames.Claim(2**32 - 1, 0xFFFF, [bytes(24)] * limits.MAX_CLAIM_ADDRESSES)
        status, answer = await http.ask(claim)
        assert (status, answer) == (200, frames.Claimed(2**32 - 1, [frames.ClaimedPrekey(Code.GONE, 0, b"")] * 128))


async def test_a_body_without_size_is_malformed(relay: Relay) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield frames.encode(frames.Claim(1, SUITE, [bytes(24)]))

    async with aiohttp.ClientSession() as session, session.post(relay.url + claims.PATH, data=parts()) as response:
        assert response.status == 400
        assert frames.decode_relay_frame(await response.read()) == frames.Error(0, Code.MALFORMED, "size")


@pytest.mark.parametrize(
    ("error", "status", "code"), [(StoreUnavailable(), 503, Code.UNAVAILABLE), (StoreFull(), 507, Code.FULL)]
)
async def test_what_the_store_does_not_do(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: Code
) -> None:
    def fail(_suite: int, _addresses: object, outcome: Outcome) -> None:
        outcome.set_exception(error)

    monkeypatch.setattr(relay.store, "begin_claim", fail)
    async with Post.connect(relay) as http:
        answer = await http.ask(frames.Claim(3, SUITE, [bytes(24)]))
        assert answer == (status, frames.Error(3, code, "store"))


async def test_a_connection_that_claims_outlives_the_time_to_decide(tmp_path: Path) -> None:
    timeout = 0.1
    async with relay_in_process(tmp_path, handshake_timeout=timeout) as relay:
        loop = asyncio.get_running_loop()
        async with Post.connect(relay) as http:
            end = loop.time() + 3 * timeout
            while loop.time() < end:
                assert (await http.ask(frames.Claim(1, SUITE, [bytes(24)])))[0] == 200


async def test_so_many_connections_are_kept(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIM_CONNECTIONS", 1)
    claim = frames.Claim(1, SUITE, [bytes(24)])
    async with Post.connect(relay) as first, Post.connect(relay) as second:
        assert (await first.ask(claim))[0] == 200
        assert await second.ask(claim) == (503, frames.Error(0, Code.OVERLOADED, "claims"))
        assert await second.closed()
        assert (await first.ask(claim))[0] == 200


async def test_a_place_is_free_again_after_its_connection(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIM_CONNECTIONS", 1)
    monkeypatch.setattr(claims, "_LOOK_INTERVAL", 0)
    claim = frames.Claim(1, SUITE, [bytes(24)])
    async with Post.connect(relay) as first:
        assert (await first.ask(claim))[0] == 200
    status = 0
    async with asyncio.timeout(TIMEOUT):
        while status != 200:
            async with Post.connect(relay) as second:
                status, _ = await second.ask(claim)


async def test_a_relay_that_stops_takes_no_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Acceptor, "hold", lambda *_: False)
    async with relay_in_process(tmp_path) as relay, Post.connect(relay) as http:
        answer = await http.ask(frames.Claim(1, SUITE, [bytes(24)]))
        assert answer == (503, frames.Error(0, Code.GOING_AWAY, "claims"))


@pytest.fixture
async def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relay]:
    """A relay that cuts off whoever does not move at all."""
    monkeypatch.setattr(claims, "_LOOK_INTERVAL", 0.01)
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.2)
    async with relay_in_process(tmp_path) as relay:
        yield relay


async def test_half_a_claim_is_cut_off(impatient: Relay) -> None:
    async with Post.connect(impatient) as http:
        http.send(b"half", size=5)
        assert await http.closed()


async def test_who_does_not_read_is_cut_off(impatient: Relay) -> None:
    address = await pool(impatient, [], os.urandom(limits.MAX_PREKEY_BYTES))
    claim = frames.encode(frames.Claim(1, SUITE, [address] * limits.MAX_CLAIM_ADDRESSES))
    async with Post.connect(impatient) as http:

        async def insist() -> None:
            while True:
                http.send(claim)
                await http.writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(insist(), TIMEOUT)
    async with Post.connect(impatient) as other:
        assert (await other.ask(frames.Claim(1, SUITE, [bytes(24)])))[0] == 200
