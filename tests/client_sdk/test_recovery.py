"""Old files and relays that lost their memory: what is noticed, what is said, and that all can talk again."""

import asyncio
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from restante import Client, ContactRequest, DeviceAdded, Message, NotAdmitted, StateRolledBack
from restante.engine import records
from restante.engine.engine import Engine
from restante.file import ClientFile
from support.mortal import MortalRelay, mortal_relay
from support.people import people, person, settled, together
from support.relay import relay_in_process


def copy_file(source: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        path = source.with_name(source.name + suffix)
        if path.exists():
            shutil.copyfile(path, target.with_name(target.name + suffix))


async def restante(*arguments: object) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "restante_server", *[str(argument) for argument in arguments]
    )
    return await process.wait()


async def restored(relay: MortalRelay, backup: Path) -> None:
    """Stop the relay, put the backup in its place, start it again."""
    await relay.stop()
    assert await restante("restore", backup, "--store", f"sqlite:{relay.store}", "--force") == 0
    await relay.start()


async def test_an_old_file_sends_nothing_in_old_epochs_and_talks_again(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "bob", relay.url) as bob:
        async with person(tmp_path, "alice", relay.url) as alice:
            await together(alice, bob)
        copy_file(tmp_path / "alice.db", tmp_path / "old.db")
        async with person(tmp_path, "alice", relay.url) as alice:
            (room,) = alice.client.conversations()
            for number in range(5):
                await room.send(f"later {number}")
            await room.update_keys()
            await room.send("last")
            await alice.client.drained()
        await bob.until(lambda: "last" in bob.texts)
        (theirs,) = bob.client.conversations()
        epoch = theirs.epoch
        async with Client.open(tmp_path / "old.db", relay=relay.url, passphrase="passphrase of alice") as old:
            (room,) = old.conversations()
            receipt = asyncio.ensure_future(room.send("again"))
            assert isinstance(await asyncio.wait_for(anext(old.events()), 30), StateRolledBack)
            await asyncio.wait_for(receipt, 60)
            await bob.until(lambda: "again" in bob.texts)
            assert theirs.epoch > epoch
            assert room.epoch_authenticator == theirs.epoch_authenticator
            await theirs.send("welcome back")
            async for event in old.events():
                if isinstance(event, Message):
                    assert event.text == "welcome back"
                    break
        assert bob.alarms == []


@pytest.mark.database_file
async def test_a_restored_relay_is_noticed_and_filled_again(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with (
        mortal_relay(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as readers,
    ):
        alice, bob, carol = readers
        before = await bob.client.invite()
        rooms = await together(alice, bob)
        await rooms[0].send("before")
        await bob.reads("before")
        assert await restante("backup", backup, "--store", f"sqlite:{relay.store}") == 0
        await rooms[0].update_keys()
        await rooms[1].send("lost with the disk, but read")
        await alice.until(lambda: len(alice.got) == 1)
        after = await carol.client.invite()
        await rooms[0].add(after)
        rooms.append(await carol.room())
        await restored(relay, backup)
        await rooms[0].send("to all")
        await bob.until(lambda: "to all" in bob.texts)
        await carol.reads("to all")
        await rooms[2].update_keys()
        await settled(rooms, readers)
        for invite, reader in ((before, bob), (after, carol)):
            room = await alice.client.start_conversation(invite)
            await room.send("by an invite")
            await reader.until(lambda reader=reader: "by an invite" in reader.texts)  # type: ignore[misc]  # bound now
        assert all(reader.alarms == [] for reader in readers)


@pytest.mark.database_file
async def test_unread_mail_survives_a_restore(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with mortal_relay(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        async with person(tmp_path, "bob", relay.url) as bob:
            a, _ = await together(alice, bob)
        await a.send("unread in the backup")
        assert await restante("backup", backup, "--store", f"sqlite:{relay.store}") == 0
        await a.send("unread, and not in the backup")
        await restored(relay, backup)
        await alice.client.drained()
        await a.send("after")
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.until(lambda: len(bob.got) == 3)
            assert set(bob.texts) == {"unread in the backup", "unread, and not in the backup", "after"}


@pytest.mark.database_file
async def test_no_prekey_is_issued_twice_over_a_restore(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with mortal_relay(tmp_path / "relay") as relay, person(tmp_path, "bob", relay.url) as bob:
        invite = await bob.client.invite()
        assert await restante("backup", backup, "--store", f"sqlite:{relay.store}") == 0
        async with people(tmp_path, relay.url, "alice", "carol") as others:
            for other in others:
                await (await other.client.start_conversation(invite)).send("hello")
            await bob.until(lambda: len(bob.got) == 2)
            await restored(relay, backup)
            for other in others:
                await (await other.client.start_conversation(invite)).send("again")
            await bob.until(lambda: len(bob.got) == 4)
        assert bob.alarms == []


async def test_a_member_whose_own_commit_never_came_back_follows(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        async with person(tmp_path, "bob", relay.url) as bob:
            a, _ = await together(alice, bob)
        for _ in range(7):  # more epochs than are kept
            await a.update_keys()
        await a.send("seven epochs later")
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.reads("seven epochs later")
            assert bob.alarms == []


async def test_a_request_is_kept_over_closing(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        async with Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="b") as bob:
            await alice.client.start_conversation(await bob.invite())
            await bob.drained()
        async with Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="b") as bob:
            assert isinstance(await asyncio.wait_for(anext(bob.events()), 30), ContactRequest)


async def test_a_relay_that_lost_its_store_admits_its_clients_again(tmp_path: Path) -> None:
    async with (
        mortal_relay(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as readers,
    ):
        alice, bob = readers
        rooms = await together(alice, bob)
        invite = await bob.client.invite()
        await rooms[0].send("before")
        await bob.reads("before")
        await relay.stop()
        for path in relay.folder.glob("relay.db*"):
            if path.is_file():
                path.unlink()
        await relay.start("--admission", "closed")
        await rooms[0].send("after")
        await bob.reads("before", "after")
        await rooms[1].update_keys()
        await settled(rooms, readers)
        await bob.client.invite()  # returns once all that the relay has lost is there again
        again = await alice.client.start_conversation(invite)
        await again.send("by the old invite")
        await bob.until(lambda: "by the old invite" in bob.texts)
        assert all(reader.alarms == [] for reader in readers)
        async with Client.open(tmp_path / "new.db", relay=relay.url, passphrase="n") as stranger:
            with pytest.raises(NotAdmitted):
                await stranger.invite()


async def test_one_call_lets_a_client_in_again(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as readers,
    ):
        rooms = await together(*readers)
        epoch = rooms[2].epoch
        await asyncio.wait_for(rooms[2].resync(), 60)
        assert rooms[2].epoch == epoch + 1
        await settled(rooms, readers)
        await rooms[2].send("here I am again")
        for reader in readers[:2]:
            await reader.reads("here I am again")
        await rooms[0].send("welcome back")
        await readers[2].reads("welcome back")
        assert all(reader.alarms == [] for reader in readers)


async def test_several_members_let_themselves_in_at_once(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as readers,
    ):
        rooms = await together(*readers)
        await asyncio.wait_for(asyncio.gather(rooms[1].resync(), rooms[2].resync()), 120)
        await settled(rooms, readers)
        await rooms[1].send("one")
        await readers[0].reads("one")
        await readers[2].reads("one")


async def test_a_damaged_group_is_healed_over_a_relay(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        async with person(tmp_path, "bob", relay.url) as bob:
            a, _ = await together(alice, bob)
        with (
            closing(
                ClientFile.open(tmp_path / "bob.db", "passphrase of bob", random=os.urandom, tables=records.TABLES)
            ) as file,
            file.transaction(),
        ):
            file.table("groups").put(bytes.fromhex(a.id), b"broken")
        async with person(tmp_path, "bob", relay.url) as bob:
            (b,) = bob.client.conversations()
            await b.send("back again")
            await alice.reads("back again")
            await a.send("indeed")
            await bob.reads("indeed")
            await settled([a, b], [alice, bob])
            assert [alarm.cause for alarm in bob.alarms] == ["the stored state of this conversation is damaged"]


@pytest.mark.database_file
async def test_a_fork_heals_over_a_relay(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    async with mortal_relay(tmp_path / "relay") as relay:
        async with people(tmp_path, relay.url, "alice", "bob") as readers:
            await together(*readers)
            assert await restante("backup", backup, "--store", f"sqlite:{relay.store}") == 0
        async with person(tmp_path, "alice", relay.url) as alice:
            (a,) = alice.client.conversations()
            await a.update_keys()  # bob never hears of it
        await restored(relay, backup)
        async with person(tmp_path, "bob", relay.url) as bob:
            (b,) = bob.client.conversations()
            await b.update_keys()
            async with person(tmp_path, "alice", relay.url) as alice:
                (a,) = alice.client.conversations()
                await alice.until(lambda: bool(alice.alarms))
                await settled([a, b], [alice, bob])
                await a.send("on one branch")
                await bob.reads("on one branch")
                assert [alarm.cause for alarm in alice.alarms] == [
                    "the group was forked by a relay that lost its memory"
                ]


async def test_another_device_of_a_member_is_an_event(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, _ = await together(alice, bob)
        seen: asyncio.Queue[DeviceAdded] = asyncio.Queue()
        alice.client.on(DeviceAdded)(seen.put_nowait)
        seed = bob.client._engine._state.account.identity_seed
        engine = Engine.open(tmp_path / "laptop.db", b"l", relay.url, random=os.urandom, clock=lambda: 0)
        with engine._state.transaction():
            engine._state.set_account(msgspec.structs.replace(engine._state.account, identity_seed=seed))
        engine.close()
        async with Client.open(tmp_path / "laptop.db", relay=relay.url, passphrase="l") as laptop:
            await a.add(await laptop.invite())
        event = await asyncio.wait_for(seen.get(), 30)
        assert (event.account, event.conversation.id) == (bob.client.account_id, a.id)
