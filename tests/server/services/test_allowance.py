from restante_server.services.allowance import Allowance, Rate


def test_allowance_is_taken_and_given_back() -> None:
    allowance = Allowance(10)
    assert allowance.take(7)
    assert not allowance.take(4)
    assert allowance.take(3)
    allowance.give_back(4)
    assert allowance.used == 6
    assert allowance.take(4)


def test_rate_fills_again() -> None:
    rate = Rate(2, per_second=1)
    assert [rate.take(1000), rate.take(1000), rate.take(1000)] == [True, True, False]
    assert not rate.take(1999)
    assert rate.take(2001)


def test_rate_is_never_above_its_size() -> None:
    rate = Rate(2, per_second=1)
    assert [rate.take(10**9) for _ in range(3)] == [True, True, False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rate = Rate(1, per_second=1)
    assert rate.take(5000)
    assert not rate.take(1000)
