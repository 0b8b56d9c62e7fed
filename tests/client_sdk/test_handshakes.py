"""Commits and trees that are too large for a body, through a relay."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from restante import Refused, blobs, handshakes
from restante.blobs import BlobKeys, BlobReference
from restante.engine import inbox, records
from restante.engine.budget import BUDGET_BYTES, STRANGERS
from restante.engine.outbox import Job
from restante.handshakes import MAX_HANDSHAKE_BYTES, Admission, CommitReference
from restante.links import Connection
from restante.outbox import Outbox
from restante_crypto.suites import XWING
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server import config
from restante_server.app import Relay
from support.engines import stranger
from support.people import people, person, settled, together
from support.relay import relay_in_process
from support.waiting import until


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with relay_in_process(tmp_path / "relay") as relay:
        yield relay


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is too large for a body."""
    monkeypatch.setattr(handshakes, "COMMIT_INLINE_BYTES", 0)
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)


def stored(folder: Path) -> list[Path]:
    """The files of the relay's blobs."""
    return list(folder.glob("relay/relay.db.blobs/??/*"))


async def test_what_a_hundred_joiners_cost(relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deposited: list[int] = []
    uploaded: list[int] = []
    deposit, upload = Outbox.request, blobs.upload

    async def counted_deposit(self: Outbox, connection: Connection, job: Job) -> frames.Deposited:
        deposited.append(len(job.body))
        return await deposit(self, connection, job)

    async def counted_upload(
        session: aiohttp.ClientSession, url: str, relay_key: bytes, keys: BlobKeys, content: bytes, life: int
    ) -> BlobReference:
        uploaded.append(len(content))
        return await upload(session, url, relay_key, keys, content, life)

    async with people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
        room = await alice.client.start_conversation(await bob.client.invite())
        theirs = await bob.room()
        relay_key = alice.client._engine.relay_key or b""
        monkeypatch.setattr(Outbox, "request", counted_deposit)
        monkeypatch.setattr(blobs, "upload", counted_upload)
        now = int(time.time())
        driver, engine = alice.client._driver, alice.client._engine
        intents = await driver.do(engine.add, room.id, [stranger(XWING, relay_key, now) for _ in range(100)])
        await driver.commits.committed(intents)
        assert len(room.members) == 102
        assert len(uploaded) == 2
        assert sum(uploaded) < 100 * 5000, "the tree, once, and the Commit, which holds 100 KeyPackages"
        assert len(deposited) == 101
        assert max(deposited) < 4096, "a Welcome, or where the Commit is"
        assert sum(uploaded) + sum(deposited) < 1_000_000, "it was 27 MB with the tree in each Welcome"
        await settled([room, theirs], [alice, bob])
        assert alice.alarms == bob.alarms == []


@pytest.mark.usefixtures("large")
async def test_all_handshakes_by_blobs(relay: Relay, tmp_path: Path) -> None:
    async with people(tmp_path, relay.url, "alice", "bob", "carol") as readers:
        alice, bob, carol = readers
        rooms = await together(alice, bob)
        await rooms[0].add(await carol.client.invite())
        rooms.append(await carol.room())
        await asyncio.gather(*(room.update_keys() for room in rooms))
        await rooms[2].send("heard by all")
        await alice.reads("heard by all")
        await bob.reads("heard by all")
        await settled(rooms, readers)
        assert all(reader.alarms == [] for reader in readers)
        assert rooms[0].epoch == 5
        await rooms[0].remove(carol.client.account_id)
        await rooms[1].send("not for carol")
        await alice.reads("heard by all", "not for carol")
        assert carol.texts == []
        before = len(await asyncio.to_thread(stored, tmp_path))
        own = len(await alice.client._driver.run(alice.client._engine.blobs))
        assert own
        await alice.client.erase()
        assert len(await asyncio.to_thread(stored, tmp_path)) == before - own


@pytest.mark.usefixtures("large")
async def test_what_strangers_have_used_up_holds_up_nobody_who_is_known(relay: Relay, tmp_path: Path) -> None:
    async with people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol):
        await together(alice, bob)

        def flood() -> None:
            engine, now = bob.client._engine, int(time.time())
            with engine._state.transaction():
                engine._tables.downloads.put(STRANGERS, records.Spent(now, BUDGET_BYTES).pack(), sort=now)

        await bob.client._driver.run(flood)
        unknown = await carol.client.start_conversation(await bob.client.invite())
        room = await alice.client.start_conversation(await bob.client.invite())
        assert (await bob.room()).id == room.id
        assert unknown.id not in {each.id for each in bob.client.conversations()}


@pytest.mark.usefixtures("large")
async def test_who_is_known_does_not_wait_for_a_stranger_s_tree(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()
    fetch = blobs.fetch

    async def slow(session: aiohttp.ClientSession, url: str, reference: BlobReference, *more: Any) -> bytes:  # noqa: ANN401 -- as it is
        if not begun.is_set():
            begun.set()
            await goes_on.wait()
        return await fetch(session, url, reference, *more)

    async with people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol):
        await together(alice, bob)
        monkeypatch.setattr(blobs, "fetch", slow)
        unknown = await carol.client.start_conversation(await bob.client.invite())
        await begun.wait()
        room = await alice.client.start_conversation(await bob.client.invite())
        assert (await bob.room()).id == room.id
        goes_on.set()
        assert (await bob.room()).id == unknown.id


@pytest.mark.usefixtures("large")
async def test_a_member_who_was_away_fetches_what_it_missed(relay: Relay, tmp_path: Path) -> None:
    async with person(tmp_path, "alice", relay.url) as alice:
        async with person(tmp_path, "bob", relay.url) as bob:
            room, _ = await together(alice, bob)
        for number in range(3):
            await room.update_keys()
            await room.send(f"{number}")
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.reads("0", "1", "2")
            assert bob.alarms == []


@pytest.mark.usefixtures("large")
async def test_a_lost_commit_is_no_silence(relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "COMMIT_PATIENCE", 0)
    async with person(tmp_path, "alice", relay.url) as alice:
        async with person(tmp_path, "bob", relay.url) as bob:
            room, _ = await together(alice, bob)
        await room.update_keys()
        for path in await asyncio.to_thread(stored, tmp_path):
            await asyncio.to_thread(path.unlink)
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.until(lambda: bool(bob.alarms))
            assert bob.alarms[0].cause == "a Commit that the relay does not have any more"
            (theirs,) = bob.client.conversations()
            await theirs.send("here again")
            await alice.until(lambda: "here again" in alice.texts)
            assert theirs.epoch_authenticator == room.epoch_authenticator


async def test_a_relay_that_changes_a_blob_has_lost_it(
    relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: None
) -> None:
    monkeypatch.setattr(inbox, "COMMIT_PATIENCE", 0)
    async with person(tmp_path, "alice", relay.url) as alice:
        async with person(tmp_path, "bob", relay.url) as bob:
            room, _ = await together(alice, bob)
        await room.update_keys()
        for path in await asyncio.to_thread(stored, tmp_path):
            data = bytearray(await asyncio.to_thread(path.read_bytes))
            data[-1] ^= 1
            await asyncio.to_thread(path.write_bytes, data)
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.until(lambda: bool(bob.alarms))
            assert bob.alarms[0].cause == "a Commit that the relay does not have any more"


@pytest.mark.usefixtures("large")
async def test_a_loser_leaves_nothing_at_the_relay(relay: Relay, tmp_path: Path) -> None:
    async with people(tmp_path, relay.url, "alice", "bob") as readers:
        rooms = await together(*readers)
        await asyncio.gather(*(room.update_keys() for room in rooms for _ in range(3)))
        await settled(rooms, readers)
        kept = 1 + rooms[0].epoch  # the first tree, and each Commit

        async def deleted() -> bool:
            return len(await asyncio.to_thread(stored, tmp_path)) == kept

        await until(deleted)


async def test_a_relay_without_blobs_refuses_large_handshakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        relay_in_process(tmp_path / "relay", max_blobs_bytes=0) as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        room = await alice.client.start_conversation(await bob.client.invite())
        theirs = await bob.room()
        monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)
        invite = await carol.client.invite()
        for change in (partial(room.add, invite), partial(alice.client.start_conversation, invite)):
            with pytest.raises(Refused, match="ask its operator") as refused:
                await change()
            assert refused.value.code == Code.LIMIT
        assert [each.id for each in alice.client.conversations()] == [room.id]
        assert len(room.members) == 2
        await theirs.send("as before")
        await alice.until(lambda: len(alice.alarms) >= 2 and bool(alice.got))
        assert {alarm.cause for alarm in alice.alarms} == {"a change that the relay does not take"}
        monkeypatch.undo()
        await room.add(await carol.client.invite())


@pytest.mark.one_relay
async def test_a_relay_whose_blobs_are_full_delays(tmp_path: Path, large: None) -> None:
    async with (
        relay_in_process(tmp_path / "relay", max_blobs_bytes=config.BLOB_LEAST_CHARGE) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        starting = asyncio.ensure_future(alice.client.start_conversation(await bob.client.invite()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(starting), 1)
        assert len((await alice.client._driver.run(alice.client._engine.due)).commits) == 1
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


def test_what_travels_is_checked() -> None:
    keys = BlobKeys.make(os.urandom)
    reference = keys.reference(b"content")
    commit = CommitReference(commit=reference)
    assert CommitReference.decode(commit.encode()) == commit
    assert handshakes.is_reference(commit.encode())
    for tree in (b"tree", reference):
        admission = Admission(message=b"message", tree=tree)
        assert Admission.decode(admission.encode()) == admission
        assert repr(admission) == "<Admission>"
    large = BlobReference(keys.blob, keys.key, bytes(32), MAX_HANDSHAKE_BYTES + 1)
    for wrong in (
        lambda: CommitReference(version=0, commit=reference),
        lambda: CommitReference(commit=large),
        lambda: CommitReference.decode(b"\x91\x01"),
        lambda: Admission(version=0, message=b"", tree=b""),
        lambda: Admission(message=b"", tree=large),
        lambda: Admission.decode(b"\x00\x01"),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()
