"""Credentials (RFC 9420 section 5.3)."""

from dataclasses import dataclass
from typing import Final, Self

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader

BASIC: Final = 1
X509: Final = 2


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential: ``basic`` with an identity, ``x509`` with certificates, or any other, carried verbatim.

    Attributes:
        type: its number.
        identity: of a basic credential; empty for others.
        certificates: of an x509 credential.
    """

    type: int
    identity: bytes = b""
    certificates: tuple[bytes, ...] = ()

    @classmethod
    def basic(cls, identity: bytes) -> Self:
        """Return a basic credential."""
        return cls(BASIC, identity)

    def encode(self) -> bytes:
        """Encode."""
        if self.type == X509:
            return codec.u16(self.type) + codec.vector(codec.opaque(data) for data in self.certificates)
        return codec.u16(self.type) + codec.opaque(self.identity)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one. A type that is neither basic nor x509 is read as one opaque vector, as GREASE credentials are."""
        kind = reader.u16()
        if kind == X509:
            return cls(kind, b"", reader.vector(Reader.opaque))
        return cls(kind, reader.opaque())
