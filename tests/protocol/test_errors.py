import pytest

from restante_protocol.errors import FATAL_CODES, Code, LocalError, ProtocolError, RemoteError


def test_fatal_codes_are_those_that_end_a_connection() -> None:
    assert {code.name for code in FATAL_CODES} == {
        "MALFORMED",
        "UNEXPECTED",
        "VERSION",
        "TOO_LARGE",
        "TIMEOUT",
        "OVERLOADED",
        "GOING_AWAY",
        "REPLACED",
    }


@pytest.mark.parametrize("kind", [LocalError, RemoteError])
def test_an_error_says_code_and_detail(kind: type[ProtocolError]) -> None:
    error = kind(Code.TOO_LARGE, "frame")
    assert (error.code, error.detail, str(error)) == (Code.TOO_LARGE, "frame", "too_large: frame")
    assert str(kind(Code.STALE)) == "stale"


def test_ours_and_the_peers_are_apart() -> None:
    assert not issubclass(LocalError, RemoteError)
    assert not issubclass(RemoteError, LocalError)
