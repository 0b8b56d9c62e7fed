"""A prekey pool in Redis, read without a script: the form of its record is in ``redis_lua/prelude.lua``."""

import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from restante_protocol import frames, limits

FIRST: Final = frames.encode_prekey(0, 1, b"")[:1]  # what a package's answer begins with,
LOW: Final = b"\xc1"  # and the one with which its pool runs low; never used by MessagePack
FIELD_BYTES: Final = 6  # of a pool: number of its queue 4, suite 2
_POOL: Final = struct.Struct(">8s6s6sBB")
_GAP: Final = struct.Struct(">6s6s")
_decode: Final = msgspec.msgpack.Decoder(tuple[int, int, bytes]).decode


Command = Callable[..., Awaitable[Any]]
"""Runs one command on the master of a bucket."""


class PoolState(NamedTuple):
    """A pool: epoch, highest numbers accepted and issued, packages in its list."""

    epoch: bytes
    uploaded: int
    issued: int
    left: int


def list_key(prekey: bytes, field: bytes) -> bytes:
    """Return the key of a pool's packages; field: FIELD_BYTES."""
    return prekey + b":" + field


def encode_pool(epoch: bytes, uploaded: int, issued: int, numbers: Sequence[int], *, last_resort: bool) -> bytes:
    """Return a pool's record; ``numbers`` are of its packages."""
    gaps = b""
    for before, number in zip([issued, *numbers], numbers, strict=False):
        if number != before + 1:
            gaps += _GAP.pack(number.to_bytes(6, "big"), before.to_bytes(6, "big"))
    six = (uploaded.to_bytes(6, "big"), issued.to_bytes(6, "big"))
    return _POOL.pack(epoch, *six, not numbers, last_resort) + gaps


def encode_packages(prekeys: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Return a pool's list of these numbers and packages."""
    found = [frames.encode_prekey(0, number, package) for number, package in prekeys]
    if len(found) >= limits.PREKEYS_LOW_MARK:
        found[-limits.PREKEYS_LOW_MARK] = LOW + found[-limits.PREKEYS_LOW_MARK][1:]
    return found


async def look(command: Command, bucket: int, record: bytes, key: bytes) -> PoolState:
    """Return a pool's state; key: of its list."""
    epoch, uploaded_bytes, issued_bytes, cleared, _ = _POOL.unpack_from(record)
    uploaded, issued = int.from_bytes(uploaded_bytes, "big"), int.from_bytes(issued_bytes, "big")
    if cleared:
        return PoolState(epoch, uploaded, issued, 0)
    left = await command("LLEN", key, bucket=bucket)
    if not left:
        return PoolState(epoch, uploaded, uploaded, 0)
    number, _ = _package(await command("LINDEX", key, 0, bucket=bucket))
    gaps = {int.from_bytes(at, "big"): int.from_bytes(before, "big") for at, before in _GAP.iter_unpack(record[22:])}
    return PoolState(epoch, uploaded, gaps.get(number, number - 1), left)


async def packages(command: Command, bucket: int, key: bytes, first: int, last: int) -> list[tuple[int, bytes]]:
    """Return (number, package) of a pool's packages at these places, the last one included."""
    return [_package(each) for each in await command("LRANGE", key, first, last, bucket=bucket)]


def _package(stored: bytes) -> tuple[int, bytes]:
    _, number, package = _decode(FIRST + stored[1:])
    return number, package
