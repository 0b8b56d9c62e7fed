"""People for tests: clients whose events are read into lists."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from restante import (
    Announcement,
    Client,
    ContactRequest,
    Conversation,
    DecryptFailed,
    Disclosed,
    InviteOverused,
    MemberAdded,
    MemberRemoved,
    Message,
    MessagesMissing,
    ProfileChanged,
    StateRolledBack,
    SuiteChanged,
)

SECONDS = 60  # what a test waits at most for something that must come
refuse_all = False  # see --refuse-all
ALARMS = (DecryptFailed, MessagesMissing, StateRolledBack)


class Reader:
    """Reads a client's events; takes up every conversation."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.got: list[Message] = []
        self.alarms: list[Any] = []
        self.announcements: list[Announcement] = []
        self.disclosed: list[Disclosed] = []
        self.overused: list[InviteOverused] = []
        self.profiles: list[ProfileChanged] = []
        self.changes: list[MemberAdded | MemberRemoved | SuiteChanged] = []
        self.rooms: asyncio.Queue[Conversation] = asyncio.Queue()
        self._kept: dict[type, list[Any]] = {
            ProfileChanged: self.profiles,
            Disclosed: self.disclosed,
            Announcement: self.announcements,
            InviteOverused: self.overused,
        }
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for event in self.client.events():
            match event:
                case ContactRequest(conversation=room):
                    await event.accept()
                    self.rooms.put_nowait(room)
                case Message():
                    self.got.append(event)
                case MemberAdded(conversation=room, member=member) if member == self.client.account_id:
                    self.rooms.put_nowait(room)
                case ProfileChanged() | Disclosed() | Announcement() | InviteOverused():
                    self._kept[type(event)].append(event)
                case MemberAdded() | MemberRemoved() | SuiteChanged():
                    self.changes.append(event)
                case _ if isinstance(event, ALARMS):
                    self.alarms.append(event)
            self._news.set()

    @property
    def suites(self) -> list[str]:
        return [event.suite for event in self.changes if isinstance(event, SuiteChanged)]

    @property
    def texts(self) -> list[str | None]:
        return [message.text for message in self.got]

    async def room(self) -> Conversation:
        """The next conversation that somebody started."""
        return await asyncio.wait_for(self.rooms.get(), SECONDS)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def has(self, ids: set[str]) -> None:
        await self.until(lambda: ids <= {message.id for message in self.got})

    async def reads(self, *texts: str) -> None:
        """Wait until these are the texts that were read, in this order."""
        await self.until(lambda: len(self.got) >= len(texts))
        assert self.texts == list(texts)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def person(folder: Path, name: str, relay: str) -> AsyncIterator[Reader]:
    """A client with a reader."""
    async with Client.open(folder / f"{name}.db", relay=relay, passphrase=f"passphrase of {name}") as client:
        reader = Reader(client)
        try:
            yield reader
            if refuse_all:
                assert await client._driver.run(client._engine.consents.granted) == {}
        finally:
            await reader.stop()


@contextlib.asynccontextmanager
async def people(folder: Path, relay: str, *names: str) -> AsyncIterator[list[Reader]]:
    """Several of them."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(person(folder, name, relay)) for name in names]


async def together(first: Reader, *others: Reader, title: str | None = None) -> list[Conversation]:
    """A conversation started by the first; everybody's handle of it."""
    room = await first.client.start_conversation([await other.client.invite() for other in others], title=title)
    return [room, *[await other.room() for other in others]]


async def settled(rooms: list[Conversation], readers: list[Reader]) -> None:
    """Wait until all are in the same epoch with equal epoch authenticators."""
    async with asyncio.timeout(SECONDS):
        while True:
            await asyncio.gather(*(reader.client.drained() for reader in readers))
            if len({(room.epoch, room.epoch_authenticator) for room in rooms}) == 1:
                return
