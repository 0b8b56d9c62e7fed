"""PublicMessages of those who are no members (RFC 9420 section 6.2): they have no membership tag."""

import pytest

from restante_crypto.mls import Remove, codec
from restante_crypto.mls.framing import (
    CONTENT_PROPOSAL,
    SENDER_EXTERNAL,
    SENDER_NEW_MEMBER_PROPOSAL,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    Sender,
)
from restante_crypto.mls.public_message import PublicMessage, of_an_outsider


@pytest.mark.parametrize("sender", [Sender(SENDER_EXTERNAL, 1), Sender(SENDER_NEW_MEMBER_PROPOSAL)])
def test_an_outsiders_is_read_as_it_was_written(sender: Sender) -> None:
    content = FramedContent(b"group", 3, sender, b"data", CONTENT_PROPOSAL, Remove(1))
    message = of_an_outsider(AuthenticatedContent(WIRE_PUBLIC_MESSAGE, content, bytes(64)))
    assert message.membership_tag == b""
    assert codec.parse(PublicMessage, message.encode()) == message
