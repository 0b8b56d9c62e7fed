"""What the relay's operator tells: announcements to everybody, and what was disclosed of this mailbox to its owner.

What is new becomes an event, once; the file remembers what was told. PROTOCOL.md sections 6.12 and 6.16.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from restante.engine.consents import Consents
from restante.engine.records import AnnouncedEvent, DisclosedEvent
from restante.engine.state import State
from restante.packed import read_json
from restante_crypto import primitives, proofs

_NEWS: Final = "news"  # a kind of announcements, and the purpose to show them
_ANNOUNCED: Final = b"announced"  # when the newest announcement that was seen was made, in the account's table
_DISCLOSED: Final = b"disclosed"  # the numbers of disclosures that were told, 8 bytes each, in the account's table


class _Disclosed(msgspec.Struct, frozen=True):
    """An entry of the relay's log; what else is in it is for others."""

    number: Annotated[int, msgspec.Meta(ge=1, lt=2**62)]
    at: Annotated[int, msgspec.Meta(ge=0, lt=2**37)]
    ground: str
    to: str
    reason: str
    fields: list[str]


class Bulletin:
    """What was told so far. Every change is a transaction."""

    def __init__(self, state: State, consents: Consents) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._table = state.tables.account
        self._consents = consents

    def announced(self, published: Sequence[AnnouncedEvent]) -> None:
        """Queue what is new. At an account's first look nothing is: it was announced to others."""
        stored = self._table.get(_ANNOUNCED)
        newest = max((each.at for each in published), default=0)
        seen = int.from_bytes(stored, "big") if stored is not None else newest
        if stored is not None and newest <= seen:
            return
        with self._state.transaction():
            for each in self.shown(published):
                if each.at > seen:
                    self._state.events.emit(each)
            self._table.put(_ANNOUNCED, max(seen, newest).to_bytes(8, "big"))

    def shown(self, published: Sequence[AnnouncedEvent]) -> list[AnnouncedEvent]:
        """Return what is necessary, and the news if they are granted."""
        news = _NEWS in self._consents.granted()
        return [each for each in published if news or each.kind != _NEWS]

    def disclosed(self, entry: bytes, signature: bytes) -> None:
        """Queue what was handed to others, once. Raises ValueError: it is none, or not signed by the relay's key."""
        told = self.read_disclosure(entry, signature)
        number = told.number.to_bytes(8, "big")
        stored = self._table.get(_DISCLOSED) or b""
        if number in {stored[i : i + 8] for i in range(0, len(stored), 8)}:
            return
        with self._state.transaction():
            self._table.put(_DISCLOSED, stored + number)
            self._state.events.emit(told)

    def read_disclosure(self, entry: bytes, signature: bytes) -> DisclosedEvent:
        """Return what an entry of the relay's log says. Raises ValueError: it is none, or not signed by its key."""
        message = proofs.disclosed_message(self._state.mailbox, entry)
        if not primitives.ed25519_verify(self._state.account.relay_key, message, signature):
            raise ValueError("not signed by the relay")
        told = read_json(entry, _Disclosed)
        return DisclosedEvent(told.number, told.at, told.ground, told.to, told.reason, told.fields)
