"""Jobs for the load generator: it is compiled at first use, gets its sockets from here, and answers with figures.

The server runs on the first core, the generator on the second. Where there is only one, they share it, and the figures
say so by the generator's share.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from benchmarks.people import Mailbox, Socket, subscribe

from restante_protocol import frames, limits

SOURCES: Final = Path(__file__).parent / "loadgen"
CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = CORES[0]
CLIENT_CORE: Final = CORES[-1]
WORKERS_CORES: Final = CORES[:-1] or CORES  # of several workers, with their Redis on the first
PING_SECONDS: Final = 10  # between looks for pings, which a relay wants answered within a minute
FLAGS: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class NoCompilerError(Exception):
    """The generator is written in C, and there is no C compiler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was measured in one window.

    Attributes:
        seconds: how long it was.
        deliveries: per second; of claims: keys per second.
        publications: accepted per second.
        server_us: CPU microseconds of the measured processes per delivery.
        server_share: of one core, by the measured processes.
        client_share: of one core, by the generator: above 0.95 it is what was measured.
        failures: publications that were refused, since the start.
        dry: keys that were not one-time keys of their own, since the start.
        p50: microseconds from the intended publication to a delivery.
        p99: the same.
        p999: the same.
    """

    seconds: float
    deliveries: float
    publications: float
    server_us: float
    server_share: float
    client_share: float
    failures: int
    dry: int
    p50: float
    p99: float
    p999: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the generator does.

    Attributes:
        peer: the protocol: restante, nats, mqtt, redis, http or xmpp.
        senders: sockets that publish.
        receivers: sockets and what their acknowledgements begin with.
        targets: where to, in turn, as the protocol writes it.
        recipients: deliveries of one publication.
        pids: whose CPU time is counted.
        size: bytes of a body.
        inflight: publications at once.
        ack: entries per acknowledgement, 0: one for each read.
        rate: publications per second, 0: as fast as they are accepted.
        claims: addresses of one claim; 0: deposits.
        suite: of claims.
        warmup: seconds before the first window.
        window: seconds.
        windows: how many.
    """

    peer: str = "restante"
    senders: Sequence[int]
    receivers: Sequence[tuple[int, bytes]] = ()
    targets: Sequence[bytes]
    recipients: int = 0
    pids: Sequence[int]
    size: int = 256
    inflight: int = 1
    ack: int = 1
    rate: float = 0
    claims: int = 0
    suite: int = 3
    warmup: float = 1
    window: float = 2
    windows: int = 3

    def text(self) -> str:
        """Return what the generator reads."""
        values = {
            "peer": self.peer,
            "mode": "claims" if self.claims else "deposits",
            "size": self.size,
            "inflight": self.inflight,
            "ack": self.ack,
            "recipients": self.recipients,
            "warmup": self.warmup,
            "window": self.window,
            "windows": self.windows,
            "rate": self.rate,
            "keys": max(1, self.claims),
            "suite": self.suite,
        }
        lines = [f"{key} {value}" for key, value in values.items()]
        lines += [f"pid {pid}" for pid in self.pids]
        lines += [f"sender {fd}" for fd in self.senders]
        lines += [f"receiver {fd} {prefix.hex()}" for fd, prefix in self.receivers]
        lines += [f"target {target.hex()}" for target in self.targets]
        return "\n".join(lines) + "\n"


def generator(folder: Path) -> Path:
    """Compile the generator into a folder, unless it is there; return its path.

    Raises:
        NoCompilerError: there is no ``cc``.
    """
    program = folder / "loadgen"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    sources = sorted(SOURCES.glob("*.[ch]"))
    if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return program
    if compiler is None:
        raise NoCompilerError("the load generator needs a C compiler (cc)")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(  # noqa: S603 -- our sources
        [compiler, *FLAGS, "-o", program, *(source for source in sources if source.suffix == ".c")], check=True
    )
    return program


def run(program: Path, job: Job) -> list[Window]:
    """Run a job; return its windows.

    Raises:
        RuntimeError: the generator gave up, with what it said.
    """
    descriptors = [*job.senders, *(fd for fd, _ in job.receivers)]
    outcome = subprocess.run(  # noqa: S603 -- our program
        [program],
        input=job.text(),
        capture_output=True,
        text=True,
        pass_fds=descriptors,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE}),  # one thread here
    )
    if outcome.returncode:
        raise RuntimeError(outcome.stderr.strip())
    return [Window(**json.loads(line)) for line in outcome.stdout.splitlines()]


def median(windows: Sequence[Window]) -> Window:
    """Return the window of the median throughput."""
    return sorted(windows, key=lambda window: window.deliveries)[len(windows) // 2]


@dataclass(slots=True)
class RelayProcess:
    """A relay of its own, pinned to the first core.

    Attributes:
        url: where it listens.
        level: what "accepted" survives.
        pid: its process.
    """

    url: str
    level: str
    pid: int


@contextmanager
def relay(
    folder: Path,
    *options: str,
    command: Sequence[str] = (sys.executable, "-m", "restante_server"),
    cores: Collection[int] = (SERVER_CORE,),
) -> Iterator[RelayProcess]:
    """Run a relay on a store in this folder, on these cores."""
    arguments = [*command, "serve", "--listen", "127.0.0.1:0"]
    if "--store" not in options:
        arguments += ["--store", f"sqlite:{folder}/relay.db"]
    with subprocess.Popen(  # noqa: S603 -- our program
        [*arguments, *options],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 -- one thread here
    ) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("no output")
            words = process.stdout.readline().split()
            if not words or words[0] != "ready":
                raise RuntimeError("the relay did not start")
            yield RelayProcess(words[1], words[2].removeprefix("level="), process.pid)
        finally:
            process.terminate()


@dataclass(slots=True)
class Audience:
    """Subscribed mailboxes.

    Attributes:
        urls: of the relays that they connect to in turn.
        mailboxes: all.
        sockets: of each, its connection.
        prefixes: of each, what an acknowledgement begins with.
    """

    urls: Sequence[str]
    mailboxes: list[Mailbox] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    _looked: float = field(default_factory=time.monotonic)

    def grow(self, count: int) -> None:
        """Have so many subscribed mailboxes; those that are there already stay, however long it takes."""
        while len(self.sockets) < count:
            self.stay()
            mailbox = Mailbox.make(len(self.sockets))
            peer = mailbox.create(self.urls[len(self.sockets) % len(self.urls)])
            self.mailboxes.append(mailbox)
            self.sockets.append(peer)
            self.prefixes.append(subscribe(peer))

    def stay(self) -> None:
        """Answer pings, if it is time again. Called again and again by whatever takes long."""
        if time.monotonic() - self._looked < PING_SECONDS:
            return
        self._looked = time.monotonic()
        peers = {peer.fileno(): peer for peer in self.sockets}
        poll = select.poll()
        for descriptor in peers:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0):
            peers[descriptor].answer_pings()

    def receivers(self) -> list[tuple[int, bytes]]:
        """Return what a job needs of them."""
        return [(peer.fileno(), prefix) for peer, prefix in zip(self.sockets, self.prefixes, strict=True)]

    def close(self) -> None:
        """Close this process' ends."""
        for peer in self.sockets:
            peer.close()


def list_targets(sender: Socket, groups: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Register lists of addresses; return how deposits name them."""
    if len(groups) > limits.MAX_LISTS:
        raise ValueError("more lists than a connection may have")
    for handle, addresses in enumerate(groups):
        sender.ask(frames.ListPut(handle + 1, handle, list(addresses)))
    return [bytes((handle,)) for handle in range(len(groups))]  # MessagePack's small integers


def address_targets(groups: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Return how deposits name addresses one by one."""
    return [msgspec.msgpack.encode(list(addresses)) for addresses in groups]
