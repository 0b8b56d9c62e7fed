"""Who gets what in the jobs that all systems do: topics, and the topic of each receiver."""

from benchmarks.points import CROWD, Point


def topics(point: Point) -> tuple[list[str], list[str]]:
    """Return the topics that are published to in turn, and for each receiver the one it listens to.

    ``fan-out``: one topic. ``spread``: every publication to other recipients of a crowd. ``one-to-one``: a topic each.
    """
    if point.kind == "one-to-one":
        each = [f"g.{number}" for number in range(CROWD)]
        return each, each
    count = max(CROWD, point.recipients) // point.recipients if point.kind == "spread" else 1
    names = [f"g.{number}" for number in range(count)]
    return names, [name for name in names for _ in range(point.recipients)]
