import msgspec
import pytest

from restante.packed import read_json


class _Value(msgspec.Struct, frozen=True):
    number: int


def test_json_is_read() -> None:
    assert read_json(b'{"number":1,"later":[]}', _Value) == _Value(1)


@pytest.mark.parametrize("depth", [5_000, 30_000])
@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"number":"1"}'])
def test_whatever_the_bytes_it_is_a_value_error(data: bytes, depth: int) -> None:
    for each in (data, b'{"number":1,"later":' + b"[" * depth):
        with pytest.raises(ValueError, match=r".+"):
            read_json(each, _Value)
