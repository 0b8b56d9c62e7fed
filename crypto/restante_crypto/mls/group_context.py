"""The GroupContext (RFC 9420 section 8.1): what all members of an epoch agree on."""

from dataclasses import dataclass
from typing import Self

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.extensions import Extension, Extensions, encode_extensions
from restante_crypto.mls.key_package import MLS10


@dataclass(frozen=True, slots=True)
class GroupContext:
    """Suite, group, epoch, tree hash, confirmed transcript hash, extensions."""

    suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: Extensions = ()
    version: int = MLS10

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(
            (
                codec.u16(self.version),
                codec.u16(self.suite),
                codec.opaque(self.group_id),
                codec.u64(self.epoch),
                codec.opaque(self.tree_hash),
                codec.opaque(self.confirmed_transcript_hash),
                encode_extensions(self.extensions),
            )
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        version, suite = reader.u16(), reader.u16()
        group_id, epoch = reader.opaque(), reader.u64()
        tree_hash, transcript = reader.opaque(), reader.opaque()
        return cls(suite, group_id, epoch, tree_hash, transcript, reader.vector(Extension.decode), version)
