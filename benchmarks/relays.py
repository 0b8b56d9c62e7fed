"""Relays of this project as systems: started on an empty store, with mailboxes that are subscribed there."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.claims import Pools
from benchmarks.load import (
    WORKERS_CORES,
    Audience,
    Job,
    RelayProcess,
    address_targets,
    list_targets,
    relay,
)
from benchmarks.people import Socket
from benchmarks.points import CLUSTER, CROWD, REDIS_ALWAYS, SQLITE, WORKERS, Point
from benchmarks.processes import settle, valkey, valkey_cluster

from benchmarks import machine
from restante_protocol import frames, limits

FIRST_SUPPLY: Final = 50_000  # keys that are ready for one window of claims


@dataclass(slots=True)
class RelaySystem:
    """A relay with its store and the mailboxes that are subscribed there.

    Attributes:
        folder: of its files.
        process: the relay.
        options: that it was started with.
        pids: the relay's and its store's processes.
        audience: its mailboxes.
        supply: keys that are uploaded before a job of claims.
        others: URLs of further relays, which have their part of the mailboxes.
        redis: the port of its Redis, if it has one.
    """

    folder: Path
    process: RelayProcess
    options: tuple[str, ...]
    pids: list[int]
    supply: int = FIRST_SUPPLY
    others: tuple[str, ...] = ()
    redis: int = 0
    audience: Audience = field(init=False)
    _pools: Pools = field(init=False)

    def __post_init__(self) -> None:
        """Begin without mailboxes."""
        self.audience = Audience((self.process.url, *self.others))
        self._pools = Pools(self.process.url)

    @property
    def level(self) -> str:
        """What "accepted" survives."""
        return self.process.level

    @contextmanager
    def job(self, point: Point) -> Iterator[Job]:
        """Connect a sender; register what it deposits to, or upload what it claims."""
        if point.kind == "claims":
            with self._pools.job(point, self.pids, self.supply) as job:
                if self.redis:
                    settle(self.redis)
                yield job
            return
        sender = Socket(self.process.url, frames.ROLE_SENDER)
        try:
            yield self._deposits(point, sender)
        finally:
            sender.close()

    @contextmanager
    def idle(self, count: int) -> Iterator[None]:
        """Subscribe so many more mailboxes; they stay."""
        self.audience.grow(len(self.audience.sockets) + count)
        yield

    def _deposits(self, point: Point, sender: Socket) -> Job:
        crowd = max(CROWD, point.recipients) if point.kind in {"spread", "one-to-one"} else point.recipients
        self.audience.grow(crowd)
        addresses = [mailbox.address for mailbox in self.audience.mailboxes[:crowd]]
        size = point.recipients
        groups = [addresses[at : at + size] for at in range(0, crowd, size)]
        listed = size > 1 and len(groups) <= limits.MAX_LISTS
        targets = list_targets(sender, groups) if listed else address_targets(groups)
        return Job(
            senders=[sender.fileno()],
            receivers=self.audience.receivers(),
            targets=targets,
            recipients=point.recipients,
            pids=self.pids,
            size=point.size,
            inflight=point.inflight,
            ack=point.ack,
        )


@contextmanager
def relay_system(folder: Path, name: str) -> Iterator[RelaySystem]:
    """Run a relay, or several, on an empty store of this kind, one of points.RELAYS."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        if name == CLUSTER:
            here = _cluster(stack, folder)
        elif name == SQLITE:
            options = ("--store", f"sqlite:{folder / 'relay.db'}")
            process = stack.enter_context(relay(folder, *options))
            here = RelaySystem(folder, process, options, [process.pid])
        else:
            here = _over_redis(stack, folder, name)
        stack.callback(here.audience.close)
        yield here
    shutil.rmtree(folder, ignore_errors=True)


def _over_redis(stack: ExitStack, folder: Path, name: str) -> RelaySystem:
    always = name == REDIS_ALWAYS
    port, pid = stack.enter_context(valkey(folder / "valkey", "always" if always else "everysec"))
    options: tuple[str, ...] = ("--store", f"redis://127.0.0.1:{port}", "--state", str(folder / "state"))
    if not always:
        options += ("--accept-loss-on-power-failure",)
    if name not in WORKERS:
        process = stack.enter_context(relay(folder, *options))
        return RelaySystem(folder, process, options, [process.pid, pid], redis=port)
    options += ("--workers", str(WORKERS[name]))
    process = stack.enter_context(relay(folder, *options, cores=WORKERS_CORES))
    workers = machine.children(process.pid) or [process.pid]  # one worker is the process itself
    return RelaySystem(folder, process, options, [*workers, pid], redis=port)


def _cluster(stack: ExitStack, folder: Path) -> RelaySystem:
    """Half of the mailboxes are subscribed at each of two relays; whatever is deposited comes in at the first."""
    ports, pids = stack.enter_context(valkey_cluster(folder / "valkey"))
    store = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    options = [("--store", store, "--state", str(folder / f"state{number}")) for number in range(2)]
    first, second = (stack.enter_context(relay(folder, *each)) for each in options)
    return RelaySystem(folder, first, options[0], [first.pid, second.pid, *pids], others=(second.url,))
