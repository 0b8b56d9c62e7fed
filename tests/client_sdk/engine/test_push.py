"""What a client's file keeps of its endpoint, and when the relay is asked about it."""

from pathlib import Path

import pytest

from restante.engine import records
from restante.engine.push import LOOK, LookPush
from restante.engine.state import REFUSED_SECONDS
from support.engines import Clock, Member, Post

ENDPOINT = "https://push.example.net/a"


@pytest.fixture
def member(tmp_path: Path) -> Member:
    member = Member(Post(), tmp_path, "alice", Clock())
    member.engine.consents.grant("push", b"version1")
    return member


def looks(member: Member) -> int:
    """How often the relay is to be asked now."""
    member.engine.upkeep()
    return sum(isinstance(chore, LookPush) for chore in member.engine.chores.due())


def test_the_relay_is_asked_once_a_day(member: Member) -> None:
    assert looks(member) == 0
    member.engine.push.set(ENDPOINT)
    assert looks(member) == 0
    member.clock.pass_seconds(LOOK)
    assert looks(member) == 1
    member.engine.push.set(ENDPOINT)
    assert looks(member) == 0


def test_what_is_refused_for_now_is_tried_again_soon(member: Member) -> None:
    member.engine.push.set(ENDPOINT)
    member.clock.pass_seconds(LOOK)
    member.engine.push.later()
    assert looks(member) == 0
    member.clock.pass_seconds(REFUSED_SECONDS)
    assert looks(member) == 1
    member.reopen()
    assert member.engine.due().chores
    assert looks(member) == 1


def test_a_mailbox_that_is_registered_again_tells_it_again(member: Member) -> None:
    member.engine.registered(b"receipt")
    assert looks(member) == 0, "there is none"
    member.engine.push.set(ENDPOINT)
    member.engine.registered(b"receipt")
    own = member.engine.push.own()
    assert own is not None
    assert (own.endpoint, own.told, looks(member)) == (ENDPOINT, False, 1)


def test_without_its_purpose_it_is_forgotten_in_silence(member: Member) -> None:
    member.engine.push.set(ENDPOINT)
    member.engine.consents.withdraw("push")
    assert looks(member) == 0
    assert member.engine.push.own() is None
    assert lost(member) == 0


def test_that_it_is_gone_is_told_once(member: Member) -> None:
    member.engine.push.later()
    member.engine.push.forget(True)
    assert lost(member) == 0, "there was none"
    member.engine.push.set(ENDPOINT)
    for _ in range(2):
        member.engine.push.forget(True)
    assert (member.engine.push.own(), lost(member)) == (None, 1)


def lost(member: Member) -> int:
    rows = [records.unpack_event(row.value) for row in member.engine._tables.events.rows()]
    return sum(isinstance(each, records.PushLostEvent) for each in rows)
