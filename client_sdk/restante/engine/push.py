"""Where this account's device is woken while the client is not connected. PROTOCOL.md section 6.18."""

from dataclasses import dataclass
from typing import Final

import msgspec

from restante.engine import records
from restante.engine.state import REFUSED_SECONDS, State

PURPOSE: Final = "push"
LOOK: Final = 86_400  # seconds until the relay is told again, or says that the endpoint is gone
_KEY: Final = b"push"


@dataclass(frozen=True, slots=True)
class LookPush:
    """See whether the relay still has the endpoint, and put it again (receiving connection)."""


class Push:
    """The endpoint. Chores run in the engine's transactions; other changes are their own.

    Attributes:
        touched: there may be chores.
    """

    def __init__(self, state: State) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._table = state.tables.account
        self.touched = True

    def own(self) -> records.OwnPush | None:
        """Return what this device has."""
        stored = self._table.get(_KEY)
        return records.OwnPush.unpack(stored) if stored else None

    def set(self, endpoint: str) -> None:
        """The relay has this endpoint."""
        with self._state.transaction():
            self._table.put(_KEY, records.OwnPush(endpoint, told=True, look_at=self._state.now() + LOOK).pack())

    def forget(self, lost: bool) -> None:
        """The relay has none any more; ``lost``: the person did not want that, and an event says so."""
        with self._state.transaction():
            if lost and self.own() is not None:
                self._state.events.emit(records.PushLostEvent())
            self._table.delete(_KEY)

    def later(self) -> None:
        """The relay cannot now: look again in REFUSED_SECONDS."""
        with self._state.transaction():
            self._change(look_at=self._state.now() + REFUSED_SECONDS)

    # Chores.

    def register_again(self) -> None:
        """The relay may not have it."""
        self.touched = True
        self._change(told=False, look_at=0)

    def chores(self, granted: frozenset[str]) -> list[LookPush]:
        """List what is to be done; without its purpose the relay has erased the endpoint, and so it is here."""
        self.touched = False
        own = self.own()
        if own is None:
            return []
        if PURPOSE not in granted:
            self._table.delete(_KEY)  # that the purpose is off is known already
            return []
        return [LookPush()] if own.look_at <= self._state.now() else []

    def renew(self) -> None:
        """Notice when it is time to look."""
        own = self.own()
        self.touched |= own is not None and own.look_at <= self._state.now()

    def _change(self, **changes: object) -> None:
        own = self.own()
        if own is not None:
            self._table.put(_KEY, msgspec.structs.replace(own, **changes).pack())
