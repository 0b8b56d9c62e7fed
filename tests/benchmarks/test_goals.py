"""What the relay is held to."""

from typing import Any

import pytest
from benchmarks.points import COMPARED, FULL, POPS, SHORT, Point

from benchmarks import goals


def rows(**deliveries: list[float]) -> dict[str, Any]:
    """Rows of the main job by system."""
    found = {}
    for system, values in deliveries.items():
        point = Point(kind="fan-out", system={"jetstream": "JetStream"}.get(system, system))
        found[point.name] = {"figures": [{"deliveries": each} for each in values]}
    return found


def test_a_ratio_is_the_median_of_ratios_in_the_same_turn() -> None:
    goal = goals.Goal(Point(kind="fan-out"), 2, Point(kind="fan-out", system="JetStream"))
    assert goals.value(rows(sqlite=[10, 40, 90], jetstream=[10, 10, 30]), goal) == 3
    assert goals.value(rows(sqlite=[10]), goal) is None


def test_lines_say_what_holds() -> None:
    lines = goals.check(rows(sqlite=[300, 300, 300], jetstream=[100, 100, 160]))
    (line,) = [line for line in lines if "JetStream:" in line[0]]
    assert line[1:] == ["≥ 2x", "3.00x", "holds"]
    lines = goals.check(rows(sqlite=[100], jetstream=[100]))
    assert [line[-1] for line in lines] == ["**missed**"]


def test_less_can_be_better() -> None:
    idle = Point(kind="idle", count=10_000)
    figures = {idle.name: {"figures": [{"kib_per_connection": 5.0, "cost_ratio": 1.4}]}}
    assert [line[-1] for line in goals.check(figures)] == ["holds", "**missed**"]


def test_claims_are_asked_for_by_the_speed_of_the_core() -> None:
    claim = next(goal for goal in goals.GOALS if goal.scaled)
    found = {
        claim.ours.name: {"figures": [{"deliveries": claim.asked / 2}]},
        POPS.name: {"figures": [{"server_us": 2e6 / goals.LPOPS}]},
    }
    assert goals.scale(found) == pytest.approx(0.5)
    assert goals.check(found)[0][-1] == "holds"


def test_all_that_is_asked_for_is_measured() -> None:
    measured = {point.name for points in (SHORT, FULL, COMPARED) for point in points}
    unmeasured = {goal.ours.name for goal in goals.GOALS} - measured
    assert {name for name in unmeasured if "HTTP" not in name} == set()
