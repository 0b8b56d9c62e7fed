"""What the relay is to hold for a client, and when it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.engine.consents import PutConsent
from restante.engine.mailroom import PutAddresses, PutPrekeys, PutSlot
from restante_protocol import frames
from support.engines import Clock, Member, Post


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    made = Member(Post(), tmp_path, "alice", Clock())
    yield made
    made.engine.close()


def kinds(member: Member) -> list[type]:
    return [type(chore) for chore in member.engine.chores.due()]


def wanted(member: Member) -> None:
    member.engine.consents.grant("push", b"version1")
    member.engine.profiles.set("Alice", b"")
    member.engine.new_invite()


def test_addresses_come_before_what_names_them_and_all_of_it_once(member: Member) -> None:
    wanted(member)
    assert kinds(member) == [PutAddresses, PutSlot, PutSlot, PutConsent]
    member.do_chores()
    assert kinds(member) == []
    assert not member.engine.due().chores


def test_what_is_not_confirmed_is_due_again(member: Member) -> None:
    wanted(member)
    before = member.engine.chores.due()
    member.reopen()
    assert member.engine.due().chores
    assert kinds(member) == [type(chore) for chore in before]


def test_a_relay_that_has_lost_everything_is_told_everything(member: Member) -> None:
    wanted(member)
    member.do_chores()
    member.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    assert member.engine.due().chores
    told = kinds(member)
    assert told[0] is PutAddresses
    assert (told.count(PutPrekeys), told.count(PutSlot), told.count(PutConsent)) == (2, 2, 1)


def test_slots_are_known_until_they_are_deleted(member: Member) -> None:
    assert member.engine.chores.slots() == []
    assert member.engine.chores.slot_deletions() == []
    wanted(member)
    assert [(kind, expires) for kind, _, expires in member.engine.chores.slots()] == [("invite", 0), ("profile", 0)]
    member.do_chores()
    assert all(expires > member.clock() // 1000 for _, _, expires in member.engine.chores.slots())
    ids = [slot for _, slot, _ in member.engine.chores.slots()]
    assert [each.slot for each in member.engine.chores.slot_deletions()] == ids
    member.engine.profiles.forget()
    member.engine.forget_invite(ids[0])
    assert member.engine.chores.slots() == []
