"""Who may ask to be let in again, who answers, and how often."""

import os
from pathlib import Path
from typing import Any

import pytest

from restante.engine.answering import ANSWER_DELAY, ANSWERS_PER_HOUR, LATER_DELAY
from restante.engine.conversations import OUTER_KEY_SECONDS
from restante.resync import ResyncAnswer, ResyncRequest
from restante_crypto import sealing
from restante_crypto.mls import SignatureKeyPair
from restante_crypto.suites import SUITES
from support.engines import Member, World, conversation

DAY = 86_400
REFUSED = "a request to be let in again that fails its checks"


class Asker:
    """Somebody with a member's keys who writes requests by hand, and opens the answers.

    Attributes:
        member: whose keys.
        address: of the mailbox that answers go to: the member's.
    """

    def __init__(self, world: World, member: Member) -> None:
        self.world = world
        self.member = member
        room = conversation(world, member)
        self.group = room.current
        self.tag, self.key = room.tag, room.key
        self.address = room.addresses()[self.place]
        self.private, self.public = SUITES[self.group.suite].kem.derive_key_pair(os.urandom(32))

    @property
    def place(self) -> int:
        return [each.index for each in self.group.members].index(self.group.own_index)

    def request(self, signer: SignatureKeyPair | None = None, **changes: Any) -> ResyncRequest:  # noqa: ANN401
        fields: dict[str, Any] = {
            "conversation": self.group.group_id,
            "epoch": self.group.epoch,
            "authenticator": self.group.epoch_authenticator,
            "public": self.public,
            "address": self.address,
            "signature_key": self.member.engine._state.signer.public,
        } | changes
        return ResyncRequest(**fields).sign(signer or self.member.engine._state.signer)

    def ask(self, other: Member, request: ResyncRequest) -> None:
        body = sealing.seal_body(self.tag, self.key, request.message(), os.urandom)
        other.arrive(os.urandom(16), body, None)
        other.read()

    def answers(self) -> list[ResyncAnswer]:
        """Take what came to the member's mailbox and opens with our key."""
        waiting, self.member.waiting = self.member.waiting, []
        found = []
        for entry in waiting:
            if entry.body[:8] == sealing.welcome_tag(self.public):
                plain = sealing.open_answer(self.group.suite, self.private, entry.body)
                found.append(ResyncAnswer.decode(plain))
        return found


def answered(asker: Asker, *others: Member) -> list[ResyncAnswer]:
    """Let time pass until all of these would have answered."""
    asker.world.clock.pass_seconds(30)
    for other in others:
        other.engine.ripen()
        other.send_all()
    return asker.answers()


def test_a_member_is_answered_with_all_it_needs(world: World) -> None:
    alice, bob, carol = world.members
    asker = Asker(world, carol)
    bob.engine.update_keys(world.room)
    assert bob.commit(world.room)
    alice.read()
    request = asker.request()
    asker.ask(alice, request)
    (answer,) = answered(asker, alice)
    room = conversation(world, alice)
    assert answer.verify()
    assert answer.request == request.digest()
    assert answer.history == [(1, asker.group.epoch_authenticator), (2, world.view(alice)[1])]
    assert (answer.fence, answer.tag, answer.key) == (room.fence, room.tag, room.key)
    assert answer.replaces == asker.group.own_index
    assert answer.resumption
    assert alice.causes() == []


@pytest.mark.parametrize(
    "change",
    [
        {"conversation": b"c" * 16},
        {"epoch": 2},
        {"authenticator": bytes(32)},
        {"public": bytes(5)},
    ],
)
def test_a_request_that_does_not_fit_is_refused(world: World, change: dict[str, Any]) -> None:
    alice, _, carol = world.members
    asker = Asker(world, carol)
    asker.ask(alice, asker.request(**change))
    assert alice.causes() == [REFUSED]
    assert answered(asker, alice) == []


def test_a_request_that_another_key_signed_is_refused(world: World) -> None:
    alice, bob, carol = world.members
    asker = Asker(world, carol)
    asker.ask(alice, asker.request(signer=bob.engine._state.signer))
    assert alice.causes() == [REFUSED]
    assert answered(asker, alice) == []


def test_bytes_that_are_no_request(world: World) -> None:
    alice, _, carol = world.members
    asker = Asker(world, carol)
    body = sealing.seal_body(asker.tag, asker.key, asker.request().message()[:40], os.urandom)
    alice.arrive(os.urandom(16), body, None)
    alice.read()
    assert alice.causes() == [REFUSED]


def test_strangers_removed_members_and_ones_own_device_get_no_answer(world: World) -> None:
    alice, bob, carol = world.members
    removed, own = Asker(world, carol), Asker(world, alice)
    alice.engine.remove(world.room, carol.engine.account_id)
    assert alice.commit(world.room)
    stranger = SignatureKeyPair(b"k" * 32, b"s" * 32)
    removed.ask(alice, removed.request())
    removed.ask(alice, removed.request(signature_key=stranger.public))
    own.ask(alice, own.request())
    assert answered(removed, alice) == answered(own, alice) == []
    assert alice.causes() == []
    assert bob is not carol


def test_a_request_is_answered_once_however_it_is_sealed(world: World) -> None:
    alice, _, carol = world.members
    asker = Asker(world, carol)
    for _ in range(3):
        asker.ask(alice, asker.request())
    assert len(answered(asker, alice)) == 1
    asker.ask(alice, asker.request())
    assert answered(asker, alice) == []


def test_a_device_is_answered_so_often_within_an_hour(world: World) -> None:
    alice, _, carol = world.members
    askers = [Asker(world, carol) for _ in range(ANSWERS_PER_HOUR + 2)]
    for asker in askers:
        asker.ask(alice, asker.request())
    alice.engine.ripen()
    alice.send_all()
    assert len(carol.waiting) == ANSWERS_PER_HOUR
    world.clock.pass_seconds(3600)
    asker = Asker(world, carol)
    alice.engine.upkeep()
    asker.ask(alice, asker.request())
    assert len(answered(asker, alice)) == 1


def test_members_answer_in_the_order_of_their_leaves(tmp_path: Path) -> None:
    names = ("alice", "bob", "carol", "dave", "erin")
    world = World(tmp_path, *names)
    asker = Asker(world, world.members[4])
    due = []
    for member in world.members[:4]:
        before = world.clock.now
        asker.ask(member, asker.request())
        at = member.engine._recovery.answering.next_at()
        assert at is not None
        due.append(round(at - before, -2))
        assert member.engine.due().wait is not None
    assert due == [0, ANSWER_DELAY, 2 * ANSWER_DELAY, 3 * ANSWER_DELAY + LATER_DELAY]
    world.close()


def test_nobody_answers_a_device_that_is_in_again(world: World) -> None:
    alice, bob, carol = world.members
    carol.engine.resync(world.room)
    carol.do_chores()
    carol.send_all()
    alice.read()
    bob.read()
    assert bob.engine._recovery.answering.next_at() is not None
    alice.engine.ripen()
    alice.send_all()
    carol.read()
    world.clock.pass_seconds(3)
    carol.engine.ripen()
    assert carol.commit(world.room)
    bob.read()
    assert bob.engine._recovery.answering.next_at() is None
    alice.read()
    assert world.agreed


def test_an_answer_that_is_due_after_its_asker_left_is_none(world: World) -> None:
    alice, _, carol = world.members
    asker = Asker(world, carol)
    asker.ask(alice, asker.request())
    alice.engine.remove(world.room, carol.engine.account_id)
    assert alice.commit(world.room)
    assert answered(asker, alice) == []


def test_an_outer_key_is_kept_for_90_days_after_its_epoch(world: World) -> None:
    alice, bob, carol = world.members
    asker = Asker(world, carol)
    for member in (alice, bob):
        member.engine.update_keys(world.room)
        world.settle()
    world.clock.pass_seconds(OUTER_KEY_SECONDS - DAY)
    alice.engine.upkeep()
    asker.ask(alice, asker.request())
    (answer,) = answered(asker, alice)
    assert not answer.resumption  # the first may have forgotten its PSK
    world.clock.pass_seconds(2 * DAY)
    alice.engine.upkeep()
    asker.ask(alice, asker.request(branch=b"again"))
    assert answered(asker, alice) == []
    assert alice.engine.due().held


def test_the_outer_key_of_an_epoch_that_never_ends_is_kept(world: World) -> None:
    alice, bob, _ = world.members
    world.clock.pass_seconds(3 * OUTER_KEY_SECONDS)
    for member in world.members:
        with member.engine._state.transaction():
            member.engine._conversations.prune()
    alice.say(world.room, "long ago")
    bob.read()
    assert bob.texts() == ["long ago"]


def test_a_psk_counts_only_if_nobody_came_since(world: World, tmp_path: Path) -> None:
    alice, _, carol = world.members
    asker = Asker(world, carol)
    dave = Member(world.post, tmp_path, "dave", world.clock)
    alice.engine.add(world.room, [alice.claim(dave.invite(), dave)])
    assert alice.commit(world.room)
    asker.ask(alice, asker.request())
    (answer,) = answered(asker, alice)
    assert not answer.resumption
    dave.engine.close()


def test_members_on_the_branch_that_was_left_are_silent(world: World) -> None:
    alice, bob, carol = world.members
    asker = Asker(world, carol)
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    asker.ask(alice, asker.request(branch=world.view(alice)[1]))
    assert answered(asker, alice) == []
    asker.ask(alice, asker.request(branch=bytes(32)))
    assert len(answered(asker, alice)) == 1
    bob.waiting.clear()
    asker.ask(bob, asker.request(branch=bytes(32)))  # has no next epoch yet: cannot say on which one it is
    assert answered(asker, bob) == []


def test_who_is_lost_itself_does_not_answer(world: World) -> None:
    alice, bob, carol = world.members
    asker = Asker(world, carol)
    asker.ask(alice, asker.request())
    alice.engine.resync(world.room)
    assert answered(asker, alice) == []
    assert bob is not carol


def test_answered_requests_are_forgotten_with_their_keys(world: World) -> None:
    alice, _, carol = world.members
    asker = Asker(world, carol)
    asker.ask(alice, asker.request())
    assert len(answered(asker, alice)) == 1
    assert alice.engine._tables.resyncs.count() == 2
    world.clock.pass_seconds(OUTER_KEY_SECONDS + DAY)
    alice.engine.upkeep()
    assert alice.engine._tables.resyncs.count() == 0
