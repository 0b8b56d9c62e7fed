"""Requests of all connections that wait for the store, in bytes: above the limit nobody's are read."""

import asyncio
from collections import deque


class Backlog:
    """Bytes of requests in work, for the whole process.

    Attributes:
        used: bytes now.
    """

    __slots__ = ("_limit", "_waiting", "used")

    def __init__(self, limit: int) -> None:
        """Begin empty."""
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.used = 0

    @property
    def full(self) -> bool:
        """Readers have to wait."""
        return self.used >= self._limit

    def take(self, size: int) -> None:
        """Count a request that has begun."""
        self.used += size

    def give_back(self, size: int) -> None:
        """Count a request that has ended, and let readers go on if there is room."""
        self.used -= size
        while self._waiting and not self.full:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def room(self) -> None:
        """Wait until there is room."""
        while self.full:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
