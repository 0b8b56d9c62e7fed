"""``make bench`` and ``make bench-full``: the relay alone, point by point.

Finished points are kept in a state file; a run that was stopped goes on where it was. Writes benchmarks/results/bench.*
or full.*.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import load, machine, report, rows
from benchmarks.points import FULL, SHORT, Point
from benchmarks.processes import MissingError

WORK: Final = Path(".bench")


def _state(place: Path, header: dict[str, Any]) -> dict[str, Any]:
    if place.exists():
        kept: dict[str, Any] = json.loads(place.read_text())
        if kept["settings"] == header["settings"]:
            return kept
    return header


def _keep(place: Path, state: dict[str, Any]) -> None:
    new = place.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.replace(place)


def measure(points: Sequence[Point], work: Path, place: Path, *, window: float, windows: int) -> dict[str, Any]:
    """Measure what the state file does not have yet; return everything."""
    program = load.generator(work)
    state = _state(
        place,
        {
            "settings": {"window": window, "windows": windows},
            "windows": windows,
            "machine": machine.describe(work),
            "rows": {},
        },
    )
    started = time.monotonic()
    missing = [point for point in points if point.name not in state["rows"]]
    done = len(points) - len(missing)
    for (store, _), group in itertools.groupby(missing, key=lambda point: point.place):
        try:
            with rows.place(work / "store", store) as here:
                for point in group:
                    done += 1
                    print(f"{time.monotonic() - started:5.0f} s {rows.shown(points, done, point)}", flush=True)
                    state["rows"][point.name] = rows.measure(program, here, point, window=window, windows=windows)
                    _keep(place, state)
        except MissingError as missed:
            print(f"left out, {store}: {missed}")
    order = [point.name for point in points]
    state["rows"] = {name: state["rows"][name] for name in order if name in state["rows"]}
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the whole matrix")
    parser.add_argument("--only", default="", help="points whose name contains this; results are only printed")
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="forget finished points")
    arguments = parser.parse_args()
    if arguments.windows < 3:
        parser.error("a median needs three windows")
    WORK.mkdir(exist_ok=True)
    rows.many_files()
    os.sched_setaffinity(0, {load.CLIENT_CORE})
    name = "full" if arguments.full else "bench"
    points = [point for point in (FULL if arguments.full else SHORT) if arguments.only in point.name]
    place = WORK / f"{name}{'-only' if arguments.only else ''}.json"
    if arguments.again or arguments.only:
        place.unlink(missing_ok=True)
    try:
        result = measure(points, WORK, place, window=arguments.window, windows=arguments.windows)
    except load.NoCompilerError as error:
        sys.exit(str(error))
    text = report.markdown("The relay alone", result)
    print(text)
    if not arguments.only:
        report.write(name, text, result)


if __name__ == "__main__":
    main()
