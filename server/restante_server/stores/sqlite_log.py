"""The rows of what waits in the embedded store: a log of payloads, in groups that share their recipients.

The rows of a group are numbered one after another. The first one, its *lead*, has ``members``, the number of rows, and
``recipients`` for all of them; the others have 0 and nothing. A recipient is three signed 64-bit integers,
little-endian: mailbox, address · 2 + (1 for an invite), sequence of the group's first entry. The highest 16 bits of the
second number say how many of the last entries the mailbox did not take, because it was full.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, Final, NamedTuple

import apsw

_RECIPIENT: Final = Struct("<3q")
_LACK_SHIFT: Final = 48
_ORIGIN_MASK: Final = (1 << _LACK_SHIFT) - 1
_ROWS: Final = "SELECT n, message_id, fence, expires, large, members, recipients, body FROM payload ORDER BY n"


class Recipient(NamedTuple):
    """Who of a group's recipients took how many of its entries, from which sequence on."""

    mailbox: int
    origin: int
    sequence: int
    taken: int


class Payload(NamedTuple):
    """A row, and (mailbox, origin, sequence) of whoever it is for."""

    n: int
    message_id: bytes
    fence: bytes | None
    expires: int
    large: int
    body: bytes
    recipients: list[tuple[int, int, int]]


def pack(numbers: Iterable[int]) -> bytes:
    """Return signed 64-bit integers, little-endian."""
    packed = array("q", numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack(data: bytes) -> "array[int]":
    """Return what ``pack`` packed."""
    numbers = array("q")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def pack_recipient(mailbox: int, origin: int, sequence: int) -> bytes:
    """Return the column ``recipients`` of a group of one member with one recipient."""
    return _RECIPIENT.pack(mailbox, origin, sequence)


def pack_recipients(recipients: Iterable[Recipient], members: int) -> bytes:
    """Return the column ``recipients`` of a group of so many members."""
    numbers: list[int] = []
    for mailbox, origin, sequence, taken in recipients:
        numbers += (mailbox, origin | members - taken << _LACK_SHIFT, sequence)
    return pack(numbers)


def unpack_recipients(data: bytes, members: int) -> Iterator[Recipient]:
    """Return what ``pack_recipients`` packed."""
    numbers = iter(unpack(data))
    for mailbox, marked, sequence in zip(numbers, numbers, numbers, strict=True):
        yield Recipient(mailbox, marked & _ORIGIN_MASK, sequence, members - (marked >> _LACK_SHIFT))


def payloads(db: apsw.Connection) -> Iterator[Payload]:
    """Read the log, row by row."""
    group: list[Recipient] = []
    place = 0
    rows: Iterable[Any] = db.execute(_ROWS)
    for n, message_id, fence, expires, large, members, recipients, body in rows:
        if members:
            group, place = list(unpack_recipients(recipients, members)), 0
        waiting = [(each.mailbox, each.origin, each.sequence + place) for each in group if place < each.taken]
        yield Payload(n, message_id, fence, expires, large, body, waiting)
        place += 1
