"""What this account has in its relay's directory, and whom it found there. PROTOCOL.md section 6.15.

Each entry has an invite of its own, that is deleted with it. Whoever knows a name can make a record for it, and the
relay could give out another's, so who was found is a stranger until safety numbers were compared.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from restante.account import account_id
from restante.engine import records
from restante.engine.mailroom import Mailroom
from restante.engine.state import REFUSED_SECONDS, State
from restante.errors import InviteError
from restante.invites import Invite
from restante.publications import DirectoryKeys
from restante.slots import RENEWAL
from restante_crypto import padding, sealing
from restante_crypto.directory import Entry, Kind
from restante_protocol import frames, limits

PURPOSES: Final = {Kind.HANDLE: "handle", Kind.NUMBER: "number"}
_PLAIN_BYTES: Final = limits.DIRECTORY_RECORD_BYTES - 40  # nonce and tag
_PREFIX: Final = b"directory "
_FOUND: Final = b"found"  # then an account, in the contacts' table


@dataclass(frozen=True, slots=True)
class PutEntry:
    """Put an entry again (receiving connection)."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class DropEntry:
    """The purpose is off, and the relay has erased the entry: delete its invite."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Found:
    """Who was found in the directory.

    Attributes:
        account: the account's id: not known to be theirs until safety numbers were compared.
        invite: for ``start_conversation``.
        by: "handle" or "number".
    """

    account: str
    invite: str = field(repr=False)
    by: str


@dataclass(frozen=True, slots=True)
class Contact:
    """An account that is known: invited, accepted, or found.

    Attributes:
        account: its id.
        found_by: "handle" or "number" if it was found in the directory, or empty.
        verified: safety numbers were compared, see ``Client.confirm_safety_number``.
    """

    account: str
    found_by: str
    verified: bool


class Directory:
    """This account's entries. Chores run in the engine's transactions; other changes are their own."""

    def __init__(self, state: State, mailroom: Mailroom) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._tables = state.tables
        self._mailroom = mailroom
        self.touched = True  # whether there may be chores

    def own(self, kind: Kind) -> records.OwnEntry | None:
        """Return what this account has."""
        stored = self._tables.account.get(_PREFIX + kind.name.encode())
        return records.OwnEntry.unpack(stored) if stored else None

    def _put(self, kind: Kind, own: records.OwnEntry) -> None:
        self._tables.account.put(_PREFIX + kind.name.encode(), own.pack())

    def record(self, entry: Entry, invite: str) -> bytes:
        """Return a sealed record. Raises ValueError: the relay's URL is too long."""
        plain = padding.pad(invite.encode(), _PLAIN_BYTES)
        if len(plain) != _PLAIN_BYTES:
            raise ValueError("the relay's URL is too long for its directory")
        return sealing.seal(entry.key, plain, entry.place, self._state.random)

    def set(self, kind: Kind, name: str, keys: DirectoryKeys, entry: Entry, invite: str) -> None:
        """The relay has this entry."""
        renew_at = self._state.now() + limits.MAX_SLOT_LIFETIME - RENEWAL
        own = records.OwnEntry(name, keys.of(kind), entry.place, entry.key, invite, renew_at=renew_at)
        with self._state.transaction():
            self._put(kind, own)

    def forget(self, kind: Kind, lost: bool) -> None:
        """It is not there any more; ``lost``: the person did not want that, and an event says so."""
        own = self.own(kind)
        if own is None:
            return
        with self._state.transaction():
            self._mailroom.forget_invite(Invite.parse(own.invite).slot)
            self._tables.account.delete(_PREFIX + kind.name.encode())
            if lost:
                self._state.events.emit(records.EntryLostEvent(PURPOSES[kind]))

    def later(self, kind: Kind) -> None:
        """The relay cannot put it now: try again in REFUSED_SECONDS."""
        with self._state.transaction():
            self._renew_at(kind, self._state.now() + REFUSED_SECONDS)

    def _renew_at(self, kind: Kind, at: int) -> None:
        own = self.own(kind)
        if own is not None:
            self._put(kind, msgspec.structs.replace(own, renew_at=at))

    # Chores.

    def chores(self, granted: frozenset[str]) -> list[PutEntry | DropEntry]:
        """List what is to be put again, or to be forgotten because its purpose is off."""
        self.touched = False
        found: list[PutEntry | DropEntry] = []
        for kind in Kind:
            own = self.own(kind)
            if own is not None and PURPOSES[kind] not in granted:
                found.append(DropEntry(kind))
            elif own is not None and own.renew_at <= self._state.now():
                found.append(PutEntry(kind))
        return found

    def renew(self) -> None:
        """Notice what is to be put again."""
        entries = (self.own(kind) for kind in Kind)
        self.touched |= any(own is not None and own.renew_at <= self._state.now() for own in entries)

    def register_again(self) -> None:
        """The relay may not have the entries."""
        self.touched = True
        for kind in Kind:
            self._renew_at(kind, 0)

    # Whom it found.

    def read(self, kind: Kind, entry: Entry, record: bytes) -> Found | None:
        """Open a record, and remember who was found; None if it is none, or no invite to this relay."""
        try:
            text = padding.unpad(sealing.open_sealed(entry.key, record, entry.place)).decode()
            invite = Invite.parse(text)
        except (sealing.SealError, padding.PaddingError, UnicodeDecodeError, InviteError):
            return None
        if invite.relay_key != self._state.account.relay_key:
            return None
        if invite.account != self._state.me:
            with self._state.transaction():
                self._tables.contacts.put(_FOUND + invite.account, kind.to_bytes(1, "big"))
        return Found(account_id(invite.account), text, PURPOSES[kind])

    def found_by(self, account: bytes) -> str:
        """Return by what an account was found, or nothing."""
        stored = self._tables.contacts.get(_FOUND + account)
        return PURPOSES[Kind(stored[0])] if stored else ""

    def slot_of(self, kind: Kind) -> bytes | None:
        """Return the slot of an entry's invite."""
        own = self.own(kind)
        return Invite.parse(own.invite).slot if own is not None else None


def put_frame(kind: Kind, place: bytes, record: bytes, request: int) -> frames.HandlePut | frames.NumberPut:
    """Return the request that puts a record."""
    if kind is Kind.HANDLE:
        return frames.HandlePut(request, place, record)
    return frames.NumberPut(request, record)
