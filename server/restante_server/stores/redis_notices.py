"""What the nodes over one Redis store tell each other, and what each knows of the mailboxes that it serves.

A node that deposits for mailboxes which another serves tells that one what it has committed, once it has: each entry
once for all of them, and to whom it went. A message that is lost delays: every node looks at its mailboxes every few
seconds. An entry goes straight from the commit, or from such a message, to a subscriber only if its predecessor did;
else the subscription reads from the store.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from restante_protocol import ids, limits
from restante_server.stores.contract import Delivery, PoolLow, Watcher

LOOK_INTERVAL: Final = 3.0  # seconds between looks at all mailboxes that are served here
LOOK_BATCH: Final = 1000  # mailboxes per script call
TOLD_BYTES: Final = limits.WINDOW_BYTES  # of one message, about; more is not told but read
COMMITTED: Final = b"c"
WAKE: Final = b"w"
REPLACED: Final = b"r"
DELETED: Final = b"d"
LOW: Final = b"l"
SPENT: Final = b"s"
EPHEMERAL: Final = b"e"
_CHANGE: Final = struct.Struct(">24sQQ")  # see Change
_FIRST: Final = struct.Struct(">24sQ")  # mailbox, sequence of the first of the entries
_WAKE: Final = struct.Struct(">24sQ")  # mailbox, last sequence
_LATEST: Final = struct.Struct(">8s8sQQ")
_LOW: Final = struct.Struct(">24sHI")


Change = tuple[bytes, int, int]
"""A mailbox, its last sequence before a script call that stored something there, and after it."""

_Told = tuple[bytes, list[tuple[Sequence[tuple[bytes, bytes, bytes | None]], bytes]]]
"""Changes, packed; then entries (message id, body, fence) with the mailboxes that they are for, packed."""

_decoder: Final = msgspec.msgpack.Decoder(_Told)
_encoder: Final = msgspec.msgpack.Encoder()


@dataclass(slots=True, repr=False)
class Owned:
    """A mailbox that is subscribed to here.

    Attributes:
        token: the owner's.
        last: up to this sequence the subscription was given every entry, or woken to read it.
    """

    token: bytes
    last: int


class Notices:
    """The mailboxes that this node serves."""

    def __init__(self) -> None:
        """Serve none."""
        self._owned: dict[bytes, Owned] = {}
        self._watcher: Watcher | None = None

    def watch(self, watcher: Watcher) -> None:
        """Set who is told."""
        self._watcher = watcher

    def own(self, mailbox: bytes, token: bytes, last: int) -> None:
        """A subscription here has the mailbox."""
        self._owned[mailbox] = Owned(token, last)

    def disown(self, mailbox: bytes, token: bytes | None = None) -> None:
        """The subscription of this token, or any, is gone."""
        owned = self._owned.get(mailbox)
        if owned is not None and token in {None, owned.token}:
            del self._owned[mailbox]

    def committed(self, changes: Iterable[Change]) -> None:
        """Entries are about to be announced; where their predecessor was not, the subscription has to read.

        What is not newer than ``Owned.last`` it has been woken to read.

        Args:
            changes: in their order.
        """
        for mailbox, before, last in changes:
            owned = self._owned.get(mailbox)
            if owned is not None and last > owned.last:
                missed = owned.last != before
                owned.last = last
                if missed and self._watcher is not None:
                    self._watcher.wake(mailbox)

    def batches(self, bucket_of: Callable[[bytes], int]) -> Iterator[tuple[int, list[bytes]]]:
        """Return the mailboxes that are served here, by bucket."""
        by_bucket: dict[int, list[bytes]] = {}
        for mailbox in self._owned:
            by_bucket.setdefault(bucket_of(mailbox), []).append(mailbox)
        for bucket, mailboxes in by_bucket.items():
            for first in range(0, len(mailboxes), LOOK_BATCH):
                yield bucket, mailboxes[first : first + LOOK_BATCH]

    def looked(self, mailbox: bytes, found: bytes | None) -> None:
        """The store says this of a mailbox: owner's node, its token, last sequence, highest acknowledged (8 each)."""
        owned = self._owned.get(mailbox)
        if owned is None or self._watcher is None:
            return
        if found is None:
            self._watcher.lose(mailbox)
            return
        _, token, last, acknowledged = _LATEST.unpack(found)
        if token != owned.token:
            self._watcher.replace(mailbox, owned.token)
        else:
            self._woken(mailbox, last)
            if acknowledged < last:
                self._watcher.remind(mailbox, acknowledged)

    def renewed(self, is_in: Callable[[bytes], bool]) -> None:
        """The bucket of these mailboxes has another history."""
        for mailbox in [mailbox for mailbox in self._owned if is_in(mailbox)]:
            del self._owned[mailbox]
            if self._watcher is not None:
                self._watcher.lose(mailbox)

    def heard(self, message: bytes) -> None:
        """Another node says something."""
        watcher, kind, rest = self._watcher, message[:1], message[1:]
        if watcher is None:
            return
        if kind == COMMITTED:
            self._told(rest, watcher)
        elif kind == WAKE:
            for mailbox, sequence in _WAKE.iter_unpack(rest):
                self._woken(mailbox, sequence)
        elif kind == REPLACED:
            mailbox, token = rest[: ids.ID_BYTES], rest[ids.ID_BYTES :]
            self.disown(mailbox, token)
            watcher.replace(mailbox, token)
        elif kind == DELETED:
            self.disown(rest)
            watcher.announce_deleted(rest, None)
        elif kind == LOW:
            mailbox, suite, left = _LOW.unpack(rest)
            watcher.announce_low([PoolLow(mailbox, suite, left)])
        elif kind == SPENT:
            watcher.announce_spent(rest[: ids.ID_BYTES], rest[ids.ID_BYTES :])
        elif kind == EPHEMERAL:
            place = ids.ID_BYTES + ids.MESSAGE_ID_BYTES
            watcher.announce_ephemeral([rest[: ids.ID_BYTES]], rest[ids.ID_BYTES : place], rest[place:])

    def _told(self, message: bytes, watcher: Watcher) -> None:
        changes, groups = _decoder.decode(message)
        deliveries = []
        for entries, packed in groups:
            count = len(entries)
            recipients = [
                (mailbox, first, count) for mailbox, first in _FIRST.iter_unpack(packed) if self._is_new(mailbox, first)
            ]
            deliveries.append(Delivery(entries, recipients))
        self.committed(_CHANGE.iter_unpack(changes))
        watcher.announce_told(deliveries)

    def _is_new(self, mailbox: bytes, sequence: int) -> bool:
        owned = self._owned.get(mailbox)
        return owned is not None and owned.last < sequence

    def _woken(self, mailbox: bytes, sequence: int) -> None:
        owned = self._owned.get(mailbox)
        if owned is not None and owned.last < sequence and self._watcher is not None:
            owned.last = sequence
            self._watcher.wake(mailbox)


def committed_messages(
    deliveries: Iterable[Delivery], changes: Iterable[Change], nodes: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    """Return for each node the message that entries were committed.

    Args:
        deliveries: those of one mailbox in its order.
        changes: that they made, in their order.
        nodes: by mailbox, which other node serves it, if one does.
    """
    size: defaultdict[bytes, int] = defaultdict(int)
    groups: defaultdict[bytes, list[tuple[object, bytes]]] = defaultdict(list)
    for delivery in deliveries:
        firsts: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for mailbox, first, _ in delivery.recipients:
            node = nodes.get(mailbox)
            if node is not None:
                firsts[node].append(_FIRST.pack(mailbox, first))
        bodies = sum([len(body) for _, body, _ in delivery.entries])
        for node, packed in firsts.items():
            size[node] += bodies + _FIRST.size * len(packed)
            groups[node].append((delivery.entries, b"".join(packed)))
    packed_changes: defaultdict[bytes, list[bytes]] = defaultdict(list)
    last: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
    for change in changes:
        mailbox = change[0]
        node = nodes.get(mailbox)
        if node is not None:
            packed_changes[node].append(_CHANGE.pack(*change))
            last[node][mailbox] = change[2]
    return {
        node: COMMITTED + _encoder.encode((b"".join(packed_changes[node]), groups[node]))
        if size[node] <= TOLD_BYTES
        else WAKE + b"".join([_WAKE.pack(*each) for each in last[node].items()])
        for node in groups
    }


def low_message(low: PoolLow) -> bytes:
    """Return the message that a pool runs low."""
    return LOW + _LOW.pack(low.mailbox, low.suite, low.left)
