"""Results on paper."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.points import MATRIX

from benchmarks import report

WINDOW = {
    "seconds": 1.0,
    "deliveries": 1000.0,
    "publications": 10.0,
    "server_us": 5.0,
    "server_share": 0.9,
    "client_share": 0.1,
    "failures": 0,
    "dry": 0,
    "p50": 1000.0,
    "p99": 2000.0,
    "p999": 3000.0,
    "rss_mib": 80.0,
}


def row(job: str, system: str, **changes: float) -> dict[str, Any]:
    figures = [{**WINDOW, **changes, "deliveries": each} for each in (500.0, 1000.0, 9000.0)]
    return {"job": job, "system": system, "level": "power", "turns": 1, "figures": figures}


def run(*rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": {"window": 1.0, "windows": 3, "turns": 1},
        "machine": {
            "cpu": "a cpu",
            "cores": 2,
            "kernel": "6",
            "python": "3.11",
            "file_system": "ext4",
            "fdatasync_ms": {"median": 0.2, "p99": 1.0},
            "load_average": 0.1,
            "versions": {"uvloop": "1"},
        },
        "rows": {f"{each['system']}: {each['job']}": each for each in rows},
        "left_out": {"a peer": "it cannot be installed"},
    }


def test_a_table_has_medians() -> None:
    text = report.markdown("A title", run(row("a job", "sqlite")))
    assert "| a job | sqlite | power | 1,000 | 5.00 | 90% | 10% | 1 | 2 | 3 | 80 |" in text
    assert "fdatasync of 4 KiB 0.2 ms" in text
    assert "Left out: a peer: it cannot be installed" in text


def test_rows_of_one_job_stand_together() -> None:
    text = report.markdown("A title", run(row("a", "x"), row("b", "x"), row("a", "y"), row("b", "y")))
    assert [line[:9] for line in text.splitlines() if line[:3] in {"| a", "| b"}] == [
        "| a | x |",
        "| a | y |",
        "| b | x |",
        "| b | y |",
    ]


def test_a_figure_says_when_it_is_of_something_else() -> None:
    text = report.markdown("A title", run(row("a", "x", client_share=0.97), row("a", "y", dry=3, failures=2)))
    assert "97% (saturated)" in text
    assert "(keys ran out) (some refused)" in text


def test_rows_without_windows_have_a_line_for_each_figure() -> None:
    idle = {"job": "idle", "system": "x", "level": "power", "figures": [{"kib_per_connection": 5.0}]}
    assert "| idle | x | power | kib per connection 5 |" in report.markdown("A title", run(row("a", "x"), idle))


def test_files(tmp_path: Path) -> None:
    result = run(row("a", "x"))
    report.write("some", "text", result, tmp_path)
    assert json.loads((tmp_path / "some.json").read_text()) == result
    assert (tmp_path / "some.md").read_text() == "text"


def test_latencies_are_those_of_the_open_loop_where_there_is_one() -> None:
    closed, opened = row("a", "x"), row("a, open loop at 50%", "x")
    idle = {"job": "idle", "system": "x", "level": "power", "figures": [{"kib_per_connection": 5.0}]}
    assert report.latencies(run(closed, opened, idle)["rows"]) == [opened]
    assert report.latencies(run(closed, idle)["rows"]) == [closed]


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: it comes with make bench")
    result = run(row("a", "x"), row("a, open loop at 50%", "x"), row("a, open loop at 50%", "y", p999=9000.0))
    for _ in range(2):
        report.write("some", "text", result, tmp_path)
        first, second = ((tmp_path / name).read_text() for name in ("some.svg", "some-latency.svg"))
        (tmp_path / "some.svg").rename(tmp_path / "old.svg")
    assert (tmp_path / "old.svg").read_text() == first, "the same figures make the same picture"
    assert "p99.9" in second
    assert "a, open loop at 50%: y" in second


def test_the_picture_of_the_matrix_has_a_panel_for_each_size_and_depth(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: it comes with make bench")
    points = [point for point in MATRIX if point.recipients <= 10]
    report.write("full", "text", run(*(row(point.job, point.system) for point in points)), tmp_path)
    picture = (tmp_path / "full.svg").read_text()
    for words in ("256 B, W=1", "16,384 B, W=64", "sqlite, ack each", "redis cluster, failover, ack every 16"):
        assert f"<!-- {words} -->" in picture
