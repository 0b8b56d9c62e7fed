"""Diagnostics: what is counted, in which classes, and what makes each answer deniable. PROTOCOL.md section 6.17.

A report says one class of one measure. The client does not say the true one for sure: randomised response in k classes
(Warner 1965; the optimal form for one answer is Kairouz, Bonawitz and Ramage 2016, section 3) says the truth with the
probability e^ε / (e^ε + k - 1) and each other class with 1 / (e^ε + k - 1). So whatever is reported, no true class is
more than e^ε times as likely as any other, and sums of many reports are nevertheless right.
"""

from collections.abc import Sequence
from enum import StrEnum
from math import exp
from typing import Final

EPSILON: Final = 1.0  # of one report: nothing is more than 2.72 times as likely as anything else
LEAST_MAILBOXES: Final = 50  # below, nothing is sent and nothing is taken: a sum of few says something of each
PERIOD: Final = 7 * 86_400  # seconds that a report is about; a client makes one in each
MAX_DELAY: Final = 48 * 3600  # seconds after that: when a report comes says nothing about when anything happened
_SCALE: Final = 1 << 64


class Measure(StrEnum):
    """What is reported."""

    USE = "use"  # days on which the client was used: 0 or 1, 2 to 4, 5 to 7
    FAILURES = "failures"  # deposits that were refused or broken off: 0, 1 to 9, 10 and more
    MESSAGES = "messages"  # deposits that were accepted: 0, 1 to 9, 10 to 99, 100 and more
    SPEED = "speed"  # most deposits took: below 100 ms, below 300 ms, below 1 s, longer
    CHANNEL = "channel"  # where the app came from: CHANNELS


CHANNELS: Final = ("other", "store", "website", "invite")
CLASSES: Final = {
    Measure.USE: 3,
    Measure.FAILURES: 3,
    Measure.MESSAGES: 4,
    Measure.SPEED: 4,
    Measure.CHANNEL: len(CHANNELS),
}
"""How many classes each measure has."""


def randomised(true: int, classes: int, random: bytes) -> int:
    """Return what is reported instead of the true class, of this many; ``random``: 16 random bytes."""
    drawn = int.from_bytes(random[:8], "big") / _SCALE
    if drawn < exp(EPSILON) / (exp(EPSILON) + classes - 1):
        return true
    other = int.from_bytes(random[8:16], "big") * (classes - 1) >> 64
    return other + (other >= true)


def estimated(counts: Sequence[int]) -> list[float]:
    """Return how many of the reports truly were of each class, without bias; below zero where there are few."""
    classes, total = len(counts), sum(counts)
    truth = exp(EPSILON) / (exp(EPSILON) + classes - 1)
    lie = (1 - truth) / (classes - 1)
    return [(count - total * lie) / (truth - lie) for count in counts]


def class_of(value: int, bounds: Sequence[int]) -> int:
    """Return how many of the bounds a value reaches."""
    return sum(value >= bound for bound in bounds)
