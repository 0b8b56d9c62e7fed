"""The key encapsulation mechanisms of the suites: X25519 (RFC 9180 section 4.1), and X-Wing.

X-Wing (draft-connolly-cfrg-xwing-kem) is X25519 and ML-KEM-768 together: who wants the secret must break both. ::

    private         = 32 random bytes; SHAKE256(private, 96) = ML-KEM seed (64) ‖ X25519 private key (32)
    public          = ML-KEM-768 public key (1184) ‖ X25519 public key (32)
    encapsulation   = ML-KEM-768 ciphertext (1088) ‖ X25519 public key (32)
    shared secret   = SHA3-256(ML-KEM secret ‖ X25519 secret ‖ X25519 of the encapsulation ‖ X25519 public ‖ label)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from restante_crypto import primitives
from restante_crypto.primitives import KeyExchangeError, MlKem768Key, Random

_ENCAPSULATION_BYTES: Final = primitives.ML_KEM_768_CIPHERTEXT_BYTES + primitives.X25519_BYTES
_PUBLIC_BYTES: Final = primitives.ML_KEM_768_PUBLIC_BYTES + primitives.X25519_BYTES
_XWING_LABEL: Final = b"\\.//^\\"
_XWING_PRIVATE_BYTES: Final = 32


_X25519_MASK: Final = 2**255 - 1  # the highest bit of a key does not count: RFC 7748 section 5
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        2**255 - 20,
        2**255 - 19,
        2**255 - 18,
    }
)
"""The u-coordinates of points whose order divides 8, all their forms below 2**255."""
_ML_KEM_Q: Final = 3329
_ML_KEM_VECTOR_BYTES: Final = primitives.ML_KEM_768_PUBLIC_BYTES - 32  # then comes a seed
_LOW_NIBBLES: Final = bytes(byte & 0xF for byte in range(256))


class Kem(Protocol):
    """A key encapsulation mechanism of RFC 9180: keys and encapsulations are byte strings."""

    @property
    def id(self) -> int:
        """Its number in the HPKE registry."""
        ...

    @property
    def post_quantum(self) -> bool:
        """Whether its secrets stay secret from a quantum computer."""
        ...

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Return (private, public) derived from at least 32 bytes of key material."""
        ...

    def public_key(self, private: bytes) -> bytes:
        """Return the public key of a private key. Raises KeyExchangeError."""
        ...

    def is_public_key(self, public: bytes) -> bool:
        """Say whether one can encapsulate to these bytes: a length, and no key that gives away what is encapsulated."""
        ...

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """Return (shared secret, encapsulation). Raises KeyExchangeError."""
        ...

    def decapsulate(self, encapsulation: bytes, private: bytes) -> bytes:
        """Return the shared secret. Raises KeyExchangeError."""
        ...


@dataclass(frozen=True, slots=True)
class DhKemX25519:
    """DHKEM(X25519, HKDF-SHA256), RFC 9180 section 4.1: keys and encapsulations of 32 bytes."""

    id: int = 0x0020
    post_quantum: bool = False

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """See Kem; RFC 9180 section 7.1.3."""
        private = self._expand(self._extract(b"", b"dkp_prk", ikm), b"sk", b"")
        return private, primitives.x25519_public(private)

    def public_key(self, private: bytes) -> bytes:
        """See Kem."""
        return primitives.x25519_public(private)

    def is_public_key(self, public: bytes) -> bool:
        """See Kem; RFC 9180 section 7.1.4."""
        if len(public) != primitives.X25519_BYTES:
            return False
        return int.from_bytes(public, "little") & _X25519_MASK not in _SMALL_ORDER

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """See Kem."""
        private = random(32)
        encapsulation = primitives.x25519_public(private)
        return self._shared(primitives.x25519(private, public), encapsulation + public), encapsulation

    def decapsulate(self, encapsulation: bytes, private: bytes) -> bytes:
        """See Kem."""
        shared = primitives.x25519(private, encapsulation)
        return self._shared(shared, encapsulation + primitives.x25519_public(private))

    def _shared(self, dh: bytes, context: bytes) -> bytes:
        return self._expand(self._extract(b"", b"eae_prk", dh), b"shared_secret", context)

    def _extract(self, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return primitives.hkdf_extract("sha256", salt, b"HPKE-v1KEM\x00\x20" + label + ikm)

    def _expand(self, secret: bytes, label: bytes, info: bytes) -> bytes:
        return primitives.hkdf_expand("sha256", secret, b"\x00\x20HPKE-v1KEM\x00\x20" + label + info, 32)


_X25519: Final = DhKemX25519()


class _XWingPrivate(bytes):
    """An X-Wing private key that keeps what it expands to: expanding costs more than decapsulating.

    The expansion lives exactly as long as the key: where the key is deleted, nothing of it stays behind.
    """

    expanded: tuple[MlKem768Key, bytes, bytes]


@dataclass(frozen=True, slots=True)
class XWing:
    """X-Wing. Encapsulation draws the randomness of ML-KEM from the library, which takes none from outside.

    Attributes:
        labeled: derive key pairs as draft-ietf-hpke-pq does; without, as draft-connolly-cfrg-xwing-kem does.
    """

    labeled: bool = True
    id: int = 0x647A
    post_quantum: bool = True

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """See Kem."""
        if self.labeled:  # LabeledDerive(ikm, "DeriveKeyPair", "", 32) of draft-ietf-hpke-pq
            ikm += b"HPKE-v1KEM\x64\x7a\x00\x0dDeriveKeyPair\x00\x20"
        private = _XWingPrivate(primitives.shake256(ikm, _XWING_PRIVATE_BYTES))
        return private, self.public_key(private)

    def public_key(self, private: bytes) -> bytes:
        """See Kem."""
        ml_kem, _, x25519_public = _expanded(private)
        return ml_kem.public + x25519_public

    def is_public_key(self, public: bytes) -> bool:
        """See Kem; the modulus check of FIPS 203 section 7.2."""
        if len(public) != _PUBLIC_BYTES or not _X25519.is_public_key(public[primitives.ML_KEM_768_PUBLIC_BYTES :]):
            return False
        coefficients = public[:_ML_KEM_VECTOR_BYTES]  # two of twelve bits in each three bytes
        return not any(
            low | (middle & 0xF) << 8 >= _ML_KEM_Q or middle >> 4 | high << 4 >= _ML_KEM_Q
            for low, middle, high in _suspects(coefficients)
        )

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """See Kem."""
        if len(public) != _PUBLIC_BYTES:
            raise KeyExchangeError("length")
        theirs = public[primitives.ML_KEM_768_PUBLIC_BYTES :]
        ephemeral = random(primitives.X25519_BYTES)
        ours = primitives.x25519_public(ephemeral)
        ml_kem_secret, ciphertext = primitives.ml_kem_768_encapsulate(public[: primitives.ML_KEM_768_PUBLIC_BYTES])
        return _combine(ml_kem_secret, primitives.x25519(ephemeral, theirs), ours, theirs), ciphertext + ours

    def decapsulate(self, encapsulation: bytes, private: bytes) -> bytes:
        """See Kem."""
        if len(encapsulation) != _ENCAPSULATION_BYTES:
            raise KeyExchangeError("length")
        ciphertext = encapsulation[: primitives.ML_KEM_768_CIPHERTEXT_BYTES]
        theirs = encapsulation[primitives.ML_KEM_768_CIPHERTEXT_BYTES :]
        ml_kem, x25519_private, ours = _expanded(private)
        return _combine(ml_kem.decapsulate(ciphertext), primitives.x25519(x25519_private, theirs), theirs, ours)


def _suspects(coefficients: bytes) -> Iterable[tuple[int, int, int]]:
    """Return the triples of bytes, unless their highest bytes show that no coefficient can be too large."""
    low, middle, high = coefficients[::3], coefficients[1::3], coefficients[2::3]
    if max(high) < _ML_KEM_Q >> 4 and max(middle.translate(_LOW_NIBBLES)) < _ML_KEM_Q >> 8:
        return ()
    return zip(low, middle, high, strict=True)


def _expanded(private: bytes) -> tuple[MlKem768Key, bytes, bytes]:
    """Return (ML-KEM key, X25519 private key, X25519 public key). Raises KeyExchangeError for a length."""
    known: tuple[MlKem768Key, bytes, bytes] | None = getattr(private, "expanded", None)
    if known is not None:
        return known
    if len(private) != _XWING_PRIVATE_BYTES:
        raise KeyExchangeError("length")
    wide = primitives.shake256(private, primitives.ML_KEM_768_SEED_BYTES + primitives.X25519_BYTES)
    x25519_private = wide[primitives.ML_KEM_768_SEED_BYTES :]
    expanded = (
        MlKem768Key(wide[: primitives.ML_KEM_768_SEED_BYTES]),
        x25519_private,
        primitives.x25519_public(x25519_private),
    )
    if isinstance(private, _XWingPrivate):
        private.expanded = expanded
    return expanded


def _combine(ml_kem_secret: bytes, x25519_secret: bytes, ephemeral: bytes, public: bytes) -> bytes:
    return primitives.hash_bytes("sha3_256", ml_kem_secret + x25519_secret + ephemeral + public + _XWING_LABEL)
