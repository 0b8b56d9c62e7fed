"""What a client counts for diagnostics, if its person granted them, and the one randomised answer it makes of that."""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from restante.engine import records
from restante.engine.consents import Consents
from restante.engine.state import State
from restante_crypto.primitives import Random
from restante_protocol.diagnostics import CHANNELS, CLASSES, MAX_DELAY, PERIOD, Measure, class_of, randomised

PURPOSE: Final = "diagnostics"
_SPEEDS: Final = (100, 300, 1000)  # milliseconds
_DAY: Final = 86_400
_KEY: Final = b"usage"  # in the account's table


@dataclass(slots=True)
class Counts:
    """What this process has counted since it was taken last; nothing is kept of single events.

    Attributes:
        messages: deposits accepted.
        failures: deposits that failed.
        speeds: deposits by class of the time that they took.
    """

    messages: int = 0
    failures: int = 0
    speeds: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def accepted(self, seconds: float) -> None:
        """Count a deposit that was answered after so long."""
        self.messages += 1
        self.speeds[class_of(int(seconds * 1000), _SPEEDS)] += 1


def begun(now: int, random: Random) -> records.Usage:
    """Begin a period; it is reported at a random time after its end. ``now``: Unix seconds."""
    return records.Usage(now, now + PERIOD + (int.from_bytes(random(8), "big") * MAX_DELAY >> 64))


def added(usage: records.Usage, counts: Counts, now: int) -> records.Usage:
    """Return what was counted so far, with this and with today."""
    day = max(0, min((now - usage.since) // _DAY, PERIOD // _DAY - 1))
    return msgspec.structs.replace(
        usage,
        days=usage.days | 1 << day,
        messages=usage.messages + counts.messages,
        failures=usage.failures + counts.failures,
        speeds=[old + new for old, new in zip(usage.speeds, counts.speeds, strict=True)],
    )


def report(usage: records.Usage, channel: str, random: Random) -> tuple[Measure, int]:
    """Return one measure, by chance, and one class of it: the true one or another."""
    measure = list(Measure)[int.from_bytes(random(8), "big") * len(Measure) >> 64]
    true = {
        Measure.USE: class_of(usage.days.bit_count(), (2, 5)),
        Measure.FAILURES: class_of(usage.failures, (1, 10)),
        Measure.MESSAGES: class_of(usage.messages, (1, 10, 100)),
        Measure.SPEED: usage.speeds.index(max(usage.speeds)),
        Measure.CHANNEL: CHANNELS.index(channel),
    }[measure]
    return measure, randomised(true, CLASSES[measure], random(16))


class Usage:
    """What is kept of a period until it is reported. Every change is a transaction."""

    def __init__(self, state: State, consents: Consents) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._table = state.tables.account
        self._consents = consents

    def take(self, counts: Counts, channel: str) -> tuple[Measure, int] | None:
        """Take what was counted if that is granted, and return a report if one is due; else nothing of it is kept."""
        now, random = self._state.now(), self._state.random
        with self._state.transaction():
            if PURPOSE not in self._consents.granted():
                self._table.delete(_KEY)
                return None
            stored = self._table.get(_KEY)
            used = added(records.Usage.unpack(stored) if stored else begun(now, random), counts, now)
            due = used.due <= now
            self._table.put(_KEY, (begun(now, random) if due else used).pack())
            return report(used, channel, random) if due else None
