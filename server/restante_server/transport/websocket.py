"""The WebSocket transport: one ``Session`` per connection, between aiohttp and the services.

One task reads and one writes. A request runs in a task of its own, begun in the order of arrival, so that requests take
effect in that order and none waits for another's answer. Answers and entries go out in one stream; what waits for a
slow reader is bounded by its window and by the number of its requests.
"""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from restante_crypto import proofs
from restante_protocol import frames, limits
from restante_protocol.connection import RelayConnection, RequestError, State
from restante_protocol.errors import Code, RemoteError

from restante_server.identity import Identity
from restante_server.metrics import Metrics
from restante_server.services.hub import Hub
from restante_server.services.requests import Refusal, Requests
from restante_server.stores.contract import Store

PATH: Final = "/v1/socket"
MAX_BUFFERED: Final = 512 * 1024 * 1024  # bytes waiting for slow readers in the whole process
_CLOSE: Final = {
    Code.TOO_LARGE: WSCloseCode.MESSAGE_TOO_BIG,
    Code.GOING_AWAY: WSCloseCode.GOING_AWAY,
    Code.OVERLOADED: WSCloseCode.TRY_AGAIN_LATER,
    Code.TIMEOUT: WSCloseCode.POLICY_VIOLATION,
    Code.REPLACED: WSCloseCode.POLICY_VIOLATION,
}
_log = structlog.get_logger()


class Gateway:
    """Accepts connections.

    Attributes:
        buffered: bytes that wait to be written, of all connections.
    """

    def __init__(self, store: Store, hub: Hub, identity: Identity, metrics: Metrics, admission: int) -> None:
        """Keep what sessions need."""
        self.store = store
        self.hub = hub
        self.identity = identity
        self.metrics = metrics
        self.admission = admission
        self.buffered = 0
        self._sessions: set[Session] = set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one connection to its end."""
        socket = web.WebSocketResponse(
            heartbeat=limits.PING_INTERVAL, max_msg_size=limits.MAX_FRAME_BYTES, compress=False, timeout=2
        )
        await socket.prepare(request)
        session = Session(self, socket)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)
        return socket

    async def drain(self) -> None:
        """Finish what was received, say goodbye, close."""
        await asyncio.gather(*(session.drain() for session in tuple(self._sessions)))


class Session:
    """One connection."""

    def __init__(self, gateway: Gateway, socket: web.WebSocketResponse) -> None:
        """Begin with nothing said."""
        self._gateway = gateway
        self._socket = socket
        self._connection = RelayConnection()
        self._requests: Requests | None = None
        self._outgoing: list[bytes] = []
        self._outgoing_size = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: Code | None = None
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Read until either side ends."""
        writer = asyncio.ensure_future(self._write())
        self._reader = asyncio.ensure_future(self._read())
        role = ""
        try:
            with suppress(asyncio.CancelledError):
                await self._reader
            if self._connection.hello is not None:
                role = "receiver" if self._connection.hello.role == frames.ROLE_RECEIVER else "sender"
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=limits.HANDSHAKE_TIMEOUT)
        finally:
            if self._requests is not None:
                self._requests.end()
                self._gateway.metrics.connections.labels(role).dec()
            await self._finish(writer)

    async def _finish(self, writer: "asyncio.Task[None]") -> None:
        for task in tuple(self._tasks):
            task.cancel()
        if self._ending is not None and self._connection.state is not State.CLOSED:
            self._put([self._connection.send(frames.Error(0, self._ending, ""))])
        self._outgoing.append(b"")  # the writer's end
        self._wake.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(writer), 2)
        writer.cancel()
        self._gateway.buffered -= self._outgoing_size
        self._outgoing_size = 0
        code = _CLOSE.get(self._ending, WSCloseCode.PROTOCOL_ERROR) if self._ending else WSCloseCode.OK
        with suppress(ConnectionError, asyncio.TimeoutError):
            await self._socket.close(code=code)

    def end(self, code: Code) -> None:
        """End the connection with this code, once what was received is answered."""
        if self._ending is None:
            self._ending = code
            self._gateway.metrics.refusals.labels(code.name.lower()).inc()
        if self._reader is not None:
            self._reader.cancel()

    async def drain(self) -> None:
        """Stop reading, answer what was received, say that the relay goes away."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=limits.HANDSHAKE_TIMEOUT)
        self.end(Code.GOING_AWAY)

    # Writing.

    def _put(self, messages: Sequence[bytes]) -> None:
        size = sum(map(len, messages))
        self._outgoing.extend(messages)
        self._outgoing_size += size
        self._gateway.buffered += size
        self._wake.set()

    async def _write(self) -> None:
        socket = self._socket
        while True:
            await self._wake.wait()
            self._wake.clear()
            messages, self._outgoing = self._outgoing, []
            for message in messages:
                if not message:
                    return
                try:
                    await socket.send_bytes(message)
                except (ConnectionError, RuntimeError):
                    if self._reader is not None:
                        self._reader.cancel()
                    return
                self._outgoing_size -= len(message)
                self._gateway.buffered -= len(message)

    def _answer(self, frame: frames.RelayFrame) -> None:
        if self._connection.state is not State.CLOSED:
            self._put([self._connection.send(frame)])
            self._room.set()

    # Reading.

    async def _read(self) -> None:
        try:
            try:
                async with asyncio.timeout(limits.HANDSHAKE_TIMEOUT):
                    if not await self._handshake():
                        return
            except TimeoutError:
                self.end(Code.TIMEOUT)
                return
            while True:
                message = await self._socket.receive()
                if message.type is not WSMsgType.BINARY:
                    self._refuse_kind(message.type)
                    return
                await self._take(message.data)
        except RemoteError as error:
            self._ending = error.code
            self._gateway.metrics.refusals.labels(error.code.name.lower()).inc()
            if self._connection.state is not State.CLOSED:
                self._put([self._connection.send(frames.Error(0, error.code, error.detail))])

    def _refuse_kind(self, kind: WSMsgType) -> None:
        if kind is WSMsgType.TEXT:
            raise RemoteError(Code.MALFORMED, "text message")
        if kind is WSMsgType.ERROR and self._socket.close_code == WSCloseCode.MESSAGE_TOO_BIG:
            raise RemoteError(Code.TOO_LARGE, "frame")

    async def _handshake(self) -> bool:
        message = await self._socket.receive()
        if message.type is not WSMsgType.BINARY:
            self._refuse_kind(message.type)
            return False
        hello = self._connection.receive(message.data)
        if not isinstance(hello, frames.Hello):
            raise RemoteError(Code.UNEXPECTED, "first frame")
        gateway = self._gateway
        if gateway.buffered > MAX_BUFFERED:
            raise RemoteError(Code.OVERLOADED, "buffers")
        nonce = os.urandom(len(hello.nonce))
        relay_key = gateway.identity.public
        self._requests = Requests(
            gateway.store,
            gateway.hub,
            gateway.identity,
            gateway.admission,
            hello=hello,
            relay_nonce=nonce,
            send=self._put,
            replaced=lambda: self.end(Code.REPLACED),
        )
        gateway.metrics.connections.labels("receiver" if hello.role == frames.ROLE_RECEIVER else "sender").inc()
        signature = gateway.identity.sign(proofs.welcome_message(relay_key, hello.nonce, nonce))
        self._answer(
            frames.Welcome(frames.VERSION, relay_key, nonce, signature, gateway.admission, gateway.store.level)
        )
        return True

    async def _take(self, data: bytes) -> None:
        connection, requests = self._connection, self._requests
        if requests is None:
            return
        try:
            frame = connection.receive(data)
        except RequestError as error:
            connection.in_flight.add(error.request)
            self._refused(frames.Error(error.request, error.code, error.detail))
            return
        if isinstance(frame, frames.Ack):
            self._spawn(self._acknowledge(requests, frame))
        elif isinstance(frame, frames.Open):
            try:
                requests.check_open(frame)
            except Refusal as refusal:
                self._refused(frames.Error(frame.request, refusal.code, refusal.detail))
                return
            answer = await requests.open(frame)
            connection.proved()
            self._answer(answer)
        else:
            while len(connection.in_flight) > limits.MAX_REQUESTS_IN_FLIGHT:
                self._room.clear()
                await self._room.wait()
            self._spawn(self._serve(requests, frame))

    def _refused(self, error: frames.Error) -> None:
        self._gateway.metrics.refusals.labels(Code(error.code).name.lower()).inc()
        self._answer(error)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, requests: Requests, frame: frames.ClientFrame) -> None:
        try:
            answer = await requests.answer(frame)
        except Exception as error:  # noqa: BLE001 -- our defect: said in the log, and the client may retry
            _log.error("request failed", kind=type(frame).__name__, error=type(error).__name__)
            answer = frames.Error(getattr(frame, "request", 0), Code.UNAVAILABLE, "internal error")
        self._gateway.metrics.requests.labels(type(frame).__name__.lower()).inc()
        if isinstance(answer, frames.Error):
            self._refused(answer)
            return
        self._answer(answer)
        if isinstance(frame, frames.Subscribe):
            requests.subscribed()
        elif isinstance(frame, frames.MailboxDelete):
            self.end(Code.GOING_AWAY)

    async def _acknowledge(self, requests: Requests, frame: frames.Ack) -> None:
        if not await requests.acknowledge(frame):
            self.end(Code.STALE)
