"""What a benchmark needs of a server, whichever it is."""

from contextlib import AbstractContextManager
from typing import Protocol

from benchmarks.load import Job
from benchmarks.points import Point


class MissingError(Exception):
    """A server that is not on this machine, and what would bring it."""


class System(Protocol):
    """A running server."""

    @property
    def level(self) -> str:
        """What "accepted" survives: power, failover, process; or in words what is stored."""
        ...

    @property
    def pids(self) -> list[int]:
        """Processes whose CPU time and memory count."""
        ...

    def job(self, point: Point) -> AbstractContextManager[Job]:
        """Connect what a point needs; the job may be run as often as wanted while the context lasts."""
        ...

    def idle(self, count: int) -> AbstractContextManager[None]:
        """Have so many more connections that receive, and get nothing."""
        ...
