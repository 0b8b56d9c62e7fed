"""Trees and Commits that are too large for a body: what is uploaded, what waits, and what becomes of what is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from restante import handshakes
from restante.blobs import BlobKeys, BlobReference
from restante.engine import records
from restante.engine.inbox import COMMIT_PATIENCE, HELD_SECONDS
from restante.engine.parcels import LIFETIME, Fetch
from restante.engine.recovery import RESYNC_AGAIN
from restante.handshakes import COMMIT, TREE, Admission, CommitReference, epoch_keys
from restante_crypto import sealing
from restante_crypto.blobs import Encoder
from restante_crypto.mls import KeyPackageBundle
from restante_crypto.suites import XWING
from restante_protocol import frames
from support.engines import Member, World, conversation, stranger


@pytest.fixture
def dave(world: World, tmp_path: Path) -> Iterator[Member]:
    member = Member(world.post, tmp_path, "dave", world.clock)
    yield member
    member.engine.close()


@pytest.fixture
def large_commits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Commit is too large for a body."""
    assert not world.post.blobs
    monkeypatch.setattr(handshakes, "COMMIT_INLINE_BYTES", 0)


@pytest.fixture
def large_trees(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is every tree for a Welcome."""
    assert not world.post.blobs
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)


def epoch(world: World, member: Member) -> int:
    return world.view(member)[0]


def add(world: World, joiner: Member) -> None:
    alice = world.members[0]
    alice.engine.add(world.room, [alice.claim(joiner.invite(), joiner)])
    assert alice.commit(world.room)
    alice.send_all()


# Trees.


def test_a_small_tree_goes_with_the_welcome(world: World, dave: Member) -> None:
    add(world, dave)
    dave.read()
    assert len(dave.engine.views()[world.room].members) == 4
    assert world.post.blobs == {}


def test_a_large_tree_is_uploaded_once_and_each_welcome_is_small(world: World, dave: Member) -> None:
    alice = world.members[0]
    packages = [stranger(XWING) for _ in range(99)]
    alice.engine.add(world.room, [*packages, alice.claim(dave.invite(), dave)])
    assert alice.commit(world.room)
    assert world.post.uploads == 2, "the tree and the Commit, before the Commit"
    welcomes = alice.send_all()
    assert len(welcomes) == 100
    assert max(len(job.body) for job in welcomes) < 4096
    assert world.post.uploads == 2
    dave.read()
    for member in world.members:
        member.read()
    assert dave.engine.views()[world.room].epoch_authenticator == world.view(alice)[1]
    assert world.agreed


@pytest.mark.usefixtures("large_trees")
def test_a_joiner_waits_for_the_tree(world: World, dave: Member) -> None:
    add(world, dave)
    kept = dict(world.post.blobs)
    world.post.blobs.clear()
    dave.read()
    assert dave.engine.has_processed(0)
    assert dave.engine.views() == {}
    wait = dave.engine.due().wait
    assert wait is not None
    assert not dave.engine.due().parcels
    dave.reopen()
    world.clock.pass_seconds(3)
    assert dave.engine.due().parcels
    world.post.blobs.update(kept)
    dave.do_parcels()
    assert len(dave.engine.views()[world.room].members) == 4
    assert not dave.engine.due().parcels
    assert dave.causes() == []


@pytest.mark.usefixtures("large_trees")
def test_a_tree_that_never_comes_is_told(world: World, dave: Member) -> None:
    add(world, dave)
    world.post.blobs.clear()
    dave.read()
    world.clock.pass_seconds(HELD_SECONDS)
    dave.do_parcels()
    assert dave.causes() == ["a Welcome whose tree the relay does not have"]
    assert not dave.engine.due().parcels


@pytest.mark.usefixtures("large_trees")
@pytest.mark.parametrize("what", ["the tree before", "no tree", "nothing that opens"])
def test_another_tree_than_the_signed_one_is_refused(world: World, dave: Member, what: str) -> None:
    old = conversation(world, world.members[0]).current.ratchet_tree
    add(world, dave)
    (entry,) = dave.waiting
    prekey = dave.engine._mailroom.bundle(entry.body[:8])
    assert prekey is not None
    bundle = KeyPackageBundle.from_bytes(prekey.bundle)
    admission = Admission.decode(sealing.open_welcome(XWING, bundle.init_private, entry.body))
    keys = BlobKeys.make(os.urandom)
    reference = put(world, keys, b"no tree" if what == "no tree" else old)
    if what == "nothing that opens":
        reference = msgspec.structs.replace(reference, key=bytes(32))
    forged = msgspec.structs.replace(admission, tree=reference).encode()
    body = sealing.seal_welcome(XWING, bundle.key_package.init_key, forged, os.urandom)
    dave.waiting.clear()
    dave.arrive(b"m" * 16, body, None)
    dave.read()
    assert dave.causes() == ["a Welcome that fails its checks"]
    assert dave.engine.views() == {}


def put(world: World, keys: BlobKeys, content: bytes) -> BlobReference:
    encoder = Encoder(keys.key)
    world.post.blobs[keys.blob] = encoder.update(content) + encoder.finish()[0]
    return keys.reference(content)


def test_who_answers_in_one_epoch_names_the_same_tree(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, _ = world.members
    assert alice.engine._parcels.tree_reference(conversation(world, alice).current) is None
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)
    references = set()
    for member in (alice, bob, bob):
        with member.engine._state.transaction():
            references.add(member.engine._parcels.tree_reference(conversation(world, member).current))
    assert len(references) == 1
    bob.engine.update_keys(world.room)
    assert bob.commit(world.room)
    with bob.engine._state.transaction():
        assert bob.engine._parcels.tree_reference(conversation(world, bob).current) not in references


# Commits.


@pytest.mark.usefixtures("large_commits")
def test_a_large_commit_is_a_blob_and_a_small_body(world: World) -> None:
    alice, bob, carol = world.members
    alice.engine.update_keys(world.room)
    job = alice.engine.prepare_commit(bytes.fromhex(world.room))
    assert job is not None
    assert len(job.body) <= 512
    assert alice.commit(world.room)
    assert set(world.post.blobs) == set(job.blobs)
    for member in (bob, carol):
        member.read()
        assert member.events() == []
    alice.read()
    assert world.agreed
    assert epoch(world, bob) == 2


@pytest.mark.usefixtures("large_commits")
def test_nothing_is_sent_in_an_epoch_that_is_known_to_be_over(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    alice.say(world.room, "in the next epoch")
    kept = dict(world.post.blobs)
    world.post.blobs.clear()
    bob.engine.submit([(world.room, "waits", None)])
    bob.engine.update_keys(world.room)
    bob.read()
    due = bob.engine.due()
    assert bob.engine.jobs((), 10) == []
    assert due.commits == ()
    assert due.held
    assert bob.engine.suspect_fences() == []
    fence = conversation(world, bob).fence
    bob.engine.fence_winner(fence, *world.post.fences[fence])
    assert len(bob.engine._tables.awaited.rows()) == 1
    bob.reopen()
    world.post.blobs.update(kept)
    world.clock.pass_seconds(2)
    bob.do_parcels()
    assert bob.texts() == ["in the next epoch"]
    assert len(bob.engine.jobs((), 10)) == 1
    assert bob.commit(world.room)
    world.settle()
    assert world.agreed


@pytest.mark.usefixtures("large_commits")
def test_a_commit_whose_blob_is_lost_leads_to_a_resync(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    world.post.blobs.clear()
    bob.engine.submit([(world.room, "kept meanwhile", None)])
    bob.read()
    world.clock.pass_seconds(COMMIT_PATIENCE // 2)
    bob.do_parcels()
    assert not conversation(world, bob).state.resync
    world.clock.pass_seconds(COMMIT_PATIENCE)
    bob.do_parcels()
    assert bob.causes() == ["a Commit that the relay does not have any more"]
    assert conversation(world, bob).state.resync
    wait = bob.engine.due().wait
    assert wait is not None
    assert wait < 1, "it asks at once, not when upkeep comes round"
    bob.engine.ripen()
    assert len(bob.engine.jobs((), 10)) == 1
    wait = bob.engine.due().wait
    assert wait is not None
    assert wait > RESYNC_AGAIN - 1
    assert alice.engine.views()[world.room].active


@pytest.mark.usefixtures("large_commits")
def test_a_relay_that_does_not_answer_is_asked_for_ever(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.engine.receive(bob.waiting)
    assert not bob.engine.has_processed(0)
    for _ in range(20):
        world.clock.pass_seconds(COMMIT_PATIENCE)
        (work,) = bob.engine.parcels()
        assert isinstance(work, Fetch)
        bob.engine.not_fetched(work, 0, lost=False)
    world.clock.pass_seconds(COMMIT_PATIENCE)
    bob.do_parcels()
    assert epoch(world, bob) == 2
    assert bob.events() == []


@pytest.mark.usefixtures("large_commits")
def test_what_lost_while_it_was_uploaded_is_deleted_as_well(world: World) -> None:
    alice, bob, _ = world.members
    for member in (alice, bob):
        member.engine.update_keys(world.room)
    job = alice.engine.prepare_commit(bytes.fromhex(world.room))
    assert job is not None
    (lost,) = job.blobs
    assert alice.engine.upload(lost) is not None
    assert bob.commit(world.room)
    alice.engine.receive(alice.waiting)
    world.post.blobs[lost] = b"sealed"  # now the relay has it
    alice.engine.uploaded(lost)
    alice.do_parcels()
    assert lost not in world.post.blobs


@pytest.mark.usefixtures("large_commits")
def test_what_lost_is_deleted_and_what_won_is_kept(world: World) -> None:
    alice, bob, _ = world.members
    for member in (alice, bob):
        member.engine.update_keys(world.room)
    (winner,) = bob.engine.prepare_commit(bytes.fromhex(world.room)).blobs
    job = alice.engine.prepare_commit(bytes.fromhex(world.room))
    assert bob.commit(world.room)
    assert job is not None
    assert not alice.deposit(job), "uploaded before it was known that it lost"
    assert set(world.post.blobs) == {winner, *job.blobs}
    alice.read()
    alice.do_parcels()
    assert set(world.post.blobs) == {winner}
    assert {keys.blob for keys, _ in alice.engine.blobs()} == set()
    assert {keys.blob for keys, _ in bob.engine.blobs()} == {winner}


@pytest.mark.usefixtures("large_commits", "large_trees")
def test_killed_anywhere_the_same_bytes_leave(world: World, dave: Member) -> None:
    alice = world.members[0]
    room = bytes.fromhex(world.room)
    alice.engine.add(world.room, [alice.claim(dave.invite(), dave)])
    job = alice.engine.prepare_commit(room)
    assert job is not None
    assert len(job.blobs) == 2
    uploads = [alice.engine.upload(blob) for blob in job.blobs]
    alice.reopen()  # before the first byte left
    assert alice.engine.prepare_commit(room) == job
    assert [alice.engine.upload(blob) for blob in job.blobs] == uploads
    put(world, uploads[0].keys, uploads[0].content)
    alice.engine.uploaded(job.blobs[0])
    alice.reopen()  # between two uploads
    assert [alice.engine.upload(blob) for blob in job.blobs] == [None, uploads[1]]
    assert alice.deposit(job)
    alice.reopen()  # before the answer came
    assert alice.engine.prepare_commit(room) == job
    alice.read()
    alice.reopen()  # before the Welcomes left
    alice.send_all()
    world.settle()
    dave.read()
    assert world.agreed
    assert dave.engine.views()[world.room].epoch_authenticator == world.view(alice)[1]


@pytest.mark.usefixtures("large_commits", "large_trees")
def test_a_relay_that_lost_its_blobs_gets_them_again_from_any_member(world: World, dave: Member) -> None:
    alice, bob, carol = world.members
    add(world, dave)
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    bob.read()
    lost, uploads = dict(world.post.blobs), world.post.uploads
    world.post.blobs.clear()
    carol.read()
    assert epoch(world, carol) == 1
    bob.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    sent = bob.send_all()  # not the committer
    assert [len(job.blobs) for job in sent if job.fence] == [1, 1]
    assert len(world.post.blobs) == 2
    assert world.post.uploads == uploads + 2
    assert lost.items() >= world.post.blobs.items(), "the same bytes under the same ids"
    world.clock.pass_seconds(2)
    carol.do_parcels()
    world.clock.pass_seconds(2)
    carol.do_parcels()
    assert world.view(carol) == world.view(alice)
    dave.read()
    alice.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    alice.send_all()  # its Welcome names the tree
    assert world.post.blobs == lost
    world.clock.pass_seconds(2)
    dave.do_parcels()
    dave.read()
    assert dave.engine.views()[world.room].epoch_authenticator == world.view(alice)[1]


def as_winner(world: World, message: bytes) -> tuple[bytes, bytes]:
    """Give everybody this, under the outer seal of their epoch, as the winner of its fence; return fence and body."""
    room = conversation(world, world.members[0])
    body = sealing.seal_body(room.tag, room.key, message, os.urandom)
    for member in world.members:
        member.arrive(b"w" * 16, body, room.fence)
    return room.fence, body


@pytest.mark.parametrize("what", ["no reference", "nothing that opens", "no Commit", "a reference again"])
def test_what_is_void_for_everybody_advances_the_fence(world: World, what: str) -> None:
    keys = BlobKeys.make(os.urandom)
    inner = CommitReference(commit=keys.reference(b"")).encode() if what == "a reference again" else b"no Commit"
    reference = put(world, keys, inner)
    if what == "nothing that opens":
        reference = msgspec.structs.replace(reference, key=bytes(32))
    message = b"\x91junk" if what == "no reference" else CommitReference(commit=reference).encode()
    fence, _ = as_winner(world, message)
    for member in world.members:
        member.read()
        assert len(member.causes()) == 1
    assert len({conversation(world, member).fence for member in world.members}) == 1
    assert conversation(world, world.members[0]).fence != fence
    world.members[1].engine.update_keys(world.room)
    assert world.members[1].commit(world.room)
    world.settle()
    assert world.agreed


@pytest.mark.usefixtures("large_commits")
def test_a_reference_counts_only_under_the_fence(world: World) -> None:
    alice, bob, _ = world.members
    alice.engine.update_keys(world.room)
    job = alice.engine.prepare_commit(bytes.fromhex(world.room))
    bob.arrive(job.message_id, job.body, None)
    bob.read()
    assert bob.causes() == ["a message fails its checks"]
    assert not bob.engine.due().parcels


@pytest.mark.usefixtures("large_commits")
def test_a_fork_is_noticed_by_the_bodies_alone(world: World) -> None:
    alice, bob, carol = world.members
    for member in (alice, carol):
        member.engine.update_keys(world.room)
    other = carol.engine.prepare_commit(bytes.fromhex(world.room))
    fence = conversation(world, bob).fence
    assert alice.commit(world.room)
    bob.read()
    bob.arrive(other.message_id, other.body, fence)
    bob.read()
    assert bob.engine.due().held
    assert bob.engine.suspect_fences() == [fence]
    bob.follow()  # the relay has alice's: bob is on the branch that stays
    assert not conversation(world, bob).state.resync
    world.post.fences[fence] = (other.message_id, other.body)
    bob.engine.fence_winner(fence, other.message_id, other.body)
    assert conversation(world, bob).state.resync


def test_a_committer_who_puts_it_elsewhere_is_followed(world: World) -> None:
    """Only who can derive the keys of a blob can bring it again."""
    alice, bob, _ = world.members
    staged = conversation(world, alice).current.commit(random=os.urandom)
    keys = BlobKeys.make(os.urandom)
    reference = put(world, keys, staged.message)
    as_winner(world, CommitReference(commit=reference).encode())
    bob.read()
    assert epoch(world, bob) == 2
    (winner,) = bob.engine._tables.winners.rows()
    assert not records.WinningCommit.unpack(winner.value).blob


@pytest.mark.usefixtures("large_commits")
def test_a_commit_that_cannot_be_is_not_kept(world: World) -> None:
    alice = world.members[0]
    able = stranger(XWING)
    alice.engine.add(world.room, [able, stranger(3)])
    alice.engine.prepare_commit(bytes.fromhex(world.room))
    assert alice.causes() == ["a change that the group cannot take"]
    assert len(alice.engine._tables.blobs.rows()) == 1


@pytest.mark.usefixtures("large_commits")
def test_blobs_are_forgotten_when_the_relay_drops_them(world: World) -> None:
    alice = world.members[0]
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    assert len(alice.engine.blobs()) == 1
    world.clock.pass_seconds(LIFETIME + 1)
    alice.engine.upkeep()
    assert alice.engine.blobs() == []
    alice.engine.uploaded(bytes(24))
    assert alice.engine.upload(bytes(24)) is None


def test_the_blobs_of_an_epoch_have_keys_of_their_own(world: World) -> None:
    alice, bob, _ = world.members
    groups = [conversation(world, member).current for member in (alice, bob)]
    assert len({epoch_keys(group, purpose).encode() for group in groups for purpose in (TREE, COMMIT)}) == 2
