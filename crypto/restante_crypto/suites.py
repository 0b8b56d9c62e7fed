"""The cipher suites, as data (RFC 9420 section 17.1, RFC 9180 section 7).

A suite that is not here is not supported. A hybrid suite later is one more row and one more ``Kem``.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from restante_crypto import primitives
from restante_crypto.primitives import Random


class Kem(Protocol):
    """A key encapsulation mechanism of RFC 9180: keys and encapsulations are byte strings."""

    @property
    def id(self) -> int:
        """Its number in the HPKE registry."""
        ...

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Return (private, public) derived from at least 32 bytes of key material."""
        ...

    def public_key(self, private: bytes) -> bytes:
        """Return the public key of a private key."""
        ...

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """Return (shared secret, encapsulation). Raises primitives.KeyExchangeError."""
        ...

    def decapsulate(self, encapsulation: bytes, private: bytes) -> bytes:
        """Return the shared secret. Raises primitives.KeyExchangeError."""
        ...


@dataclass(frozen=True, slots=True)
class DhKemX25519:
    """DHKEM(X25519, HKDF-SHA256), RFC 9180 section 4.1: keys and encapsulations of 32 bytes."""

    id: int = 0x0020

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """See Kem; RFC 9180 section 7.1.3."""
        private = self._expand(self._extract(b"", b"dkp_prk", ikm), b"sk", b"")
        return private, primitives.x25519_public(private)

    def public_key(self, private: bytes) -> bytes:
        """See Kem."""
        return primitives.x25519_public(private)

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


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """One suite.

    Attributes:
        number: in the MLS registry.
        name: for people.
        kem: of its HPKE.
        kdf_id: of its HPKE.
        aead_id: of its HPKE.
        hash_name: of its KDF, hash and MAC, as in hashlib.
        hash_bytes: KDF.Nh.
        aead: name in ``primitives``.
        key_bytes: AEAD.Nk.
        nonce_bytes: AEAD.Nn.
    """

    number: int
    name: str
    kem: Kem
    kdf_id: int
    aead_id: int
    hash_name: str
    hash_bytes: int
    aead: str
    key_bytes: int
    nonce_bytes: int


_X25519: Final = DhKemX25519()

SUITES: Final[dict[int, CipherSuite]] = {
    suite.number: suite
    for suite in (
        CipherSuite(
            0x0001,
            "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
            _X25519,
            0x0001,
            0x0001,
            "sha256",
            32,
            "AES-128-GCM",
            16,
            12,
        ),
        CipherSuite(
            0x0003,
            "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
            _X25519,
            0x0001,
            0x0003,
            "sha256",
            32,
            "ChaCha20-Poly1305",
            32,
            12,
        ),
    )
}
