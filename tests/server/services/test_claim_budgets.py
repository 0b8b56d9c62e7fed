import pytest

from restante_protocol.limits import ADDRESS_CLAIM_SECONDS, ADDRESS_CLAIMS
from restante_server.services import claim_budgets
from restante_server.services.claim_budgets import ClaimBudgets
from support.stores import START, address

STEP = ADDRESS_CLAIM_SECONDS * 1000
A, B = address(1), address(2)


def test_an_address_gives_so_many_at_once_then_one_at_a_time() -> None:
    budgets = ClaimBudgets()
    assert budgets.take([A] * (ADDRESS_CLAIMS + 2), START) == [ADDRESS_CLAIMS, ADDRESS_CLAIMS + 1]
    assert budgets.take([A, B], START + STEP - 1) == [0]
    assert budgets.take([A, A], START + STEP) == [1]
    assert budgets.take([A], START + STEP) == [0]
    assert budgets.take([A] * (ADDRESS_CLAIMS + 1), START + 100 * STEP) == [ADDRESS_CLAIMS]


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    budgets = ClaimBudgets()
    assert budgets.take([A] * 5, START) == []
    assert budgets.take([A], START - STEP) == []


def test_its_owner_is_told_once_until_it_is_full_again() -> None:
    budgets = ClaimBudgets()
    budgets.take([A] * ADDRESS_CLAIMS, START)
    assert budgets.news([A, A]) == {A}
    assert budgets.news([A]) == set()
    budgets.take([A], START + STEP)
    assert budgets.news([A]) == set()
    budgets.take([A], START + 100 * STEP)
    assert budgets.news([A]) == {A}


def test_an_unknown_address_takes_no_room() -> None:
    budgets = ClaimBudgets()
    budgets.take([A] * ADDRESS_CLAIMS, START)
    budgets.news([A])
    budgets.forget(A)
    assert (budgets._full_at, budgets._told) == ({}, set())


def test_what_is_full_is_forgotten() -> None:
    budgets = ClaimBudgets()
    budgets.take([A, B, B], START)
    budgets.trim(START + STEP)
    assert list(budgets._full_at) == [B]


def test_there_is_an_end_to_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_budgets, "CLAIM_BUDGETS", 10)
    budgets = ClaimBudgets()
    budgets.take([address(number) for number in range(11)], START)
    assert list(budgets._full_at) == [address(number) for number in range(6, 11)]
