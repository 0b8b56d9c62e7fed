"""One WebSocket: reads requests in order, answers them pipelined, and writes once per tick.

It is the protocol of its transport from the handshake on: what comes is taken where it arrives, so that a connection
without a request in work has no task, no future and no timer.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import structlog
from msgspec import Struct

from restante_protocol import frames, ids
from restante_protocol.connection import RelayConnection, RequestError, State
from restante_protocol.errors import Code, RemoteError
from restante_protocol.limits import (
    DIRECTORY_PAGE,
    DIRECTORY_RECORD_BYTES,
    MAX_FRAME_BYTES,
    MAX_LARGE_BODY_BYTES,
    MAX_REQUESTS_IN_FLIGHT,
    MAX_SLOT_BYTES,
    MAX_UNPROVED_FRAME_BYTES,
)
from restante_server.config import CONNECTION_REQUEST_BYTES
from restante_server.errors import Refused
from restante_server.metrics import ROLES
from restante_server.services import claims, sender
from restante_server.services.receiver import Receiver
from restante_server.services.relay import ADMISSIONS, Relay
from restante_server.services.sender import Sender
from restante_server.services.subscription import Subscription
from restante_server.stores.contract import StoreFull, StoreUnavailable, forward
from restante_server.transport import acknowledgements, rfc6455
from restante_server.transport.backlog import Backlog
from restante_server.transport.messages import Flusher, binary_header, binary_message, close_message, pong_message

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

_NORMAL: Final = 1000  # a close code
_MESSAGES_PER_TURN: Final = 256  # then others have theirs: about a millisecond of the smallest
_CLOSE_TIMEOUT: Final = 2.0  # seconds for the peer to read the error and answer the close


_ANSWER_BYTES: Final[dict[type, int]] = {
    frames.FenceGet: MAX_LARGE_BODY_BYTES,
    frames.Export: MAX_LARGE_BODY_BYTES,
    frames.NumbersGet: DIRECTORY_PAGE * (ids.ID_BYTES + DIRECTORY_RECORD_BYTES),
    frames.SlotGet: MAX_SLOT_BYTES,
}
"""What the largest answer may make the process hold, where it is more than the request."""


class _Work:
    """A request in work: it is told how it went, by the store or by a task. ``contract.Outcome``."""

    __slots__ = ("_connection", "_cost", "_done", "_frame", "_started")

    def __init__(self, connection: "Connection", frame: frames.ClientFrame, cost: int, started: float) -> None:
        self._connection = connection
        self._frame = frame
        self._cost = cost
        self._started = started
        self._done = False

    def done(self) -> bool:
        """See ``contract.Outcome``."""
        return self._done

    def set_result(self, result: Any) -> None:  # noqa: ANN401 -- of whatever was asked for
        """See ``contract.Outcome``."""
        self._done = True
        self._connection._finish(self._frame, self._cost, self._started, result, None)  # noqa: SLF001 -- a part of it

    def set_exception(self, error: BaseException) -> None:
        """See ``contract.Outcome``."""
        self._done = True
        self._connection._finish(self._frame, self._cost, self._started, None, error)  # noqa: SLF001 -- a part of it


class Connection(asyncio.Protocol):
    """A client's connection, from the end of the handshake on.

    Attributes:
        heard: loop time of the last thing that came from the peer.
        opened: loop time of the start.
        pinged: loop time of the last ping.
    """

    __slots__ = (
        "_ack_start",
        "_backlog",
        "_closing",
        "_dirty",
        "_ended",
        "_ending",
        "_flusher",
        "_held",
        "_held_up",
        "_idle",
        "_in_work",
        "_loop",
        "_out",
        "_paused",
        "_protocol",
        "_reader",
        "_relay",
        "_role",
        "_room",
        "_session",
        "_subscription",
        "_transport",
        "_writable",
        "heard",
        "opened",
        "pinged",
    )

    def __init__(
        self, relay: Relay, flusher: Flusher, backlog: Backlog, ended: Callable[["Connection"], object]
    ) -> None:
        """Wait for the transport; ``ended`` is called when nothing is left to be done."""
        self._relay = relay
        self._flusher = flusher
        self._backlog = backlog
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._reader = rfc6455.Reader(MAX_UNPROVED_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._protocol = RelayConnection()
        self._session: Sender | Receiver | None = None
        self._subscription: Subscription | None = None  # the session's, once it has been answered
        self._ack_start = b""  # of all its acknowledgements
        self._out: list[bytes] = []
        self._dirty = False
        self._in_work = 0  # requests
        self._held = 0  # bytes of these
        self._held_up: asyncio.Task[None] | None = None  # what has to happen before more is read
        self._room: asyncio.Future[None] | None = None  # the reader waits until fewer requests are in work,
        self._idle: asyncio.Future[None] | None = None  # or somebody until none is
        self._paused = False  # the peer does not read as fast as it is written to
        self._writable: asyncio.Event | None = None  # somebody waits until it does
        self._role = ""
        self._closing: asyncio.TimerHandle | None = None  # we have closed: the peer may answer until then
        self._ending: asyncio.Task[None] | None = None
        self.opened = self.heard = self.pinged = self._loop.time()

    # What the periodic check looks at.

    @property
    def proved(self) -> bool:
        """The handshake is over: a sender has said Hello, a receiver has proved its mailbox."""
        return self._protocol.state not in {State.EXPECT_HELLO, State.EXPECT_WELCOME, State.RECEIVER}

    @property
    def buffered(self) -> int:
        """Bytes that are held for the peer: what it has not taken, and what it has sent of a message; 0 at its end."""
        transport = self._transport
        if transport is None or self._closing is not None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + self._reader.held

    @property
    def quiet(self) -> bool:
        """Nothing that was received waits for its answer or its commit."""
        settled = self._subscription is None or not self._subscription.acknowledging
        return self._held_up is None and not self._in_work and settled and not self._out

    def ping(self, message: bytes) -> None:
        """Write a complete control message."""
        self.pinged = self._loop.time()
        self._write_now(message)

    def refuse(self) -> None:
        """Send an overloaded relay's answer."""
        self._relay.metrics.overloads.inc()
        self.fail(Code.OVERLOADED, "connections")

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The peer is gone."""
        del error
        self._transport = None
        if self._closing is not None:
            self._closing.cancel()
        self.resume_writing()
        self._end()

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """The peer has read, or is gone."""
        self._paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self.heard = self._loop.time()
        self._reader.receive(data)
        if self._held_up is None:
            self._read()

    def _take_acknowledgements(self, subscription: Subscription) -> bool:
        """Take what only acknowledges; say whether there was nothing else."""
        reader = self._reader
        data, at = reader.untaken
        end, count, sequence = acknowledgements.scan(data, at, self._ack_start)
        if not count:
            return False
        reader.skip(end)
        self._relay.metrics.requests.inc("Ack", count)
        subscription.acknowledge(sequence)
        return end == len(data)

    def _read(self) -> None:
        """Take messages as long as there is room for their answers; once we have closed, wait for the peer's close."""
        try:
            self._take_messages()
        except rfc6455.WebSocketError as error:
            if self._closing is not None:
                self._drop()
            elif error.code == rfc6455.TOO_BIG:
                self.fail(Code.TOO_LARGE, "message" if self._session else "first frame")
            else:
                self._count(Code.MALFORMED)
                self._close(error.code)
        except Exception as error:  # noqa: BLE001 -- our bug: it must not end in silence
            _log.error("connection failed", error=type(error).__name__)
            self.fail(Code.GOING_AWAY, "internal")

    def _take_messages(self) -> None:
        reader, taken = self._reader, 0
        while self._closing is None:
            subscription = self._subscription
            if subscription is not None and self._take_acknowledgements(subscription):
                return
            message = reader.next()
            if message is None:
                return
            if isinstance(message, bytes):
                waits = self._take(message)
            elif message.opcode == rfc6455.CLOSE:
                self._end()
                return
            else:
                waits = None
                self._take_other(message)
            taken += 1
            if waits is not None or self._paused or taken == _MESSAGES_PER_TURN:
                self._hold_up(waits)
                return
        while (last := reader.next()) is not None:
            if isinstance(last, rfc6455.Message) and last.opcode == rfc6455.CLOSE:
                self._end()

    def _hold_up(self, waits: Awaitable[None] | None) -> None:
        """Read nothing more until this is over and the peer has read."""
        if self._transport is not None:
            self._transport.pause_reading()
        self._held_up = self._loop.create_task(self._go_on(waits))

    async def _go_on(self, waits: Awaitable[None] | None) -> None:
        try:
            if waits is not None:
                await waits
            await self.writable()
        except ConnectionError:
            return  # the peer is gone
        except Exception as error:  # noqa: BLE001 -- our bug: it must not end in silence
            _log.error("connection failed", error=type(error).__name__)
            self.fail(Code.GOING_AWAY, "internal")
        finally:
            self._held_up = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._read()

    def _take_other(self, message: rfc6455.Message) -> None:
        """Take a message that is not binary."""
        if message.opcode == rfc6455.TEXT:
            self.fail(Code.MALFORMED, "text message")
        elif message.opcode == rfc6455.PING:
            self._write_now(pong_message(message.payload))

    def _take(self, data: bytes) -> Awaitable[None] | None:
        """Take one frame; return what has to happen before the next."""
        frame = self._receive(data)
        if frame is None:
            return None
        session = self._session
        self._relay.metrics.requests.inc(type(frame).__name__)
        if isinstance(session, Sender) and session.stores(frame):
            return self._store(session, frame, len(data))
        if session is None:
            self._welcome(frame)
        elif isinstance(frame, frames.Ack):
            if isinstance(session, Receiver):
                session.acknowledge(frame)
        elif session.is_alone(frame):
            return self._serve_alone(session, frame)
        else:
            return self._serve(session, frame, len(data))
        return None

    def _receive(self, data: bytes) -> frames.ClientFrame | None:
        """Return a frame; None if it was refused."""
        try:
            return self._protocol.receive(data)
        except RequestError as error:
            if error.request:
                self._count(error.code)
                self._write(frames.encode(frames.Error(error.request, error.code, error.detail)))
            else:
                self.fail(Code.MALFORMED, "request")
        except RemoteError as error:
            self.fail(error.code, error.detail)
        return None

    def _welcome(self, hello: frames.ClientFrame) -> None:
        if not isinstance(hello, frames.Hello):
            raise TypeError("the first frame is Hello")  # the connection's table lets nothing else through
        nonce = os.urandom(ids.CHALLENGE_BYTES)
        relay = self._relay
        self._session = Sender(relay) if hello.role == frames.ROLE_SENDER else Receiver(relay, self, hello.nonce, nonce)
        self._reader.limit = MAX_FRAME_BYTES
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

    def _store(self, session: Sender, frame: frames.Deposit | frames.Claim, size: int) -> Awaitable[None] | None:
        """Begin a deposit or claim, of which the store makes batches."""
        work = self._begin(frame, size + session.answer_bytes(frame))
        try:
            session.begin_stored(frame, work)
        except Refused as refused:
            work.set_exception(refused)
        return self._wait_for_room() if self._crowded else None

    def _serve(self, session: Sender | Receiver, frame: frames.ClientFrame, size: int) -> Awaitable[None] | None:
        """Begin a request; later ones may begin before its answer."""
        work = self._begin(frame, size + _ANSWER_BYTES.get(type(frame), 0))
        try:
            answer = session.begin(frame)
            if isinstance(answer, Struct):
                work.set_result(answer)
            else:
                asyncio.ensure_future(answer, loop=self._loop).add_done_callback(partial(forward, work))
        except Refused as refused:
            work.set_exception(refused)
        return self._wait_for_room() if self._crowded else None

    def _begin(self, frame: frames.ClientFrame, cost: int) -> _Work:
        """Count a request that holds so many bytes until it is answered."""
        self._in_work += 1
        self._held += cost
        self._backlog.take(cost)
        return _Work(self, frame, cost, self._loop.time())

    @property
    def _crowded(self) -> bool:
        return self._full or self._backlog.full

    @property
    def _full(self) -> bool:
        return self._in_work >= MAX_REQUESTS_IN_FLIGHT or self._held >= CONNECTION_REQUEST_BYTES

    async def _serve_alone(self, session: Sender | Receiver, frame: frames.ClientFrame) -> None:
        """Serve a request after all earlier ones and before all later ones."""
        await self._nothing_in_work()
        try:
            answer = session.begin(frame)
        except Refused as refused:
            self._answer(frames.Error(_number(frame), refused.code, refused.detail))
            return
        if not isinstance(answer, Struct):
            try:  # and no task: what it begins comes after its answer
                answer = await answer
            except Exception as error:  # noqa: BLE001 -- it must not take other requests with it
                answer = _failure(frame, error)
        if isinstance(session, Receiver) and session.proved and self._protocol.state is State.RECEIVER:
            self._protocol.proved()
        self._answer(answer)
        if isinstance(answer, frames.Subscribed) and isinstance(session, Receiver):
            self._subscription = session.subscription
            self._ack_start = acknowledgements.beginning(answer.owner_token, answer.incarnation)
        if isinstance(frame, frames.MailboxDelete) and isinstance(answer, frames.Erased):
            self._close(1000)

    def _finish(
        self,
        frame: frames.ClientFrame,
        cost: int,
        started: float,
        result: Any,  # noqa: ANN401 -- of whatever was asked for
        error: BaseException | None,
    ) -> None:
        """Answer a request that is no longer in work."""
        self._in_work -= 1
        self._held -= cost
        self._backlog.give_back(cost)
        try:
            answer = self._outcome(frame, result) if error is None else _failure(frame, error)
            if isinstance(answer, Struct):
                self._answer(answer)
            elif isinstance(frame, frames.Claim):
                self._answer_claim(frame.request, answer)
            if isinstance(frame, frames.Deposit):
                self._relay.metrics.commit.observe(self._loop.time() - started)
        except Exception as raised:  # noqa: BLE001 -- our bug: the client reconnects instead of waiting for ever
            _log.error("answer failed", error=type(raised).__name__)
            self.fail(Code.GOING_AWAY, "internal")
        if self._room is not None and not self._full and not self._room.done():
            self._room.set_result(None)
        if self._idle is not None and not self._in_work and not self._idle.done():
            self._idle.set_result(None)

    def _outcome(
        self,
        frame: frames.ClientFrame,
        result: Any,  # noqa: ANN401 -- of whatever was asked for
    ) -> frames.RelayFrame | Sequence[bytes]:
        """Return the answer of what is done, of a claim its prekeys, or the Error frame for what it means."""
        try:
            if isinstance(frame, frames.Deposit):
                return sender.deposited(frame, result)
            if isinstance(frame, frames.Claim):
                return claims.issued(self._relay, frame, result)
        except Exception as error:  # noqa: BLE001 -- it must not take other requests with it
            return _failure(frame, error)
        return cast("frames.RelayFrame", result)

    def _answer_claim(self, request: int, prekeys: Sequence[bytes]) -> None:
        if self._closing is None:
            pieces = self._protocol.send_claimed(request, prekeys)
            self._out += (binary_header(sum(map(len, pieces))), *pieces)  # a sender's: no entries go before it
            self.wake()

    def _answer(self, answer: frames.RelayFrame) -> None:
        if isinstance(answer, frames.Error):
            self._count(Code(answer.code))
        self.send(answer)

    async def _wait_for_room(self) -> None:
        while self._in_work and self._full:
            self._room = self._loop.create_future()
            await self._room
        await self._backlog.room()

    async def _nothing_in_work(self) -> None:
        while self._in_work:
            self._idle = self._loop.create_future()
            await self._idle

    # The end.

    def _end(self) -> None:
        """Nothing more comes: finish what was received, and let go."""
        if self._ending is None:
            self._ending = self._loop.create_task(self._finish_all())

    async def _finish_all(self) -> None:
        if self._held_up is not None:
            await asyncio.wait([self._held_up])
        await self._nothing_in_work()
        session, self._session = self._session, None
        self._subscription = None
        if session is not None:
            self._relay.metrics.connections.labels(self._role).dec()
            try:
                await session.close()
            except StoreUnavailable:
                _log.info("store closed before connection")
        if self._closing is None:
            self._close(_NORMAL)
            if self._transport is not None:
                self._transport.close()  # once all is written
        else:
            self._drop()
        self._ended(self)

    # Writing: restante_server.services.subscription.Sink.

    @property
    def congested(self) -> bool:
        """The peer does not read as fast as it is written to."""
        return self._paused

    async def writable(self) -> None:
        """Wait until the peer has read. Raises ConnectionError if it is gone."""
        while self._paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()
        if self._transport is None:
            raise ConnectionResetError

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
        out, transport = self._out, self._transport
        if self._subscription is not None:
            out += self._subscription.take(now=True)
        if out and transport is not None and not transport.is_closing():
            transport.write(b"".join(out) if len(out) > 1 else out[0])
            if self._paused and self._subscription is not None:
                self._subscription.fall_behind()
        out.clear()

    def _write(self, data: bytes) -> None:
        if self._subscription is not None:
            self._out += self._subscription.take(now=False)
        self._out.append(binary_message(data))
        self.wake()

    def _write_now(self, message: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(message)

    def _close(self, code: int) -> None:
        if self._closing is None:
            self.flush()
            self._write_now(close_message(code))
            self._closing = self._loop.call_later(_CLOSE_TIMEOUT, self._drop)

    def _drop(self) -> None:
        """End the connection; if the peer has read everything, it sees no error."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()

    def _count(self, code: Code) -> None:
        self._relay.metrics.refusals.labels(code.name.lower()).inc()


def _failure(frame: frames.ClientFrame, error: BaseException) -> frames.Error:
    """Return what is answered instead of what was asked for."""
    match error:
        case Refused():
            code, detail = error.code, error.detail
        case StoreFull():
            code, detail = Code.FULL, "store"
        case StoreUnavailable():
            code, detail = Code.UNAVAILABLE, "store"
        case _:  # our bug
            _log.error("request failed", error=type(error).__name__, frame=type(frame).__name__)
            code, detail = Code.UNAVAILABLE, "internal"
    return frames.Error(_number(frame), code, detail)


def _number(frame: frames.ClientFrame) -> int:
    number: int = getattr(frame, "request", 0)
    return number
