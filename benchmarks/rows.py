"""Each kind of point: set up, run, and return figures."""

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from benchmarks.claims import LEAST_SUPPLY, MOST_SUPPLY
from benchmarks.load import Job, Window, list_targets, median, relay, run
from benchmarks.people import Mailbox, Socket
from benchmarks.points import CROWD, Point
from benchmarks.relays import RelaySystem
from benchmarks.systems import System

from benchmarks import drain, machine, storm
from restante_protocol import frames

CLAIM_SECONDS: Final = 0.5  # a window that the keys last for
CLAIM_WARMUP: Final = 0.1
ROUNDS: Final = 4  # in a window everything in flight is accepted so often at least, or it is measured in a longer one
LONGEST_WINDOW: Final = 5.0  # seconds
PROBE_SECONDS: Final = 1.0  # of the closed loop whose rate the open loop takes a share of
OPEN_INFLIGHT: Final = 4096  # above it the open loop is no longer open
LIFETIME: Final = 86_400

Figures = dict[str, float]


def _figures(windows: Sequence[Window], pids: list[int]) -> list[Figures]:
    memory = round(machine.resident(pids) / 2**20, 1)
    return [{**asdict(window), "rss_mib": memory} for window in windows]


def _load(program: Path, here: System, point: Point, job: Job, highest: float) -> list[Figures]:
    if point.load:
        if not highest:
            highest = median(run(program, replace(job, window=PROBE_SECONDS, windows=3))).publications
        job = replace(job, rate=highest * point.load, inflight=OPEN_INFLIGHT)
        return _figures(run(program, job), here.pids)
    windows = run(program, job)
    while job.window < LONGEST_WINDOW and any(
        each.publications * each.seconds < ROUNDS * job.inflight for each in windows
    ):
        job = replace(job, window=min(LONGEST_WINDOW, 4 * job.window))
        windows = run(program, job)
    return _figures(windows, here.pids)


def _claims(program: Path, here: System, point: Point, windows: int) -> list[Figures]:
    """Measure windows, each after an upload of twice what the last one took; one whose keys ran out is repeated."""
    figures: list[Figures] = []
    while len(figures) < windows:
        with here.job(point) as job:
            os.sync()
            seen = run(program, replace(job, warmup=CLAIM_WARMUP, window=CLAIM_SECONDS, windows=1))
        supply, dry = MOST_SUPPLY, bool(seen[0].dry)
        if isinstance(here, RelaySystem):
            supply = here.supply
            taken = supply if dry else int(seen[0].deliveries * (CLAIM_WARMUP + CLAIM_SECONDS))
            here.supply = max(LEAST_SUPPLY, min(MOST_SUPPLY, 2 * taken))
        if not dry or supply == MOST_SUPPLY:
            figures += _figures(seen, here.pids)
    return figures


def _ratio(after: float, before: float) -> float:
    """Return what a delivery costs now against before; 0 where a window was too short for the clock of CPU time."""
    return round(after / before, 2) if before else 0


def _cost(program: Path, job: Job) -> float:
    return median(run(program, job)).server_us


def _idle(program: Path, here: System, point: Point, window: float, windows: int) -> Figures:
    """Measure what connections cost: memory of each, and CPU time of the deliveries to others."""
    usual = Point(kind="fan-out", system=point.system)
    with here.job(usual) as job:
        before = _cost(program, replace(job, warmup=window, window=window, windows=windows))
    memory, start = machine.resident(here.pids), time.perf_counter()
    with here.idle(point.count):
        took = time.perf_counter() - start
        grown = machine.resident(here.pids) - memory
        with here.job(usual) as job:
            after = _cost(program, replace(job, warmup=window, window=window, windows=windows))
    return {
        "kib_per_connection": round(grown / 1024 / point.count, 2),
        "created_per_second": round(point.count / took),
        "cost_ratio": _ratio(after, before),
    }


def _waiting(program: Path, here: RelaySystem, point: Point, window: float, windows: int) -> Figures:
    """Measure what entries that wait for absent mailboxes cost, and a start after SIGKILL with them."""
    usual = Point(kind="fan-out", system=point.system)
    with here.job(usual) as job:
        before = _cost(program, replace(job, warmup=window, window=window, windows=windows))
    crowd = CROWD if point.varied else usual.recipients
    asleep = [Mailbox.make(number) for number in range(crowd)]
    for mailbox in asleep:
        mailbox.create(here.process.url).close()
    addresses = [mailbox.address for mailbox in asleep]
    sender = Socket(here.process.url, frames.ROLE_SENDER)
    list_targets(sender, [addresses[: usual.recipients]])
    chance = random.Random(1)
    memory = machine.resident(here.pids)
    for number in range(point.count // usual.recipients):
        to: list[bytes] | int = chance.sample(addresses, usual.recipients) if point.varied else 0
        sender.ask(frames.Deposit(number + 1, os.urandom(16), to, os.urandom(point.size), LIFETIME, None, 0))
        here.audience.stay()
    sender.close()
    grown = machine.resident(here.pids) - memory
    with here.job(usual) as job:
        after = _cost(program, replace(job, warmup=window, window=window, windows=windows))
    here.audience.close()
    os.kill(here.process.pid, signal.SIGKILL)
    start = time.perf_counter()
    with relay(here.folder, *here.options):
        took = time.perf_counter() - start
    return {
        "bytes_per_entry": round(grown / point.count, 1),
        "cost_ratio": _ratio(after, before),
        "restart_seconds": round(took, 2),
    }


def measure(
    program: Path, here: System, point: Point, *, window: float, windows: int, highest: float = 0
) -> list[Figures]:
    """Return the figures of one point, as often as it was measured.

    Args:
        program: the load generator.
        here: the point's system.
        point: the point.
        window: seconds.
        windows: how many.
        highest: publications per second of which an open loop takes its share; 0: the system's own highest rate.
    """
    os.sync()  # what others have written would slow this one's syncs down
    if point.kind in {"fan-out", "spread", "one-to-one"}:
        with here.job(point) as job:
            return _load(program, here, point, replace(job, warmup=window, window=window, windows=windows), highest)
    if point.kind == "claims":
        return _claims(program, here, point, windows)
    if point.kind == "idle":
        return [_idle(program, here, point, window, windows)]
    if not isinstance(here, RelaySystem):
        raise TypeError("this kind is for relays")
    if point.kind == "waiting":
        return [_waiting(program, here, point, window, windows)]
    if point.kind == "storm":
        return [storm.measure(program, here.process.url, point.count, here.pids)]
    return [drain.measure(here.process.url, here.folder, point.count, here.pids)]
