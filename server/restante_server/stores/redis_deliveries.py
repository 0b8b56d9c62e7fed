"""Deliveries as the listener is told of them: deposits one after another to the same mailboxes are one delivery."""

from collections.abc import Iterable, Sequence
from typing import Final

from restante_server.stores.contract import Delivery, Deposit

MOST: Final = 128  # entries of a delivery: a part of what a connection may have in flight


def together(deposits: Iterable[tuple[Deposit, Sequence[tuple[bytes, int]]]]) -> list[Delivery]:
    """Return the deliveries of deposits and the (mailbox, sequence) of each entry, in their order."""
    found: list[Delivery] = []
    entries: list[tuple[bytes, bytes, bytes | None]] = []
    mailboxes: list[bytes] = []
    first: list[int] = []
    following: list[int] = []
    for item, taken in deposits:
        where, sequences = [mailbox for mailbox, _ in taken], [sequence for _, sequence in taken]
        if sequences != following or where != mailboxes or len(entries) == MOST:
            if entries:
                found.append(_delivery(entries, mailboxes, first))
            entries, mailboxes, first = [], where, sequences
        entries.append((item.message_id, item.body, item.fence))
        following = [sequence + 1 for sequence in sequences]
    if entries:
        found.append(_delivery(entries, mailboxes, first))
    return found


def _delivery(
    entries: Sequence[tuple[bytes, bytes, bytes | None]], mailboxes: Sequence[bytes], first: Sequence[int]
) -> Delivery:
    count = len(entries)
    return Delivery(entries, [(mailbox, sequence, count) for mailbox, sequence in zip(mailboxes, first, strict=True)])
