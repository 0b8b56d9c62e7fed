"""Budgets that fill again at a steady rate: in memory by mailbox, and in the store, shared by all nodes, by number.

Either is kept as the time when it is full again, and forgotten then.
"""

import os
from dataclasses import dataclass
from typing import Final

from restante_server.clock import Clock
from restante_server.stores.contract import Store, StoredSlot, overwrite

KEPT: Final = 100_000  # budgets in memory that are not full: some 15 MiB
_TIME_BYTES: Final = 8  # Unix milliseconds


@dataclass(frozen=True, slots=True)
class Pace:
    """So many units at once, and one more every so many seconds."""

    units: int
    seconds: int

    def take(self, full_at: int, now: int, units: int) -> int | None:
        """Return when a budget is full again after units were taken; None if it has not so many. Milliseconds."""
        after = max(full_at, now) + units * self.seconds * 1000
        return after if after - now <= self.units * self.seconds * 1000 else None


class Budgets:
    """Budgets of one pace, by name, in this process's memory."""

    __slots__ = ("_full_at", "_pace")

    def __init__(self, pace: Pace) -> None:
        """Begin with all of them full."""
        self._pace = pace
        self._full_at: dict[bytes, int] = {}

    def take(self, name: bytes, now: int, units: int = 1) -> bool:
        """Take units of a name's budget, or none: say which. ``now``: milliseconds."""
        after = self._pace.take(self._full_at.get(name, 0), now, units)
        if after is None:
            return False
        self._full_at.pop(name, None)
        self._full_at[name] = after  # last: those that were taken from most recently are kept
        if len(self._full_at) > KEPT:
            self.trim(now)
        return True

    def trim(self, now: int) -> None:
        """Forget those that are full; if too many are not, the half that was not taken from for longest."""
        kept = [(name, at) for name, at in self._full_at.items() if at > now]
        self._full_at = dict(kept if len(kept) <= KEPT else kept[-KEPT // 2 :])


async def take(store: Store, clock: Clock, slot: bytes, pace: Pace, units: int = 1) -> bool:
    """Take units of the budget that a slot of the relay keeps, or none: say which. All nodes see the same."""
    while True:
        stored, now = await store.get_slot(slot), clock()
        after = pace.take(_time(stored), now, units)
        if after is None:
            return False
        lifetime = (after - now) // 1000 + 1
        version = (stored.version if stored else 0) + 1
        body = after.to_bytes(_TIME_BYTES, "big") + os.urandom(_TIME_BYTES)  # another's taking is never taken for ours
        if await store.put_slot(slot, version, lifetime, body):
            return True


async def empty(store: Store, clock: Clock, slot: bytes, seconds: int) -> None:
    """Have such a budget full only after so many seconds, whatever it has now. All nodes see the same."""
    body = (clock() + 1000 * seconds).to_bytes(_TIME_BYTES, "big") + os.urandom(_TIME_BYTES)
    await overwrite(store, slot, seconds + 1, body)


async def full_at(store: Store, slot: bytes) -> int:
    """Return when such a budget is full again, Unix milliseconds; 0: nothing is kept, it is full."""
    return _time(await store.get_slot(slot))


def _time(stored: StoredSlot | None) -> int:
    return int.from_bytes(stored.body[:_TIME_BYTES], "big") if stored else 0
