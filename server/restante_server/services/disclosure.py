"""Handing data of a mailbox to others: the one way, which is logged before anything is handed out.

The data are exactly the fields that were asked for, and only those that the inventory declares for it. The owner is
told, at once or, where the law forbids that for a time, afterwards.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from restante_protocol import ids
from restante_server import inventory
from restante_server.clock import Clock
from restante_server.grounds import Ground
from restante_server.identity import Identity
from restante_server.services.hub import Hub
from restante_server.services.ledger import ChainBroken, Entry, Ledger
from restante_server.stores.contract import Holding, Store

FORMAT: Final = 1
FIELDS: Final = inventory.disclosable()
MAX_WORDS_BYTES: Final = 1024  # of a recipient and of a reason
MAX_BAR: Final = 5 * 365 * 86_400  # seconds: a bar that does not end would be none that the law knows
_LATE: Final = 120  # seconds that another relay's entry may take to be seen here; a client takes a notice once
_log = structlog.get_logger("disclosure")


class NotDisclosed(Exception):  # noqa: N818 -- an outcome
    """Nothing is handed out; the text says why."""


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What is asked for.

    Attributes:
        id: 16 random bytes: the same request is logged once.
        ground: why it is lawful.
        mailbox: whose.
        fields: names in the inventory.
        to: who receives it.
        reason: in the operator's words, such as a file number.
        barred_until: Unix seconds until which the owner may not be told; 0: they are told at once.
    """

    id: bytes
    ground: Ground
    mailbox: bytes
    fields: Sequence[str]
    to: str
    reason: str
    barred_until: int = 0

    def check(self) -> None:
        """Raise NotDisclosed unless every part of it may be."""
        if beyond := sorted(set(self.fields) - FIELDS):
            raise NotDisclosed(f"not declared for disclosure: {', '.join(beyond)}")
        if len(self.mailbox) != ids.ID_BYTES:
            raise NotDisclosed(f"a mailbox is {ids.ID_BYTES} bytes")
        if not self.fields:
            raise NotDisclosed("no field is named")
        for text in (self.to, self.reason):
            if not 0 < len(text.encode()) <= MAX_WORDS_BYTES:
                raise NotDisclosed(f"recipient and reason have 1 to {MAX_WORDS_BYTES} bytes each")


class Discloser:
    """What discloses. One per relay."""

    def __init__(self, store: Store, identity: Identity, ledger: Ledger, hub: Hub, clock: Clock) -> None:
        """Take an open store."""
        self._store = store
        self._identity = identity
        self._ledger = ledger
        self._hub = hub
        self._clock = clock
        self._told = clock() // 1000  # what may be told later than this has not been told to who is connected

    async def disclose(self, request: Request) -> dict[str, Any]:
        """Log a disclosure and return what is handed out, as JSON data.

        Raises:
            NotDisclosed: something of it is not declared, there is no such mailbox, or the log was tampered with.
            StoreError: logged or not, nothing is handed out: ask the same again.
        """
        request.check()
        if request.barred_until > self._clock() // 1000 + MAX_BAR:
            raise NotDisclosed(f"a bar ends within {MAX_BAR // 86_400} days")
        if not await self._store.has_mailbox(request.mailbox):
            raise NotDisclosed("there is no such mailbox")
        draft = Entry(
            number=0,
            id=request.id.hex(),
            at=self._clock() // 1000,
            ground=request.ground,
            to=request.to,
            reason=request.reason,
            fields=sorted(set(request.fields)),
            subject=self._identity.subject(request.mailbox).hex(),
            barred_until=request.barred_until,
            previous="",
        )
        try:
            entry = await self._ledger.append(draft)
        except ChainBroken as error:
            _log.error("the log of disclosures was tampered with")
            raise NotDisclosed(f"the log of disclosures was tampered with: {error}") from None
        if entry.subject != draft.subject or entry.fields != draft.fields:
            raise NotDisclosed("this id was used for another request")
        held = await self._held(request.mailbox, frozenset(entry.fields))
        await self.tell()
        return {
            "format": FORMAT,
            "relay_key": self._identity.public.hex(),
            "number": entry.number,
            "at": entry.at,
            "ground": entry.ground,
            "to": entry.to,
            "reason": entry.reason,
            "fields": entry.fields,
            "held": held,
        }

    async def _held(self, mailbox: bytes, fields: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, dict[bytes, dict[str, Any]]] = {}
        await self._hub.settle(mailbox)
        after = b""
        while True:
            part, after = await self._store.holdings(mailbox, after)
            for each in part:
                if each.name in fields:
                    kind, _, name = each.name.partition(".")
                    rows.setdefault(kind, {}).setdefault(each.key, {})[name] = _shown(each)
            if not after:
                return {kind: list(found.values()) for kind, found in rows.items()}

    async def tell(self) -> None:
        """Tell owners who are connected what they may be told since the last time, by whichever relay it was logged."""
        try:
            await self._ledger.refresh()
        except ChainBroken:
            _log.error("the log of disclosures was tampered with")
            return
        now = self._clock() // 1000
        before, self._told = self._told, now
        if not any(before - _LATE < max(entry.at, entry.barred_until) <= now for entry in self._ledger.entries):
            return
        for mailbox in self._hub.connected():
            self._hub.announce_disclosed(mailbox, self._ledger.notices(mailbox, before - _LATE))


def new_id() -> bytes:
    """Return the id of a new request."""
    return os.urandom(16)


def _shown(each: Holding) -> str | int:
    return each.value.hex() if isinstance(each.value, bytes) else each.value
