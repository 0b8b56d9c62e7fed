"""MLSMessage (RFC 9420 section 6): what goes over the wire."""

from dataclasses import dataclass
from typing import Final, Self

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.framing import (
    WIRE_GROUP_INFO,
    WIRE_KEY_PACKAGE,
    WIRE_PRIVATE_MESSAGE,
    WIRE_PUBLIC_MESSAGE,
    WIRE_WELCOME,
)
from restante_crypto.mls.key_package import MLS10, KeyPackage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.welcome import GroupInfo, Welcome

Body = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage

_BODIES: Final[dict[int, type[Body]]] = {
    WIRE_PUBLIC_MESSAGE: PublicMessage,
    WIRE_PRIVATE_MESSAGE: PrivateMessage,
    WIRE_WELCOME: Welcome,
    WIRE_GROUP_INFO: GroupInfo,
    WIRE_KEY_PACKAGE: KeyPackage,
}
_WIRE_FORMATS: Final = {body: number for number, body in _BODIES.items()}


@dataclass(frozen=True, slots=True)
class MLSMessage:
    """One message of any wire format."""

    body: Body

    def encode(self) -> bytes:
        """Encode."""
        return codec.u16(MLS10) + codec.u16(_WIRE_FORMATS[type(self.body)]) + self.body.encode()

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        if reader.u16() != MLS10:
            raise DecodeError("protocol version")
        body = _BODIES.get(reader.u16())
        if body is None:
            raise DecodeError("wire format")
        return cls(body.decode(reader))

    @classmethod
    def parse(cls, data: bytes) -> "MLSMessage":
        """Return the message in these bytes. Raises DecodeError."""
        return codec.parse(cls, data)
