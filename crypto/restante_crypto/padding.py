"""Padding that hides lengths: sizes of the Padmé scheme (Nikitin et al., PETS 2019), at most 12% above the content.

A padded text is content ‖ 0x80 ‖ zeros. Of lengths up to L only O(log log L) bits remain visible.
"""

from typing import Final

MINIMUM: Final = 256
"""Bytes of the smallest padded text: most chat messages look alike."""
_MARK: Final = 0x80


class PaddingError(Exception):
    """Not a padded text."""


def padded_length(length: int, minimum: int = MINIMUM) -> int:
    """Return the size class of this many bytes."""
    if length <= minimum:
        return minimum
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask


def pad(data: bytes, minimum: int = MINIMUM) -> bytes:
    """Return the data padded to its size class."""
    length = padded_length(len(data) + 1, minimum)
    return (data + bytes((_MARK,))).ljust(length, b"\x00")


def unpad(padded: bytes) -> bytes:
    """Return what was padded. Raises PaddingError if the padding is not 0x80 and zeros."""
    stripped = padded.rstrip(b"\x00")
    if not stripped or stripped[-1] != _MARK:
        raise PaddingError("padding")
    return stripped[:-1]
