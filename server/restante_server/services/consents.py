"""What mailboxes have granted to the relay, one slot of the relay for each of its purposes. PROTOCOL.md section 6.14.

A slot's id is a keyed hash of both, so that a store without the relay's key says nothing about who granted what, and
all that slots have (tombstones, migration, backups, lapse) consents have too. Its body is the version of the purpose
(8 bytes) and the time (Unix seconds, 8 bytes).

What holds data for a purpose calls ``require`` before it stores or does anything, and once more after it has stored
something; and it registers with ``on_withdrawal`` what erases its data.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from restante_protocol import frames, ids, limits
from restante_protocol.errors import Code
from restante_server import purposes
from restante_server.clock import Clock
from restante_server.errors import Refused
from restante_server.identity import Identity
from restante_server.processors import Processor
from restante_server.purposes import PURPOSES, Purpose
from restante_server.services.erasure import Eraser
from restante_server.stores.contract import Holding, Store, overwrite

LIFETIME: Final = limits.MAX_SLOT_LIFETIME  # after it was put last: the yes of somebody who has gone does not stay
_AT_RELAY: Final = tuple(purpose for purpose in Purpose if PURPOSES[purpose].at_relay)

Erase = Callable[[bytes], Awaitable[None]]
"""Deletes what is held of a mailbox (its id) for one purpose; what it deletes is scrubbed afterwards."""


@dataclass(frozen=True, slots=True)
class _Granted:
    version: bytes
    at: int

    def encode(self) -> bytes:
        return self.version + self.at.to_bytes(8, "big")


class Consents:
    """The consents of one relay. Several relays of one key may share a store."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        eraser: Eraser,
        offered: Iterable[Purpose],
        clock: Clock,
        processors: Sequence[Processor] = (),
    ) -> None:
        """Take an open store. What is not ``offered`` cannot be granted, and grants nothing.

        ``processors``: who else receives data; with another one for a purpose it is another purpose.
        """
        self._store = store
        self._identity = identity
        self._eraser = eraser
        self._offered = {
            purpose: purposes.version(purpose, processors) for purpose in offered if PURPOSES[purpose].at_relay
        }
        self._clock = clock
        self._erasers: dict[Purpose, Erase] = {}

    def on_withdrawal(self, purpose: Purpose, erase: Erase) -> None:
        """Call this when a mailbox withdraws the purpose, and when it is erased."""
        self._erasers[purpose] = erase

    async def require(self, mailbox: bytes, purpose: Purpose) -> None:
        """Go on only if the mailbox has granted the purpose as it is offered now. Raises Refused(NO_CONSENT)."""
        version = self._offered.get(purpose)
        granted = await self._read(mailbox, purpose)
        if version is None or granted is None or granted.version != version:
            raise Refused(Code.NO_CONSENT, purpose.value)

    @contextlib.asynccontextmanager
    async def storing(self, mailbox: bytes, purpose: Purpose) -> AsyncIterator[None]:
        """Have something stored for a purpose; it is erased if the consent was withdrawn meanwhile, elsewhere.

        Raises Refused(NO_CONSENT).
        """
        await self.require(mailbox, purpose)
        yield
        try:
            await self.require(mailbox, purpose)
        except BaseException:
            await self._erasers[purpose](mailbox)
            raise

    async def put(self, mailbox: bytes, frame: frames.ConsentPut) -> None:
        """Grant or withdraw. Raises Refused(NO_MAILBOX, NOT_FOUND or CONFLICT)."""
        if not frame.version:
            await self.withdraw(mailbox, frame.purpose)
            return
        purpose = next((each for each in self._offered if each == frame.purpose), None)
        if purpose is None:
            raise Refused(Code.NOT_FOUND, "purpose")
        if frame.version != self._offered[purpose]:
            raise Refused(Code.CONFLICT, "version")
        if not await self._store.has_mailbox(mailbox):
            raise Refused(Code.NO_MAILBOX)
        slot = self._identity.consent(mailbox, purpose)
        body = _Granted(frame.version, self._clock() // 1000).encode()
        await overwrite(self._store, slot, LIFETIME, body)

    async def withdraw(self, mailbox: bytes, name: str) -> None:
        """Erase what is held for a purpose, and the consent; no file of the store holds it any more."""
        for purpose in _AT_RELAY:
            if purpose == name:
                await self._erase(mailbox, purpose, scrub=True)

    async def erase(self, mailbox: bytes) -> None:
        """The same for all purposes; the caller scrubs."""
        for purpose in _AT_RELAY:
            await self._erase(mailbox, purpose, scrub=False)

    async def _erase(self, mailbox: bytes, purpose: Purpose, *, scrub: bool) -> None:
        slot = self._identity.consent(mailbox, purpose)
        await self._eraser.erase_slot(slot)  # first: who stores something meanwhile sees afterwards that it is gone
        erase = self._erasers.get(purpose)
        if erase is not None:
            await erase(mailbox)
        if scrub:
            await self._eraser.erase_slot(slot, scrub=True)

    async def granted(self, mailbox: bytes) -> list[frames.Consent]:
        """Return what the mailbox has granted, in whichever version."""
        found = [(purpose, await self._read(mailbox, purpose)) for purpose in _AT_RELAY]
        return [frames.Consent(purpose, each.version, each.at) for purpose, each in found if each is not None]

    async def holdings(self, mailbox: bytes) -> list[Holding]:
        """Return the same for the owner's export."""
        return [
            Holding(f"consent.{name}", consent.purpose.encode(), value)
            for consent in await self.granted(mailbox)
            for name, value in (
                ("purpose", consent.purpose.encode()),
                ("version", consent.version),
                ("granted_at", consent.granted_at),
            )
        ]

    async def _read(self, mailbox: bytes, purpose: Purpose) -> _Granted | None:
        stored = await self._store.get_slot(self._identity.consent(mailbox, purpose))
        if stored is None:
            return None
        length = ids.PURPOSE_VERSION_BYTES
        return _Granted(stored.body[:length], int.from_bytes(stored.body[length:], "big"))
