import io
import json
import logging

import pytest
import structlog

from restante_server import logs

IDENTIFIER = bytes(range(24)).hex()


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream)
    return stream


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_only_listed_fields_with_plain_values_are_kept(stream: io.StringIO) -> None:
    structlog.get_logger().info(
        "said", frame=3, reason="signal", kind=b"bytes", error="192.168.1.7", mailbox="named", peer=1
    )
    (line,) = _lines(stream)
    assert {key: line[key] for key in line if key != "timestamp"} == {
        "event": "said",
        "level": "info",
        "frame": 3,
        "reason": "signal",
        "kind": "bytes",
        "error": "str",
    }


def test_other_packages_lose_their_arguments(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").error("bad request from %s", "192.168.1.7")
    logging.getLogger("aiohttp.server").error(f"already formatted {IDENTIFIER}")  # noqa: G004 -- what is tested
    first, second = _lines(stream)
    assert (first["event"], first["kind"]) == ("bad request from %s", "aiohttp.server")
    assert second["event"] == "message withheld"
    assert "192" not in stream.getvalue()
    assert IDENTIFIER not in stream.getvalue()


def test_exceptions_are_named_and_placed_but_not_quoted(stream: io.StringIO) -> None:
    try:
        int(IDENTIFIER + "g")
    except ValueError:
        logging.getLogger("asyncio").exception("task %s failed", IDENTIFIER)
    (line,) = _lines(stream)
    assert line["error"] == "ValueError"
    assert str(line["where"]).startswith("test_exceptions_are_named_and_placed_but_not_quoted:")
    assert IDENTIFIER not in stream.getvalue()


def test_details_are_not_logged(stream: io.StringIO) -> None:
    structlog.get_logger().debug("detail")
    logging.getLogger("aiohttp").info("detail %s", 1)
    assert stream.getvalue() == ""
