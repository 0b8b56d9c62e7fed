"""Invites: the text that one person hands to another, the manifest it opens, and the prekeys the manifest opens.

::

    text      "restante:" base64url(relay URL, relay key, slot id, invite key, account)
    slot      nonce ‖ XChaCha20-Poly1305(invite key, padded(signature ‖ manifest); slot id)
    prekey    nonce ‖ XChaCha20-Poly1305(prekey key, padded KeyPackage; "restante prekey")

The text holds a secret: whoever has it can write to the account, and nothing more. The relay sees neither account nor
devices. Deleting the slot revokes the invite. The signature binds a manifest to its slot, so that nobody can show one
invite's manifest for another's.
"""

import base64
import binascii
from typing import Final, Self

from restante.account import Identity, check_url, verify_certificate
from restante.errors import InviteError
from restante.packed import Packed, check
from restante_crypto import padding, primitives, sealing
from restante_crypto.primitives import Random
from restante_protocol import ids, limits

SCHEME: Final = "restante:"
VERSION: Final = 1
KEY_BYTES: Final = 32

MAX_TEXT: Final = 4096  # characters; a URL of 1024 bytes makes about 1600
MAX_DEVICES: Final = 64
MANIFEST_BYTES: Final = 1024  # smallest padded manifest: one device or three look alike
PREKEY_BYTES: Final = 1024  # smallest padded KeyPackage: all of suite 0x0003 look alike

_MANIFEST_LABEL: Final = b"restante 1 manifest\x00"
_PREKEY_CONTEXT: Final = b"restante prekey"
_MAX_NUMBER: Final = 2**63 - 1


class Invite(Packed, frozen=True, kw_only=True):
    """What an invite's text says.

    Attributes:
        format: version of the text; a newer one is refused.
        relay_url: where the slot is, at most 1024 bytes.
        relay_key: 32 bytes, that relay's public key.
        slot: 24 bytes, the slot's id.
        key: 32 bytes, secret: opens the manifest.
        account: 32 bytes, who invites.
    """

    format: int = VERSION
    relay_url: str
    relay_key: bytes
    slot: bytes
    key: bytes
    account: bytes

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check_url(self.relay_url)
        check(len(self.relay_key) == ids.KEY_BYTES, "relay key")
        check(ids.is_id(self.slot), "slot")
        check(len(self.key) == KEY_BYTES, "key")
        check(len(self.account) == ids.KEY_BYTES, "account")

    def text(self) -> str:
        """Return the text: one word, to be copied or shown as a QR code."""
        return SCHEME + base64.urlsafe_b64encode(self.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text; whitespace anywhere in it does not matter. Raises InviteError."""
        word = "".join(text[:MAX_TEXT].split())
        if word[: len(SCHEME)].lower() != SCHEME:
            raise InviteError(f"not an invite: it does not begin with {SCHEME}")
        encoded = word[len(SCHEME) :]
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            invite = cls.decode(data)
        except (binascii.Error, ValueError):
            raise InviteError("the invite is damaged or not whole") from None
        if invite.format != VERSION:
            raise InviteError("the invite was made by a newer version of this library")
        return invite


class ManifestDevice(Packed, frozen=True, kw_only=True):
    """A device that an account can be reached at.

    Attributes:
        signature_key: 32 bytes, the device.
        certificate: 64 bytes, of that key by the account.
        prekey_key: 32 bytes, secret: opens the device's prekeys.
        pools: cipher suite and claim address (24 bytes) of each prekey pool.
    """

    signature_key: bytes
    certificate: bytes
    prekey_key: bytes
    pools: tuple[tuple[int, bytes], ...]

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(len(self.signature_key) == ids.KEY_BYTES, "signature key")
        check(len(self.certificate) == ids.SIGNATURE_BYTES, "certificate")
        check(len(self.prekey_key) == KEY_BYTES, "prekey key")
        check(1 <= len(self.pools) <= limits.MAX_SUITES, "pools")
        check(all(0 <= suite < 1 << 16 and ids.is_id(address) for suite, address in self.pools), "pool")


class Manifest(Packed, frozen=True, kw_only=True):
    """The devices of an account, as one invite shows them.

    Attributes:
        format: version of this format; later ones append.
        version: counts the manifests of an invite, from 1.
        account: 32 bytes.
        expires: Unix seconds.
        devices: 1 to 64.
    """

    format: int = VERSION
    version: int
    account: bytes
    expires: int
    devices: tuple[ManifestDevice, ...]

    def __post_init__(self) -> None:
        """Check lengths and ranges. Raises ValueError."""
        check(self.format >= VERSION, "format")
        check(1 <= self.version <= _MAX_NUMBER, "version")
        check(len(self.account) == ids.KEY_BYTES, "account")
        check(0 <= self.expires <= _MAX_NUMBER, "expires")
        check(1 <= len(self.devices) <= MAX_DEVICES, "devices")

    def seal(self, invite: Invite, identity: Identity, random: Random) -> bytes:
        """Return the slot's body: signed by the identity key and sealed under the invite's key."""
        payload = self.encode()
        signed = identity.sign(_signed_message(invite, payload)) + payload
        return sealing.seal(invite.key, padding.pad(signed, MANIFEST_BYTES), invite.slot, random)


def open_manifest(body: bytes, invite: Invite, *, now: int, seen_version: int = 0) -> Manifest:
    """Return the manifest in a slot's body.

    Args:
        body: of the slot that the invite names.
        invite: the invite.
        now: Unix seconds.
        seen_version: the highest version seen for this invite: a lower one is an old copy.

    Raises:
        InviteError: it is not sealed for this invite, not signed by its account, holds a device that the account has
            not certified, has expired, or is older than one seen.
    """
    signed = _opened(invite.key, body, invite.slot, "the invite's slot holds something else")
    signature, payload = signed[: ids.SIGNATURE_BYTES], signed[ids.SIGNATURE_BYTES :]
    if not primitives.ed25519_verify(invite.account, _signed_message(invite, payload), signature):
        raise InviteError("the manifest is not signed by the account that the invite names")
    try:
        manifest = Manifest.decode(payload)
    except ValueError:
        raise InviteError("the manifest cannot be read") from None
    if manifest.account != invite.account:
        raise InviteError("the manifest is of another account")
    if not all(verify_certificate(invite.account, d.signature_key, d.certificate) for d in manifest.devices):
        raise InviteError("the manifest holds a device that the account has not certified")
    if manifest.expires <= now:
        raise InviteError("the invite has expired")
    if manifest.version < seen_version:
        raise InviteError("the manifest is older than one seen before")
    return manifest


def seal_prekey(prekey_key: bytes, key_package: bytes, random: Random) -> bytes:
    """Return a prekey as the relay holds it: a KeyPackage padded and sealed under the prekey key (32 bytes)."""
    return sealing.seal(prekey_key, padding.pad(key_package, PREKEY_BYTES), _PREKEY_CONTEXT, random)


def open_prekey(prekey_key: bytes, sealed: bytes) -> bytes:
    """Return the KeyPackage in a prekey. Raises InviteError."""
    return _opened(
        prekey_key, sealed, _PREKEY_CONTEXT, "the relay handed out something that is no prekey of this account"
    )


def _signed_message(invite: Invite, payload: bytes) -> bytes:
    return _MANIFEST_LABEL + invite.slot + payload


def _opened(key: bytes, box: bytes, context: bytes, text: str) -> bytes:
    try:
        return padding.unpad(sealing.open_sealed(key, box, context))
    except (sealing.SealError, padding.PaddingError):
        raise InviteError(text) from None
