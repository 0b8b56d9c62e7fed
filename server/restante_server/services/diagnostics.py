"""Diagnostics as the relay keeps them: sums, public, and nothing of who sent what. PROTOCOL.md section 6.17.

A report is a number that goes up by one: in memory, and with all others of a minute in the slot of the publication
``diagnostics``. There is no time and no order in it. Several relays over one store add to the same sums.
"""

from collections import Counter
from typing import Any, Final

from restante_protocol.diagnostics import CLASSES, EPSILON, LEAST_MAILBOXES, Measure, estimated
from restante_server.clock import Clock
from restante_server.config import DIAGNOSTICS_BURST, DIAGNOSTICS_PER_SECOND
from restante_server.services.allowance import Rate
from restante_server.services.bulletin import Bulletin

PUBLICATION: Final = "diagnostics"


class Diagnostics:
    """The sums of one relay.

    Attributes:
        mailboxes: how many there were at the last look.
    """

    def __init__(self, published: Bulletin, clock: Clock, *, offered: bool) -> None:
        """Take nothing unless diagnostics are ``offered``."""
        self.mailboxes = 0
        self._published = published
        self._clock = clock
        self._offered = offered
        self._rate = Rate(DIAGNOSTICS_BURST, DIAGNOSTICS_PER_SECOND)
        self._new: Counter[tuple[Measure, int]] = Counter()

    @property
    def open(self) -> bool:
        """Reports are taken: there are so many mailboxes that a sum says nothing about anybody."""
        return self._offered and self.mailboxes >= LEAST_MAILBOXES

    def count(self, measure: Measure, number: int) -> bool:
        """Take a report of one class; False if none are taken now."""
        if not self.open or not self._rate.take(self._clock()):
            return False
        self._new[measure, number] += 1
        return True

    async def flush(self) -> None:
        """Add what is new to the sums, and keep them alive."""
        if not self._offered:
            return
        new, self._new = self._new, Counter()
        try:
            while True:
                version, before = await self._published.read(PUBLICATION)
                sums = _sums(before, new)
                if await self._published.write(PUBLICATION, version + (before != sums), sums):
                    return
        except BaseException:
            self._new += new
            raise

    async def shown(self) -> dict[str, Any]:
        """Return what is public: whether reports are taken, the sums, and what they mean."""
        _, before = await self._published.read(PUBLICATION)
        sums = _sums(before, Counter())
        estimates = {name: [round(each) for each in estimated(counts)] for name, counts in sums.items()}
        return {"open": self.open, "epsilon": EPSILON, "reported": sums, "estimated": estimates}


def _sums(before: dict[str, list[int]] | None, new: Counter[tuple[Measure, int]]) -> dict[str, list[int]]:
    return {
        measure.value: [
            ((before or {}).get(measure) or [0] * classes)[number] + new[measure, number] for number in range(classes)
        ]
        for measure, classes in CLASSES.items()
    }
