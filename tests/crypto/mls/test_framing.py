"""What stands for a sender on the wire (RFC 9420 section 6): both sides agree on wrong numbers too."""

import pytest

from restante_crypto.mls import codec
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.framing import (
    SENDER_EXTERNAL,
    SENDER_MEMBER,
    SENDER_NEW_MEMBER_COMMIT,
    SENDER_NEW_MEMBER_PROPOSAL,
    Sender,
)


@pytest.mark.parametrize(
    ("sender", "encoded"),
    [
        (Sender(SENDER_MEMBER, 7), "01 00000007"),
        (Sender(SENDER_EXTERNAL, 7), "02 00000007"),
        (Sender(SENDER_NEW_MEMBER_PROPOSAL), "03"),
        (Sender(SENDER_NEW_MEMBER_COMMIT), "04"),
    ],
)
def test_senders(sender: Sender, encoded: str) -> None:
    assert sender.encode() == bytes.fromhex(encoded)
    assert codec.parse(Sender, bytes.fromhex(encoded)) == sender


@pytest.mark.parametrize("kind", [0, 5])
def test_there_are_no_others(kind: int) -> None:
    with pytest.raises(DecodeError, match="sender type"):
        codec.parse(Sender, bytes((kind,)))
