"""The queue of events in a client's file."""

from pathlib import Path

import pytest

from restante.engine.events import PAGE, Events
from restante.engine.records import PurposeEvent, StoredEvent
from support.engines import Clock, Member, Post


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Member(Post(), tmp_path, "alice", Clock())


def emit(member: Member, *names: str, hold: bytes = b"") -> None:
    with member.engine._state.transaction():
        for name in names:
            member.engine.events.emit(PurposeEvent(name), hold=hold)


def everything(_event: StoredEvent) -> bool:
    return True


def names(events: Events) -> list[str]:
    """What an application is given that handles nothing."""
    given: dict[int, str] = {}
    while (found := events.next(given.keys(), everything)) is not None:
        number, event = found
        assert isinstance(event, PurposeEvent)
        given[number] = event.purpose
    return list(given.values())


def test_events_come_in_order_until_they_are_handled(member: Member) -> None:
    many = [str(number) for number in range(3 * PAGE)]
    emit(member, *many)
    assert names(member.engine.events) == many
    for _ in range(2):
        first = member.engine.events.next((), everything)
        assert first is not None
        member.engine.events.handled(first[0])
    member.reopen()
    assert names(member.engine.events) == many[2:]
    emit(member, "last")
    assert names(member.engine.events) == [*many[2:], "last"]


def test_what_is_wanted_is_found_behind_whatever_is_not(member: Member) -> None:
    emit(member, *(["other"] * 3 * PAGE), "wanted")
    found = member.engine.events.next((), lambda event: event == PurposeEvent("wanted"))
    assert found is not None
    assert member.engine.events.next((found[0],), lambda event: event == PurposeEvent("wanted")) is None


def test_what_is_held_waits_for_its_release_and_comes_in_its_place(member: Member) -> None:
    emit(member, "held", hold=b"stranger")
    assert not member.engine.due().events
    emit(member, "free")
    assert names(member.engine.events) == ["free"]
    with member.engine._state.transaction():
        member.engine.events.release(b"stranger")
    assert names(member.engine.events) == ["held", "free"]


def test_what_is_undone_takes_no_number(member: Member) -> None:
    emit(member, "before")

    def undone() -> None:
        with member.engine._state.transaction():
            member.engine.events.emit(PurposeEvent("undone"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    emit(member, "after")
    assert names(member.engine.events) == ["before", "after"]
