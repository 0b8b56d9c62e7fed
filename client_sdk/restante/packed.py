"""The base of what the SDK's clients say to each other: MessagePack arrays that begin with a version.

Elements after those that this version knows are ignored, so that later versions may append.
"""

from typing import Self, TypeVar

import msgspec

T = TypeVar("T")


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A value with lengths checked in ``__post_init__`` (ValueError) and without its contents in the repr."""

    def encode(self) -> bytes:
        """Return the value as one MessagePack array."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a value. Raises ValueError, whatever the bytes."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise ValueError(f"not a {cls.__name__}") from None

    def __repr__(self) -> str:
        """Return the type's name alone."""
        return f"<{type(self).__name__}>"


def check(condition: bool, what: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not condition:
        raise ValueError(what)


def read_json(data: bytes, kind: type[T]) -> T:
    """Return JSON as this type. Raises ValueError, whatever the bytes."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None
