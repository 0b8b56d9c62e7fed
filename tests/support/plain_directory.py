"""The directory for the client that is written from PROTOCOL.md alone: section 6.15, RFC 9497 and RFC 9380.

ristretto255 is libsodium's, by ``rbcl``; nothing here is Restante's.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Self

import rbcl
from nacl import bindings, pwhash

ORDER = 2**252 + 27742317777372353535851937790883648493
CONTEXT = b"OPRFV1-\x01-ristretto255-SHA512"  # the mode VOPRF
RECORD_BYTES = 512
HANDLE, NUMBER = 0, 1
KINDS = (b"handle", b"number")


def sized(*parts: bytes) -> bytes:
    """Return parts, each after its length in two bytes."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def expand(message: bytes, name: bytes) -> bytes:
    """expand_message_xmd with SHA-512 to 64 bytes: RFC 9380, section 5.3.1."""
    tag = name + CONTEXT + bytes([len(name + CONTEXT)])
    first = hashlib.sha512(bytes(128) + message + b"\x00\x40\x00" + tag).digest()
    return hashlib.sha512(first + b"\x01" + tag).digest()


def scalar(message: bytes) -> int:
    return int.from_bytes(expand(message, b"HashToScalar-"), "little") % ORDER


def times(factor: int, element: bytes) -> bytes:
    return bytes(rbcl.crypto_scalarmult_ristretto255(factor.to_bytes(32, "little"), element))


def plus(one: bytes, other: bytes) -> bytes:
    return bytes(rbcl.crypto_core_ristretto255_add(one, other))


@dataclass(frozen=True)
class Blinded:
    """A name on its way to the relay: RFC 9497, section 3.3.2."""

    name: bytes
    blind: int
    element: bytes

    @classmethod
    def of(cls, name: str) -> Self:
        blind = int.from_bytes(os.urandom(64), "little") % ORDER
        group = bytes(rbcl.crypto_core_ristretto255_from_hash(expand(name.encode(), b"HashToGroup-")))
        return cls(name.encode(), blind, times(blind, group))

    def verify(self, public: bytes, evaluated: bytes, proof: bytes) -> None:
        """Fail unless the key that was used is this one: section 2.2.2."""
        seed = hashlib.sha512(sized(public, b"Seed-" + CONTEXT)).digest()
        weight = scalar(sized(seed) + b"\x00\x00" + sized(self.element, evaluated) + b"Composite")
        m, z = times(weight, self.element), times(weight, evaluated)
        c, s = (int.from_bytes(half, "little") for half in (proof[:32], proof[32:]))
        base = bytes(rbcl.crypto_scalarmult_ristretto255_base(s.to_bytes(32, "little")))
        t2, t3 = plus(base, times(c, public)), plus(times(s, m), times(c, z))
        assert scalar(sized(public, m, z, t2, t3) + b"Challenge") == c, "another key"

    def output(self, evaluated: bytes) -> bytes:
        """Return the PRF's output, 64 bytes."""
        element = times(pow(self.blind, -1, ORDER), evaluated)
        return hashlib.sha512(sized(self.name, element) + b"Finalize").digest()


@dataclass(frozen=True)
class Place:
    """Where a name's record is (24 bytes), and what opens it (32)."""

    place: bytes
    key: bytes

    @classmethod
    def of(cls, output: bytes, kind: int) -> Self:
        secret = pwhash.argon2id.kdf(32, output, b"restante entries", opslimit=3, memlimit=64 * 2**20)
        info, derived, block = b"restante 1 directory " + KINDS[kind], b"", b""
        for number in (1, 2):
            block = hmac.digest(secret, block + info + bytes([number]), "sha256")
            derived += block
        bucket = int.from_bytes(derived[:2], "big") % 240
        return cls(bytes([bucket]) + derived[2:25], derived[25:57])

    @property
    def slot(self) -> bytes:
        """Where a handle's record is fetched."""
        return self.place[:1] + hashlib.blake2b(self.place, digest_size=23, person=b"restante handle").digest()

    def seal(self, invite: str) -> bytes:
        """Return a record of an invite."""
        nonce = os.urandom(24)
        plain = (invite.encode() + b"\x80").ljust(RECORD_BYTES - 40, b"\x00")
        return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, self.place, nonce, self.key)

    def open(self, record: bytes) -> str:
        """Return the invite in a record."""
        sealed = record[-RECORD_BYTES:]
        plain = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], self.place, sealed[:24], self.key)
        return plain.rstrip(b"\x00")[:-1].decode()
