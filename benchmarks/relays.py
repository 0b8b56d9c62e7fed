"""Relays of this project as systems: started on an empty store, with mailboxes that are subscribed there."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.claims import Pools
from benchmarks.load import Audience, Job, RelayProcess, address_targets, list_targets, relay
from benchmarks.people import Socket
from benchmarks.points import CROWD, REDIS_ALWAYS, REDIS_EVERYSEC, Point
from benchmarks.processes import valkey

from restante_protocol import frames

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
    """

    folder: Path
    process: RelayProcess
    options: tuple[str, ...]
    pids: list[int]
    supply: int = FIRST_SUPPLY
    audience: Audience = field(init=False)
    _pools: Pools = field(init=False)

    def __post_init__(self) -> None:
        """Begin without mailboxes."""
        self.audience = Audience(self.process.url)
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
        if point.kind == "one-to-one":
            targets = address_targets(addresses)
        else:
            size = point.recipients
            targets = list_targets(sender, [addresses[at : at + size] for at in range(0, crowd, size)])
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
    """Run a relay on an empty store of this kind, one of points.STORES."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        options: tuple[str, ...] = ("--store", f"sqlite:{folder / 'relay.db'}")
        others = []
        if name in {REDIS_ALWAYS, REDIS_EVERYSEC}:
            always = name == REDIS_ALWAYS
            port, pid = stack.enter_context(valkey(folder / "valkey", "always" if always else "everysec"))
            others.append(pid)
            options = ("--store", f"redis://127.0.0.1:{port}", "--state", str(folder / "state"))
            if not always:
                options += ("--accept-loss-on-power-failure",)
        process = stack.enter_context(relay(folder, *options))
        here = RelaySystem(folder, process, options, [process.pid, *others])
        stack.callback(here.audience.close)
        yield here
    shutil.rmtree(folder, ignore_errors=True)
