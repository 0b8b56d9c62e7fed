"""Runs that are stopped and go on, against real relays."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.points import Point
from benchmarks.relays import relay_system
from benchmarks.systems import MissingError, System

from benchmarks import rows, turns

POINTS = [
    Point(kind="fan-out", recipients=3, inflight=2),
    Point(kind="fan-out", recipients=3, inflight=2, load=0.5),
    Point(kind="claims", size=100, inflight=2, keys=5),
    Point(kind="fan-out", system="nowhere"),
]


class Starts:
    """Starts relays, and counts them."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def __call__(self, folder: Path, name: str) -> Iterator[System]:
        self.names.append(name)
        if name == "nowhere":
            raise MissingError("it cannot be installed")
        with relay_system(folder, name) as here:
            here.supply = 1000
            yield here


def measure(generator: Path, tmp_path: Path, starts: Starts, points: list[Point]) -> dict[str, Any]:
    place = tmp_path / "state.json"
    return turns.measure(points, starts, generator, tmp_path, place=place, window=0.05, windows=1, turns=2)


def test_a_run_that_was_stopped_goes_on(generator: Path, tmp_path: Path) -> None:
    starts = Starts()
    run = measure(generator, tmp_path, starts, POINTS)
    assert starts.names == ["sqlite", "sqlite", "nowhere", "sqlite", "sqlite"]
    assert run["left_out"] == {"nowhere": "it cannot be installed"}
    assert list(run["rows"]) == [point.name for point in POINTS[:3]]
    for row in run["rows"].values():
        assert row["turns"] == len(row["figures"]) == 2
        assert row["level"] == "power"
        assert all(figures["failures"] == 0 for figures in row["figures"])
    assert all(figures["dry"] == 0 for figures in run["rows"][POINTS[2].name]["figures"])

    # Nothing is missing: nothing is started.
    again = measure(generator, tmp_path, starts, POINTS[:3])
    assert len(starts.names) == 5
    assert again["rows"] == run["rows"]

    # One row of one turn is.
    state = json.loads((tmp_path / "state.json").read_text())
    state["rows"][POINTS[2].name]["turns"] = 1
    (tmp_path / "state.json").write_text(json.dumps(state))
    measure(generator, tmp_path, starts, POINTS[:3])
    assert len(starts.names) == 6

    # Other settings are another run.
    place = tmp_path / "state.json"
    turns.measure(POINTS[:1], starts, generator, tmp_path, place=place, window=0.1, windows=1, turns=1)
    assert len(starts.names) == 7


def test_a_window_is_long_enough_for_what_is_in_flight(generator: Path, tmp_path: Path) -> None:
    point = Point(kind="fan-out", recipients=3, inflight=64)
    place = tmp_path / "state.json"
    run = turns.measure([point], Starts(), generator, tmp_path, place=place, window=0.001, windows=1, turns=1)
    (figures,) = run["rows"][point.name]["figures"]
    assert figures["publications"] * figures["seconds"] >= rows.ROUNDS * point.inflight
    assert figures["deliveries"] > 0
