"""``restante bench URL``: what a running relay delivers, within limits that its operator set (``services.bench``).

In Python alone, over TLS where the URL says so: it needs no compiler, and says which share of a core it used itself.
Near a whole one it is what was measured, not the relay; the figures of benchmarks/ come from a generator in C.
"""

import asyncio
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn

import aiohttp
import msgspec
import typer

from restante_protocol import frames, ids, limits
from restante_protocol.connection import NumberedEntry
from restante_protocol.errors import Code, ProtocolError
from restante_server.config import BenchLimits
from restante_server.link import Failed, Link
from restante_server.transport.websocket import BENCH_PATH

BODY_BYTES: Final = 256
IN_FLIGHT: Final = (1, 8, 64)  # deposits, a row each
SHARES: Final = (0.05, 0.25, 0.7)  # of the deposits that a turn has, by row
USED: Final = 0.8  # of a turn's seconds, by all rows: the rest is for its beginning and end
SATURATED: Final = 0.95  # of a core
PATIENCE: Final = 10  # seconds for each connection, and for the last deliveries of a row
_STAMP_BYTES: Final = 8  # of a body: when it left, in nanoseconds
_HANDLE: Final = 0
COLUMNS: Final = ("in flight", "deliveries/s", "accepted/s", "p50 ms", "p99 ms", "own CPU")


class Refusal(Exception):  # noqa: N818 -- an outcome, with its text for the operator
    """Nothing was measured, and why."""


@dataclass(slots=True, kw_only=True)
class Row:
    """What was measured with so many deposits in flight.

    Attributes:
        inflight: deposits.
        accepted: deposits.
        seconds: that it took.
        own: CPU seconds of this process.
        waits: seconds from each deposit to each of its deliveries.
    """

    inflight: int
    accepted: int = 0
    seconds: float = 0
    own: float = 0
    waits: list[float] = field(default_factory=list)

    def cells(self) -> Sequence[str]:
        """Return the cells for COLUMNS."""
        share = self.own / self.seconds
        cuts = statistics.quantiles(self.waits, n=100, method="inclusive")
        return (
            str(self.inflight),
            f"{len(self.waits) / self.seconds:,.0f}",
            f"{self.accepted / self.seconds:,.0f}",
            f"{cuts[49] * 1000:.2f}",
            f"{cuts[98] * 1000:.2f}",
            f"{share:.0%}" + (" (it was measured, not the relay)" if share > SATURATED else ""),
        )


@dataclass(slots=True)
class _Board:
    """Where readers note what came.

    Attributes:
        row: that is measured now.
        delivered: since the start.
        target: deliveries at which ``reached`` is set; 0: not known yet.
    """

    row: Row
    delivered: int = 0
    target: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, sent: float) -> None:
        """Count a delivery of what left at that time."""
        self.row.waits.append(time.perf_counter() - sent)
        self.delivered += 1
        if self.delivered == self.target:
            self.reached.set()

    async def wait(self, target: int) -> None:
        """Wait until so much has been delivered. Raises TimeoutError."""
        self.target = target
        self.reached.clear()
        if self.delivered < target:
            async with asyncio.timeout(PATIENCE):
                await self.reached.wait()


async def _read(link: Link, owner: frames.Subscribed, board: _Board) -> NoReturn:
    """Take a mailbox's entries, and acknowledge each run."""
    socket, connection = link.socket, link.connection
    last = 0
    while True:
        came = connection.receive(await socket.receive_bytes())
        if isinstance(came, frames.Run):
            last = came.first_sequence + came.count - 1
        elif isinstance(came, NumberedEntry):
            board.note(int.from_bytes(came.entry.body[:_STAMP_BYTES], "big") / 1e9)
            if came.sequence == last:
                frame = frames.Ack(owner.owner_token, owner.incarnation, last, [])
                await socket.send_bytes(connection.send(frame))


async def _deposit(link: Link, row: Row, count: int, seconds: float) -> None:
    """Deposit to the list, so many in flight, until one of both is used up; all are answered at the end."""
    sent, waiting, until = 0, 0, time.perf_counter() + seconds
    while True:
        while waiting < row.inflight and sent < count and time.perf_counter() < until:
            number = link.connection.next_request()
            stamp = int(time.perf_counter() * 1e9).to_bytes(_STAMP_BYTES, "big")
            body = stamp + os.urandom(BODY_BYTES - _STAMP_BYTES)
            name = os.urandom(ids.MESSAGE_ID_BYTES)
            frame = frames.Deposit(number, name, _HANDLE, body, limits.MIN_LIFETIME, None, 0)
            await link.socket.send_bytes(link.connection.send(frame))
            sent += 1
            waiting += 1
        if not waiting:
            return
        answer = await link.receive()
        waiting -= 1
        if isinstance(answer, frames.Error):
            raise Failed(f"the relay refuses: {Code(answer.code).name.lower()}", Code(answer.code))
        row.accepted += 1


async def _measure(link: Link, board: _Board, count: int, mailboxes: int, seconds: float) -> None:
    before = board.delivered
    row = board.row
    begun, own = time.perf_counter(), time.process_time()
    await _deposit(link, row, count, seconds)
    await board.wait(before + row.accepted * mailboxes)
    row.seconds, row.own = time.perf_counter() - begun, time.process_time() - own


async def _allowed(session: aiohttp.ClientSession, url: str) -> BenchLimits:
    """Ask what a turn may do. Raises Refusal."""
    async with session.get(url) as answer:
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Refusal(f"it is measured, or was just now: try again in {answer.headers['Retry-After']} s")
        if answer.status != HTTPStatus.OK:
            raise Refusal("its operator does not allow it: restante serve --bench-seconds")
        return msgspec.json.decode(await answer.read(), type=BenchLimits)


async def _run(url: str) -> str:
    place = url.rstrip("/") + BENCH_PATH
    rows = [Row(inflight=each) for each in IN_FLIGHT]
    board = _Board(rows[0])
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        allowed = await _allowed(session, place)
        begun = time.perf_counter()
        sender = await Link.open(session, stack, place, frames.ROLE_SENDER)
        readers, addresses = [], []
        for number in range(allowed.mailboxes):
            link = await Link.open(session, stack, place, frames.ROLE_RECEIVER)
            bucket = number % ids.BUCKETS
            _, key, nonce = await link.make_mailbox(bucket)
            address, owner = await link.listen(bucket, key, nonce, limits.ADDRESS_ENTRIES)
            addresses.append(address)
            readers.append(asyncio.create_task(_read(link, owner, board)))
        try:
            await sender.ask(lambda n: frames.ListPut(n, _HANDLE, addresses), frames.Done)
            left = allowed.seconds * USED - (time.perf_counter() - begun)
            readers.append(asyncio.create_task(_show(math.ceil(left))))
            for board.row, share in zip(rows, SHARES, strict=True):
                count = max(1, int(allowed.deposits * share))
                await _measure(sender, board, count, allowed.mailboxes, left / len(rows))
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
        return _table(rows, allowed, sender.welcome.level)


async def _show(seconds: int) -> NoReturn:
    """Show how much of the time has gone, at most so many seconds."""
    with typer.progressbar(length=seconds, file=sys.stderr, label="measuring") as bar:
        while True:
            await asyncio.sleep(1)
            bar.update(1)


def _table(rows: Sequence[Row], allowed: BenchLimits, level: str) -> str:
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(COLUMNS) - 1)]
    head = f"level={level}, {BODY_BYTES} B to each of {allowed.mailboxes} mailboxes, which the relay deletes now"
    shown = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in lines
    ]
    return "\n".join([head, *shown])


def run(url: str) -> str:
    """Measure a relay; return the table. Raises Refusal."""
    try:
        return asyncio.run(_run(url))
    except Failed as failed:
        raise Refusal(str(failed)) from None
    except (aiohttp.ClientError, OSError, ProtocolError, TypeError, ValueError) as error:
        raise Refusal(f"no relay answers there ({type(error).__name__})") from None
