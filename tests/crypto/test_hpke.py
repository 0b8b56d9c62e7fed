"""HPKE against another implementation, and what it refuses."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from restante_crypto import hpke
from restante_crypto.suites import SUITES

SUITE = SUITES[3]


def test_what_another_implementation_seals_opens_here() -> None:
    theirs = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    private, public = SUITE.kem.derive_key_pair(os.urandom(32))
    sealed = theirs.encrypt(b"text", x25519.X25519PublicKey.from_public_bytes(public), info=b"info")
    context = hpke.info_context(SUITE, b"info")
    assert hpke.open(SUITE, sealed[:32], private, context, b"", sealed[32:]) == b"text"
    encapsulation, ciphertext = hpke.seal(SUITE, public, context, b"", b"back", os.urandom)
    key = x25519.X25519PrivateKey.from_private_bytes(private)
    assert theirs.decrypt(encapsulation + ciphertext, key, info=b"info") == b"back"


@pytest.mark.parametrize("number", sorted(SUITES))
def test_contexts_of_both_sides_agree(number: int) -> None:
    suite = SUITES[number]
    private, public = suite.kem.derive_key_pair(os.urandom(32))
    assert suite.kem.public_key(private) == public
    info = hpke.info_context(suite, b"info")
    encapsulation, sender = hpke.setup_sender(suite, public, info, os.urandom)
    receiver = hpke.setup_receiver(suite, encapsulation, private, info)
    for sequence in range(3):
        sealed = sender.seal(b"data", b"text", sequence)
        assert receiver.open(b"data", sealed, sequence) == b"text"
        with pytest.raises(hpke.HpkeError):
            receiver.open(b"data", sealed, sequence + 1)
    assert sender.export(b"context", 64) == receiver.export(b"context", 64)
    assert sender.key.hex() not in repr(sender)


def test_keys_of_small_order_are_refused() -> None:
    info = hpke.info_context(SUITE, b"")
    with pytest.raises(hpke.HpkeError):
        hpke.seal(SUITE, bytes(32), info, b"", b"", os.urandom)
    with pytest.raises(hpke.HpkeError):
        hpke.open(SUITE, bytes(32), os.urandom(32), info, b"", bytes(16))
