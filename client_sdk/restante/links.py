"""Links: one WebSocket to a relay, verified to be the pinned one; and how long to wait before the next try.

``restante_protocol.connection`` says what may come and go; here are the socket, the answers that callers wait for, and
a bounded queue of what the relay says by itself. Reconnecting is the driver's.
"""

import asyncio
import contextlib
import random as _random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec

from restante.errors import Refused, RelayChanged, RelayError
from restante_crypto import primitives, proofs
from restante_crypto.primitives import Random
from restante_protocol import frames, ids, limits
from restante_protocol.connection import ClientConnection, NumberedEntry, State
from restante_protocol.errors import Code, LocalError, RemoteError

PATH: Final = "/v1/socket"
HANDSHAKE_SECONDS: Final = limits.HANDSHAKE_TIMEOUT
HEARTBEAT_SECONDS: Final = limits.PING_INTERVAL  # a ping after so much silence, half as long again for the answer
ANSWER_SECONDS: Final = 2.0  # without a byte while an answer is due: then a ping, and as long again for its answer
CLOSE_SECONDS: Final = 2.0  # for the relay's part in closing
MAX_WAITING: Final = 2 * limits.WINDOW_ENTRIES  # pushes that nobody took; from here on nothing more is read
MAX_WAITING_BYTES: Final = 2 * limits.WINDOW_BYTES  # of their frames, of which the last may be a large one
RETRY_SECONDS: Final = 0.5  # after a relay that is full or unavailable
RETRIED: Final = frozenset({Code.UNAVAILABLE, Code.FULL, Code.STALE})  # of what a mailbox's owner asks
LATER: Final = RETRIED | {Code.TIMEOUT, Code.OVERLOADED, Code.GOING_AWAY}  # of deposits and blobs

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

Push = NumberedEntry | frames.Drained | frames.PrekeysLow | frames.AddressSpent | frames.Disclosed | frames.Error
"""What the relay says by itself; an Error here is fatal and the last one."""
R = TypeVar("R", bound=msgspec.Struct)


class Disconnected(Exception):  # noqa: N818 -- says what is the case
    """There is no connection (any more): whether what was asked happened is unknown."""


class _Silent(Disconnected):
    """Nothing comes from the relay, not even what answers a ping."""


def open_session(**options: Any) -> aiohttp.ClientSession:  # noqa: ANN401 -- aiohttp's
    """Return a session for connections to relays. It keeps no cookie, and follows no redirect.

    A relay could send its clients to their own networks with one: aiohttp asks there before anything is verified.
    """
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace], **options)


async def _refuse_redirect(_session: object, _context: object, redirect: aiohttp.TraceRequestRedirectParams) -> None:
    redirect.response.close()
    raise aiohttp.ClientError("a relay redirects nobody")


class Backoff:
    """Waiting times between tries: random, up to a bound that doubles from 0.1 to 30 seconds ("full jitter")."""

    FIRST: Final = 0.1
    LAST: Final = 30.0

    def __init__(self, random: _random.Random) -> None:
        """Start at the lowest bound; ``random`` spreads load and keeps no secret."""
        self._random = random
        self._bound = self.FIRST

    def next(self) -> float:
        """Return the seconds to wait now."""
        bound = self._bound
        self._bound = min(bound * 2, self.LAST)
        return self._random.random() * bound

    def reset(self) -> None:
        """Start anew: a connection held."""
        self._bound = self.FIRST


class Connection:
    """An open connection in one role.

    Attributes:
        relay_key: 32 bytes: who the relay has proved to be.
        admission: frames.ADMISSION_*.
        level: the relay's durability, in words.
        client_nonce: 32 bytes, sent in Hello.
        relay_nonce: 32 bytes, from Welcome.
        lost: why there is no connection any more, or None.
    """

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, protocol: ClientConnection, nonce: bytes, welcome: frames.Welcome
    ) -> None:
        """Take over a socket after the handshake; ``connect`` is the way in."""
        self.relay_key = welcome.relay_key
        self.admission = welcome.admission
        self.level = welcome.level
        self.client_nonce = nonce
        self.relay_nonce = welcome.nonce
        self.lost: Exception | None = None
        self._socket = socket
        self._protocol = protocol
        self._answers: dict[int, asyncio.Future[frames.RelayFrame]] = {}
        self._pushes: list[Push] = []
        self._pushed_bytes = 0  # of their frames
        self._pushed = asyncio.Event()
        self._room = asyncio.Event()
        self._outgoing: deque[bytes] = deque()
        self._to_write = asyncio.Event()
        self._heard = asyncio.get_running_loop().time()
        self._due = 0.0  # loop time since which something should have come
        self._probe: asyncio.Task[None] | None = None
        self._tasks = [asyncio.ensure_future(self._read()), asyncio.ensure_future(self._write())]

    @classmethod
    async def connect(
        cls, session: aiohttp.ClientSession, url: str, role: int, *, random: Random, relay_key: bytes | None
    ) -> Self:
        """Connect, say Hello and verify Welcome.

        Args:
            session: what connects; proxies and TLS are its matter.
            url: the relay's, http(s) or ws(s).
            role: frames.ROLE_*.
            random: n -> n random bytes.
            relay_key: the pinned key, or None to take the one that the relay proves to hold.

        Raises:
            Disconnected: nobody answers there, or not as a relay, or one that has no room now.
            RelayChanged: it holds another key than the pinned one.
            Refused: it speaks no version that this library speaks.
            RelayError: it does not hold the key it shows, or the URL is none.
        """
        address = socket_url(url)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                socket = await session.ws_connect(
                    address,
                    compress=0,  # ciphertext does not shrink
                    max_msg_size=limits.MAX_FRAME_BYTES,
                    autoping=False,  # a pong is a sign of life that the wait for an answer has to see
                    heartbeat=HEARTBEAT_SECONDS,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
                try:
                    protocol = ClientConnection(role)
                    nonce = random(ids.CHALLENGE_BYTES)
                    await socket.send_bytes(protocol.hello(nonce))
                    welcome = _welcome(protocol, await socket.receive())
                    _verify(welcome, nonce, relay_key)
                except BaseException:
                    await socket.close()
                    raise
        except aiohttp.InvalidURL as error:
            raise RelayError(f"not a relay's URL: {url!r}") from error
        except (aiohttp.ClientError, OSError, TimeoutError, RemoteError) as error:
            raise Disconnected("no relay answers") from error
        return cls(socket, protocol, nonce, welcome)

    async def request(self, build: Callable[[int], frames.ClientFrame]) -> frames.RelayFrame:
        """Send a request and return its answer; any number may wait at once, and their order is kept on the way.

        Args:
            build: makes the frame from its request number.

        Raises:
            Refused: the relay answered with an Error.
            Disconnected: the connection went before the answer came, or the relay has fallen silent.
        """
        number = self._protocol.next_request()
        self.send(build(number))
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._look_for_life()
        frame: frames.RelayFrame = await answer
        if isinstance(frame, frames.Error):
            raise Refused(frame.code, frame.detail)
        return frame

    def send(self, frame: frames.ClientFrame) -> None:
        """Send a frame that has no answer. Raises Disconnected."""
        if self.lost is not None:
            raise Disconnected("the connection is gone") from self.lost
        try:
            self._outgoing.append(self._protocol.send(frame))
        except LocalError as error:
            if self._protocol.state is State.CLOSED:  # the relay's last word is read, the socket not yet
                raise Disconnected("the relay is closing the connection") from error
            raise
        self._to_write.set()

    def expect(self, since: float) -> None:
        """Something should have come since this loop time: lose the connection if nothing does, not even a pong."""
        self._due = since
        self._look_for_life()

    def _look_for_life(self) -> None:
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(self._watch(at_once=False))

    def suspect(self) -> None:
        """Lose the connection unless the relay answers a ping soon."""
        if self._probe is not None:
            self._probe.cancel()
        self._probe = asyncio.ensure_future(self._watch(at_once=True))

    async def next_batch(self) -> list[Push]:
        """Return all pushes that have arrived, at least one, in order. Raises Disconnected when no more will come."""
        while not self._pushes:
            if self.lost is not None:
                raise Disconnected("the connection is gone") from self.lost
            self._pushed.clear()
            await self._pushed.wait()
        batch, self._pushes, self._pushed_bytes = self._pushes, [], 0
        self._room.set()
        return batch

    async def close(self) -> None:
        """Close; whoever waits gets Disconnected. A second call does nothing."""
        self._lose(Disconnected("closed by this side"))
        tasks = [*self._tasks, *([self._probe] if self._probe is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        patience = 0 if isinstance(self.lost, _Silent) else None  # nobody is there who would close its side
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(patience):
                await self._socket.close()

    async def _read(self) -> None:
        try:
            while True:
                message = await self._socket.receive()
                self._heard = asyncio.get_running_loop().time()
                if message.type is aiohttp.WSMsgType.PING:
                    await self._socket.pong(message.data)
                    continue
                if message.type is aiohttp.WSMsgType.PONG:
                    continue
                if message.type is not aiohttp.WSMsgType.BINARY:
                    raise Disconnected(f"the relay closed the connection: {self._socket.close_code}")  # noqa: TRY301
                self._take(self._protocol.receive(message.data), len(message.data))
                while self._is_full:
                    self._room.clear()
                    await self._room.wait()
        except (Disconnected, RemoteError, aiohttp.ClientError, OSError) as error:
            self._lose(error)
            code = aiohttp.WSCloseCode.PROTOCOL_ERROR if isinstance(error, RemoteError) else aiohttp.WSCloseCode.OK
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._socket.close(code=code)
        finally:
            self._lose(Disconnected("nothing is read any more"))  # whatever ended it, nobody waits for ever

    @property
    def _is_full(self) -> bool:
        """Whether so much waits for who takes it that nothing more is read: a relay could send without end."""
        return len(self._pushes) >= MAX_WAITING or self._pushed_bytes >= MAX_WAITING_BYTES

    def _take(self, frame: frames.RelayFrame | NumberedEntry, size: int) -> None:
        match frame:
            case (
                NumberedEntry()
                | frames.Drained()
                | frames.PrekeysLow()
                | frames.AddressSpent()
                | frames.Disclosed()
                | frames.Error(request=0)
            ):
                self._pushes.append(frame)
                self._pushed_bytes += size
                self._pushed.set()
            case frames.Run():
                pass  # the protocol numbers its entries
            case _:
                answer = self._answers.pop(getattr(frame, "request", 0), None)
                if answer is not None and not answer.done():
                    answer.set_result(frame)

    async def _write(self) -> None:
        # A failure is not news: reading ends too, after the relay's last words, which say more.
        with contextlib.suppress(aiohttp.ClientError, OSError):
            while True:
                await self._to_write.wait()
                self._to_write.clear()
                while self._outgoing:
                    await self._socket.send_bytes(self._outgoing.popleft())

    async def _watch(self, *, at_once: bool) -> None:
        """Ask for a sign of life, and again while answers are due: they may take as long as the store needs."""
        loop = asyncio.get_running_loop()
        while self.lost is None:
            since = loop.time()
            if not at_once:
                await asyncio.sleep(ANSWER_SECONDS)
            at_once = False
            if self._heard < since:
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    await self._socket.ping()
                await asyncio.sleep(ANSWER_SECONDS)
            if self._heard < since and not self._is_full:  # or it is this side that does not read
                self._lose(_Silent("the relay has fallen silent"))
                self._tasks[0].cancel()  # it would read for ever
            elif not self._answers and self._heard >= self._due:
                return

    def _lose(self, error: Exception) -> None:
        if self.lost is not None:
            return
        self.lost = error
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Disconnected("the connection went before the answer came"))
        self._answers.clear()
        self._outgoing.clear()
        self._pushed.set()


def numbered(frame: R, request: int) -> R:
    """Return a request that was made before, with the number that ``Connection.request`` gives it."""
    return msgspec.structs.replace(frame, request=request)


def socket_url(url: str) -> str:
    """Return the WebSocket's URL at the relay of this URL. Raises RelayError for a URL of another scheme."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or not rest or scheme.lower() not in _SCHEMES:
        raise RelayError(f"not a relay's URL: {url!r}; it begins with https:// or http://")
    return f"{_SCHEMES[scheme.lower()]}://{rest.rstrip('/')}{PATH}"


def _welcome(protocol: ClientConnection, message: aiohttp.WSMessage) -> frames.Welcome:
    if message.type is not aiohttp.WSMsgType.BINARY:
        raise Disconnected("the relay closed the connection at once")
    frame = protocol.receive(message.data)
    if isinstance(frame, frames.Error) and frame.code == Code.VERSION:
        raise Refused(frame.code, "the relay speaks no version of the protocol that this library speaks")
    if not isinstance(frame, frames.Welcome):
        raise Disconnected("the relay takes no connection now")
    return frame


def _verify(welcome: frames.Welcome, nonce: bytes, pinned: bytes | None) -> None:
    if pinned is not None and welcome.relay_key != pinned:
        raise RelayChanged(
            "the relay has another key than the one it had: it was exchanged, or somebody stands between"
        )
    signed = proofs.welcome_message(welcome.relay_key, nonce, welcome.nonce)
    right_lengths = len(welcome.relay_key) == ids.KEY_BYTES and len(welcome.nonce) == ids.CHALLENGE_BYTES
    if not right_lengths or not primitives.ed25519_verify(welcome.relay_key, signed, welcome.signature):
        raise RelayError("the relay does not hold the key that it shows")
