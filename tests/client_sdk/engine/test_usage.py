from restante.engine.usage import Counts, added, begun, report
from restante_protocol.diagnostics import MAX_DELAY, PERIOD, Measure

NOW = 1_800_000_000


def chosen(measure: Measure) -> int:
    """What picks this measure."""
    return (2 * list(Measure).index(measure) + 1) * 2**63 // len(Measure)


def told(measure: Measure, counts: Counts, days: int) -> int:
    """The class that is told by a client that tells the truth this time."""
    usage = begun(NOW, bytes)
    for day in range(days):
        usage = added(usage, Counts(), NOW + day * 86_400)
    random = iter((chosen(measure).to_bytes(8, "big"), bytes(16)))
    found, number = report(added(usage, counts, NOW), "store", lambda _size: next(random))
    assert found is measure
    return number


def test_the_true_classes() -> None:
    counts = Counts(failures=3)
    for seconds in (0.05, 0.2, 0.25, 2.0):
        counts.accepted(seconds)
    assert told(Measure.USE, counts, 1) == 0
    assert told(Measure.USE, counts, 5) == 2
    assert told(Measure.USE, counts, 30) == 2, "the last day counts for all that come late"
    assert told(Measure.FAILURES, counts, 1) == 1
    assert told(Measure.MESSAGES, counts, 1) == 1
    assert told(Measure.SPEED, counts, 1) == 1, "most of them"
    assert told(Measure.CHANNEL, counts, 1) == 1


def test_a_period_is_reported_at_some_time_after_its_end() -> None:
    assert begun(NOW, bytes).due == NOW + PERIOD
    assert NOW + PERIOD < begun(NOW, lambda size: b"\xff" * size).due < NOW + PERIOD + MAX_DELAY
