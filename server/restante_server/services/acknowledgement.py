"""Acknowledgements that wait together for the store. PROTOCOL.md section 6."""

from typing import Final

from restante_server.stores.contract import Value

NOTHING: Final[frozenset[int]] = frozenset()


class Acknowledgement(Value, frozen=True):
    """Everything up to ``sequence`` is processed, except the listed sequences."""

    sequence: int
    exceptions: frozenset[int]

    def covers(self, sequence: int) -> bool:
        """Say whether an entry of this sequence is acknowledged."""
        return sequence <= self.sequence and sequence not in self.exceptions


def merge(first: Acknowledgement | None, second: Acknowledgement) -> Acknowledgement:
    """Return what two acknowledgements, the second the later one, say together.

    A later one that reaches at least as far stands for both: what it excepts, the client wants to keep.
    """
    if first is None or second.sequence >= first.sequence:
        return second
    return Acknowledgement(
        first.sequence,
        frozenset(sequence for sequence in first.exceptions if not second.covers(sequence)),
    )
