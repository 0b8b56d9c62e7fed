from collections import Counter
from math import exp
from random import Random

import pytest

from restante_protocol.diagnostics import CLASSES, EPSILON, Measure, class_of, estimated, randomised

REPORTS = 40_000


def share(drawn: float) -> bytes:
    return int(drawn * 2**64).to_bytes(8, "big")


@pytest.mark.parametrize("classes", sorted(set(CLASSES.values())))
def test_no_true_class_is_more_than_e_to_the_epsilon_as_likely(classes: int) -> None:
    truth = exp(EPSILON) / (exp(EPSILON) + classes - 1)
    below, above = share(truth - 1e-9), share(truth + 1e-9)
    for true in range(classes):
        assert randomised(true, classes, below + bytes(8)) == true
        lies = [randomised(true, classes, above + share((n + 0.5) / (classes - 1))) for n in range(classes - 1)]
        assert sorted([*lies, true]) == list(range(classes)), "every other class, each as often"
    assert truth / ((1 - truth) / (classes - 1)) == pytest.approx(exp(EPSILON))


def test_the_sums_of_many_are_right() -> None:
    random, truth = Random(1), [0.6, 0.3, 0.1, 0.0]
    counts: Counter[int] = Counter()
    for number in range(REPORTS):
        true = sum(number / REPORTS >= bound for bound in (0.6, 0.9))
        counts[randomised(true, 4, random.randbytes(16))] += 1
    for found, expected in zip(estimated([counts[n] for n in range(4)]), truth, strict=True):
        assert found / REPORTS == pytest.approx(expected, abs=0.03)
    assert sum(estimated([5, 1, 2])) == pytest.approx(8)


def test_classes() -> None:
    assert [class_of(value, (2, 5)) for value in (0, 1, 2, 4, 5, 7)] == [0, 0, 1, 1, 2, 2]
    assert set(CLASSES) == set(Measure)
