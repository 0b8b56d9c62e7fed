"""Profiles: contacts see them, nobody else does, and the relay sees padded bytes."""

import os
from pathlib import Path

import msgspec
import pytest

from restante import Profile
from restante.engine import profiles
from restante_crypto import padding, sealing
from restante_protocol import frames, limits
from support import disk
from support.engines import World, conversation
from support.people import Reader, people, person, together
from support.relay import relay_in_process

NICKNAME = "Canary nickname 7d1e"
AVATAR = b"canary avatar" * 1000


async def settled_profile(reader: Reader, account: str) -> Profile | None:
    await reader.until(lambda: any(event.account == account for event in reader.profiles))
    return await reader.client.profile(account)


def slots(folder: Path) -> list[bytes]:
    return list(disk.slots(folder).values())


async def test_contacts_see_it_and_its_changes_and_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay, people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
        me = alice.client.account_id
        assert await alice.client.profile(me) is None
        assert await bob.client.profile(me) is None
        room, other = await together(alice, bob)
        await alice.client.set_profile(NICKNAME, AVATAR)
        assert await alice.client.profile(me) == Profile(me, NICKNAME, AVATAR)
        assert await settled_profile(bob, me) == Profile(me, NICKNAME, AVATAR)
        await other.send("hello")
        await alice.reads("hello")
        assert bob.got == [], "a profile is no message"
        for body in slots(folder):
            assert b"anary" not in body
        bob.profiles.clear()
        await alice.client.set_profile("Another")
        assert await settled_profile(bob, me) == Profile(me, "Another", b"")
        before = len(slots(folder))
        await alice.client.delete_profile()
        await alice.client.delete_profile()
        assert len(slots(folder)) == before  # a tombstone stands in its place
        assert await bob.client.profile(me) is None
        assert await alice.client.profile(me) is None
        bob.profiles.clear()
        await alice.client.set_profile("Again")
        assert await settled_profile(bob, me) == Profile(me, "Again", b"")
        await room.send("still")
        await bob.reads("still")


async def test_conversations_that_begin_later_are_told_too(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await alice.client.set_profile("Alice")
        await bob.client.set_profile("Bob")
        await together(alice, bob)
        seen = await settled_profile(bob, alice.client.account_id)
        assert seen is not None
        assert seen.nickname == "Alice"
        back = await settled_profile(alice, bob.client.account_id)
        assert back is not None
        assert back.nickname == "Bob"


async def test_a_conversation_with_a_stranger_in_it_is_not_told(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        rooms = await together(alice, bob, carol)
        await bob.client.set_profile("for alice alone")  # carol is no contact of his
        await rooms[1].send("hello")
        await carol.reads("hello")
        await alice.reads("hello")
        assert alice.profiles == []
        assert carol.profiles == []
        with pytest.raises(ValueError, match="account"):
            await carol.client.profile("nobody")
        assert await carol.client.profile(bob.client.account_id) is None


async def test_all_lengths_look_alike_and_fit(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay, person(tmp_path, "alice", relay.url) as alice:
        sizes = set()
        for nickname in ("", "A", "A longer nickname of mine"):
            await alice.client.set_profile(nickname)
            sizes.add(repr(sorted(len(body) for body in slots(folder))))
        assert len(sizes) == 1
        await alice.client.set_profile("x" * 256, b"x" * profiles.MAX_AVATAR_BYTES)
        assert max(len(body) for body in slots(folder)) <= limits.MAX_SLOT_BYTES
        for nickname, avatar in (("x" * 257, b""), ("", bytes(profiles.MAX_AVATAR_BYTES + 1))):
            with pytest.raises(ValueError, match="above"):
                await alice.client.set_profile(nickname, avatar)


async def test_what_is_not_signed_by_the_contact_or_is_older_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay, people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
        me = alice.client.account_id
        await together(alice, bob)
        await alice.client.set_profile("first")
        assert await settled_profile(bob, me) is not None
        link = bob.client._engine.profiles.link(me)
        assert link is not None
        stored = await relay.store.get_slot(link.slot)
        assert stored is not None
        engine = bob.client._engine
        assert engine.profiles.read(me, link, stored.body) == Profile(me, "first", b"")
        assert engine.profiles.read(bob.client.account_id, link, stored.body) is None, "another's signature"
        assert engine.profiles.read(me, link, stored.body[:-1] + bytes((stored.body[-1] ^ 1,))) is None
        assert engine.profiles.read(me, link, b"") is None
        wrong = sealing.seal(
            link.key, padding.pad(msgspec.msgpack.encode([1, -1, "", b"", b""])), link.slot, os.urandom
        )
        assert engine.profiles.read(me, link, wrong) is None, "a number that no profile has"
        newer = profiles.ProfileLink(slot=link.slot, key=link.key, number=link.number + 1)
        assert engine.profiles.read(me, newer, stored.body) is None, "the relay put an old one back"


async def test_it_is_erased_and_exported_with_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay, person(tmp_path, "alice", relay.url) as alice:
        await alice.client.set_profile(NICKNAME, AVATAR)
        (slot,) = alice.client._engine.profiles.slots()
        export = await alice.client.export_data()
        assert [each["id"] for each in export.document["held"]["slot"]] == [slot.hex()]
        assert (await alice.client.erase()).verify()
        assert await relay.store.get_slot(slot) is None


async def test_a_relay_that_lost_its_store_gets_it_again(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "one") as relay, person(tmp_path, "alice", relay.url) as alice:
        await alice.client.set_profile("kept")
        engine = alice.client._engine
        ((_, slot, _),) = engine.chores.slots()
        await relay.store.delete_slot(slot)

        def lost() -> None:
            with engine._state.transaction():
                engine.profiles.register_again()

        await alice.client._driver.run(lost)
        await alice.client._driver.chores.settled()
        assert await relay.store.get_slot(slot) is not None


def test_a_link_of_a_later_version_is_not_read(tmp_path: Path) -> None:
    world = World(tmp_path, "alice", "bob")
    alice, bob = world.members
    found, account = conversation(world, bob), alice.engine._state.me
    with bob.engine._state.transaction():
        bob.engine.profiles.received(found, account, b"of a later version", hold=b"")
    assert bob.events() == []
    assert bob.engine.profiles.link(alice.engine.account_id) is None
    world.close()


def test_a_relay_that_lost_it_is_given_the_profile_again(tmp_path: Path) -> None:
    world = World(tmp_path, "alice", "bob")
    alice, _ = world.members
    alice.engine.profiles.set(NICKNAME, AVATAR)
    alice.do_chores()
    (slot,) = [slot for slot, body in world.post.slots.items() if len(body) > len(AVATAR)]
    world.post.slots.clear()
    alice.do_chores()
    assert slot not in world.post.slots
    alice.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    alice.do_chores()
    assert slot in world.post.slots
    world.close()
