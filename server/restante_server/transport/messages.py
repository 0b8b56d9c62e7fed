"""Frames as complete WebSocket messages, and all of them that one connection gets within one tick as one write.

A relay's messages are neither masked nor compressed (RFC 6455 section 5.1), so an entry is made complete once for all
its recipients and goes to their transports as it is.
"""

import asyncio
from typing import Final, Protocol

_BINARY: Final = 0x82  # FIN and opcode 2 (RFC 6455 section 5.2)
_SHORT: Final = 126  # lengths below are in the second byte
_LONG: Final = 0x10000  # lengths below are in two more bytes, others in eight
PING: Final = b"\x89\x00"  # FIN, opcode 9, no payload


def binary_header(length: int) -> bytes:
    """Return what a complete binary message of a server has before a payload of so many bytes."""
    if length < _SHORT:
        return bytes((_BINARY, length))
    if length < _LONG:
        return bytes((_BINARY, 126)) + length.to_bytes(2, "big")
    return bytes((_BINARY, 127)) + length.to_bytes(8, "big")


def binary_message(payload: bytes) -> bytes:
    """Return one complete binary message of a server."""
    return binary_header(len(payload)) + payload


def close_message(code: int) -> bytes:
    """Return a complete close message with this code (RFC 6455 section 5.5.1)."""
    return b"\x88\x02" + code.to_bytes(2, "big")


def pong_message(payload: bytes) -> bytes:
    """Return the complete answer to a ping (RFC 6455 section 5.5.3), whose payload is at most 125 bytes."""
    return bytes((0x8A, len(payload))) + payload


class Flushable(Protocol):
    """Something that collects messages until the end of the tick."""

    def flush(self) -> None:
        """Write what was collected."""
        ...


class Flusher:
    """Flushes, once per tick of the event loop, every connection that has something to write."""

    __slots__ = ("_dirty", "_loop")

    def __init__(self) -> None:
        """Use the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._dirty: list[Flushable] = []

    def add(self, connection: Flushable) -> None:
        """Flush this connection at the end of the tick; the caller adds it once per tick."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()
