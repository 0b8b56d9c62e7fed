"""UpdatePath (RFC 9420 section 7.6): a committer's new leaf, and path secrets encrypted along its direct path."""

from dataclasses import dataclass, field
from typing import Self

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.leaf_node import LeafNode


@dataclass(frozen=True, slots=True)
class HPKECiphertext:
    """An encapsulation and a ciphertext."""

    kem_output: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """Encode."""
        return codec.opaque(self.kem_output) + codec.opaque(self.ciphertext)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), reader.opaque())


@dataclass(frozen=True, slots=True)
class UpdatePathNode:
    """A node's new public key and its path secret for each node of the copath child's resolution."""

    encryption_key: bytes
    encrypted_path_secret: tuple[HPKECiphertext, ...]

    def encode(self) -> bytes:
        """Encode."""
        return codec.opaque(self.encryption_key) + codec.vector(item.encode() for item in self.encrypted_path_secret)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), reader.vector(HPKECiphertext.decode))


@dataclass(frozen=True, slots=True)
class UpdatePath:
    """The new leaf, and the nodes of its filtered direct path from the bottom; ``raw``: its encoding."""

    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]
    raw: bytes = field(default=b"", repr=False, compare=False)

    def encode(self) -> bytes:
        """Encode."""
        return self.raw or self.leaf_node.encode() + codec.vector(node.encode() for node in self.nodes)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        start = reader.position
        leaf_node, nodes = LeafNode.decode(reader), reader.vector(UpdatePathNode.decode)
        return cls(leaf_node, nodes, reader.since(start))
