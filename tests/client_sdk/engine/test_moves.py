"""Conversations of the older suite go on with the hybrid one: up, never down, whatever happens on the way."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from restante import handshakes
from restante.account import CONVERSATION_EXTENSION
from restante.engine import records
from restante.engine.conversations import Conversation, identity, leaf_data
from restante.engine.moves import BEGIN_PATIENCE, RANKED, is_better
from restante.errors import ConversationError
from restante_crypto import primitives, sealing
from restante_crypto.mls import Extension, KeyPackage, ReInit
from restante_crypto.suites import SUITES, XWING
from support.engines import Member, World, conversation

CLASSICAL = 3
OLD, NEW = SUITES[CLASSICAL].name, SUITES[XWING].name


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Three members whose platforms had no ML-KEM when they met."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(primitives, "has_ml_kem_768", lambda: False)
        made = World(tmp_path, "alice", "bob", "carol")
    yield made
    made.close()


def upgrade(*members: Member) -> None:
    """Their platforms have it from now on."""
    for member in members:
        member.reopen()
        member.do_chores()


def suites(world: World) -> list[str]:
    return [member.engine.views()[world.room].suite for member in world.members]


def settle(world: World, members: Sequence[Member], seconds: int = 8) -> None:
    """Let these do everything that is wanted."""
    for _ in range(seconds):
        for member in members:
            member.engine.upkeep()
            member.read()
            member.send_all()
            for wanted in member.engine.due().commits:
                member.commit(wanted.hex())
            member.do_chores()
        world.clock.pass_seconds(1)
    for member in members:  # also what the last one has committed
        member.read()


def until_offered(world: World) -> None:
    """Everybody has an offer in its leaf, and nobody has proposed the ReInit yet."""
    upgrade(*world.members)
    for _ in range(2):
        for member in world.members:
            for other in world.members:
                other.read()
                other.do_chores()
            member.engine.update_keys(world.room)
            assert member.commit(world.room)
    for member in world.members:
        member.read()
        assert all(leaf_data(each.leaf).offer for each in conversation(world, member).current.members)
        assert not conversation(world, member).ended


def end(world: World, member: Member) -> None:
    """This member's ReInit wins."""
    world.clock.pass_seconds(5)
    member.engine.upkeep()
    assert member.commit(world.room)
    assert conversation(world, member).ended


def begin(world: World, member: Member) -> bool:
    return member.commit(world.room)


def test_all_go_up_once_all_can(world: World) -> None:
    alice, bob, _ = world.members
    assert set(suites(world)) == {OLD}
    before = world.view(alice)[0]
    upgrade(*world.members)
    settle(world, world.members)
    assert set(suites(world)) == {NEW}
    assert world.agreed
    assert world.view(alice)[0] > before
    for member in world.members:
        events = [event for event in member.events() if isinstance(event, records.SuiteEvent)]
        assert [(event.conversation.hex(), event.suite) for event in events] == [(world.room, NEW)]
        room = conversation(world, member)
        assert room.current.group_id != room.id
        assert identity(room.current)[0] == room.id
        assert not any(leaf_data(each.leaf).offer for each in room.current.members)
        assert member.engine.due().commits == ()
    bob.say(world.room, "as before")
    alice.read()
    assert alice.texts() == ["as before"]
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    settle(world, world.members)
    assert world.agreed


def test_one_who_cannot_holds_all_back_and_no_offer_is_made(world: World) -> None:
    alice, bob, carol = world.members
    upgrade(alice, bob)
    settle(world, world.members)
    assert set(suites(world)) == {OLD}
    assert not any(leaf_data(each.leaf).offer for each in conversation(world, carol).current.members)
    upgrade(carol)
    settle(world, world.members)
    assert set(suites(world)) == {NEW}


def test_who_was_away_comes_after(world: World) -> None:
    alice, bob, carol = world.members
    until_offered(world)
    settle(world, [alice, bob])
    assert suites(world) == [NEW, NEW, OLD]
    alice.say(world.room, "for carol, too")
    carol.engine.submit([(world.room, "queued meanwhile", None)])
    carol.reopen()
    carol.read()
    assert carol.texts() == ["for carol, too"]
    settle(world, world.members)
    assert world.agreed
    assert bob.texts() == ["for carol, too", "queued meanwhile"]


def test_messages_of_the_same_moment_are_not_lost(world: World) -> None:
    alice, bob, carol = world.members
    until_offered(world)
    bob.engine.submit([(world.room, "on its way", None)])
    (job,) = bob.engine.jobs((), 10)
    end(world, alice)
    bob.deposit(job)  # encrypted before, accepted after
    bob.read()
    bob.engine.submit([(world.room, "while there is no group", None)])
    assert [each.key for each in bob.engine.jobs((), 10) if each.key != job.key] == []
    alice.read()
    assert begin(world, alice)
    carol.read()
    settle(world, world.members)
    assert set(suites(world)) == {NEW}
    for member in (alice, carol):
        assert member.texts() == ["on its way", "while there is no group"]
    late = world.view(carol)[0]
    assert late == world.view(alice)[0]


def test_late_messages_of_the_old_group_are_read_in_their_window(world: World) -> None:
    alice, bob, carol = world.members
    until_offered(world)
    (job,) = bob.say(world.room, "late")
    (entry,) = carol.waiting
    carol.waiting.clear()
    settle(world, [alice, bob])
    carol.read()
    assert suites(world) == [NEW, NEW, NEW]
    carol.arrive(job.message_id, entry.body, None)
    carol.read()
    assert carol.texts() == ["late"]


def test_another_begins_if_the_first_is_gone(world: World) -> None:
    alice, bob, carol = world.members
    until_offered(world)
    end(world, alice)
    bob.read()
    carol.read()
    assert not begin(world, bob)
    settle(world, [carol], 1)
    assert suites(world)[1:] == [OLD, OLD]
    world.clock.pass_seconds(3 * BEGIN_PATIENCE // 1000)
    assert begin(world, carol)
    assert not begin(world, bob), "carol's has won, and bob has followed"
    assert suites(world)[1:] == [NEW, NEW]
    assert not begin(world, alice)
    settle(world, world.members)
    assert world.agreed


def test_killed_anywhere_it_goes_on(world: World) -> None:
    alice, bob, carol = world.members
    room = bytes.fromhex(world.room)
    until_offered(world)
    world.clock.pass_seconds(5)
    alice.engine.upkeep()
    job = alice.engine.prepare_commit(room)
    assert job is not None
    alice.reopen()
    assert alice.engine.prepare_commit(room) == job
    assert alice.deposit(job)
    alice.reopen()
    alice.read()  # its own copy
    assert conversation(world, alice).ended
    alice.reopen()
    assert room in alice.engine.due().commits
    welcome = alice.engine.prepare_commit(room)
    assert welcome is not None
    alice.reopen()
    assert alice.engine.prepare_commit(room) == welcome
    assert alice.deposit(welcome)
    for member in (alice, bob, carol):
        member.reopen()
        member.read()
    assert set(suites(world)) == {NEW}
    settle(world, world.members, 3)
    assert world.agreed


def test_a_large_welcome_goes_by_a_blob(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    until_offered(world)
    monkeypatch.setattr(handshakes, "COMMIT_INLINE_BYTES", 0)
    settle(world, world.members)
    assert set(suites(world)) == {NEW}
    assert len(world.post.blobs) >= 2, "the ReInit and the Welcome"
    assert world.agreed


def test_who_joins_later_knows_the_conversation_by_the_same_id(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    upgrade(*world.members)
    settle(world, world.members)
    dave = Member(world.post, tmp_path, "dave", world.clock)
    alice.engine.add(world.room, [alice.claim(dave.invite(), dave)])
    settle(world, [*world.members, dave], 3)
    dave.engine.accept(world.room)
    assert world.view(dave) == world.view(alice) == world.view(bob)
    dave.say(world.room, "new here")
    alice.read()
    assert alice.texts() == ["new here"]
    dave.engine.close()


def test_who_is_in_conversations_of_strangers_says_nothing(world: World) -> None:
    carol = world.members[2]
    upgrade(*world.members)
    with carol.engine._state.transaction():
        carol.engine._conversations.update(conversation(world, carol), accepted=False)
    settle(world, world.members)
    assert set(suites(world)) == {OLD}
    carol.engine.accept(world.room)
    settle(world, world.members)
    assert set(suites(world)) == {NEW}


# What is refused.


def wanted(room: Conversation, **changes: object) -> ReInit:
    data = msgspec.structs.replace(room.data, conversation=room.id, before=room.epoch + 1)
    return replace(
        ReInit(bytes(16), 1, XWING, (Extension(CONVERSATION_EXTENSION, data.encode()),)),
        **changes,  # type: ignore[arg-type]  # fields of a ReInit
    )


@pytest.mark.parametrize("what", ["another suite", "another group id", "another conversation", "no offers"])
def test_a_reinit_that_should_not_be_is_void_for_everybody(world: World, what: str) -> None:
    if what == "no offers":
        upgrade(*world.members)
    else:
        until_offered(world)
    alice, bob, carol = world.members
    room = conversation(world, alice)
    match what:
        case "another suite":
            reinit = wanted(room, suite=1)
        case "another group id":
            reinit = wanted(room, group_id=b"short")
        case "another conversation":
            reinit = wanted(room, extensions=room.current.extensions)
        case _:
            reinit = wanted(room)
    staged = room.current.commit([reinit], random=os.urandom)
    body = sealing.seal_body(room.tag, room.key, staged.message, os.urandom)
    for member in (bob, carol):
        member.events()
        member.arrive(b"w" * 16, body, room.fence)
        member.read()
        assert member.causes() == ["an invalid Commit won"]
    assert set(suites(world)) == {OLD}
    assert conversation(world, bob).fence == conversation(world, carol).fence != room.fence


def test_the_way_is_up_only(tmp_path: Path) -> None:
    assert is_better(XWING, CLASSICAL)
    for suite in (*RANKED, 1):
        assert not is_better(CLASSICAL, suite)
        assert not is_better(suite, XWING)
    made = World(tmp_path, "alice", "bob")
    alice, bob = made.members
    room = conversation(made, alice)
    staged = room.current.commit([wanted(room, suite=CLASSICAL)], random=os.urandom)
    body = sealing.seal_body(room.tag, room.key, staged.message, os.urandom)
    bob.arrive(b"w" * 16, body, room.fence)
    bob.read()
    assert bob.causes() == ["an invalid Commit won"]
    assert suites(made) == [NEW, NEW]
    settle(made, made.members, 2)
    assert suites(made) == [NEW, NEW]
    made.close()


def test_what_is_no_welcome_under_the_fence_of_an_ended_group_is_void(world: World) -> None:
    alice, bob, carol = world.members
    until_offered(world)
    end(world, alice)
    bob.read()
    carol.read()
    room = conversation(world, bob)
    junk = conversation(world, alice).current.group_info()
    body = sealing.seal_body(room.tag, room.key, junk, os.urandom)
    fence = room.fence
    world.post.fences[fence] = (b"w" * 16, body)
    for member in (bob, carol):
        member.arrive(b"v" * 16, body, None)  # what it is without a fence says nothing about what it is under one
        member.arrive(b"w" * 16, body, fence)
        member.read()
        assert member.causes() == ["a message in a group that has ended", "an invalid Commit won"]
    assert not begin(world, alice), "the fence is lost"
    settle(world, world.members)
    assert set(suites(world)) == {NEW}
    assert world.agreed


def test_nothing_else_is_done_in_a_group_that_has_ended(world: World) -> None:
    alice, bob, _ = world.members
    until_offered(world)
    end(world, alice)
    bob.read()
    with pytest.raises(ConversationError, match="try again"):
        bob.engine.leave(world.room)
    intent = bob.engine.update_keys(world.room)
    assert bob.engine.prepare_commit(bytes.fromhex(world.room)) is None
    assert bob.engine.due().commits == ()
    settle(world, world.members)
    assert not bob.engine.is_wanted(intent)
    assert set(suites(world)) == {NEW}
    assert world.agreed


def test_who_lost_its_offer_lets_others_begin_and_comes_in_again(world: World) -> None:
    alice, bob, carol = world.members
    until_offered(world)
    end(world, alice)
    for member in (alice, carol):
        group = conversation(world, member).current
        offer = KeyPackage.parse(leaf_data(group.tree.occupied_leaf(group.own_index)).offer)
        tag = sealing.welcome_tag(offer.init_key)
        with member.engine._state.transaction():
            member.engine._tables.prekeys.delete(tag)
    assert not begin(world, alice)
    assert alice.causes() == ["a move that this device cannot begin"]
    bob.read()
    world.clock.pass_seconds(3 * BEGIN_PATIENCE // 1000)
    assert begin(world, bob)
    carol.read()
    assert conversation(world, carol).state.resync
    world.settle()
    world.settle()
    assert set(suites(world)) == {NEW}
    assert world.agreed


def test_offers_are_renewed_before_they_end(world: World) -> None:
    alice, bob, carol = world.members
    upgrade(alice, bob)
    settle(world, world.members)
    upgrade(carol)
    until_offered(world)
    before = leaf_data(conversation(world, alice).current.tree.occupied_leaf(0)).offer
    world.clock.pass_seconds(61 * 86_400)
    alice.engine.update_keys(world.room)
    alice.do_chores()
    assert alice.commit(world.room)
    after = leaf_data(conversation(world, alice).current.tree.occupied_leaf(0)).offer
    assert after
    assert after != before
