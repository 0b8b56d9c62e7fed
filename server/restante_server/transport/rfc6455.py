"""The server's side of a WebSocket, without I/O: RFC 6455, without extensions and subprotocols.

Bytes in, messages out: fragments are joined, masks taken off, and every rule of the RFC's section 5 is a check. What
the relay writes is in ``messages``.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

PROTOCOL_ERROR: Final = 1002
BAD_PAYLOAD: Final = 1007
TOO_BIG: Final = 1009

_VERSION: Final = "13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_NONCE_BYTES: Final = 16
_MAX_CONTROL_BYTES: Final = 125
_FIN: Final = 0x80  # of a frame's first byte
_RESERVED: Final = 0x70
_WHOLE: Final = _FIN | BINARY
_MASKED: Final = 0x80  # of its second
_TWO_BYTES: Final = 126  # in place of a length: it follows in two bytes; 127: in eight
_DATA: Final = frozenset({CONTINUATION, TEXT, BINARY})
_CONTROL: Final = frozenset({CLOSE, PING, PONG})
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_APPLICATION_CODES: Final = range(3000, 5000)  # sections 7.4.1 and 7.4.2


class HandshakeError(Exception):
    """The request is no opening handshake. Has the HTTP status and headers of the answer."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        """Keep them."""
        super().__init__(status)
        self.status = status
        self.headers = headers


class WebSocketError(Exception):
    """The peer breaks the RFC. Has the code for the close message."""

    def __init__(self, code: int) -> None:
        """Keep it."""
        super().__init__(code)
        self.code = code


class Message(NamedTuple):
    """A complete message of text or control. A close's payload is its code, two bytes, or nothing."""

    opcode: int
    payload: bytes


def accept(headers: Mapping[str, str]) -> bytes:
    """Return the complete answer to an opening handshake (section 4.2.2).

    Args:
        headers: of a GET; looked up without regard to case.

    Raises:
        HandshakeError: it is none.
    """
    upgrade = {each.strip().lower() for each in headers.get("Upgrade", "").split(",")}
    connection = {each.strip().lower() for each in headers.get("Connection", "").split(",")}
    if "websocket" not in upgrade or "upgrade" not in connection:
        raise HandshakeError(400, {})
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        raise HandshakeError(426, {"Sec-WebSocket-Version": _VERSION})
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != _NONCE_BYTES:
            raise HandshakeError(400, {})
    except (binascii.Error, ValueError):
        raise HandshakeError(400, {}) from None
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )


def exclusive_or(mask: bytes, data: bytearray) -> None:
    """Mask data with four bytes again and again (section 5.3): for where aiohttp has nothing faster."""
    size = len(data)
    repeated = (mask * (size // 4 + 1))[:size]
    data[:] = (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


def _fastest() -> Callable[[bytes, bytearray], None]:
    try:
        from aiohttp._websocket.helpers import websocket_mask  # noqa: PLC0415 -- it is not public: may be gone
    except ImportError:
        return exclusive_or
    return websocket_mask


_mask: Final = _fastest()


def _unmask(data: bytes | bytearray, start: int, stop: int) -> bytes:
    """Return what is between two places, and was masked with the four bytes before the first."""
    payload = bytearray(data[start:stop])
    _mask(bytes(data[start - 4 : start]), payload)
    return bytes(payload)


def _message(opcode: int, payload: bytes) -> bytes | Message:
    return payload if opcode == BINARY else Message(opcode, payload)


class Reader:
    """What has come from a client and is not taken yet.

    Attributes:
        limit: bytes that a message may have, and a frame of it; what is longer is refused by its header.
    """

    __slots__ = ("_at", "_data", "_ended", "_fragments", "_needed", "_opcode", "limit")

    def __init__(self, limit: int) -> None:
        """Begin after the handshake."""
        self.limit = limit
        self._data: bytes | bytearray = b""
        self._at = 0  # everything before is taken
        self._needed = 2  # bytes from there that the frame has at least
        self._opcode = CONTINUATION  # of the message whose fragments come
        self._fragments: bytearray | None = None
        self._ended = False

    @property
    def untaken(self) -> tuple[bytes | bytearray, int]:
        """Data, and where in it the next message's first frame begins; within a message, its end."""
        return self._data, self._at if self._fragments is None else len(self._data)

    @property
    def held(self) -> int:
        """Bytes that are not taken."""
        return len(self._data) - self._at + len(self._fragments or b"")

    def skip(self, at: int) -> None:
        """Take the frames before this place in ``untaken``."""
        self._at, self._needed = at, 2
        if at == len(self._data):
            self._data, self._at = b"", 0

    def receive(self, data: bytes) -> None:
        """Take what has come; after a close or an error it is thrown away."""
        if self._ended:
            return
        if self._at == len(self._data):
            self._data, self._at = data, 0
            return
        if self._at or not isinstance(self._data, bytearray):
            self._data = bytearray(self._data[self._at :])
            self._at = 0
        self._data += data

    def next(self) -> bytes | Message | None:
        """Return the next message if it is complete; nothing after a close. A binary message is its payload.

        Raises:
            WebSocketError: what follows is against the RFC, or too long.
        """
        data, at = self._data, self._at
        start = at + 6
        if len(data) >= start and data[at] == _WHOLE and self._fragments is None:  # nearly all are of one short frame
            length = data[at + 1] - _MASKED
            if length == _TWO_BYTES and len(data) >= start + 2:
                length = data[at + 2] << 8 | data[at + 3]
                start += 2
                shortest = _TWO_BYTES
            else:
                shortest = 0 if length < _TWO_BYTES else length + 1
            stop = start + length
            if shortest <= length <= self.limit and len(data) >= stop:
                self.skip(stop)
                return _unmask(data, start, stop)
        return self._next_of_any_kind()

    def _next_of_any_kind(self) -> bytes | Message | None:
        while not self._ended:
            try:
                frame = self._frame()
            except WebSocketError:
                self._end()
                raise
            if frame is None:
                return None
            final, opcode, payload = frame
            if opcode == CLOSE:
                self._end()
                return Message(opcode, _close_code(payload))
            if opcode in _CONTROL or (final and opcode != CONTINUATION):
                return _message(opcode, payload)
            if self._fragments is None:
                self._opcode, self._fragments = opcode, bytearray(payload)
            else:
                self._fragments += payload
                if final:
                    whole, self._fragments = bytes(self._fragments), None
                    return _message(self._opcode, whole)
        return None

    def _end(self) -> None:
        self._ended = True
        self._data, self._at, self._fragments = b"", 0, None

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """Return FIN, opcode and payload of the next frame, if it has come whole."""
        data, at = self._data, self._at
        here = len(data) - at
        if here < self._needed:
            return None
        first, length = data[at], data[at + 1] - _MASKED
        start = at + 6
        if length < 0:
            raise WebSocketError(PROTOCOL_ERROR)  # not masked: section 5.1
        if length > _MAX_CONTROL_BYTES:
            size, shortest = (2, 126) if length == _TWO_BYTES else (8, 1 << 16)
            start += size
            if here < 2 + size:
                self._needed = 2 + size
                return None
            length = int.from_bytes(data[at + 2 : at + 2 + size], "big")
            if length < shortest or length >> 63:
                raise WebSocketError(PROTOCOL_ERROR)  # not the shortest form: section 5.2
        self._check(first, length)
        stop = start + length
        if len(data) < stop:
            self._needed = stop - at
            return None
        self.skip(stop)
        return bool(first & _FIN), first & 0xF, _unmask(data, start, stop)

    def _check(self, first: int, length: int) -> None:
        """Refuse what a frame's first byte and length may not be."""
        opcode = first & 0xF
        if opcode in _CONTROL:
            if first != _FIN | opcode or length > _MAX_CONTROL_BYTES:
                raise WebSocketError(PROTOCOL_ERROR)
            return
        if opcode not in _DATA or first & _RESERVED or (opcode == CONTINUATION) != (self._fragments is not None):
            raise WebSocketError(PROTOCOL_ERROR)
        if length + len(self._fragments or b"") > self.limit:
            raise WebSocketError(TOO_BIG)


def _close_code(payload: bytes) -> bytes:
    """Return a close's code, two bytes, or nothing if it has none (section 5.5.1)."""
    if not payload:
        return b""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (code not in _CLOSE_CODES and code not in _APPLICATION_CODES):
        raise WebSocketError(PROTOCOL_ERROR)
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketError(BAD_PAYLOAD) from None
    return payload[:2]
