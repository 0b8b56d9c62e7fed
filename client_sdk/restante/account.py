"""Accounts and devices: the identity key, what it certifies, and what a leaf of ours says beside MLS.

An account is an Ed25519 identity key; its public key is the account's name, so nobody can swap it. A device is an MLS
leaf whose signature key the identity key has certified.
"""

import base64
from dataclasses import dataclass, field
from typing import Final

import msgspec
from restante_crypto import primitives
from restante_crypto.mls import LAST_RESORT, Capabilities, Credential, CredentialError, Extension, LeafNode
from restante_protocol import ids

LEAF_EXTENSION: Final = 0xF1A0
CONVERSATION_EXTENSION: Final = 0xF1A1
VERSION: Final = 1
MAX_TITLE_BYTES: Final = 256
MAX_URL_BYTES: Final = 512
_CERTIFICATE_LABEL: Final = b"restante 1 device\x00"
_BASIC: Final = 1
_ID_CHARACTERS: Final = 52


def account_id(public: bytes) -> str:
    """Return an account's id: base32 of its public key, lower case, 52 characters."""
    return base64.b32encode(public).decode().rstrip("=").lower()


def account_key(account: str) -> bytes:
    """Return the public key of an account id. Raises ValueError."""
    if len(account) != _ID_CHARACTERS or account != account.lower():
        raise ValueError("not an account id")
    key = base64.b32decode(account.upper() + "====")
    if account_id(key) != account:
        raise ValueError("not an account id")
    return key


@dataclass(frozen=True, slots=True)
class Identity:
    """An account's identity key, from a 32-byte seed."""

    seed: bytes = field(repr=False)
    public: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Derive the public key."""
        object.__setattr__(self, "public", primitives.ed25519_public(self.seed))

    def sign(self, message: bytes) -> bytes:
        """Return the signature."""
        return primitives.ed25519_sign(self.seed, message)


def _certificate_message(account: bytes, device: bytes) -> bytes:
    return _CERTIFICATE_LABEL + account + device


def certify(identity: Identity, device: bytes) -> bytes:
    """Return the certificate (64 bytes) of a device's signature key."""
    return identity.sign(_certificate_message(identity.public, device))


def verify_certificate(account: bytes, device: bytes, certificate: bytes) -> bool:
    """Say whether the account has certified the device."""
    return primitives.ed25519_verify(account, _certificate_message(account, device), certificate)


class _LeafFields(msgspec.Struct, frozen=True, array_like=True):
    version: int
    certificate: bytes
    address: bytes
    relay_url: str
    relay_key: bytes


class _ConversationFields(msgspec.Struct, frozen=True, array_like=True):
    version: int
    relay_url: str
    relay_key: bytes
    title: str | None
    created: int


@dataclass(frozen=True, slots=True)
class LeafData:
    """The extension of every leaf: certificate (64 bytes), deposit address (24), relay's URL and key (32)."""

    certificate: bytes
    address: bytes
    relay_url: str
    relay_key: bytes

    def encode(self) -> bytes:
        """Encode; later versions append fields."""
        return msgspec.msgpack.encode(
            _LeafFields(VERSION, self.certificate, self.address, self.relay_url, self.relay_key)
        )

    @classmethod
    def decode(cls, data: bytes) -> "LeafData":
        """Return what is in these bytes. Raises ValueError."""
        try:
            fields = msgspec.msgpack.decode(data, type=_LeafFields)
        except msgspec.DecodeError:
            raise ValueError("leaf extension") from None
        if (
            fields.version < VERSION
            or len(fields.certificate) != ids.SIGNATURE_BYTES
            or not ids.is_id(fields.address)
            or len(fields.relay_key) != ids.KEY_BYTES
            or len(fields.relay_url.encode()) > MAX_URL_BYTES
        ):
            raise ValueError("leaf extension")
        return cls(fields.certificate, fields.address, fields.relay_url, fields.relay_key)


@dataclass(frozen=True, slots=True)
class ConversationData:
    """The extension of a conversation's GroupContext: the one relay that orders its Commits, title, Unix seconds."""

    relay_url: str
    relay_key: bytes
    title: str | None
    created: int

    def encode(self) -> bytes:
        """Encode; later versions append fields."""
        return msgspec.msgpack.encode(
            _ConversationFields(VERSION, self.relay_url, self.relay_key, self.title, self.created)
        )

    @classmethod
    def decode(cls, data: bytes) -> "ConversationData":
        """Return what is in these bytes. Raises ValueError."""
        try:
            fields = msgspec.msgpack.decode(data, type=_ConversationFields)
        except msgspec.DecodeError:
            raise ValueError("conversation extension") from None
        if (
            fields.version < VERSION
            or len(fields.relay_key) != ids.KEY_BYTES
            or len((fields.title or "").encode()) > MAX_TITLE_BYTES
            or len(fields.relay_url.encode()) > MAX_URL_BYTES
        ):
            raise ValueError("conversation extension")
        return cls(fields.relay_url, fields.relay_key, fields.title, fields.created)


def credential(account: bytes) -> Credential:
    """Return an account's credential: basic, its identity the public key."""
    return Credential.basic(account)


def capabilities(suites: tuple[int, ...]) -> Capabilities:
    """Return what our leaves support."""
    return Capabilities(suites=suites, extensions=(LEAF_EXTENSION, CONVERSATION_EXTENSION, LAST_RESORT))


def leaf_extensions(data: LeafData) -> tuple[Extension, ...]:
    """Return the extensions of our leaf."""
    return (Extension(LEAF_EXTENSION, data.encode()),)


def authenticate(new: LeafNode, old: LeafNode | None) -> None:
    """Check a leaf: certified by its account, and the account and device of the leaf that it replaces.

    Raises:
        CredentialError: with the rule.
    """
    if new.credential.type != _BASIC or len(new.credential.identity) != ids.KEY_BYTES:
        raise CredentialError("credential of an account")
    data = new.extension(LEAF_EXTENSION)
    try:
        certificate = LeafData.decode(data or b"").certificate
    except ValueError:
        raise CredentialError("leaf extension") from None
    if not verify_certificate(new.credential.identity, new.signature_key, certificate):
        raise CredentialError("device certificate")
    if old is not None and (old.credential != new.credential or old.signature_key != new.signature_key):
        raise CredentialError("a leaf's account and device never change")
