"""What ``restante doctor`` looks at before an operator trusts a machine with other people's mail."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import apsw
import msgspec

from restante_crypto import primitives, proofs
from restante_protocol import frames, ids, limits
from restante_protocol.connection import NumberedEntry
from restante_protocol.errors import ProtocolError
from restante_server.endpoints import Host
from restante_server.link import Failed, Link
from restante_server.oprf_key import NAME, OprfKey
from restante_server.processors import Processor
from restante_server.services.directory import PUBLICATION
from restante_server.stores.backup import KEY_NAME
from restante_server.stores.contract import StoreError, StoreRefused
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import parse_redis
from restante_server.transport.websocket import PATH
from restante_server.webpush import WebPush

if TYPE_CHECKING:
    from restante_server.app import Relay

Ready = Callable[["Relay"], None]

ENOUGH_FILES: Final = 4096  # open files: each connection is one
SLOW_SYNC: Final = 0.05  # seconds; a deposit waits at least one sync
EARLIEST: Final = 1_767_225_600  # 2026-01-01: a clock before that is wrong
_NETWORK: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
)
_MOUNTS: Final = Path("/proc/mounts")
_PATIENCE: Final = 10  # seconds for each of what is asked over the network
_AHEAD: Final = 60  # seconds that a file may be newer than now: clocks are set in small steps


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    name: str
    ok: bool
    text: str


def examine(
    store: Path,
    url: str,
    redis: str = "",
    oprf_key: Path | None = None,
    processors: Sequence[Processor] = (),
    *,
    push_private: bool = False,
) -> Iterator[Finding]:
    """Yield the findings, slow ones last; with the URL of a Redis store, those about it instead of the disk's."""
    yield _files()
    yield _clock(store)
    yield _directory(store, oprf_key or store.with_name(NAME))
    if redis:
        yield asyncio.run(_redis(redis))
    else:
        folder = store.parent
        while not folder.exists():
            folder = folder.parent
        yield _file_system(folder)
        yield _sync(folder)
    if hosts := [host for each in processors for host in each.hosts if not host.name.startswith("*.")]:
        yield asyncio.run(_push(hosts, private=push_private))
    if url:
        yield _round_trip(url)


def _files() -> Finding:
    if sys.platform == "win32":
        return Finding("open files", ok=True, text="no limit on this system")
    import resource  # noqa: PLC0415 -- not on every system

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("open files", soft >= ENOUGH_FILES, f"{soft} (at least {ENOUGH_FILES}: ulimit -n)")


def _clock(store: Path) -> Finding:
    """Compare the clock with the past: sequences follow it, and lifetimes end by it."""
    now = time.time()
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    written = max((path.stat().st_mtime for path in store.parent.glob(f"{store.name}*")), default=0.0)
    if written > now + _AHEAD:
        return Finding("clock", ok=False, text=f"{text}, but the store was written later: it went back")
    return Finding("clock", now > EARLIEST, text)


def _directory(store: Path, path: Path) -> Finding:
    """Look at the directory's secret: who may read it, and whether it is the one of a store in one file."""
    name = "directory"
    if not path.exists():
        return Finding(name, ok=True, text=f"no {path.name}: none, unless --oprf-key names another place")
    try:
        public = OprfKey.open(path, make=False).public()
        published = _published(store)
    except (StoreRefused, primitives.GroupUnavailable, apsw.Error, OSError) as error:
        return Finding(name, ok=False, text=str(error) or type(error).__name__)
    if sys.platform != "win32" and path.stat().st_mode & 0o077:
        return Finding(name, ok=False, text=f"{path} may be read by others: chmod 600")
    if published is not None and published != public:
        return Finding(name, ok=False, text=f"{path} is not the key of this store's directory")
    return Finding(name, ok=True, text=f"{path.name} is its key: keep a copy, but not beside copies of the store")


def _published(store: Path) -> object:
    """Return the public keys in a store in one file; None if there are none."""
    key = store.with_name(KEY_NAME)
    if not store.exists() or not key.exists():
        return None
    slot = proofs.public_slot_id(primitives.ed25519_public(key.read_bytes()), PUBLICATION)
    db = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        row = db.execute("SELECT body FROM slot WHERE id=?", (slot,)).fetchone()
    finally:
        db.close()
    return None if row is None else json.loads(row[0][ids.SIGNATURE_BYTES :])


def _file_system(folder: Path) -> Finding:
    if not _MOUNTS.exists():
        return Finding("file system", ok=True, text="unknown")
    place, best, kind = folder.resolve(), Path(), "unknown"
    for line in _MOUNTS.read_text().splitlines():
        _, mount, name, *_ = line.split(" ")
        path = Path(mount.replace("\\040", " "))
        if place.is_relative_to(path) and len(path.parts) >= len(best.parts):
            best, kind = path, name  # the last of one place covers the others
    over_network = kind in _NETWORK or kind.startswith("fuse.")
    return Finding("file system", not over_network, f"{kind} (SQLite needs a local one)")


def _sync(folder: Path) -> Finding:
    path = folder / f".restante-doctor-{os.getpid()}"
    times = []
    try:
        with path.open("wb") as file:
            for _ in range(20):
                file.write(bytes(4096))
                file.flush()
                before = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - before)
    except OSError as error:
        return Finding("disk sync", ok=False, text=f"cannot write: {error.strerror}")
    finally:
        path.unlink(missing_ok=True)
    median = sorted(times)[len(times) // 2]
    return Finding("disk sync", median < SLOW_SYNC, f"{median * 1000:.2f} ms (a deposit waits for one)")


async def _redis(url: str) -> Finding:
    """Open the store as one relay more, which looks at its servers' settings, and leave it."""
    try:
        async with asyncio.timeout(_PATIENCE):
            store = await RedisStore.open(parse_redis(url), accept_loss=True)
            await store.close()
    except StoreError as error:
        return Finding("redis", ok=False, text=str(error) or "it does not answer")
    except (OSError, TimeoutError):
        return Finding("redis", ok=False, text="it does not answer")
    if store.level == "process":
        return Finding("redis", ok=True, text="level=process: a loss of power loses what was accepted last")
    return Finding("redis", ok=True, text=f"level={store.level}")


async def _push(hosts: Sequence[Host], *, private: bool) -> Finding:
    """See whether push services can be reached from here, at addresses that pushes are sent to."""
    async with WebPush(private=private) as web:
        silent = [str(host) for host in hosts if not await web.answers(host)]
    if silent:
        return Finding("push", ok=False, text=f"no answer, or not at a public address: {', '.join(silent)}")
    return Finding("push", ok=True, text="the hosts of the push services answer")


def _round_trip(url: str) -> Finding:
    try:
        text = asyncio.run(_try(url))
    except Failed as failed:
        return Finding("round trip", ok=False, text=str(failed))
    except (aiohttp.ClientError, OSError, ProtocolError, TimeoutError, TypeError, ValueError) as error:
        return Finding("round trip", ok=False, text=f"no relay answers there ({type(error).__name__})")
    return Finding("round trip", ok=True, text=text)


async def _try(url: str) -> str:
    """Deposit into a mailbox made for it, fetch, and delete it. Raises Failed."""
    async with asyncio.timeout(_PATIENCE), aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        place = url.rstrip("/") + PATH
        sender = await Link.open(session, stack, place, frames.ROLE_SENDER)
        if sender.welcome.admission != frames.ADMISSION_OPEN:
            return f"it answers, level={sender.welcome.level} (by invitation: nothing was deposited)"
        owner = await Link.open(session, stack, place, frames.ROLE_RECEIVER)
        _, key, nonce = await owner.make_mailbox(0)
        try:
            address, _ = await owner.listen(0, key, nonce, 1)
            before = time.perf_counter()
            body, lifetime = os.urandom(1000), limits.MIN_LIFETIME
            deposit = frames.Deposit(0, os.urandom(ids.MESSAGE_ID_BYTES), [address], body, lifetime, None, 0)
            await sender.ask(lambda n: msgspec.structs.replace(deposit, request=n), frames.Deposited)
            deposited = time.perf_counter()
            while not isinstance(entry := await owner.receive(), NumberedEntry):
                pass
            if entry.entry.body != body:
                raise Failed("another message came than was deposited")
            fetched = time.perf_counter()
        finally:
            await owner.ask(frames.MailboxDelete, frames.Erased)
    return (
        f"accepted after {(deposited - before) * 1000:.1f} ms, delivered after {(fetched - before) * 1000:.1f} ms, "
        f"level={sender.welcome.level}"
    )
