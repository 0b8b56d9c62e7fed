"""PROTOCOL.md against the code: every number, field, code, limit and vector that it prints."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import restante_protocol
from restante_protocol import frames, limits
from restante_protocol.connection import ALLOWED, ANSWERS, State
from restante_protocol.errors import FATAL_CODES, Code

DOCUMENT = (Path(restante_protocol.__file__).parents[1] / "PROTOCOL.md").read_text(encoding="utf-8")

FRAMES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (*get_args(frames.ClientFrame), *get_args(frames.RelayFrame))
}
ARRAYS = (
    frames.PoolState,
    frames.AddressSpec,
    frames.ClaimedPrekey,
    frames.PoolCount,
    frames.Held,
    frames.Consent,
    frames.DirectoryRecord,
)


def section(number: str) -> str:
    """Return the text below the heading of this number, up to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(number)}[. ].*?$(.*?)(?=^#{{2,3}} |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert match is not None, number
    return match[2]


def whole(number: int) -> str:
    """Return a section with its subsections."""
    match = re.search(rf"^## {number}\. .*?$(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables' rows, headings and rulers included."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def fields(cell: str) -> list[tuple[str, str]]:
    """Return pairs (name, type) of a cell such as "`request`: u32, `code`: u32"."""
    return [(name, kind.rstrip(", ")) for name, kind in re.findall(r"`(\w+)`: (.*?)(?=, `\w+`:|$)", cell)]


def shape(kind: object) -> str:
    """Return a type as the document writes it, without lengths and sizes of numbers."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"`{kind.__name__}`"
    names: dict[object, str] = {bytes: "bytes", int: "int", str: "str", bool: "bool", type(None): "nil"}
    if kind in names:
        return names[kind]
    arguments = [shape(each) for each in get_args(kind)]
    origin = getattr(kind, "__origin__", None)
    if origin is list or origin is tuple:
        return f"[{', '.join(arguments)}]"
    return " or ".join(arguments)


def test_every_frame_is_printed_with_its_number_and_fields() -> None:
    printed = {}
    for row in rows(whole(5)):
        if row[0].isdigit():
            printed[row[1].strip("`")] = (int(row[0]), fields(row[2]))
    assert printed.keys() == FRAMES.keys()
    for name, kind in FRAMES.items():
        number, told = printed[name]
        assert number == kind.__struct_config__.tag
        assert [each for each, _ in told] == list(kind.__struct_fields__)


def test_every_field_is_printed_with_its_type() -> None:
    printed = {}
    for row in rows(whole(5)):
        name, cell = row[1:3] if row[0].isdigit() else row[:2]
        printed[name.strip("`")] = fields(cell)
    kinds: list[Any] = [*FRAMES.values(), *ARRAYS]
    for kind in kinds:
        for field, (name, text) in zip(msgspec.structs.fields(kind), printed[kind.__name__], strict=True):
            plain = re.sub(r"(bytes) (?:\d+ or empty|\d+)", r"\1", re.sub(r"\bu(16|32|64)\b", "int", text))
            assert (name, plain) == (field.name, shape(field.type)), kind


def test_every_request_is_printed_with_its_answer() -> None:
    for number in ("5.1", "5.2", "5.3"):
        for row in rows(section(number)):
            if row[0].isdigit():
                kind = FRAMES[row[1].strip("`")]
                answer = ANSWERS.get(kind, frames.Welcome if kind is frames.Hello else None)
                assert row[3] == (answer.__name__ if answer else "none")


def test_the_sections_of_the_frames_are_the_roles() -> None:
    def printed(number: str) -> set[type]:
        return {FRAMES[row[1].strip("`")] for row in rows(section(number)) if row[0].isdigit()}

    assert printed("5.1") == ALLOWED[State.EXPECT_HELLO]
    assert printed("5.2") == ALLOWED[State.SENDER]
    assert printed("5.3") == ALLOWED[State.RECEIVER] | ALLOWED[State.PROVED] | ALLOWED[State.SUBSCRIBED]
    assert printed("5.4") == set(get_args(frames.RelayFrame))


def test_every_code_is_printed() -> None:
    printed = {row[1].strip("`"): int(row[0]) for row in rows(whole(7)) if row[0].isdigit()}
    assert printed == {code.name: code.value for code in Code}
    assert "Codes 1 to 8 come with request 0 only" in DOCUMENT
    assert {int(code) for code in FATAL_CODES} == set(range(1, 9))


def test_every_limit_is_printed() -> None:
    printed = {row[0].strip("`"): int(row[1]) for row in rows(whole(8)) if re.fullmatch(r"`[A-Z_]+`", row[0])}
    assert printed == {name: value for name, value in vars(limits).items() if name.isupper()}


def test_every_limit_that_the_text_names_exists() -> None:
    names = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", DOCUMENT))
    known = vars(limits).keys() | Code.__members__.keys()
    assert names <= known


@pytest.mark.parametrize("number", re.findall(r"section (\d+(?:\.\d+)?)", DOCUMENT))
def test_sections_that_are_named_exist(number: str) -> None:
    assert re.search(rf"^#+ {re.escape(number)}[. ]", DOCUMENT, re.MULTILINE)
