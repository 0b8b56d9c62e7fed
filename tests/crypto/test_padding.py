"""Padding: size classes, and that nothing else unpads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_crypto import padding


@given(st.binary(max_size=5000))
def test_round_trip(data: bytes) -> None:
    padded = padding.pad(data)
    assert padding.unpad(padded) == data
    assert len(padded) == padding.padded_length(len(data) + 1)


@given(st.integers(1, 2**21))
def test_padding_costs_at_most_an_eighth(length: int) -> None:
    padded = padding.padded_length(length)
    assert padded >= length
    assert padded <= max(padding.MINIMUM, length * 1.13)


def test_few_lengths_remain_visible() -> None:
    assert len({padding.padded_length(length) for length in range(65_536)}) < 130


@pytest.mark.parametrize("wrong", [b"", bytes(10), b"text", b"\x80\x01"])
def test_what_is_not_padded(wrong: bytes) -> None:
    with pytest.raises(padding.PaddingError):
        padding.unpad(wrong)
