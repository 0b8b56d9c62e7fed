"""Results as JSON, as Markdown and as a picture, into benchmarks/results/."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"
SATURATED: Final = 0.95  # of a core: then the generator is what was measured

COLUMNS: Final = (
    "point",
    "level",
    "per second",
    "server µs",
    "server",
    "client",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "RSS MiB",
)
NOTES: Final = """\
Medians of {windows} windows. *Per second*: deliveries, of claims keys. *Server µs*: CPU time of the relay, and of its
Redis, per delivery. *Server*, *client*: their shares of one core each; a client above 95 % would be what was measured.
Latencies are from the intended time of the publication to a delivery. The server has the first core, the generator the
last. Machines differ, and others may work on them: compare ratios within one run only.

{cpu}, {cores} cores, kernel {kernel}, Python {python}; {file_system}, fdatasync of 4 KiB {median} ms (p99 {p99} ms);
load average at the start {load_average}; {versions}."""


def middle(windows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every figure."""
    return {name: statistics.median(window[name] for window in windows) for name in windows[0]}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cells(name: str, row: Mapping[str, Any]) -> list[str]:
    """Return a row's cells for COLUMNS."""
    seen = middle(row["windows"])
    client = f"{seen['client_share']:.0%}" + (" (saturated)" if seen["client_share"] > SATURATED else "")
    latencies = [_number(seen[key] / 1000) for key in ("p50", "p99", "p999")]
    shares = [f"{seen['server_share']:.0%}", client]
    rss = _number(row["rss_mib"]) if "rss_mib" in row else ""
    level = str(row.get("level", ""))
    return [name, level, _number(seen["deliveries"]), f"{seen['server_us']:.2f}", *shares, *latencies, rss]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def notes(result: Mapping[str, Any]) -> str:
    """Return what the figures depend on, in words."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return NOTES.format(**{**machine, **machine["fdatasync_ms"], "versions": versions, "windows": result["windows"]})


def markdown(title: str, result: Mapping[str, Any]) -> str:
    """Return the report of a run: ``machine``, ``windows``, and ``rows`` by name."""
    rows: Mapping[str, Mapping[str, Any]] = result["rows"]
    timed = [cells(name, row) for name, row in rows.items() if "windows" in row]
    parts = [f"# {title}", notes(result), table(COLUMNS, timed)]
    others = [(name, row) for name, row in rows.items() if "windows" not in row]
    if others:
        shown = [
            [name, ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in row.items())] for name, row in others
        ]
        parts.append(table(("point", "figures"), shown))
    return "\n\n".join(parts) + "\n"


def plot(rows: Mapping[str, Mapping[str, Any]], place: Path) -> None:
    """Draw throughput and cost of every row that has windows."""
    import matplotlib as mpl  # noqa: PLC0415 -- of the group bench

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- the same

    mpl.rcParams["svg.hashsalt"] = "restante"
    seen = {name: middle(row["windows"]) for name, row in reversed(list(rows.items())) if "windows" in row}
    figure, axes = plt.subplots(1, 2, figsize=(14, 1 + 0.28 * len(seen)), sharey=True)
    for axis, key, title in zip(axes, ("deliveries", "server_us"), ("per second", "server µs each"), strict=True):
        axis.barh(list(seen), [row[key] for row in seen.values()])
        axis.set_xscale("log")
        axis.set_title(title)
        axis.grid(visible=True, axis="x", alpha=0.3)
        axis.tick_params(axis="y", labelsize=7)
    figure.tight_layout()
    figure.savefig(place, metadata={"Date": None})
    plt.close(figure)


def write(name: str, text: str, result: Mapping[str, Any], folder: Path = RESULTS) -> None:
    """Write the three files of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    try:
        plot(result["rows"], folder / f"{name}.svg")
    except ModuleNotFoundError:
        print("no plots: matplotlib is not installed")
