"""Which cipher suite a conversation has: the best that all manifests offer, whatever the relay has at hand."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from restante.engine import mailroom, records
from restante.engine.mailroom import PutPrekeys, PutSlot
from restante.errors import InviteError
from restante.invites import Invite
from restante_crypto import primitives
from restante_crypto.suites import SUITES, XWING
from restante_protocol import frames, limits
from support.engines import Clock, Member, Post, World

CLASSICAL = 3


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, "alice", "bob")
    yield world
    world.close()


@pytest.fixture
def old(world: World, tmp_path: Path) -> Iterator[Member]:
    """Somebody whose platform has no ML-KEM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(primitives, "has_ml_kem_768", lambda: False)
        member = Member(world.post, tmp_path, "old", world.clock)
    yield member
    member.engine.close()


def suite_of(member: Member, room: str) -> str:
    return member.engine.views()[room].suite


def test_a_new_conversation_is_post_quantum(world: World) -> None:
    assert all(suite_of(member, world.room) == SUITES[XWING].name for member in world.members)
    assert SUITES[XWING].kem.post_quantum
    assert "MLKEM768" in SUITES[XWING].name


def test_one_who_does_not_offer_it_decides_for_all(world: World, old: Member) -> None:
    alice, bob = world.members
    manifests = [alice.engine.claims.read_manifest(*read(alice, other)) for other in (bob, old)]
    assert alice.engine.claims.choose_suite(manifests[:1]) == XWING
    assert alice.engine.claims.choose_suite(manifests) == CLASSICAL
    room, _ = alice.engine.create(None, [alice.claim(old.invite(), old)])
    assert suite_of(alice, room) == SUITES[CLASSICAL].name


def read(reader: Member, owner: Member) -> tuple[Invite, bytes]:
    invite = reader.engine.claims.read_invite(owner.invite())
    return invite, owner.post.slots[invite.slot]


def test_a_conversation_never_changes_down(world: World, old: Member) -> None:
    alice, _ = world.members
    manifest = alice.engine.claims.read_manifest(*read(alice, old))
    with pytest.raises(InviteError, match="does not offer the cipher suite of this conversation"):
        alice.engine.claims.choose_suite([manifest], world.room)
    newer = old.engine.claims.read_manifest(*read(old, alice))
    assert old.engine.claims.choose_suite([newer]) == CLASSICAL


def test_manifests_without_a_common_suite(world: World, old: Member) -> None:
    alice, _ = world.members
    manifest = alice.engine.claims.read_manifest(*read(alice, old))
    (device,) = manifest.devices
    strange = msgspec.structs.replace(
        manifest, devices=(msgspec.structs.replace(device, pools=((7, device.pools[0][1]),)),)
    )
    with pytest.raises(InviteError, match="no cipher suite"):
        alice.engine.claims.choose_suite([strange])


def test_an_empty_pool_is_no_reason_for_another_suite(world: World) -> None:
    alice, bob = world.members
    bob.prekeys[XWING].clear()
    package = alice.claim(bob.invite(), bob)
    assert package.suite == XWING
    assert bob.prekeys[CLASSICAL]


def test_what_the_relay_hands_out_of_another_suite_is_refused(world: World) -> None:
    alice, bob = world.members
    invite, body = read(alice, bob)
    (device,) = alice.engine.claims.read_manifest(invite, body).devices
    with pytest.raises(InviteError, match="fails its checks"):
        alice.engine.claims.read_prekey(invite, device, XWING, bob.prekeys[CLASSICAL][0])


def test_both_pools_are_kept_filled(tmp_path: Path) -> None:
    bob = Member(Post(), tmp_path, "bob", Clock())
    assert {suite: len(packages) for suite, packages in bob.prekeys.items()} == {
        XWING: mailroom.PREKEYS_KEPT,
        CLASSICAL: mailroom.OTHER_PREKEYS_KEPT,
    }
    assert len({len(package) for package in bob.prekeys[XWING]}) == 1
    assert max(map(len, bob.prekeys[XWING])) <= limits.MAX_PREKEY_BYTES
    frame = bob.engine.subscribe_frame(1)
    assert [(pool.suite, pool.uploaded) for pool in frame.pools] == [
        (XWING, mailroom.PREKEYS_KEPT),
        (CLASSICAL, mailroom.OTHER_PREKEYS_KEPT),
    ]
    bob.engine.prekeys_low(CLASSICAL, 3)
    uploads = [chore for chore in bob.engine.chores.due() if isinstance(chore, PutPrekeys)]
    assert [(chore.suite, len(chore.packages)) for chore in uploads] == [(CLASSICAL, mailroom.OTHER_PREKEYS_KEPT - 3)]
    bob.engine.close()


def test_an_invite_that_is_overused_is_an_event(world: World) -> None:
    bob = world.members[1]
    rows = bob.engine._state.tables.invites.rows
    before = {row.value for row in rows()}
    text = bob.invite()
    (address,) = [records.InviteSlot.unpack(row.value).claim_address for row in rows() if row.value not in before]
    bob.engine.address_spent(bytes(24))
    assert bob.events() == []
    bob.engine.address_spent(address)
    assert [event.invite for event in bob.events()] == [text]


def test_an_older_file_learns_to_offer_it(world: World) -> None:
    """A manifest from before the suite is written anew, and a pool of its own is filled."""
    bob = world.members[1]
    bob.invite()
    state = bob.engine._state
    with state.transaction():
        for row in state.tables.invites.rows():
            record = records.InviteSlot.unpack(row.value)
            state.tables.invites.put(row.key, msgspec.structs.replace(record, suites=()).pack())
    assert any(isinstance(chore, PutSlot) for chore in bob.engine.chores.due())
    bob.do_chores()
    assert not bob.engine.chores.due()


def test_a_rolled_back_file_goes_on_above_both_pools(world: World) -> None:
    bob = world.members[1]
    position = bob.engine.position()
    counts = [frames.PoolCount(XWING, 500, 0, 9, True), frames.PoolCount(CLASSICAL, 300, 0, 9, True)]
    bob.engine.subscribed(frames.Subscribed(1, position.incarnation, b"t" * 8, position.cursor + 5, counts))
    uploads = {chore.suite: chore for chore in bob.engine.chores.due() if isinstance(chore, PutPrekeys)}
    assert (uploads[XWING].first, uploads[CLASSICAL].first) == (501, 301)
    assert uploads[XWING].replace
    assert uploads[CLASSICAL].replace
