"""What the nodes over one Redis store tell each other, and what each knows of the mailboxes that it serves.

A node that deposits for a mailbox which another serves wakes that one; the message names mailbox and sequence and
carries nothing else of it. A message that is lost delays: every node looks at its mailboxes every few seconds. An entry
goes straight from the commit to a subscriber only if its predecessor did; else the subscription reads from the store.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from restante_protocol import ids
from restante_server.stores.contract import PoolLow, Watcher

LOOK_INTERVAL: Final = 3.0  # seconds between looks at all mailboxes that are served here
LOOK_BATCH: Final = 1000  # mailboxes per script call
WAKE: Final = b"w"
REPLACED: Final = b"r"
DELETED: Final = b"d"
LOW: Final = b"l"
SPENT: Final = b"s"
EPHEMERAL: Final = b"e"
_WAKE: Final = struct.Struct(">24sQ")
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
            if owned is not None and mailbox in latest:
                missed = owned.last != last
                owned.last = max(owned.last, latest[mailbox])
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
        if kind == WAKE:
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

    def _woken(self, mailbox: bytes, sequence: int) -> None:
        owned = self._owned.get(mailbox)
        if owned is not None and owned.last < sequence and self._watcher is not None:
            owned.last = sequence
            self._watcher.wake(mailbox)


def low_message(low: PoolLow) -> bytes:
    """Return the message that a pool runs low."""
    return LOW + _LOW.pack(low.mailbox, low.suite, low.left)
