"""Limits that are kept in memory: so much at a time, and so much per second."""


class Allowance:
    """So many units at a time, for the whole process.

    Attributes:
        used: units taken and not given back.
        limit: units there are.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        """Begin with nothing used."""
        self.limit = limit
        self.used = 0

    def take(self, units: int) -> bool:
        """Take units, or none: say which."""
        if self.used + units > self.limit:
            return False
        self.used += units
        return True

    def give_back(self, units: int) -> None:
        """Give units back that were taken."""
        self.used -= units


class Rate:
    """A bucket of units that fills again at a steady rate."""

    __slots__ = ("_level", "_per_second", "_size", "_then")

    def __init__(self, size: int, per_second: float) -> None:
        """Begin with a full bucket."""
        self._size = size
        self._per_second = per_second
        self._level = float(size)
        self._then = 0

    def take(self, now: int, units: int = 1) -> bool:
        """Take units, or none: say which; ``now`` in milliseconds."""
        passed = max(0, now - self._then) / 1000
        self._then = now
        self._level = min(self._size, self._level + passed * self._per_second)
        if self._level < units:
            return False
        self._level -= units
        return True
