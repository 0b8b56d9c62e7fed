"""What a hostile relay, a broken member or bad luck can put into a mailbox, and what becomes of it."""

import os
from dataclasses import replace
from pathlib import Path

from restante.account import account_key
from restante.engine import records
from restante.engine.inbox import Entry
from restante_crypto import sealing
from restante_crypto.mls import Remove
from restante_crypto.mls.framing import CONTENT_COMMIT, Commit
from restante_protocol import frames
from restante_protocol.limits import MAX_BODY_BYTES
from support.engines import Member, World, conversation

DAY = 86_400


def test_what_is_said_is_heard_once(world: World) -> None:
    alice, bob, carol = world.members
    (job,) = alice.say(world.room, "hello")
    for message_id in (job.message_id, os.urandom(16)):  # a copied body under another id is the same body
        bob.arrive(message_id, job.body, None)
    for member in (bob, carol, alice):
        member.read()
    assert bob.texts() == ["hello"]
    assert carol.texts() == ["hello"]
    assert alice.events() == []


def test_junk_under_a_fence_advances_it_for_everybody(world: World) -> None:
    fence = conversation(world, world.members[0]).fence
    world.post.fences[fence] = (os.urandom(16), b"junk" * 20)
    for member in world.members:
        member.arrive(*world.post.fences[fence], fence)
        member.read()
        assert member.causes() == ["the winner of a fence is not sealed"]
    assert len({conversation(world, member).fence for member in world.members} | {fence}) == 2
    world.members[1].engine.update_keys(world.room)
    assert world.members[1].commit(world.room)
    world.settle()
    assert world.agreed


def sealed(world: World, number: int, message: bytes) -> bytes:
    room = conversation(world, world.members[number])
    return sealing.seal_body(room.tag, room.key, message, os.urandom)


def test_an_invalid_commit_that_won_advances_it_too(world: World) -> None:
    room = conversation(world, world.members[0])
    content = room.group.frame(CONTENT_COMMIT, Commit((), None), b"")
    _, message = room.group.keys.protect(replace(content, confirmation_tag=bytes(32)), os.urandom)
    body, fence = sealed(world, 0, message), room.fence
    for member in world.members[1:]:
        member.arrive(b"m" * 16, body, fence)
        member.read()
        assert member.causes() == ["an invalid Commit won"]
    assert conversation(world, world.members[1]).fence == conversation(world, world.members[2]).fence != fence


def test_a_broken_seal_under_a_fence_advances_it_as_well(world: World) -> None:
    room = conversation(world, world.members[1])
    world.members[1].arrive(b"m" * 16, room.tag + bytes(400), room.fence)
    world.members[1].read()
    assert world.members[1].causes() == ["the winner of a fence is not sealed"]


def test_a_commit_without_its_fence_is_not_applied(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    job = alice.engine.prepare_commit(bytes.fromhex(world.room))
    assert job is not None
    bob.arrive(job.message_id, job.body, None)
    bob.read()
    assert bob.causes() == ["a Commit without its fence"]
    assert world.view(bob)[0] == 1


def test_a_commit_that_only_this_member_cannot_follow_leads_to_a_resync(world: World) -> None:
    alice, bob, _ = world.members
    room = conversation(world, world.members[1])
    room.group = replace(room.current, private_keys={})
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.read()
    assert bob.causes() == ["a Commit that others can process"]
    assert not conversation(world, world.members[1]).usable
    bob.engine.submit([(world.room, "kept meanwhile", None)])
    world.settle()
    assert world.agreed
    assert world.view(bob)[0] > 2
    assert "kept meanwhile" in alice.texts()


def test_messages_of_an_epoch_whose_commit_is_late_are_held(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    alice.say(world.room, "from the next epoch")
    bob.waiting.reverse()
    bob.engine.receive([bob.waiting.pop(0)])
    assert bob.texts() == []
    assert bob.engine.due().held
    assert bob.engine.suspect_fences() == [conversation(world, world.members[1]).fence]
    bob.read()
    assert bob.texts() == ["from the next epoch"]
    assert bob.engine.suspect_fences() == []


def test_what_nothing_opens_is_reported_after_a_week(world: World) -> None:
    bob = world.members[1]
    bob.arrive(b"m" * 16, os.urandom(300), None)
    bob.read()
    bob.engine.upkeep()
    assert bob.causes() == []
    world.clock.pass_seconds(8 * DAY)
    bob.engine.upkeep()
    assert bob.causes() == ["no key opens it"]


def test_what_is_too_large_for_a_message_is_not_held(world: World) -> None:
    bob = world.members[1]
    bob.arrive(b"m" * 16, os.urandom(MAX_BODY_BYTES + 1), None)
    bob.read()
    assert bob.causes() == ["no key opens it"]
    world.clock.pass_seconds(8 * DAY)
    bob.engine.upkeep()
    assert bob.causes() == [], "nothing was kept"


def test_only_so_much_is_held(world: World) -> None:
    bob = world.members[1]
    bob.engine.receive([Entry(number, b"m" * 16, os.urandom(60), None) for number in range(1, 503)])
    assert bob.causes() == ["no key opens it"] * 2


def test_five_past_epochs_are_read_and_no_more(world: World) -> None:
    alice, bob, carol = world.members
    late = []
    for number in range(7):
        (job,) = alice.say(world.room, f"epoch {number}")
        late.append(job)
        bob.waiting.clear()
        alice.engine.update_keys(world.room)
        assert alice.commit(world.room)
        bob.read()
    for job in late:
        bob.arrive(job.message_id, job.body, None)
    bob.read()
    events = bob.events()
    assert [e.body.decode() for e in events if isinstance(e, records.MessageEvent)] == [
        f"epoch {number}" for number in range(2, 7)
    ]
    assert sum(isinstance(e, records.FailedEvent) for e in events) == 2
    carol.read()
    assert carol.texts() == [f"epoch {number}" for number in range(7)]


def test_past_epochs_are_forgotten_after_a_day(world: World) -> None:
    alice, bob, _ = world.members
    (job,) = alice.say(world.room, "late")
    bob.waiting.clear()
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.read()
    world.clock.pass_seconds(DAY + 60)
    bob.engine.upkeep()
    bob.arrive(job.message_id, job.body, None)
    bob.read()
    assert bob.causes() == ["it came later than its keys are kept"]


def test_gaps_are_counted_and_late_messages_still_come(world: World) -> None:
    alice, bob, _ = world.members
    jobs = [alice.say(world.room, str(number))[0] for number in range(4)]
    bob.waiting = [bob.waiting[0], bob.waiting[3]]
    bob.read()
    events = bob.events()
    assert [type(event).__name__ for event in events] == ["MessageEvent", "MissingEvent", "MessageEvent"]
    assert events[1] == records.MissingEvent(bytes.fromhex(world.room), alice.engine._state.me, 2)
    bob.arrive(jobs[1].message_id, jobs[1].body, None)
    bob.read()
    assert bob.texts() == ["1"]


def test_a_joiner_notices_what_it_missed_since_it_joined(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    alice.say(world.room, "before")
    dave = Member(world.post, tmp_path, "dave", world.clock)
    world.members.append(dave)
    alice.engine.add(world.room, [alice.claim(dave.invite(), dave)])
    assert alice.commit(world.room)
    alice.send_all()
    dave.read()
    dave.engine.accept(world.room)
    dave.events()
    alice.say(world.room, "lost")
    dave.waiting.clear()
    alice.say(world.room, "here")
    dave.read()
    assert [type(event).__name__ for event in dave.events()] == ["MissingEvent", "MessageEvent"]
    assert bob is not dave


def test_a_second_welcome_for_a_used_key_package_is_an_event(world: World) -> None:
    alice, bob, carol = world.members
    package = alice.claim(bob.invite(), bob)
    for member in (alice, carol):
        room, _ = member.engine.create(None, [package])
        member.do_chores()
        assert member.commit(room)
        member.send_all()
    first, second = bob.waiting[-2:]
    bob.waiting = [first, replace(first, message_id=b"r" * 16), second]
    bob.read()
    events = bob.events()
    assert [type(event).__name__ for event in events] == ["RequestEvent", "FailedEvent"] or [
        type(event).__name__ for event in events
    ] == ["AddedEvent", "FailedEvent"]
    assert bob.causes() == []


def test_a_welcome_that_is_junk(world: World) -> None:
    bob = world.members[1]
    tag = next(iter(bob.engine._tables.prekeys.rows())).key
    bob.arrive(b"m" * 16, tag + bytes(200), None)
    bob.read()
    assert bob.causes() == ["a Welcome that fails its checks"]


def test_a_last_resort_package_leads_to_fresh_keys(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    room, _ = alice.engine.create("again", [alice.claim(bob.invite(), bob, last_resort=True)])
    alice.do_chores()
    assert alice.commit(room)
    alice.send_all()
    bob.read()
    assert bob.engine.due().commits == (bytes.fromhex(room),)
    before = bob.engine._conversations.get(bytes.fromhex(room)).state.address
    assert bob.commit(room)
    alice.read()
    assert alice.engine.views()[room].epoch == bob.engine.views()[room].epoch == 2
    assert bob.engine._conversations.get(bytes.fromhex(room)).state.address != before
    assert tmp_path.exists()


def test_an_unknown_message_of_ones_own_means_that_the_file_is_old(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.close()
    old = alice.path.read_bytes()
    alice.engine = alice._open()
    alice.say(world.room, "after the copy")
    alice.engine.close()
    alice.path.write_bytes(old)
    alice.engine = alice._open()
    alice.read()
    assert [type(event).__name__ for event in alice.events()] == ["RolledBackEvent"]
    assert alice.engine.jobs(frozenset(), 10) == []
    alice.engine.submit([(world.room, "again", None)])
    world.settle()
    assert world.agreed
    assert bob.texts() == ["after the copy", "again"]


def test_an_acknowledgement_ahead_of_the_file_means_the_same(world: World) -> None:
    alice = world.members[0]
    alice.engine.subscribed(frames_subscribed(acknowledged=10**9))
    assert [type(event).__name__ for event in alice.events()] == ["RolledBackEvent"]
    world.settle()
    assert world.agreed


def frames_subscribed(acknowledged: int = 0, incarnation: bytes = b"i" * 16) -> frames.Subscribed:
    return frames.Subscribed(1, incarnation, b"t" * 8, acknowledged, [])


def test_two_winners_of_one_fence_are_a_fork_that_heals(world: World) -> None:
    alice, bob, carol = world.members
    fence = conversation(world, world.members[0]).fence
    for member in (alice, carol):
        member.engine.update_keys(world.room)
    assert alice.commit(world.room)
    alice_won = world.post.fences.pop(fence)  # the relay forgets
    carol.waiting.clear()
    assert carol.commit(world.room)
    carol_won = world.post.fences[fence]
    bob.read()
    for member in world.members:
        for won in (alice_won, carol_won):
            member.arrive(*won, fence)
        member.read()
    world.settle()
    assert world.agreed


def test_a_new_incarnation_registers_and_deposits_again(world: World) -> None:
    alice, bob, _ = world.members
    alice.say(world.room, "lost by the relay")
    bob.waiting.clear()
    world.post.owners.clear()
    world.post.fences.clear()
    for member in world.members:
        member.engine.subscribed(frames_subscribed(incarnation=b"j" * 16))
        member.do_chores()
    world.settle()
    assert "lost by the relay" in bob.texts()
    assert world.agreed


def test_a_members_wish_to_leave_is_committed_by_one_of_the_others(world: World) -> None:
    alice, bob, carol = world.members
    key = carol.engine.leave(world.room)
    assert key is not None
    carol.send_all()
    world.members.remove(carol)
    world.settle()
    assert world.agreed
    assert carol.engine.account_id not in alice.engine.views()[world.room].members
    removed = [event for event in bob.events() if isinstance(event, records.RemovedEvent)]
    assert [event.by for event in removed] == [event.member for event in removed] == [carol.engine._state.me]
    world.members.append(carol)


def test_proposals_that_are_no_farewell_are_reported(world: World) -> None:
    room = conversation(world, world.members[0])
    proposed = room.group.propose(Remove(2), random=os.urandom)
    bob = world.members[1]
    bob.arrive(b"m" * 16, sealed(world, 0, proposed.message), None)
    bob.read()
    assert bob.causes() == ["a proposal that is not taken"]


def test_contents_that_cannot_be_read(world: World) -> None:
    room = conversation(world, world.members[0])
    protected = room.group.protect(b"no content", random=os.urandom)
    bob = world.members[1]
    bob.arrive(b"m" * 16, sealed(world, 0, protected.message), None)
    bob.read()
    assert bob.causes() == ["a content that cannot be read"]


def test_broken_seals_and_messages(world: World) -> None:
    bob = world.members[1]
    room = conversation(world, world.members[0])
    bob.arrive(b"m" * 16, room.tag + bytes(400), None)
    bob.arrive(b"n" * 16, sealed(world, 0, b"no message"), None)
    bob.read()
    assert bob.causes() == ["the outer seal fails", "a message fails its checks"]


def test_after_leaving_nothing_is_read(world: World) -> None:
    alice, bob, _ = world.members
    (job,) = alice.say(world.room, "after")
    bob.waiting.clear()
    bob.engine.leave(world.room)
    bob.arrive(job.message_id, job.body, None)
    bob.read()
    assert bob.events() == []


def test_a_device_that_is_removed_or_comes_back_is_an_event(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    clone = Member(world.post, tmp_path, "clone", world.clock, device_of=bob)
    world.members.append(clone)
    alice.engine.add(world.room, [alice.claim(clone.invite(), clone)])
    world.settle()
    clone.engine.accept(world.room)
    bob.engine.resync(world.room)
    world.settle()
    clone.engine.leave(world.room)
    clone.send_all()
    world.settle()
    events = [event for event in alice.events() if isinstance(event, records.DeviceChangedEvent)]
    assert [(event.account, event.change) for event in events] == [
        (account_key(bob.engine.account_id), "rejoined"),
        (account_key(bob.engine.account_id), "removed"),
    ]


def test_another_device_of_a_known_account_is_an_event(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    clone = Member(world.post, tmp_path, "clone", world.clock, device_of=bob)
    alice.engine.add(world.room, [alice.claim(clone.invite(), clone)])
    world.settle()
    for member in (alice, bob):
        events = [event for event in member.events() if isinstance(event, records.DeviceEvent)]
        assert [(event.account, event.conversation.hex()) for event in events] == [
            (account_key(bob.engine.account_id), world.room)
        ]
