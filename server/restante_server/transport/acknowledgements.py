"""The acknowledgements at the start of what a client sent, without making objects of them.

A client that keeps up acknowledges every entry on its own, and these frames differ in their last bytes alone: what one
read brings, the highest sequence says.
"""

from typing import Final

from restante_protocol import frames, limits

_BINARY: Final = 0x82  # FIN and opcode 2
_MASKED: Final = 0x80
_NO_EXCEPTIONS: Final = 0x90  # msgpack: an empty array
_MARKERS: Final = 0x80  # msgpack: integers below are their own byte
_POSITIVE: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # msgpack: bytes of an unsigned integer after its marker


def beginning(owner_token: bytes, incarnation: bytes) -> bytes:
    """Return what all of an owner's Ack frames begin with."""
    return frames.encode(frames.Ack(owner_token, incarnation, 0, []))[:-2]


def scan(data: bytes, start: bytes) -> tuple[int, int, int]:
    """Take the complete, masked messages at the start that are an Ack without exceptions.

    Returns their bytes, how many they are, and the highest sequence. Whatever is unusual ends them and is left to those
    who look at every message.
    """
    at, count, highest = 0, 0, 0
    size, end = len(start), len(data)
    while at + 6 < end and data[at] == _BINARY:
        length = data[at + 1] - _MASKED
        stop = at + 6 + length
        if not size + 2 <= length <= size + 10 or stop > end:
            break
        mask = (data[at + 2 : at + 6] * 24)[:length]
        plain = (int.from_bytes(data[at + 6 : stop], "little") ^ int.from_bytes(mask, "little")).to_bytes(
            length, "little"
        )
        if plain[-1] != _NO_EXCEPTIONS or not plain.startswith(start):
            break
        sequence = plain[size]
        if sequence >= _MARKERS:
            if _POSITIVE.get(sequence) != length - size - 2:
                break
            sequence = int.from_bytes(plain[size + 1 : -1], "big")
        elif length != size + 2:
            break
        if sequence > limits.MAX_SEQUENCE:
            break
        highest = max(highest, sequence)
        count += 1
        at = stop
    return at, count, highest
