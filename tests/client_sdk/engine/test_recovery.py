"""Letting oneself in again: whose answers count, what the Commit must be, and what is lost on the way."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from restante import handshakes
from restante.account import capabilities, certify, credential, leaf_extensions
from restante.blobs import BlobKeys
from restante.engine import records, recovery
from restante.engine.inbox import COMMIT_PATIENCE
from restante.engine.parcels import Fetch
from restante.errors import ConversationError
from restante.resync import ResyncAnswer, ResyncRequest, read_request
from restante_crypto import primitives, sealing
from restante_crypto.blobs import Encoder
from restante_crypto.mls import (
    Group,
    SignatureKeyPair,
    resumption_psk_id,
)
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import ExternalInit, PreSharedKey, Remove
from restante_protocol import frames
from restante_protocol.errors import Code
from support.engines import Member, World, conversation

REFUSED = "an answer to this device that fails its checks"
NOWHERE = "an answer to this device that leads nowhere"


def requested(world: World, asker: Member) -> ResyncRequest:
    """Let a member ask; return its request, which nobody has read."""
    asker.engine.resync(world.room)
    asker.do_chores()
    asker.send_all()
    other = next(member for member in world.members if member is not asker)
    entry = other.waiting.pop()
    epoch = other.engine._conversations.epochs(conversation(world, other))
    _, common = next(found for found in epoch.values() if found[0] == entry.body[:8])
    return read_request(sealing.open_body(common.key, entry.body))


def answer_of(
    world: World,
    member: Member,
    request: ResyncRequest,
    signer: SignatureKeyPair | None = None,
    changes: dict[str, Any] | None = None,
) -> ResyncAnswer:
    """What this member would answer, with changes."""
    room, signer = conversation(world, member), signer or member.engine._state.signer
    epochs = sorted(member.engine._conversations.epochs(room).items())
    asker = next(each for each in room.current.members if each.leaf.signature_key == request.signature_key)
    fields: dict[str, Any] = {
        "request": request.digest(),
        "history": [(number, epoch.authenticator) for number, (_, epoch) in epochs if number >= request.epoch],
        "fence": room.fence,
        "tag": room.tag,
        "key": room.key,
        "replaces": asker.index,
        "resumption": True,
        "group_info": room.current.group_info(with_tree=False),
        "tree": room.current.ratchet_tree,
        "signature_key": signer.public,
    } | (changes or {})
    return ResyncAnswer(**fields).sign(signer)


def give(world: World, asker: Member, request: ResyncRequest, answer: ResyncAnswer) -> None:
    suite = conversation(world, world.members[0]).current.suite
    asker.arrive(os.urandom(16), sealing.seal_answer(suite, request.public, answer.encode(), os.urandom), None)
    asker.read()


def commit_of(world: World, asker: Member, message: bytes, fence: bytes, member: Member) -> None:
    """Deposit a message as if it were the winner of the fence; the member reads it."""
    room = conversation(world, member)
    member.arrive(os.urandom(16), sealing.seal_body(room.tag, room.key, message, os.urandom), fence)
    member.read()
    assert asker is not member


def let_in(world: World, asker: Member, seen_by: Member, changes: dict[str, Any]) -> bytes:
    """An external Commit of the asker into the group as another member sees it."""
    engine, group = asker.engine, conversation(world, seen_by).current
    state = engine._state
    own = next(each for each in group.members if each.leaf.signature_key == state.signer.public)
    fields: dict[str, Any] = {
        "signer": state.signer,
        "credential": credential(state.me),
        "capabilities": capabilities(state.suites),
        "leaf_extensions": leaf_extensions(engine._mailroom.leaf(engine._mailroom.spare_address() or b"")),
        "replaces": own.index,
    } | changes
    return Group.join_externally(
        group.group_info(), authenticate=lambda _new, _old: None, random=os.urandom, **fields
    ).message


# The way in.


def test_one_call_lets_a_healthy_member_in_again(world: World) -> None:
    alice, bob, carol = world.members
    before = conversation(world, carol).state.address
    carol.engine.resync(world.room)
    assert carol.engine.is_resyncing(world.room)
    carol.engine.submit([(world.room, "kept meanwhile", None)])
    world.settle()
    assert not carol.engine.is_resyncing(world.room)
    assert world.agreed
    assert world.view(alice)[0] == 2
    assert conversation(world, carol).state.address != before
    assert alice.texts() == bob.texts() == ["kept meanwhile"]
    for member in world.members:
        member.say(world.room, "all read it")
    for member in world.members:
        member.read()
        assert member.texts() == ["all read it"] * 2
        assert member.causes() == []


def test_the_commit_has_the_resumption_psk_that_all_hold(world: World) -> None:
    alice, _, carol = world.members
    carol.engine.resync(world.room)
    carol.do_chores()
    carol.send_all()
    for member in world.members[:2]:
        member.read()
        world.clock.pass_seconds(1)
        member.engine.ripen()
        member.send_all()
    carol.read()
    (row,) = carol.engine._tables.rejoins.rows()
    rejoin = records.Rejoin.unpack(row.value)
    room = conversation(world, alice)
    message: Any = MLSMessage.parse(sealing.open_body(room.key, rejoin.body)).body
    kinds = [type(item.proposal) for item in message.content.content.proposals]
    assert kinds == [ExternalInit, Remove, PreSharedKey]
    world.settle()
    assert world.agreed


def test_large_trees_and_commits_are_blobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)
    monkeypatch.setattr(handshakes, "COMMIT_INLINE_BYTES", 0)
    alice, bob, carol = world.members
    carol.engine.resync(world.room)
    world.settle()
    assert world.agreed
    assert world.view(carol)[0] == 2
    assert len(world.post.blobs) == 2  # the tree that alice and bob have shared, and carol's Commit
    assert alice.causes() == bob.causes() == carol.causes() == []


def test_a_tree_that_is_not_what_was_named_is_refused(world: World) -> None:
    alice, _, carol = world.members
    keys = BlobKeys.make(os.urandom)
    encoder = Encoder(keys.key)
    world.post.blobs[keys.blob] = encoder.update(b"no tree") + encoder.finish()[0]
    request = requested(world, carol)
    give(world, carol, request, answer_of(world, alice, request, changes={"tree": keys.reference(b"no tree")}))
    world.clock.pass_seconds(3)
    carol.engine.ripen()
    assert carol.causes() == [NOWHERE]


def test_an_answer_whose_tree_is_lost_is_said_and_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)
    alice, bob, carol = world.members
    carol.engine.resync(world.room)
    carol.do_chores()
    carol.send_all()
    for member in (alice, bob):
        member.read()
        world.clock.pass_seconds(1)
        member.engine.ripen()
        member.send_all()
    world.post.blobs.clear()
    carol.read()
    world.clock.pass_seconds(COMMIT_PATIENCE)
    carol.do_parcels()
    assert carol.causes() == ["an answer whose tree the relay does not have"] * 2
    for member in (alice, bob):
        for keys, _ in member.engine.blobs():
            member.engine.deleted(keys.blob)
    world.settle()
    assert world.agreed
    assert not carol.engine.is_resyncing(world.room)


def test_the_tree_of_an_answer_that_is_not_needed_is_not_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)
    alice, bob, carol = world.members
    request = requested(world, carol)
    keys = BlobKeys.make(os.urandom)
    give(world, carol, request, answer_of(world, bob, request, changes={"tree": keys.reference(b"lost")}))
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request))
    world.clock.pass_seconds(3)
    carol.engine.ripen()
    assert carol.commit(world.room)
    world.clock.pass_seconds(COMMIT_PATIENCE)
    carol.do_parcels()
    assert not carol.engine.due().parcels
    assert carol.causes() == []


def test_a_member_has_one_tree_fetched_for_a_request(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    trees = [BlobKeys.make(os.urandom).reference(bytes([number])) for number in range(5)]
    suite = conversation(world, alice).current.suite
    for member, tree in ((bob, trees[0]), *((bob, tree) for tree in trees), (alice, trees[4])):
        answer = answer_of(world, member, request, changes={"tree": tree}).encode()
        carol.arrive(os.urandom(16), sealing.seal_answer(suite, request.public, answer, os.urandom), None)
    carol.engine.receive(carol.waiting)
    fetches = [work.reference for work in carol.engine.parcels() if isinstance(work, Fetch)]
    assert len(fetches) == 2
    assert {each.blob for each in fetches} == {trees[0].blob, trees[4].blob}


def test_who_came_and_went_while_one_was_lost_is_said(world: World, tmp_path: Path) -> None:
    alice, bob, carol = world.members
    dave = Member(world.post, tmp_path, "dave", world.clock)
    alice.engine.remove(world.room, bob.engine.account_id)
    alice.engine.add(world.room, [alice.claim(dave.invite(), dave)])
    assert alice.commit(world.room)
    alice.send_all()
    for member in (bob, dave):
        member.read()
    carol.waiting.clear()
    carol.engine.resync(world.room)
    world.members[1] = dave
    world.settle()
    assert world.agreed
    changes = [each for each in carol.events() if isinstance(each, records.AddedEvent | records.RemovedEvent)]
    room = bytes.fromhex(world.room)
    assert changes == [
        records.RemovedEvent(room, bob.engine._state.me, b""),
        records.AddedEvent(room, dave.engine._state.me, b""),
    ]
    bob.engine.close()


def test_without_its_psk_a_member_is_let_in_as_well(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request, changes={"resumption": False}))
    assert carol.commit(world.room)
    world.settle()
    assert world.agreed


def test_two_members_at_once(world: World) -> None:
    for member in world.members[1:]:
        member.engine.resync(world.room)
    world.settle()
    assert world.agreed
    assert world.view(world.members[0])[0] == 3


def test_in_a_conversation_of_two_the_only_answer_is_taken_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, "alice", "bob")
    alice, bob = world.members
    request = requested(world, bob)
    give(world, bob, request, answer_of(world, alice, request))
    assert bob.commit(world.room)
    alice.read()
    assert world.agreed
    world.close()


def test_alone_there_is_nobody_to_ask(tmp_path: Path) -> None:
    world = World(tmp_path, "alice", "bob")
    alice, bob = world.members
    alice.engine.remove(world.room, bob.engine.account_id)
    assert alice.commit(world.room)
    alice.engine.resync(world.room)
    assert not alice.engine.is_resyncing(world.room)
    world.close()


def test_the_loser_of_a_fence_asks_again(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request))
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    assert not carol.commit(world.room)
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) is None
    world.settle()
    assert world.agreed
    assert world.view(carol)[0] == 3


def test_a_killed_client_deposits_the_same_commit_again(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request))
    job = carol.engine.prepare_commit(bytes.fromhex(world.room))
    assert job is not None
    assert world.post.deposit(job)
    carol.reopen()
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) == job
    carol.do_chores()
    carol.read()  # its own copy, if its new address was registered; else the fence tells
    carol.engine.fence_winner(job.fence or b"", job.message_id, job.body)
    assert not carol.engine.is_resyncing(world.room)
    carol.engine.commit_won(bytes.fromhex(world.room), job.message_id, [])
    world.settle()
    assert world.agreed


def test_a_commit_that_the_relay_refuses(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request))
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) is not None
    carol.engine.commit_refused(bytes.fromhex(world.room), Code.LIMIT)
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) is None
    assert carol.causes() == ["the relay refused to let this device in again"]


def test_requests_are_repeated_ever_less_often(world: World) -> None:
    carol = world.members[2]
    carol.engine.resync(world.room)
    asked = []
    for minute in range(200):
        before = conversation(world, carol).state.resync_count
        carol.engine.upkeep()
        if minute == 0 or conversation(world, carol).state.resync_count > before:
            asked.append(minute)
        world.clock.pass_seconds(60)
    assert [later - earlier for earlier, later in pairwise(asked)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert carol.engine._tables.resync_keys.count(bytes.fromhex(world.room)) == recovery.KEYS_KEPT
    carol.engine.resync(world.room)
    assert conversation(world, carol).state.resync_count == 1


def test_a_request_waits_for_an_address(world: World) -> None:
    carol = world.members[2]
    for row in carol.engine._tables.addresses.rows(b"\x00"):
        with carol.engine._state.transaction():
            carol.engine._tables.addresses.delete(row.key)
    carol.engine.resync(world.room)
    assert conversation(world, carol).state.resync_count == 0
    world.settle()
    assert world.agreed


# Whose answers count.


def changed_history(answer: ResyncAnswer) -> dict[str, Any]:
    return {"history": [(answer.history[0][0], bytes(32)), *answer.history[1:]]}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _answer: {"request": bytes(32)},
        changed_history,
        lambda answer: {"history": [(answer.history[0][0] - 1, answer.history[0][1])]},
    ],
    ids=["another request", "another authenticator", "an older epoch"],
)
def test_an_answer_that_does_not_fit_is_refused(world: World, spoil: Callable[[ResyncAnswer], dict[str, Any]]) -> None:
    alice, _, carol = world.members
    request = requested(world, carol)
    good = answer_of(world, alice, request)
    give(world, carol, request, answer_of(world, alice, request, changes=spoil(good)))
    assert carol.causes() == [REFUSED]
    assert carol.engine._tables.resync_answers.count() == 0


def test_an_answer_with_a_broken_signature_is_refused(world: World) -> None:
    alice, _, carol = world.members
    request = requested(world, carol)
    answer = msgspec.structs.replace(answer_of(world, alice, request), fence=bytes(32))
    give(world, carol, request, answer)
    assert carol.causes() == [REFUSED]


def test_an_answer_that_cannot_be_opened_is_refused(world: World) -> None:
    _, _, carol = world.members
    request = requested(world, carol)
    carol.arrive(os.urandom(16), sealing.welcome_tag(request.public) + bytes(90), None)
    carol.read()
    assert carol.causes() == [REFUSED]


def test_an_answer_of_a_stranger_or_of_ones_own_device_is_refused(world: World, tmp_path: Path) -> None:
    alice, _, carol = world.members
    eve = Member(world.post, tmp_path, "eve", world.clock)
    request = requested(world, carol)
    for signer in (eve.engine._state.signer, carol.engine._state.signer):
        give(world, carol, request, answer_of(world, alice, request, signer))
    assert carol.causes() == [REFUSED] * 2
    eve.engine.close()


def test_answers_after_one_is_in_again_change_nothing(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    late = answer_of(world, bob, request)
    give(world, carol, request, answer_of(world, alice, request))
    world.clock.pass_seconds(3)
    carol.engine.ripen()
    assert carol.commit(world.room)
    give(world, carol, request, late)
    alice.read()
    bob.read()
    assert world.agreed
    assert carol.engine.due().held  # its key is gone


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _world: {"group_info": b"none"},
        lambda world: {"history": [*answer_history(world), (9, bytes(32))]},
        lambda _world: {"replaces": 0},
    ],
    ids=["no GroupInfo", "of another epoch", "in the place of another"],
)
def test_an_answer_whose_group_is_not_what_it_says(world: World, spoil: Callable[[World], dict[str, Any]]) -> None:
    alice, _, carol = world.members
    request = requested(world, carol)
    give(world, carol, request, answer_of(world, alice, request, changes=spoil(world)))
    world.clock.pass_seconds(3)
    carol.engine.ripen()
    assert carol.causes() == [NOWHERE]
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) is None
    world.clock.pass_seconds(60)
    world.settle()
    assert world.agreed


def answer_history(world: World) -> list[tuple[int, bytes]]:
    epochs = world.members[0].engine._conversations.epochs(conversation(world, world.members[0]))
    return [(number, epoch.authenticator) for number, (_, epoch) in sorted(epochs.items()) if number >= 1]


def test_a_removed_member_is_not_heard_even_with_a_true_group_info(world: World) -> None:
    """Bob was removed; he shows what alice's group looks like, which says itself that he is no member."""
    alice, bob, carol = world.members
    alice.engine.remove(world.room, bob.engine.account_id)
    assert alice.commit(world.room)
    carol.waiting.clear()
    request = requested(world, carol)
    give(world, carol, request, answer_of(world, alice, request, bob.engine._state.signer))
    world.clock.pass_seconds(3)
    carol.engine.ripen()
    assert carol.causes() == [NOWHERE]


def forked_answer(world: World, member: Member, request: ResyncRequest) -> ResyncAnswer:
    """An answer with a group that the member has committed alone, under no fence."""
    room = conversation(world, member)
    branch = room.current.commit(random=os.urandom).group
    history = [(room.current.epoch, room.current.epoch_authenticator), (branch.epoch, branch.epoch_authenticator)]
    changes = {
        "history": history,
        "group_info": branch.group_info(with_tree=False),
        "tree": branch.ratchet_tree,
        "fence": os.urandom(32),
    }
    return answer_of(world, member, request, changes=changes)


def test_a_removed_member_of_whom_the_asker_does_not_know_is_outvoted(tmp_path: Path) -> None:
    world = World(tmp_path, "mallory", "alice", "bob", "carol")
    mallory, alice, bob, carol = world.members
    mallory.waiting.clear()
    alice.engine.remove(world.room, mallory.engine.account_id)
    assert alice.commit(world.room)
    bob.read()
    carol.waiting.clear()
    request = requested(world, carol)
    give(world, carol, request, forked_answer(world, mallory, request))
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request))
    assert carol.commit(world.room)
    alice.read()
    bob.read()
    world.members.remove(mallory)
    assert world.agreed
    mallory.engine.close()
    world.close()


def test_as_many_for_one_group_as_for_another_is_no_answer(tmp_path: Path) -> None:
    world = World(tmp_path, "mallory", "alice", "carol")
    mallory, alice, carol = world.members
    alice.engine.remove(world.room, mallory.engine.account_id)
    assert alice.commit(world.room)
    mallory.waiting.clear()
    carol.waiting.clear()
    request = requested(world, carol)
    give(world, carol, request, forked_answer(world, mallory, request))
    give(world, carol, request, answer_of(world, alice, request))
    assert carol.causes() == ["members let this device in to different groups"]
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) is None
    world.close()


def test_an_old_file_follows_the_others_and_hears_no_removed_member(tmp_path: Path) -> None:
    world = World(tmp_path, "mallory", "alice", "carol")
    mallory, alice, carol = world.members
    mallory.waiting.clear()
    old = copy_of(carol)
    carol.say(world.room, "after the copy")
    alice.read()
    alice.engine.remove(world.room, mallory.engine.account_id)
    assert alice.commit(world.room)
    put_back(carol, old)
    carol.waiting.clear()
    carol.engine.subscribed(acknowledged(10**9))
    assert carol.engine.due().held
    carol.follow()
    assert world.view(carol)[0] == 2
    assert mallory.engine.account_id not in carol.engine.views()[world.room].members
    assert carol.engine.jobs(frozenset(), 10) != []  # the request alone
    world.members.remove(mallory)
    world.settle()
    assert world.agreed
    mallory.engine.close()
    world.close()


def copy_of(member: Member) -> bytes:
    member.engine.close()
    copy = member.path.read_bytes()
    member.engine = member._open()
    return copy


def put_back(member: Member, copy: bytes) -> None:
    member.engine.close()
    member.path.write_bytes(copy)
    member.engine = member._open()


def acknowledged(sequence: int) -> Any:  # noqa: ANN401 -- a frame
    return frames.Subscribed(1, b"i" * 16, b"t" * 8, sequence, [])


def test_an_old_copy_does_not_finish_the_resync_of_the_newer_one(world: World) -> None:
    alice, bob, carol = world.members
    request = requested(world, carol)
    for member in (alice, bob):
        give(world, carol, request, answer_of(world, member, request))
    old = copy_of(carol)
    world.settle()
    assert world.agreed
    carol.say(world.room, "with keys of the new epoch")
    put_back(carol, old)
    carol.engine.subscribed(acknowledged(10**9))
    assert carol.engine.prepare_commit(bytes.fromhex(world.room)) is None
    world.settle()
    assert world.agreed


def test_an_old_copy_that_meets_the_newer_ones_resync_asks_itself(world: World) -> None:
    alice, _, carol = world.members
    old = copy_of(carol)
    carol.engine.resync(world.room)
    world.settle()
    alice.engine.update_keys(world.room)
    world.settle()
    put_back(carol, old)
    carol.engine.subscribed(acknowledged(10**9))
    world.settle()
    assert world.agreed
    assert world.view(carol)[0] == 4


# Forks.


def test_who_is_on_the_wrong_branch_hears_nobody_who_is_on_it_too(world: World) -> None:
    alice, bob, carol = world.members
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.read()
    carol.read()
    with carol.engine._state.transaction():
        carol.engine._recovery.request(conversation(world, carol), "a fork", 1)
    resync = requested(world, carol)
    assert resync.branch == world.view(bob)[1]  # bob, too, is on the branch that carol leaves
    give(world, carol, resync, answer_of(world, bob, resync))
    before = answer_of(world, bob, resync)
    give(world, carol, resync, answer_of(world, bob, resync, changes={"history": before.history[:1]}))
    assert [cause for cause in carol.causes() if cause == REFUSED] == [REFUSED] * 2
    assert carol.engine._tables.resync_answers.count() == 0


def test_a_fork_heals_and_its_wrong_epochs_are_forgotten(world: World) -> None:
    alice, bob, carol = world.members
    fence = conversation(world, alice).fence
    won = {}
    for member in (alice, carol):
        world.post.fences.pop(fence, None)  # the relay forgets
        member.engine.update_keys(world.room)
        assert member.commit(world.room)
        won[member] = world.post.fences[fence]
        for other in world.members:
            other.waiting.clear()
    for member in world.members:
        for each in won.values():
            member.arrive(*each, fence)
        member.read()
    world.settle()
    assert world.agreed
    known: dict[int, set[bytes]] = {}
    for member in (alice, bob, carol):
        for number, (_, epoch) in member.engine._conversations.epochs(conversation(world, member)).items():
            known.setdefault(number, set()).add(epoch.authenticator)
    assert all(len(authenticators) == 1 for authenticators in known.values())


def test_who_finds_another_winner_at_the_relay_leaves_their_branch(world: World) -> None:
    """Alice's winner was lost with the relay's disk, and bob has won meanwhile: nobody receives both."""
    alice, bob, carol = world.members
    fence = conversation(world, alice).fence
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    del world.post.fences[fence]
    bob.waiting.clear()
    carol.waiting.clear()
    bob.engine.update_keys(world.room)
    assert bob.commit(world.room)
    carol.read()
    alice.waiting.clear()
    alice.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    world.settle()
    assert world.agreed
    assert "the group was forked by a relay that lost its memory" in alice.causes()
    assert bob.causes() == carol.causes() == []


def test_the_winner_that_is_kept_is_deposited_again_like_any_other(world: World) -> None:
    carol = world.members[2]
    carol.engine.resync(world.room)
    world.settle()
    rows = carol.engine._tables.winners.rows(bytes.fromhex(world.room))
    assert records.WinningCommit.unpack(rows[-1].value).fence in world.post.fences


# What members take.


def fence_advanced(world: World, member: Member, message: bytes) -> bool:
    """Give a member a Commit under its fence; say whether it was found invalid for everybody."""
    fence = conversation(world, member).fence
    before = world.view(member)
    commit_of(world, world.members[2], message, fence, member)
    assert world.view(member) == before
    return member.causes() == ["an invalid Commit won"] and conversation(world, member).fence != fence


def test_an_external_commit_that_removes_nobody_is_invalid_for_all(world: World) -> None:
    """Another device of a member's account, certified, lets itself in beside the old one."""
    alice, bob, carol = world.members
    seed = os.urandom(32)
    device = SignatureKeyPair(primitives.ed25519_public(seed), seed)
    leaf = msgspec.structs.replace(
        carol.engine._mailroom.leaf(carol.engine._mailroom.spare_address() or b""),
        certificate=certify(carol.engine._state.identity, device.public),
    )
    changes: dict[str, Any] = {"replaces": None, "signer": device, "leaf_extensions": leaf_extensions(leaf)}
    message = let_in(world, carol, alice, changes)
    assert fence_advanced(world, alice, message)
    assert fence_advanced(world, bob, message)


def test_an_external_commit_in_the_place_of_another_account_is_invalid_for_all(world: World, tmp_path: Path) -> None:
    alice, bob, carol = world.members
    eve = Member(world.post, tmp_path, "eve", world.clock)
    state = eve.engine._state
    index = conversation(world, carol).current.own_index
    changes: dict[str, Any] = {
        "replaces": index,
        "signer": state.signer,
        "credential": credential(state.me),
        "leaf_extensions": leaf_extensions(eve.engine._mailroom.leaf(eve.engine._mailroom.spare_address() or b"")),
    }
    message = let_in(world, carol, alice, changes)
    assert fence_advanced(world, alice, message)
    assert fence_advanced(world, bob, message)
    eve.engine.close()


def test_an_external_commit_without_a_certificate_is_invalid_for_all(world: World) -> None:
    alice, _, carol = world.members
    leaf = msgspec.structs.replace(
        carol.engine._mailroom.leaf(carol.engine._mailroom.spare_address() or b""), certificate=bytes(64)
    )
    assert fence_advanced(world, alice, let_in(world, carol, alice, {"leaf_extensions": leaf_extensions(leaf)}))


@pytest.mark.parametrize("epoch", [0, 7])
def test_a_psk_that_not_all_hold_is_invalid_for_all(world: World, epoch: int) -> None:
    alice, bob, carol = world.members
    group = conversation(world, alice).current
    psk = resumption_psk_id(group.suite, group.group_id, epoch, os.urandom)
    psks = {group.group_id + epoch.to_bytes(8, "big"): os.urandom(32)}
    message = let_in(world, carol, alice, {"psk_ids": [psk], "psks": psks})
    assert fence_advanced(world, alice, message)
    assert fence_advanced(world, bob, message)


# Damage.


@pytest.mark.parametrize("table", ["groups", "messages"])
@pytest.mark.parametrize("damage", ["broken", "gone", "junk"])
def test_a_damaged_group_is_said_and_healed(world: World, table: str, damage: str) -> None:
    alice, bob, carol = world.members
    cells = getattr(carol.engine._tables, table)
    room = bytes.fromhex(world.room)
    with carol.engine._state.transaction():
        if damage == "junk":
            cells.put(room, b"junk")
        elif damage == "gone":
            cells.delete(room)
        else:
            database = cells._database
            blind = cells._blind_key(room)
            sql = "UPDATE cell SET value = zeroblob(length(value)) WHERE tab = ?1 AND key = ?2"
            assert database.write(sql, (cells._number, blind)) == 1
    carol.reopen()
    assert carol.causes() == ["the stored state of this conversation is damaged"]
    view = carol.engine.views()[world.room]
    assert view.active
    assert sorted(view.members) == sorted(alice.engine.views()[world.room].members)
    with pytest.raises(ConversationError, match="damaged"):
        carol.engine.update_keys(world.room)
    carol.engine.submit([(world.room, "kept meanwhile", None)])
    alice.say(world.room, "lost on me")
    carol.read()
    world.settle()
    assert world.agreed
    assert bob.texts() == ["lost on me", "kept meanwhile"]
    assert alice.texts() == ["kept meanwhile"]
    assert carol.texts() == []


def test_one_leaves_a_damaged_conversation(world: World) -> None:
    carol = world.members[2]
    with carol.engine._state.transaction():
        carol.engine._tables.groups.delete(bytes.fromhex(world.room))
    carol.reopen()
    assert carol.engine.leave(world.room) is None
    assert not carol.engine.views()[world.room].active


def test_who_has_no_outer_key_left_can_ask_nobody(world: World) -> None:
    carol = world.members[2]
    with carol.engine._state.transaction():
        carol.engine._tables.epochs.delete_group(bytes.fromhex(world.room))
    carol.engine.resync(world.room)
    assert carol.causes() == ["nobody can let this device in again"]
    assert not carol.engine.views()[world.room].active
