"""Who is connected for which mailbox, and the way from the commit to their connections."""

from collections.abc import Callable, Iterable, Sequence

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.metrics import Metrics
from restante_server.services.subscription import Batch, Subscription, Wrap, entry_message
from restante_server.stores.contract import Delivery, PoolLow


class Hub:
    """The subscriptions of this process: one per mailbox, the newest.

    Attributes:
        missed: is told for which mailboxes something was committed that nobody here is subscribed to, if it is set.
    """

    def __init__(self, wrap: Wrap, metrics: Metrics) -> None:
        """Begin with nobody connected."""
        self._subscriptions: dict[bytes, Subscription] = {}
        self._leaving: dict[bytes, Subscription] = {}  # those whose last acknowledgements are on their way
        self._wrap = wrap
        self._metrics = metrics
        self.missed: Callable[[Iterable[bytes]], None] | None = None

    def add(self, subscription: Subscription) -> None:
        """Give the mailbox to this subscription; the connection that had it is told and closed."""
        older = self._subscriptions.get(subscription.mailbox)
        self._subscriptions[subscription.mailbox] = subscription
        if older is not None:
            older.sink.fail(Code.REPLACED, "a newer connection")

    async def remove(self, subscription: Subscription) -> None:
        """Forget the subscription, unless a newer one has its place, and close it."""
        mailbox = subscription.mailbox
        if self._subscriptions.get(mailbox) is subscription:
            del self._subscriptions[mailbox]
        self._leaving[mailbox] = subscription
        try:
            await subscription.close()
        finally:
            if self._leaving.get(mailbox) is subscription:
                del self._leaving[mailbox]

    async def settle(self, mailbox: bytes) -> None:
        """Wait until the store knows of every acknowledgement for a mailbox that came here."""
        for subscriptions in (self._leaving, self._subscriptions):
            if (subscription := subscriptions.get(mailbox)) is not None:
                await subscription.settle()

    def announce(self, deliveries: Sequence[Delivery]) -> None:
        """Send what has just been committed to those who are connected: the store's listener."""
        missed: list[bytes] | None = [] if self.missed is not None else None
        entries = self._push(deliveries, missed)
        self._metrics.deposits.inc(sum([len(delivery.entries) for delivery in deliveries]))
        self._metrics.deposited.inc(entries)
        if missed and self.missed is not None:
            self.missed(missed)

    def _push(self, deliveries: Sequence[Delivery], missed: list[bytes] | None) -> int:
        """Send what is committed to those who are connected, append who is not, and return how many entries it is."""
        subscriptions = self._subscriptions
        entries = live = 0
        for delivery in deliveries:
            batch: Batch | None = None
            for mailbox, sequence, taken in delivery.recipients:
                entries += taken
                subscription = subscriptions.get(mailbox)
                if subscription is None:
                    if missed is not None:
                        missed.append(mailbox)
                    continue
                if batch is None or taken != batch.count:
                    batch = Batch.of(delivery.entries[:taken], self._wrap)
                if subscription.push(sequence, batch):
                    live += taken
        self._metrics.live.inc(live)
        return entries

    def wake(self, mailbox: bytes) -> None:
        """Have a subscription read what nobody announced. From here on: ``contract.Watcher``."""
        if (subscription := self._subscriptions.get(mailbox)) is not None:
            subscription.wake()

    def announce_told(self, deliveries: Sequence[Delivery]) -> None:
        """Send what another process has committed to those who are connected here."""
        self._push(deliveries, None)

    def remind(self, mailbox: bytes, sequence: int) -> None:
        """Have a subscription tell the store again of acknowledgements that it has lost."""
        if (subscription := self._subscriptions.get(mailbox)) is not None:
            subscription.remind(sequence)

    def replace(self, mailbox: bytes, owner_token: bytes) -> None:
        """Close a subscription whose mailbox a newer connection to another process owns."""
        subscription = self._subscriptions.get(mailbox)
        if subscription is not None and subscription.owner.owner_token == owner_token:
            del self._subscriptions[mailbox]
            subscription.sink.fail(Code.REPLACED, "a newer connection")

    def lose(self, mailbox: bytes) -> None:
        """Have the client subscribe again: the store has another history."""
        subscription = self._subscriptions.pop(mailbox, None)
        if subscription is not None:
            subscription.sink.fail(Code.GOING_AWAY, "store")

    def announce_ephemeral(self, mailboxes: Sequence[bytes | None], message_id: bytes, body: bytes) -> None:
        """Send an entry that is not stored to those who are connected."""
        message = entry_message(message_id, body, None, self._wrap)
        for mailbox in mailboxes:
            if mailbox is not None and (subscription := self._subscriptions.get(mailbox)) is not None:
                subscription.push_ephemeral(message)

    def announce_low(self, lows: Sequence[PoolLow]) -> None:
        """Tell owners whose prekeys run out, if they are connected."""
        for low in lows:
            if (subscription := self._subscriptions.get(low.mailbox)) is not None:
                subscription.sink.send(frames.PrekeysLow(low.suite, low.left))

    def announce_spent(self, mailbox: bytes, address: bytes) -> None:
        """Tell an owner that an address gives no one-time packages for now, if it is connected."""
        if (subscription := self._subscriptions.get(mailbox)) is not None:
            subscription.sink.send(frames.AddressSpent(address))

    def connected(self) -> Sequence[bytes]:
        """Return the mailboxes that are subscribed to here."""
        return list(self._subscriptions)

    def announce_disclosed(self, mailbox: bytes, notices: Sequence[tuple[bytes, bytes]]) -> None:
        """Tell an owner what was disclosed (entries and signatures), if it is connected."""
        if (subscription := self._subscriptions.get(mailbox)) is not None:
            for entry, signature in notices:
                subscription.sink.send(frames.Disclosed(entry, signature))

    def announce_deleted(self, mailbox: bytes, but: Subscription | None) -> None:
        """Close the connection that is subscribed to a deleted mailbox, unless it is the one that deleted it."""
        subscription = self._subscriptions.pop(mailbox, None)
        if subscription is not None and subscription is not but:
            subscription.sink.fail(Code.STALE, "mailbox deleted")
