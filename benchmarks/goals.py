"""What the relay is held to, as ratios of rows of one run; and as figures where they are nobody else's."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.points import (
    EJABBERD,
    EVERY_16,
    JETSTREAM,
    JETSTREAM_SYNC,
    MOSQUITTO,
    POPS,
    REDIS_ALWAYS,
    REDIS_EVERYSEC,
    SMALL_PACKAGE,
    SQLITE,
    STORES,
    SYNAPSE,
    Point,
)

Rows = Mapping[str, Mapping[str, Any]]

LPOPS: Final = 845_000  # keys per second of LPOP in a pipeline, on the core for which claims were asked


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of one row, or its ratio to that of another.

    Attributes:
        ours: the row.
        asked: at least so much; at most, where less is better.
        theirs: the row that it is divided by, or None.
        figure: of both rows.
        less: less is better.
        scaled: divide by what LPOP reaches here, as a share of LPOPS.
    """

    ours: Point
    asked: float
    theirs: Point | None = None
    figure: str = "deliveries"
    less: bool = False
    scaled: bool = False


def _against(ours: str, theirs: str, asked: float, point: Point) -> Goal:
    return Goal(replace(point, system=ours), asked, replace(point, system=theirs))


_EACH: Final = Point(kind="fan-out")
_CUMULATIVE: Final = Point(kind="fan-out", ack=EVERY_16)
_W8: Final = Point(kind="fan-out", inflight=8)
_HALF: Final = Point(kind="fan-out", load=0.5)
_CLAIM_5: Final = Point(kind="claims", size=SMALL_PACKAGE, inflight=8, keys=5)
_CLAIM_20: Final = replace(_CLAIM_5, keys=20)
_CROWDS: Final = [
    point
    for w in (8, 64)
    for point in (
        Point(kind="spread", inflight=w),
        Point(kind="one-to-one", recipients=1, inflight=w),
    )
]


def _mosquitto(point: Point) -> float:
    return 1 if point.kind == "spread" and point.inflight > 8 else 0.9


GOALS: Final = (
    *(_against(SQLITE, JETSTREAM_SYNC, 4, point) for point in (_EACH, _CUMULATIVE)),
    _against(SQLITE, JETSTREAM, 2, _EACH),
    _against(SQLITE, JETSTREAM, 3, _CUMULATIVE),
    *(_against(REDIS_EVERYSEC, JETSTREAM, 1.5, point) for point in (_EACH, _CUMULATIVE)),
    *(_against(REDIS_ALWAYS, JETSTREAM_SYNC, 3, point) for point in (_EACH, _CUMULATIVE)),
    *(_against(SQLITE, JETSTREAM, 1, point) for point in _CROWDS),
    *(_against(SQLITE, MOSQUITTO, _mosquitto(point), point) for point in _CROWDS),
    *(_against(SQLITE, peer, 1, _W8) for peer in (JETSTREAM, JETSTREAM_SYNC, MOSQUITTO, EJABBERD)),
    *(
        Goal(replace(_HALF, system=store), 1, replace(_HALF, system=JETSTREAM), "p99", less=True)
        for store in (SQLITE, REDIS_EVERYSEC)
    ),
    Goal(replace(_CLAIM_5, system=REDIS_EVERYSEC), 300_000, scaled=True),
    Goal(replace(_CLAIM_20, system=REDIS_EVERYSEC, over="HTTP"), 100_000, scaled=True),
    Goal(replace(_CLAIM_5, system=REDIS_EVERYSEC, over="HTTP"), 60_000, scaled=True),
    Goal(_CLAIM_5, 100_000),
    *(
        Goal(replace(_CLAIM_20, system=store), 40, replace(_CLAIM_20, system=SYNAPSE))
        for store in (SQLITE, REDIS_EVERYSEC)
    ),
    *(Goal(Point(kind="idle", system=store, count=10_000), 6, None, "kib_per_connection", True) for store in STORES),
    *(Goal(Point(kind="idle", system=store, count=10_000), 1.3, None, "cost_ratio", True) for store in STORES),
    *(Goal(Point(kind="waiting", system=store, count=1_000_000), 1.3, None, "cost_ratio", True) for store in STORES),
    *(
        Goal(Point(kind="fan-out", system=store, recipients=1000), 1.3, replace(_EACH, system=store), "server_us", True)
        for store in STORES
    ),
)


def _figures(rows: Rows, point: Point, figure: str) -> list[float]:
    row = rows.get(point.name)
    return [each[figure] for each in row["figures"]] if row else []


def value(rows: Rows, goal: Goal) -> float | None:
    """Return what a run has for a goal: the median figure, or the median of ratios by window; None if neither."""
    ours = _figures(rows, goal.ours, goal.figure)
    if not ours or goal.theirs is None:
        return statistics.median(ours) if ours else None
    theirs = _figures(rows, goal.theirs, goal.figure)
    ratios = [a / b for a, b in zip(ours, theirs, strict=False) if b]
    return statistics.median(ratios) if ratios else None


def scale(rows: Rows) -> float:
    """Return how fast this core's LPOP is, as a share of LPOPS; 1 where it was not measured.

    By its CPU time: whoever else had a part of the core in its window would make the goals easier.
    """
    pops = _figures(rows, POPS, "server_us")
    return 1e6 / statistics.median(pops) / LPOPS if pops else 1


def check(rows: Rows) -> Sequence[Sequence[str]]:
    """Return a line for every goal that the run has rows for: what, asked, measured, and whether it holds."""
    lines = []
    for goal in GOALS:
        measured = value(rows, goal)
        if measured is None:
            continue
        asked = goal.asked * (scale(rows) if goal.scaled else 1)
        holds = measured <= asked if goal.less else measured >= asked
        other = f" against {goal.theirs.name}" if goal.theirs else ""
        what = f"{goal.ours.name}{other}, {goal.figure.replace('_', ' ')}"
        sign, unit = "≤" if goal.less else "≥", "x" if goal.theirs else ""
        shown = f"{measured:,.2f}{unit}" if measured < 1000 else f"{measured:,.0f}"
        lines.append([what, f"{sign} {asked:,.3g}{unit}" if asked < 1000 else f"{sign} {asked:,.0f}", shown])
        lines[-1].append("holds" if holds else "**missed**")
    return lines
