"""What the nodes over one Redis store tell each other, and what each knows of the mailboxes that it serves.

A node that deposits for mailboxes which another serves tells that one what it has committed, once it has: each entry
once, and to whom it went. A message that is lost delays: every node looks at its mailboxes every few seconds. An entry
goes straight from the commit, or from such a message, to a subscriber only if its predecessor did; else the
subscription reads from the store.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from restante_protocol import ids
from restante_server.stores.contract import Delivery, PoolLow, Watcher

LOOK_INTERVAL: Final = 3.0  # seconds between looks at all mailboxes that are served here
LOOK_BATCH: Final = 1000  # mailboxes per script call
TOLD_BYTES: Final = 2**20  # bodies of one message; of more only the sequences are told, and who is there reads them
COMMITTED: Final = b"c"
WAKE: Final = b"w"
REPLACED: Final = b"r"
DELETED: Final = b"d"
LOW: Final = b"l"
SPENT: Final = b"s"
EPHEMERAL: Final = b"e"
_PLACE: Final = struct.Struct(">24sQ")  # mailbox, sequence
_Told = tuple[bytes, list[tuple[Sequence[tuple[bytes, bytes, bytes | None]], bytes]]]
"""Mailboxes with what was their last sequence, packed; then groups: entries (message id, body, fence), and mailboxes
with the sequence of the first, packed."""
_LATEST: Final = struct.Struct(">8s8sQ")
_LOW: Final = struct.Struct(">24sHI")


@dataclass(slots=True, repr=False)
class Owned:
    """A mailbox that is subscribed to here.

    Attributes:
        token: the owner's.
        last: sequence of the newest entry that the subscription was told of.
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

    def committed(self, before: Iterable[tuple[bytes, int]], latest: Mapping[bytes, int]) -> None:
        """Entries are about to be announced; where their predecessor was not, the subscription has to read.

        Args:
            before: mailboxes, and what was their last sequence.
            latest: what it is now, if that is another.
        """
        owned_by = self._owned
        for mailbox, last in before:
            owned = owned_by.get(mailbox)
            if owned is not None and latest.get(mailbox, 0) > owned.last:
                missed = owned.last != last
                owned.last = latest[mailbox]
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
        """The store says this (owner's node 8, its token 8, last sequence 8) of a mailbox."""
        owned = self._owned.get(mailbox)
        if owned is None or self._watcher is None:
            return
        if found is None:
            self._watcher.lose(mailbox)
            return
        _, token, last = _LATEST.unpack(found)
        if token != owned.token:
            self._watcher.replace(mailbox, owned.token)
        else:
            self._woken(mailbox, last)

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
            for mailbox, sequence in _PLACE.iter_unpack(rest):
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
        before, groups = msgspec.msgpack.decode(message, type=_Told)
        deliveries = []
        latest: dict[bytes, int] = {}
        for entries, packed in groups:
            count = len(entries)
            served = [place for place in _PLACE.iter_unpack(packed) if place[0] in self._owned]
            recipients = [(mailbox, first, count) for mailbox, first in served]
            latest.update([(mailbox, first + count - 1) for mailbox, first, _ in recipients])
            deliveries.append(Delivery(entries, recipients))
        self.committed(_PLACE.iter_unpack(before), latest)
        watcher.announce_told(deliveries)

    def _woken(self, mailbox: bytes, sequence: int) -> None:
        owned = self._owned.get(mailbox)
        if owned is not None and owned.last < sequence and self._watcher is not None:
            owned.last = sequence
            self._watcher.wake(mailbox)


def committed_messages(
    deliveries: Iterable[Delivery], before: Iterable[tuple[bytes, int]], nodes: Mapping[bytes, bytes]
) -> dict[bytes, bytes]:
    """Return for each node the message that entries were committed.

    Args:
        deliveries: what was. Those of one mailbox are in its order.
        before: mailboxes, and what was their last sequence.
        nodes: by mailbox, those that other nodes serve.
    """
    size: defaultdict[bytes, int] = defaultdict(int)
    groups: defaultdict[bytes, list[tuple[object, bytes]]] = defaultdict(list)
    last: defaultdict[bytes, dict[bytes, int]] = defaultdict(dict)
    for delivery in deliveries:
        bodies = sum([len(body) for _, body, _ in delivery.entries])
        places: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for mailbox, first, count in delivery.recipients:
            node = nodes.get(mailbox)
            if node is not None:
                places[node].append(_PLACE.pack(mailbox, first))
                last[node][mailbox] = first + count - 1
        for node, packed in places.items():
            size[node] += bodies
            groups[node].append((delivery.entries, b"".join(packed)))
    starts: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for mailbox, sequence in before:
        node = nodes.get(mailbox)
        if node is not None:
            starts[node].append(_PLACE.pack(mailbox, sequence))
    return {
        node: COMMITTED + msgspec.msgpack.encode((b"".join(starts[node]), groups[node]))
        if size[node] <= TOLD_BYTES
        else WAKE + b"".join([_PLACE.pack(*each) for each in last[node].items()])
        for node in groups
    }


def low_message(low: PoolLow) -> bytes:
    """Return the message that a pool runs low."""
    return LOW + _LOW.pack(low.mailbox, low.suite, low.left)
