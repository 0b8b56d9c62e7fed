"""Blobs on their way between the file and the relay: over HTTP, without credential (``blobs``).

Which of them are to go and to come is the engine's to say (``engine.parcels``).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from restante import blobs
from restante.blobs import BlobKeys
from restante.engine.budget import STRANGERS
from restante.engine.parcels import LIFETIME, Delete, Fetch
from restante.errors import Refused
from restante.links import LATER, RETRY_SECONDS, Disconnected
from restante_crypto.blobs import BlobError
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine


class Parcels:
    """A client's blobs at its relay."""

    def __init__(self, engine: "Engine", driver: "Driver", session: aiohttp.ClientSession) -> None:
        """Nothing moves yet."""
        self._engine = engine
        self._driver = driver
        self._session = session
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()  # one upload or deletion at a time: two deposits may need the same blob

    def wake(self) -> None:
        """There is something to fetch or to delete."""
        self._wake.set()

    async def move_forever(self) -> None:
        """Fetch and delete what is due, whenever that is."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._driver.sender()
            for work in await self._driver.run(self._engine.parcels):
                match work:
                    case Fetch(payer=payer) if payer == STRANGERS:
                        self._driver.spawn(partial(self._fetch, work))
                    case Fetch():
                        await self._fetch(work)
                    case Delete():
                        await self._delete(work)
            await self._driver.look()

    async def _fetch(self, work: Fetch) -> None:
        engine, driver = self._engine, self._driver
        received: list[int] = []
        try:
            sealed = await blobs.fetch(self._session, driver.url, work.reference, received.append)
        except Disconnected:
            await driver.do(engine.not_fetched, work, sum(received), False)
        except BlobError:
            await driver.do(engine.not_fetched, work, sum(received), True)
        except Refused as error:
            await driver.do(engine.not_fetched, work, sum(received), error.code not in LATER)
        else:
            await driver.do(engine.fetched, work.reference, sealed)

    async def _delete(self, work: Delete) -> None:
        try:
            async with self._lock:
                await self._delete_at_relay(work.keys)
        except (Disconnected, Refused):
            await asyncio.sleep(RETRY_SECONDS)
            return
        await self._driver.run(self._engine.deleted, work.keys.blob)

    async def _delete_at_relay(self, keys: BlobKeys) -> None:
        await blobs.delete(self._session, self._driver.url, self._engine.relay_key or b"", keys)

    async def upload(self, needed: Sequence[bytes]) -> None:
        """Bring blobs to the relay that a deposit needs there. Raises Disconnected, Refused."""
        for blob in needed:
            async with self._lock:
                upload = await self._driver.run(self._engine.upload, blob)
                if upload is None:
                    continue
                relay_key = self._engine.relay_key or b""
                try:
                    await blobs.upload(
                        self._session, self._driver.url, relay_key, upload.keys, upload.content, LIFETIME
                    )
                except Disconnected:
                    await asyncio.sleep(RETRY_SECONDS)  # the socket may be well
                    raise
                await self._driver.run(self._engine.uploaded, blob)

    # The rights of the person whose they are: see ``yourdata``.

    async def stored(self, blob: bytes) -> bytes | None:
        """Return what the relay has under a blob's id, sealed as it is; None if there is none. Raises Refused."""
        while True:
            self._driver.check()
            try:
                return await blobs.stored(self._session, self._driver.url, blob)
            except Disconnected:
                await asyncio.sleep(RETRY_SECONDS)
            except Refused as error:
                if error.code == Code.NOT_FOUND:
                    return None
                if error.code not in LATER:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def erase(self) -> None:
        """Delete all blobs at the relay that this client has uploaded. Raises Disconnected, Refused."""
        for keys, _ in await self._driver.run(self._engine.blobs):
            await self._delete_at_relay(keys)
