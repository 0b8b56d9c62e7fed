import pytest
from hypothesis import given

from restante_protocol import ids
from support import wire


@given(wire.identifiers)
def test_an_id_carries_its_bucket(identifier: bytes) -> None:
    assert ids.is_id(identifier)
    assert ids.bucket_of(identifier) == identifier[0] < ids.BUCKETS


@pytest.mark.parametrize("wrong", [b"", b"\x01" * 23, b"\x01" * 25, b"\xf0" * 24, b"\xff" * 24], ids=len)
def test_other_lengths_and_buckets_are_no_ids(wrong: bytes) -> None:
    assert not ids.is_id(wrong)


@given(wire.fences)
def test_a_fence_has_a_bucket_too(fence: bytes) -> None:
    assert ids.bucket_of(fence) == fence[0] % 240


def test_any_bucket_may_be_drawn() -> None:
    assert [ids.bucket_from(number.to_bytes(ids.BUCKET_ENTROPY_BYTES, "big")) for number in range(480)] == [
        *range(240),
        *range(240),
    ]


def test_common_numbers_of_store_buckets_divide_the_buckets() -> None:
    assert all(ids.BUCKETS % count == 0 for count in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 48))
