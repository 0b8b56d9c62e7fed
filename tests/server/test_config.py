from pathlib import Path

import pytest

from restante_server.config import SettingError, parse_blobs, parse_listen, parse_official, parse_several, parse_store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8787", ("127.0.0.1", 8787)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        (":80", ("0.0.0.0", 80)),  # noqa: S104 -- what an empty host means
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "8787", "host", "host:", "host:port", "host:65536", "host:-1", "host:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SettingError, match="HOST:PORT"):
        parse_listen(text)


def test_stores() -> None:
    assert parse_store("sqlite:some/relay.db") == Path("some/relay.db")


@pytest.mark.parametrize("text", ["", "relay.db", "sqlite:", "redis://localhost"])
def test_what_is_no_store(text: str) -> None:
    with pytest.raises(SettingError, match="sqlite:PATH"):
        parse_store(text)


@pytest.mark.parametrize(("text", "place"), [("", None), ("a/b", Path("a/b")), ("s3://bucket/a", "s3://bucket/a")])
def test_places_for_blobs(text: str, place: object) -> None:
    assert parse_blobs(text) == place


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ()),
        (" ", ()),
        ("sms=Example Telephony;Iceland;agreement", ("sms=Example Telephony;Iceland;agreement",)),
        ('["one of several", "another [one]"]', ("one of several", "another [one]")),
        (" [ ]\n", ()),
    ],
)
def test_several_values_in_one_variable(text: str, values: tuple[str, ...]) -> None:
    assert parse_several(text) == values


@pytest.mark.parametrize("text", ["[", "[1]", '["one", null]', '["one"', '["one"] two'])
def test_what_is_no_array_of_values(text: str) -> None:
    with pytest.raises(SettingError, match="JSON array"):
        parse_several(text)


@pytest.mark.parametrize("text", ["s3://", "gs://bucket/prefix", "file:///a"])
def test_what_is_no_place_for_blobs(text: str) -> None:
    with pytest.raises(SettingError, match="FOLDER"):
        parse_blobs(text)


@pytest.mark.parametrize(
    "text", ["", "Support", "=restante:AA", "Support=https://x", "x" * 65 + "=restante:AA", "S=restante:"]
)
def test_what_is_no_official_invite(text: str) -> None:
    with pytest.raises(SettingError, match="NAME=restante:"):
        parse_official(text)
    assert parse_official("Support=restante:AA-_") == {"name": "Support", "invite": "restante:AA-_"}
