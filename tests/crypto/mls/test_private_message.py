"""PrivateMessages that no member of ours would make (RFC 9420 section 6.3)."""

from dataclasses import replace

import pytest

from restante_crypto import primitives
from restante_crypto.mls import UnprotectError, codec
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage, sender_data_key_nonce
from support.mls import Party, nobody


@pytest.mark.parametrize("kind", [0, 4])
def test_a_content_type_of_nothing_is_refused_before_anything_is_opened(kind: int) -> None:
    message = PrivateMessage(b"group", 1, kind, b"", b"sender", b"ciphertext")
    with pytest.raises(DecodeError, match="content type"):
        codec.parse(PrivateMessage, message.encode())


def test_sender_data_end_after_the_reuse_guard() -> None:
    party = Party.of(2)
    message = MLSMessage.parse(party.say(1, b"hello")).body
    assert isinstance(message, PrivateMessage)
    receiver = party.groups[0]
    keys = receiver.keys
    key, nonce = sender_data_key_nonce(keys.suite, keys.sender_data_secret, message.ciphertext)
    aad = message._sender_aad()
    data = primitives.aead_open(keys.suite.aead, key, nonce, message.encrypted_sender_data, aad)
    for change, refused in ((data, False), (data + b"\0", True), (data[:-1], True)):
        sealed = primitives.aead_seal(keys.suite.aead, key, nonce, change, aad)
        whole = MLSMessage(replace(message, encrypted_sender_data=sealed)).encode()
        if refused:
            with pytest.raises(UnprotectError, match="sender data"):
                receiver.process(whole, authenticate=nobody)
        else:
            receiver.process(whole, authenticate=nobody)
