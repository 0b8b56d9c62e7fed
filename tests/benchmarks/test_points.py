"""What is measured."""

import itertools

from benchmarks.points import CLUSTER, COMPARED, FULL, PEERS, POPS, RELAYS, SHORT, STORES, TWO_WORKERS, Point, of


def test_the_short_list_is_short_and_has_every_kind_and_store() -> None:
    assert len(SHORT) <= 40
    kinds = {"fan-out", "spread", "one-to-one", "claims", "idle", "waiting", "storm", "drain"}
    assert {point.kind for point in SHORT} == kinds
    assert {point.system for point in SHORT} == {*STORES, CLUSTER, TWO_WORKERS}
    assert {point.system for point in FULL} == set(RELAYS)


def test_the_level_of_a_cluster_is_in_the_matrix() -> None:
    of_cluster = {point.job for point in FULL if point.system == CLUSTER}
    assert of_cluster == {point.job for point in FULL if point.system == "sqlite"}


def test_names_tell_points_apart() -> None:
    for points in (SHORT, FULL, COMPARED):
        assert len({point.name for point in points}) == len(points)


def test_the_same_job_has_the_same_name_on_every_system() -> None:
    assert len({point.job for point in of((*STORES, *PEERS), [Point(kind="spread", inflight=8)])}) == 1
    jobs = {point.job for point in COMPARED if point.system == "JetStream"}
    assert jobs <= {point.job for point in COMPARED if point.system == "sqlite"}


def test_neighbours_share_a_server() -> None:
    for points in (SHORT, FULL, COMPARED):
        starts = [second.place for first, second in itertools.pairwise(points) if first.place != second.place]
        assert len(starts) < len(points) * 0.75


def test_claims_of_peers_are_named_as_they_are_made() -> None:
    assert "8 clients of depth 8" in Point(kind="claims", inflight=8, keys=5).job
    assert "64 in flight" in POPS.job
