"""Commits: what is wanted together, what loses, what cannot be, and what a member's healing costs."""

import os
from pathlib import Path

import pytest

from restante.account import capabilities, credential, leaf_extensions
from restante.engine import commits
from restante.engine.outbox import Job
from restante.errors import ConversationError, NotAMember
from restante_crypto.mls import Capabilities, KeyPackage, Lifetime, create_key_package
from restante_protocol import frames
from restante_protocol.errors import Code
from support.engines import Member, World, conversation

DAY = 86_400


def impossible(member: Member) -> KeyPackage:
    """A KeyPackage of this member that lacks what every group of ours requires."""
    state = member.engine._state
    leaf = member.engine._mailroom.leaf(member.engine._mailroom.spare_address() or b"")
    able = capabilities((3,))
    return create_key_package(
        3,
        signer=state.signer,
        credential=credential(state.me),
        capabilities=Capabilities(able.versions, able.suites, (leaf_extensions(leaf)[0].type,), (), able.credentials),
        lifetime=Lifetime(0, 2**24),
        leaf_extensions=leaf_extensions(leaf),
        random=os.urandom,
    ).key_package


def test_what_is_wanted_together_is_one_commit(world: World) -> None:
    alice, bob, carol = world.members
    alice.engine.update_keys(world.room)
    alice.engine.remove(world.room, carol.engine.account_id)
    assert alice.commit(world.room)
    bob.read()
    carol.read()
    assert world.view(alice) == world.view(bob)
    assert world.view(alice)[0] == 2
    assert alice.engine.due().commits == ()
    assert [type(event).__name__ for event in carol.events()] == ["RemovedEvent"]


def test_the_loser_follows_and_commits_what_is_left(world: World) -> None:
    alice, bob, carol = world.members
    for member in world.members:
        member.engine.update_keys(world.room)
        assert member.engine.prepare_commit(bytes.fromhex(world.room)) is not None
    assert alice.commit(world.room)
    assert not bob.commit(world.room)
    assert bob.commit(world.room)
    assert not carol.commit(world.room)
    assert not carol.commit(world.room)
    assert carol.commit(world.room)
    world.settle()
    assert world.agreed
    assert world.view(alice)[0] == 4


def test_a_retry_of_the_winner_is_no_second_commit(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    job = alice.engine.prepare_commit(bytes.fromhex(world.room))
    assert job is not None
    assert world.post.deposit(job)
    alice.reopen()  # killed before the answer came
    assert alice.engine.prepare_commit(bytes.fromhex(world.room)) == job
    alice.read()  # the own copy tells that it has won
    assert world.view(alice)[0] == 2
    alice.engine.commit_won(bytes.fromhex(world.room), job.message_id, [])
    bob.read()
    assert world.view(alice) == world.view(bob)


def test_an_impossible_change_is_dropped_and_the_others_are_made(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    dave, eve = (Member(world.post, tmp_path, name, world.clock) for name in ("dave", "eve"))
    good = alice.claim(eve.invite(), eve)
    alice.engine.add(world.room, [impossible(dave), good])
    assert alice.commit(world.room)
    assert alice.causes() == ["a change that the group cannot take"]
    bob.read()
    assert eve.engine.account_id in bob.engine.views()[world.room].members
    assert dave.engine.account_id not in bob.engine.views()[world.room].members
    dave.engine.close()
    eve.engine.close()


def test_a_commit_that_the_relay_never_takes_is_given_up(world: World) -> None:
    alice = world.members[0]
    intent = alice.engine.update_keys(world.room)
    assert alice.engine.prepare_commit(bytes.fromhex(world.room)) is not None
    alice.engine.commit_refused(bytes.fromhex(world.room), Code.LIMIT)
    assert not alice.engine.is_wanted(intent)
    assert alice.causes() == ["a change that the relay does not take"]
    assert alice.engine.prepare_commit(bytes.fromhex(world.room)) is None


def test_members_heal_after_a_week(world: World) -> None:
    alice = world.members[0]
    alice.engine.upkeep()
    assert alice.engine.due().commits == ()
    world.clock.pass_seconds(commits.HEAL_SECONDS + 60)
    world.settle()
    world.clock.pass_seconds(3 * commits.HEAL_SPREAD)
    world.settle()
    assert world.agreed
    assert world.view(alice)[0] == 4  # each has committed once


def heal_times(world: World) -> list[int]:
    """When each member is going to commit, Unix seconds."""
    times = []
    for member in world.members:
        member.engine.upkeep()
        room = conversation(world, member)
        times.append(room.state.heal_at)
    return times


def test_members_spread_over_a_time_that_grows_with_the_group(tmp_path: Path) -> None:
    world = World(tmp_path, *"abcdefgh")
    world.clock.pass_seconds(commits.HEAL_SECONDS)
    due = world.clock.now // 1000
    times = [at - due for at in heal_times(world)]
    assert len(set(times)) > 4
    assert all(0 < each <= 8 * commits.HEAL_SPREAD + 1 for each in times)
    assert max(times) > 2 * commits.HEAL_SPREAD
    assert heal_times(world) == [each + due for each in times]  # chosen once
    assert all(member.engine.due().commits == () for member in world.members)
    world.close()


def test_who_has_committed_meanwhile_heals_no_more(world: World) -> None:
    alice, bob, _ = world.members
    world.clock.pass_seconds(commits.HEAL_SECONDS)
    assert all(heal_times(world))
    bob.engine.update_keys(world.room)
    assert bob.commit(world.room)
    alice.read()
    assert [bool(at) for at in heal_times(world)] == [True, False, True]


def test_joiners_commit_once_where_their_paths_are_cold(tmp_path: Path) -> None:
    world = World(tmp_path, *"abcdefgh")
    cold = [bool(at) for at in heal_times(world)]
    assert cold == [False, False, True, True, True, True, True, True]  # a's Commit has warmed what is above b
    for _ in range(12):
        world.clock.pass_seconds(10)
        for member in world.members:
            member.engine.upkeep()
            for wanted in member.engine.due().commits:
                member.commit(wanted.hex())
            for other in world.members:
                other.read()
    assert world.agreed
    assert 3 <= world.view(world.members[0])[0] - 1 <= 6  # a Commit may warm the path of its neighbour
    assert heal_times(world) == [0] * 8
    world.close()


def test_who_has_not_accepted_says_nothing_by_committing(tmp_path: Path) -> None:
    world = World(tmp_path, *"abcd")
    last = world.members[3]
    room = conversation(world, last)
    with last.engine._state.transaction():
        last.engine._conversations.update(room, accepted=False)
    assert [bool(at) for at in heal_times(world)] == [False, False, True, False]
    world.close()


def test_members_heal_after_many_messages(world: World) -> None:
    alice = world.members[0]
    room = conversation(world, alice)
    with alice.engine._state.transaction():
        alice.engine._conversations.update(room, sent_since_heal=commits.HEAL_MESSAGES)
    alice.engine.upkeep()
    assert alice.engine.due().commits == ()
    world.clock.pass_seconds(3 * commits.HEAL_SPREAD + 1)
    alice.engine.upkeep()
    assert alice.engine.due().commits == (bytes.fromhex(world.room),)


def test_after_a_removal_addresses_are_replaced_and_revoked_a_week_later(world: World) -> None:
    alice, bob, carol = world.members
    old = conversation(world, bob).state.address
    alice.engine.remove(world.room, carol.engine.account_id)
    assert alice.commit(world.room)
    bob.read()
    bob.engine.update_keys(world.room)
    assert bob.commit(world.room)
    new = conversation(world, bob).state.address
    assert new != old
    assert old in world.post.owners
    world.clock.pass_seconds(8 * DAY)
    bob.engine.upkeep()
    bob.do_chores()
    assert old not in world.post.owners
    assert new in world.post.owners


def test_what_cannot_be_asked_for(world: World) -> None:
    alice, bob, carol = world.members
    with pytest.raises(ConversationError):
        alice.engine.remove(world.room, alice.engine.account_id)
    with pytest.raises(NotAMember):
        alice.engine.remove(world.room, "a" * 52)
    with pytest.raises(NotAMember):
        alice.engine.update_keys("00" * 16)
    assert alice.engine.prepare_commit(bytes(16)) is None
    already = alice.engine.add(world.room, [alice.claim(bob.invite(), bob)])
    assert alice.engine.prepare_commit(bytes.fromhex(world.room)) is None
    assert not any(map(alice.engine.is_wanted, already))
    alice.engine.remove(world.room, carol.engine.account_id)
    bob.engine.remove(world.room, carol.engine.account_id)
    assert alice.commit(world.room)
    bob.read()
    assert bob.engine.prepare_commit(bytes.fromhex(world.room)) is None


def test_contents_are_encrypted_anew_when_the_epoch_moved(world: World) -> None:
    alice, bob, carol = world.members
    alice.engine.submit([(world.room, "under way", None)])
    (first,) = alice.engine.jobs((), 10)
    bob.engine.remove(world.room, carol.engine.account_id)
    assert bob.commit(world.room)
    alice.read()
    (second,) = alice.engine.jobs((), 10)
    assert second.body != first.body
    assert len(second.addresses) == 2
    for job in (first, second):  # the first may have arrived all the same
        world.post.deposit(job)
    bob.read()
    assert bob.texts() == ["under way"]


def test_full_mailboxes_are_tried_again_for_a_day(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.submit([(world.room, "full", None)])
    (job,) = alice.send_all(lambda job: [(len(job.addresses) - 1, 26)])
    assert alice.engine.jobs((), 10) == []
    world.clock.pass_seconds(10)
    (again,) = alice.engine.jobs((), 10)
    assert again.addresses == job.addresses[-1:]
    assert (again.message_id, again.body) == (job.message_id, job.body)
    world.clock.pass_seconds(2 * DAY)
    assert alice.engine.jobs((), 10) == []
    assert not alice.engine.due().deposits
    assert bob is not alice


def test_what_is_gone_is_tried_again_only_after_the_relay_lost_its_store(world: World) -> None:
    alice, _, _ = world.members

    def gone(job: Job) -> list[tuple[int, int]]:
        return [(len(job.addresses) - 1, Code.GONE)]

    alice.engine.submit([(world.room, "to nobody", None)])
    alice.send_all(gone)
    assert not alice.engine.due().deposits
    alice.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    alice.send_all()
    alice.engine.submit([(world.room, "to somebody who comes back", None)])
    (job,) = alice.send_all(gone)
    world.clock.pass_seconds(10)
    (again,) = alice.engine.jobs((), 10)
    assert (again.addresses, again.body) == (job.addresses[-1:], job.body)


def test_a_deposit_that_the_relay_rejects_is_an_event(world: World) -> None:
    alice = world.members[0]
    alice.engine.submit([(world.room, "rejected", None)])
    (job,) = alice.engine.jobs((), 10)
    alice.engine.rejected(job.key)
    assert alice.causes() == ["the relay refused a deposit"]
    assert not alice.engine.is_queued(job.key)
