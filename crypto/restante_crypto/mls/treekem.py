"""TreeKEM (RFC 9420 sections 7.4 to 7.6): making an UpdatePath, and taking one in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from restante_crypto import hpke
from restante_crypto.mls import labels, tree_math
from restante_crypto.mls.errors import PathError, ValidationError
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, LeafNode, SignatureKeyPair
from restante_crypto.mls.ratchet_tree import Node, ParentNode, RatchetTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath, UpdatePathNode
from restante_crypto.primitives import Random
from restante_crypto.suites import CipherSuite

_LABEL = b"UpdatePathNode"


@dataclass(frozen=True, slots=True)
class OwnPath:
    """A path made by this member: the tree with it, its secrets, and what is to be sealed to the others."""

    tree: RatchetTree
    leaf_node: LeafNode
    path: tuple[tuple[NodeIndex, NodeIndex], ...]
    private_keys: Mapping[NodeIndex, bytes] = field(repr=False)
    public_keys: tuple[bytes, ...]
    path_secrets: tuple[bytes, ...] = field(repr=False)
    commit_secret: bytes = field(repr=False)


def node_key_pair(suite: CipherSuite, path_secret: bytes) -> tuple[bytes, bytes]:
    """Return (private, public) of the node with this path secret (section 7.4)."""
    return suite.kem.derive_key_pair(labels.derive_secret(suite, path_secret, b"node"))


def next_path_secret(suite: CipherSuite, path_secret: bytes) -> bytes:
    """Return the path secret one step up; one step above the root it is the commit secret."""
    return labels.derive_secret(suite, path_secret, b"path")


def path_nodes(
    tree: RatchetTree, sender: LeafIndex, path: Collection[tuple[NodeIndex, NodeIndex]], keys: Collection[bytes]
) -> tuple[dict[NodeIndex, Node], bytes]:
    """Return the nodes of the sender's direct path with these keys on its filtered part, and the sender's parent hash.

    Parent hashes are computed from the root down; the other nodes of the direct path are blank.
    """
    nodes: dict[NodeIndex, Node] = dict.fromkeys(tree_math.direct_path(tree_math.leaf_node_index(sender), tree.leaves))
    parent_hash = b""
    for (index, copath_child), key in reversed(list(zip(path, keys, strict=True))):
        node = ParentNode(key, parent_hash)
        nodes[index] = node
        parent_hash = node.hash(tree.suite, tree.tree_hash(copath_child))  # a copath child is not on the path
    return nodes, parent_hash


def make_path(
    tree: RatchetTree,
    sender: LeafIndex,
    leaf: LeafNode,
    *,
    signer: SignatureKeyPair,
    group_id: bytes,
    random: Random,
) -> OwnPath:
    """Make fresh keys for the sender's leaf and filtered direct path in a tree to which proposals were applied."""
    suite = tree.suite
    path = tuple(tree.filtered_direct_path(sender))
    secrets = [random(suite.hash_bytes)]
    for _ in path:
        secrets.append(next_path_secret(suite, secrets[-1]))
    pairs = [node_key_pair(suite, secret) for secret in secrets[:-1]]
    leaf_private, leaf_public = suite.kem.derive_key_pair(random(suite.hash_bytes))
    nodes, parent_hash = path_nodes(tree, sender, path, [public for _, public in pairs])
    unsigned = replace(
        leaf, encryption_key=leaf_public, source=SOURCE_COMMIT, lifetime=None, parent_hash=parent_hash, raw=b""
    )
    signed = unsigned.sign(signer, group_id, sender)
    index = tree_math.leaf_node_index(sender)
    private_keys = {node: private for (node, _), (private, _) in zip(path, pairs, strict=True)}
    return OwnPath(
        tree.with_nodes({**nodes, index: signed}),
        signed,
        path,
        {index: leaf_private, **private_keys},
        tuple(public for _, public in pairs),
        tuple(secrets[:-1]),
        secrets[-1],
    )


def seal_path(own: OwnPath, context: bytes, new_leaves: Collection[LeafIndex], random: Random) -> UpdatePath:
    """Seal the path secrets to the copath, without the leaves added by this Commit (section 7.5).

    Args:
        own: from ``make_path``.
        context: the encoded provisional GroupContext.
        new_leaves: added by the same Commit.
        random: for the encapsulations.

    Raises:
        ValidationError: a key in the tree is no public key.
    """
    suite = own.tree.suite
    new = {tree_math.leaf_node_index(leaf) for leaf in new_leaves}
    info = labels.encryption_context(suite, _LABEL, context)
    nodes = []
    for (_, copath_child), public, secret in zip(own.path, own.public_keys, own.path_secrets, strict=True):
        sealed = []
        for index in own.tree.resolution(copath_child):
            target = own.tree.node(index)
            if index in new or target is None:
                continue
            try:
                sealed.append(HPKECiphertext(*hpke.seal(suite, target.encryption_key, info, b"", secret, random)))
            except hpke.HpkeError:
                raise ValidationError("7.3 encryption key") from None
        nodes.append(UpdatePathNode(public, tuple(sealed)))
    return UpdatePath(own.leaf_node, tuple(nodes))


def merge_path(tree: RatchetTree, sender: LeafIndex, update: UpdatePath) -> RatchetTree:
    """Return the tree with another member's path (section 7.5); the leaf was validated by the caller.

    Raises:
        ValidationError: the path does not fit the tree, a key is there twice, or the parent hash is wrong.
    """
    path = tree.filtered_direct_path(sender)
    if len(path) != len(update.nodes):
        raise ValidationError("7.5 length of the path")
    if not all(tree.suite.kem.is_public_key(node.encryption_key) for node in update.nodes):
        raise ValidationError("7.5 public key of the path")
    nodes, parent_hash = path_nodes(tree, sender, path, [node.encryption_key for node in update.nodes])
    if update.leaf_node.parent_hash != parent_hash:
        raise ValidationError("7.9.2 parent hash of the committer's leaf")
    return tree.with_nodes({**nodes, tree_math.leaf_node_index(sender): update.leaf_node})


def open_path(
    tree: RatchetTree,
    sender: LeafIndex,
    update: UpdatePath,
    *,
    receiver: LeafIndex,
    private_keys: Mapping[NodeIndex, bytes],
    context: bytes,
    new_leaves: Collection[LeafIndex],
) -> tuple[dict[NodeIndex, bytes], bytes]:
    """Decrypt this member's path secret; return the private keys above the common ancestor, and the commit secret.

    Args:
        tree: after ``merge_path``.
        sender: the committer's leaf.
        update: its path.
        receiver: this member's leaf.
        private_keys: this member's keys in the tree before.
        context: the encoded provisional GroupContext.
        new_leaves: added by the same Commit.

    Raises:
        PathError: it does not decrypt, or does not give the public keys that were sent.
        ValidationError: the number of ciphertexts does not fit.
    """
    suite = tree.suite
    new = {tree_math.leaf_node_index(leaf) for leaf in new_leaves}
    path = tree.filtered_direct_path(sender)
    resolutions = [[index for index in tree.resolution(child) if index not in new] for _, child in path]
    if [len(each) for each in resolutions] != [len(node.encrypted_path_secret) for node in update.nodes]:
        raise ValidationError("7.6 number of ciphertexts")
    position = next(i for i, (_, child) in enumerate(path) if receiver in tree_math.subtree_leaves(child))
    resolution = resolutions[position]
    known = [place for place, index in enumerate(resolution) if index in private_keys]
    if not known:
        raise PathError("no private key for this path")
    private, sealed = private_keys[resolution[known[0]]], update.nodes[position].encrypted_path_secret[known[0]]
    try:
        secret = labels.decrypt_with_label(suite, private, _LABEL, context, sealed.kem_output, sealed.ciphertext)
    except hpke.HpkeError:
        raise PathError("path secret") from None
    return path_keys(tree, [node for node, _ in path[position:]], secret)


def path_keys(tree: RatchetTree, nodes: list[NodeIndex], secret: bytes) -> tuple[dict[NodeIndex, bytes], bytes]:
    """Return the private keys of these nodes, bottom up from this path secret, and the commit secret.

    Raises:
        PathError: a derived public key is not the one in the tree.
    """
    keys: dict[NodeIndex, bytes] = {}
    for index in nodes:
        private, public = node_key_pair(tree.suite, secret)
        node = tree.node(index)
        if node is None or node.encryption_key != public:
            raise PathError("path secret of another key")
        keys[index] = private
        secret = next_path_secret(tree.suite, secret)
    return keys, secret
