"""Who gets what."""

from benchmarks.peers.groups import topics
from benchmarks.points import CROWD, Point


def test_everybody_listens_to_one_topic() -> None:
    assert topics(Point(kind="fan-out", recipients=3)) == (["g.0"], ["g.0"] * 3)


def test_a_crowd_in_groups() -> None:
    names, listened = topics(Point(kind="spread", recipients=100))
    assert len(names) == CROWD / 100
    assert len(listened) == CROWD
    assert all(listened.count(name) == 100 for name in names)


def test_a_topic_each() -> None:
    names, listened = topics(Point(kind="one-to-one", recipients=1))
    assert names == listened
    assert len(set(names)) == CROWD
