"""What ``restante doctor`` looks at before an operator trusts a machine with other people's mail."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.connection import ClientConnection
from restante_protocol.errors import ProtocolError
from restante_server.transport.websocket import PATH

if TYPE_CHECKING:
    from restante_server.app import Relay

Ready = Callable[["Relay"], None]

ENOUGH_FILES: Final = 4096  # open files: each connection is one
SLOW_SYNC: Final = 0.05  # seconds; a deposit waits at least one sync
EARLIEST: Final = 1_767_225_600  # 2026-01-01: a clock before that is wrong
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    name: str
    ok: bool
    text: str


def examine(store: Path, url: str) -> Iterator[Finding]:
    """Yield the findings, slow ones last."""
    yield _files()
    yield Finding("clock", time.time() > EARLIEST, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    folder = store.parent
    while not folder.exists():
        folder = folder.parent
    yield _file_system(folder)
    yield _sync(folder)
    if url:
        yield _round_trip(url)


def _files() -> Finding:
    if sys.platform == "win32":
        return Finding("open files", ok=True, text="no limit on this system")
    import resource  # noqa: PLC0415 -- not on every system

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("open files", soft >= ENOUGH_FILES, f"{soft} (at least {ENOUGH_FILES}: ulimit -n)")


def _file_system(folder: Path) -> Finding:
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return Finding("file system", ok=True, text="unknown")
    best, kind = "", "unknown"
    for line in mounts.read_text().splitlines():
        _, mount, name, *_ = line.split(" ")
        if str(folder.resolve()).startswith(mount) and len(mount) >= len(best):
            best, kind = mount, name
    return Finding("file system", kind not in _NETWORK, f"{kind} (SQLite needs a local one)")


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


def _round_trip(url: str) -> Finding:
    before = time.perf_counter()
    try:
        level = asyncio.run(_greet(url))
    except (aiohttp.ClientError, OSError, ProtocolError, TimeoutError, TypeError) as error:
        return Finding("round trip", ok=False, text=f"no relay answers there ({type(error).__name__})")
    return Finding("round trip", ok=True, text=f"{(time.perf_counter() - before) * 1000:.1f} ms, level={level}")


async def _greet(url: str) -> str:
    connection = ClientConnection(frames.ROLE_SENDER)
    nonce = os.urandom(32)
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.ws_connect(url.rstrip("/") + PATH) as socket,
    ):
        await socket.send_bytes(connection.hello(nonce))
        connection.receive(await socket.receive_bytes())
    welcome = connection.welcome
    if welcome is None or not primitives.ed25519_verify(
        welcome.relay_key, proofs.welcome_message(welcome.relay_key, nonce, welcome.nonce), welcome.signature
    ):
        raise TypeError("not a relay")
    return welcome.level
