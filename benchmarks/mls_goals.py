"""What MLS is held to: ratios of rows of one run, and limits where nobody else has the figure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.mls_contestants import CLASSICAL, HYBRID, OURS, RINE, TS_MLS

RUST: Final = 3.0  # times what rine-mls takes, at most, with this many members
RUST_MEMBERS: Final = 100
VERIFY_US: Final = 38.0  # an Ed25519 verification by PyNaCl on the machine for which the next two were asked
MESSAGE_US: Final = {"protect": 60.0, "unprotect": 100.0}  # of 1 KiB
GROWTH: Final = ("add all", "join", "update", "remove")  # whose cost per member must not grow
FROM_TO: Final = (125, 1000)
"""Members, with the same share of the tree blank.

The one who joined last seals a secret to each leaf of the right half of a tree whose left half has a key: to 36 of 100,
but to 488 of 1,000, a third more for each member. An eighth of 1,000 has the same halves: 61 of 125.
"""
NOISE: Final = 1.1  # two sizes are measured minutes apart
MEMORY: Final = 4096  # bytes per member of a group's state, classical

Key = tuple[str, int, str, str]
"""(suite, members, operation, by)."""
Times = Mapping[Key, Sequence[float]]
"""Milliseconds by turn."""


def times(run: Mapping[str, Any]) -> Times:
    """Return what a run measured."""
    return {(row["suite"], row["members"], row["operation"], row["by"]): row["ms"] for row in run["rows"]}


def ratio(found: Times, key: Key, by: str) -> float | None:
    """Return how many times somebody's time ours is: the median over turns; None if either has none."""
    suite, members, operation, _ = key
    ours, theirs = found.get(key), found.get((suite, members, operation, by))
    if not ours or not theirs:
        return None
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=False))


def verdict(found: Times, suite: str, members: int, operation: str) -> str:
    """Say whether a row holds against those who have it; empty where nothing is asked."""
    key = (suite, members, operation, OURS)
    asked = [(measured, 1.0) for name in TS_MLS if (measured := ratio(found, key, name)) is not None]
    if members == RUST_MEMBERS and (measured := ratio(found, key, RINE)) is not None:
        asked.append((measured, RUST))
    if not asked:
        return ""
    return "holds" if all(measured <= most for measured, most in asked) else "**missed**"


def _line(what: str, most: float, measured: float, unit: str) -> list[str]:
    shown = [f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in (most, measured)]
    return [what, f"≤ {shown[0]}{unit}", f"{shown[1]}{unit}", "holds" if measured <= most else "**missed**"]


def check(run: Mapping[str, Any]) -> list[list[str]]:
    """Return a line for every limit that the run has figures for: what, asked, measured, and whether it holds."""
    found = times(run)
    keys = sorted(key for key in found if key[3] == OURS)
    lines = []
    for name in TS_MLS:
        worst = [(measured, key) for key in keys if (measured := ratio(found, key, name)) is not None]
        if worst:
            measured, (suite, members, operation, _) = max(worst)
            lines.append(_line(f"against {name}, slowest row ({operation}, {suite}, {members})", 1, measured, "x"))
    near = [(measured, key) for key in keys if key[1] == RUST_MEMBERS and (measured := ratio(found, key, RINE))]
    if near:
        measured, (suite, members, operation, _) = max(near)
        lines.append(_line(f"against {RINE}, slowest row ({operation}, {suite}, {members})", RUST, measured, "x"))
    scale = run["verify_us"] / VERIFY_US
    for operation, most in MESSAGE_US.items():
        for suite, members, _, _ in [key for key in keys if key[2] == operation]:
            measured = statistics.median(found[suite, members, operation, OURS]) * 1000
            lines.append(_line(f"{operation} 1 KiB, {suite}, {members} members", most * scale, measured, " µs"))
    lines += _growth(found)
    lines += [
        _line(f"memory, {suite}, {members} members, {state} tree", MEMORY, size, " B per member")
        for suite, members, state, size in run["memory"]
        if suite == CLASSICAL
    ]
    return lines


def _growth(found: Times) -> list[list[str]]:
    few, many = FROM_TO
    lines = []
    for suite in (CLASSICAL, HYBRID):
        for operation in GROWTH:
            small, large = (found.get((suite, members, operation, OURS)) for members in FROM_TO)
            if small and large:
                measured = (statistics.median(large) / many) / (statistics.median(small) / few)
                what = f"cost per member of {operation} at {many:,} against {few}, {suite}"
                lines.append(_line(what, NOISE, measured, "x"))
    return lines
