"""All that the Redis store holds of one mailbox, in parts, read without a script: nothing is changed.

Names are those of the embedded store's columns. A part's cursor is a section (one byte) and where to go on in it.
"""

import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from restante_server.stores import redis_pools
from restante_server.stores.contract import Holding, StoredEntry
from restante_server.stores.redis_scripts import KEYS, bucket_keys

Command = Callable[..., Awaitable[Any]]

_MAILBOX: Final = struct.Struct(">4s16s8sI32s")
_SCAN: Final = 512  # fields per look through the bucket's addresses
_PREKEYS: Final = 128  # packages in one part
_PART_ENTRIES: Final = 64
_PART_BYTES: Final = 512 * 1024
Read = Callable[[bytes, int, int, int], Awaitable[Sequence[StoredEntry]]]


def _row(table: str, key: bytes, **values: bytes | int) -> list[Holding]:
    return [Holding(f"{table}.{name}", key, value) for name, value in values.items()]


async def part(command: Command, read: Read, prefix: str, bucket: int, mailbox: bytes, after: bytes) -> Any:  # noqa: ANN401 -- a section each
    """Return the next part and its cursor; see ``contract.Store.holdings``."""
    keys = dict(zip(KEYS, bucket_keys(prefix, bucket), strict=True))
    record = await command("HGET", keys["mailbox"], mailbox, bucket=bucket)
    if record is None:
        return [], b""
    number, incarnation, epoch, addresses, key = _MAILBOX.unpack(record[:64])
    suites = [record[i : i + 2] for i in range(64, len(record), 2)]
    section, place = after[:1] or b"\x00", after[1:]
    if section == b"\x00":
        queue = await command("HGET", keys["queue"], number, bucket=bucket)
        found = _row(
            "mailbox",
            b"",
            n=int.from_bytes(number, "big"),
            id=mailbox,
            receive_key=key,
            incarnation=incarnation,
            epoch=epoch,
            last=int.from_bytes(queue[40:48], "big"),
            acknowledged=int.from_bytes(queue[48:56], "big"),
            cursor=int.from_bytes(queue[56:60], "big"),
            addresses=addresses,
            spent=await command("HGET", keys["state"], b"spent" + number, bucket=bucket) or b"",
        )
        return found, b"\x01"
    if section == b"\x01":
        cursor, fields = await command("HSCAN", keys["address"], place or b"0", "COUNT", _SCAN, bucket=bucket)
        found = [
            each
            for identifier, value in zip(fields[::2], fields[1::2], strict=True)
            if value[5:9] == number
            for each in _row(
                "address",
                identifier,
                n=int.from_bytes(value[:5], "big"),
                id=identifier,
                mailbox=int.from_bytes(number, "big"),
                cap=int.from_bytes(value[9:13], "big"),
                kind=value[13],
            )
        ]
        return found, b"\x02" if cursor == b"0" else b"\x01" + cursor
    if section == b"\x02":
        return [each for suite in suites for each in await _pool(command, keys, bucket, number, suite)], b"\x03"
    if section == b"\x03":
        return await _prekeys(command, keys, bucket, (number, epoch), suites, place)
    entries = await read(mailbox, int.from_bytes(place, "big"), _PART_ENTRIES, _PART_BYTES)
    found = [
        holding
        for each in entries
        for holding in _row(
            "payload",
            each.sequence.to_bytes(8, "big"),
            message_id=each.message_id,
            fence=each.fence or b"",
            recipients=int.from_bytes(number, "big"),
            body=each.body,
        )
    ]
    return found, b"\x04" + entries[-1].sequence.to_bytes(8, "big") if entries else b""


async def _pool(command: Command, keys: dict[str, bytes], bucket: int, number: bytes, suite: bytes) -> list[Holding]:
    record = await command("HGET", keys["pool"], number + suite, bucket=bucket)
    last_resort = await command("HGET", keys["last-resort"], number + suite, bucket=bucket)
    pool = await redis_pools.look(command, bucket, record, redis_pools.list_key(keys["prekey"], number + suite))
    return _row(
        "pool",
        suite,
        mailbox=int.from_bytes(number, "big"),
        suite=int.from_bytes(suite, "big"),
        uploaded=pool.uploaded,
        issued=pool.issued,
        left=pool.left,
        last_resort=last_resort or b"",
    )


async def _prekeys(
    command: Command,
    keys: dict[str, bytes],
    bucket: int,
    whose: tuple[bytes, bytes],
    suites: list[bytes],
    place: bytes,
) -> tuple[list[Holding], bytes]:
    number, epoch = whose
    index, first = (place[0], int.from_bytes(place[1:], "big")) if place else (0, 0)
    if index >= len(suites):
        return [], b"\x04"
    suite = suites[index]
    list_key = redis_pools.list_key(keys["prekey"], number + suite)
    record = await command("HGET", keys["pool"], number + suite, bucket=bucket)
    pool = await redis_pools.look(command, bucket, record, list_key)
    last = first + _PREKEYS
    more = last < pool.left and pool.epoch == epoch
    next_part = b"\x03" + (bytes((index,)) + last.to_bytes(4, "big") if more else bytes((index + 1,)) + bytes(4))
    if pool.epoch != epoch:
        return [], next_part
    found = [
        each
        for at, package in await redis_pools.packages(command, bucket, list_key, first, last - 1)
        for each in _row(
            "prekey",
            suite + b"\x00\x00" + at.to_bytes(6, "big"),
            mailbox=int.from_bytes(number, "big"),
            suite=int.from_bytes(suite, "big"),
            number=at,
            package=package,
        )
    ]
    return found, next_part
