"""Each kind of point against a relay of this project: set up, run, and return figures."""

import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import drain, machine, storm
from benchmarks.load import (
    Audience,
    Job,
    RelayProcess,
    Window,
    address_targets,
    list_targets,
    median,
    relay,
    run,
)
from benchmarks.people import Mailbox, Socket
from benchmarks.points import CROWD, REDIS_ALWAYS, REDIS_EVERYSEC, Point
from benchmarks.processes import valkey

from restante_protocol import frames, limits

SUITE: Final = 3
CLAIMED_MAILBOXES: Final = 200
CLAIM_SECONDS: Final = 0.5  # a window that their packages last for
CLAIM_WARMUP: Final = 0.1
PROBE_SECONDS: Final = 1.0  # of the closed loop whose rate the open loop takes a share of
LIFETIME: Final = 86_400

Row = dict[str, Any]


@dataclass(slots=True)
class Place:
    """A relay with its store and the mailboxes that are subscribed there.

    Attributes:
        folder: of its files.
        store: one of points.STORES.
        process: the relay.
        others: processes of its store.
        audience: its mailboxes.
    """

    folder: Path
    store: str
    process: RelayProcess
    others: list[int]
    options: tuple[str, ...]
    audience: Audience = field(init=False)

    def __post_init__(self) -> None:
        """Begin without mailboxes."""
        self.audience = Audience(self.process.url)

    @property
    def pids(self) -> list[int]:
        """Whose CPU and memory count."""
        return [self.process.pid, *self.others]


@contextmanager
def place(folder: Path, store: str) -> Iterator[Place]:
    """Run a relay on an empty store of this kind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        options: tuple[str, ...] = ("--store", f"sqlite:{folder / 'relay.db'}")
        others = []
        if store in {REDIS_ALWAYS, REDIS_EVERYSEC}:
            always = store == REDIS_ALWAYS
            port, pid = stack.enter_context(valkey(folder / "valkey", "always" if always else "everysec"))
            others.append(pid)
            options = ("--store", f"redis://127.0.0.1:{port}", "--state", str(folder / "state"))
            if not always:
                options += ("--accept-loss-on-power-failure",)
        process = stack.enter_context(relay(folder, *options))
        here = Place(folder, store, process, others, options)
        stack.callback(here.audience.close)
        yield here
    shutil.rmtree(folder, ignore_errors=True)


def deposits(here: Place, point: Point, **changes: Any) -> Job:  # noqa: ANN401 -- fields of Job
    """Return a point's job; the sender's socket stays open with the job's process."""
    crowd = max(CROWD, point.recipients) if point.kind in {"spread", "one-to-one"} else point.recipients
    here.audience.grow(crowd)
    sender = Socket(here.process.url, frames.ROLE_SENDER)
    addresses = [mailbox.address for mailbox in here.audience.mailboxes[:crowd]]
    if point.kind == "one-to-one":
        targets = address_targets(addresses)
    else:
        size = point.recipients
        targets = list_targets(sender, [addresses[at : at + size] for at in range(0, crowd, size)])
    job = Job(
        senders=[os.dup(sender.fileno())],
        receivers=here.audience.receivers(),
        targets=targets,
        recipients=point.recipients,
        pids=here.pids,
        size=point.size,
        inflight=point.inflight,
        ack=point.ack,
    )
    sender.close()
    return replace(job, **changes)


def _run(program: Path, job: Job) -> list[Window]:
    try:
        return run(program, job)
    finally:
        for fd in job.senders:
            os.close(fd)


def _load(program: Path, here: Place, point: Point, window: float, windows: int) -> Row:
    changes: dict[str, Any] = {"window": window, "windows": windows}
    row: Row = {}
    if point.load:
        highest = _run(program, deposits(here, point, window=PROBE_SECONDS, windows=3))
        row["highest"] = median(highest).publications
        changes.update(rate=row["highest"] * point.load, inflight=4096)
    row["windows"] = [asdict(seen) for seen in _run(program, deposits(here, point, **changes))]
    row["rss_mib"] = round(machine.resident(here.pids) / 2**20, 1)
    return row


def _upload(url: str, mailbox: Mailbox, first: int, size: int) -> None:
    peer = mailbox.open(url)
    batch = limits.MAX_PREKEY_BATCH
    for start in range(0, limits.MAILBOX_PREKEYS, batch):
        packages = [os.urandom(size) for _ in range(batch)]
        last_resort = packages[0] if start == 0 else b""
        peer.ask(frames.PrekeysPut(5, SUITE, first + start, packages, last_resort, start == 0))
    peer.close()


def _left(url: str, mailbox: Mailbox) -> int:
    peer = mailbox.open(url)
    status = peer.ask(frames.Status(6))
    peer.close()
    if not isinstance(status, frames.MailboxStatus):
        raise TypeError("no MailboxStatus")
    return sum(pool.left for pool in status.pools)


def _claims(program: Path, here: Place, point: Point, windows: int) -> Row:
    url = here.process.url
    mailboxes = [Mailbox.make(number) for number in range(CLAIMED_MAILBOXES)]
    for mailbox in mailboxes:
        mailbox.create(url).close()
    keys = point.keys
    head = bytes((0x90 | keys,)) if keys < 16 else b"\xdc" + keys.to_bytes(2, "big")
    targets = [
        head + b"".join(address_targets([mailboxes[(at + i) % CLAIMED_MAILBOXES].address])[0][1:] for i in range(keys))
        for at in range(0, CLAIMED_MAILBOXES, keys)
    ]
    seen: list[Window] = []
    spent = True
    for number in range(windows):
        for mailbox in mailboxes:
            _upload(url, mailbox, 1 + number * limits.MAILBOX_PREKEYS, point.size)
        sender = Socket(url, frames.ROLE_SENDER)
        job = Job(
            senders=[sender.fileno()],
            targets=targets,
            pids=here.pids,
            inflight=point.inflight,
            claims=keys,
            suite=SUITE,
            warmup=CLAIM_WARMUP,
            window=CLAIM_SECONDS,
            windows=1,
        )
        seen += run(program, job)
        sender.close()
        spent = spent and _left(url, mailboxes[0]) > 0
    return {"windows": [asdict(window) for window in seen], "only_one_time": spent}


def _idle(program: Path, here: Place, point: Point, window: float, windows: int) -> Row:
    job = Point(kind="fan-out", store=point.store)
    before = median(_run(program, deposits(here, job, window=window, windows=windows)))
    memory = machine.resident(here.pids)
    start = time.perf_counter()
    here.audience.grow(point.count)
    took = time.perf_counter() - start
    grown = machine.resident(here.pids) - memory
    after = median(_run(program, deposits(here, job, window=window, windows=windows)))
    return {
        "kib_per_connection": round(grown / 1024 / (point.count - job.recipients), 2),
        "created_per_second": round(point.count / took),
        "cost_ratio": round(after.server_us / before.server_us, 2),
    }


def _waiting(program: Path, here: Place, point: Point, window: float, windows: int) -> Row:
    job = Point(kind="fan-out", store=point.store)
    before = median(_run(program, deposits(here, job, window=window, windows=windows)))
    asleep = [Mailbox.make(number) for number in range(job.recipients)]
    for mailbox in asleep:
        mailbox.create(here.process.url).close()
    sender = Socket(here.process.url, frames.ROLE_SENDER)
    list_targets(sender, [[mailbox.address for mailbox in asleep]])
    memory = machine.resident(here.pids)
    for number in range(point.count // len(asleep)):
        sender.ask(frames.Deposit(number + 1, os.urandom(16), 0, os.urandom(point.size), LIFETIME, None, 0))
    sender.close()
    grown = machine.resident(here.pids) - memory
    after = median(_run(program, deposits(here, job, window=window, windows=windows)))
    os.kill(here.process.pid, signal.SIGKILL)
    os.waitpid(here.process.pid, 0)
    start = time.perf_counter()
    with relay(here.folder, *here.options):
        took = time.perf_counter() - start
    return {
        "bytes_per_entry": round(grown / point.count, 1),
        "cost_ratio": round(after.server_us / before.server_us, 2),
        "restart_seconds": round(took, 2),
    }


def measure(program: Path, here: Place, point: Point, *, window: float, windows: int) -> Row:
    """Return the figures of one point."""
    row: Row
    match point.kind:
        case "claims":
            row = _claims(program, here, point, windows)
        case "idle":
            row = _idle(program, here, point, window, windows)
        case "waiting":
            row = _waiting(program, here, point, window, windows)
        case "storm":
            row = storm.measure(here.process.url, point.count, here.pids)
        case "drain":
            row = drain.measure(here.process.url, here.folder, point.count)
        case _:
            row = _load(program, here, point, window, windows)
    return {"level": here.process.level, **row}


def many_files() -> None:
    """Allow this process, and what it starts, all the open files that it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def shown(points: Sequence[Point], done: int, point: Point) -> str:
    """Return a line of progress."""
    return f"[{done}/{len(points)}] {point.name}"
