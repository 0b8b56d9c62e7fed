"""What makes a whole tree valid (RFC 9420 sections 7.3, 7.9.2, 12.4.3.1)."""

from collections.abc import Callable

from restante_crypto.mls import codec, tree_math
from restante_crypto.mls.errors import ValidationError
from restante_crypto.mls.extensions import (
    DEFAULT_EXTENSIONS,
    MAX_LIFETIME,
    REQUIRED_CAPABILITIES,
    Capabilities,
    Extensions,
    RequiredCapabilities,
    check_extensions,
    find,
)
from restante_crypto.mls.key_package import MLS10, check_lifetime
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, LeafNode
from restante_crypto.mls.ratchet_tree import ParentNode, RatchetTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.update_path import UpdatePath
from restante_crypto.suites import CipherSuite

Authenticate = Callable[[LeafNode, LeafNode | None], None]
"""The application's check of a credential: (new leaf, the leaf it replaces or None); raises CredentialError."""


def required_capabilities(extensions: Extensions) -> RequiredCapabilities:
    """Return what the GroupContext requires."""
    data = find(extensions, REQUIRED_CAPABILITIES)
    return codec.parse(RequiredCapabilities, data) if data is not None else RequiredCapabilities()


def check_leaf(leaf: LeafNode, suite: CipherSuite, extensions: Extensions) -> None:
    """Check what section 7.3 says of one leaf beside its signature, and section 13.4 of the group's extensions."""
    capabilities = leaf.capabilities
    if MLS10 not in capabilities.versions:
        raise ValidationError("7.3 protocol version")
    if suite.number not in capabilities.suites:
        raise ValidationError("7.3 cipher suite")
    if not suite.kem.is_public_key(leaf.encryption_key):
        raise ValidationError("7.3 encryption key")
    if leaf.credential.type not in capabilities.credentials:
        raise ValidationError("7.3 own credential type")
    check_extensions(leaf.extensions)
    if not {extension.type for extension in leaf.extensions} <= set(capabilities.extensions) | DEFAULT_EXTENSIONS:
        raise ValidationError("7.3 leaf extensions")
    check_supports(capabilities, extensions)


def check_supports(capabilities: Capabilities, extensions: Extensions) -> None:
    """Check that a member supports these extensions of a GroupContext, and what they require."""
    if not {extension.type for extension in extensions} <= set(capabilities.extensions) | DEFAULT_EXTENSIONS:
        raise ValidationError("13.4 group extensions")
    if not required_capabilities(extensions).met_by(capabilities):
        raise ValidationError("7.3 required capabilities")


def check_members(tree: RatchetTree) -> None:
    """Check what section 7.3 says of all leaves together: unique keys, and credentials that all understand."""
    members = [leaf for _, leaf in tree.members()]
    if len({leaf.signature_key for leaf in members}) != len(members):
        raise ValidationError("7.3 unique signature keys")
    keys = [leaf.encryption_key for leaf in members] + [parent.encryption_key for _, parent in tree.parents()]
    if len(set(keys)) != len(keys):
        raise ValidationError("7.3 unique encryption keys")
    used = {leaf.credential.type for leaf in members}
    if not all(used.issubset(understood) for understood in {leaf.capabilities.credentials for leaf in members}):
        raise ValidationError("7.3 credential types")


def check_path_keys(tree: RatchetTree, committer: LeafIndex, path: UpdatePath) -> None:
    """Check that no key of an UpdatePath is in the tree that it is to be merged into (section 12.4.2).

    The leaf of an external Commit is in that tree already.
    """
    fresh = {path.leaf_node.encryption_key, *(node.encryption_key for node in path.nodes)}
    old = [parent.encryption_key for _, parent in tree.parents()]
    old += [leaf.encryption_key for index, leaf in tree.members() if index != committer or leaf != path.leaf_node]
    if not fresh.isdisjoint(old):
        raise ValidationError("12.4.2 keys of the path")


def check_parent_hashes(tree: RatchetTree) -> None:
    """Check that every parent that is not blank is parent-hash valid (section 7.9.2).

    Each node is looked at by the nearest parent above it that is not blank, and each unmerged leaf by those that list
    it: linear in the tree's encoding, but for the original tree hashes, which take a path for each unmerged leaf.

    Raises:
        ValidationError: a parent is not covered by exactly one chain from a leaf, or an unmerged leaf is none.
    """
    _check_unmerged(tree)
    for index, parent in tree.parents():
        left, right = tree_math.children(index)
        if _continues(tree, parent, left, right) == _continues(tree, parent, right, left):
            raise ValidationError("7.9.2 parent hash")


def _continues(tree: RatchetTree, parent: ParentNode, child: NodeIndex, other: NodeIndex) -> bool:
    """Say whether the one node below ``child`` that knows the parent's key claims the parent's hash."""
    below = tree_math.subtree_leaves(child)
    unmerged = {NodeIndex(2 * leaf) for leaf in parent.unmerged_leaves if below.start <= leaf < below.stop}
    resolution = set(tree.resolution(child))
    know = resolution - unmerged
    if len(know) != 1 or not unmerged <= resolution:
        return False
    node = tree.node(know.pop())
    if isinstance(node, LeafNode) and node.source != SOURCE_COMMIT:
        return False  # it never committed
    return node is not None and node.parent_hash == tree.parent_hash(parent, other)


def _check_unmerged(tree: RatchetTree) -> None:
    """Check the lists of unmerged leaves (section 12.4.3.1).

    The parents that list a leaf are those that are not blank from the leaf upwards to some point: as many as there are.
    """
    parents = dict(tree.parents())
    listed = {index: frozenset(parent.unmerged_leaves) for index, parent in parents.items()}
    times: dict[int, int] = {}
    for index, parent in parents.items():
        below, last = tree_math.subtree_leaves(index), -1
        for leaf in parent.unmerged_leaves:
            if leaf <= last:
                raise ValidationError("12.4.3.1 unmerged leaves in order")
            if not below.start <= leaf < below.stop or tree.leaf(leaf) is None:
                raise ValidationError("12.4.3.1 unmerged leaf")
            times[leaf] = times.get(leaf, 0) + 1
            last = leaf
    above = _nearest_parents(tree)
    for leaf, count in times.items():
        at, met = above[2 * leaf], 0
        while at is not None and leaf in listed[at]:
            at, met = above[at], met + 1
        if met != count:
            raise ValidationError("12.4.3.1 unmerged leaf between")


def _nearest_parents(tree: RatchetTree) -> list[NodeIndex | None]:
    """Return for each node the nearest parent above it that is not blank."""
    above: list[NodeIndex | None] = [None] * (2 * tree.leaves - 1)
    waiting = [tree.root]
    while waiting:
        index = waiting.pop()
        if not tree_math.is_leaf(index):
            nearest = above[index] if tree.node(index) is None else index
            for child in tree_math.children(index):
                above[child] = nearest
                waiting.append(child)
    return above


def check_tree(
    tree: RatchetTree, group_id: bytes, extensions: Extensions, authenticate: Authenticate, longest: int = MAX_LIFETIME
) -> None:
    """Check a tree before joining its group: every leaf, every signature, every parent hash.

    Lifetimes are measured (``longest``: seconds), not compared with a clock: a member that was added long ago and has
    never committed is one for all others.
    """
    if not all(tree.suite.kem.is_public_key(parent.encryption_key) for _, parent in tree.parents()):
        raise ValidationError("7.3 encryption key")
    for _, leaf in tree.members():
        check_leaf(leaf, tree.suite, extensions)
        check_lifetime(leaf, longest=longest)
    check_parent_hashes(tree)
    check_members(tree)
    for index, leaf in tree.members():
        if not leaf.verify(group_id, index):
            raise ValidationError("7.3 leaf signature")
        authenticate(leaf, None)
