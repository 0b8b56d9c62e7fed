"""What the person granted of the relay's optional purposes. PROTOCOL.md section 6.14.

Everything is off until it is granted. What the relay needs to know is told by chores on the mailbox's own connection;
what concerns this client alone is in the file and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from restante.engine import records
from restante.engine.state import State
from restante.slots import RENEWAL
from restante_protocol import limits

AT_RELAY: Final = frozenset({"handle", "number", "push"})
"""The purposes for which the relay holds data of a mailbox; all others must not reach it."""
_PREFIX: Final = b"consent "


@dataclass(frozen=True, slots=True)
class PutConsent:
    """Grant or, with an empty version, withdraw a purpose (receiving connection)."""

    purpose: str
    version: bytes


class Consents:
    """The purposes that were granted, by name. Chores run in the engine's transactions; other changes are their own.

    Attributes:
        touched: there may be chores.
    """

    def __init__(self, state: State) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._table = state.tables.account
        self.touched = True  # whether there may be chores

    def granted(self) -> dict[str, bytes]:
        """Return the version of each purpose that is granted."""
        return {name: each.version for name, each in self._all().items() if each.version}

    def _all(self) -> dict[str, records.Consent]:
        rows = self._table.rows(_PREFIX)
        return {row.key.removeprefix(_PREFIX).decode(): records.Consent.unpack(row.value) for row in rows}

    def _is(self, chore: PutConsent) -> bool:
        """Say whether the person has not decided otherwise meanwhile."""
        stored = self._table.get(_PREFIX + chore.purpose.encode())
        return stored is not None and records.Consent.unpack(stored).version == chore.version

    def _put(self, name: str, consent: records.Consent) -> None:
        self.touched |= not consent.told
        self._table.put(_PREFIX + name.encode(), consent.pack(), group=_PREFIX)

    def _forget(self, name: str) -> None:
        self._table.delete(_PREFIX + name.encode())

    def grant(self, name: str, version: bytes) -> None:
        """Grant a purpose; a chore tells the relay if it has to know."""
        with self._state.transaction():
            self._put(name, records.Consent(version))

    def withdraw(self, name: str) -> None:
        """Withdraw a purpose; a chore tells the relay if it has to know, whether or not it was granted."""
        with self._state.transaction():
            self._withdraw(name)

    def _withdraw(self, name: str) -> None:
        if name in AT_RELAY:
            self._put(name, records.Consent(b""))
        else:
            self._forget(name)

    def offered(self, versions: Mapping[str, bytes]) -> None:
        """The relay offers these versions: what was granted otherwise is withdrawn, and an event says so."""
        with self._state.transaction():
            for name, version in self.granted().items():
                if versions.get(name) != version:
                    self._lapse(name)

    def refused(self, chore: PutConsent) -> None:
        """The relay does not offer what was granted: it is withdrawn, and an event says so."""
        with self._state.transaction():
            if self._is(chore):
                self._lapse(chore.purpose)

    def _lapse(self, name: str) -> None:
        self._withdraw(name)
        self._state.events.emit(records.PurposeEvent(name))

    # Chores: what the relay has to know.

    def chores(self) -> list[PutConsent]:
        """List what the relay is to be told."""
        now = self._state.now()
        self.touched = False
        return [
            PutConsent(name, each.version)
            for name, each in self._all().items()
            if name in AT_RELAY and (not each.told or each.renew_at <= now)
        ]

    def done(self, chore: PutConsent) -> None:
        """The relay knows."""
        if not self._is(chore):
            return
        if chore.version:
            renew_at = self._state.now() + limits.MAX_SLOT_LIFETIME - RENEWAL
            self._put(chore.purpose, records.Consent(chore.version, told=True, renew_at=renew_at))
        else:
            self._forget(chore.purpose)

    def renew(self) -> None:
        """Notice what lapses soon."""
        now = self._state.now()
        self.touched |= any(each.told and each.renew_at <= now for each in self._all().values())

    def register_again(self) -> None:
        """The relay may have forgotten what it was told."""
        for name, each in self._all().items():
            self._put(name, msgspec.structs.replace(each, told=False))
