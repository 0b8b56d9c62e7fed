"""Redis as a peer: the generator's protocol against the real server."""

from pathlib import Path

from benchmarks.peers.pubsub import redis_alone
from benchmarks.points import PUBSUB, Point

from benchmarks import rows


def test_publish_and_subscribe(generator: Path, tmp_path: Path) -> None:
    point = Point(kind="fan-out", system=PUBSUB, recipients=3, inflight=2)
    with redis_alone(tmp_path / "redis", fsync="no") as here:
        (figures,) = rows.measure(generator, here, point, window=0.05, windows=1)
        with here.idle(5):
            pass
    assert figures["deliveries"] > 0


def test_claims_from_a_list(generator: Path, tmp_path: Path) -> None:
    point = Point(kind="claims", system=PUBSUB, size=20, inflight=2, keys=5)
    with redis_alone(tmp_path / "redis", fsync="everysec") as here:
        (figures,) = rows.measure(generator, here, point, window=0.05, windows=1)
    assert figures["deliveries"] > 0
    assert figures["dry"] == 0


def test_every_server_begins_empty(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("damaged")
    with redis_alone(tmp_path, fsync="everysec") as here, here.idle(1):
        assert here.pids
    assert not tmp_path.exists()
