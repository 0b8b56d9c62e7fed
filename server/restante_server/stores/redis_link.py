"""One connection to a Redis or Valkey server: packed commands out, replies in their order.

redis-py spends 9 to 60 microseconds of Python on each command (measured); the store sends a few large ones per tick of
the event loop, so it speaks the protocol (RESP2) itself, through hiredis.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Self, cast

import hiredis

from restante_server.stores.redis_address import Host, RedisAddress

CONNECT_TIMEOUT: Final = 2.0  # seconds
REPLY_TIMEOUT: Final = 4.0  # seconds without any reply while one is due: the server hangs or is cut off

Reply = Any  # bytes, int, None, a list of replies, or hiredis.ReplyError


def pack(command: tuple[Any, ...]) -> bytes:
    """Return a command as it is sent."""
    packed: bytes = hiredis.pack_command(command)
    return packed


class LinkLost(Exception):  # noqa: N818 -- a state
    """The connection ended: whether what was sent took effect is unknown."""


class Link(asyncio.Protocol):
    """A connection. ``open`` makes one that is authenticated.

    Attributes:
        host: the server's.
        lost: it has ended.
    """

    def __init__(self, host: Host, on_push: Callable[[list[Any]], None] | None, on_lost: Callable[[], None]) -> None:
        """Begin unconnected. With ``on_push`` every reply that nobody waits for goes there."""
        self.host = host
        self.lost = False
        self._on_push = on_push
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[int, list[Reply], asyncio.Future[list[Reply]]]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls,
        address: RedisAddress,
        host: Host,
        *,
        on_push: Callable[[list[Any]], None] | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Self:
        """Connect and authenticate. Raises LinkLost or OSError."""
        link = cls(host, on_push, on_lost)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().create_connection(lambda: link, *host, ssl=address.ssl_context())
                commands: list[tuple[Any, ...]] = []
                if address.username or address.password:
                    user = (address.username,) if address.username else ()
                    commands.append(("AUTH", *user, address.password))
                if address.database:
                    commands.append(("SELECT", address.database))
                if commands:
                    link._check_replies(await link.call(commands))
        except TimeoutError:
            link.close()
            raise LinkLost("no answer") from None
        except BaseException:
            link.close()
            raise
        return link

    @staticmethod
    def _check_replies(replies: list[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise LinkLost(str(reply))

    def call(self, commands: Sequence[tuple[Any, ...] | bytes], count: int = 0) -> "asyncio.Future[list[Reply]]":
        """Send commands, packed or not, in one write; the future has their replies, or raises LinkLost.

        Args:
            commands: those that are packed may be several.
            count: of replies, if it is not one for each.
        """
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        if self._transport is None or self.lost:
            future.set_exception(LinkLost("not connected"))
            return future
        if not self._waiting:
            self._heard = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(REPLY_TIMEOUT, self._check)
        self._waiting.append((count or len(commands), [], future))
        self._transport.writelines([command if isinstance(command, bytes) else pack(command) for command in commands])
        return future

    def send(self, command: tuple[Any, ...]) -> None:
        """Send a command whose replies go to ``on_push``."""
        if self._transport is not None and not self.lost:
            self._transport.write(pack(command))

    @property
    def silence(self) -> float:
        """Seconds since something came, while a reply is due; else 0."""
        return self._loop.time() - self._heard if self._waiting else 0.0

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of another class

    def data_received(self, data: bytes) -> None:
        """Hand out replies."""
        self._heard = self._loop.time()
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if not self._waiting:
                if self._on_push is not None and isinstance(reply, list):
                    self._on_push(reply)
                continue
            count, replies, future = self._waiting[0]
            replies.append(reply)
            while len(replies) < count and (reply := reader.gets()) is not False:
                replies.append(reply)
            if len(replies) == count:
                self._waiting.popleft()
                if not future.done():
                    future.set_result(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        del exc
        self._end()

    def _check(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        silent = self._loop.time() - self._heard
        if silent >= REPLY_TIMEOUT:
            self.close()
        else:
            self._timer = self._loop.call_later(REPLY_TIMEOUT - silent, self._check)

    def _end(self) -> None:
        if self.lost:
            return
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            _, _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(LinkLost("connection lost"))
        self._on_lost()
