"""Lists of addresses on the anonymous connection: the relay is told each once, and by its handle afterwards.

What goes to a list goes there or nowhere: no handle is used twice, and none before the relay has its list. PROTOCOL.md
section 6.4.
"""

import asyncio
import contextlib
from typing import Final

from restante.errors import Refused
from restante.links import Connection, Disconnected
from restante_protocol import frames, limits
from restante_protocol.errors import Code

LIST_FROM: Final = 64  # addresses; longer lists are registered once and named by a handle


class AddressLists:
    """The lists of one connection.

    Attributes:
        connection: whose.
    """

    def __init__(self, connection: Connection) -> None:
        """Begin with none."""
        self.connection = connection
        self._handles: dict[tuple[bytes, ...], asyncio.Future[int]] = {}
        self._last = 0

    async def name(self, addresses: list[bytes]) -> list[bytes] | int:
        """Return how a deposit names these addresses: themselves, or a handle that the relay knows.

        Raises:
            Refused: FULL, and they are too many to be named otherwise.
            Disconnected: the connection is gone.
        """
        if len(addresses) < LIST_FROM:
            return addresses
        try:
            return await self._handle(tuple(addresses))
        except Refused as error:
            if error.code != Code.FULL or len(addresses) > limits.MAX_DEPOSIT_ADDRESSES:
                raise
            return addresses  # whoever has taken all lists of the relay stops only the largest conversations

    async def _handle(self, addresses: tuple[bytes, ...]) -> int:
        put = self._handles.get(addresses)
        if put is None:
            full = len(self._handles) >= limits.MAX_LISTS
            oldest = self._handles.pop(next(iter(self._handles))) if full else None
            put = self._handles[addresses] = asyncio.ensure_future(self._put(addresses, oldest))
            put.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left who waits
        try:
            return await asyncio.shield(put)
        except (Refused, Disconnected):
            if self._handles.get(addresses) is put:
                del self._handles[addresses]
            raise

    async def _put(self, addresses: tuple[bytes, ...], oldest: asyncio.Future[int] | None) -> int:
        """Put a list, in the place of another."""
        if oldest is not None:
            with contextlib.suppress(Refused):
                gone = await oldest
                await self.connection.request(lambda request: frames.ListDrop(request, gone))
        self._last += 1
        handle = self._last
        await self.connection.request(lambda request: frames.ListPut(request, handle, list(addresses)))
        return handle
