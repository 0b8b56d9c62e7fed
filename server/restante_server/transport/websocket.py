"""All connections of a relay: accepting, watching over silence and memory, and letting go at the end."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Final

from aiohttp import web

from restante_protocol.errors import Code
from restante_server.config import PROCESS_REQUEST_BYTES, SHUTDOWN_GRACE, SPARE_FILES, STRANDED_SECONDS, Settings
from restante_server.services.bench import Bench
from restante_server.services.relay import Relay
from restante_server.transport import rfc6455
from restante_server.transport.backlog import Backlog
from restante_server.transport.connection import Connection
from restante_server.transport.messages import PING, Flusher

PATH: Final = "/v1/socket"
BENCH_PATH: Final = "/v1/bench"
_WATCH_INTERVAL: Final = 1.0  # seconds between looks at all connections
_CHECK_INTERVAL: Final = 0.01  # seconds between looks while shutting down
_QUIET_LOOKS: Final = 2  # that must find nothing to do: a message may be on its way to its reader


class _Early:
    """What a client sent before it had the handshake's answer, as aiohttp hands it over."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing to do: the transport tells."""


class Acceptor:
    """The WebSocket endpoint of a relay, and the connections that came through it."""

    def __init__(self, relay: Relay, settings: Settings, max_connections: int) -> None:
        """Accept at most so many connections at a time."""
        self._relay = relay
        self._settings = settings
        self._max_connections = max_connections
        self._max_sockets = max_connections + SPARE_FILES // 2  # with those that have asked for nothing yet
        self._flusher = Flusher()
        self._backlog = Backlog(PROCESS_REQUEST_BYTES)
        self._connections: set[Connection] = set()
        self._transfers: set[object] = set()  # protocols of connections without WebSocket that may go on
        self._undecided: dict[object, asyncio.TimerHandle] = {}  # by protocol
        self._buffered = 0  # bytes held for peers, at the last look
        self._closing = False
        self._reached = asyncio.get_running_loop().time()  # when the store was last known to be in reach
        self._stranded = False
        self._empty = asyncio.Event()  # set when the last connection goes

    def protocols(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        """Return what makes protocols for ``create_server``: without a WebSocket in time they are dropped."""
        loop = asyncio.get_running_loop()

        def make() -> asyncio.Protocol:
            protocol = server()
            sockets = len(self._connections) + len(self._undecided) + len(self._transfers)
            patience = self._settings.handshake_timeout if sockets < self._max_sockets else 0  # the store needs files
            drop = loop.call_later(patience, self._drop_undecided, protocol)
            self._undecided[protocol] = drop
            return protocol

        return make

    def _drop_undecided(self, protocol: web.RequestHandler) -> None:
        del self._undecided[protocol]
        if protocol.transport is not None and protocol not in self._transfers:
            protocol.transport.abort()

    def hold(self, request: web.Request, begins: bool) -> bool:
        """Let a connection without WebSocket live while it has a transfer; say whether transfers are still served."""
        if begins:
            self._transfers.add(request.protocol)
        else:  # only after its time to decide: what it was answered may still be on its way
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.handshake_timeout, self._transfers.discard, request.protocol)
        return not self._closing

    def routes(self, bench: Bench | None = None) -> list[web.RouteDef]:
        """Return what an aiohttp application needs."""
        ordinary = web.get(PATH, self._handle)
        return [ordinary] if bench is None else [ordinary, web.get(BENCH_PATH, partial(self._handle_bench, bench))]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        return self._begin(request, lambda answer: self._take_over(request, answer, self._relay, self._forget))

    async def _handle_bench(self, bench: Bench, request: web.Request) -> web.StreamResponse:
        """Say what a turn may do, or have a connection join it."""
        if wait := bench.waits():
            return web.Response(status=429, headers={"Retry-After": str(math.ceil(wait))})
        if "Upgrade" not in request.headers:
            return web.json_response(asdict(bench.limits))

        def forget(connection: Connection) -> None:
            self._forget(connection)
            bench.leave(connection)

        def join(answer: bytes) -> None:
            bench.join(lambda relay: self._take_over(request, answer, relay, forget))

        return self._begin(request, join)

    def _begin(self, request: web.Request, take: Callable[[bytes], object]) -> web.StreamResponse:
        """Check the handshake, and have the transport taken over with its answer."""
        if self._closing or self._stranded:
            refusal = web.Response(status=503)
            refusal.force_close()  # or the next try would come here again, past whoever balances connections
            return refusal
        try:
            answer = rfc6455.accept(request.headers)
        except rfc6455.HandshakeError as error:
            return web.Response(status=error.status, headers=error.headers)
        take(answer)
        return web.Response()  # goes nowhere

    def _take_over(
        self, request: web.Request, answer: bytes, relay: Relay, forget: Callable[[Connection], None]
    ) -> Connection:
        """Make the transport a connection's, and answer the handshake."""
        protocol, transport = request.protocol, request.transport
        if transport is None:
            raise ConnectionResetError
        early = _Early()
        protocol.set_parser(early)  # type: ignore[arg-type]  # gets what came after the request
        protocol.transport = None  # or it would be closed
        protocol.connection_lost(None)
        if (drop := self._undecided.pop(protocol, None)) is not None:
            drop.cancel()  # and let go of all that aiohttp had for it
        buffered = self._buffered + self._backlog.used
        overloaded = buffered > self._settings.buffer_bytes or len(self._connections) >= self._max_connections
        connection = Connection(relay, self._flusher, self._backlog, forget)
        self._connections.add(connection)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        transport.write(answer)
        if overloaded:
            connection.refuse()
        if early.data:
            connection.data_received(early.data)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def watch(self) -> None:
        """Ping the silent, close the dead and the undecided, and measure buffers, until cancelled."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        interval = min(_WATCH_INTERVAL, settings.handshake_timeout / 4, settings.ping_interval / 4)
        while True:
            await asyncio.sleep(interval)
            self._look(loop.time())

    def _look(self, now: float) -> None:
        settings = self._settings
        if self._relay.store.reachable:
            self._reached = now
        self._stranded = now - self._reached > STRANDED_SECONDS
        buffered = 0
        for connection in self._connections:
            buffered += connection.buffered
            if self._stranded:
                connection.fail(Code.GOING_AWAY, "store out of reach")
            elif now - connection.heard > settings.ping_timeout:
                connection.fail(Code.TIMEOUT, "silence")
            elif not connection.proved and now - connection.opened > settings.handshake_timeout:
                connection.fail(Code.TIMEOUT, "handshake")
            elif min(now - connection.heard, now - connection.pinged) >= settings.ping_interval:
                connection.ping(PING)
        self._buffered = buffered
        total = buffered + self._backlog.used
        self._relay.metrics.buffered.set(total)
        if total > settings.buffer_bytes:
            self._shed(total - settings.buffer_bytes)

    def _shed(self, excess: int) -> None:
        """Send those away for whom the process holds most, until it holds so many bytes less."""
        for connection in sorted(self._connections, key=lambda each: each.buffered, reverse=True):
            size = connection.buffered
            if excess <= 0 or not size:
                return
            excess -= size
            connection.refuse()

    async def close(self) -> None:
        """Finish what was received, answer it, and send everybody away. No new connections are served."""
        self._closing = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SHUTDOWN_GRACE
        quiet = 0
        while quiet < _QUIET_LOOKS and loop.time() < deadline:
            await asyncio.sleep(_CHECK_INTERVAL)
            quiet = quiet + 1 if all(connection.quiet for connection in self._connections) else 0
        for connection in self._connections:
            connection.fail(Code.GOING_AWAY, "shutting down")
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), SHUTDOWN_GRACE)
