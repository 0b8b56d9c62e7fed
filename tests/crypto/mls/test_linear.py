"""Hostile trees and lists take linear time: the steps of Python and the comparisons are counted, not timed."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import pytest

from restante_crypto.mls import LeafNode, MLSError, ValidationError, joining
from restante_crypto.mls.leaf_node import SOURCE_COMMIT
from restante_crypto.mls.psk import USAGE_BRANCH
from restante_crypto.mls.ratchet_tree import Node, ParentNode, RatchetTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex, level, root, subtree_leaves
from restante_crypto.mls.tree_validation import check_members, check_parent_hashes
from restante_crypto.suites import SUITES
from support.mls import SUITE, Party, alone

LEAF = alone().members[0].leaf
GROWTH = 1.3  # of the steps per node or leaf listed, from N to 4 N: a logarithm, where a leaf costs its path


class Counted(int):
    """A leaf index whose comparisons are calls: a scan of a tuple shows."""

    def __eq__(self, other: object) -> bool:
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        return int(self) < other

    def __hash__(self) -> int:
        return hash(int(self))


def steps(run: Callable[[], object]) -> int:
    """How many calls and lines of Python something takes."""
    count = 0

    def trace(_frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 -- a trace function returns one
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except MLSError:
        pass
    finally:
        sys.settrace(before)
    return count


def leaf(number: int, parent_hash: bytes = b"") -> LeafNode:
    key = number.to_bytes(32, "big")
    return replace(LEAF, encryption_key=key, signature_key=key, source=SOURCE_COMMIT, parent_hash=parent_hash, raw=b"")


def only_the_root(size: int, unmerged: int, parent_hash: bytes = b"") -> RatchetTree:
    """Leaves below one parent, which lists the last of them."""
    nodes: list[Node] = [None] * (2 * size - 1)
    nodes[::2] = [leaf(number, parent_hash) for number in range(size)]
    listed = tuple(Counted(number) for number in range(size - unmerged, size))
    nodes[root(size)] = ParentNode(b"k" * 32, b"", listed)
    return RatchetTree(SUITES[SUITE], nodes)


def all_lists_full(size: int) -> RatchetTree:
    """Every parent lists every leaf below it."""
    nodes: list[Node] = []
    for index in range(2 * size - 1):
        below = tuple(Counted(number) for number in subtree_leaves(NodeIndex(index)))
        nodes.append(ParentNode(index.to_bytes(32, "big"), b"", below) if level(NodeIndex(index)) else leaf(index // 2))
    return RatchetTree(SUITES[SUITE], nodes)


def all_claim_the_root(size: int) -> RatchetTree:
    """Every leaf of the left half claims to have made the root's key."""
    tree = only_the_root(size, size // 2)
    top = tree.node(tree.root)
    assert isinstance(top, ParentNode)
    claimed = tree.parent_hash(top, NodeIndex(tree.root + size // 2))
    return only_the_root(size, size // 2, claimed)


def many_adds(size: int) -> Callable[[], object]:
    tree = only_the_root(size, size // 2)
    for number in range(0, size, 2):
        tree = tree.with_nodes({NodeIndex(2 * number): None})
    fresh = [leaf(size + number) for number in range(size // 2)]
    return lambda: tree.apply([], [], fresh)


def many_changes(size: int) -> Callable[[], object]:
    tree = only_the_root(size, 0)
    updates = [(LeafIndex(number), leaf(size + number)) for number in range(0, size, 2)]
    return lambda: tree.apply(updates, [LeafIndex(number) for number in range(1, size, 2)], [])


def a_branch(size: int) -> Callable[[], object]:
    old = replace(Party.of(2).groups[0], tree=only_the_root(size, 0))
    new = only_the_root(size, 0)
    return lambda: joining._check_continues(USAGE_BRANCH, old.context, new, old, lambda each: each.signature_key)


HOSTILE: dict[str, Callable[[int], Callable[[], object]]] = {
    "one parent lists all leaves": lambda size: lambda: check_parent_hashes(only_the_root(size, size)),
    "all leaves claim one parent": lambda size: lambda: check_parent_hashes(all_claim_the_root(size)),
    "keys of all members": lambda size: lambda: check_members(only_the_root(size, 0)),
    "many Adds below one parent": many_adds,
    "Updates and Removes": many_changes,
    "members of a group that continues": a_branch,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_steps_grow_as_the_members_do(what: str) -> None:
    few, many = (steps(HOSTILE[what](size)) for size in (64, 256))
    assert many / few < 4 * GROWTH


def test_steps_grow_as_the_lists_of_a_tree_do() -> None:
    few, many = all_lists_full(64), all_lists_full(256)
    listed = [sum(1 + len(parent.unmerged_leaves) for _, parent in tree.parents()) for tree in (few, many)]
    for run in (check_parent_hashes, RatchetTree.encode):
        ratio = steps(partial(run, many)) / steps(partial(run, few))
        assert ratio < listed[1] / listed[0] * GROWTH


def test_the_counter_sees_a_scan() -> None:
    def scans(size: int) -> Callable[[], object]:
        listed = tuple(Counted(number) for number in range(size))
        return lambda: [number for number in range(size) if number not in listed]

    assert steps(scans(256)) / steps(scans(64)) > 10


def test_the_hostile_trees_are_what_they_claim() -> None:
    with pytest.raises(ValidationError, match=r"7\.9\.2 parent hash"):
        check_parent_hashes(all_claim_the_root(8))
    with pytest.raises(ValidationError, match=r"7\.9\.2 parent hash"):
        check_parent_hashes(all_lists_full(8))
