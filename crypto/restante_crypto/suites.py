"""The cipher suites, as data (RFC 9420 section 17.1, RFC 9180 section 7).

A suite that is not here is not supported. The hybrid suites keep what is sent secret from whoever records it today and
has a quantum computer later; signatures are Ed25519 in all of them, so a quantum computer *then* could still forge.
"""

from dataclasses import dataclass, field
from typing import Final

from restante_crypto.kems import DhKemX25519, Kem, XWing


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
        hpke_id: suite_id of its HPKE (RFC 9180 section 5.1).
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
    hpke_id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Put the numbers of the HPKE together."""
        numbers = (self.kem.id, self.kdf_id, self.aead_id)
        object.__setattr__(self, "hpke_id", b"HPKE" + b"".join(number.to_bytes(2, "big") for number in numbers))


_X25519: Final = DhKemX25519()
_HKDF_SHA256: Final = (0x0001, "sha256", 32)
_HKDF_SHA512: Final = (0x0003, "sha512", 64)
_AES_128_GCM: Final = (0x0001, "AES-128-GCM", 16)
_CHACHA20_POLY1305: Final = (0x0003, "ChaCha20-Poly1305", 32)

XWING: Final = 0xF101
"""The default of new conversations: the composition of draft-ietf-mls-pq-ciphersuites under a private-use number."""


def _suite(number: int, name: str, kem: Kem, kdf: tuple[int, str, int], aead: tuple[int, str, int]) -> CipherSuite:
    return CipherSuite(number, name, kem, kdf[0], aead[0], kdf[1], kdf[2], aead[1], aead[2], 12)


_XWING_SHA512: Final = (
    "MLS_256_XWING_CHACHA20POLY1305_SHA512_Ed25519",
    XWing(labeled=False),
    _HKDF_SHA512,
    _CHACHA20_POLY1305,
)

SUITES: Final[dict[int, CipherSuite]] = {
    suite.number: suite
    for suite in (
        _suite(0x0001, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", _X25519, _HKDF_SHA256, _AES_128_GCM),
        _suite(
            0x0003, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", _X25519, _HKDF_SHA256, _CHACHA20_POLY1305
        ),
        _suite(XWING, "MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519", XWing(), _HKDF_SHA256, _AES_128_GCM),
        # One composition under the two numbers that other implementations gave it.
        _suite(84, *_XWING_SHA512),
        _suite(0xF00E, *_XWING_SHA512),
    )
}
