"""The labeled operations of RFC 9420: sections 5.1.2, 5.1.3, 5.2, 8 and 9."""

from functools import cache

from restante_crypto import hpke, primitives
from restante_crypto.mls import codec
from restante_crypto.primitives import Random
from restante_crypto.suites import CipherSuite

_PREFIX = b"MLS 1.0 "


def ref_hash(suite: CipherSuite, label: bytes, value: bytes) -> bytes:
    """Return RefHash(label, value), section 5.2. The label is complete: these carry the prefix themselves."""
    return primitives.hash_bytes(suite.hash_name, codec.opaque(label) + codec.opaque(value))


@cache
def _label(label: bytes) -> bytes:
    return codec.opaque(_PREFIX + label)


@cache
def _fixed_info(label: bytes, length: int) -> bytes:
    return codec.u16(length) + _label(label) + b"\x00"


def expand_with_label(suite: CipherSuite, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """Return ExpandWithLabel(secret, label, context, length), section 8."""
    info = codec.u16(length) + _label(label) + codec.opaque(context) if context else _fixed_info(label, length)
    return primitives.hkdf_expand(suite.hash_name, secret, info, length)


def derive_secret(suite: CipherSuite, secret: bytes, label: bytes) -> bytes:
    """Return DeriveSecret(secret, label), section 8."""
    return primitives.hkdf_expand(suite.hash_name, secret, _fixed_info(label, suite.hash_bytes), suite.hash_bytes)


def derive_tree_secret(suite: CipherSuite, secret: bytes, label: bytes, generation: int, length: int) -> bytes:
    """Return DeriveTreeSecret(secret, label, generation, length), section 9."""
    info = codec.u16(length) + _label(label) + b"\x04" + generation.to_bytes(4, "big")
    return primitives.hkdf_expand(suite.hash_name, secret, info, length)


def sign_with_label(seed: bytes, label: bytes, content: bytes) -> bytes:
    """Return SignWithLabel(key, label, content), section 5.1.2; 64 bytes."""
    return primitives.ed25519_sign(seed, _label(label) + codec.opaque(content))


def verify_with_label(public: bytes, label: bytes, content: bytes, signature: bytes) -> bool:
    """Return VerifyWithLabel(key, label, content, signature), section 5.1.2."""
    return primitives.ed25519_verify(public, _label(label) + codec.opaque(content), signature)


def encryption_context(suite: CipherSuite, label: bytes, context: bytes) -> bytes:
    """Return what ``seal_with_context`` needs: computed once for all recipients of one context."""
    return hpke.info_context(suite, _label(label) + codec.opaque(context))


def encrypt_with_label(
    suite: CipherSuite, public: bytes, label: bytes, context: bytes, plaintext: bytes, random: Random
) -> tuple[bytes, bytes]:
    """Return (kem_output, ciphertext) of EncryptWithLabel, section 5.1.3. Raises hpke.HpkeError."""
    return hpke.seal(suite, public, encryption_context(suite, label, context), b"", plaintext, random)


def decrypt_with_label(
    suite: CipherSuite, private: bytes, label: bytes, context: bytes, kem_output: bytes, ciphertext: bytes
) -> bytes:
    """Return the plaintext of DecryptWithLabel, section 5.1.3. Raises hpke.HpkeError."""
    return hpke.open(suite, kem_output, private, encryption_context(suite, label, context), b"", ciphertext)
