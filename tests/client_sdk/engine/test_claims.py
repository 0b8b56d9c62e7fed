"""What the relay hands out for an invite, and may not."""

from pathlib import Path

import msgspec
import pytest

from restante.errors import InviteError
from restante.invites import ManifestDevice
from restante_crypto.mls import key_package_message
from restante_crypto.suites import XWING
from support.engines import RELAY_KEY, Member, World, stranger


def test_a_package_of_somebody_else_is_refused(world: World, tmp_path: Path) -> None:
    alice, bob, _ = world.members
    dave = Member(world.post, tmp_path, "dave", world.clock)
    invite = alice.engine.claims.read_invite(bob.invite())
    (device,) = alice.engine.claims.read_manifest(invite, world.post.slots[invite.slot]).devices
    other = alice.engine.claims.read_invite(dave.invite())
    (theirs,) = alice.engine.claims.read_manifest(other, world.post.slots[other.slot]).devices
    swapped: ManifestDevice = msgspec.structs.replace(device, prekey_key=theirs.prekey_key)
    with pytest.raises(InviteError, match="somebody else"):
        alice.engine.claims.read_prekey(invite, swapped, XWING, dave.prekeys[XWING][0])
    unsealed = key_package_message(stranger(XWING, RELAY_KEY, world.clock() // 1000))
    with pytest.raises(InviteError):
        alice.engine.claims.read_prekey(invite, device, XWING, unsealed)
    dave.engine.close()
