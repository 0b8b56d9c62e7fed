"""Waiting in tests. What tells when it has happened is waited for; what does not is looked at again and again, here.

So a sleep anywhere else in the tests stands for time that is to pass, and says why.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

PAUSE: Final = 0.02  # seconds between looks at files, other processes, and what gives no sign when it changes
SECONDS: Final = 90  # that anything may take on a machine that is busy

T = TypeVar("T")


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(SECONDS):
        while not (found if isinstance(found := condition(), bool) else await found):
            await asyncio.sleep(PAUSE)


async def until_done(action: Callable[[], Awaitable[T]], failure: type[Exception]) -> T:
    """Do something again until it does not fail in this way; return its result."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await action()
            except failure:
                await asyncio.sleep(PAUSE)


def blocking_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition where no loop runs."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(PAUSE)
