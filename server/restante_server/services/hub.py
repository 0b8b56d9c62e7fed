"""The hub: who is subscribed here, and how entries get to them.

A subscription is *live* while it has been sent all that the store holds: then what is committed goes straight to it,
encoded once for all recipients. Where its window is full it falls behind, and reads on from the store as it
acknowledges; the order is always that of the sequences.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from restante_protocol import frames, limits

from restante_server.metrics import Metrics
from restante_server.stores.contract import Delivery, PoolLow, Store, StoreError

PAGE_ENTRIES: Final = 256  # entries per read of the store

Send = Callable[[Sequence[bytes]], None]


class Subscriber:
    """One subscription: what was sent, what is not acknowledged yet.

    Attributes:
        mailbox: its mailbox.
        owner_token: of the subscription.
        incarnation: of the mailbox.
        replaced: called when another connection takes the mailbox.
    """

    __slots__ = (
        "_bytes",
        "_drained",
        "_filling",
        "_hub",
        "_live",
        "_missed",
        "_outgoing",
        "_send",
        "_unacknowledged",
        "closed",
        "incarnation",
        "mailbox",
        "owner_token",
        "replaced",
        "sent",
    )

    def __init__(
        self,
        hub: "Hub",
        mailbox: bytes,
        owner_token: bytes,
        incarnation: bytes,
        backlog_end: int,
        *,
        send: Send,
        replaced: Callable[[], None],
    ) -> None:
        """Begin at the oldest entry."""
        self._hub = hub
        self.mailbox = mailbox
        self.owner_token = owner_token
        self.incarnation = incarnation
        self.replaced = replaced
        self.sent = 0
        self.closed = False
        self._send = send
        self._live = False
        self._missed = False
        self._filling = False
        self._drained: int | None = backlog_end
        self._unacknowledged: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._outgoing: list[tuple[int, bytes]] = []

    def _room(self) -> tuple[int, int]:
        return limits.WINDOW_ENTRIES - len(self._unacknowledged), limits.WINDOW_BYTES - self._bytes

    def _has_room(self, size: int) -> bool:
        entries, free = self._room()
        return entries > 0 and (size <= free or not self._unacknowledged)

    def offer(self, sequence: int, message: bytes, size: int) -> None:
        """Something was committed for this mailbox."""
        if not self._live:
            self._missed = True
        elif sequence > self.sent:
            if self._has_room(size):
                self._take(sequence, message, size)
            else:
                self._live = False

    def _take(self, sequence: int, message: bytes, size: int) -> None:
        if not self._outgoing:
            self._hub.dirty(self)
        self._outgoing.append((sequence, message))
        self._unacknowledged.append((sequence, size))
        self._bytes += size
        self.sent = sequence

    def push(self, sequence: int, message: bytes) -> None:
        """Send an ephemeral entry, which is neither stored nor acknowledged. Sequence: the last sent one."""
        if not self.closed:
            self.flush()
            self._send([frames.encode(frames.Run(sequence, 1)), message])

    def flush(self) -> None:
        """Send what was taken, as runs of consecutive sequences."""
        if not self._outgoing or self.closed:
            return
        messages: list[bytes] = []
        start = 0
        outgoing = self._outgoing
        self._outgoing = []
        for index in range(1, len(outgoing) + 1):
            if index == len(outgoing) or outgoing[index][0] != outgoing[index - 1][0] + 1:
                messages.append(frames.encode(frames.Run(outgoing[start][0], index - start)))
                messages.extend(message for _, message in outgoing[start:index])
                start = index
        self._send(messages)
        self._hub.metrics.deliveries.inc(len(outgoing))

    def acknowledged(self, sequence: int, exceptions: Sequence[int]) -> None:
        """The client has processed up to here: its window opens (exceptions do not hold it)."""
        del exceptions
        window = self._unacknowledged
        while window and window[0][0] <= sequence:
            self._bytes -= window.popleft()[1]
        if not self._live:
            self.fill()

    def fill(self) -> None:
        """Read on from the store, unless that is under way."""
        if not self._filling and not self.closed:
            self._filling = True
            self._hub.spawn(self._fill())

    async def _fill(self) -> None:
        try:
            while not self.closed:
                entries, free = self._room()
                if entries <= 0 or (free <= 0 and self._unacknowledged):
                    break
                self._missed = False
                page = await self._hub.store.read(self.mailbox, self.sent, min(entries, PAGE_ENTRIES), max(1, free))
                for entry in page:
                    message = frames.encode(frames.Entry(entry.message_id, entry.body, entry.fence))
                    self._take(entry.sequence, message, len(entry.body))
                if self._drained is not None and (not page or self.sent >= self._drained):
                    self.flush()
                    if not self.closed:
                        self._send([frames.encode(frames.Drained(self._drained))])
                    self._drained = None
                if not page and not self._missed:
                    self._live = True
                    break
        except StoreError:
            self.replaced()
        finally:
            self._filling = False

    def prekeys_low(self, suite: int, left: int) -> None:
        """Tell the owner that a pool runs low."""
        if not self.closed:
            self._send([frames.encode(frames.PrekeysLow(suite, left))])


class Hub:
    """All subscriptions of this process.

    Attributes:
        store: what entries are read from.
        metrics: counts deliveries.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        """Listen to the store."""
        self.store = store
        self.metrics = metrics
        self._subscribers: dict[bytes, Subscriber] = {}
        self._dirty: list[Subscriber] = []
        self._tasks: set[asyncio.Task[None]] = set()
        store.listen(self._delivered)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something in the background."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Put a subscription in the place of the mailbox's former one."""
        former = self._subscribers.get(subscriber.mailbox)
        self._subscribers[subscriber.mailbox] = subscriber
        if former is not None:
            former.closed = True
            former.replaced()
        subscriber.fill()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """End a subscription."""
        subscriber.closed = True
        if self._subscribers.get(subscriber.mailbox) is subscriber:
            del self._subscribers[subscriber.mailbox]

    def _delivered(self, deliveries: Sequence[Delivery]) -> None:
        subscribers = self._subscribers
        for delivery in deliveries:
            message = b""
            for mailbox, sequence in delivery.recipients:
                subscriber = subscribers.get(mailbox)
                if subscriber is not None:
                    message = message or frames.encode(frames.Entry(delivery.message_id, delivery.body, delivery.fence))
                    subscriber.offer(sequence, message, len(delivery.body))

    def dirty(self, subscriber: Subscriber) -> None:
        """Flush this subscription at the end of the tick: one write however many entries."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(subscriber)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for subscriber in dirty:
            subscriber.flush()

    def push_ephemeral(self, mailboxes: Sequence[bytes | None], message_id: bytes, body: bytes) -> None:
        """Send an entry that is not stored to those who are connected."""
        message = frames.encode(frames.Entry(message_id, body, None))
        for mailbox in mailboxes:
            subscriber = self._subscribers.get(mailbox) if mailbox is not None else None
            if subscriber is not None:
                subscriber.push(subscriber.sent, message)

    def prekeys_low(self, low: Sequence[PoolLow]) -> None:
        """Tell owners who are connected."""
        for pool in low:
            subscriber = self._subscribers.get(pool.mailbox)
            if subscriber is not None:
                subscriber.prekeys_low(pool.suite, pool.left)
