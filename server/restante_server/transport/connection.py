"""One WebSocket: reads requests in order, answers them pipelined, and writes once per tick."""

import asyncio
import os
from collections.abc import Awaitable
from typing import Final

import structlog
from aiohttp import WSMsgType, web
from msgspec import Struct

from restante_protocol import frames, ids
from restante_protocol.connection import RelayConnection, RequestError, State
from restante_protocol.errors import Code, RemoteError
from restante_protocol.limits import (
    MAX_FRAME_BYTES,
    MAX_LARGE_BODY_BYTES,
    MAX_PREKEY_BYTES,
    MAX_REQUESTS_IN_FLIGHT,
    MAX_SLOT_BYTES,
)
from restante_server.config import CONNECTION_REQUEST_BYTES
from restante_server.errors import Refused
from restante_server.metrics import ROLES
from restante_server.services.receiver import Answer, Receiver
from restante_server.services.relay import ADMISSIONS, Relay
from restante_server.services.sender import Sender
from restante_server.stores.contract import StoreFull, StoreUnavailable
from restante_server.transport.backlog import Backlog
from restante_server.transport.messages import Flusher, binary_message, close_message

_log = structlog.get_logger("connection")

_CLOSE_CODES: Final = {
    Code.MALFORMED: 1002,
    Code.UNEXPECTED: 1002,
    Code.VERSION: 1002,
    Code.TOO_LARGE: 1009,
    Code.TIMEOUT: 1008,
    Code.OVERLOADED: 1013,
    Code.GOING_AWAY: 1001,
    Code.REPLACED: 1008,
    Code.STALE: 1008,
}
"""The WebSocket close code (RFC 6455 section 7.4.1) after a fatal error."""

_CLOSE_TIMEOUT: Final = 2.0  # seconds for the peer to read the error and answer the close
_ENDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})
_MESSAGE_SLACK: Final = 1024  # above MAX_FRAME_BYTES a coded error is still sent; beyond, aiohttp closes by itself


def _cost(frame: frames.ClientFrame, size: int) -> int:
    """Return the bytes a request may make the process hold: itself and the largest answer."""
    match frame:
        case frames.Claim():
            return size + len(frame.addresses) * MAX_PREKEY_BYTES
        case frames.FenceGet() | frames.Export():
            return size + MAX_LARGE_BODY_BYTES
        case frames.SlotGet():
            return size + MAX_SLOT_BYTES
    return size


class Connection:
    """A client's connection. ``run`` returns when it is closed.

    Attributes:
        heard: loop time of the last thing that came from the peer.
        opened: loop time of the start.
        pinged: loop time of the last ping.
    """

    __slots__ = (
        "_backlog",
        "_closing",
        "_dirty",
        "_flusher",
        "_held",
        "_loop",
        "_out",
        "_protocol",
        "_relay",
        "_request",
        "_role",
        "_room",
        "_session",
        "_socket",
        "_tasks",
        "_transport",
        "_waiting",
        "heard",
        "opened",
        "pinged",
    )

    def __init__(self, relay: Relay, request: web.Request, flusher: Flusher, backlog: Backlog) -> None:
        """Take a request whose handshake is not yet done."""
        self._relay = relay
        self._request = request
        self._flusher = flusher
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT,
            autoclose=False,
            autoping=False,
            compress=False,
            max_msg_size=MAX_FRAME_BYTES + _MESSAGE_SLACK,
        )
        self._transport: asyncio.Transport | None = None
        self._protocol = RelayConnection()
        self._session: Sender | Receiver | None = None
        self._out: list[bytes] = []
        self._dirty = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0  # bytes of requests in work
        self._room: asyncio.Future[None] | None = None  # the reader waits until fewer are
        self._role = ""
        self._closing: asyncio.TimerHandle | None = None  # we have closed: the peer may answer until then
        self._waiting = False  # for the peer
        self.opened = self.heard = self.pinged = self._loop.time()

    # What the periodic check looks at.

    @property
    def proved(self) -> bool:
        """The handshake is over: a sender has said Hello, a receiver has proved its mailbox."""
        return self._protocol.state not in {State.EXPECT_HELLO, State.EXPECT_WELCOME, State.RECEIVER}

    @property
    def unread(self) -> int:
        """Bytes written that the peer has not taken."""
        transport = self._transport
        return 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()

    @property
    def quiet(self) -> bool:
        """Nothing that was received waits for its answer or its commit."""
        subscription = self._session.subscription if isinstance(self._session, Receiver) else None
        settled = subscription is None or not subscription.acknowledging
        return self._waiting and not self._tasks and settled and not self._out

    def ping(self, message: bytes) -> None:
        """Write a complete control message."""
        self.pinged = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(message)

    # The life of a connection.

    async def run(self, *, overloaded: bool) -> web.WebSocketResponse:
        """Shake hands, serve until either side closes, clean up."""
        await self._socket.prepare(self._request)
        self._transport = self._request.transport
        try:
            if overloaded:
                self._relay.metrics.overloads.inc()
                self.fail(Code.OVERLOADED, "connections")
            await self._read()
        except ConnectionError:
            pass  # the peer is gone
        except Exception as error:  # noqa: BLE001 -- our bug: it must not end in silence
            _log.error("connection failed", error=type(error).__name__)
            self.fail(Code.GOING_AWAY, "internal")
        finally:
            await self._clean_up()
        return self._socket

    async def _clean_up(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        session, self._session = self._session, None
        if session is not None:
            self._relay.metrics.connections.labels(self._role).dec()
            try:
                await session.close()
            except StoreUnavailable:
                _log.info("store closed before connection")
        if self._closing is None:
            await self._socket.close()
        else:
            self._closing.cancel()
            self._drop()

    async def _read(self) -> None:
        """Take messages until the peer closes; after we have closed, ignore what it had sent before it knew."""
        socket, protocol = self._socket, self._request.protocol
        while True:
            self._waiting = True
            message = await socket.receive()
            self._waiting = False
            self.heard = self._loop.time()
            if self._closing is not None and message.type not in _ENDS:
                continue
            if message.type is WSMsgType.BINARY:
                waits = self._take(message.data)
                if waits is not None:
                    await waits
                if protocol.writing_paused:
                    await self.writable()
            elif message.type is WSMsgType.TEXT:
                self.fail(Code.MALFORMED, "text message")
            elif message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                continue
            else:
                return  # closed, or broken below the level of frames

    def _take(self, data: bytes) -> Awaitable[None] | None:
        """Take one message; return what the reader has to wait for before the next."""
        try:
            frame = self._protocol.receive(data)
        except RequestError as error:
            if error.request:
                self._count(error.code)
                self._write(frames.encode(frames.Error(error.request, error.code, error.detail)))
            else:
                self.fail(Code.MALFORMED, "request")
            return None
        except RemoteError as error:
            self.fail(error.code, error.detail)
            return None
        session = self._session
        self._relay.metrics.frame(type(frame))
        if session is None:
            self._welcome(frame)
            return None
        if isinstance(frame, frames.Ack):
            if isinstance(session, Receiver):
                session.acknowledge(frame)
            return None
        if session.is_alone(frame):
            return self._serve_alone(session, frame)
        return self._serve(session, frame, len(data))

    def _welcome(self, hello: frames.ClientFrame) -> None:
        if not isinstance(hello, frames.Hello):
            raise TypeError("the first frame is Hello")  # the connection's table lets nothing else through
        nonce = os.urandom(ids.CHALLENGE_BYTES)
        relay = self._relay
        self._session = Sender(relay) if hello.role == frames.ROLE_SENDER else Receiver(relay, self, hello.nonce, nonce)
        self._role = ROLES[hello.role]
        relay.metrics.connections.labels(self._role).inc()
        self.send(
            frames.Welcome(
                frames.VERSION,
                relay.identity.public,
                nonce,
                relay.identity.welcome(hello.nonce, nonce),
                ADMISSIONS[relay.admission],
                relay.store.level,
            )
        )

    # Requests.

    def _serve(self, session: Sender | Receiver, frame: frames.ClientFrame, size: int) -> Awaitable[None] | None:
        """Begin a request; later ones may begin before its answer."""
        try:
            answer = session.begin(frame)
        except Refused as refused:
            self._answer(frames.Error(_number(frame), refused.code, refused.detail))
            return None
        if isinstance(answer, Struct):
            self._answer(answer)
            return None
        cost = _cost(frame, size)
        self._held += cost
        self._backlog.take(cost)
        task = self._loop.create_task(self._finish(frame, answer, cost))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if self._crowded or self._backlog.full:
            return self._wait_for_room()
        return None

    @property
    def _crowded(self) -> bool:
        return len(self._tasks) >= MAX_REQUESTS_IN_FLIGHT or self._held >= CONNECTION_REQUEST_BYTES

    async def _serve_alone(self, session: Sender | Receiver, frame: frames.ClientFrame) -> None:
        """Serve a request after all earlier ones and before all later ones."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        try:
            answer = session.begin(frame)
        except Refused as refused:
            self._answer(frames.Error(_number(frame), refused.code, refused.detail))
            return
        if not isinstance(answer, Struct):
            answer = await self._outcome(frame, answer)
        if isinstance(session, Receiver) and session.proved and self._protocol.state is State.RECEIVER:
            self._protocol.proved()
        self._answer(answer)
        if isinstance(frame, frames.MailboxDelete) and isinstance(answer, frames.Erased):
            self._close(1000)

    async def _finish(self, frame: frames.ClientFrame, answer: Answer, cost: int) -> None:
        started = self._loop.time()
        try:
            self._answer(await self._outcome(frame, answer))
        finally:
            self._held -= cost
            self._backlog.give_back(cost)
        if isinstance(frame, frames.Deposit):
            self._relay.metrics.commit.observe(self._loop.time() - started)

    async def _outcome(self, frame: frames.ClientFrame, answer: Answer) -> frames.RelayFrame:
        """Return the answer, or the Error frame for what was raised instead."""
        try:
            return await answer
        except Refused as refused:
            code, detail = refused.code, refused.detail
        except StoreFull:
            code, detail = Code.FULL, "store"
        except StoreUnavailable:
            code, detail = Code.UNAVAILABLE, "store"
        except Exception as error:  # noqa: BLE001 -- our bug: it must not take other requests with it
            _log.error("request failed", error=type(error).__name__, frame=type(frame).__name__)
            code, detail = Code.UNAVAILABLE, "internal"
        return frames.Error(_number(frame), code, detail)

    def _answer(self, answer: frames.RelayFrame) -> None:
        if isinstance(answer, frames.Error):
            self._count(Code(answer.code))
        self.send(answer)

    async def _wait_for_room(self) -> None:
        while self._tasks and self._crowded:
            self._room = self._loop.create_future()
            await self._room
        await self._backlog.room()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (error := task.exception()) is not None:  # our bug: the client reconnects instead of waiting for ever
            _log.error("answer failed", error=type(error).__name__)
            self.fail(Code.GOING_AWAY, "internal")
        if self._room is not None and not self._crowded and not self._room.done():
            self._room.set_result(None)

    # Writing: restante_server.services.subscription.Sink.

    @property
    def congested(self) -> bool:
        """The peer does not read as fast as it is written to."""
        return self._request.protocol.writing_paused

    async def writable(self) -> None:
        """Wait until the peer has read. Raises ConnectionError if it is gone."""
        if self.congested:
            await self._request.writer.drain()

    def wake(self) -> None:
        """Flush at the end of this tick."""
        if not self._dirty:
            self._dirty = True
            self._flusher.add(self)

    def send(self, frame: frames.RelayFrame) -> None:
        """Send a frame after everything that was sent before; nothing once the connection is closing."""
        if self._closing is None:
            self._write(self._protocol.send(frame))

    def fail(self, code: Code, detail: str) -> None:
        """Send an Error with request 0 and close. The first failure counts."""
        if self._closing is None:
            self._count(code)
            self._write(self._protocol.send(frames.Error(0, code, detail)))
            self._close(_CLOSE_CODES[code])

    def flush(self) -> None:
        """Write what was collected in this tick, as one piece."""
        self._dirty = False
        self._take_entries()
        out = self._out
        transport = self._transport
        if out and transport is not None and not transport.is_closing():
            transport.write(b"".join(out) if len(out) > 1 else out[0])
            if self.congested:
                self._fall_behind()
        out.clear()

    def _write(self, data: bytes) -> None:
        self._take_entries()
        self._out.append(binary_message(data))
        self.wake()

    def _fall_behind(self) -> None:
        session = self._session
        if isinstance(session, Receiver) and session.subscription is not None:
            session.subscription.fall_behind()

    def _take_entries(self) -> None:
        session = self._session
        if isinstance(session, Receiver) and session.subscription is not None:
            self._out += session.subscription.take()

    def _close(self, code: int) -> None:
        if self._closing is None:
            self.flush()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(close_message(code))
            self._closing = self._loop.call_later(_CLOSE_TIMEOUT, self._drop)

    def _drop(self) -> None:
        """End the connection; if the peer has read everything, it sees no error."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()

    def _count(self, code: Code) -> None:
        self._relay.metrics.refusals.labels(code.name.lower()).inc()


def _number(frame: frames.ClientFrame) -> int:
    number: int = getattr(frame, "request", 0)
    return number
