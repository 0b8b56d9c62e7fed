"""The relay's log: one JSON object a line on stderr, and nothing in it that names a user, a peer or a message.

What may be logged is listed, not what may not: the fields that the inventory declares, if they are numbers, truths or
short words. Other packages' records (aiohttp's, asyncio's) lose their arguments, which may hold addresses or
data: what stays is the template, the exception's type and where in the code it was raised.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

from restante_server import inventory

FIELDS: Final = inventory.names(inventory.Kind.LOG)
_LONGEST_WORD: Final = 40  # characters of a word; every id is longer when written out
_MARKS: Final = frozenset("_- .:/()<>")  # besides letters, in a word


def _is_word(value: str) -> bool:
    return len(value) <= _LONGEST_WORD and all(sign.isalpha() or sign in _MARKS for sign in value)


def scrub(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the event's text and the listed fields; whatever else is in one is replaced by its type."""
    kept: dict[str, Any] = {"event": event.get("event", "")}
    for key in FIELDS & event.keys() - {"event"}:
        value = event[key]
        plain = isinstance(value, bool | int | float) or (isinstance(value, str) and _is_word(value))
        kept[key] = value if plain or key == "where" else type(value).__name__
    return kept


class Foreign(logging.Handler):
    """Passes other packages' records on, without their arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the template, and of an exception its type and places."""
        fields: dict[str, Any] = {}
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            fields["error"] = kind.__name__
            places = traceback.extract_tb(trace)
            fields["where"] = " < ".join(f"{place.name}:{place.lineno}" for place in reversed(places))
        text = record.msg if isinstance(record.msg, str) and record.args else "message withheld"
        structlog.get_logger().log(record.levelno, text, kind=record.name, **fields)


def configure(stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to the stream (stderr), scrubbed."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            scrub,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,  # a log line is rare, and may be sent elsewhere later
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[Foreign()], level=logging.WARNING, force=True)
