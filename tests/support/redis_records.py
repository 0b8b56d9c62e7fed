"""Everything in a store on Redis, read to its last byte: for comparison with the inventory.

The layouts are written down here once more, from decision 0010 and the scripts. What has another length, or is under a
name that is not here, is found as ``?``: a field that somebody adds to a record is noticed.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import msgspec
import redis

_QUEUE: Final = (
    "mailbox:24 node:8 owner_token:8 last:8 acknowledged:8 head:4 tail:4 entries:4 size:6 large:6 invites:4 counted:1"
)
_HASHES: Final = {
    "mailbox": ("id:24", "number:4 incarnation:16 epoch:8 addresses:4 receive_key:32 suites:2*"),
    "queue": ("number:4", _QUEUE),
    "address": ("id:24", "number:5 queue:4 cap:4 kind:1"),
    "waiting": ("address:5", "count:1*"),
    "entry": ("queue:4 position:4", "sequence:8 payload:6 size:4 flags:1 address:5 members:1*"),
    "payload": ("number:6", "expires:6 fence:#4 message_id:16 fence:# body:#4 body:# entries:8*"),
    "reference": ("payload:6", "mailboxes:4 sizes:4*"),
    "seen": ("digest:16", "expires:6 failed:3*"),
    "pool": ("queue:4 suite:2", "epoch:8 uploaded:6 issued:6 cleared:1 last_resort:1 gaps:12*"),
    "last-resort": ("queue:4 suite:2", "package:1*"),
    "fence": ("tag:32", "message_id:16 digest:32 deposit:16 known_until:6 body:1*"),
    "slot": ("id:24", "version:8 expires:6 body:1*"),
    "code": ("hash:32", "expires:6 mailbox:24*"),
}
"""Of a hash of records: what is in a field's name, and in its value. ``:n`` bytes; ``:n*`` the rest, in units of n;
``:#n`` the length of what follows as ``:#``."""
_NAMED: Final = {
    "state": {"epoch": 8, "counters": 38, "run": 40, "replication": 40, "revocations": 0, "garbage": 0},
    "store": {"version": 0, "buckets": 0, "key": 32},
}
"""Bytes of each field of a hash of fields; 0 is a number in digits."""
_PENDING: Final = ("message_id", "addresses", "body", "lifetime", "fence", "large", "digest")
_PACKAGE: Final = ("code", "number", "package")  # as a claim's answer has it
_SPENT: Final = b"spent"


def parts(data: bytes, layout: str) -> set[str]:
    """Return the names of what is in some bytes; ``?`` if they do not have this layout."""
    found, place, ahead = set(), 0, 0
    for name, _, size in (word.partition(":") for word in layout.split()):
        if size.startswith("#") and len(size) > 1:
            ahead = int.from_bytes(data[place : place + int(size[1:])], "big")
            place += int(size[1:])
            continue
        length = len(data) - place if size.endswith("*") else ahead if size == "#" else int(size)
        if size.endswith("*") and length % int(size[:-1]):
            break
        place += length
        found |= {name} if length else set()
    return found if place == len(data) else {*found, "?"}


def _decoded(data: bytes, names: tuple[str, ...]) -> set[str]:
    try:
        values = msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return {"?"}
    return {*names} if isinstance(values, list) and len(values) == len(names) else {"?"}


def _record(key: str, name: bytes, value: bytes) -> set[str]:
    if key in _HASHES:
        of_name, of_value = _HASHES[key]
        return parts(name, of_name) | parts(value, of_value)
    if key == "pending":
        return _decoded(value, _PENDING) | parts(name, "fence:32")
    if key == "state" and name.startswith(_SPENT):
        return {f"spent{name[len(_SPENT) :].hex()}"} | parts(value, "addresses:24*") - {"addresses"}
    size = _NAMED.get(key, {}).get(name.decode(errors="replace"))
    if size is None or (size != len(value) if size else not value.isdigit()):
        return {f"?{name.decode(errors='replace')}"}
    return {name.decode()}


class Records:
    """Reads a store on one server."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url.partition("?")[0]
        self._prefix = prefix

    def _keys(self, client: Any) -> Iterator[tuple[str, str, bytes]]:  # noqa: ANN401 -- without types
        """Yield (name without the bucket, the same with what stands for a running part, key)."""
        for key in client.keys(f"{self._prefix}:*"):
            short = re.sub(rb"^\{\d+\}:", b"", key[len(self._prefix) + 1 :])
            head = b"prekey:"
            name = head.decode() + "*" if short.startswith(head) else short.decode(errors="replace")
            yield name, short.decode("latin-1"), key

    def keys(self) -> set[str]:
        """Return the names of all keys; b stands for the bucket."""
        return self._look(lambda _client, name, _short, _key: {name})

    def fields(self) -> set[str]:
        """Return key.field of all that is in them."""
        return self._look(
            lambda client, name, short, key: {f"{name}.{field}" for field in _fields(client, name, short, key)}
        )

    def slots(self) -> set[bytes]:
        """Return the ids of all slots."""
        with closing(redis.Redis.from_url(self._url)) as client:
            return {slot for name, _, key in self._keys(client) if name == "slot" for slot in client.hkeys(key)}

    def put(self, key: str, field: bytes, value: bytes) -> None:
        """Put something into bucket 0 that nobody declared."""
        with closing(redis.Redis.from_url(self._url)) as client:
            client.hset(f"{self._prefix}:{{0}}:{key}", field, value)

    def append(self, key: str, more: bytes) -> None:
        """Make a record of bucket 0 longer."""
        with closing(redis.Redis.from_url(self._url)) as client:
            name = f"{self._prefix}:{{0}}:{key}"
            fields: dict[bytes, bytes] = client.hgetall(name)  # type: ignore[assignment]
            field, value = next(iter(fields.items()))
            client.hset(name, field, value + more)  # type: ignore[arg-type]

    def _look(self, see: Callable[[Any, str, str, bytes], set[str]]) -> set[str]:
        with closing(redis.Redis.from_url(self._url)) as client:
            found = [see(client, name, short, key) for name, short, key in self._keys(client)]
        return {f"{{b}}:{each}" for names in found for each in names}


def _fields(client: Any, name: str, short: str, key: bytes) -> set[str]:  # noqa: ANN401 -- without types
    match client.type(key):
        case b"hash":
            return {each for field, value in client.hgetall(key).items() for each in _record(name, field, value)}
        case b"zset" if name == "expiry":
            return {"expires"} | {
                each for member in client.zrange(key, 0, -1) for each in parts(member, "kind:1 what:1*")
            }
        case b"zset" if name == "lease":
            return {"until"} | {each for member in client.zrange(key, 0, -1) for each in parts(member, "fence:32")}
        case b"list" if name == "forget":
            found = [parts(value, "expires:6 digest:16") for value in client.lrange(key, 0, -1)]
        case b"list" if name == "prekey:*":
            place = short.removeprefix("prekey:").encode("latin-1")
            found = [
                parts(place, "queue:4 suite:2"),
                *(_decoded(value, _PACKAGE) - {"code"} for value in client.lrange(key, 0, -1)),
            ]
        case _:
            return {"?"}
    return {each for names in found for each in names}
