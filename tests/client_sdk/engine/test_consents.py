"""What a client's file keeps of consents, and what it lets the relay know."""

from pathlib import Path

import pytest

from restante.engine import records
from restante.engine.consents import PutConsent
from restante_protocol.limits import MAX_SLOT_LIFETIME
from support.engines import Clock, Member, Post

OLD, NEW = b"version1", b"version2"


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Member(Post(), tmp_path, "alice", Clock())


def chores(member: Member) -> list[PutConsent]:
    return [chore for chore in member.engine.chores.due() if isinstance(chore, PutConsent)]


def test_a_later_decision_counts(member: Member) -> None:
    """What a chore reports after the person decided otherwise changes nothing."""
    engine = member.engine
    engine.consents.grant("push", OLD)
    (grant,) = chores(member)
    engine.consents.withdraw("push")
    engine.chores.done(grant)
    engine.consents.refused(grant)
    assert engine.consents.granted() == {}
    (withdrawal,) = chores(member)
    assert withdrawal == PutConsent("push", b"")
    engine.consents.grant("push", NEW)
    engine.chores.done(withdrawal)
    assert engine.consents.granted() == {"push": NEW}


def test_a_consent_is_renewed_before_it_lapses(member: Member) -> None:
    engine = member.engine
    engine.consents.grant("push", OLD)
    engine.consents.grant("news", OLD)
    assert engine.due().chores
    assert chores(member) == [PutConsent("push", OLD)], "news stay here"
    engine.chores.done(PutConsent("push", OLD))
    engine.upkeep()
    assert (engine.due().chores, chores(member)) == (False, [])
    member.clock.pass_seconds(MAX_SLOT_LIFETIME - 29 * 86_400)
    engine.upkeep()
    assert engine.due().chores
    assert chores(member) == [PutConsent("push", OLD)]


def test_decisions_outlive_the_client(member: Member) -> None:
    member.engine.consents.grant("handle", OLD)
    member.engine.consents.grant("push", OLD)
    member.engine.consents.withdraw("push")
    member.reopen()
    assert member.engine.consents.granted() == {"handle": OLD}
    assert set(chores(member)) == {PutConsent("handle", OLD), PutConsent("push", b"")}


def test_what_is_offered_otherwise_is_off_and_told_once(member: Member) -> None:
    engine = member.engine
    for name in ("handle", "push", "news"):
        engine.consents.grant(name, OLD)
    for _ in range(2):
        engine.consents.offered({"handle": OLD, "push": NEW})
        assert engine.consents.granted() == {"handle": OLD}
    rows = [records.unpack_event(row.value) for row in engine._tables.events.rows()]
    assert sorted(each.purpose for each in rows if isinstance(each, records.PurposeEvent)) == ["news", "push"]
