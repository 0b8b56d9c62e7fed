"""The arithmetic of the array-based ratchet tree (RFC 9420 appendix C).

::

                   7                     level 3
           3               11            level 2
       1       5       9       13        level 1
     0   2   4   6   8  10  12  14       level 0: leaves 0 to 7 are nodes 0, 2, 4, ...

A tree of n leaves is always full: n is a power of two.
"""

from typing import NewType

LeafIndex = NewType("LeafIndex", int)
NodeIndex = NewType("NodeIndex", int)


def node_width(leaves: int) -> int:
    """Return the number of nodes of a tree of this many leaves."""
    return 2 * leaves - 1


def leaf_node_index(leaf: LeafIndex) -> NodeIndex:
    """Return the node of a leaf."""
    return NodeIndex(2 * leaf)


def node_leaf_index(node: NodeIndex) -> LeafIndex:
    """Return the leaf of a node of level 0."""
    return LeafIndex(node // 2)


def is_leaf(node: NodeIndex) -> bool:
    """Say whether the node is of level 0."""
    return node & 1 == 0


def level(node: int) -> int:
    """Return the node's level; leaves are 0."""
    return (~node & (node + 1)).bit_length() - 1


def root(leaves: int) -> NodeIndex:
    """Return the root of a tree of this many leaves (a power of two)."""
    return NodeIndex(leaves - 1)


def children(node: NodeIndex) -> tuple[NodeIndex, NodeIndex]:
    """Return the left and the right child of a node that is no leaf."""
    half = (~node & (node + 1)) >> 1
    return NodeIndex(node - half), NodeIndex(node + half)


def parent(node: NodeIndex) -> NodeIndex:
    """Return the parent in an unbounded tree; the caller does not ask for the root's."""
    depth = level(node)
    bit = (node >> (depth + 1)) & 1
    return NodeIndex((node | (1 << depth)) ^ (bit << (depth + 1)))


def sibling(node: NodeIndex) -> NodeIndex:
    """Return the other child of the parent."""
    return NodeIndex(node ^ (2 << level(node)))


def direct_path(node: NodeIndex, leaves: int) -> list[NodeIndex]:
    """Return the ancestors from the parent to the root."""
    path = []
    top = root(leaves)
    while node != top:
        node = parent(node)
        path.append(node)
    return path


def copath(node: NodeIndex, leaves: int) -> list[NodeIndex]:
    """Return the siblings along the direct path, from the bottom."""
    return [sibling(below) for below in [node, *direct_path(node, leaves)][:-1]]


def subtree_leaves(node: NodeIndex) -> range:
    """Return the leaf indexes below (or at) the node."""
    span = (1 << level(node)) - 1
    return range((node - span) // 2, (node + span) // 2 + 1)


def full_leaves(needed: int) -> int:
    """Return the smallest power of two that is at least ``needed`` (at least 1)."""
    return 1 << (needed - 1).bit_length()
