"""What MLS is held to."""

from typing import Any

from benchmarks.mls_contestants import CLASSICAL, HYBRID, OURS, RINE, TS_MLS

from benchmarks import mls_goals
from restante_crypto.mls.tree_math import full_leaves


def run(*rows: tuple[str, int, str, str, list[float]], verify_us: float = 38.0) -> dict[str, Any]:
    names = ("suite", "members", "operation", "by", "ms")
    return {
        "rows": [dict(zip(names, row, strict=True)) for row in rows],
        "memory": [[CLASSICAL, 1000, "blank", 4000.0], [CLASSICAL, 1000, "warm", 5000.0], [HYBRID, 1000, "warm", 9e3]],
        "verify_us": verify_us,
    }


def verdicts(result: dict[str, Any], word: str) -> list[str]:
    return [line[-1] for line in mls_goals.check(result) if word in line[0]]


def test_a_ratio_is_the_median_of_ratios_in_the_same_turn() -> None:
    key = (CLASSICAL, 10, "join", OURS)
    found = mls_goals.times(
        run((*key[:3], OURS, [10.0, 40.0, 90.0]), (*key[:3], TS_MLS[0], [10.0, 10.0, 30.0])),
    )
    assert mls_goals.ratio(found, key, TS_MLS[0]) == 3
    assert mls_goals.ratio(found, key, RINE) is None


def test_every_row_is_faster_than_ts_mls() -> None:
    rows = [(CLASSICAL, 10, "join", OURS, [10.0]), (HYBRID, 10, "join", OURS, [10.0])]
    rows += [(CLASSICAL, 10, "join", TS_MLS[0], [11.0]), (HYBRID, 10, "join", TS_MLS[0], [12.0])]
    assert verdicts(run(*rows), TS_MLS[0]) == ["holds"]
    slow = run(*rows, (HYBRID, 10, "process", OURS, [5.0]), (HYBRID, 10, "process", TS_MLS[0], [4.0]))
    assert verdicts(slow, TS_MLS[0]) == ["**missed**"]
    assert "slowest row (process, X-Wing, 10)" in mls_goals.check(slow)[0][0]
    found = mls_goals.times(slow)
    assert mls_goals.verdict(found, HYBRID, 10, "process") == "**missed**"
    assert mls_goals.verdict(found, HYBRID, 10, "join") == "holds"
    assert not mls_goals.verdict(mls_goals.times(run(rows[0])), CLASSICAL, 10, "join")


def test_rine_is_compared_with_at_one_size() -> None:
    rows = [(CLASSICAL, size, "join", by, [ms]) for size in (10, 100) for by, ms in ((OURS, 31.0), (RINE, 10.0))]
    assert verdicts(run(*rows), RINE) == ["**missed**"]
    assert verdicts(run(*rows[:2]), RINE) == []
    found = mls_goals.times(run(*rows))
    assert mls_goals.verdict(found, CLASSICAL, 100, "join") == "**missed**"
    assert not mls_goals.verdict(found, CLASSICAL, 10, "join")


def test_messages_are_timed_by_the_speed_of_the_machine() -> None:
    rows = [(CLASSICAL, 100, "protect", OURS, [0.1]), (CLASSICAL, 100, "unprotect", OURS, [0.1])]
    assert verdicts(run(*rows), "protect 1 KiB") == ["**missed**", "holds"]
    assert verdicts(run(*rows, verify_us=76), "protect 1 KiB") == ["holds", "holds"]


def test_cost_per_member_must_not_grow() -> None:
    rows = [(CLASSICAL, 125, "join", OURS, [12.5]), (CLASSICAL, 1000, "join", OURS, [105.0])]
    assert verdicts(run(*rows), "cost per member") == ["holds"]
    rows[1] = (CLASSICAL, 1000, "join", OURS, [120.0])
    assert verdicts(run(*rows), "cost per member") == ["**missed**"]
    assert verdicts(run(rows[0]), "cost per member") == []


def test_sizes_that_are_compared_have_trees_of_one_shape() -> None:
    few, many = mls_goals.FROM_TO
    assert few / full_leaves(few) == many / full_leaves(many)


def test_memory_is_asked_of_the_classical_suite_alone() -> None:
    assert verdicts(run(), "memory") == ["holds", "**missed**"]
