"""The relay's clock, so that tests move it."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns Unix time in milliseconds."""


def system_clock() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
