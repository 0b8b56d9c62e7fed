"""What a fuzz target is: a function of bytes that returns, or fails."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from restante_crypto import primitives

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """``cost``: how many inputs of a cheap decoder one input of this takes."""

    run: Run
    corpus: Callable[[], list[bytes]]
    cost: int = 1


def one_random() -> primitives.Random:
    """Randomness that is the same at every start."""
    return Random(1).randbytes


def refused(errors: type[Exception] | tuple[type[Exception], ...], parse: Callable[[bytes], object]) -> Run:
    def run(data: bytes) -> None:
        try:
            parse(data)
        except errors:
            return

    return run
