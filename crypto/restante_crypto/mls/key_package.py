"""KeyPackages (RFC 9420 section 10): what one publishes to be added by others."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Self

from restante_crypto.mls import codec, grease, labels
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.errors import StateError, ValidationError
from restante_crypto.mls.extensions import (
    MAX_LIFETIME,
    Capabilities,
    Extension,
    Extensions,
    Lifetime,
    check_extensions,
    encode_extensions,
)
from restante_crypto.mls.leaf_node import SOURCE_KEY_PACKAGE, LeafNode, SignatureKeyPair
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES

MLS10: Final = 1
_LABEL: Final = b"KeyPackageTBS"
_REF_LABEL: Final = b"MLS 1.0 KeyPackage Reference"


@dataclass(frozen=True, slots=True)
class KeyPackage:
    """A signed offer to be added: suite, init key, leaf."""

    suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: Extensions = ()
    signature: bytes = b""
    version: int = MLS10

    def _body(self) -> bytes:
        return b"".join(
            (
                codec.u16(self.version),
                codec.u16(self.suite),
                codec.opaque(self.init_key),
                self.leaf_node.encode(),
                encode_extensions(self.extensions),
            )
        )

    def encode(self) -> bytes:
        """Encode."""
        return self._body() + codec.opaque(self.signature)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        version, suite, init_key = reader.u16(), reader.u16(), reader.opaque()
        leaf_node = LeafNode.decode(reader)
        return cls(suite, init_key, leaf_node, reader.vector(Extension.decode), reader.opaque(), version)

    @classmethod
    def parse(cls, data: bytes) -> "KeyPackage":
        """Return the KeyPackage in these bytes. Raises DecodeError."""
        return codec.parse(cls, data)

    def ref(self) -> bytes:
        """Return the KeyPackageRef (section 5.2). Raises StateError for a suite that is not supported."""
        if self.suite not in SUITES:
            raise StateError("cipher suite")
        return labels.ref_hash(SUITES[self.suite], _REF_LABEL, self.encode())

    def verify(self) -> bool:
        """Say whether the signature fits."""
        return labels.verify_with_label(self.leaf_node.signature_key, _LABEL, self._body(), self.signature)


@dataclass(frozen=True, slots=True)
class KeyPackageBundle:
    """A KeyPackage and its private halves."""

    key_package: KeyPackage
    init_private: bytes = field(repr=False)
    leaf_private: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Return the bundle, private halves included."""
        parts = (self.key_package.encode(), self.init_private, self.leaf_private)
        return b"".join(codec.opaque(part) for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the bundle in these bytes. Raises DecodeError."""
        reader = Reader(data)
        bundle = cls(KeyPackage.parse(reader.opaque()), reader.opaque(), reader.opaque())
        reader.done()
        return bundle


def create_key_package(
    suite: int,
    *,
    signer: SignatureKeyPair,
    credential: Credential,
    capabilities: Capabilities,
    lifetime: Lifetime,
    leaf_extensions: Extensions = (),
    extensions: Extensions = (),
    random: Random,
) -> KeyPackageBundle:
    """Make a KeyPackage with fresh keys. Raises StateError for a suite that is not supported."""
    if suite not in SUITES:
        raise StateError("cipher suite")
    kem = SUITES[suite].kem
    init_private, init_key = kem.derive_key_pair(random(32))
    leaf_private, encryption_key = kem.derive_key_pair(random(32))
    capabilities, leaf_extensions = grease.leaf(capabilities, leaf_extensions, random)
    leaf = LeafNode(
        encryption_key,
        signer.public,
        credential,
        capabilities,
        SOURCE_KEY_PACKAGE,
        lifetime,
        extensions=leaf_extensions,
    ).sign(signer)
    unsigned = KeyPackage(suite, init_key, leaf, (*extensions, grease.extension(random)))
    signature = labels.sign_with_label(signer.private, _LABEL, unsigned._body())  # noqa: SLF001 -- of this module
    return KeyPackageBundle(replace(unsigned, signature=signature), init_private, leaf_private)


@lru_cache(maxsize=256)  # who adds a client checks its KeyPackage before the Commit, and then with the Commit
def _signatures_fit(key_package: KeyPackage) -> tuple[bool, bool]:
    return key_package.leaf_node.verify(), key_package.verify()


def check_key_package(key_package: KeyPackage, suite: int) -> None:
    """Check what section 10.1 demands and every member can check. Raises ValidationError."""
    leaf = key_package.leaf_node
    if key_package.version != MLS10:
        raise ValidationError("10.1 version")
    if key_package.suite != suite:
        raise ValidationError("10.1 cipher suite")
    check_extensions(key_package.extensions)
    if leaf.source != SOURCE_KEY_PACKAGE:
        raise ValidationError("7.3 leaf of a KeyPackage")
    leaf_fits, package_fits = _signatures_fit(key_package)
    if not leaf_fits:
        raise ValidationError("7.3 leaf signature")
    if not package_fits:
        raise ValidationError("10.1 signature")
    if key_package.init_key == leaf.encryption_key or not SUITES[suite].kem.is_public_key(key_package.init_key):
        raise ValidationError("10.1 init key")


def check_lifetime(leaf: LeafNode, *, longest: int, now: int | None = None) -> None:
    """Check the lifetime of a leaf, if it has one: all of it, and with ``now`` (Unix seconds) whether it is now.

    Raises:
        ValidationError: with the rule.
    """
    if leaf.lifetime is not None:
        leaf.lifetime.check_total(longest)
        if now is not None:
            leaf.lifetime.check_at(now)


def validate_key_package(key_package: KeyPackage, suite: int, *, now: int, longest: int = MAX_LIFETIME) -> None:
    """Check a KeyPackage before adding it: section 10.1, and its lifetime at ``now`` (Unix seconds).

    Only the adder looks at a clock: two members whose clocks differ must not differ about a Commit.

    Raises:
        ValidationError: with the rule.
    """
    check_key_package(key_package, suite)
    check_lifetime(key_package.leaf_node, longest=longest, now=now)
