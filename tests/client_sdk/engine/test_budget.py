"""What Welcomes may have a client download: of strangers together, of each who is known, over restarts and days."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from restante import handshakes
from restante.account import Identity
from restante.blobs import BlobKeys, BlobReference
from restante.engine.budget import BUDGET_BYTES, BUDGET_SECONDS, STRANGERS
from restante.engine.inbox import HELD_SECONDS, MAX_WELCOME_BYTES
from restante.engine.parcels import WELCOMES_WAITING, Fetch
from restante.handshakes import MAX_HANDSHAKE_BYTES, Admission
from restante_crypto import primitives, sealing
from restante_crypto.blobs import sealed_length
from restante_crypto.mls import KeyPackage, KeyPackageBundle, SignatureKeyPair
from restante_crypto.suites import XWING
from support.engines import Member, World, stranger

LARGEST = sealed_length(MAX_HANDSHAKE_BYTES)
FAILED = "a Welcome that fails its checks"


class Mallory:
    """Somebody with an invite of bob's, and blobs that are no trees."""

    def __init__(self, world: World) -> None:
        _, self.bob, self.carol = world.members
        self.invite = self.bob.invite()
        self.identity = Identity(os.urandom(32))
        seed = os.urandom(32)
        self.device = SignatureKeyPair(primitives.ed25519_public(seed), seed)

    def package(self) -> KeyPackage:
        """The last resort: it may be claimed again and again. Carol lends her engine for that."""
        return self.carol.claim(self.invite, self.bob, last_resort=True)

    def blob(self, size: int = MAX_HANDSHAKE_BYTES) -> BlobReference:
        """Name a blob of this size; what the relay has there is nothing."""
        keys = BlobKeys.make(os.urandom)
        self.bob.post.blobs[keys.blob] = b"nothing"
        return msgspec.structs.replace(keys.reference(b""), length=size)

    def welcome(self, size: int = MAX_HANDSHAKE_BYTES, *, vouched: bool = False) -> None:
        """Send bob a Welcome that names such a blob."""
        package = self.package()
        admission = Admission(message=b"no Welcome", tree=self.blob(size))
        self.send(admission.vouch(package.init_key, self.identity, self.device) if vouched else admission, package)

    def send(self, admission: Admission, package: KeyPackage) -> None:
        body = sealing.seal_welcome(XWING, package.init_key, admission.encode(), os.urandom)
        self.bob.arrive(os.urandom(16), body, None)


@pytest.fixture
def mallory(world: World) -> Mallory:
    return Mallory(world)


@pytest.fixture
def dave(world: World, tmp_path: Path) -> Iterator[Member]:
    """Somebody whom bob does not know."""
    member = Member(world.post, tmp_path, "dave", world.clock)
    yield member
    member.engine.close()


def take(bob: Member) -> list[BlobReference]:
    """Process what waits and fetch what bob fetches; return what that was."""
    waiting, bob.waiting = bob.waiting, []
    if waiting:
        bob.engine.receive(waiting)
    fetched = []
    while works := bob.engine.parcels():
        for work in works:
            assert isinstance(work, Fetch)
            fetched.append(work.reference)
            bob.engine.fetched(work.reference, bob.post.blobs[work.reference.blob])
    return fetched


def invites(member: Member, bob: Member) -> str:
    """Make a conversation with bob whose tree is too large to go along; return its id."""
    room, _ = member.engine.create(None, [member.claim(bob.invite(), bob)])
    member.do_chores()
    assert member.commit(room)
    member.send_all()
    return room


@pytest.fixture
def large_trees(world: World, mallory: Mallory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)


def test_a_stranger_with_a_large_group_is_let_in_at_once(world: World, dave: Member) -> None:
    bob = world.members[1]
    room, _ = dave.engine.create(None, [*(stranger(XWING) for _ in range(99)), dave.claim(bob.invite(), bob)])
    dave.do_chores()
    assert dave.commit(room)
    dave.send_all()
    (reference,) = take(bob)
    assert reference.length > 16 * 1024
    assert len(bob.engine.views()[room].members) == 101


@pytest.mark.usefixtures("large_trees")
def test_a_flood_costs_the_budget_whatever_is_restarted(world: World, mallory: Mallory, dave: Member) -> None:
    alice, bob, _ = world.members
    fetched = []
    for _ in range(10):
        mallory.welcome()
        mallory.welcome(vouched=True)
        fetched += take(bob)
        bob.reopen()
        assert not bob.engine.due().parcels
        assert bob.engine.has_processed(0), "nobody waits for what may not be fetched"
    assert sum(sealed_length(each.length) for each in fetched) == LARGEST <= BUDGET_BYTES
    assert bob.causes() == [FAILED]

    known = invites(alice, bob)
    assert len(take(bob)) == 1
    assert known in bob.engine.views()
    unknown = invites(dave, bob)
    assert len(take(bob)) == 1, "what is small is fetched first"
    assert unknown in bob.engine.views()

    wait = bob.engine.due().wait
    assert wait is not None
    assert BUDGET_SECONDS - 60 < wait <= BUDGET_SECONDS
    world.clock.pass_seconds(BUDGET_SECONDS - 60)
    assert take(bob) == []
    world.clock.pass_seconds(60)
    assert bob.engine.due().parcels
    assert len(take(bob)) == 1, "the next day"


@pytest.mark.usefixtures("large_trees")
def test_who_is_accepted_has_a_budget_of_their_own(world: World, dave: Member) -> None:
    bob = world.members[1]
    with bob.engine._state.transaction():
        bob.engine._parcels._budget.take(STRANGERS, BUDGET_BYTES)
    room = invites(dave, bob)
    assert take(bob) == []
    with bob.engine._state.transaction():
        bob.engine._state.add_contact(dave.engine._state.me)
    assert len(take(bob)) == 1
    assert room in bob.engine.views()


@pytest.mark.usefixtures("large_trees")
def test_a_contact_may_not_have_more_downloaded_than_strangers(world: World, mallory: Mallory) -> None:
    bob = world.members[1]
    with bob.engine._state.transaction():
        bob.engine._state.add_contact(mallory.identity.public)
    for _ in range(5):
        mallory.welcome(vouched=True)
    assert len(take(bob)) == 1
    invites(world.members[0], bob)
    assert len(take(bob)) == 1


def test_a_voucher_is_for_one_joiner_one_welcome_and_one_tree(mallory: Mallory) -> None:
    package, other = mallory.package(), stranger(XWING)
    admission = Admission(message=b"message", tree=mallory.blob())
    assert admission.vouching(package.init_key) == b""
    vouched = admission.vouch(package.init_key, mallory.identity, mallory.device)
    assert Admission.decode(vouched.encode()).vouching(package.init_key) == mallory.identity.public
    voucher = vouched.voucher
    assert voucher is not None
    impostor = msgspec.structs.replace(voucher, account=Identity(os.urandom(32)).public)
    for wrong, key in (
        (vouched, other.init_key),
        (msgspec.structs.replace(vouched, message=b"other"), package.init_key),
        (msgspec.structs.replace(vouched, tree=mallory.blob()), package.init_key),
        (msgspec.structs.replace(vouched, voucher=impostor), package.init_key),
    ):
        assert wrong.vouching(key) == b""
    for field in ("account", "device", "certificate", "signature"):
        with pytest.raises(ValueError, match=field):
            msgspec.structs.replace(voucher, **{field: b"short"})


@pytest.mark.usefixtures("large_trees")
def test_what_did_not_come_is_given_back(world: World, mallory: Mallory) -> None:
    bob = world.members[1]
    mallory.welcome()
    bob.engine.receive(bob.waiting)
    for tries in range(3):  # two more than could be paid for
        (work,) = bob.engine.parcels()
        assert isinstance(work, Fetch)
        assert not bob.engine.due().parcels
        bob.engine.not_fetched(work, 0, lost=False)
        world.clock.pass_seconds(60)
        assert bob.engine.due().parcels, tries
    (work,) = bob.engine.parcels()
    assert isinstance(work, Fetch)
    bob.engine.not_fetched(work, LARGEST + 1, lost=False)
    world.clock.pass_seconds(60)
    assert bob.engine.parcels() == [], "as much again would be too much"


def test_a_clock_that_is_set_back_makes_no_day_longer(world: World, mallory: Mallory) -> None:
    bob = world.members[1]
    mallory.welcome()
    mallory.welcome()
    assert len(take(bob)) == 1
    world.clock.pass_seconds(-10 * BUDGET_SECONDS)
    assert take(bob) == []
    bob.engine.upkeep()
    budget = bob.engine._parcels._budget
    now = world.clock()
    assert now < budget.ready_at(STRANGERS, LARGEST) <= now + 1000 * BUDGET_SECONDS
    assert budget.ready_at(STRANGERS, 1) == 0
    world.clock.pass_seconds(BUDGET_SECONDS)
    assert budget.ready_at(STRANGERS, LARGEST) == 0


def test_a_stranger_s_tree_that_takes_its_time_holds_up_nothing_else(
    world: World, mallory: Mallory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of theirs at a time, and beside it what members give and who is known."""
    alice, bob, _ = world.members
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)
    monkeypatch.setattr(handshakes, "COMMIT_INLINE_BYTES", 0)
    for _ in range(2):
        mallory.welcome(1 << 20)
    bob.engine.receive(bob.waiting)
    bob.waiting.clear()
    (slow,) = bob.engine.parcels()
    assert isinstance(slow, Fetch)
    assert bob.engine.parcels() == []
    assert not bob.engine.due().parcels
    assert not bob.engine.has_processed(0)
    room = invites(alice, bob)
    alice.engine.update_keys(world.room)
    assert alice.commit(world.room)
    assert len(take(bob)) == 2
    assert room in bob.engine.views()
    assert world.view(bob) == world.view(alice)
    bob.engine.fetched(slow.reference, b"nothing")
    assert bob.engine.due().parcels
    assert len(take(bob)) == 1
    assert bob.causes() == [FAILED] * 2


def test_days_that_are_over_are_forgotten(world: World, mallory: Mallory) -> None:
    bob = world.members[1]
    mallory.welcome()
    take(bob)
    bob.engine.upkeep()
    assert bob.engine._tables.downloads.count() == 1
    world.clock.pass_seconds(BUDGET_SECONDS)
    bob.engine.upkeep()
    assert bob.engine._tables.downloads.count() == 0


def test_few_welcomes_wait_the_largest_goes_and_none_waits_for_ever(world: World, mallory: Mallory) -> None:
    bob = world.members[1]
    with bob.engine._state.transaction():
        bob.engine._parcels._budget.take(STRANGERS, BUDGET_BYTES)
    for number in range(WELCOMES_WAITING + 2):
        mallory.welcome(MAX_HANDSHAKE_BYTES // (2 if number > 1 else 1))
    assert take(bob) == []
    assert bob.causes() == ["a Welcome that others have crowded out"] * 2
    waiting = [BlobReference.decode(each.reference).length for each in bob.engine._parcels._awaited()]
    assert waiting == [MAX_HANDSHAKE_BYTES // 2] * WELCOMES_WAITING
    world.clock.pass_seconds(HELD_SECONDS + 1)
    bob.engine.upkeep()
    assert bob.causes() == ["a Welcome whose tree was too much to download"] * WELCOMES_WAITING
    assert not bob.engine.due().parcels


def test_a_large_welcome_does_not_wait(world: World, mallory: Mallory) -> None:
    bob = world.members[1]
    mallory.send(Admission(message=bytes(MAX_WELCOME_BYTES), tree=mallory.blob()), mallory.package())
    assert take(bob) == []
    assert bob.causes() == [FAILED]


@pytest.mark.usefixtures("large_trees")
def test_who_names_another_key_of_a_tree_spoils_it_for_nobody(world: World, mallory: Mallory) -> None:
    alice, bob, _ = world.members
    room = invites(alice, bob)
    (entry,) = bob.waiting
    prekey = bob.engine._mailroom.bundle(entry.body[:8])
    assert prekey is not None
    bundle = KeyPackageBundle.from_bytes(prekey.bundle)
    tree = Admission.decode(sealing.open_welcome(XWING, bundle.init_private, entry.body)).tree
    assert isinstance(tree, BlobReference)
    wrong = Admission(message=b"message", tree=msgspec.structs.replace(tree, key=bytes(32)))
    mallory.send(wrong, mallory.package())
    bob.waiting.reverse()
    assert len(take(bob)) == 2
    assert room in bob.engine.views()
    assert bob.causes() == [FAILED]
