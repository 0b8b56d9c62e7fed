import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante import content
from restante.content import Content

SALT = bytes(range(16))


def made(**changes: object) -> Content:
    fields = {"content_id": SALT, "number": 1, "sent_at": 0, "content_type": content.TEXT, "body": b"hello"} | changes
    return Content(**fields)  # type: ignore[arg-type]  # wrong values are wanted too


_contents = st.builds(
    Content,
    version=st.integers(1, 1000),
    content_id=st.binary(min_size=16, max_size=16),
    number=st.integers(1, 2**63 - 1),
    previous=st.none() | st.binary(min_size=16, max_size=16),
    sent_at=st.integers(0, 253_402_300_799_999),
    in_reply_to=st.none() | st.binary(min_size=16, max_size=16),
    disposition=st.integers(0, 255),
    content_type=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    body=st.binary(),
    extensions=st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.binary()),
)


@given(_contents)
def test_round_trip(value: Content) -> None:
    assert Content.decode(value.encode()) == value


def test_the_version_comes_first_and_what_later_versions_append_is_ignored() -> None:
    array = msgspec.msgpack.decode(made().encode())
    assert array[0] == content.VERSION
    array[0] = 2
    value = Content.decode(msgspec.msgpack.encode([*array, "new", 1]))
    assert (value.version, value.body) == (2, b"hello")


def test_defaults_render_a_text() -> None:
    value = made()
    assert (value.disposition, value.previous, value.in_reply_to, value.extensions) == (content.RENDER, None, None, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"content_id": SALT[:15]},
        {"previous": SALT + b"x"},
        {"in_reply_to": b""},
        {"number": 0},
        {"number": 2**63},
        {"sent_at": -1},
        {"sent_at": 253_402_300_800_000},
        {"disposition": -1},
        {"body": b"\xff"},
    ],
)
def test_values_out_of_range_are_refused_made_and_read(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- some are Python's own
        made(**changes)
    array = msgspec.msgpack.decode(made().encode())
    array[Content.__struct_fields__.index(next(iter(changes)))] = next(iter(changes.values()))
    with pytest.raises(ValueError, match="not a Content"):
        Content.decode(msgspec.msgpack.encode(array))


@given(st.binary())
@example(b"\x91" * 5000)
@example(b"\x9a\x01\xa1\xff")
def test_any_bytes_are_a_content_or_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a Content"):
        Content.decode(data)


def test_no_content_in_a_repr() -> None:
    assert repr(made()) == "<Content>"


def test_message_ids_differ_by_conversation_sender_and_content() -> None:
    ids = {
        content.message_id(b"c" * 16, b"a" * 32, SALT),
        content.message_id(b"d" * 16, b"a" * 32, SALT),
        content.message_id(b"c" * 16, b"b" * 32, SALT),
        content.message_id(b"c" * 16, b"a" * 32, bytes(16)),
    }
    assert len(ids) == 4
    assert {len(text) for text in ids} == {32}
    assert content.message_id(b"c" * 16, b"a" * 32, SALT) in ids
