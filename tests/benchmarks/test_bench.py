"""The whole command, on one small point and on the kinds that are not windows."""

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.points import CLUSTER, WORKERS, Point
from benchmarks.relays import relay_system

from benchmarks import rows

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.usefixtures("generator")
def test_one_point(tmp_path: Path) -> None:
    arguments = ["bench", "--only", "sqlite: fan-out, N=100 W=8, 256 B, ack each", "--window", "0.05"]
    done = subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-m", "benchmarks.bench", *arguments, "--work", tmp_path, "--results", tmp_path / "results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "| fan-out, N=100 W=8, 256 B, ack each | sqlite | power |" in done.stdout
    assert "0/1" in done.stderr
    assert not (tmp_path / "results").exists()  # a part is no result


KINDS = (
    Point(kind="idle", count=20),
    Point(kind="waiting", count=200),
    Point(kind="waiting", count=200, varied=True),
    Point(kind="storm", count=50),
    Point(kind="drain", count=20),
)


@pytest.mark.parametrize("point", KINDS, ids=lambda point: point.job)
def test_kinds_without_windows(generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: Point) -> None:
    monkeypatch.setattr("benchmarks.rows.CROWD", 120)
    with relay_system(tmp_path / "store", "sqlite") as here:
        (figures,) = rows.measure(generator, here, point, window=0.05, windows=1)
    assert figures
    assert all(value >= 0 or name in {"kib_per_connection", "bytes_per_entry"} for name, value in figures.items())
    assert not figures.get("failures")


@pytest.mark.parametrize("system", [CLUSTER, *list(WORKERS)[1:2]])
def test_several_relays(generator: Path, tmp_path: Path, system: str) -> None:
    """Recipients are at both relays of the cluster, and the processes of all servers are counted."""
    with relay_system(tmp_path / "store", system) as here:
        (figures,) = rows.measure(generator, here, Point(kind="fan-out", recipients=4), window=0.05, windows=1)
        assert here.level == ("failover" if system == CLUSTER else "process")
        assert len(here.pids) == (8 if system == CLUSTER else 3)
        (storm,) = rows.measure(generator, here, Point(kind="storm", count=20), window=0.05, windows=1)
    assert figures["deliveries"] > 0
    assert figures["failures"] == storm["failures"] == 0


@pytest.mark.parametrize("kind", ["spread", "one-to-one"])
def test_crowds_on_redis(generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("benchmarks.relays.CROWD", 6)
    recipients = 3 if kind == "spread" else 1
    point = Point(kind=kind, system="redis everysec", recipients=recipients, inflight=2)  # type: ignore[arg-type]
    with relay_system(tmp_path / "store", "redis everysec") as here:
        (figures,) = rows.measure(generator, here, point, window=0.05, windows=1)
        assert here.level == "process"
        assert len(here.pids) == 2
    assert figures["deliveries"] > 0
    assert figures["failures"] == 0
