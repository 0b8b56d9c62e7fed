"""Events on their way to the application: one at a time to its loop, and one at a time to its handlers.

Most come from the client's file, oldest first, and stay there until they are handled; what is about this process alone
waits here, the latest of each type.
"""

import asyncio
import inspect
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from restante.engine.records import StoredEvent
from restante.events import ConnectionChanged, Event, Replaced
from restante.recorded import KINDS, as_event

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

_log = logging.getLogger("restante")
E = TypeVar("E", bound=Event)
Handler = Callable[[Any], Awaitable[None] | None]


class Feed:
    """A client's events."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Listen to the driver from now on."""
        self._engine = engine
        self._driver = driver
        self._changes = 0  # how often something has changed that ``_next`` looks at
        self._waiting: list[asyncio.Future[None]] = []  # for the next change: the loop and the handlers
        self._in_hand: Event | None = None
        self._given: set[int] = set()  # the numbers of those that are not handled yet
        self._passing: list[Event] = []
        self._handlers: dict[type[Event], Handler] = {}
        self._dispatcher: asyncio.Task[None] | None = None
        self._iterating = False
        driver.changed = self._change
        driver.connection_changed = self._connection_changed
        driver.replaced = lambda: self._pass(Replaced(id=os.urandom(8).hex()))

    async def close(self, *, handled: bool) -> None:
        """Call no handler any more; ``handled``: the application is done with the event that its loop has in hand."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)
        if handled and self._in_hand is not None:
            await self._in_hand._handled()  # noqa: SLF001 -- our own

    async def events(self) -> AsyncIterator[Event]:
        """Yield the events for which there is no handler; asking for the next says that the last one is handled."""
        if self._iterating:
            raise RuntimeError("another loop reads this client's events")
        self._iterating = True
        try:
            while True:
                if self._in_hand is not None:
                    await self._in_hand._handled()  # noqa: SLF001 -- our own
                event = await self._next(lambda kind: kind not in self._handlers)
                if event is None:
                    return
                self._in_hand = event
                yield event
        finally:
            self._iterating = False

    def handle(self, kind: type[E], handler: Callable[[E], Any]) -> None:
        """Call the handler with every event of this type; when it returns, the event is handled."""
        self._handlers[kind] = handler
        if self._dispatcher is None:
            self._dispatcher = asyncio.ensure_future(self._dispatch())
        self._change()

    async def _dispatch(self) -> None:
        while (event := await self._next(lambda kind: kind in self._handlers)) is not None:
            try:
                result = self._handlers[type(event)](event)
                if inspect.isawaitable(result):
                    await result
            except Exception:  # noqa: BLE001 -- the application's defect: the event comes again when the client is opened again
                _log.exception("a handler failed")
            else:
                await event._handled()  # noqa: SLF001 -- our own

    async def _next(self, wanted: Callable[[type[Event]], bool]) -> Event | None:
        """Return the next event of such a type; None if none will come any more."""
        while True:
            before = self._changes
            for event in self._passing:
                if wanted(type(event)):
                    self._passing.remove(event)
                    return event
            found = await self._driver.run(self._engine.events.next, frozenset(self._given), partial(_fits, wanted))
            if found is not None:
                number, record = found
                self._given.add(number)
                return as_event(self._engine, self._driver, number, record, partial(self._handled, number))
            if self._driver.ended:
                return None
            if self._changes == before:
                self._waiting.append(change := asyncio.get_running_loop().create_future())
                await change

    async def _handled(self, number: int) -> None:
        await self._driver.run(self._engine.events.handled, number)
        self._given.discard(number)

    def _change(self) -> None:
        """There may be another event: everybody who waits looks again."""
        self._changes += 1
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def _pass(self, event: Event) -> None:
        """An event that is not kept: only the latest of its type waits."""
        self._passing = [other for other in self._passing if type(other) is not type(event)]
        self._passing.append(event)
        self._change()

    def _connection_changed(self, connected: bool) -> None:
        self._pass(ConnectionChanged(id=os.urandom(8).hex(), connected=connected))


def _fits(wanted: Callable[[type[Event]], bool], record: StoredEvent) -> bool:
    return wanted(KINDS[type(record)])
