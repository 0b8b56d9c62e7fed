"""A run: turns over all points, one system at a time, kept after every point: it goes on where it was stopped."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.points import JETSTREAM, Point
from benchmarks.progress import Progress
from benchmarks.systems import MissingError, System

from benchmarks import machine, rows

Run = dict[str, Any]
Row = dict[str, Any]
Start = Callable[[Path, str], AbstractContextManager[System]]


def _begin(place: Path, settings: dict[str, Any], work: Path) -> Run:
    """Return what an earlier run with the same settings kept, or a new run."""
    if place.exists():
        kept: Run = json.loads(place.read_text())
        if kept["settings"] == settings:
            return kept
    return {"settings": settings, "machine": machine.describe(work), "rows": {}, "left_out": {}}


def _keep(place: Path, run: Run) -> None:
    new = place.with_suffix(".new")
    new.write_text(json.dumps(run))
    new.replace(place)


def _row(point: Point, level: str) -> Row:
    return {"system": point.system, "job": point.job, "level": level, "turns": 0, "figures": []}


def _reference(run: Run, point: Point) -> float:
    """Return the highest rate of JetStream for a point that takes a part of it, if it was measured."""
    row = run["rows"].get(replace(point, system=JETSTREAM, load=0).name) if point.load else None
    return statistics.median(figures["publications"] for figures in row["figures"]) if row else 0


def measure(
    points: Sequence[Point],
    start: Start,
    program: Path,
    work: Path,
    *,
    place: Path,
    window: float,
    windows: int,
    turns: int,
) -> Run:
    """Measure every point in every turn, unless the state file has it; return the run.

    Args:
        points: what to measure; neighbours of one system and kind share a server.
        start: runs a system; raises MissingError where it is not on this machine. One that fails is named, too.
        program: the load generator.
        work: a folder for stores.
        place: the state file.
        window: seconds.
        windows: of a point in a turn.
        turns: how often everything is measured.
    """
    run = _begin(place, {"window": window, "windows": windows, "turns": turns}, work)
    steps = [(turn, point) for turn in range(turns) for point in points]

    def missing(step: tuple[int, Point]) -> bool:
        turn, point = step
        row: Row = run["rows"].get(point.name, {"turns": 0})
        return int(row["turns"]) <= turn

    left = [step for step in steps if missing(step)]
    progress = Progress(len(steps), len(steps) - len(left), time.monotonic())
    for (_, (system, _)), group in itertools.groupby(left, key=lambda step: (step[0], step[1].place)):
        members = [point for _, point in group]
        if system in run["left_out"]:
            progress.total -= len(members)
            continue
        try:
            with start(work / "store", system) as here:
                for point in members:
                    progress.show(point.name, time.monotonic())
                    seen = rows.measure(
                        program, here, point, window=window, windows=windows, highest=_reference(run, point)
                    )
                    row = run["rows"].setdefault(point.name, _row(point, here.level))
                    row["figures"] += seen
                    row["turns"] += 1
                    progress.step()
                    _keep(place, run)
        except (MissingError, ConnectionError, TimeoutError) as missed:  # the others are measured all the same
            run["left_out"][system] = str(missed) or type(missed).__name__
            progress.total -= len(members)
    progress.end()
    order = [point.name for point in points]
    run["rows"] = {name: run["rows"][name] for name in order if name in run["rows"]}
    return run
