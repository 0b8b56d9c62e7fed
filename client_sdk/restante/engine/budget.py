"""What others may have this client download in a day: the trees that Welcomes name the place of.

Anybody who can claim a KeyPackage can send a Welcome and name a blob of 32 MiB, and again, and whether it is a tree
shows only when it is here. So a tree is paid for before it is fetched: all strangers together have one budget, and each
account with which a conversation exists has its own, if it vouches for the Welcome (``handshakes.Voucher``). What was
taken is in the file before the first byte comes, so that no restart renews a budget; what did not come is given back.
A Commit, and the answer that lets this device in again, are a member's, and cost nothing here.
"""

from typing import Final

from restante.engine import records
from restante.engine.state import State
from restante.handshakes import MAX_HANDSHAKE_BYTES

BUDGET_BYTES: Final = 2 * MAX_HANDSHAKE_BYTES
"""64 MiB a day: any group that is possible can be joined at once, and of those with 100 members some hundreds.
A month of floods costs 2 GB of a mobile contract, not as much as its line can carry."""
BUDGET_SECONDS: Final = 86_400
STRANGERS: Final = b"strangers"
"""Who pays for what nobody vouches for who is known; anybody else is an account (32 bytes)."""


class Budget:
    """Bytes by payer. A payer's day begins with its first byte. Changes run inside a transaction."""

    def __init__(self, state: State) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._table = state.tables.downloads

    def ready_at(self, payer: bytes, size: int) -> int:
        """Return the Unix millisecond from which the payer may have so many bytes downloaded; 0: at once."""
        spent = self._spent(payer)
        return 0 if spent.size + size <= BUDGET_BYTES else 1000 * (spent.since + BUDGET_SECONDS)

    def take(self, payer: bytes, size: int) -> None:
        """Take so many bytes, which ``ready_at`` has said are there."""
        spent = self._spent(payer)
        self._put(payer, spent.since, spent.size + size)

    def give_back(self, payer: bytes, size: int) -> None:
        """So many of the bytes that were taken did not come."""
        spent = self._spent(payer)
        self._put(payer, spent.since, max(0, spent.size - size))

    def prune(self) -> None:
        """Forget the days that are over. After the clock was set back those that began later begin now."""
        now = self._state.now()
        self._table.delete_below(now - BUDGET_SECONDS + 1)
        for row in self._table.rows():
            if row.sort > now:
                self._put(row.key, now, records.Spent.unpack(row.value).size)

    def _spent(self, payer: bytes) -> records.Spent:
        now = self._state.now()
        stored = self._table.get(payer)
        spent = records.Spent.unpack(stored) if stored else records.Spent(now)
        return spent if spent.since + BUDGET_SECONDS > now else records.Spent(now)

    def _put(self, payer: bytes, since: int, size: int) -> None:
        self._table.put(payer, records.Spent(since, size).pack(), sort=since)
