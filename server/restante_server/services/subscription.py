"""One subscription: what of a mailbox has been sent over its connection, and what may be sent next.

A subscription is *behind* at first: it reads pages from the store, as far as the window allows, until a read that began
after the last announcement finds nothing more. Then it is *live*: entries come straight from the commit. A full window
or a peer that does not read puts it behind again; entries announced meanwhile are read from the store later. So the
order is always that of the sequences, without gap or duplicate.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self

import structlog

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import WINDOW_BYTES, WINDOW_ENTRIES
from restante_server.metrics import Metrics
from restante_server.services.acknowledgement import NOTHING, Acknowledgement, merge
from restante_server.stores.contract import Store, StoredEntry, StoreError, Value
from restante_server.stores.contract import Subscription as Owner

_log = structlog.get_logger("subscription")
ACKNOWLEDGE_SECONDS: Final = 0.1  # a store that is asked, not memory, hears of one mailbox so often at the most
_EPHEMERAL_RUN = frames.encode(frames.Run(0, 1))

_NONE = Acknowledgement(0, NOTHING)

Wrap = Callable[[bytes], bytes]
"""Makes a frame's bytes a complete message of the transport."""


class Sink(Protocol):
    """The connection, as a subscription sees it."""

    @property
    def congested(self) -> bool:
        """The peer does not read as fast as it is written to."""
        ...

    async def writable(self) -> None:
        """Wait until it is not congested any more."""
        ...

    def wake(self) -> None:
        """Ask for ``Subscription.take`` before this tick's write."""
        ...

    def send(self, frame: frames.RelayFrame) -> None:
        """Send a frame after everything that was sent before, runs included."""
        ...

    def fail(self, code: Code, detail: str) -> None:
        """Send an error and close the connection."""
        ...


def entry_message(message_id: bytes, body: bytes, fence: bytes | None, wrap: Wrap) -> bytes:
    """Return the complete message of an entry: the same for all its recipients."""
    return wrap(frames.encode(frames.Entry(message_id, body, fence)))


class Batch(Value, frozen=True):
    """Entries that go together to each of their recipients, made complete once for all.

    Attributes:
        messages: the complete messages, one after another.
        sizes: bytes of each body.
        size: of all.
        count: how many.
    """

    messages: bytes
    sizes: tuple[int, ...]
    size: int
    count: int

    @classmethod
    def of(cls, entries: Sequence[tuple[bytes, bytes, bytes | None]], wrap: Wrap) -> Self:
        """Encode entries (message id, body, fence)."""
        if len(entries) == 1:
            message_id, body, fence = entries[0]
            return cls(entry_message(message_id, body, fence, wrap), (len(body),), len(body), 1)
        sizes = tuple([len(entry[1]) for entry in entries])
        messages = b"".join([entry_message(*entry, wrap) for entry in entries])
        return cls(messages, sizes, sum(sizes), len(sizes))


_Flight = tuple[int, tuple[int, ...], int]
"""Entries that were sent together and are not acknowledged: first sequence, bytes of each body and of all."""


class Subscription:
    """The owner's view of one mailbox, from Subscribe to the end of its connection.

    Attributes:
        mailbox: its id.
        owner: incarnation, token and last sequence as the store gave them.
        sink: the connection.
        live: entries come from the commit.
    """

    __slots__ = (
        "_acknowledged",
        "_acknowledging",
        "_announced",
        "_bytes_in_flight",
        "_closed",
        "_cursor",
        "_drained",
        "_entries_in_flight",
        "_ephemeral_bytes",
        "_in_flight",
        "_loop",
        "_metrics",
        "_out",
        "_pending",
        "_reading",
        "_run_first",
        "_run_header",
        "_run_next",
        "_store",
        "_tell_timer",
        "_told_at",
        "_wrap",
        "live",
        "mailbox",
        "owner",
        "sink",
    )

    def __init__(self, mailbox: bytes, owner: Owner, sink: Sink, store: Store, wrap: Wrap, metrics: Metrics) -> None:
        """Begin behind; ``start`` sends the backlog."""
        self.mailbox = mailbox
        self.owner = owner
        self.sink = sink
        self.live = False
        self._store = store
        self._wrap = wrap
        self._metrics = metrics
        self._cursor = 0
        self._announced = 0
        self._drained = False
        self._closed = False
        self._in_flight: list[_Flight] = []
        self._entries_in_flight = 0
        self._bytes_in_flight = 0
        self._out: list[bytes] = []
        self._ephemeral_bytes = 0  # of what is not written yet
        self._run_header = -1  # its place in _out; -1: no run is open
        self._run_first = 0
        self._run_next = 0
        self._acknowledged = _NONE
        self._pending: Acknowledgement | None = None
        self._reading: asyncio.Task[None] | None = None
        self._acknowledging: asyncio.Future[bool] | None = None
        self._loop = asyncio.get_running_loop()
        self._told_at = -ACKNOWLEDGE_SECONDS  # loop time of the last call that is not memory alone
        self._tell_timer: asyncio.TimerHandle | None = None

    @property
    def drained(self) -> bool:
        """The backlog has been sent."""
        return self._drained

    @property
    def acknowledging(self) -> bool:
        """The store has still to be told of acknowledgements."""
        return self._acknowledging is not None or self._pending is not None

    def start(self) -> None:
        """Read from the store until caught up, unless that is under way."""
        if self._reading is None and not self._closed:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def push(self, sequence: int, batch: Batch) -> bool:
        """Take entries that have just been committed, the first with this sequence; say whether they leave now."""
        if not self.live:
            self._announced += 1
        elif sequence <= self._cursor:
            if sequence + batch.count - 1 > self._cursor:  # some were read from the store before they were announced
                self._announced += 1
                self.live = False
                self.start()
        elif self._full(batch.count, batch.size):
            self.live = False
            self._announced += 1
            if self._entries_in_flight < WINDOW_ENTRIES and self._bytes_in_flight < WINDOW_BYTES:
                self.start()  # some of them fit, or the first does
        else:
            self._send(sequence, batch)
            return True
        return False

    def fall_behind(self) -> None:
        """The peer does not read: send nothing more until it does, then from the store."""
        if self.live:
            self.live = False
            self.start()

    def wake(self) -> None:
        """There are entries that are not announced: read them from the store."""
        self.live = False
        self._announced += 1  # a page that is being read is not the last
        self.start()

    def acknowledge(self, sequence: int, exceptions: Sequence[int] = ()) -> None:
        """Free the window and tell the store: at once, or together with what else comes until it has had a pause.

        What neither this subscription has sent nor an earlier one can have is not acknowledged.
        """
        if sequence > self._cursor:
            sequence = min(sequence, max(self._cursor, self.owner.last_sequence))
        acknowledgement = Acknowledgement(sequence, frozenset(exceptions) if exceptions else NOTHING)
        self._land(acknowledgement)
        self._acknowledged = merge(self._acknowledged, acknowledgement)
        if self.acknowledging or self._told_at > self._loop.time() - ACKNOWLEDGE_SECONDS:
            self._pending = merge(self._pending, acknowledgement)
            self._tell_later()
        else:
            self._tell_store(acknowledgement)
        if not self.live:
            self.start()

    def remind(self, sequence: int) -> None:
        """The store knows of acknowledgements up to here: tell it again of those that it has lost."""
        if self._acknowledged.sequence > sequence and not self.acknowledging:
            self._tell_store(self._acknowledged)

    def _land(self, acknowledgement: Acknowledgement) -> None:
        """Take what is acknowledged out of the window."""
        in_flight, sequence = self._in_flight, acknowledgement.sequence
        if len(in_flight) == 1 and not acknowledgement.exceptions:  # nearly always
            first, sizes, _ = in_flight[0]
            if first + len(sizes) - 1 <= sequence:
                in_flight.clear()
                self._entries_in_flight = self._bytes_in_flight = 0
                return
        gone = 0
        kept: list[_Flight] = []
        for first, sizes, size in in_flight:
            count = len(sizes)
            if first > sequence:
                break
            gone += 1
            if first + count - 1 <= sequence and not acknowledgement.exceptions:
                self._entries_in_flight -= count
                self._bytes_in_flight -= size
                continue
            for number, each in enumerate(sizes, first):
                if acknowledgement.covers(number):
                    self._entries_in_flight -= 1
                    self._bytes_in_flight -= each
                else:
                    kept.append((number, (each,), each))
        in_flight[:gone] = kept

    def push_ephemeral(self, message: bytes) -> None:
        """Send an entry that is not stored: in a run of its own whose sequence is 0.

        Dropped if the peer is slow, or if so many come at once that they fill a window.
        """
        if not self._drained or self._closed or self.sink.congested:
            return
        if self._ephemeral_bytes and self._ephemeral_bytes + len(message) > WINDOW_BYTES:
            return
        self._ephemeral_bytes += len(message)
        self._end_run()
        if not self._out:
            self.sink.wake()
        self._out.append(self._wrap(_EPHEMERAL_RUN))
        self._out.append(message)

    def take(self, *, now: bool) -> list[bytes]:
        """Return the complete messages that wait to be written, and end their run; ``now``: they are at once."""
        self._end_run()
        out = self._out
        if out:
            self._out = []
        if now:
            self._ephemeral_bytes = 0
        return out

    async def settle(self) -> None:
        """Wait until the store knows of every acknowledgement so far: of the call under way and of what came since."""
        if self._acknowledging is not None:
            await asyncio.wait([self._acknowledging])
        self._tell_pending()
        if self._acknowledging is not None:
            await asyncio.wait([self._acknowledging])

    async def close(self) -> None:
        """Stop sending; acknowledgements that were received still count, unless the mailbox has a new owner."""
        self._closed = True
        self.live = False
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self.settle()

    def _full(self, count: int, size: int) -> bool:
        if count == 1 and not self._entries_in_flight:
            return False  # one is always allowed
        return self._entries_in_flight + count > WINDOW_ENTRIES or self._bytes_in_flight + size > WINDOW_BYTES

    def _send(self, sequence: int, batch: Batch) -> None:
        out = self._out
        if self._run_header < 0 or sequence != self._run_next:
            self._end_run()
            if not out:
                self.sink.wake()
            self._run_header = len(out)
            self._run_first = sequence
            out.append(b"")  # the header's place
        out.append(batch.messages)
        self._run_next = sequence + batch.count
        self._cursor = self._run_next - 1
        self._in_flight.append((sequence, batch.sizes, batch.size))
        self._entries_in_flight += batch.count
        self._bytes_in_flight += batch.size

    def _end_run(self) -> None:
        header = self._run_header
        if header >= 0:
            count = self._run_next - self._run_first
            self._out[header] = self._wrap(frames.encode_run(self._run_first, count))
            self._run_header = -1

    async def _read(self) -> None:
        """Send from the store until the window is full or nothing is left."""
        try:
            while await self._read_page():
                pass
        except (StoreError, ConnectionError):
            self.sink.fail(Code.GOING_AWAY, "store")
        except Exception as error:  # noqa: BLE001 -- our bug: the client reconnects instead of waiting for ever
            _log.error("reading failed", error=type(error).__name__)
            self.sink.fail(Code.GOING_AWAY, "internal")
        finally:
            self._reading = None

    async def _read_page(self) -> bool:
        """Send one page; say whether to go on."""
        await self.sink.writable()
        room, size = WINDOW_ENTRIES - self._entries_in_flight, WINDOW_BYTES - self._bytes_in_flight
        if self._entries_in_flight and (room <= 0 or size <= 0):
            return False  # the next acknowledgement starts it again
        announced = self._announced
        self._tell_pending()  # first: what is gone need not be looked at
        entries = await self._store.read(self.mailbox, self._cursor, room, max(size, 1))
        for entry in entries:
            if not self._send_stored(entry):
                return False
        if entries or announced != self._announced:
            return True
        self._finish_backlog()
        self.live = not self._closed
        return False

    def _send_stored(self, entry: StoredEntry) -> bool:
        if entry.sequence > self.owner.last_sequence:
            self._finish_backlog()
        if self._acknowledged.covers(entry.sequence):
            self._cursor = entry.sequence  # acknowledged while it was read
            return True
        if self._full(1, len(entry.body)):
            return False
        self._send(entry.sequence, Batch.of([(entry.message_id, entry.body, entry.fence)], self._wrap))
        self._metrics.read.inc()
        return True

    def _finish_backlog(self) -> None:
        if not self._drained:
            self._drained = True
            self.sink.send(frames.Drained(self.owner.last_sequence))

    def _tell_store(self, acknowledgement: Acknowledgement) -> None:
        """Hand an acknowledgement to the store, one call at a time."""
        exceptions = acknowledgement.exceptions
        try:
            current = self._store.acknowledge(
                self.mailbox,
                self.owner.owner_token,
                self.owner.incarnation,
                acknowledgement.sequence,
                sorted(exceptions) if exceptions else (),
            )
        except StoreError:
            self.sink.fail(Code.GOING_AWAY, "store")
            return
        if not isinstance(current, bool):
            self._acknowledging = current
            self._told_at = self._loop.time()
            current.add_done_callback(self._store_answered)
        elif not current:
            self.sink.fail(Code.STALE, "owner")

    def _store_answered(self, answer: "asyncio.Future[bool]") -> None:
        self._acknowledging = None
        try:
            current = answer.result()
        except StoreError:
            self.sink.fail(Code.GOING_AWAY, "store")
            return
        if not current:
            self.sink.fail(Code.STALE, "owner")
        elif self._pending is not None:
            self._tell_later()

    def _tell_later(self) -> None:
        if self._acknowledging is None and self._tell_timer is None:
            self._tell_timer = self._loop.call_at(self._told_at + ACKNOWLEDGE_SECONDS, self._tell_pending)

    def _tell_pending(self) -> None:
        """Hand the store what has come since it was told, unless it has still to answer."""
        if self._acknowledging is not None:
            return
        if self._tell_timer is not None:
            self._tell_timer.cancel()
            self._tell_timer = None
        pending, self._pending = self._pending, None
        if pending is not None:
            self._tell_store(pending)
