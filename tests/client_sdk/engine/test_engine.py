"""The door itself: what a defect of ours, a full disk or an unknown conversation may not do."""

import os

import pytest

from restante.engine import records
from restante.engine.inbox import Entry, Inbox
from restante.errors import ConversationError, FileError, NotAMember, RelayChanged
from restante_protocol.errors import Code
from support.engines import RELAY_KEY, World


def test_a_defect_costs_one_entry_and_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, _ = world.members
    for text in ("before", "broken", "after"):
        alice.say(world.room, text)
    broken = bob.waiting[-2].message_id
    process = Inbox.process

    def defect(self: Inbox, entry: Entry) -> None:
        process(self, entry)
        if entry.message_id == broken:
            raise ZeroDivisionError

    monkeypatch.setattr(Inbox, "process", defect)
    last = bob.waiting[-1].sequence
    bob.read()
    events = bob.events()
    assert [each.body for each in events if isinstance(each, records.MessageEvent)] == [b"before", b"after"]
    assert [each.cause for each in events if isinstance(each, records.FailedEvent)] == ["an error in this client"]
    assert bob.engine.position().cursor == last, "all of them may be acknowledged"


def test_a_file_that_cannot_be_written_acknowledges_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, _ = world.members
    alice.say(world.room, "kept at the relay")
    before, waiting = bob.engine.position(), list(bob.waiting)

    def full(_inbox: Inbox, _entry: Entry) -> None:
        raise FileError

    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "process", full)
        with pytest.raises(FileError):
            bob.engine.receive(waiting)
    assert bob.engine.position() == before
    bob.read()
    assert bob.texts() == ["kept at the relay"]


def test_what_is_drained_counts_as_processed(world: World) -> None:
    bob = world.members[1]
    cursor = bob.engine.position().cursor
    bob.engine.drained(cursor)
    bob.engine.drained(cursor + 7)
    assert bob.engine.position().cursor == cursor + 7


def test_the_relays_key_does_not_change(world: World) -> None:
    alice = world.members[0]
    alice.engine.pin_relay(RELAY_KEY)
    with pytest.raises(RelayChanged):
        alice.engine.pin_relay(os.urandom(32))


def test_a_conversation_that_is_not_there_has_nothing_to_commit(world: World) -> None:
    engine, nowhere = world.members[0].engine, os.urandom(16)
    assert engine.prepare_commit(nowhere) is None
    engine.commit_won(nowhere, os.urandom(16), [])
    engine.commit_refused(nowhere, Code.LIMIT)
    assert engine.place(nowhere) == 0
    engine.accept(nowhere.hex())
    with pytest.raises(NotAMember):
        engine.update_keys(nowhere.hex())


def test_who_can_be_removed(world: World) -> None:
    alice = world.members[0]
    with pytest.raises(ConversationError, match="leave the conversation"):
        alice.engine.remove(world.room, alice.engine.account_id)
    with pytest.raises(NotAMember):
        alice.engine.remove(world.room, "a" * 52)
