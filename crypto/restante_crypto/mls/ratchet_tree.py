"""The ratchet tree (RFC 9420 sections 4 and 7): nodes, resolutions, hashes, and how proposals change them.

A tree is frozen; changes make a new one that shares all nodes that did not change, and all their hashes.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from restante_crypto import primitives
from restante_crypto.mls import codec, tree_math
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError, ValidationError
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.suites import CipherSuite

_LEAF = 1
_PARENT = 2


@dataclass(frozen=True, slots=True)
class ParentNode:
    """A parent: HPKE key, parent hash, and the leaves below that do not know its private key (ascending)."""

    encryption_key: bytes
    parent_hash: bytes
    unmerged_leaves: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Encode."""
        return b"".join(
            (
                codec.opaque(self.encryption_key),
                codec.opaque(self.parent_hash),
                codec.vector(codec.u32(leaf) for leaf in self.unmerged_leaves),
            )
        )

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), reader.opaque(), reader.vector(Reader.u32))

    def hash(self, suite: CipherSuite, original_sibling_tree_hash: bytes) -> bytes:
        """Return the parent hash of this node (section 7.9)."""
        parts = (self.encryption_key, self.parent_hash, original_sibling_tree_hash)
        return primitives.hash_bytes(suite.hash_name, b"".join(codec.opaque(part) for part in parts))


Node = LeafNode | ParentNode | None


def _decode_node(reader: Reader) -> Node:
    kind = reader.u8()
    if kind == _LEAF:
        return LeafNode.decode(reader)
    if kind == _PARENT:
        return ParentNode.decode(reader)
    raise DecodeError("node type")


class RatchetTree:
    """A ratchet tree of a power of two leaves."""

    __slots__ = ("_hashes", "_nodes", "suite")

    def __init__(self, suite: CipherSuite, nodes: list[Node], hashes: dict[NodeIndex, bytes] | None = None) -> None:
        """Take the nodes of a full tree; neither list nor dictionary is changed by anybody afterwards."""
        self.suite = suite
        self._nodes = nodes
        self._hashes = hashes if hashes is not None else {}

    @property
    def leaves(self) -> int:
        """The width in leaves, blank ones included."""
        return (len(self._nodes) + 1) // 2

    @property
    def root(self) -> NodeIndex:
        """The root."""
        return tree_math.root(self.leaves)

    def node(self, index: NodeIndex) -> Node:
        """Return the node, None if blank."""
        return self._nodes[index]

    def leaf(self, leaf: int) -> LeafNode | None:
        """Return the leaf, None if blank or outside the tree."""
        if not 0 <= leaf < self.leaves:
            return None
        node = self._nodes[2 * leaf]
        return node if isinstance(node, LeafNode) else None

    def occupied_leaf(self, leaf: int) -> LeafNode:
        """Return the leaf of a member. Raises ValidationError if it is blank or outside the tree."""
        found = self.leaf(leaf)
        if found is None:
            raise ValidationError("12.1 proposal for a blank leaf")
        return found

    def members(self) -> Iterator[tuple[LeafIndex, LeafNode]]:
        """Yield the leaves that are not blank, ascending."""
        for index in range(0, len(self._nodes), 2):
            node = self._nodes[index]
            if isinstance(node, LeafNode):
                yield LeafIndex(index // 2), node

    def parents(self) -> Iterator[tuple[NodeIndex, ParentNode]]:
        """Yield the parents that are not blank, ascending."""
        for index in range(1, len(self._nodes), 2):
            node = self._nodes[index]
            if isinstance(node, ParentNode):
                yield NodeIndex(index), node

    # Encoding: the ratchet_tree extension (section 12.4.3.3).

    def encode(self) -> bytes:
        """Encode, without the blank nodes at the right end."""
        end = len(self._nodes)
        while end and self._nodes[end - 1] is None:
            end -= 1
        parts = []
        for node in self._nodes[:end]:
            if node is None:
                parts.append(b"\x00")
            else:
                kind = _LEAF if isinstance(node, LeafNode) else _PARENT
                parts.append(b"\x01" + bytes((kind,)) + node.encode())
        return codec.vector(parts)

    @classmethod
    def from_bytes(cls, suite: CipherSuite, data: bytes) -> Self:
        """Return the tree in these bytes. Raises DecodeError."""
        reader = Reader(data)
        nodes = list(reader.vector(lambda item: item.optional(_decode_node)))
        reader.done()
        if not nodes or nodes[-1] is None:
            raise DecodeError("the last node is blank")
        for index, node in enumerate(nodes):
            if node is not None and isinstance(node, LeafNode) != (index % 2 == 0):
                raise DecodeError("node type at its place")
        width = tree_math.node_width(tree_math.full_leaves((len(nodes) + 2) // 2))
        nodes.extend([None] * (width - len(nodes)))
        return cls(suite, nodes)

    # Resolution and hashes.

    def resolution(self, index: NodeIndex) -> list[NodeIndex]:
        """Return the resolution of a node (section 4.1.1)."""
        nodes = self._nodes
        span = (1 << tree_math.level(index)) - 1  # a subtree's nodes are neighbours
        low, high = index - span, index + span
        if not any(nodes[low + 1 : high : 2]):  # all its parents are blank, as in a new group: a faster way
            return [NodeIndex(at) for at in range(low, high + 1, 2) if nodes[at] is not None]
        found, waiting = [], [index]
        while waiting:
            at = waiting.pop()
            node = nodes[at]
            if node is not None:
                found.append(at)
                if isinstance(node, ParentNode):
                    found += [NodeIndex(2 * leaf) for leaf in node.unmerged_leaves]
            elif not tree_math.is_leaf(at):
                left, right = tree_math.children(at)
                waiting += (right, left)
        return found

    def _is_blank_below(self, index: NodeIndex) -> bool:
        """Say whether the resolution of a node is empty: nothing in its subtree, whose nodes are neighbours."""
        span = (1 << tree_math.level(index)) - 1
        return not any(self._nodes[index - span : index + span + 1])

    def filtered_direct_path(self, leaf: LeafIndex) -> list[tuple[NodeIndex, NodeIndex]]:
        """Return (node, copath child) along the filtered direct path, from the bottom (section 4.1.2)."""
        node = tree_math.leaf_node_index(leaf)
        path = tree_math.direct_path(node, self.leaves)
        pairs = zip(path, tree_math.copath(node, self.leaves), strict=True)
        return [(above, child) for above, child in pairs if not self._is_blank_below(child)]

    def tree_hash(self, index: NodeIndex | None = None) -> bytes:
        """Return the tree hash of a node, by default of the root (section 7.8)."""
        if index is None:
            index = self.root
        known = self._hashes.get(index)
        if known is None:
            known = self._hash(index, ())
            self._hashes[index] = known
        return known

    def _hash(self, index: NodeIndex, without: tuple[int, ...]) -> bytes:
        node = self._nodes[index]
        if tree_math.is_leaf(index):
            leaf = tree_math.node_leaf_index(index)
            content = node.encode() if node is not None and not without else None
            value = codec.u8(_LEAF) + codec.u32(leaf) + codec.optional(content)
        else:
            if isinstance(node, ParentNode) and without:
                gone = frozenset(without)
                node = replace(node, unmerged_leaves=tuple(leaf for leaf in node.unmerged_leaves if leaf not in gone))
            children = tree_math.children(index)
            value = b"".join(
                (
                    codec.u8(_PARENT),
                    codec.optional(node.encode() if node is not None else None),
                    *(codec.opaque(self.original_tree_hash(child, without)) for child in children),
                )
            )
        return primitives.hash_bytes(self.suite.hash_name, value)

    def original_tree_hash(self, index: NodeIndex, without: tuple[int, ...]) -> bytes:
        """Return the tree hash of a node as if these leaves (ascending) were blank and unmerged nowhere (section 7.9).

        A path of hashes for each of them.
        """
        below = tree_math.subtree_leaves(index)
        inside = without[bisect_left(without, below.start) : bisect_left(without, below.stop)]
        return self._hash(index, inside) if inside else self.tree_hash(index)

    def parent_hash(self, node: ParentNode, copath_child: NodeIndex) -> bytes:
        """Return the parent hash of a parent, with this copath child (section 7.9)."""
        return node.hash(self.suite, self.original_tree_hash(copath_child, node.unmerged_leaves))

    # Changes.

    def with_nodes(self, changes: Mapping[NodeIndex, Node]) -> "RatchetTree":
        """Return the tree with these nodes replaced."""
        draft = Draft(self)
        for index, node in changes.items():
            draft.set(index, node)
        return draft.tree()

    def apply(
        self, updates: Iterable[tuple[LeafIndex, LeafNode]], removes: Iterable[LeafIndex], adds: Iterable[LeafNode]
    ) -> tuple["RatchetTree", list[LeafIndex]]:
        """Apply proposals in the order of section 12.3; return the tree and the leaf index of each Add.

        Raises:
            ValidationError: an Update or Remove of a blank leaf.
        """
        draft = Draft(self)
        for leaf, node in updates:
            draft.update(leaf, node)
        for leaf in removes:
            draft.remove(leaf)
        draft.truncate()
        added = [draft.add(node) for node in adds]
        return draft.tree(), added


@dataclass(slots=True)
class Draft:
    """A tree that is being changed: copied once, then changed in place."""

    base: RatchetTree
    nodes: list[Node] = field(init=False)
    touched: set[NodeIndex] = field(init=False)
    unmerged: dict[NodeIndex, tuple[ParentNode, list[int]]] = field(init=False)  # what parents are to list besides
    first_blank: int = field(default=0, init=False)  # no leaf before it is blank

    def __post_init__(self) -> None:
        """Copy the nodes."""
        self.nodes = list(self.base._nodes)  # noqa: SLF001 -- of this module
        self.touched = set()
        self.unmerged = {}

    def set(self, index: NodeIndex, node: Node) -> None:
        """Replace a node."""
        self.nodes[index] = node
        self.touched.add(index)

    def _leaves(self) -> int:
        return (len(self.nodes) + 1) // 2

    def _path(self, leaf: LeafIndex) -> list[NodeIndex]:
        return tree_math.direct_path(tree_math.leaf_node_index(leaf), self._leaves())

    def _leaf(self, leaf: LeafIndex) -> NodeIndex:
        index = tree_math.leaf_node_index(leaf)
        if not 0 <= index < len(self.nodes) or self.nodes[index] is None:
            raise ValidationError("12.1 proposal for a blank leaf")
        return index

    def update(self, leaf: LeafIndex, node: LeafNode) -> None:
        """Replace a leaf and blank its direct path (section 12.1.2)."""
        self.set(self._leaf(leaf), node)
        for index in self._path(leaf):
            self.set(index, None)

    def remove(self, leaf: LeafIndex) -> None:
        """Blank a leaf and its direct path (section 12.1.3)."""
        self.set(self._leaf(leaf), None)
        self.first_blank = min(self.first_blank, 2 * leaf)
        for index in self._path(leaf):
            self.set(index, None)

    def truncate(self) -> None:
        """Halve the tree while its right half has no member (section 7.7)."""
        while self._leaves() > 1 and all(node is None for node in self.nodes[self._leaves() :: 2]):
            del self.nodes[self._leaves() - 1 :]

    def add(self, node: LeafNode) -> LeafIndex:
        """Put a leaf at the leftmost blank place, extending the tree if there is none (section 12.1.1)."""
        for index in range(self.first_blank, len(self.nodes), 2):
            if self.nodes[index] is None:
                break
        else:
            index = len(self.nodes) + 1
            self.nodes.extend([None] * (len(self.nodes) + 1))
        self.first_blank = index + 2
        leaf = LeafIndex(index // 2)
        self.set(NodeIndex(index), node)
        for above in self._path(leaf):
            parent = self.nodes[above]
            if isinstance(parent, ParentNode):
                self.unmerged.setdefault(above, (parent, []))[1].append(leaf)
            self.touched.add(above)
        return leaf

    def tree(self) -> RatchetTree:
        """Return the finished tree, with every hash that still holds."""
        for index, (parent, leaves) in self.unmerged.items():
            self.nodes[index] = replace(parent, unmerged_leaves=tuple(sorted({*parent.unmerged_leaves, *leaves})))
        width = len(self.nodes)
        top = tree_math.root(self._leaves())
        stale: set[NodeIndex] = {top} if self.touched else set()
        for index in self.touched:
            if index < width:
                node = index
                while node not in stale:  # what is above a stale node is stale already
                    stale.add(node)
                    node = tree_math.parent(node)
        known = self.base._hashes  # noqa: SLF001 -- of this module
        if width < 2 * self.base.leaves - 1:
            hashes = {index: value for index, value in known.items() if index < width and index not in stale}
        else:
            hashes = known.copy()
            for index in stale:
                hashes.pop(index, None)
        return RatchetTree(self.base.suite, self.nodes, hashes)
