"""Results as JSON, as Markdown and as a picture, into benchmarks/results/."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.points import MATRIX, ONE_BY_ONE, PER_READ, Point

from benchmarks import goals

RESULTS: Final = Path(__file__).parent / "results"
SATURATED: Final = 0.95  # of a core: then the generator is what was measured

COLUMNS: Final = (
    "job",
    "system",
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
Medians of {count} windows of {window} s. *Per second*: deliveries; of claims, keys. *Server µs*: CPU time of the
server, and of its Redis, per delivery. *Server*, *client*: their shares of one core each; a client above 95 % would be
what was measured. Latencies are from the intended time of the publication to a delivery. The server has the first core,
the generator the last. Machines differ, and others may work on them: compare ratios within one run only.

{cpu}, {cores} cores, kernel {kernel}, Python {python}; {file_system}, fdatasync of 4 KiB {median} ms (p99 {p99} ms);
load average at the start {load_average}; {versions}."""

Row = Mapping[str, Any]


def middle(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every figure."""
    return {name: statistics.median(each[name] for each in figures) for name in figures[0]}


def number(value: float) -> str:
    """Return a number with three digits or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def timed(row: Row) -> bool:
    """Say whether a row has windows."""
    return "deliveries" in row["figures"][0]


def cells(row: Row) -> list[str]:
    """Return a row's cells for COLUMNS."""
    seen = middle(row["figures"])
    client = f"{seen['client_share']:.0%}" + (" (saturated)" if seen["client_share"] > SATURATED else "")
    rate = number(seen["deliveries"])
    rate += " (keys ran out)" if seen["dry"] else ""
    rate += " (some refused)" if seen["failures"] else ""
    latencies = [number(seen[key] / 1000) for key in ("p50", "p99", "p999")]
    shares = [f"{seen['server_share']:.0%}", client]
    words = [row["job"], row["system"], row["level"]]
    return [*words, rate, f"{seen['server_us']:.2f}", *shares, *latencies, number(seen["rss_mib"])]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def notes(run: Mapping[str, Any]) -> str:
    """Return what the figures depend on, in words."""
    machine, settings = run["machine"], run["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    count = settings["windows"] * settings["turns"]
    values = {**machine, **machine["fdatasync_ms"], "versions": versions, "count": count, "window": settings["window"]}
    return NOTES.format(**values)


def _by_job(rows: Mapping[str, Row]) -> list[Row]:
    jobs = list(dict.fromkeys(row["job"] for row in rows.values()))
    return sorted(rows.values(), key=lambda row: jobs.index(row["job"]))


def markdown(title: str, run: Mapping[str, Any]) -> str:
    """Return the report of a run."""
    rows = _by_job(run["rows"])
    parts = [f"# {title}", notes(run)]
    parts.append(table(COLUMNS, [cells(row) for row in rows if timed(row)]))
    others = [
        [row["job"], row["system"], row["level"], f"{name.replace('_', ' ')} {number(value)}"]
        for row in rows
        if not timed(row)
        for name, value in middle(row["figures"]).items()
    ]
    if others:
        parts.append(table((*COLUMNS[:3], "figure"), others))
    checked = goals.check(run["rows"])
    if checked:
        parts += ["## What was asked for", table(("what", "asked", "measured", ""), checked)]
    if run["left_out"]:
        parts.append("\n".join(f"- Left out: {name}: {reason}" for name, reason in run["left_out"].items()))
    return "\n\n".join(parts) + "\n"


def _pictures() -> Any:  # noqa: ANN401 -- a module
    """Return pyplot, drawing the same bytes for the same figures. Raises ModuleNotFoundError."""
    import matplotlib as mpl  # noqa: PLC0415 -- of the group bench

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- the same

    mpl.rcParams["svg.hashsalt"] = "restante"
    return plt


def _colours(rows: Mapping[str, Row]) -> dict[str, str]:
    return {name: f"C{number}" for number, name in enumerate(dict.fromkeys(row["system"] for row in rows.values()))}


def _save(plt: Any, figure: Any, place: Path) -> None:  # noqa: ANN401 -- of a module without types
    figure.savefig(place, metadata={"Date": None})
    plt.close(figure)


def plot(rows: Mapping[str, Row], place: Path) -> None:
    """Draw throughput and cost of every row that has windows."""
    plt = _pictures()
    shown = [row for row in reversed(_by_job(rows)) if timed(row)]
    names = [f"{row['job']}: {row['system']}" for row in shown]
    colours = _colours(rows)
    figure, axes = plt.subplots(1, 2, figsize=(14, 1 + 0.22 * len(shown)), sharey=True, layout="tight")
    for axis, key, title in zip(axes, ("deliveries", "server_us"), ("per second", "server µs each"), strict=True):
        values = [middle(row["figures"])[key] for row in shown]
        axis.barh(names, values, color=[colours[row["system"]] for row in shown])
        axis.set_xscale("log")
        axis.set_title(title)
        axis.grid(visible=True, axis="x", alpha=0.3)
        axis.tick_params(axis="y", labelsize=7)
    _save(plt, figure, place)


def latencies(rows: Mapping[str, Row]) -> list[Row]:
    """Return the rows whose latencies are compared: those of an open loop, or all if there are none."""
    shown = [row for row in _by_job(rows) if timed(row)]
    return [row for row in shown if "open loop" in row["job"]] or shown


def plot_latencies(rows: Mapping[str, Row], place: Path) -> None:
    """Draw median, 99th and 99.9th percentile of each system, in milliseconds."""
    plt = _pictures()
    shown = list(reversed(latencies(rows)))
    seen = [middle(row["figures"]) for row in shown]
    colours = [_colours(rows)[row["system"]] for row in shown]
    names = [f"{row['job']}: {row['system']}" for row in shown]
    figure, axis = plt.subplots(figsize=(12, 1.5 + 0.25 * len(shown)), layout="tight")
    axis.hlines(names, [each["p50"] / 1000 for each in seen], [each["p999"] / 1000 for each in seen], colors=colours)
    for key, title, marker in (("p50", "p50", "o"), ("p99", "p99", "D"), ("p999", "p99.9", "|")):
        values = [each[key] / 1000 for each in seen]
        axis.scatter(values, names, c=colours, marker=marker, s=60, label=title, zorder=3)
    axis.set_xscale("log")
    axis.set_title("ms from the intended publication to a delivery")
    axis.grid(visible=True, axis="x", alpha=0.3)
    axis.tick_params(axis="y", labelsize=8)
    axis.legend()
    _save(plt, figure, place)


def plot_matrix(rows: Mapping[str, Row], place: Path) -> None:
    """Draw the main job over its recipients: a panel for each size and depth, a line for each system and ack style."""
    plt = _pictures()
    points = [point for point in MATRIX if point.name in rows and point.ack != PER_READ]
    sizes, depths = (sorted({getattr(point, name) for point in points}) for name in ("size", "inflight"))
    colours = _colours(rows)
    figure, axes = plt.subplots(
        len(sizes), len(depths), figsize=(12, 11), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (size, depth) in zip(axes.flat, itertools.product(sizes, depths), strict=True):
        lines: dict[tuple[str, str], list[Point]] = {}
        for point in points:
            if (point.size, point.inflight) == (size, depth):
                lines.setdefault((point.system, point.ack_style), []).append(point)
        for (system, ack_style), members in lines.items():
            axis.plot(
                [point.recipients for point in members],
                [middle(rows[point.name]["figures"])["deliveries"] for point in members],
                color=colours[system],
                linestyle="-" if members[0].ack == ONE_BY_ONE else "--",
                marker=".",
                label=f"{system}, {ack_style}",
            )
        axis.set(title=f"{size:,} B, W={depth}", xscale="log", yscale="log")
        axis.grid(visible=True, alpha=0.3)
    figure.supxlabel("N, recipients of a publication")
    figure.supylabel("deliveries per second")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    _save(plt, figure, place)


def write(name: str, text: str, run: Mapping[str, Any], folder: Path = RESULTS) -> None:
    """Write the files of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(run, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    if not any(timed(row) for row in run["rows"].values()):
        return
    try:
        draw = plot_matrix if name == "full" else plot
        draw(run["rows"], folder / f"{name}.svg")
        plot_latencies(run["rows"], folder / f"{name}-latency.svg")
    except ModuleNotFoundError:
        print("no picture: matplotlib is not installed")
