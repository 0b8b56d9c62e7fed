"""What is inside a message: one typed value, in terms of draft-ietf-mimi-content.

The draft's salt is our content id. In place of its lastSeen each device numbers its contents per conversation, from 1
and across epochs, and names its previous one: whoever receives them sees gaps. Nested parts are not here: a content has
one body.
"""

from typing import Final

import msgspec

from restante.packed import Packed, check
from restante_crypto import primitives

VERSION: Final = 1
CONTENT_ID_BYTES: Final = 16

# Dispositions (the draft's section "Disposition"): what the receiver's application does with a content.
RENDER: Final = 1
PROFILE: Final = 0xE0  # ours: where the sender's profile is; no message
PRIVATE_DISPOSITIONS: Final = 0xF0  # from here on for what applications agree on between themselves

TEXT: Final = "text/plain;charset=utf-8"
BYTES: Final = "application/octet-stream"

_MAX_NUMBER: Final = 2**63 - 1
_MAX_TIME: Final = 253_402_300_799_999  # the end of the year 9999, where calendars of many languages end
_MESSAGE_ID_BYTES: Final = 16
_MESSAGE_ID_PERSON: Final = b"restante message"


class Content(Packed, frozen=True, kw_only=True):
    """One content. Unknown versions, dispositions and content types are carried, not refused.

    Attributes:
        version: of this format.
        content_id: 16 random bytes; stable when the content is encrypted again, so receivers know it again by them.
        number: counts the device's contents in the conversation, from 1.
        previous: content id of the device's previous content in the conversation.
        sent_at: the sender's clock: Unix milliseconds.
        in_reply_to: content id of what this answers.
        disposition: RENDER, or another number of the draft.
        content_type: media type of the body.
        body: the bytes; UTF-8 if the type is TEXT.
        extensions: further fields by name.
    """

    version: int = VERSION
    content_id: bytes
    number: int
    previous: bytes | None = None
    sent_at: int
    in_reply_to: bytes | None = None
    disposition: int = RENDER
    content_type: str
    body: bytes
    extensions: dict[str, bytes] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check lengths and ranges. Raises ValueError."""
        check(self.version >= VERSION, "version")
        for content_id in (self.content_id, self.previous, self.in_reply_to):
            check(content_id is None or len(content_id) == CONTENT_ID_BYTES, "content id")
        check(1 <= self.number <= _MAX_NUMBER, "number")
        check(0 <= self.sent_at <= _MAX_TIME, "sent_at")
        check(self.disposition >= 0, "disposition")
        if self.content_type == TEXT:
            self.body.decode()


def message_id(conversation_id: bytes, sender_account: bytes, content_id: bytes) -> str:
    """Return what Message.id and Receipt.id show: hex of BLAKE2b-128 of who said it (32 bytes), what (16) and where."""
    data = sender_account + content_id + conversation_id
    return primitives.blake2b(data, size=_MESSAGE_ID_BYTES, person=_MESSAGE_ID_PERSON).hex()
