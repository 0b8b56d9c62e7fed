"""The directory by handle: a record at a place that only who knows the handle can compute. PROTOCOL.md section 6.15.

The first mailbox to take a place has it, until it gives it up or does not renew it. A record is fetched like any slot,
without a credential, so the relay does not learn who looks for whom; it learns that a mailbox evaluated something.
"""

import asyncio
import os
from typing import Final

from msgspec.structs import replace

from restante_crypto import oprf, proofs
from restante_crypto.directory import Kind
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.clock import Clock
from restante_server.config import HANDLE_EVALUATIONS, HANDLE_EVALUATIONS_PER_SECOND
from restante_server.errors import Refused
from restante_server.oprf_key import MARK_BYTES, OprfKey
from restante_server.services.allowance import Rate
from restante_server.services.budgets import Budgets, Pace
from restante_server.services.entries import Entries, Entry
from restante_server.services.erasure import Eraser
from restante_server.stores.contract import Holding, Store

PACE: Final = Pace(limits.HANDLE_EVALUATIONS, limits.HANDLE_EVALUATION_SECONDS)


async def evaluate(key: OprfKey, kind: Kind, frame: frames.Evaluate) -> frames.Evaluated:
    """Evaluate the PRF. Raises Refused(LIMIT): something is no element."""
    try:
        evaluation = await asyncio.to_thread(oprf.blind_evaluate_verifiably, key.pair(kind), frame.elements, os.urandom)
    except oprf.DeserializeError:
        raise Refused(Code.LIMIT, "element") from None
    return frames.Evaluated(frame.request, list(evaluation.elements), evaluation.proof)


class Handles:
    """The handles of one store, and what this process lets be evaluated."""

    def __init__(self, store: Store, key: OprfKey, entries: Entries, eraser: Eraser, clock: Clock) -> None:
        """Take an open store."""
        self._store = store
        self._key = key
        self._entries = entries
        self._eraser = eraser
        self._clock = clock
        self._budgets = Budgets(PACE)
        self._rate = Rate(HANDLE_EVALUATIONS, HANDLE_EVALUATIONS_PER_SECOND)

    async def evaluate(self, mailbox: bytes, frame: frames.Evaluate) -> frames.Evaluated:
        """Evaluate for a mailbox that has granted it. Raises Refused(BUDGET): it, or everybody, has asked too much."""
        self._charge(mailbox, len(frame.elements))
        return await evaluate(self._key, Kind.HANDLE, frame)

    async def put(self, mailbox: bytes, place: bytes, record: bytes) -> None:
        """Put the mailbox's record at a place, or change or renew it; it is at no other place then.

        Raises:
            Refused: CONFLICT, another mailbox has the place; BUDGET, too many places were taken.
        """
        slot, body = proofs.handle_slot_id(place), self._mark(mailbox, place) + record
        if not await self._is_free(slot, body):
            raise Refused(Code.CONFLICT, "handle")
        if place not in (await self._entries.read(mailbox)).handles:
            self._charge(mailbox, 1)  # each place that was had leaves a tombstone
        entry = await self._entries.change(mailbox, lambda had: replace(had, handles=_with(had, place)))
        while await self._is_free(slot, body):
            stored = await self._store.get_slot(slot)
            version = (stored.version if stored else 0) + 1
            if await self._store.put_slot(slot, version, limits.MAX_SLOT_LIFETIME, body):
                await self._drop(mailbox, tuple(other for other in entry.handles if other != place))
                if place not in (await self._entries.read(mailbox)).handles:
                    await self._drop(mailbox, (place,))  # erased meanwhile, and nobody knew of this one
                return
        await self._drop(mailbox, (place,))  # another was faster
        raise Refused(Code.CONFLICT, "handle")

    async def erase(self, mailbox: bytes) -> None:
        """Erase what the mailbox has; the caller scrubs."""
        await self._drop(mailbox, (await self._entries.read(mailbox)).handles)

    async def holdings(self, mailbox: bytes) -> list[Holding]:
        """Return what there is of a mailbox, for its owner."""
        found = []
        for place in (await self._entries.read(mailbox)).handles:
            stored = await self._store.get_slot(proofs.handle_slot_id(place))
            if stored is not None and self._is_of(mailbox, place, stored.body):
                found += [
                    Holding("handle.place", place, place),
                    Holding("handle.record", place, stored.body[MARK_BYTES:]),
                ]
        return found

    def trim(self) -> None:
        """Forget budgets that are full."""
        self._budgets.trim(self._clock())

    def _charge(self, mailbox: bytes, units: int) -> None:
        now = self._clock()
        if not self._budgets.take(mailbox, now, units) or not self._rate.take(now, units):
            raise Refused(Code.BUDGET, "handles")

    async def _drop(self, mailbox: bytes, places: tuple[bytes, ...]) -> None:
        for place in places:
            slot = proofs.handle_slot_id(place)
            stored = await self._store.get_slot(slot)
            if stored is not None and self._is_of(mailbox, place, stored.body):
                await self._eraser.erase_slot(slot)
        if places:
            await self._entries.change(mailbox, lambda had: replace(had, handles=_without(had, places)))

    async def _is_free(self, slot: bytes, body: bytes) -> bool:
        stored = await self._store.get_slot(slot)
        return stored is None or stored.body[:MARK_BYTES] == body[:MARK_BYTES]

    def _is_of(self, mailbox: bytes, place: bytes, body: bytes) -> bool:
        return body[:MARK_BYTES] == self._mark(mailbox, place)

    def _mark(self, mailbox: bytes, place: bytes) -> bytes:
        """Return what says to this relay alone whose record it is."""
        return self._key.mark("handle", mailbox, place)


def _with(had: Entry, place: bytes) -> tuple[bytes, ...]:
    return (*_without(had, (place,)), place)


def _without(had: Entry, places: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(each for each in had.handles if each not in places)
