"""What the relay's operator publishes, fetched: before there is a mailbox, too. PROTOCOL.md section 6.12.

Everything is asked for over the anonymous connection, and the same by everybody: it tells nothing of who reads. What
the contents mean is in ``publications``; what this client makes of them is the engine's.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from restante import publications
from restante.engine.records import AnnouncedEvent
from restante.errors import Refused, RelayError
from restante.links import Disconnected
from restante.publications import Official, Policy, Purpose, Transparency
from restante_protocol import frames
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

_log = logging.getLogger("restante")

LOOK_SECONDS: Final = 3600  # on average, between looks at what is announced


class Bulletin:
    """The publications of a client's relay. Everything raises RelayError if the relay's key has not signed it."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Nothing is fetched yet."""
        self._engine = engine
        self._driver = driver

    async def content(self, name: str) -> bytes | None:
        """Return a publication's content, or None."""
        relay_key = (await self._driver.sender(drained=False)).relay_key
        slot = publications.slot_of(relay_key, name)
        try:
            answer = await self._driver.ask(partial(frames.SlotGet, slot=slot), drained=False)
        except Refused as error:
            if error.code == Code.NOT_FOUND:
                return None
            raise
        if not isinstance(answer, frames.Slot):
            raise Disconnected
        try:
            return publications.opened(relay_key, name, answer.version, answer.body)
        except ValueError as error:
            raise RelayError(f"the relay's {name}: {error}") from None

    async def policy(self, number: int | None = None) -> Policy | None:
        """Return the relay's policy, or None if it has none of this number."""
        content = await self.content(publications.POLICY)
        try:
            listed = publications.read_listed(content or b"[]")
            found = listed[-1:] if number is None else [each for each in listed if each.number == number]
            text = await self.content(publications.policy_name(found[0].number)) if found else None
            return publications.read_policy(found[0], text) if text is not None else None
        except ValueError as error:
            raise RelayError(f"the relay's policy: {error}") from None

    async def purposes(self) -> Mapping[str, Purpose]:
        """Return what the relay's policy offers, by name; what was granted otherwise is off now."""
        policy = await self.policy()
        offered: Mapping[str, Purpose] = policy.purposes if policy is not None else {}
        await self._driver.do(self._engine.consents.offered, {name: each.version for name, each in offered.items()})
        return offered

    async def announcements(self) -> list[AnnouncedEvent]:
        """Return what is announced and may be shown, after queueing what is new."""
        content = await self.content(publications.ANNOUNCEMENTS)
        try:
            published = publications.read_announcements(content or b"[]")
        except ValueError as error:
            raise RelayError(f"the relay's announcements: {error}") from None
        await self._driver.do(self._engine.bulletin.announced, published)
        return await self._driver.run(self._engine.bulletin.shown, published)

    async def official(self) -> list[Official]:
        """Return whom of the operator's people one can write to."""
        content = await self.content(publications.OFFICIAL)
        try:
            return publications.read_official(content or b"[]")
        except ValueError as error:
            raise RelayError(f"the relay's official invites: {error}") from None

    async def transparency(self) -> Transparency | None:
        """Return how often data was handed to others; None if the relay does not say."""
        content = await self.content(publications.TRANSPARENCY)
        try:
            return publications.read_transparency(content) if content is not None else None
        except ValueError as error:
            raise RelayError(f"the relay's disclosures: {error}") from None

    async def look_forever(self) -> None:
        """Look at the start and now and then, at times of no meaning: an announcement can wait, and tells nothing."""
        while True:
            try:
                await self.purposes()  # first: what is not granted any more is not shown
                await self.announcements()
            except RelayError as error:
                _log.warning("announcements that are none: %s", error)
            await asyncio.sleep(LOOK_SECONDS * (0.5 + self._driver.jitter.random()))
