"""The TLS presentation language as MLS uses it (RFC 9420 section 2.1): big-endian numbers, variable-size vectors.

Decoding accepts one form only: shortest lengths, no trailing bytes, optional flags 0 or 1.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

from restante_crypto.mls.errors import DecodeError

T = TypeVar("T")


class Reader:
    """Reads from bytes, front to back. Every method raises DecodeError at the end or for a wrong form."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes) -> None:
        """Start at the first byte."""
        self._data = data
        self._end = len(data)
        self.position = 0

    def raw(self, length: int) -> bytes:
        """Return this many bytes."""
        end = self.position + length
        if end > self._end:
            raise DecodeError("too short")
        value = self._data[self.position : end]
        self.position = end
        return value

    def u8(self) -> int:
        """Return a uint8."""
        return self.raw(1)[0]

    def u16(self) -> int:
        """Return a uint16."""
        return int.from_bytes(self.raw(2), "big")

    def u32(self) -> int:
        """Return a uint32."""
        return int.from_bytes(self.raw(4), "big")

    def u64(self) -> int:
        """Return a uint64."""
        return int.from_bytes(self.raw(8), "big")

    def length(self) -> int:
        """Return the length prefix of a vector (section 2.1.2): 1, 2 or 4 bytes, shortest form only."""
        first = self.u8()
        size = first >> 6
        value = first & 0x3F
        if size == 0:
            return value
        if size == 3:  # noqa: PLR2004 -- the reserved prefix
            raise DecodeError("length prefix")
        more = (1 << size) - 1
        value = (value << (8 * more)) | int.from_bytes(self.raw(more), "big")
        if value < (64, 16384)[size - 1]:
            raise DecodeError("length not in its shortest form")
        return value

    def opaque(self) -> bytes:
        """Return an opaque vector."""
        start = self.position
        if start < self._end and (size := self._data[start]) < 0x40:  # noqa: PLR2004 -- most are short: one step
            end = start + 1 + size
            if end > self._end:
                raise DecodeError("too short")
            self.position = end
            return self._data[start + 1 : end]
        return self.raw(self.length())

    def vector(self, parse: Callable[["Reader"], T]) -> tuple[T, ...]:
        """Return a vector of structs; ``parse`` reads one."""
        inner = Reader(self.opaque())
        items = []
        while inner.position < inner._end:
            items.append(parse(inner))
        return tuple(items)

    def optional(self, parse: Callable[["Reader"], T]) -> T | None:
        """Return an optional struct."""
        flag = self.u8()
        if flag > 1:
            raise DecodeError("optional")
        return parse(self) if flag else None

    def since(self, position: int) -> bytes:
        """Return the bytes from a position to the current one."""
        return self._data[position : self.position]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.raw(self._end - self.position)

    def done(self) -> None:
        """Raise DecodeError unless everything was read."""
        if self.position != self._end:
            raise DecodeError("trailing bytes")


class Decodable(Protocol):
    """A struct with a decoder."""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        ...


D = TypeVar("D", bound=Decodable)


def parse(struct: type[D], data: bytes) -> D:
    """Return the struct that these bytes are, all of them. Raises DecodeError."""
    reader = Reader(data)
    value = struct.decode(reader)
    reader.done()
    return value


def u8(number: int) -> bytes:
    """Encode a uint8."""
    return number.to_bytes(1, "big")


def u16(number: int) -> bytes:
    """Encode a uint16."""
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    """Encode a uint32."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """Encode a uint64."""
    return number.to_bytes(8, "big")


def length(number: int) -> bytes:
    """Encode a vector's length prefix; below 2**30."""
    if number < 0x40:  # noqa: PLR2004 -- the forms of section 2.1.2
        return bytes((number,))
    if number < 0x4000:  # noqa: PLR2004
        return (number | 0x4000).to_bytes(2, "big")
    return (number | 0x80000000).to_bytes(4, "big")


def opaque(data: bytes) -> bytes:
    """Encode an opaque vector."""
    return length(len(data)) + data


def vector(items: Iterable[bytes]) -> bytes:
    """Encode a vector of encoded structs."""
    return opaque(b"".join(items))


def optional(item: bytes | None) -> bytes:
    """Encode an optional struct."""
    return b"\x00" if item is None else b"\x01" + item
