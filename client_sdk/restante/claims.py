"""KeyPackages of those who gave invites: claimed from the relay, one for each of their devices. PROTOCOL.md 6.8.

Manifest and packages are asked for over the anonymous connection; that they are whose they should be is the engine's to
check.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from restante.errors import InviteError, Refused
from restante.invites import Invite, Manifest
from restante_crypto.mls import KeyPackage
from restante_protocol import frames
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

_GONE: Final = "the invite was revoked, or its account is gone"


async def claim(
    engine: "Engine", driver: "Driver", invites: Sequence[str], conversation: str | None = None
) -> list[KeyPackage]:
    """Claim a KeyPackage of each device of those who gave the invites, all of one cipher suite.

    Args:
        engine: checks what comes.
        driver: asks the relay.
        invites: at least one.
        conversation: the id of the one that they are for, which has its suite; None for a new one.

    Raises:
        InviteError: an invite is malformed, expired, revoked, forged, or of another relay, or no suite fits all.
        Refused: the relay does not answer.
    """
    if not invites:
        raise InviteError("no invite")
    await driver.sender()  # the relay's key is known from here on
    found = [await _manifest(engine, driver, text) for text in invites]
    suite = await driver.run(engine.claims.choose_suite, [manifest for _, manifest in found], conversation)
    return [package for each in found for package in await _packages(engine, driver, *each, suite)]


async def _manifest(engine: "Engine", driver: "Driver", text: str) -> tuple[Invite, Manifest]:
    invite = engine.claims.read_invite(text)
    try:
        slot = await driver.ask(partial(frames.SlotGet, slot=invite.slot))
    except Refused as error:
        raise (InviteError(_GONE) if error.code == Code.NOT_FOUND else error) from None
    if not isinstance(slot, frames.Slot):
        raise InviteError(_GONE)
    return invite, await driver.run(engine.claims.read_manifest, invite, slot.body)


async def _packages(
    engine: "Engine", driver: "Driver", invite: Invite, manifest: Manifest, suite: int
) -> list[KeyPackage]:
    packages = []
    for device in manifest.devices:
        address = dict(device.pools)[suite]
        claimed = await driver.ask(partial(frames.Claim, suite=suite, addresses=[address]))
        if not isinstance(claimed, frames.Claimed) or len(claimed.prekeys) != 1:
            raise InviteError(_GONE)
        prekey = claimed.prekeys[0]
        if prekey.code == Code.EMPTY:
            raise InviteError("the account has no KeyPackage at the relay: it has to connect first")
        if prekey.code:
            raise InviteError(_GONE)
        packages.append(await driver.run(engine.claims.read_prekey, invite, device, suite, prekey.package))
    return packages
