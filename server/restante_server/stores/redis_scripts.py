"""The Lua scripts of the Redis store, and the keys of a bucket.

A script touches only the keys of its bucket, all of which share a hash tag and are declared; it reads and checks
everything before its first write. The files are in ``redis_lua``; ``prelude.lua`` begins each.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

KEYS: Final = (
    "state",
    "mailbox",
    "queue",
    "address",
    "waiting",
    "entry",
    "payload",
    "reference",
    "expiry",
    "seen",
    "forget",
    "pool",
    "last-resort",
    "prekey",
    "fence",
    "pending",
    "lease",
    "slot",
    "code",
)
"""The last part of a bucket's keys, in the order in which scripts take them."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script.

    Attributes:
        name: of its file.
        text: all of it.
        sha: by which the server knows it.
        promises: it may change something, and who is answered relies on that: replicas have to confirm it.
    """

    name: str
    text: bytes
    sha: bytes
    promises: bool


def _load() -> Mapping[str, Script]:
    folder = resources.files("restante_server.stores").joinpath("redis_lua")
    prelude = folder.joinpath("prelude.lua").read_text("utf-8")
    scripts = {}
    for file in folder.iterdir():
        name, _, suffix = file.name.rpartition(".")
        if suffix != "lua" or name == "prelude":
            continue
        first, _, rest = file.read_text("utf-8").partition("\n")  # "#!lua flags=..." stays the first line
        text = f"{first}\n{prelude}\n{rest}".encode()
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        # What was acknowledged may come again, which clients have to expect anyway: nobody waits for the replicas.
        scripts[name] = Script(name, text, sha, "no-writes" not in first and name != "acknowledge")
    return scripts


SCRIPTS: Final = _load()


@functools.cache
def bucket_keys(prefix: str, bucket: int) -> tuple[bytes, ...]:
    """Return the keys of a bucket, in the order of KEYS."""
    return tuple(f"{prefix}:{{{bucket}}}:{name}".encode() for name in KEYS)


def channel(prefix: str, bucket: int, node: bytes) -> bytes:
    """Return the sharded channel on which a node (8 bytes) hears of a bucket."""
    return f"{prefix}:{{{bucket}}}:node:{node.hex()}".encode()
