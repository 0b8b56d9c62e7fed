"""Trees that are valid in ways that seldom come, and one step from it (RFC 9420 sections 7.3, 7.9.2, 12.4.3.1)."""

from dataclasses import replace

import pytest

from restante_crypto.mls import Capabilities, Extension, Remove, ValidationError
from restante_crypto.mls.extensions import DEFAULT_EXTENSIONS, REQUIRED_CAPABILITIES, RequiredCapabilities
from restante_crypto.mls.ratchet_tree import ParentNode
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.mls.tree_validation import check_parent_hashes, check_supports
from support.mls import Party, key_package, signature_key_pair


@pytest.mark.parametrize("committer", [1, 3])
def test_a_leaf_may_be_unmerged_at_the_edge_of_either_half(committer: int) -> None:
    """Leaf 2 is the first after the left half, and the first of the right one; either half has set the root's key."""
    party = Party.of(4)
    party.commit(committer, Remove(2))
    tree = party.groups[committer].tree
    check_parent_hashes(tree)
    after, added = tree.apply([], [], [key_package(signature_key_pair()).key_package.leaf_node])
    assert added == [2]
    root = after.node(after.root)
    assert isinstance(root, ParentNode)
    assert root.unmerged_leaves == (2,)
    check_parent_hashes(after)


def test_the_leaf_after_a_subtree_is_not_unmerged_in_it() -> None:
    party = Party.of(4)
    for index in range(4):
        party.commit(index)
    tree = party.groups[0].tree
    parent = tree.node(NodeIndex(1))
    assert isinstance(parent, ParentNode)
    with pytest.raises(ValidationError, match=r"12\.4\.3\.1 unmerged leaf$"):
        check_parent_hashes(tree.with_nodes({NodeIndex(1): replace(parent, unmerged_leaves=(2,))}))


def test_a_member_need_not_support_more_than_the_group_has() -> None:
    data = {REQUIRED_CAPABILITIES: RequiredCapabilities().encode()}
    extensions = tuple(Extension(kind, data.get(kind, b"")) for kind in sorted(DEFAULT_EXTENSIONS))
    check_supports(Capabilities(suites=(3,), extensions=()), extensions)
    with pytest.raises(ValidationError, match=r"13\.4"):
        check_supports(Capabilities(suites=(3,), extensions=()), (*extensions, Extension(0xF1A0, b"")))
