"""The acknowledgements at the start of what a client has sent, without making objects of them.

A client that keeps up acknowledges every entry on its own, and these frames differ in their sequence alone: what one
read brings, the highest says. Each is one integer here, and its mask another.
"""

import functools
from typing import Final

from restante_protocol import frames, limits

_BINARY: Final = 0x82  # FIN and opcode 2
_MASKED: Final = 0x80
_SEQUENCE_BYTES: Final = 8
_SEQUENCE_MASK: Final = (1 << 8 * _SEQUENCE_BYTES) - 1
_NO_EXCEPTIONS: Final = 0x90  # msgpack: an empty array
_TAIL_BYTES: Final = _SEQUENCE_BYTES + 1


@functools.cache
def _repeat(length: int) -> int:
    """Return what makes, times a mask, that mask over and over for so many bytes, and 3 bytes more."""
    return int.from_bytes((b"\0\0\0\1" * length)[: length + 3], "big")


def beginning(owner_token: bytes, incarnation: bytes) -> bytes:
    """Return what all of an owner's Ack frames begin with whose sequence has eight bytes: those of entries have."""
    return frames.encode(frames.Ack(owner_token, incarnation, 1 << 32, []))[:-_TAIL_BYTES]


def scan(data: bytes | bytearray, at: int, start: bytes) -> tuple[int, int, int]:
    """Take the complete, masked messages from ``at`` on that are an Ack without exceptions.

    Returns where they end, how many they are, and the highest sequence. Whatever is unusual ends them and is left to
    those who look at every message.
    """
    length = len(start) + _TAIL_BYTES
    integer = int.from_bytes
    begins, second = integer(start, "big"), _MASKED | length
    repeat = _repeat(length)
    begin, stop, end, highest = at, at + 6 + length, len(data), 0
    while stop <= end and data[at] == _BINARY and data[at + 1] == second:
        mask = integer(data[at + 2 : at + 6], "big")
        ack = integer(data[at + 6 : stop], "big") ^ (mask * repeat >> 24)
        sequence = ack >> 8 & _SEQUENCE_MASK
        if ack >> 8 * _TAIL_BYTES != begins or ack & 0xFF != _NO_EXCEPTIONS or sequence > limits.MAX_SEQUENCE:
            break
        if sequence > highest:  # noqa: PLR1730 -- a call would take a tenth of the time
            highest = sequence
        at, stop = stop, stop + 6 + length
    return at, (at - begin) // (6 + length), highest
