"""The secret tree (RFC 9420 section 9): message keys for every leaf, each derived once and then deleted.

Frozen: every step returns the next tree. Only what is still needed is kept: the roots of subtrees that nobody in them
has used, and two ratchets per leaf that sent something. Section 9.2's deletion schedule holds at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from restante_crypto.mls import codec, labels, tree_math
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError, GenerationUsed, UnprotectError
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.suites import CipherSuite

MAX_FORWARD: Final = 2000  # generations skipped at once; a larger jump is an attack on our time
MAX_SKIPPED: Final = 500  # keys kept per ratchet for messages that come late; the oldest go first
MAX_GENERATION: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Ratchet:
    """A hash ratchet: the secret of the next generation, and keys that were skipped."""

    generation: int
    secret: bytes = field(repr=False)
    skipped: tuple[tuple[int, bytes, bytes], ...] = field(default=(), repr=False)

    def next(self, suite: CipherSuite) -> tuple["Ratchet", bytes, bytes]:
        """Return (ratchet, key, nonce) of the next generation."""
        key, nonce = self._key_nonce(suite)
        return Ratchet(self.generation + 1, self._forward(suite), self.skipped), key, nonce

    def _key_nonce(self, suite: CipherSuite) -> tuple[bytes, bytes]:
        return (
            labels.derive_tree_secret(suite, self.secret, b"key", self.generation, suite.key_bytes),
            labels.derive_tree_secret(suite, self.secret, b"nonce", self.generation, suite.nonce_bytes),
        )

    def _forward(self, suite: CipherSuite) -> bytes:
        return labels.derive_tree_secret(suite, self.secret, b"secret", self.generation, suite.hash_bytes)

    def at(self, suite: CipherSuite, generation: int) -> tuple["Ratchet", bytes, bytes]:
        """Return (ratchet, key, nonce) of this generation; those before it are kept for late messages.

        Raises:
            GenerationUsed: it was used or deleted.
            UnprotectError: it is more than MAX_FORWARD ahead.
        """
        if generation < self.generation:
            for index, (number, key, nonce) in enumerate(self.skipped):
                if number == generation:
                    left = self.skipped[:index] + self.skipped[index + 1 :]
                    return Ratchet(self.generation, self.secret, left), key, nonce
            raise GenerationUsed("generation")
        if generation - self.generation > MAX_FORWARD:
            raise UnprotectError("generation too far ahead")
        if generation == self.generation:
            return self.next(suite)
        ratchet = self
        skipped = list(self.skipped)
        while ratchet.generation < generation:
            ratchet, key, nonce = ratchet.next(suite)
            skipped.append((ratchet.generation - 1, key, nonce))
        ratchet, key, nonce = ratchet.next(suite)
        return Ratchet(ratchet.generation, ratchet.secret, tuple(skipped[-MAX_SKIPPED:])), key, nonce

    def forget(self, before: int) -> "Ratchet":
        """Return the ratchet without the keys of skipped generations below this one."""
        return Ratchet(self.generation, self.secret, tuple(each for each in self.skipped if each[0] >= before))

    def encode(self) -> bytes:
        """Encode for storage."""
        return b"".join(
            (
                codec.u32(min(self.generation, MAX_GENERATION)),
                codec.opaque(self.secret),
                codec.vector(
                    codec.u32(number) + codec.opaque(key) + codec.opaque(nonce) for number, key, nonce in self.skipped
                ),
            )
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read what ``encode`` wrote."""
        return cls(
            reader.u32(), reader.opaque(), reader.vector(lambda item: (item.u32(), item.opaque(), item.opaque()))
        )


@dataclass(frozen=True, slots=True)
class SecretTree:
    """The secrets of the tree's nodes that are still whole, and the ratchets of leaves that are not."""

    suite: CipherSuite
    leaves: int
    nodes: dict[NodeIndex, bytes] = field(repr=False)
    handshake: dict[int, Ratchet] = field(repr=False)
    application: dict[int, Ratchet] = field(repr=False)

    @classmethod
    def create(cls, suite: CipherSuite, leaves: int, encryption_secret: bytes) -> Self:
        """Return the tree of a new epoch; ``leaves`` is the width of the ratchet tree in leaves."""
        return cls(suite, leaves, {tree_math.root(leaves): encryption_secret}, {}, {})

    def _ratchets(self, leaf: LeafIndex) -> Self:
        """Return a tree that has the ratchets of this leaf. Raises UnprotectError for a leaf outside the tree."""
        if leaf in self.application:
            return self
        if not 0 <= leaf < self.leaves:
            raise UnprotectError("sender outside the tree")
        suite, size = self.suite, self.suite.hash_bytes
        target = tree_math.leaf_node_index(leaf)
        path = [target, *tree_math.direct_path(target, self.leaves)]
        nodes = dict(self.nodes)
        depth = next(index for index, node in enumerate(path) if node in nodes)
        for index in range(depth, 0, -1):
            secret = nodes.pop(path[index])
            left, right = tree_math.children(path[index])
            nodes[left] = labels.expand_with_label(suite, secret, b"tree", b"left", size)
            nodes[right] = labels.expand_with_label(suite, secret, b"tree", b"right", size)
        secret = nodes.pop(target)
        handshake = labels.expand_with_label(suite, secret, b"handshake", b"", size)
        application = labels.expand_with_label(suite, secret, b"application", b"", size)
        return type(self)(
            suite,
            self.leaves,
            nodes,
            {**self.handshake, leaf: Ratchet(0, handshake)},
            {**self.application, leaf: Ratchet(0, application)},
        )

    def next(self, leaf: LeafIndex, *, application: bool) -> tuple[Self, int, bytes, bytes]:
        """Return (tree, generation, key, nonce) for the next message of this leaf."""
        tree = self._ratchets(leaf)
        ratchet = (tree.application if application else tree.handshake)[leaf]
        after, key, nonce = ratchet.next(self.suite)
        return tree._replace(leaf, after, application=application), ratchet.generation, key, nonce

    def at(self, leaf: LeafIndex, generation: int, *, application: bool) -> tuple[Self, bytes, bytes]:
        """Return (tree, key, nonce) for a received message; see Ratchet.at for what is raised."""
        tree = self._ratchets(leaf)
        after, key, nonce = (tree.application if application else tree.handshake)[leaf].at(self.suite, generation)
        return tree._replace(leaf, after, application=application), key, nonce

    def late_keys(self) -> tuple[tuple[int, int, int], ...]:
        """Return leaf and next generations (handshake, application) where keys of skipped generations are kept."""
        return tuple(
            (leaf, self.handshake[leaf].generation, ratchet.generation)
            for leaf, ratchet in self.application.items()
            if ratchet.skipped or self.handshake[leaf].skipped
        )

    def forget_late_keys(self, before: Sequence[tuple[int, int, int]]) -> Self:
        """Forget the keys of skipped generations below these, as ``late_keys`` has returned them."""
        handshake, application = dict(self.handshake), dict(self.application)
        for leaf, *generations in before:
            for ratchets, generation in zip((handshake, application), generations, strict=True):
                if leaf in ratchets:
                    ratchets[leaf] = ratchets[leaf].forget(generation)
        return type(self)(self.suite, self.leaves, self.nodes, handshake, application)

    def _replace(self, leaf: LeafIndex, ratchet: Ratchet, *, application: bool) -> Self:
        if application:
            changed = {**self.application, leaf: ratchet}
            return type(self)(self.suite, self.leaves, self.nodes, self.handshake, changed)
        changed = {**self.handshake, leaf: ratchet}
        return type(self)(self.suite, self.leaves, self.nodes, changed, self.application)

    def encode(self) -> bytes:
        """Encode for storage: live secrets only."""
        return b"".join(
            (
                codec.u32(self.leaves),
                codec.vector(codec.u32(node) + codec.opaque(secret) for node, secret in self.nodes.items()),
                codec.vector(codec.u32(leaf) + ratchet.encode() for leaf, ratchet in self.handshake.items()),
                codec.vector(codec.u32(leaf) + ratchet.encode() for leaf, ratchet in self.application.items()),
            )
        )

    @classmethod
    def decode(cls, suite: CipherSuite, reader: Reader) -> Self:
        """Read what ``encode`` wrote. Raises DecodeError."""
        leaves = reader.u32()
        nodes = dict(reader.vector(lambda item: (NodeIndex(item.u32()), item.opaque())))
        handshake = dict(reader.vector(lambda item: (item.u32(), Ratchet.decode(item))))
        application = dict(reader.vector(lambda item: (item.u32(), Ratchet.decode(item))))
        if handshake.keys() != application.keys():
            raise DecodeError("ratchets")
        return cls(suite, leaves, nodes, handshake, application)
