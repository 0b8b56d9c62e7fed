"""How many one-time packages each address still gives.

An address gives ADDRESS_CLAIMS of them at once and one more every ADDRESS_CLAIM_SECONDS, so whoever knows one address
cannot empty the pool for all others. This is in memory alone, because a store would keep when an address was claimed
from; each node has its own.
"""

from collections.abc import Sequence
from typing import Final

from restante_protocol.limits import ADDRESS_CLAIM_SECONDS, ADDRESS_CLAIMS
from restante_server.config import CLAIM_BUDGETS

_STEP: Final = ADDRESS_CLAIM_SECONDS * 1000
_ROOM: Final = (ADDRESS_CLAIMS - 1) * _STEP  # milliseconds that an address may be from full, and still gives one


class ClaimBudgets:
    """What each address still gives: a token bucket, kept as the time when it is full again."""

    __slots__ = ("_full_at", "_told")

    def __init__(self) -> None:
        """Begin with all of them full."""
        self._full_at: dict[bytes, int] = {}
        self._told: set[bytes] = set()

    def take(self, addresses: Sequence[bytes], now: int) -> list[int]:
        """Take one package's worth of each; return the positions of those that have none. ``now``: milliseconds."""
        full_at, told, latest = self._full_at, self._told, now + _ROOM
        spent = []
        for position, address in enumerate(addresses):
            at = full_at.get(address, now)
            if at > latest:
                spent.append(position)
                continue
            if at <= now:
                at = now
                if told:
                    told.discard(address)
            full_at[address] = at + _STEP
        if len(full_at) > CLAIM_BUDGETS:
            self.trim(now)
        return spent

    def forget(self, address: bytes) -> None:
        """There is no such address."""
        self._full_at.pop(address, None)
        self._told.discard(address)

    def news(self, addresses: Sequence[bytes]) -> set[bytes]:
        """Return those of these spent addresses whose owner was not told since they last were full."""
        fresh = set(addresses) - self._told
        self._told |= fresh
        return fresh

    def trim(self, now: int) -> None:
        """Forget those that are full; if too many are not, the half that was first claimed from."""
        kept = [(address, at) for address, at in self._full_at.items() if at > now]
        self._full_at = dict(kept if len(kept) <= CLAIM_BUDGETS else kept[-CLAIM_BUDGETS // 2 :])
        self._told &= self._full_at.keys()
