"""The results of ``make bench-mls`` on paper: tables with verdicts, and a plot."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.mls_contestants import CLASSICAL, HYBRID, OURS, RINE, TS_MLS
from benchmarks.report import table

from benchmarks import mls_goals

ROWS: Final = ("add all", "join", "update", "remove", "process", "protect", "unprotect")
SHOWN: Final = {
    "add all": "one Commit adds all",
    "join": "join by that Welcome",
    "update": "Commit without proposals",
    "remove": "Commit that removes one",
    "process": "follow that Commit",
    "protect": "protect 1 KiB",
    "unprotect": "unprotect 1 KiB",
    "protect, written": "protect 1 KiB, state written",
    "unprotect, written": "unprotect 1 KiB, state written",
}
NAMES: Final = (OURS, RINE, *TS_MLS)

NOTES: Final = """\
`make bench-mls`: median of {rounds} interleaved rounds, in milliseconds; ratios are medians over the same rounds, ours
by theirs. Python {python}, {machine}; an Ed25519 verification by PyNaCl takes {verify_us} µs here. Classical is suite 3
(rine-mls: 1); X-Wing is 0xF101 (ts-mls: 84 and 0xF00E, rine-mls: 0xF057). ts-mls adds without a path; its version 2
removes two, because it wrongly makes no path for one. rine-mls is mls-rs in Rust, and writes its state to files with
every call. With 2 members nobody is removed: what is followed there is the Commit without proposals. A row holds if it
is faster than both ts-mls, and with 100 members at most 3 times what rine-mls takes. What a member of
1,000 costs is compared with one of 125, an eighth, where the same share of the tree is blank."""


def _cell(found: mls_goals.Times, key: mls_goals.Key) -> str:
    return f"{statistics.median(found[key]):.3g}" if key in found else "-"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}x"


def rows(found: mls_goals.Times, kind: str, members: int) -> list[list[str]]:
    """Return the lines of one suite and size."""
    lines = []
    for operation, shown in SHOWN.items():
        key = (kind, members, operation, OURS)
        if key not in found:
            continue
        cells = [_cell(found, (kind, members, operation, name)) for name in NAMES]
        ratios = [_ratio(mls_goals.ratio(found, key, name)) for name in NAMES[1:]]
        lines.append([shown, *cells, *ratios, mls_goals.verdict(found, kind, members, operation)])
    return lines


def markdown(run: Mapping[str, Any]) -> str:
    """Return the report of a run."""
    found = mls_goals.times(run)
    parts = ["# MLS: this project and others", NOTES.format(**run)]
    parts += ["## What was asked for", table(("what", "asked", "measured", ""), mls_goals.check(run))]
    head = ("", *NAMES, *(f"by {name}" for name in NAMES[1:]), "")
    for kind in (CLASSICAL, HYBRID):
        for members in sorted({key[1] for key in found if key[0] == kind}):
            parts += [f"## {kind}, {members} members", table(head, rows(found, kind, members))]
    parts += [
        "## Bytes",
        table(
            ("by", "suite", "members", "Commit that adds all", "its Welcome", "Commit that removes"),
            [
                [by, kind, str(members), *(str(sizes.get(each, "-")) for each in ("commit", "welcome", "remove"))]
                for by, kind, members, sizes in run["bytes"]
            ],
        ),
        "## Memory",
        "Bytes per member of a group's state, after a join (blank tree) and with every parent set (warm tree).",
        table(
            ("suite", "members", "tree", "bytes per member"),
            [[kind, str(members), state, f"{size:.0f}"] for kind, members, state, size in run["memory"]],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def plot(run: Mapping[str, Any], place: Path) -> None:
    """Draw every operation over the number of members; both axes are logarithmic."""
    import matplotlib as mpl  # noqa: PLC0415 -- of the group bench

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- the same

    mpl.rcParams["svg.hashsalt"] = "restante"
    figure, axes = plt.subplots(2, len(ROWS), figsize=(3 * len(ROWS), 6), sharex=True)
    for line, kind in enumerate((CLASSICAL, HYBRID)):
        for column, operation in enumerate(ROWS):
            axis = axes[line][column]
            for name in NAMES:
                points = sorted(
                    (members, statistics.median(taken))
                    for (suite, members, what, by), taken in mls_goals.times(run).items()
                    if (suite, what, by) == (kind, operation, name)
                )
                axis.loglog(*zip(*points, strict=True) if points else ([], []), marker="o", label=name)
            axis.set_title(f"{SHOWN[operation]}\n{kind}", fontsize=9)
            axis.grid(visible=True, alpha=0.3)
        axes[line][0].set_ylabel("ms")
    axes[1][0].legend(fontsize=7)
    figure.supxlabel("members")
    figure.tight_layout()
    figure.savefig(place, metadata={"Date": None})
    plt.close(figure)
