"""Framing (RFC 9420 section 6): what is signed, whoever carries it."""

from dataclasses import dataclass, replace
from typing import Final, Self

from restante_crypto import primitives
from restante_crypto.mls import codec, labels
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.key_package import MLS10
from restante_crypto.mls.proposals import Proposal, ProposalOrRef, decode_proposal
from restante_crypto.mls.update_path import UpdatePath
from restante_crypto.suites import CipherSuite

CONTENT_APPLICATION: Final = 1
CONTENT_PROPOSAL: Final = 2
CONTENT_COMMIT: Final = 3

SENDER_MEMBER: Final = 1
SENDER_EXTERNAL: Final = 2
SENDER_NEW_MEMBER_PROPOSAL: Final = 3
SENDER_NEW_MEMBER_COMMIT: Final = 4

WIRE_PUBLIC_MESSAGE: Final = 1
WIRE_PRIVATE_MESSAGE: Final = 2
WIRE_WELCOME: Final = 3
WIRE_GROUP_INFO: Final = 4
WIRE_KEY_PACKAGE: Final = 5

_TBS_LABEL: Final = b"FramedContentTBS"
_REF_LABEL: Final = b"MLS 1.0 Proposal Reference"


@dataclass(frozen=True, slots=True)
class Commit:
    """Proposals and, mostly, a path (section 12.4)."""

    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None

    def encode(self) -> bytes:
        """Encode."""
        return codec.vector(item.encode() for item in self.proposals) + codec.optional(
            self.path.encode() if self.path else None
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.vector(ProposalOrRef.decode), reader.optional(UpdatePath.decode))


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent: a member by leaf index, an external sender by its index, or somebody about to join."""

    type: int
    index: int = 0

    def encode(self) -> bytes:
        """Encode."""
        if self.type in {SENDER_MEMBER, SENDER_EXTERNAL}:
            return codec.u8(self.type) + codec.u32(self.index)
        return codec.u8(self.type)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        kind = reader.u8()
        if kind in {SENDER_MEMBER, SENDER_EXTERNAL}:
            return cls(kind, reader.u32())
        if kind in {SENDER_NEW_MEMBER_PROPOSAL, SENDER_NEW_MEMBER_COMMIT}:
            return cls(kind)
        raise DecodeError("sender type")


Content = bytes | Proposal | Commit


def encode_content(content: Content) -> bytes:
    """Encode the content without its type."""
    return codec.opaque(content) if isinstance(content, bytes) else content.encode()


def decode_content(kind: int, reader: Reader) -> Content:
    """Read a content of this type."""
    if kind == CONTENT_APPLICATION:
        return reader.opaque()
    if kind == CONTENT_PROPOSAL:
        return decode_proposal(reader)
    if kind == CONTENT_COMMIT:
        return Commit.decode(reader)
    raise DecodeError("content type")


@dataclass(frozen=True, slots=True)
class FramedContent:
    """A content in its group and epoch."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content_type: int
    content: Content

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(
            (
                codec.opaque(self.group_id),
                codec.u64(self.epoch),
                self.sender.encode(),
                codec.opaque(self.authenticated_data),
                codec.u8(self.content_type),
                encode_content(self.content),
            )
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        group_id, epoch = reader.opaque(), reader.u64()
        sender, authenticated_data = Sender.decode(reader), reader.opaque()
        content_type = reader.u8()
        return cls(group_id, epoch, sender, authenticated_data, content_type, decode_content(content_type, reader))


@dataclass(frozen=True, slots=True)
class AuthenticatedContent:
    """A framed content, its signature, and of a Commit its confirmation tag."""

    wire_format: int
    content: FramedContent
    signature: bytes = b""
    confirmation_tag: bytes = b""

    def to_be_signed(self, context: bytes) -> bytes:
        """Return FramedContentTBS; ``context`` is the encoded GroupContext, unless the sender is external."""
        tbs = codec.u16(MLS10) + codec.u16(self.wire_format) + self.content.encode()
        if self.content.sender.type in {SENDER_MEMBER, SENDER_NEW_MEMBER_COMMIT}:
            return tbs + context
        return tbs

    def sign(self, seed: bytes, context: bytes) -> Self:
        """Return it signed."""
        return replace(self, signature=labels.sign_with_label(seed, _TBS_LABEL, self.to_be_signed(context)))

    def verify(self, public: bytes, context: bytes) -> bool:
        """Say whether the signature fits."""
        return labels.verify_with_label(public, _TBS_LABEL, self.to_be_signed(context), self.signature)

    def encode_auth(self) -> bytes:
        """Encode FramedContentAuthData."""
        if self.content.content_type == CONTENT_COMMIT:
            return codec.opaque(self.signature) + codec.opaque(self.confirmation_tag)
        return codec.opaque(self.signature)

    def encode(self) -> bytes:
        """Encode."""
        return codec.u16(self.wire_format) + self.content.encode() + self.encode_auth()

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        wire_format, content = reader.u16(), FramedContent.decode(reader)
        return cls(wire_format, content, *decode_auth(content.content_type, reader))

    def proposal_ref(self, suite: CipherSuite) -> bytes:
        """Return the ProposalRef of a proposal (section 5.2)."""
        return labels.ref_hash(suite, _REF_LABEL, self.encode())


def decode_auth(content_type: int, reader: Reader) -> tuple[bytes, bytes]:
    """Read FramedContentAuthData: signature, and of a Commit the confirmation tag."""
    signature = reader.opaque()
    return signature, reader.opaque() if content_type == CONTENT_COMMIT else b""


def confirmed_transcript_hash(suite: CipherSuite, interim: bytes, content: AuthenticatedContent) -> bytes:
    """Return the confirmed transcript hash after a Commit (section 8.2)."""
    value = codec.u16(content.wire_format) + content.content.encode() + codec.opaque(content.signature)
    return primitives.hash_bytes(suite.hash_name, interim + value)


def interim_transcript_hash(suite: CipherSuite, confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """Return the interim transcript hash (section 8.2)."""
    return primitives.hash_bytes(suite.hash_name, confirmed + codec.opaque(confirmation_tag))
