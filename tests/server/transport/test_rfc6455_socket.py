"""RFC 6455 at a real relay, over TCP: raw bytes out, and every byte that comes back is looked at.

The relay echoes nothing, so a body that went through is seen at a mailbox that subscribes. test_rfc6455.py has the same
rules without a network.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Self

import pytest

from restante_protocol import frames
from restante_protocol.connection import ClientConnection
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_FRAME_BYTES
from restante_server.app import Relay
from restante_server.transport.rfc6455 import (
    BAD_PAYLOAD,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
)
from support.relay import HOUR, PATH, TIMEOUT, Owner, Peer
from support.websockets import frame

HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
ACCEPTED = b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
TURNS = 3  # of the event loop, after which the relay, which runs in it, has read what was sent


class Wire:
    """A client that is a TCP connection and nothing else."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._came = bytearray()
        self.connection = ClientConnection(frames.ROLE_SENDER)

    @classmethod
    async def dial(cls, relay: Relay) -> Self:
        host, _, port = relay.url.removeprefix("http://").rpartition(":")
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        return cls(sock)

    @classmethod
    async def connect(cls, relay: Relay) -> Self:
        """Connect, and shake hands twice: the RFC's way, and ours."""
        wire = await cls.dial(relay)
        await wire.say(HANDSHAKE)
        assert ACCEPTED in await wire.head()
        await wire.say(frame(wire.connection.hello(os.urandom(32))))
        assert isinstance(await wire.answer(), frames.Welcome)
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def say(self, *pieces: bytes) -> None:
        """Send each so that the relay reads it by itself."""
        for piece in pieces:
            await asyncio.get_running_loop().sock_sendall(self._socket, piece)
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def _more(self) -> bool:
        async with asyncio.timeout(TIMEOUT):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 20)
        self._came += data
        return bool(data)

    async def head(self) -> bytes:
        """Return the answer to a request."""
        while b"\r\n\r\n" not in self._came:
            assert await self._more()
        at = self._came.index(b"\r\n\r\n") + 4
        head = bytes(self._came[:at])
        del self._came[:at]
        return head

    async def _take(self, count: int) -> bytes:
        while len(self._came) < count:
            assert await self._more(), "the relay has closed"
        taken = bytes(self._came[:count])
        del self._came[:count]
        return taken

    async def hear(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame, which has to be as section 5 wants a server's."""
        first, length = await self._take(2)
        assert first & 0xF0 == 0x80, "final, and no reserved bit"
        assert length < 128, "not masked"
        opcode = first & 0xF
        assert opcode in {BINARY, CLOSE, PING, PONG}
        if length > 125:
            assert opcode == BINARY
            size, shortest = {126: (2, 126), 127: (8, 65_536)}[length]
            length = int.from_bytes(await self._take(size), "big")
            assert length >= shortest
        return opcode, await self._take(length)

    async def answer(self) -> object:
        """Return the relay's next frame in a binary message."""
        opcode, payload = await self.hear()
        assert opcode == BINARY
        return self.connection.receive(payload)

    async def closed(self, code: int) -> None:
        """The relay says this code, reads no more, and ends the connection as soon as we do."""
        assert await self.hear() == (CLOSE, code.to_bytes(2, "big"))
        with contextlib.suppress(OSError):  # it has already
            self._socket.shutdown(socket.SHUT_WR)
        await self.ended()

    async def ended(self) -> None:
        """Nothing more comes."""
        with contextlib.suppress(ConnectionResetError):
            assert not await self._more()
        assert not self._came

    def deposit(self, address: bytes, body: bytes) -> bytes:
        """Return the payload of a deposit's message."""
        number = self.connection.next_request()
        deposit = frames.Deposit(number, os.urandom(16), [address], body, HOUR, None, 0)
        return self.connection.send(deposit)


class Listener:
    """A mailbox that shows what went through."""

    def __init__(self, peer: Peer, address: bytes) -> None:
        self.peer = peer
        self.address = address

    async def hears(self, body: bytes) -> None:
        """The next entry has this body."""
        (entry,) = await self.peer.entries(1)
        assert entry.entry.body == body
        await self.peer.acknowledge(entry.sequence)


@pytest.fixture
async def listener(relay: Relay) -> AsyncIterator[Listener]:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as peer:
        address = await peer.add_address(owner.address())
        await peer.subscribe()
        assert isinstance(await peer.next(), frames.Drained)
        yield Listener(peer, address)


def cut(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


# Section 4: the opening handshake.


async def test_a_handshake_cut_at_each_byte(relay: Relay) -> None:
    for at in range(1, len(HANDSHAKE)):
        async with await Wire.dial(relay) as wire:
            await wire.say(HANDSHAKE[:at], HANDSHAKE[at:])
            assert ACCEPTED in await wire.head()
    async with await Wire.dial(relay) as wire:
        await wire.say(*cut(HANDSHAKE))
        assert ACCEPTED in await wire.head()


async def test_frames_may_come_with_the_handshake(relay: Relay) -> None:
    async with await Wire.dial(relay) as wire:
        hello = wire.connection.hello(os.urandom(32))
        await wire.say(HANDSHAKE + frame(b"early", PING) + frame(hello)[:9], frame(hello)[9:])
        assert ACCEPTED in await wire.head()
        assert await wire.hear() == (PONG, b"early")
        assert isinstance(await wire.answer(), frames.Welcome)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Upgrade: websocket\r\n", b"", 400),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", 400),
        (b"Connection: Upgrade\r\n", b"Connection: keep-alive\r\n", 400),
        (b"Version: 13", b"Version: 8", 426),
        (b"Sec-WebSocket-Key", b"Sec-WebSocket-Other", 400),
        (b"dGhl", b"dG", 400),
        (b"GET ", b"POST ", 405),
    ],
)
async def test_what_is_no_handshake(relay: Relay, old: bytes, new: bytes, status: int) -> None:
    async with await Wire.dial(relay) as wire:
        await wire.say(HANDSHAKE.replace(old, new, 1))
        head = await wire.head()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert (b"Sec-WebSocket-Version: 13" in head) == (status == 426)


# Section 5: frames that are right.


async def test_every_form_of_length(relay: Relay, listener: Listener) -> None:
    """Messages of just this size, whole and in pieces."""
    async with await Wire.connect(relay) as wire:
        for size in (125, 126, 127, 128, 65_535, 65_536, 65_537, MAX_FRAME_BYTES):
            for step in (size + 14, max(1, size // 97)):
                room = size - len(wire.deposit(listener.address, b""))
                body = os.urandom(room - (0 if room < 256 else 1 if room < 65_538 else 3))  # its length's own bytes
                payload = wire.deposit(listener.address, body)
                assert len(payload) == size
                await wire.say(*cut(frame(payload), step))
                answer = await wire.answer()
                if size == MAX_FRAME_BYTES:  # a frame may be that large, an ordinary body not: refused by itself
                    assert isinstance(answer, frames.Error)
                    assert answer.code == Code.LIMIT
                else:
                    assert isinstance(answer, frames.Deposited)
                    await listener.hears(body)


async def test_a_fragmented_message_with_control_frames_between_cut_at_each_byte(
    relay: Relay, listener: Listener
) -> None:
    async with await Wire.connect(relay) as wire:

        def build() -> tuple[bytes, bytes]:
            body = os.urandom(20)
            payload = wire.deposit(listener.address, body)
            return body, (
                frame(payload[:30], final=False)
                + frame(b"", PING)
                + frame(b"", CONTINUATION, final=False, mask=bytes(4))
                + frame(b"\xff not text", PONG)
                + frame(payload[30:50], CONTINUATION, final=False, mask=b"\xff\xff\xff\xff")
                + frame(bytes(range(125)), PING)
                + frame(payload[50:], CONTINUATION)
            )

        size = len(build()[1])
        for at in range(1, size + 1):
            body, data = build()
            await wire.say(*([data[:at], data[at:]] if at < size else cut(data)))
            assert await wire.hear() == (PONG, b"")
            assert await wire.hear() == (PONG, bytes(range(125)))
            assert isinstance(await wire.answer(), frames.Deposited)
            await listener.hears(body)


@pytest.mark.parametrize("size", [1, 7, 64, 1024])
async def test_many_fragments(relay: Relay, listener: Listener, size: int) -> None:
    async with await Wire.connect(relay) as wire:
        body = os.urandom(size * 90)
        parts = cut(wire.deposit(listener.address, body), size)
        data = frame(parts[0], final=False)
        data += b"".join(frame(part, CONTINUATION, final=False) for part in parts[1:])
        await wire.say(data, frame(b"", CONTINUATION))
        assert isinstance(await wire.answer(), frames.Deposited)
        await listener.hears(body)


async def test_messages_that_come_together_are_all_answered_in_order(relay: Relay, listener: Listener) -> None:
    async with await Wire.connect(relay) as wire:
        bodies = [os.urandom(10) for _ in range(20)]
        await wire.say(b"".join(frame(wire.deposit(listener.address, body)) + frame(body, PING) for body in bodies))
        heard = [await wire.hear() for _ in range(40)]
        assert [payload for opcode, payload in heard if opcode == PONG] == bodies
        answers = [wire.connection.receive(payload) for opcode, payload in heard if opcode == BINARY]
        assert all(isinstance(answer, frames.Deposited) for answer in answers)
        entries = await listener.peer.entries(20)
        assert sorted(entry.entry.body for entry in entries) == sorted(bodies)


async def test_pings(relay: Relay) -> None:
    async with await Wire.connect(relay) as wire:
        for payload in (b"", b"hello", b"\x00\xff\xfe\xfd", bytes(125)):
            ping = frame(payload, PING)
            await wire.say(frame(payload, PONG), ping * 10, *cut(ping))
            assert [await wire.hear() for _ in range(11)] == [(PONG, payload)] * 11


# Frames that are wrong: all before them is answered, nothing after them is.

LONG = (1 << 63).to_bytes(8, "big")
BROKEN = {
    **{f"reserved bits {bits}": (frame(b"x", reserved=bits), PROTOCOL_ERROR) for bits in range(1, 8)},
    **{f"reserved bits {bits} of a ping": (frame(b"x", PING, reserved=bits), PROTOCOL_ERROR) for bits in (1, 2, 4)},
    "reserved bits of a close": (frame(b"\x03\xe8", CLOSE, reserved=1), PROTOCOL_ERROR),
    **{f"opcode {opcode}": (frame(b"x", opcode), PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "not masked": (frame(b"x", mask=None), PROTOCOL_ERROR),
    "a ping that is not masked": (frame(b"x", PING, mask=None), PROTOCOL_ERROR),
    "a close that is not masked": (frame(b"\x03\xe8", CLOSE, mask=None), PROTOCOL_ERROR),
    "a ping in fragments": (frame(b"x", PING, final=False), PROTOCOL_ERROR),
    "a pong in fragments": (frame(b"x", PONG, final=False), PROTOCOL_ERROR),
    "a close in fragments": (frame(b"\x03\xe8", CLOSE, final=False), PROTOCOL_ERROR),
    "a long ping": (frame(bytes(126), PING), PROTOCOL_ERROR),
    "a long close": (frame(b"\x03\xe8" + b"r" * 124, CLOSE), PROTOCOL_ERROR),
    "125 bytes with a length in two": (frame(bytes(125), length_bytes=2), PROTOCOL_ERROR),
    "65,535 bytes with a length in eight": (b"\x82\xff" + (65_535).to_bytes(8, "big") + b"mask", PROTOCOL_ERROR),
    "a length with the highest bit": (b"\x82\xff" + LONG + b"mask", PROTOCOL_ERROR),
    "nothing to continue": (frame(b"x", CONTINUATION), PROTOCOL_ERROR),
    "nothing to continue, and more": (frame(b"x", CONTINUATION, final=False), PROTOCOL_ERROR),
    "a message within a message": (frame(b"x", final=False) + frame(b"y"), PROTOCOL_ERROR),
    "a text within a message": (frame(b"x", final=False) + frame(b"y", TEXT), PROTOCOL_ERROR),
    "another end": (frame(b"x", PONG) + frame(b"", CONTINUATION), PROTOCOL_ERROR),
    "half a close code": (frame(b"x", CLOSE), PROTOCOL_ERROR),
    **{
        f"the close code {code}": (frame(code.to_bytes(2, "big"), CLOSE), PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "a reason that is no text": (frame(b"\x03\xe8\xce\xba\xed\xa0\x80", CLOSE), BAD_PAYLOAD),
    "a reason that ends within a letter": (frame(b"\x03\xe8\xf0\x9f\x92", CLOSE), BAD_PAYLOAD),
}


async def test_what_breaks_a_rule_closes_the_connection(relay: Relay) -> None:
    for name, (data, code) in BROKEN.items():
        for pieces in ([frame(b"before", PING) + data + frame(b"after", PING)], [frame(b"before", PING), *cut(data)]):
            async with await Wire.connect(relay) as wire:
                with contextlib.suppress(ConnectionError):  # closed while it was sent
                    await wire.say(*pieces)
                assert await wire.hear() == (PONG, b"before"), name
                try:
                    await wire.closed(code)
                except AssertionError as error:
                    raise AssertionError(name) from error


@pytest.mark.parametrize("text", [b"", b"hello", "κόσμε".encode(), b"\xce\xba\xed\xa0\x80", b"\xf4\x90\x80\x80"])
async def test_text_is_refused_whether_it_is_any(relay: Relay, text: bytes) -> None:
    async with await Wire.connect(relay) as wire:
        await wire.say(frame(text[:1], TEXT, final=False), frame(text[1:], CONTINUATION))
        assert await wire.answer() == frames.Error(0, Code.MALFORMED, "text message")
        await wire.closed(PROTOCOL_ERROR)


@pytest.mark.parametrize("fragments", [1, 3])
async def test_a_message_above_the_limit_is_refused_by_its_header(relay: Relay, fragments: int) -> None:
    async with await Wire.connect(relay) as wire:
        part = MAX_FRAME_BYTES // fragments
        for number in range(fragments - 1):
            await wire.say(frame(bytes(part), CONTINUATION if number else BINARY, final=False))
        rest = (MAX_FRAME_BYTES + 1 - part * (fragments - 1)).to_bytes(8, "big")
        await wire.say(bytes((0x80 | (CONTINUATION if fragments > 1 else BINARY), 0xFF)) + rest + b"mask")
        assert await wire.answer() == frames.Error(0, Code.TOO_LARGE, "message")
        await wire.closed(TOO_BIG)


# Section 7: the closing handshake.


CLOSES = (
    b"",
    *(code.to_bytes(2, "big") for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)),
    b"\x03\xe8goodbye",
    b"\x03\xe8" + "ü".encode() * 61 + b".",  # as long as it may be
)


async def test_a_close_is_answered_and_ends_it(relay: Relay) -> None:
    for payload in CLOSES:
        for pieces in ([frame(payload, CLOSE) + frame(b"after", PING)], cut(frame(payload, CLOSE))):
            async with await Wire.connect(relay) as wire:
                await wire.say(*pieces)
                assert await wire.hear() == (CLOSE, b"\x03\xe8"), payload
                await wire.ended()


async def test_what_came_before_a_close_is_answered(relay: Relay, listener: Listener) -> None:
    async with await Wire.connect(relay) as wire:
        payload = wire.deposit(listener.address, b"last")
        unfinished = frame(b"unfinished", final=False)
        await wire.say(frame(payload) + unfinished + frame(b"\x03\xe8", CLOSE))
        assert isinstance(await wire.answer(), frames.Deposited)
        assert await wire.hear() == (CLOSE, b"\x03\xe8")
        await wire.ended()
        await listener.hears(b"last")


async def test_a_peer_that_goes_within_a_frame_leaves_nothing(relay: Relay, listener: Listener) -> None:
    whole = frame(bytes(200), final=False) + frame(b"", PING)
    for at in range(1, len(whole), 9):
        async with await Wire.connect(relay) as wire:
            await wire.say(whole[:at])
    async with await Wire.connect(relay) as wire:
        await wire.say(frame(wire.deposit(listener.address, b"all is well")))
        assert isinstance(await wire.answer(), frames.Deposited)
        await listener.hears(b"all is well")
