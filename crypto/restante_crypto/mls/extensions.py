"""Extensions, capabilities and lifetimes (RFC 9420 sections 7.2, 11.1, 13)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.errors import DecodeError, ValidationError

APPLICATION_ID: Final = 0x0001
RATCHET_TREE: Final = 0x0002
REQUIRED_CAPABILITIES: Final = 0x0003
EXTERNAL_PUB: Final = 0x0004
EXTERNAL_SENDERS: Final = 0x0005
LAST_RESORT: Final = 0x000A  # draft-ietf-mls-extensions

DEFAULT_EXTENSIONS: Final = frozenset(range(0x0001, 0x0006))
"""Types of RFC 9420 that every client supports without saying so (section 7.2)."""
DEFAULT_PROPOSALS: Final = frozenset(range(0x0001, 0x0008))
"""The same for proposals."""

MAX_LIFETIME: Final = 366 * 86_400  # seconds from start to end; a key that was published longer ago proves little


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension, carried verbatim whatever its type."""

    type: int
    data: bytes

    def encode(self) -> bytes:
        """Encode."""
        return codec.u16(self.type) + codec.opaque(self.data)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.u16(), reader.opaque())


Extensions = tuple[Extension, ...]


def encode_extensions(extensions: Extensions) -> bytes:
    """Encode a list of extensions."""
    return codec.vector(extension.encode() for extension in extensions)


def find(extensions: Extensions, kind: int) -> bytes | None:
    """Return the data of the extension of this type."""
    return next((extension.data for extension in extensions if extension.type == kind), None)


def check_extensions(extensions: Extensions) -> None:
    """Check that no type is there twice (section 13.4). Raises ValidationError."""
    if len({extension.type for extension in extensions}) != len(extensions):
        raise ValidationError("13.4 an extension twice")


def _numbers(values: tuple[int, ...]) -> bytes:
    return codec.opaque(struct.pack(f">{len(values)}H", *values))


def _read_numbers(reader: Reader) -> tuple[int, ...]:
    data = reader.opaque()
    if len(data) % 2:
        raise DecodeError("too short")
    return struct.unpack(f">{len(data) // 2}H", data)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a client supports: protocol versions, suites, extensions, proposals, credentials, by number."""

    versions: tuple[int, ...] = (1,)
    suites: tuple[int, ...] = ()
    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = (1,)

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(
            _numbers(values)
            for values in (self.versions, self.suites, self.extensions, self.proposals, self.credentials)
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(*(_read_numbers(reader) for _ in range(5)))


@dataclass(frozen=True, slots=True)
class RequiredCapabilities:
    """What every member must support (section 11.1)."""

    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(_numbers(values) for values in (self.extensions, self.proposals, self.credentials))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(*(_read_numbers(reader) for _ in range(3)))

    def met_by(self, capabilities: Capabilities) -> bool:
        """Say whether a member with these capabilities may be in the group."""
        return (
            set(self.extensions) <= set(capabilities.extensions) | DEFAULT_EXTENSIONS
            and set(self.proposals) <= set(capabilities.proposals) | DEFAULT_PROPOSALS
            and set(self.credentials) <= set(capabilities.credentials)
        )


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a KeyPackage may be used: Unix seconds, inclusive."""

    not_before: int
    not_after: int

    def encode(self) -> bytes:
        """Encode."""
        return codec.u64(self.not_before) + codec.u64(self.not_after)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.u64(), reader.u64())

    def check_total(self, longest: int) -> None:
        """Check how long it is in all, in seconds (section 7.2). Raises ValidationError."""
        if not 0 <= self.not_after - self.not_before <= longest:
            raise ValidationError("7.2 total lifetime")

    def check_at(self, now: int) -> None:
        """Check that it has begun and has not ended at this Unix second (section 7.3). Raises ValidationError."""
        if not self.not_before <= now <= self.not_after:
            raise ValidationError("7.3 lifetime")


@dataclass(frozen=True, slots=True)
class ExternalSender:
    """Somebody who is no member and may propose (section 12.1.8.1)."""

    signature_key: bytes
    credential: Credential

    def encode(self) -> bytes:
        """Encode."""
        return codec.opaque(self.signature_key) + self.credential.encode()

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), Credential.decode(reader))


def encode_external_senders(senders: Iterable[ExternalSender]) -> Extension:
    """Return the extension of a GroupContext that names who may propose from outside."""
    return Extension(EXTERNAL_SENDERS, codec.vector(sender.encode() for sender in senders))


def external_senders(extensions: Extensions) -> tuple[ExternalSender, ...]:
    """Return who may propose from outside. Raises DecodeError."""
    data = find(extensions, EXTERNAL_SENDERS)
    if data is None:
        return ()
    reader = Reader(data)
    senders = reader.vector(ExternalSender.decode)
    reader.done()
    return senders
