"""Between a relay and its Redis, and between clients and relays: connections that can be cut, or fall silent."""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import aiohttp

HEALTH_INTERVAL = 0.5  # seconds between looks at a relay
HEALTH_TIMEOUT = 1.5


@dataclass(eq=False)
class _Pair:
    """Both connections of one client. While ``open`` is not set, bytes wait here and nobody is told."""

    writers: list[asyncio.StreamWriter]
    who: bytes = b""
    target: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards connections to a port, and knows who they are of by what they say first.

    Args:
        target: the port.
        names: what may be in a connection's first bytes; the first that is says whose it is.
        tls: ends TLS here; the port is spoken to without.
    """

    def __init__(self, target: int = 0, names: tuple[bytes, ...] = (), tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.port = 0
        self._names = names
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._cut: dict[bytes, bool] = {}

    async def start(self, port: int = 0) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self, who: bytes, *, silent: bool) -> None:
        """End this one's connections and take no more; or, silently, let nothing through any more."""
        self._cut[who] = silent
        for pair in [pair for pair in self._pairs if pair.who == who]:
            if silent:
                pair.open.clear()
            else:
                pair.abort()

    def heal(self, who: bytes) -> None:
        """Let everything through; what waited comes late."""
        self._cut.pop(who, None)
        for pair in self._pairs:
            if pair.who == who:
                pair.open.set()

    async def stop(self) -> None:
        for pair in list(self._pairs):
            pair.open.set()
            pair.abort()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair([writer])
        self._pairs.add(pair)
        with contextlib.suppress(OSError):
            first = await reader.read(65536)
            pair.who = next((name for name in self._names if name in first), b"")
            if first and self._cut.get(pair.who, True):
                if pair.who not in self._cut:
                    pair.open.set()
                await pair.open.wait()
                pair.target = self.choose()
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", pair.target)
                pair.writers.append(far_writer)
                far_writer.write(first)
                await asyncio.gather(self._pump(pair, reader, far_writer), self._pump(pair, far_reader, writer))
        pair.abort()
        self._pairs.discard(pair)

    def choose(self) -> int:
        """Return the port that a new connection goes to."""
        return self.target

    @staticmethod
    async def _pump(pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await pair.open.wait()
                writer.write(data)
                await writer.drain()
        pair.abort()


class Spread(Proxy):
    """Spreads clients over ports, in turn."""

    def __init__(self, ports: Sequence[int] = ()) -> None:
        super().__init__()
        self._ports = ports
        self._turn = 0

    def choose(self) -> int:
        self._turn += 1
        return self._ports[self._turn % len(self._ports)]


class Balancer(Spread):
    """Spreads clients over relays, new ones only to those that say they are ready: what Caddy does in docker/."""

    def __init__(self) -> None:
        super().__init__()
        self._targets: dict[int, int] = {}
        self._ready: dict[int, bool] = {}
        self._looking: asyncio.Task[None] | None = None

    async def balance(self, targets: dict[int, int]) -> None:
        """Begin: ports of clients, each with the port of health."""
        self._targets = targets
        self._ready = dict.fromkeys(targets, True)
        await self.start()
        self._looking = asyncio.create_task(self._look())

    def choose(self) -> int:
        """Return each that is ready in turn; if none is, each."""
        self._ports = [port for port, is_ready in self._ready.items() if is_ready] or list(self._targets)
        return super().choose()

    def busiest(self) -> int:
        """Return the port that most connections go to."""
        return max(self._targets, key=lambda port: sum(pair.target == port for pair in self._pairs))

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await super().stop()

    async def _look(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(HEALTH_TIMEOUT)) as session:
            while True:
                await asyncio.gather(*(self._look_at(session, port) for port in self._targets))
                await asyncio.sleep(HEALTH_INTERVAL)  # as a balancer does

    async def _look_at(self, session: aiohttp.ClientSession, port: int) -> None:
        try:
            async with session.get(f"http://127.0.0.1:{self._targets[port]}/readyz") as answer:
                self._ready[port] = answer.status == 200
        except (OSError, TimeoutError, aiohttp.ClientError):
            self._ready[port] = False
