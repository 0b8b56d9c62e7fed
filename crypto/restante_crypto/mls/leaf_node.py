"""Leaf nodes (RFC 9420 sections 7.2 and 7.3)."""

from dataclasses import dataclass, field, replace
from typing import Final, Self

from restante_crypto.mls import codec, labels
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.extensions import Capabilities, Extension, Extensions, Lifetime, encode_extensions, find

SOURCE_KEY_PACKAGE: Final = 1
SOURCE_UPDATE: Final = 2
SOURCE_COMMIT: Final = 3

_LABEL: Final = b"LeafNodeTBS"


@dataclass(frozen=True, slots=True)
class SignatureKeyPair:
    """An Ed25519 key pair: public key and 32-byte seed."""

    public: bytes
    private: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LeafNode:
    """A leaf: one member's keys and what it says of itself.

    Attributes:
        encryption_key: HPKE public key of the leaf.
        signature_key: what its messages are signed with.
        credential: who it is.
        capabilities: what it supports.
        source: SOURCE_*: where the leaf comes from.
        lifetime: of a leaf from a KeyPackage.
        parent_hash: of a leaf from a Commit.
        extensions: verbatim.
        signature: over all of it, and group and index unless from a KeyPackage.
        raw: the encoding it was read from.
    """

    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: int
    lifetime: Lifetime | None = None
    parent_hash: bytes = b""
    extensions: Extensions = ()
    signature: bytes = b""
    raw: bytes = field(default=b"", repr=False, compare=False)

    def _body(self) -> bytes:
        if self.raw:
            return self.raw[: -len(codec.opaque(self.signature))]
        parts = [
            codec.opaque(self.encryption_key),
            codec.opaque(self.signature_key),
            self.credential.encode(),
            self.capabilities.encode(),
            codec.u8(self.source),
        ]
        if self.lifetime is not None:
            parts.append(self.lifetime.encode())
        elif self.source == SOURCE_COMMIT:
            parts.append(codec.opaque(self.parent_hash))
        parts.append(encode_extensions(self.extensions))
        return b"".join(parts)

    def encode(self) -> bytes:
        """Encode."""
        return self.raw or self._body() + codec.opaque(self.signature)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        start = reader.position
        encryption_key, signature_key = reader.opaque(), reader.opaque()
        credential, capabilities = Credential.decode(reader), Capabilities.decode(reader)
        source = reader.u8()
        lifetime, parent_hash = None, b""
        if source == SOURCE_KEY_PACKAGE:
            lifetime = Lifetime.decode(reader)
        elif source == SOURCE_COMMIT:
            parent_hash = reader.opaque()
        elif source != SOURCE_UPDATE:
            raise DecodeError("leaf node source")
        extensions, signature = reader.vector(Extension.decode), reader.opaque()
        return cls(
            encryption_key,
            signature_key,
            credential,
            capabilities,
            source,
            lifetime,
            parent_hash,
            extensions,
            signature,
            reader.since(start),
        )

    def extension(self, kind: int) -> bytes | None:
        """Return the data of the extension of this type, or None."""
        return find(self.extensions, kind)

    @property
    def is_from_key_package(self) -> bool:
        """Whether the leaf came with an Add and its member has not committed since."""
        return self.source == SOURCE_KEY_PACKAGE

    def _to_be_signed(self, group_id: bytes, leaf_index: int) -> bytes:
        body = self._body()
        if self.source == SOURCE_KEY_PACKAGE:
            return body
        return body + codec.opaque(group_id) + codec.u32(leaf_index)

    def sign(self, signer: SignatureKeyPair, group_id: bytes = b"", leaf_index: int = 0) -> Self:
        """Return the leaf with its signature; group and index do not count for a leaf from a KeyPackage."""
        content = self._to_be_signed(group_id, leaf_index)
        return replace(self, signature=labels.sign_with_label(signer.private, _LABEL, content), raw=b"")

    def verify(self, group_id: bytes = b"", leaf_index: int = 0) -> bool:
        """Say whether the signature fits."""
        content = self._to_be_signed(group_id, leaf_index)
        return labels.verify_with_label(self.signature_key, _LABEL, content, self.signature)
