"""Everything in a store on Redis, read to its last byte: for comparison with the inventory.

The layouts are written down here once more, from decision 0010 and the scripts. What has another length, or is under a
name that is not here, is found as ``?``: a field that somebody adds to a record is noticed.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
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
_SORTED: Final = {"expiry": ("expires", "kind:1 what:1*"), "lease": ("until", "fence:32")}
"""Of a sorted set: what its scores are, and what is in a member."""
_LISTS: Final = {"forget": "expires:6 digest:16", "prekey:*": ""}
_PENDING: Final = ("message_id", "addresses", "body", "lifetime", "fence", "large", "digest")
_LOW: Final = b"\xc1"
_FIRST_OF_PACKAGE: Final = b"\x93"
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


def _answer(package: bytes) -> bytes:
    """Return a package as the answer to its claim has it: the first byte of the one that runs a pool low is a mark."""
    return _FIRST_OF_PACKAGE + package[1:] if package[:1] == _LOW else package


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


@dataclass(frozen=True)
class Contents:
    """All that a store had when it was read: of each key its name, with ``*`` for a running part, that part, and what
    is in it: fields, members or a list; a number if nobody knows the name."""

    of_keys: list[tuple[str, bytes, Any]]

    def keys(self) -> frozenset[str]:
        """Return the names of all keys; b stands for the bucket."""
        return frozenset(f"{{b}}:{name}" for name, _, _ in self.of_keys)

    def fields(self) -> frozenset[str]:
        """Return key.field of all that is in them."""
        return frozenset(
            f"{{b}}:{name}.{field}" for name, part, content in self.of_keys for field in _fields(name, part, content)
        )

    def hash(self, name: str) -> dict[bytes, bytes]:
        """Return all records of this name, of all buckets."""
        found = (content for each, _, content in self.of_keys if each == name)
        return {field: value for records in found for field, value in records.items()}

    def packages(self) -> set[bytes]:
        """Return all one-time prekeys."""
        found = (content for name, _, content in self.of_keys if name == "prekey:*")
        return {msgspec.msgpack.decode(_answer(each))[2] for packages in found for each in packages}


class Records:
    """A store on Redis.

    Args:
        url: of a server or a cluster.
        prefix: of the store's keys.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url.partition("?")[0]
        self._prefix = prefix

    @contextmanager
    def _client(self) -> Iterator[Any]:
        kind, _, hosts = self._url.partition("://")
        host, _, port = hosts.partition(",")[0].partition(":")
        opened = redis.RedisCluster(host, int(port)) if "cluster" in kind else redis.Redis(host, int(port))
        with closing(opened) as client:
            yield client

    def _keys(self, client: Any) -> list[bytes]:  # noqa: ANN401 -- without types
        everywhere = {"target_nodes": client.PRIMARIES} if isinstance(client, redis.RedisCluster) else {}
        return list(client.keys(f"{self._prefix}:*", **everywhere))

    def read(self) -> Contents:
        """Read all of it."""
        named = []
        with self._client() as client:
            pipeline = client.pipeline(transaction=False)
            for key in self._keys(client):
                name, _, part = re.sub(rb"^\{\d+\}:", b"", key[len(self._prefix) + 1 :]).partition(b"prekey:")
                named.append(("prekey:*" if part else name.decode(errors="replace"), part))
                _read(pipeline, named[-1][0], key)
            return Contents([(*each, found) for each, found in zip(named, pipeline.execute(), strict=True)])

    def clear(self) -> None:
        """Delete all."""
        with self._client() as client:
            for key in self._keys(client):
                client.delete(key)

    def put(self, key: str, field: bytes, value: bytes) -> None:
        """Put something into bucket 0 that nobody declared."""
        with self._client() as client:
            client.hset(f"{self._prefix}:{{0}}:{key}", field, value)

    def append(self, key: str, more: bytes) -> None:
        """Make a record of bucket 0 longer."""
        field, value = next(iter(self.read().hash(key).items()))
        self.put(key, field, value + more)


def _read(pipeline: Any, name: str, key: bytes) -> None:  # noqa: ANN401 -- without types
    if name in _SORTED:
        pipeline.zrange(key, 0, -1)
    elif name in _LISTS:
        pipeline.lrange(key, 0, -1)
    elif name in _HASHES or name in _NAMED or name == "pending":
        pipeline.hgetall(key)
    else:
        pipeline.exists(key)


def _fields(name: str, part: bytes, content: Any) -> set[str]:  # noqa: ANN401 -- as above
    if isinstance(content, int):
        return {"?"}
    if isinstance(content, dict):
        return {each for field, value in content.items() for each in _record(name, field, value)}
    if name == "prekey:*":
        packages = [_decoded(_answer(each), _PACKAGE) - {"code"} for each in content]
        low = {"low"} if any(each.startswith(_LOW) for each in content) else set()
        return parts(part, "queue:4 suite:2").union(low, *packages)
    score, layout = _SORTED[name] if name in _SORTED else ("", _LISTS[name])
    return ({score} - {""}).union(*(parts(each, layout) for each in content))
