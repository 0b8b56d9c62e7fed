"""Welcome, GroupInfo and GroupSecrets (RFC 9420 section 12.4.3)."""

from dataclasses import dataclass, field, replace
from typing import Final, Self

from restante_crypto.mls import codec, labels
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.extensions import Extension, Extensions, encode_extensions
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.psk import PreSharedKeyID
from restante_crypto.mls.update_path import HPKECiphertext

_LABEL: Final = b"GroupInfoTBS"


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """What a joiner learns of the group, signed by a member."""

    context: GroupContext
    extensions: Extensions
    confirmation_tag: bytes
    signer: int
    signature: bytes = b""

    def _body(self) -> bytes:
        return b"".join(
            (
                self.context.encode(),
                encode_extensions(self.extensions),
                codec.opaque(self.confirmation_tag),
                codec.u32(self.signer),
            )
        )

    def encode(self) -> bytes:
        """Encode."""
        return self._body() + codec.opaque(self.signature)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        context, extensions = GroupContext.decode(reader), reader.vector(Extension.decode)
        return cls(context, extensions, reader.opaque(), reader.u32(), reader.opaque())

    def sign(self, seed: bytes) -> Self:
        """Return it signed."""
        return replace(self, signature=labels.sign_with_label(seed, _LABEL, self._body()))

    def verify(self, public: bytes) -> bool:
        """Say whether the signature fits."""
        return labels.verify_with_label(public, _LABEL, self._body(), self.signature)


@dataclass(frozen=True, slots=True)
class GroupSecrets:
    """What is encrypted to each joiner: the joiner secret, and its place's path secret."""

    joiner_secret: bytes = field(repr=False)
    path_secret: bytes | None = field(repr=False)
    psks: tuple[PreSharedKeyID, ...]

    def encode(self) -> bytes:
        """Encode."""
        path = None if self.path_secret is None else codec.opaque(self.path_secret)
        return codec.opaque(self.joiner_secret) + codec.optional(path) + codec.vector(psk.encode() for psk in self.psks)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), reader.optional(Reader.opaque), reader.vector(PreSharedKeyID.decode))


@dataclass(frozen=True, slots=True)
class EncryptedGroupSecrets:
    """GroupSecrets for the KeyPackage with this reference."""

    new_member: bytes
    encrypted_group_secrets: HPKECiphertext

    def encode(self) -> bytes:
        """Encode."""
        return codec.opaque(self.new_member) + self.encrypted_group_secrets.encode()

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), HPKECiphertext.decode(reader))


@dataclass(frozen=True, slots=True)
class Welcome:
    """What lets the members added by a Commit in."""

    suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(
            (
                codec.u16(self.suite),
                codec.vector(item.encode() for item in self.secrets),
                codec.opaque(self.encrypted_group_info),
            )
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.u16(), reader.vector(EncryptedGroupSecrets.decode), reader.opaque())
