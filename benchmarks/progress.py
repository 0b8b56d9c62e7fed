"""How far a long run is: a bar on a terminal, a line a point elsewhere, with done, total and the time that is left."""

import sys
from dataclasses import dataclass
from typing import Final, TextIO

WIDTH: Final = 24  # characters of the bar
NAME: Final = 60


def clock(seconds: float) -> str:
    """Return minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(slots=True)
class Progress:
    """A run of so many steps, some of which may have been done before.

    Attributes:
        total: steps.
        done: steps done, those of earlier runs included.
        started: when this run began, in seconds.
        out: where it is shown.
    """

    total: int
    done: int
    started: float
    out: TextIO = sys.stderr
    _own: int = 0

    def text(self, name: str, now: float) -> str:
        """Return the line that is shown before a step."""
        full = WIDTH * self.done // max(1, self.total)
        left = (now - self.started) / self._own * (self.total - self.done) if self._own else None
        remaining = f"{clock(left)} left" if left is not None else ""
        return f"[{'#' * full}{'.' * (WIDTH - full)}] {self.done}/{self.total} {remaining:>12}  {name[:NAME]}"

    def show(self, name: str, now: float) -> None:
        """Say which step comes."""
        line = self.text(name, now)
        if self.out.isatty():
            self.out.write(f"\r{line}\x1b[K")
        else:
            self.out.write(f"{line}\n")
        self.out.flush()

    def step(self) -> None:
        """Count a step."""
        self.done += 1
        self._own += 1

    def end(self) -> None:
        """Leave the line."""
        if self.out.isatty():
            self.out.write("\n")
