"""What is deleted is gone: a thief with the file, its WAL and the passphrase reads nothing that is over.

RFC 9420 section 9.2, and the window that the SDK leaves open: five past epochs and 24 hours for late messages.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.engine.conversations import LATE_SECONDS, PAST_SECONDS
from restante_crypto import sealing
from support.engines import Member, World, conversation
from support.forensics import Witness, opened


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    return Witness(monkeypatch)


@pytest.fixture
def world(witness: Witness, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "alice", "bob")
    yield made
    made.close()
    assert witness is not None


def said(world: World, member: Member, text: str) -> bytes:
    """Say something; return the MLSMessage, which somebody has recorded who will have its outer key."""
    key = conversation(world, member).key
    (job,) = member.say(world.room, text)
    return sealing.open_body(key, job.body)


def tidy(world: World) -> None:
    """What every client does now and then."""
    for member in world.members:
        member.engine.upkeep()


def is_gone(witness: Witness, member: Member, text: str, message: bytes) -> bool:
    """Whether nothing of it can be read: not the text, and not with any key that stands somewhere."""
    cells = witness.readable(member.path)
    assert cells  # or nothing was looked at
    return opened(cells, message) is None and not any(text.encode() in cell for cell in cells)


def test_the_thief_sees_what_is_there(world: World, witness: Witness) -> None:
    """The test of the tests: before a message is read, its key is in the file, and afterwards in the WAL."""
    alice, bob = world.members
    tidy(world)
    message = said(world, alice, "not read yet")
    assert opened(witness.readable(bob.path), message) is not None
    bob.read()
    assert opened(witness.readable(bob.path), message) is not None
    assert not is_gone(witness, bob, "not read yet", message)


def test_what_was_sent_and_read_is_gone_within_its_epoch(world: World, witness: Witness) -> None:
    alice, bob = world.members
    for number in range(3):
        message = said(world, alice, f"secret number {number}")
        bob.read()
        assert bob.texts() == [f"secret number {number}"]
        tidy(world)
        for member in world.members:
            assert is_gone(witness, member, f"secret number {number}", message)


def test_a_killed_client_tidies_when_it_is_opened_again(world: World, witness: Witness) -> None:
    alice, bob = world.members
    message = said(world, alice, "read, and then killed")
    bob.read()
    bob.texts()
    left = {path: path.read_bytes() for path in bob.path.parent.glob("bob.db*")}
    bob.engine.close()
    for path, content in left.items():
        path.write_bytes(content)
    bob.engine = bob._open()
    bob.engine.upkeep()
    assert is_gone(witness, bob, "read, and then killed", message)


def test_late_messages_are_read_in_the_window_and_no_later(world: World, witness: Witness) -> None:
    alice, bob = world.members
    late = said(world, alice, "still on its way")
    bob.waiting.clear()
    for _ in range(5):
        alice.engine.update_keys(world.room)
        assert alice.commit(world.room)
        bob.read()
        tidy(world)
        assert not is_gone(witness, bob, "still on its way", late)  # five past epochs
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.read()
    tidy(world)
    assert is_gone(witness, bob, "still on its way", late)


def test_past_epochs_expire(world: World, witness: Witness) -> None:
    alice, bob = world.members
    late = said(world, alice, "held back")
    bob.waiting.clear()
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.read()
    tidy(world)
    assert not is_gone(witness, bob, "held back", late)
    world.clock.pass_seconds(PAST_SECONDS + 60)
    tidy(world)
    assert is_gone(witness, bob, "held back", late)


def test_keys_that_were_skipped_in_this_epoch_expire(world: World, witness: Witness) -> None:
    alice, bob = world.members
    late = said(world, alice, "overtaken")
    bob.waiting.clear()
    said(world, alice, "overtakes")
    bob.read()
    tidy(world)
    assert not is_gone(witness, bob, "overtaken", late)
    for _ in range(2):
        world.clock.pass_seconds(LATE_SECONDS + 60)
        bob.engine.upkeep()
    assert conversation(world, bob).current.epoch == 1
    assert is_gone(witness, bob, "overtaken", late)


def test_a_commit_that_lost_leaves_nothing(world: World, witness: Witness) -> None:
    """The loser staged an epoch of its own: nobody will be in it, and nothing of it stays."""
    alice, bob = world.members
    for member in world.members:
        member.engine.update_keys(world.room)
        assert member.engine.prepare_commit(bytes.fromhex(world.room)) is not None
    (row,) = bob.engine._tables.commits.rows()
    assert alice.commit(world.room)
    bob.read()
    tidy(world)
    assert not any(row.value in cell for cell in witness.readable(bob.path))


def test_a_prekey_that_was_used_is_gone(world: World, witness: Witness) -> None:
    alice, bob = world.members
    package = alice.claim(bob.invite(), bob)
    tag = sealing.welcome_tag(package.init_key)
    stored = bob.engine._tables.prekeys.get(tag)
    assert stored is not None
    room, _ = alice.engine.create(None, [package])
    alice.do_chores()
    assert alice.commit(room)
    alice.send_all()
    bob.read()
    tidy(world)
    assert not any(stored in cell for cell in witness.readable(bob.path))


def test_after_leaving_nothing_opens_what_was_said(world: World, witness: Witness) -> None:
    alice, bob = world.members
    late = said(world, alice, "after you left")
    bob.waiting.clear()
    bob.engine.leave(world.room)
    tidy(world)
    assert is_gone(witness, bob, "after you left", late)
