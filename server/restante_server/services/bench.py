"""What ``restante bench`` may do here: nothing, unless the operator set limits; then so much in a turn, one at a time.

A turn begins with the first connection and ends when the last of its connections has gone, or after its seconds. What
it made is deleted then. Until a rest is over no other begins. Its connections are ordinary ones, but that deposits and
new mailboxes are counted, that mailboxes need no admission, and that another key than the relay's signs: what a turn is
given admits nobody later. Limits are those of one process.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from restante_protocol.errors import Code
from restante_server.config import BENCH_REST, BenchLimits
from restante_server.errors import Refused
from restante_server.identity import Identity
from restante_server.services.relay import Relay
from restante_server.stores.contract import StoreError

SPARE_CONNECTIONS: Final = 2  # besides one for each mailbox: senders
_RETRY: Final = 1.0  # seconds between attempts to delete what a turn made
_log = structlog.get_logger("bench")


class Connection(Protocol):
    """What a turn needs of its connections."""

    def fail(self, code: Code, detail: str) -> None:
        """Send an error and close."""
        ...


@dataclass(slots=True, kw_only=True)
class Turn:
    """What is left of one: ``services.relay.Meter``.

    Attributes:
        deposits: that may still be made.
        mailboxes: that may still be made.
        made: mailboxes.
    """

    deposits: int
    mailboxes: int
    made: set[bytes]

    def deposit(self) -> None:
        """Count a deposit. Raises Refused."""
        if not self.deposits:
            raise Refused(Code.FULL, "bench")
        self.deposits -= 1

    def create(self, mailbox: bytes) -> None:
        """Count a mailbox. Raises Refused."""
        if mailbox in self.made:
            return
        if not self.mailboxes:
            raise Refused(Code.FULL, "bench")
        self.mailboxes -= 1
        self.made.add(mailbox)


class Bench:
    """The turns of one process.

    Attributes:
        limits: of each.
    """

    def __init__(self, relay: Relay, limits: BenchLimits) -> None:
        """Begin without a turn, and rested."""
        self.limits = limits
        self._relay = relay
        self._key = Identity.of(os.urandom(32))
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._turn: Turn | None = None
        self._over: asyncio.TimerHandle | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._rested = 0.0  # loop time

    def waits(self) -> float:
        """Return the seconds until a connection may begin a turn or join the one that runs; 0: now."""
        if self._turn is None:
            return max(0.0, self._rested - self._loop.time()) if self._cleaning is None else BENCH_REST
        ended = self._over is None or len(self._connections) >= self.limits.mailboxes + SPARE_CONNECTIONS
        return float(self.limits.seconds) + BENCH_REST if ended else 0.0

    def join(self, connect: Callable[[Relay], Connection]) -> None:
        """Have a connection made that belongs to the turn; ``waits`` has to be 0."""
        limits = self.limits
        turn = self._turn or Turn(deposits=limits.deposits, mailboxes=limits.mailboxes, made=set())
        self._connections.add(connect(replace(self._relay, identity=self._key, admission="open", meter=turn)))
        if self._turn is None:
            self._turn = turn
            self._over = self._loop.call_later(limits.seconds, self._end)

    def leave(self, connection: Connection) -> None:
        """Note that a connection has gone."""
        self._connections.discard(connection)
        if self._turn is not None and not self._connections:
            if self._over is not None:
                self._over.cancel()
            self._rested = self._loop.time() + BENCH_REST
            self._cleaning = self._loop.create_task(self._clean(self._turn))
            self._turn = self._over = None

    def _end(self) -> None:
        """The seconds are over."""
        self._over = None
        for connection in list(self._connections):
            connection.fail(Code.GOING_AWAY, "the turn is over")

    async def _clean(self, turn: Turn) -> None:
        for mailbox in turn.made:
            while True:
                try:
                    await self._relay.store.delete_mailbox(mailbox)
                    break
                except StoreError as error:
                    _log.warning("upkeep failed", error=type(error).__name__)
                    await asyncio.sleep(_RETRY)
        self._cleaning = None

    async def close(self, patience: float) -> None:
        """Delete what the last turn made, for at most so many seconds; its connections have gone."""
        if self._cleaning is not None:
            await asyncio.wait([self._cleaning], timeout=patience)
            if self._cleaning is not None:
                self._cleaning.cancel()
