"""Pre-shared keys (RFC 9420 section 8.4): their ids and how they combine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from restante_crypto import primitives
from restante_crypto.mls import codec, labels
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES, CipherSuite

EXTERNAL: Final = 1
RESUMPTION: Final = 2
USAGE_APPLICATION: Final = 1
USAGE_REINIT: Final = 2
USAGE_BRANCH: Final = 3


@dataclass(frozen=True, slots=True)
class PreSharedKeyID:
    """Names a PSK: external by ``psk_id``, or a resumption PSK by usage, group and epoch."""

    psk_type: int
    psk_nonce: bytes
    psk_id: bytes = b""
    usage: int = 0
    psk_group_id: bytes = b""
    psk_epoch: int = 0

    def encode(self) -> bytes:
        """Encode."""
        if self.psk_type == EXTERNAL:
            body = codec.opaque(self.psk_id)
        else:
            body = codec.u8(self.usage) + codec.opaque(self.psk_group_id) + codec.u64(self.psk_epoch)
        return codec.u8(self.psk_type) + body + codec.opaque(self.psk_nonce)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        kind = reader.u8()
        if kind == EXTERNAL:
            psk_id = reader.opaque()
            return cls(kind, reader.opaque(), psk_id=psk_id)
        if kind != RESUMPTION:
            raise DecodeError("PSK type")
        usage, group_id, epoch = reader.u8(), reader.opaque(), reader.u64()
        return cls(kind, reader.opaque(), usage=usage, psk_group_id=group_id, psk_epoch=epoch)


def resumption_psk_id(suite: int, group_id: bytes, epoch: int, random: Random) -> PreSharedKeyID:
    """Name the resumption PSK of an epoch for a Commit of the same group (section 8.4)."""
    nonce = random(SUITES[suite].hash_bytes)
    return PreSharedKeyID(RESUMPTION, nonce, usage=USAGE_APPLICATION, psk_group_id=group_id, psk_epoch=epoch)


def psk_secret(suite: CipherSuite, psks: Sequence[tuple[PreSharedKeyID, bytes]]) -> bytes:
    """Return the psk_secret of these (id, secret) pairs in their order; zeros without any."""
    zero = bytes(suite.hash_bytes)
    secret = zero
    for index, (psk_id, psk) in enumerate(psks):
        extracted = primitives.hkdf_extract(suite.hash_name, zero, psk)
        label = psk_id.encode() + codec.u16(index) + codec.u16(len(psks))
        psk_input = labels.expand_with_label(suite, extracted, b"derived psk", label, suite.hash_bytes)
        secret = primitives.hkdf_extract(suite.hash_name, psk_input, secret)
    return secret
