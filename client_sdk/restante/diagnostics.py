"""Diagnostics: how one randomised answer (``engine.usage``) leaves. PROTOCOL.md section 6.17.

A report goes over a connection of its own, with nothing in it but the relay's name, one measure and one class: no
cookie, no header that tells clients apart, no id, no key. Whether the relay takes any is asked the same way.
"""

from typing import Final

import aiohttp
import msgspec

from restante.links import open_session
from restante.packed import read_json
from restante_protocol.diagnostics import Measure

PATH: Final = "/v1/diagnostics"
_PATIENCE: Final = aiohttp.ClientTimeout(total=30)  # seconds
_MAX_ANSWER: Final = 16 * 1024  # bytes
_SILENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # headers that tell clients apart


class _Shown(msgspec.Struct, frozen=True):
    open: bool


async def send(url: str, measure: Measure, number: int) -> bool:
    """Ask whether reports are taken, and send one; say whether it was taken. Each on a connection of its own."""
    base = url.rstrip("/") + PATH
    try:
        async with _connection() as session, session.get(base) as answer:
            shown = read_json(await answer.content.read(_MAX_ANSWER), _Shown)
        if not shown.open:
            return False
        async with _connection() as session, session.post(f"{base}/{measure}/{number}") as taken:
            return taken.status == 204  # noqa: PLR2004 -- the status that says so
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False


def _connection() -> aiohttp.ClientSession:
    return open_session(skip_auto_headers=_SILENT, timeout=_PATIENCE)
