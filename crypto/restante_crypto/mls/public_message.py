"""PublicMessage (RFC 9420 section 6.2): signed content in the clear, authenticated by the membership key."""

from dataclasses import dataclass
from typing import Self

from restante_crypto import primitives
from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.framing import (
    SENDER_MEMBER,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    decode_auth,
)
from restante_crypto.suites import CipherSuite


@dataclass(frozen=True, slots=True)
class PublicMessage:
    """A content in the clear; of a member with a membership tag."""

    content: FramedContent
    signature: bytes
    confirmation_tag: bytes
    membership_tag: bytes

    def authenticated(self) -> AuthenticatedContent:
        """Return the signed content."""
        return AuthenticatedContent(WIRE_PUBLIC_MESSAGE, self.content, self.signature, self.confirmation_tag)

    def encode(self) -> bytes:
        """Encode."""
        encoded = self.content.encode() + self.authenticated().encode_auth()
        if self.content.sender.type == SENDER_MEMBER:
            return encoded + codec.opaque(self.membership_tag)
        return encoded

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        content = FramedContent.decode(reader)
        signature, confirmation_tag = decode_auth(content.content_type, reader)
        return cls(
            content, signature, confirmation_tag, reader.opaque() if content.sender.type == SENDER_MEMBER else b""
        )


def membership_tag(suite: CipherSuite, membership_key: bytes, content: AuthenticatedContent, context: bytes) -> bytes:
    """Return the membership tag of a member's content in the epoch of this GroupContext."""
    tbm = content.to_be_signed(context) + content.encode_auth()
    return primitives.hmac(suite.hash_name, membership_key, tbm)


def protect(suite: CipherSuite, membership_key: bytes, content: AuthenticatedContent, context: bytes) -> PublicMessage:
    """Return a member's signed content as PublicMessage."""
    tag = membership_tag(suite, membership_key, content, context)
    return PublicMessage(content.content, content.signature, content.confirmation_tag, tag)


def of_an_outsider(content: AuthenticatedContent) -> PublicMessage:
    """Return a signed content of somebody who is no member as PublicMessage."""
    return PublicMessage(content.content, content.signature, content.confirmation_tag, b"")
