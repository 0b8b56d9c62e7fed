"""Plain blocking sockets that speak in lines or packets, up to the point where the load generator takes over."""

import socket
from contextlib import ExitStack
from typing import Final, Self

PATIENCE_SECONDS: Final = 30
BUFFER_BYTES: Final = 1 << 16


class Stream:
    """A connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for the generator to inherit."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send everything."""
        self._socket.sendall(data)

    def until(self, end: bytes) -> bytes:
        """Return what comes up to a mark, which is included."""
        while end not in self._buffer:
            self._fill()
        at = self._buffer.index(end) + len(end)
        found, self._buffer = self._buffer[:at], self._buffer[at:]
        return found

    def exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        while len(self._buffer) < size:
            self._fill()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _fill(self) -> None:
        data = self._socket.recv(BUFFER_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._buffer += data


class Crowd:
    """Connections that stay open until all are closed."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self._stack = ExitStack()

    def add(self, stream: Stream) -> Stream:
        """Keep a connection."""
        self.streams.append(self._stack.enter_context(stream))
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
