"""Invites: a link that leads to a slot, and the manifest in it, which says how to reach an account's devices.

The link carries the slot's id and key, the relay's pinned key, and the account's: the relay can neither read the
manifest nor put another in its place. Deleting the slot revokes the invite.
"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

import msgspec
from restante_crypto import padding, primitives, sealing
from restante_crypto.primitives import Random
from restante_protocol import ids

from restante.account import Identity, verify_certificate
from restante.errors import InviteError

PREFIX: Final = "restante:"
VERSION: Final = 1
MAX_DEVICES: Final = 32
_MANIFEST_LABEL: Final = b"restante 1 manifest\x00"
_PREKEY_DATA: Final = b"restante 1 prekey"


class _InviteFields(msgspec.Struct, frozen=True, array_like=True):
    version: int
    relay_url: str
    relay_key: bytes
    slot: bytes
    key: bytes
    account: bytes


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite: relay, slot (24 bytes), key (32), account (32)."""

    relay_url: str
    relay_key: bytes
    slot: bytes
    key: bytes = field(repr=False)
    account: bytes

    def text(self) -> str:
        """Return the link."""
        packed = msgspec.msgpack.encode(
            _InviteFields(VERSION, self.relay_url, self.relay_key, self.slot, self.key, self.account)
        )
        return PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Invite":
        """Return the invite in a link; white space around and inside is ignored. Raises InviteError."""
        compact = "".join(text.split())
        if not compact.startswith(PREFIX):
            raise InviteError(f"an invite begins with {PREFIX}")
        encoded = compact.removeprefix(PREFIX)
        try:
            packed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            fields = msgspec.msgpack.decode(packed, type=_InviteFields)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise InviteError("the invite is damaged: copy it again") from None
        if fields.version != VERSION:
            raise InviteError("the invite is of a newer version: upgrade")
        if (
            not ids.is_id(fields.slot)
            or not len(fields.relay_key) == len(fields.key) == len(fields.account) == ids.KEY_BYTES
        ):
            raise InviteError("the invite is damaged: copy it again")
        return cls(fields.relay_url, fields.relay_key, fields.slot, fields.key, fields.account)


class ManifestDevice(msgspec.Struct, frozen=True, array_like=True):
    """One device: signature key, its certificate, the key that its prekeys are sealed with, (suite, claim address)."""

    signature_key: bytes
    certificate: bytes
    prekey_key: bytes
    pools: tuple[tuple[int, bytes], ...]

    def __repr__(self) -> str:
        """Return the type's name alone: there is a key inside."""
        return "<ManifestDevice>"


class _ManifestFields(msgspec.Struct, frozen=True, array_like=True):
    format: int
    version: int
    account: bytes
    expires: int
    devices: tuple[ManifestDevice, ...]


class _Signed(msgspec.Struct, frozen=True, array_like=True):
    manifest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """How to reach an account: version, account, expiry (Unix seconds), devices."""

    version: int
    account: bytes
    expires: int
    devices: tuple[ManifestDevice, ...]

    def seal(self, invite: Invite, identity: Identity, random: Random) -> bytes:
        """Return it signed by the account, padded, and sealed under the invite's key."""
        packed = msgspec.msgpack.encode(
            _ManifestFields(VERSION, self.version, self.account, self.expires, self.devices)
        )
        signature = identity.sign(_MANIFEST_LABEL + invite.slot + packed)
        signed = msgspec.msgpack.encode(_Signed(packed, signature))
        return sealing.seal(invite.key, padding.pad(signed, 1024), invite.slot, random)


def open_manifest(body: bytes, invite: Invite, *, now: int, seen_version: int = 0) -> Manifest:
    """Return the manifest in a slot.

    Args:
        body: of the slot.
        invite: that led there.
        now: Unix seconds.
        seen_version: the highest version seen of this invite.

    Raises:
        InviteError: it is not the account's, expired, or older than one seen before.
    """
    try:
        signed = msgspec.msgpack.decode(padding.unpad(sealing.open_sealed(invite.key, body, invite.slot)), type=_Signed)
        fields = msgspec.msgpack.decode(signed.manifest, type=_ManifestFields)
    except (sealing.SealError, padding.PaddingError, msgspec.DecodeError):
        raise InviteError("what the invite leads to was not made by its account") from None
    message = _MANIFEST_LABEL + invite.slot + signed.manifest
    if fields.account != invite.account or not primitives.ed25519_verify(invite.account, message, signed.signature):
        raise InviteError("what the invite leads to was not signed by its account")
    if fields.format != VERSION:
        raise InviteError("the invite's manifest is of a newer version: upgrade")
    if fields.expires <= now:
        raise InviteError("the invite has expired: ask for a new one")
    if fields.version < seen_version:
        raise InviteError("the relay shows an older manifest than before")
    if not 0 < len(fields.devices) <= MAX_DEVICES:
        raise InviteError("the account has no device")
    for device in fields.devices:
        if not verify_certificate(invite.account, device.signature_key, device.certificate):
            raise InviteError("a device of the invite is not certified by its account")
        if len(device.prekey_key) != ids.KEY_BYTES or not all(ids.is_id(address) for _, address in device.pools):
            raise InviteError("what the invite leads to is malformed")
    return Manifest(fields.version, fields.account, fields.expires, fields.devices)


def seal_prekey(key: bytes, key_package: bytes, random: Random) -> bytes:
    """Return a KeyPackage sealed for whoever holds an invite; padded, so that all look alike."""
    return sealing.seal(key, padding.pad(key_package, 1024), _PREKEY_DATA, random)


def open_prekey(key: bytes, sealed: bytes) -> bytes:
    """Return the KeyPackage. Raises InviteError."""
    try:
        return padding.unpad(sealing.open_sealed(key, sealed, _PREKEY_DATA))
    except (sealing.SealError, padding.PaddingError):
        raise InviteError("the relay handed out something that the account did not make") from None
