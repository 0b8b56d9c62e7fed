"""Being woken through a push service while the client is not connected: what is told to the relay."""

from functools import partial
from typing import TYPE_CHECKING, Final

from restante.engine.push import PURPOSE
from restante.errors import ConsentNeeded, Refused, RelayError
from restante.publications import PUSH, read_push
from restante_protocol import frames
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

_LATER: Final = frozenset({Code.FULL, Code.UNAVAILABLE})


class Push:
    """Push at a client's relay."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Nothing is asked yet."""
        self._engine = engine
        self._driver = driver

    async def key(self) -> str:
        """Return the relay's public key for push services. Raises RelayError: it does not offer push."""
        offered = PURPOSE in await self._driver.bulletin.purposes()
        content = await self._driver.bulletin.content(PUSH) if offered else None
        try:
            return read_push(content or b"")
        except ValueError:
            raise RelayError("the relay does not wake devices") from None

    async def set(self, endpoint: str) -> None:
        """Be woken there. Raises ConsentNeeded, Refused."""
        if PURPOSE not in await self._driver.run(self._engine.consents.granted):
            raise ConsentNeeded(f"the purpose {PURPOSE!r} is not granted: client.consent grants it")
        await self._driver.chores.settled()  # the relay knows of the consent
        await self._driver.ask_as_owner(partial(frames.PushPut, endpoint=endpoint))
        await self._driver.run(self._engine.push.set, endpoint)

    async def clear(self) -> None:
        """Be woken no more."""
        await self._driver.ask_as_owner(frames.PushDelete)
        await self._driver.do(self._engine.push.forget, False)

    async def look(self) -> str | None:
        """See whether the relay still has the endpoint, or put it where it was lost; return it."""
        own = await self._driver.run(self._engine.push.own)
        if own is None:
            return None
        try:
            if own.told:
                has = await self._driver.ask_as_owner(frames.PushGet)
                if not isinstance(has, frames.Push) or has.endpoint != own.endpoint:
                    await self._driver.do(self._engine.push.forget, True)
                    return None
            await self._driver.ask_as_owner(partial(frames.PushPut, endpoint=own.endpoint))
        except Refused as error:
            if error.code in _LATER:
                await self._driver.run(self._engine.push.later)
                return own.endpoint
            await self._driver.do(self._engine.push.forget, error.code != Code.NO_CONSENT)
            return None
        await self._driver.run(self._engine.push.set, own.endpoint)
        return own.endpoint
