"""What the relay is to hold for this client, and is told by chores: the parts that want it, in the order that it needs.

Addresses come before what names them, consents before what needs them. A chore is due until it is ``done``.
"""

from restante.engine import mailroom
from restante.engine.consents import Consents, PutConsent
from restante.engine.directory import Directory, DropEntry, PutEntry
from restante.engine.mailroom import Mailroom, PutSlot
from restante.engine.profiles import Profiles
from restante.engine.push import LookPush, Push
from restante.engine.state import State
from restante_protocol import frames

Chore = mailroom.Chore | PutConsent | PutEntry | DropEntry | LookPush


class Chores:
    """The chores of all parts. What the shell calls is a transaction; the rest runs inside one of the engine's."""

    def __init__(
        self,
        state: State,
        mailroom: Mailroom,
        profiles: Profiles,
        consents: Consents,
        directory: Directory,
        push: Push,
    ) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._mailroom = mailroom
        self._profiles = profiles
        self._consents = consents
        self._directory = directory
        self._push = push

    # Calls of the shell.

    def due(self) -> list[Chore]:
        """Return what is to be registered at the relay, in this order."""
        with self._state.transaction():
            kept = [*self._mailroom.chores(), *self._profiles.chores(), *self._consents.chores()]
            granted = frozenset(self._consents.granted())
            return [*kept, *self._directory.chores(granted), *self._push.chores(granted)]

    def done(self, chore: mailroom.Chore | PutConsent) -> None:
        """The relay has confirmed the chore."""
        with self._state.transaction():
            if isinstance(chore, PutConsent):
                self._consents.done(chore)
            elif isinstance(chore, PutSlot) and chore.slot in self._profiles.slots():
                self._profiles.done()
                self._profiles.share()
            else:
                self._mailroom.done(chore)

    def slot_frame(self, slot: bytes, stored_version: int) -> frames.SlotPut:
        """Return the request, numbered 0, for a PutSlot chore: over this version of the slot (0: none)."""
        if slot in self._profiles.slots():
            return self._profiles.slot_frame(stored_version)
        return self._mailroom.slot_frame(slot, stored_version)

    def slots(self) -> list[tuple[str, bytes, int]]:
        """Return the slots that this account writes: what is in it, its id, when it expires (0: it is not put yet)."""
        own = self._profiles.own()
        profile = [("profile", slot, own.expires) for slot in self._profiles.slots()] if own is not None else []
        return [*(("invite", *each) for each in self._mailroom.expiries()), *profile]

    def slot_deletions(self) -> list[frames.SlotDelete]:
        """Return requests, numbered 0, that delete all slots of this account."""
        deletions = [self._mailroom.slot_deletion(slot) for slot in self._mailroom.slots()]
        profile = self._profiles.slot_deletion()
        return deletions if profile is None else [*deletions, profile]

    # Parts of the engine's transactions.

    @property
    def touched(self) -> bool:
        """Whether there may be chores."""
        return any(each.touched for each in (self._mailroom, self._consents, self._directory, self._push))

    def register_again(self) -> None:
        """The relay may hold nothing of it."""
        for each in (self._mailroom, self._profiles, self._consents, self._directory, self._push):
            each.register_again()

    def renew(self) -> None:
        """Notice what lapses soon."""
        for each in (self._consents, self._directory, self._push):
            each.renew()
