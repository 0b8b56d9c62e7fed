"""Accounts and devices, and what they say in MLS: credential, certificate, leaf and group extensions.

An account is an Ed25519 identity key, and its public key is the account's name. A device is an MLS leaf with a
signature key of its own, which the identity key certifies. ``authenticate`` is what MLS asks of every new leaf.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from restante.packed import Packed, check
from restante_crypto import primitives
from restante_crypto.mls import LAST_RESORT, Capabilities, Credential, CredentialError, Extension, LeafNode
from restante_protocol import ids, limits

LEAF_EXTENSION: Final = 0xF1A0  # private use (RFC 9420 section 17.3)
CONVERSATION_EXTENSION: Final = 0xF1A1

VERSION: Final = 1
MAX_URL_BYTES: Final = 1024
MAX_TITLE_BYTES: Final = 256
MAX_OFFER_BYTES: Final = limits.MAX_PREKEY_BYTES  # as of any KeyPackage
CONVERSATION_ID_BYTES: Final = 16
_MAX_TIME: Final = 2**53 - 1

_CERTIFICATE_LABEL: Final = b"restante 1 device\x00"


@dataclass(frozen=True, slots=True)
class Identity:
    """An account's identity key.

    Attributes:
        seed: 32 bytes, the secret.
        public: 32 bytes, the account.
    """

    seed: bytes = field(repr=False)
    public: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Compute the public key."""
        object.__setattr__(self, "public", primitives.ed25519_public(self.seed))

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes). The message begins with a label that nothing else uses."""
        return primitives.ed25519_sign(self.seed, message)


def account_id(public: bytes) -> str:
    """Return how an account (32 bytes) is shown: 52 characters of lower-case base32 without padding."""
    return base64.b32encode(public).decode().rstrip("=").lower()


def account_key(text: str) -> bytes:
    """Return the public key of an account id. Raises ValueError for anything that ``account_id`` does not return."""
    try:
        public = base64.b32decode(text.upper() + "====")
    except binascii.Error:
        public = b""
    check(len(public) == ids.KEY_BYTES and account_id(public) == text, "not an account id")
    return public


def certify(identity: Identity, device_public: bytes) -> bytes:
    """Return the certificate (64 bytes) of a device's signature key (32 bytes)."""
    return identity.sign(_certificate_message(identity.public, device_public))


def verify_certificate(account_public: bytes, device_public: bytes, certificate: bytes) -> bool:
    """Say whether the account certified the device's signature key."""
    message = _certificate_message(account_public, device_public)
    return primitives.ed25519_verify(account_public, message, certificate)


def _certificate_message(account_public: bytes, device_public: bytes) -> bytes:
    return _CERTIFICATE_LABEL + account_public + device_public


class LeafData(Packed, frozen=True, kw_only=True):
    """The leaf extension LEAF_EXTENSION: whose device this is and where it reads this conversation.

    Attributes:
        version: of this format; later ones append.
        certificate: 64 bytes, of the leaf's signature key by the account of the leaf's credential.
        address: 24 bytes, the deposit address for this conversation.
        relay_url: of the relay that has it, at most 1024 bytes.
        relay_key: 32 bytes, that relay's public key.
        offer: a KeyPackage of this device for a better cipher suite than the group's, or empty.
    """

    version: int = VERSION
    certificate: bytes
    address: bytes
    relay_url: str
    relay_key: bytes
    offer: bytes = b""

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(self.version >= VERSION, "version")
        check(len(self.certificate) == ids.SIGNATURE_BYTES, "certificate")
        check(ids.is_id(self.address), "address")
        check_url(self.relay_url)
        check(len(self.relay_key) == ids.KEY_BYTES, "relay key")
        check(len(self.offer) <= MAX_OFFER_BYTES, "offer")


class ConversationData(Packed, frozen=True, kw_only=True):
    """The GroupContext extension CONVERSATION_EXTENSION: what a conversation is, for all its members.

    Attributes:
        version: of this format; later ones append.
        relay_url: of the ordering relay, where Commits are fenced; at most 1024 bytes.
        relay_key: 32 bytes, its public key.
        title: at most 256 bytes of UTF-8, or None.
        created: Unix seconds, by its creator's clock.
        conversation: the conversation's id, if this is not its first group: that one's group id.
        before: how many epochs its earlier groups had together.
    """

    version: int = VERSION
    relay_url: str
    relay_key: bytes
    title: str | None = None
    created: int
    conversation: bytes = b""
    before: int = 0

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(self.version >= VERSION, "version")
        check_url(self.relay_url)
        check(len(self.relay_key) == ids.KEY_BYTES, "relay key")
        check(self.title is None or len(self.title.encode()) <= MAX_TITLE_BYTES, "title above 256 bytes")
        check(0 <= self.created <= _MAX_TIME, "created")
        check(len(self.conversation) in {0, CONVERSATION_ID_BYTES}, "conversation")
        check(0 <= self.before <= _MAX_TIME, "before")


def conversation_data(extensions: Iterable[Extension], relay_key: bytes) -> ConversationData:
    """Return what a GroupContext says of a conversation that this relay orders. Raises ValueError for another group."""
    for extension in extensions:
        if extension.type == CONVERSATION_EXTENSION:
            data = ConversationData.decode(extension.data)
            check(data.relay_key == relay_key, "a conversation of another relay")
            return data
    raise ValueError("not one of our conversations")


def check_url(url: str) -> None:
    """Raise ValueError unless a relay's URL has 1 to 1024 bytes."""
    check(1 <= len(url.encode()) <= MAX_URL_BYTES, "relay URL")


def capabilities(suites: Iterable[int]) -> Capabilities:
    """Return what a device's leaf says it supports: these suites, and our two extensions."""
    return Capabilities(suites=tuple(suites), extensions=(LEAF_EXTENSION, CONVERSATION_EXTENSION, LAST_RESORT))


def leaf_extensions(leaf_data: LeafData) -> tuple[Extension, ...]:
    """Return all extensions of a device's leaf."""
    return (Extension(LEAF_EXTENSION, leaf_data.encode()),)


def credential(account_public: bytes) -> Credential:
    """Return the credential of an account's devices: basic, with the account's public key (32 bytes)."""
    return Credential.basic(account_public)


def authenticate(new: LeafNode, old: LeafNode | None) -> None:
    """Check that a leaf is a device of its account, and of the same account and device as the one it replaces.

    Raises:
        CredentialError: with the rule that it breaks.
    """
    account = new.credential.identity
    if new.credential != credential(account) or len(account) != ids.KEY_BYTES:
        raise CredentialError("the credential names no account")
    try:
        data = LeafData.decode(new.extension(LEAF_EXTENSION) or b"")
    except ValueError:
        raise CredentialError("the leaf has no valid device extension") from None
    if not verify_certificate(account, new.signature_key, data.certificate):
        raise CredentialError("the account has not certified the device")
    if old is not None and old.credential != new.credential:
        raise CredentialError("a leaf never changes its account")
    if old is not None and old.signature_key != new.signature_key:
        raise CredentialError("a leaf never changes its device")
