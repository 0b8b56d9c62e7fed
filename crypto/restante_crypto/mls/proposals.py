"""Proposals (RFC 9420 section 12.1). Types that are not the RFC's are carried verbatim, as one vector."""

from dataclasses import dataclass, field
from typing import Final, Self

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.extensions import Extension, Extensions, encode_extensions
from restante_crypto.mls.key_package import KeyPackage
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.psk import PreSharedKeyID

ADD: Final = 1
UPDATE: Final = 2
REMOVE: Final = 3
PSK: Final = 4
REINIT: Final = 5
EXTERNAL_INIT: Final = 6
GROUP_CONTEXT_EXTENSIONS: Final = 7

_BY_VALUE: Final = 1
_BY_REFERENCE: Final = 2


@dataclass(frozen=True, slots=True)
class Add:
    """Add the client that published this KeyPackage."""

    key_package: KeyPackage
    type: int = field(default=ADD, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(ADD) + self.key_package.encode()


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the sender's leaf."""

    leaf_node: LeafNode
    type: int = field(default=UPDATE, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(UPDATE) + self.leaf_node.encode()


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the member at this leaf index."""

    removed: int
    type: int = field(default=REMOVE, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(REMOVE) + codec.u32(self.removed)


@dataclass(frozen=True, slots=True)
class PreSharedKey:
    """Mix a PSK into the next epoch."""

    psk: PreSharedKeyID
    type: int = field(default=PSK, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(PSK) + self.psk.encode()


@dataclass(frozen=True, slots=True)
class ReInit:
    """Start a new group with other parameters; this one ends."""

    group_id: bytes
    version: int
    suite: int
    extensions: Extensions = ()
    type: int = field(default=REINIT, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return b"".join(
            (
                codec.u16(REINIT),
                codec.opaque(self.group_id),
                codec.u16(self.version),
                codec.u16(self.suite),
                encode_extensions(self.extensions),
            )
        )


@dataclass(frozen=True, slots=True)
class ExternalInit:
    """The init secret of an external Commit, encapsulated."""

    kem_output: bytes
    type: int = field(default=EXTERNAL_INIT, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(EXTERNAL_INIT) + codec.opaque(self.kem_output)


@dataclass(frozen=True, slots=True)
class GroupContextExtensions:
    """Replace the extensions of the GroupContext."""

    extensions: Extensions
    type: int = field(default=GROUP_CONTEXT_EXTENSIONS, init=False)

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(GROUP_CONTEXT_EXTENSIONS) + encode_extensions(self.extensions)


@dataclass(frozen=True, slots=True)
class CustomProposal:
    """A proposal of a type that is the application's, or of an extension of MLS: its members know what it means."""

    type: int
    data: bytes

    def encode(self) -> bytes:
        """Encode with the type."""
        return codec.u16(self.type) + codec.opaque(self.data)


Proposal = Add | Update | Remove | PreSharedKey | ReInit | ExternalInit | GroupContextExtensions | CustomProposal


def decode_proposal(reader: Reader) -> Proposal:  # noqa: PLR0911 -- one per type
    """Read a proposal. Raises DecodeError for the type 0."""
    kind = reader.u16()
    match kind:
        case 1:
            return Add(KeyPackage.decode(reader))
        case 2:
            return Update(LeafNode.decode(reader))
        case 3:
            return Remove(reader.u32())
        case 4:
            return PreSharedKey(PreSharedKeyID.decode(reader))
        case 5:
            group_id, version, suite = reader.opaque(), reader.u16(), reader.u16()
            return ReInit(group_id, version, suite, reader.vector(Extension.decode))
        case 6:
            return ExternalInit(reader.opaque())
        case 7:
            return GroupContextExtensions(reader.vector(Extension.decode))
        case 0:
            raise DecodeError("proposal type")
        case _:
            return CustomProposal(kind, reader.opaque())


@dataclass(frozen=True, slots=True)
class ProposalOrRef:
    """A proposal in a Commit: by value, or by the reference of one that was sent before (section 12.4)."""

    proposal: Proposal | None = None
    reference: bytes = b""

    def encode(self) -> bytes:
        """Encode."""
        if self.proposal is not None:
            return codec.u8(_BY_VALUE) + self.proposal.encode()
        return codec.u8(_BY_REFERENCE) + codec.opaque(self.reference)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        kind = reader.u8()
        if kind == _BY_VALUE:
            return cls(decode_proposal(reader))
        if kind == _BY_REFERENCE:
            return cls(None, reader.opaque())
        raise DecodeError("proposal or reference")
