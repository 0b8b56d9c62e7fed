"""Chores: what the relay is to hold for this client is told there, one request each.

What is due is the engine's to say, and stays due until it was told that it is done: cut anywhere, it is done again.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from restante.directory import Directory
from restante.engine.chores import Chore
from restante.engine.consents import PutConsent
from restante.engine.directory import DropEntry, PutEntry
from restante.engine.mailroom import PutAddresses, PutPrekeys, PutSlot, RevokeAddresses
from restante.engine.push import LookPush
from restante.errors import Refused
from restante.links import RETRIED, RETRY_SECONDS, Connection, Disconnected, numbered
from restante.push import Push
from restante_protocol import frames
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine


class Chores:
    """A client's chores, one at a time."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Nothing is done yet."""
        self._engine = engine
        self._driver = driver
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    def wake(self) -> None:
        """There may be chores."""
        self._wake.set()

    async def do_forever(self) -> None:
        """Do what is due, whenever that is."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.settled()

    async def settled(self) -> None:
        """Do all chores that are due now."""
        while True:
            receiver = await self._driver.receiver()
            async with self._lock:
                try:
                    chores = await self._driver.run(self._engine.chores.due)
                    if not chores:
                        return
                    for chore in chores:
                        if await self._do(receiver, chore):
                            await self._driver.run(self._engine.chores.done, chore)
                except Disconnected:
                    await asyncio.sleep(0)
                except Refused as error:
                    if error.code not in RETRIED and error.code != Code.CONFLICT:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)

    async def _do(self, receiver: Connection, chore: Chore) -> bool:
        """Do it; False if the engine knows its end already."""
        match chore:
            case PutAddresses(addresses=specs):
                await receiver.request(lambda request: frames.AddressPut(request, specs))
            case RevokeAddresses(addresses=addresses):
                await receiver.request(lambda request: frames.AddressRevoke(request, addresses))
            case PutPrekeys():
                await receiver.request(
                    lambda request: frames.PrekeysPut(
                        request, chore.suite, chore.first, chore.packages, chore.last_resort, chore.replace
                    )
                )
            case PutSlot(slot=slot):
                await self._put_slot(slot)
            case PutConsent():
                return await self._put_consent(receiver, chore)
            case PutEntry(kind=kind):
                await Directory(self._engine, self._driver).put_again(kind)
                return False
            case DropEntry(kind=kind):
                await Directory(self._engine, self._driver).drop(kind)
                return False
            case LookPush():
                await Push(self._engine, self._driver).look()
                return False
        return True

    async def _put_consent(self, receiver: Connection, chore: PutConsent) -> bool:
        try:
            await receiver.request(partial(frames.ConsentPut, purpose=chore.purpose, version=chore.version))
        except Refused as error:
            if error.code not in {Code.NOT_FOUND, Code.CONFLICT}:
                raise
            await self._driver.do(self._engine.consents.refused, chore)
            return False
        return True

    async def _put_slot(self, slot: bytes) -> None:
        version = 0
        try:
            stored = await self._driver.ask(lambda request: frames.SlotGet(request, slot))
            if isinstance(stored, frames.Slot):
                version = stored.version
        except Refused as error:
            if error.code != Code.NOT_FOUND:
                raise
        frame = await self._driver.run(self._engine.chores.slot_frame, slot, version)
        await self._driver.ask(partial(numbered, frame))
