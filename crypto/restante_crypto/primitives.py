"""The cryptographic primitives, and the only module that knows which library computes them.

Each is taken where it is fastest and safe: PyNaCl (libsodium) for Ed25519, X25519, XChaCha20-Poly1305 and Argon2id;
``cryptography`` for AES-128-GCM, ChaCha20-Poly1305, ML-KEM-768 and ECDSA on P-256; the standard library for hashes;
``rbcl``, an extra and libsodium as well, for ristretto255, which PyNaCl's build leaves out. Ed25519 is verified by
libsodium alone: ``cryptography`` takes a signature under the identity element, which anybody can forge.
"""

import hashlib
import hmac as _hmac
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Protocol

import nacl.bindings as _sodium
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.exceptions import BadSignatureError, CryptoError

Random = Callable[[int], bytes]
"""n -> n random bytes."""

XCHACHA_NONCE_BYTES: Final = 24
AEAD_TAG_BYTES: Final = 16
X25519_BYTES: Final = 32
P256_UNIFORM_BYTES: Final = 48  # what a private key is made of without bias (FIPS 186-5 appendix A.2.1)
ML_KEM_768_SEED_BYTES: Final = 64
ML_KEM_768_PUBLIC_BYTES: Final = 1184
ML_KEM_768_CIPHERTEXT_BYTES: Final = 1088
RISTRETTO255_BYTES: Final = 32  # of an element, and of a scalar
RISTRETTO255_UNIFORM_BYTES: Final = 64  # what an element or a scalar is made of without bias
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class AuthenticationError(Exception):
    """A ciphertext does not fit its key, nonce or associated data."""


class KeyExchangeError(Exception):
    """A public key gives an all-zero shared secret, or has a wrong length."""


class PostQuantumUnavailable(Exception):  # noqa: N818 -- says what is the case
    """This build of ``cryptography`` has no ML-KEM-768."""

    def __init__(self) -> None:
        """Say what helps."""
        super().__init__("cryptography has no ML-KEM-768 here: install a wheel of version 48 or later (OpenSSL 3.5)")


class GroupError(Exception):
    """Not an element of ristretto255, or the identity; not a scalar below its order, or zero."""


class GroupUnavailable(Exception):  # noqa: N818 -- says what is the case
    """The library for ristretto255 is not installed."""

    def __init__(self) -> None:
        """Say what helps."""
        super().__init__("the directory needs one package more: pip install 'restante[directory]'")


def sha256(data: bytes) -> bytes:
    """Return SHA-256 of the data: 32 bytes."""
    return hashlib.sha256(data).digest()


def shake256(data: bytes, length: int) -> bytes:
    """Return this many bytes of SHAKE256 of the data."""
    return hashlib.shake_256(data).digest(length)


def hmac(hash_name: str, key: bytes, data: bytes) -> bytes:
    """Return the HMAC; hash_name as in hashlib."""
    return _hmac.digest(key, data, hash_name)


def hash_bytes(hash_name: str, data: bytes) -> bytes:
    """Return the hash; hash_name as in hashlib."""
    return hashlib.new(hash_name, data).digest()


def hkdf_extract(hash_name: str, salt: bytes, secret: bytes) -> bytes:
    """Return HKDF-Extract (RFC 5869 section 2.2): one hash long."""
    return _hmac.digest(salt, secret, hash_name)


def hkdf_expand(hash_name: str, secret: bytes, info: bytes, length: int) -> bytes:
    """Return HKDF-Expand (RFC 5869 section 2.3); length at most 255 hashes."""
    block = _hmac.digest(secret, info + b"\x01", hash_name)
    if length <= len(block):
        return block[:length]
    output = block
    counter = 2
    while len(output) < length:
        block = _hmac.digest(secret, block + info + bytes((counter,)), hash_name)
        output += block
        counter += 1
    return output[:length]


def blake2b(data: bytes, *, size: int, person: bytes = b"", key: bytes = b"") -> bytes:
    """Return BLAKE2b of 1 to 64 bytes, personalised by up to 16 and keyed by up to 64 bytes (RFC 7693)."""
    return hashlib.blake2b(data, digest_size=size, person=person, key=key).digest()


class Hash(Protocol):
    """A hash of what comes in pieces."""

    def update(self, data: bytes, /) -> None:
        """Take a piece."""
        ...

    def digest(self) -> bytes:
        """Return the hash of all pieces so far."""
        ...


def blake2b_hash(*, size: int) -> Hash:
    """Return BLAKE2b of 1 to 64 bytes, of nothing yet."""
    return hashlib.blake2b(digest_size=size)


def argon2id(passphrase: bytes, salt: bytes, *, operations: int, memory: int) -> bytes:
    """Return 32 bytes of Argon2id (RFC 9106); salt 16 bytes, memory in bytes."""
    derived: bytes = _sodium.crypto_pwhash_alg(
        32, passphrase, salt, operations, memory, _sodium.crypto_pwhash_ALG_ARGON2ID13
    )
    return derived


def equal(one: bytes, other: bytes) -> bool:
    """Compare in a time that does not depend on the contents."""
    return _hmac.compare_digest(one, other)


def ed25519_public(seed: bytes) -> bytes:
    """Return the public key (32 bytes) of a 32-byte seed (RFC 8032)."""
    public, _ = _sodium.crypto_sign_seed_keypair(seed)
    return bytes(public)


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """Return the signature (64 bytes) by the key of a 32-byte seed."""
    signed: bytes = _sodium.crypto_sign(message, _signing_key(seed))
    return signed[:64]


@lru_cache(maxsize=8)  # a device has one such key, for years; deriving it costs as much as signing
def _signing_key(seed: bytes) -> bytes:
    _, secret = _sodium.crypto_sign_seed_keypair(seed)
    return bytes(secret)


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether the signature fits; False for keys and signatures of any other length."""
    if len(public) != _sodium.crypto_sign_PUBLICKEYBYTES or len(signature) != _sodium.crypto_sign_BYTES:
        return False
    try:
        _sodium.crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def x25519_public(private: bytes) -> bytes:
    """Return the public key (32 bytes) of a 32-byte private key (RFC 7748). Raises KeyExchangeError for a length."""
    if len(private) != X25519_BYTES:
        raise KeyExchangeError("length")
    return bytes(_sodium.crypto_scalarmult_base(private))


def x25519(private: bytes, public: bytes) -> bytes:
    """Return the shared secret (32 bytes).

    Raises:
        KeyExchangeError: the public key has a wrong length or small order.
    """
    if len(private) != X25519_BYTES or len(public) != X25519_BYTES:  # the binding does not look
        raise KeyExchangeError("length")
    try:
        return bytes(_sodium.crypto_scalarmult(private, public))
    except (CryptoError, RuntimeError):
        raise KeyExchangeError("public key") from None


class P256Key:
    """An ECDSA key on P-256 with SHA-256, as JSON Web Signatures have it (ES256, RFC 7518 section 3.4).

    Attributes:
        public: the point, uncompressed: 65 bytes.
    """

    __slots__ = ("_key", "public")

    def __init__(self, uniform: bytes) -> None:
        """Derive the private key of P256_UNIFORM_BYTES."""
        scalar = int.from_bytes(uniform, "big") % (_P256_ORDER - 1) + 1
        self._key = ec.derive_private_key(scalar, ec.SECP256R1())
        self.public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, r ‖ s, 64 bytes: always the same for a message (RFC 6979)."""
        der = self._key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = utils.decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class MlKem768Key:
    """An ML-KEM-768 private key (FIPS 203), expanded: one decapsulation takes a third of what expanding does."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """Expand a seed of 64 bytes. Raises PostQuantumUnavailable."""
        try:
            self._key = MLKEM768PrivateKey.from_seed_bytes(seed)
        except UnsupportedAlgorithm:
            raise PostQuantumUnavailable from None
        self.public = self._key.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Return the shared secret (32 bytes) in 1088 bytes; another key's gives another secret, and no error."""
        return self._key.decapsulate(ciphertext)


def ml_kem_768_encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Return (shared secret of 32 bytes, ciphertext) towards a public key; the library draws the randomness.

    Raises:
        KeyExchangeError: the bytes are no public key.
        PostQuantumUnavailable: see there.
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise KeyExchangeError("public key") from None
    except UnsupportedAlgorithm:
        raise PostQuantumUnavailable from None


def has_ml_kem_768() -> bool:
    """Say whether the hybrid suites work here."""
    try:
        MlKem768Key(bytes(ML_KEM_768_SEED_BYTES))
    except PostQuantumUnavailable:
        return False
    return True


def ristretto255_element(data: bytes) -> bytes:
    """Return the element (RFC 9496) that these 32 bytes encode: themselves. Raises GroupError; the identity is none."""
    if (
        len(data) != RISTRETTO255_BYTES
        or not any(data)
        or not _ristretto255().crypto_core_ristretto255_is_valid_point(data)
    ):
        raise GroupError("element")
    return data


def ristretto255_scalar(data: bytes) -> bytes:
    """Return the scalar that these 32 bytes encode: themselves. Raises GroupError unless it is below the order."""
    if len(data) != RISTRETTO255_BYTES or ristretto255_reduce(data + bytes(32)) != data:
        raise GroupError("scalar")
    return data


def ristretto255_from_hash(uniform: bytes) -> bytes:
    """Return the element that 64 uniform bytes give (RFC 9496 section 4.3.4): nobody knows its logarithm."""
    return bytes(_ristretto255().crypto_core_ristretto255_from_hash(uniform))


def ristretto255_multiply(scalar: bytes, element: bytes) -> bytes:
    """Return an element, multiplied. Raises GroupError for no element, and if the product is the identity."""
    try:
        return bytes(_ristretto255().crypto_scalarmult_ristretto255(scalar, element))
    except (RuntimeError, TypeError, ValueError):
        raise GroupError("product") from None


def ristretto255_multiply_base(scalar: bytes) -> bytes:
    """Return the generator, multiplied. Raises GroupError if the scalar is zero."""
    try:
        return bytes(_ristretto255().crypto_scalarmult_ristretto255_base(scalar))
    except (RuntimeError, TypeError, ValueError):
        raise GroupError("product") from None


def ristretto255_add(one: bytes, other: bytes) -> bytes:
    """Return the sum of two elements; it may be the identity, 32 zeros."""
    return bytes(_ristretto255().crypto_core_ristretto255_add(one, other))


def ristretto255_reduce(uniform: bytes) -> bytes:
    """Return the scalar of 64 bytes, little-endian, modulo the order."""
    return bytes(_ristretto255().crypto_core_ristretto255_scalar_reduce(uniform))


def ristretto255_invert(scalar: bytes) -> bytes:
    """Return the inverse of a scalar that is not zero."""
    return bytes(_ristretto255().crypto_core_ristretto255_scalar_invert(scalar))


def ristretto255_multiply_scalars(one: bytes, other: bytes) -> bytes:
    """Return the product of two scalars."""
    return bytes(_ristretto255().crypto_core_ristretto255_scalar_mul(one, other))


def ristretto255_subtract_scalars(one: bytes, other: bytes) -> bytes:
    """Return one scalar less the other."""
    return bytes(_ristretto255().crypto_core_ristretto255_scalar_sub(one, other))


def has_ristretto255() -> bool:
    """Say whether the directory works here."""
    try:
        _ristretto255()
    except GroupUnavailable:
        return False
    return True


def _ristretto255() -> Any:  # noqa: ANN401 -- the library has no types
    try:
        import rbcl  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError:
        raise GroupUnavailable from None
    return rbcl


def aead_seal(name: str, key: bytes, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Return ciphertext ‖ tag (16 bytes) of an AEAD of ``suites``: 12-byte nonce."""
    return (_AEADS[name])(key).encrypt(nonce, plaintext, associated_data)


def aead_open(name: str, key: bytes, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    """Return the plaintext. Raises AuthenticationError."""
    try:
        return (_AEADS[name])(key).decrypt(nonce, ciphertext, associated_data)
    except (InvalidTag, ValueError):
        raise AuthenticationError from None


_AEADS: Final[dict[str, type[AESGCM] | type[ChaCha20Poly1305]]] = {
    "AES-128-GCM": AESGCM,
    "ChaCha20-Poly1305": ChaCha20Poly1305,
}


def xchacha_seal(key: bytes, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
    """Return ciphertext ‖ tag of XChaCha20-Poly1305: key 32 bytes, nonce 24 bytes, which may be random."""
    return bytes(_sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated_data, nonce, key))


def xchacha_open(key: bytes, nonce: bytes, ciphertext: bytes, associated_data: bytes) -> bytes:
    """Return the plaintext. Raises AuthenticationError."""
    if len(ciphertext) < AEAD_TAG_BYTES:
        raise AuthenticationError
    try:
        return bytes(_sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated_data, nonce, key))
    except CryptoError:
        raise AuthenticationError from None
