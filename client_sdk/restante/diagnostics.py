"""Diagnostics: how one randomised answer (``engine.usage``) leaves. PROTOCOL.md section 6.17.

A report goes over a connection of its own, with nothing in it but the relay's name, one measure and one class: no
cookie, no header that tells clients apart, no id, no key. Whether the relay takes any is asked the same way.
"""

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from restante.engine.usage import PURPOSE, Counts
from restante.links import open_session
from restante.packed import read_json
from restante_protocol.diagnostics import Measure

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

PATH: Final = "/v1/diagnostics"
LOOK_SECONDS: Final = 3600  # on average, between looks at whether a report is due
_PATIENCE: Final = aiohttp.ClientTimeout(total=30)  # seconds
_MAX_ANSWER: Final = 16 * 1024  # bytes
_SILENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # headers that tell clients apart


class _Shown(msgspec.Struct, frozen=True):
    open: bool


class Diagnostics:
    """What a client counts, and when a report of it leaves.

    Attributes:
        counts: what was counted since the last look; None unless diagnostics are granted, and nothing is counted.
    """

    def __init__(self, engine: "Engine", driver: "Driver", channel: str) -> None:
        """Nothing is counted before the first look."""
        self._engine = engine
        self._driver = driver
        self._channel = channel
        self.counts: Counts | None = None

    async def look(self) -> None:
        """Keep what was counted, if that is granted, and send what is due; if not, nothing is counted any more."""
        counts, self.counts = self.counts or Counts(), None
        if PURPOSE in await self._driver.run(self._engine.consents.granted):
            self.counts = Counts()
        report = await self._driver.run(self._engine.usage.take, counts, self._channel)
        if report is not None:
            await send(self._driver.url, *report)

    async def look_forever(self) -> None:
        """Look at the start and now and then."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS * (0.5 + self._driver.jitter.random()))


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
