"""kill -9 of the relay and of a client under load. `make chaos` runs the same with 50 kills each."""

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from restante import Conversation
from support import worker
from support.mortal import MortalRelay, mortal_relay
from support.people import people, person, together
from support.waiting import until

AHEAD = 200  # messages that a speaker may be ahead of who reads them: a starved process has to catch up in time


BUSY = 0.8  # of the kills come while somebody is served, however slow the machine is; the others at any time


async def _one_more(sent: dict[int, list[str]]) -> None:
    """Wait until something is accepted."""
    count = sum(map(len, sent.values()))
    await until(lambda: sum(map(len, sent.values())) > count)


async def test_killed_relay_loses_nothing(tmp_path: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    sent: dict[int, list[str]] = {0: [], 1: [], 2: []}

    async def speak(index: int, room: Conversation) -> None:
        while True:
            size = chance.choice((0, 10, 1000, 65_536 if chance.random() < 0.05 else 50))
            receipt = await room.send(chance.randbytes(size))
            sent[index].append(receipt.id)
            if chance.random() < 0.05:
                await room.update_keys()

    async with (
        mortal_relay(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as readers,
    ):
        rooms = await together(*readers)
        speakers = [asyncio.ensure_future(speak(index, room)) for index, room in enumerate(rooms)]
        busy = 0
        for _ in range(rounds):
            if chance.random() < BUSY:
                busy += 1
                await _one_more(sent)
            await asyncio.sleep(chance.uniform(0.05, 0.5))  # so that the kill comes at any point of what is going on
            await relay.kill()
            await relay.start()
        await _one_more(sent)
        for speaker in speakers:
            speaker.cancel()
        await asyncio.gather(*speakers, return_exceptions=True)
        everything = {name for names in sent.values() for name in names}
        assert len(everything) >= busy
        for index, reader in enumerate(readers):
            await reader.has(everything - set(sent[index]))
            await reader.client.drained()
            assert max(Counter(message.id for message in reader.got).values()) == 1
            assert reader.alarms == []
            for other, sender in enumerate(readers):
                if other != index:
                    order = [m.id for m in reader.got if m.sender == sender.client.account_id]
                    known = set(sent[other])
                    assert [name for name in order if name in known] == sent[other]


class Worker:
    """The client that is killed: its process, and what it has reported."""

    def __init__(self, path: Path, relay: MortalRelay) -> None:
        self.path = path
        self.relay = relay
        self.account: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.invite: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sending: list[str] = []
        self.sent: dict[str, str] = {}
        self.runs: list[list[str]] = []
        self.events: list[Any] = []
        self.stopped = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, *options: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            worker.__file__,
            str(self.path),
            self.relay.url,
            *options,
            stdout=asyncio.subprocess.PIPE,
        )
        self.runs.append([])
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return
            match json.loads(line):
                case ["account", name]:
                    if not self.account.done():
                        self.account.set_result(name)
                case ["invite", text]:
                    self.invite.set_result(text)
                case ["sending", text]:
                    self.sending.append(text)
                case ["sent", name, text]:
                    self.sent[name] = text
                case ["got", name, _, _]:
                    self.runs[-1].append(name)
                case ["stopped"]:
                    self.stopped.set()
                case other:
                    self.events.append(other)

    async def kill(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.kill()
        await self._process.wait()
        await self._reader


async def test_killed_client_loses_nothing(tmp_path: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    sent: list[str] = []

    async def speak(room: Conversation) -> None:
        while True:
            sent.append((await room.send(f"{len(sent)}")).id)
            if len(sent) % worker.COMMIT_EVERY == 0:
                await room.update_keys()
            await asyncio.sleep(0.005)  # a pace at which the victim, which starts again and again, can follow
            await until(lambda: len(sent) <= AHEAD + sum(map(len, victim.runs)))

    async with mortal_relay(tmp_path / "relay") as relay:
        victim = Worker(tmp_path / "victim.db", relay)
        await victim.start("invite")
        async with person(tmp_path, "alice", relay.url) as reader:
            room = await reader.client.start_conversation(await asyncio.wait_for(victim.invite, 60))
            speaker = asyncio.ensure_future(speak(room))
            for _ in range(rounds):
                await asyncio.sleep(chance.uniform(0.3, 1.2))  # so that the kill comes at any point, also of its start
                await victim.kill()
                await victim.start()
            await until(lambda: len(victim.runs[-1]) >= 5)
            speaker.cancel()
            await asyncio.gather(speaker, return_exceptions=True)
            await until(lambda: set(sent) <= {name for run in victim.runs for name in run})
            await victim.kill()
            await reader.has(set(victim.sent))
            await reader.client.drained()
        shown = [run for run in victim.runs if run]  # without those killed before their first event
        again = Counter(name for run in shown for name in run)
        for name, count in again.items():
            if count > 1:  # only what was in hand at a kill: the last of one run and the first of the next
                places = [number for number, run in enumerate(shown) if name in run]
                assert places == list(range(places[0], places[-1] + 1))
                assert all(shown[place][-1] == name for place in places[:-1])
        texts = Counter(message.text for message in reader.got)
        assert max(texts.values()) == 1
        assert set(victim.sent.values()) <= set(texts) <= set(victim.sending)
        assert reader.alarms == []
        assert victim.events == []


@pytest.mark.parametrize("uploaded", ["half", "whole"])
async def test_a_client_killed_while_it_uploads_a_handshake_goes_on(tmp_path: Path, uploaded: str) -> None:
    async with mortal_relay(tmp_path / "relay") as relay:
        victim = Worker(tmp_path / "victim.db", relay)
        await victim.start("invite", "large", uploaded)
        async with person(tmp_path, "alice", relay.url) as reader:
            room = await reader.client.start_conversation(await asyncio.wait_for(victim.invite, 60))
            before = room.epoch
            await asyncio.wait_for(victim.stopped.wait(), 60)
            await victim.kill()
            assert room.epoch == before, "the Commit was not deposited without its blob"
            await victim.start("large")
            await until(lambda: room.epoch >= before + 2)  # that Commit, and the one that it makes now
            await victim.kill()
            await reader.has(set(victim.sent))
            await reader.client.drained()
            assert room.epoch == before + 2
        kept = [path for path in (tmp_path / "relay" / "relay.db.blobs").rglob("*") if path.is_file()]
        assert len(kept) == 2, "the same blob, not another one, and nothing by halves"
        assert max(Counter(message.text for message in reader.got).values()) == 1
        assert reader.alarms == []
        assert victim.events == []


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))
