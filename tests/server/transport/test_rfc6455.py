"""RFC 6455, section by section."""

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_server.transport import rfc6455
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
    HandshakeError,
    Message,
    Reader,
    WebSocketError,
)
from support.websockets import frame

LIMIT = 70_000
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def read(reader: Reader) -> list[bytes | Message]:
    return list(iter(reader.next, None))


def messages(data: bytes, limit: int = LIMIT) -> list[bytes | Message]:
    reader = Reader(limit)
    reader.receive(data)
    return read(reader)


# Section 4: the opening handshake.


def test_the_handshake_of_section_1_3() -> None:
    assert rfc6455.accept(HANDSHAKE) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Upgrade", None, 400),
        ("Upgrade", "h2c", 400),
        ("Connection", None, 400),
        ("Connection", "close", 400),
        ("Sec-WebSocket-Version", None, 426),
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Key", None, 400),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ", 400),
        ("Sec-WebSocket-Key", "c2hvcnQ=", 400),
        ("Sec-WebSocket-Key", "é" * 24, 400),
    ],
)
def test_what_is_no_handshake(name: str, value: str | None, status: int) -> None:
    headers = {key: text for key, text in {**HANDSHAKE, name: value}.items() if text is not None}
    with pytest.raises(HandshakeError) as refused:
        rfc6455.accept(headers)
    assert refused.value.status == status
    assert refused.value.headers == ({"Sec-WebSocket-Version": "13"} if status == 426 else {})


# Section 5: frames.


def test_the_masked_example_of_section_5_7() -> None:
    assert messages(bytes.fromhex("818537fa213d7f9f4d5158")) == [Message(TEXT, b"Hello")]


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masks_are_the_same_without_aiohttps_own(payload: bytes, mask: bytes) -> None:
    data, expected = bytearray(payload), bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    rfc6455.exclusive_or(mask, data)
    assert data == expected
    assert messages(frame(expected, mask=mask)) == [expected]


def test_aiohttps_own_may_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp._websocket.helpers", None)
    assert rfc6455._fastest() is rfc6455.exclusive_or


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 125, 126, 127, 65_535, 65_536, LIMIT])
def test_every_form_of_length(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    assert messages(frame(payload)) == [payload]


def test_control_frames_come_between_fragments() -> None:
    data = (
        frame(b"one ", final=False)
        + frame(b"", PING)
        + frame(b"two ", CONTINUATION, final=False)
        + frame(b"pong", PONG)
        + frame(b"", CONTINUATION, final=False)
        + frame(b"three", CONTINUATION)
        + frame(b"next", TEXT)
    )
    assert messages(data) == [
        Message(PING, b""),
        Message(PONG, b"pong"),
        b"one two three",
        Message(TEXT, b"next"),
    ]


BROKEN = {
    "not masked": (frame(b"x", mask=None), PROTOCOL_ERROR),
    "a reserved bit": (frame(b"x", reserved=4), PROTOCOL_ERROR),
    "a reserved bit of a control frame": (frame(b"x", PING, reserved=1), PROTOCOL_ERROR),
    "a reserved opcode of data": (frame(b"x", 3), PROTOCOL_ERROR),
    "a reserved opcode of control": (frame(b"x", 11), PROTOCOL_ERROR),
    "a control frame in fragments": (frame(b"x", PING, final=False), PROTOCOL_ERROR),
    "a long control frame": (frame(bytes(126), PING), PROTOCOL_ERROR),
    "a length in two bytes that fits seven bits": (frame(bytes(125), length_bytes=2), PROTOCOL_ERROR),
    "a length in eight bytes that fits two": (frame(bytes(200), length_bytes=8), PROTOCOL_ERROR),
    "a length with the highest bit": (b"\x82\xff" + b"\xff" * 8 + b"mask", PROTOCOL_ERROR),
    "nothing to continue": (frame(b"x", CONTINUATION), PROTOCOL_ERROR),
    "a message within a message": (frame(b"x", final=False) + frame(b"y"), PROTOCOL_ERROR),
    "too long": (b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big") + b"mask", TOO_BIG),
    "too long together": (frame(bytes(LIMIT), final=False) + frame(b"x", CONTINUATION), TOO_BIG),
    "half a close code": (frame(b"x", CLOSE), PROTOCOL_ERROR),
    "a close code that is never sent": (frame(b"\x03\xed", CLOSE), PROTOCOL_ERROR),
    "a close code of nobody": (frame(b"\x13\x88", CLOSE), PROTOCOL_ERROR),
    "a reason that is no text": (frame(b"\x03\xe8\xff", CLOSE), BAD_PAYLOAD),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_a_rule_is_refused_after_all_before_it(name: str) -> None:
    data, code = BROKEN[name]
    reader = Reader(LIMIT)
    reader.receive(frame(b"before") + data)
    assert reader.next() == b"before"
    with pytest.raises(WebSocketError) as refused:
        reader.next()
    assert refused.value.code == code
    reader.receive(frame(b"after"))
    assert reader.next() is None
    assert reader.untaken == (b"", 0), "nothing is kept of what follows"


def test_too_long_is_known_from_the_header() -> None:
    reader = Reader(1)
    reader.receive(b"\x82\x82mask")
    with pytest.raises(WebSocketError):
        reader.next()


@pytest.mark.parametrize("code", [None, 1000, 1014, 3000, 4999])
def test_nothing_comes_after_a_close(code: int | None) -> None:
    payload = b"" if code is None else code.to_bytes(2, "big")
    reason = b"" if code is None else "Grüße".encode()
    reader = Reader(LIMIT)
    reader.receive(frame(payload + reason, CLOSE) + frame(b"after"))
    assert read(reader) == [Message(CLOSE, payload)]
    reader.receive(frame(b"later"))
    assert reader.next() is None
    assert reader.untaken == (b"", 0), "and nothing is kept of it"


payloads = st.binary(max_size=300)
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
sent = st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(payloads, min_size=1, max_size=4), controls))


@given(sent, st.lists(st.integers(1, 400), max_size=40), st.binary(min_size=4, max_size=4))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    items: list[tuple[int, list[bytes], tuple[int, bytes]]], cuts: list[int], mask: bytes
) -> None:
    data = bytearray()
    expected: list[bytes | Message] = []
    for opcode, fragments, (control, payload) in items:
        for place, fragment in enumerate(fragments):
            last = place == len(fragments) - 1
            if last and place:
                data += frame(payload, control, mask=mask)
                expected.append(Message(control, payload))
            data += frame(fragment, CONTINUATION if place else opcode, final=last, mask=mask)
        whole = b"".join(fragments)
        expected.append(whole if opcode == BINARY else Message(opcode, whole))
    reader, found, at = Reader(LIMIT), [], 0
    for cut in itertools.chain(cuts, [len(data)]):
        reader.receive(bytes(data[at : at + cut]))
        at += cut
        found += read(reader)
    assert found == expected
    assert reader.untaken == (b"", 0)


def test_a_message_may_come_byte_by_byte() -> None:
    reader, payload = Reader(LIMIT), bytes(range(256)) * 200
    for byte in frame(payload):
        assert reader.next() is None
        reader.receive(bytes((byte,)))
    assert reader.next() == payload
    assert reader.next() is None


def test_others_may_take_frames() -> None:
    reader, one, two = Reader(LIMIT), frame(b"one"), frame(b"two")
    unfinished = frame(b"three", final=False) + frame(b"", CONTINUATION)[:3]
    reader.receive(one + two + unfinished)
    assert reader.untaken[1] == 0
    reader.skip(len(one))
    assert reader.next() == b"two"
    data, at = reader.untaken
    assert data[at:] == unfinished
    assert reader.held == len(unfinished)
    assert reader.next() is None
    assert reader.held == len(b"three") + 3
    data, at = reader.untaken
    assert at == len(data), "a message has begun: what comes next is not the start of one"
