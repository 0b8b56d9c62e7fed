"""Safety numbers: the same on both sides, different for everybody else."""

import xml.etree.ElementTree as ET

import pytest

from restante.account import account_id
from restante.safety import safety_number

ANN, BEN, EVE = (account_id(bytes([number]) * 32) for number in (1, 2, 3))


def test_both_sides_see_the_same() -> None:
    shown, seen = safety_number(ANN, BEN), safety_number(BEN, ANN)
    assert shown == seen
    assert [len(group) for group in shown.digits.split(" ")] == [5] * 12
    assert shown.digits.replace(" ", "").isdigit()
    assert shown.matches(seen.code)
    assert shown.matches(f"  {seen.digits}\n")


def test_the_digits_never_change_between_versions() -> None:
    assert safety_number(ANN, BEN).digits.startswith("22072 76239 34813 75352")


def test_another_account_shows() -> None:
    shown = safety_number(ANN, BEN)
    for other in (safety_number(ANN, EVE), safety_number(EVE, BEN)):
        assert not shown.matches(other.code)
        assert not shown.matches(other.digits)
    assert not shown.matches("")


def test_only_account_ids_have_one() -> None:
    with pytest.raises(ValueError, match="account id"):
        safety_number(ANN, "somebody")


def test_the_qr_code_is_an_svg_element() -> None:
    assert ET.fromstring(safety_number(ANN, BEN).qr_svg()).tag.endswith("svg")  # noqa: S314 -- our own
