"""HPKE (RFC 9180) in base mode, over the suites of ``suites``.

Not here: the other modes (psk, auth, auth_psk), which MLS does not use.
"""

from dataclasses import dataclass, field

from restante_crypto import primitives
from restante_crypto.primitives import Random
from restante_crypto.suites import CipherSuite

_MODE_BASE = b"\x00"


class HpkeError(Exception):
    """An encapsulation or ciphertext does not fit."""


@dataclass(frozen=True, slots=True)
class Context:
    """A sender's or receiver's context (RFC 9180 section 5.2); the sequence number is the caller's."""

    suite: CipherSuite
    key: bytes = field(repr=False)
    base_nonce: bytes = field(repr=False)
    exporter_secret: bytes = field(repr=False)

    def _nonce(self, sequence: int) -> bytes:
        size = len(self.base_nonce)
        return (int.from_bytes(self.base_nonce, "big") ^ sequence).to_bytes(size, "big")

    def seal(self, associated_data: bytes, plaintext: bytes, sequence: int = 0) -> bytes:
        """Return the ciphertext with this sequence number, which must not repeat."""
        nonce = self._nonce(sequence)
        return primitives.aead_seal(self.suite.aead, self.key, nonce, plaintext, associated_data)

    def open(self, associated_data: bytes, ciphertext: bytes, sequence: int = 0) -> bytes:
        """Return the plaintext. Raises HpkeError."""
        nonce = self._nonce(sequence)
        try:
            return primitives.aead_open(self.suite.aead, self.key, nonce, ciphertext, associated_data)
        except primitives.AuthenticationError:
            raise HpkeError("ciphertext") from None

    def export(self, exporter_context: bytes, length: int) -> bytes:
        """Return exported secret bytes (RFC 9180 section 5.3)."""
        return _expand(self.suite, self.exporter_secret, b"sec", exporter_context, length)


def _extract(suite: CipherSuite, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return primitives.hkdf_extract(suite.hash_name, salt, b"HPKE-v1" + suite.hpke_id + label + ikm)


def _expand(suite: CipherSuite, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite.hpke_id + label + info
    return primitives.hkdf_expand(suite.hash_name, secret, labeled, length)


def info_context(suite: CipherSuite, info: bytes) -> bytes:
    """Return the key schedule context of this info: the same for all recipients, so it is computed once for many."""
    psk_id_hash = _extract(suite, b"", b"psk_id_hash", b"")
    return _MODE_BASE + psk_id_hash + _extract(suite, b"", b"info_hash", info)


def _schedule(suite: CipherSuite, shared_secret: bytes, context: bytes) -> Context:
    secret = _extract(suite, shared_secret, b"secret", b"")
    return Context(
        suite, *_key_nonce(suite, secret, context), _expand(suite, secret, b"exp", context, suite.hash_bytes)
    )


def _key_nonce(suite: CipherSuite, secret: bytes, context: bytes) -> tuple[bytes, bytes]:
    return (
        _expand(suite, secret, b"key", context, suite.key_bytes),
        _expand(suite, secret, b"base_nonce", context, suite.nonce_bytes),
    )


def _encapsulate(suite: CipherSuite, public: bytes, random: Random) -> tuple[bytes, bytes]:
    try:
        return suite.kem.encapsulate(public, random)
    except primitives.KeyExchangeError:
        raise HpkeError("public key") from None


def _decapsulate(suite: CipherSuite, encapsulation: bytes, private: bytes) -> bytes:
    try:
        return suite.kem.decapsulate(encapsulation, private)
    except primitives.KeyExchangeError:
        raise HpkeError("encapsulation") from None


def setup_sender(suite: CipherSuite, public: bytes, context: bytes, random: Random) -> tuple[bytes, Context]:
    """Return (encapsulation, context) towards a public key; ``context`` is ``info_context``. Raises HpkeError."""
    shared_secret, encapsulation = _encapsulate(suite, public, random)
    return encapsulation, _schedule(suite, shared_secret, context)


def setup_receiver(suite: CipherSuite, encapsulation: bytes, private: bytes, context: bytes) -> Context:
    """Return the receiver's context. Raises HpkeError."""
    return _schedule(suite, _decapsulate(suite, encapsulation, private), context)


def seal(
    suite: CipherSuite, public: bytes, context: bytes, associated_data: bytes, plaintext: bytes, random: Random
) -> tuple[bytes, bytes]:
    """Return (encapsulation, ciphertext) of one message: the first of a context that nobody keeps. Raises HpkeError."""
    shared_secret, encapsulation = _encapsulate(suite, public, random)
    key, nonce = _key_nonce(suite, _extract(suite, shared_secret, b"secret", b""), context)
    return encapsulation, primitives.aead_seal(suite.aead, key, nonce, plaintext, associated_data)


def open(  # noqa: A001 -- RFC 9180's name and arguments
    suite: CipherSuite, encapsulation: bytes, private: bytes, context: bytes, associated_data: bytes, ciphertext: bytes
) -> bytes:
    """Return the plaintext of one message. Raises HpkeError."""
    shared_secret = _decapsulate(suite, encapsulation, private)
    key, nonce = _key_nonce(suite, _extract(suite, shared_secret, b"secret", b""), context)
    try:
        return primitives.aead_open(suite.aead, key, nonce, ciphertext, associated_data)
    except primitives.AuthenticationError:
        raise HpkeError("ciphertext") from None
