"""Clients that live with what happens to relays and stores, and keep account of what they were promised and given."""

import asyncio
import contextlib
import os
import random
from functools import partial

import aiohttp

from restante import Conversation
from restante_protocol import frames
from restante_protocol.connection import NumberedEntry
from restante_protocol.errors import ProtocolError
from support.people import Reader, together
from support.relay import Owner, Peer
from support.waiting import until

SUITE = 3
PATIENCE = 4  # seconds that a client waits for an answer, or for an entry, before it connects anew
AGAIN = 0.1  # seconds until a client connects anew, so that one that is refused does not do so all the time
TROUBLE = (OSError, TimeoutError, aiohttp.ClientError, ProtocolError, AssertionError, TypeError)
"""What a client meets while something is broken; it connects anew."""


class Recipient:
    """A mailbox and the client that reads it, connecting anew whenever it has to.

    Attributes:
        got: by message id, where it was.
        twice: message ids that were stored a second time.
    """

    def __init__(self, url: str, bucket: int, *, publishes: bool) -> None:
        self.url = url
        self.owner = Owner(bucket)
        self.spec = self.owner.address()
        self.got: dict[bytes, int] = {}
        self.twice: list[bytes] = []
        self.registered = asyncio.Event()
        self._publishes = publishes
        self._uploaded = 0
        self._incarnation = b""
        self._seen = 0

    async def run(self) -> None:
        while True:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(PATIENCE):
                    peer = await Peer.own(self.url, self.owner)
                try:
                    await self._read(peer)
                finally:
                    await peer.close()
            await asyncio.sleep(AGAIN)

    async def _read(self, peer: Peer) -> None:
        async with asyncio.timeout(PATIENCE):
            await peer.add_address(self.spec)
            if self._publishes:
                await self._publish(peer)
            answer = await peer.subscribe(self._incarnation, self._seen)
        if answer.incarnation != self._incarnation:
            self._incarnation, self._seen = answer.incarnation, 0
        self.registered.set()
        while True:
            async with asyncio.timeout(PATIENCE):  # others deposit all the time
                each = await peer.next()
            if isinstance(each, NumberedEntry):
                name = each.entry.message_id
                if self.got.setdefault(name, each.sequence) != each.sequence:
                    self.twice.append(name)
                self._seen = max(self._seen, each.sequence)
                await peer.acknowledge(each.sequence)
            elif isinstance(each, frames.PrekeysLow):
                return  # connect anew, and publish
            elif not isinstance(each, frames.Drained):
                return

    async def _publish(self, peer: Peer) -> None:
        status = await peer.ask(frames.Status)
        left = sum(pool.left for pool in status.pools)
        while left < 200:
            packages = [os.urandom(32) for _ in range(100)]
            first = self._uploaded + 1
            self._uploaded += len(packages)  # whatever comes of it: a number is used once
            put = partial(
                frames.PrekeysPut, suite=SUITE, first=first, packages=packages, last_resort=b"", replace=False
            )
            assert isinstance(await peer.ask(put), frames.Done)
            left += len(packages)


class Depositor:
    """A client that deposits for everybody, again and again with the same id until it is accepted.

    Attributes:
        accepted: message ids.
    """

    def __init__(self, url: str, recipients: list[Recipient], chance: random.Random) -> None:
        self.url = url
        self.accepted: list[bytes] = []
        self._to = [recipient.spec.address for recipient in recipients]
        self._chance = chance

    async def run(self) -> None:
        name = b""
        body = b""
        while True:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(PATIENCE):
                    peer = await Peer.connect(self.url)
                try:
                    while True:
                        if not name:
                            name, body = self._chance.randbytes(16), self._chance.randbytes(256)
                        async with asyncio.timeout(PATIENCE):
                            answer = await peer.deposit(self._to, body, message_id=name)
                        assert isinstance(answer, frames.Deposited)  # or it is unavailable: another node may do better
                        assert answer.failed == []
                        self.accepted.append(name)
                        name = b""
                        await asyncio.sleep(0.005)  # 200 a second at most: the relays have other things to do
                finally:
                    await peer.close()
            await asyncio.sleep(AGAIN)


class Claimer:
    """A client that claims prekeys.

    Attributes:
        claimed: all packages that it was given.
    """

    def __init__(self, url: str, recipient: Recipient) -> None:
        self.url = url
        self.claimed: list[bytes] = []
        self._address = recipient.spec.address

    async def run(self) -> None:
        while True:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(PATIENCE):
                    peer = await Peer.connect(self.url)
                try:
                    while True:
                        async with asyncio.timeout(PATIENCE):
                            answer = await peer.ask(lambda n: frames.Claim(n, SUITE, [self._address] * 2))
                        if isinstance(answer, frames.Claimed):
                            self.claimed += [each.package for each in answer.prekeys if each.number]
                        await asyncio.sleep(0.05)  # the pools are filled no faster
                finally:
                    await peer.close()
            await asyncio.sleep(AGAIN)


class Chat:
    """People with the SDK in one conversation, all of whom write all the time and read what the others write."""

    def __init__(self, readers: list[Reader]) -> None:
        self.readers = readers
        self.sent: list[list[str]] = [[] for _ in readers]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        rooms = await together(*self.readers)
        self._tasks = [asyncio.create_task(self._write(number, room)) for number, room in enumerate(rooms)]

    async def _write(self, number: int, room: Conversation) -> None:
        while True:
            text = f"{number} {len(self.sent[number])}"
            self.sent[number].append(text)
            await room.send(text)
            await asyncio.sleep(0.2)  # a person's pace: all read what all write

    async def served(self) -> None:
        """Wait until each has read something of each other that was sent after this began."""
        before = [len(sent) for sent in self.sent]
        await until(lambda: all(self._read(reader, before) for reader in self.readers))

    def _read(self, reader: Reader, before: list[int]) -> bool:
        own = self.readers.index(reader)
        latest = dict(text.split() for text in reader.texts if text)  # the last of each
        others = [number for number in range(len(before)) if number != own]
        return all(int(latest.get(str(number), -1)) >= before[number] for number in others)

    @staticmethod
    def _of(reader: Reader, number: int) -> list[str]:
        return [text for text in reader.texts if text and text.split()[0] == str(number)]

    def _has(self, reader: Reader, number: int, count: int) -> bool:
        return len(self._of(reader, number)) >= count

    async def check(self) -> None:
        """Stop writing; everybody has read everything of everybody, once, in order, and no alarm was raised."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for own, reader in enumerate(self.readers):
            for number, sent in enumerate(self.sent):
                if number != own:
                    expected = sent[:-1]  # the last may not have been taken
                    await until(partial(self._has, reader, number, len(expected)))
                    assert self._of(reader, number) in (expected, sent)
            assert reader.alarms == []
