"""What is inside a message: a versioned, extensible value in the terms of the IETF's MIMI content format.

Terms taken from draft-ietf-mimi-content: the salt that makes a message id, inReplyTo, disposition, content type,
extensions. The number and the previous id are ours: they show gaps.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec
from restante_crypto import primitives

VERSION: Final = 1
RENDER: Final = 1
"""Disposition of what is shown to a person (MIMI content section 4.1)."""
TEXT: Final = "text/plain;charset=utf-8"
BYTES: Final = "application/octet-stream"
ID_BYTES: Final = 16
_PERSON: Final = b"restante message"


class _Fields(msgspec.Struct, frozen=True, array_like=True):
    version: int
    content_id: bytes
    number: int
    previous: bytes | None
    sent_at: int
    in_reply_to: bytes | None
    disposition: int
    content_type: str
    body: bytes
    extensions: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Content:
    """One content.

    Attributes:
        content_id: 16 random bytes.
        number: counts this device's contents of the conversation, from 1.
        previous: content id of the one before.
        sent_at: Unix milliseconds on the sender's clock.
        in_reply_to: content id that this answers.
        disposition: RENDER, or another number, carried.
        content_type: a media type.
        body: the bytes.
        extensions: by name.
    """

    content_id: bytes
    number: int
    previous: bytes | None
    sent_at: int
    in_reply_to: bytes | None
    disposition: int
    content_type: str
    body: bytes = field(repr=False)
    extensions: dict[str, bytes]

    def encode(self) -> bytes:
        """Encode; later versions append fields."""
        return msgspec.msgpack.encode(
            _Fields(
                VERSION,
                self.content_id,
                self.number,
                self.previous,
                self.sent_at,
                self.in_reply_to,
                self.disposition,
                self.content_type,
                self.body,
                self.extensions,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "Content":
        """Return the content in these bytes. Raises ValueError."""
        try:
            fields = msgspec.msgpack.decode(data, type=_Fields)
        except msgspec.DecodeError:
            raise ValueError("content") from None
        if fields.version < VERSION or len(fields.content_id) != ID_BYTES or not 0 < fields.number < 2**63:
            raise ValueError("content")
        if not 0 <= fields.sent_at < 2**53:
            raise ValueError("content")
        return cls(
            fields.content_id,
            fields.number,
            fields.previous,
            fields.sent_at,
            fields.in_reply_to,
            fields.disposition,
            fields.content_type,
            fields.body,
            fields.extensions,
        )


def message_id(conversation: bytes, sender: bytes, content_id: bytes) -> str:
    """Return a message's id as all members see it: a sender cannot take another's."""
    parts = (len(conversation).to_bytes(2, "big"), conversation, sender, content_id)
    return primitives.blake2b(b"".join(parts), size=16, person=_PERSON).hex()
