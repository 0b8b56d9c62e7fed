"""Becoming a member by a Welcome (RFC 9420 section 12.4.3.1), and what a GroupInfo has to be."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from restante_crypto import hpke, primitives
from restante_crypto.mls import codec, key_schedule, labels, tree_math, treekem, welcome
from restante_crypto.mls.commits import combine_psks
from restante_crypto.mls.errors import PathError, StateError, UnprotectError, ValidationError
from restante_crypto.mls.extensions import RATCHET_TREE, check_extensions, find
from restante_crypto.mls.framing import interim_transcript_hash
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_package import MLS10, KeyPackageBundle
from restante_crypto.mls.key_schedule import EpochSecrets
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposal_list import check_psks
from restante_crypto.mls.psk import RESUMPTION, USAGE_APPLICATION, USAGE_BRANCH, USAGE_REINIT, PreSharedKeyID
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.tree_validation import Authenticate, check_tree
from restante_crypto.suites import SUITES, CipherSuite

if TYPE_CHECKING:
    from restante_crypto.mls.group import Group

_WELCOME = b"Welcome"

ClientOf = Callable[[LeafNode], Hashable]
"""Whose leaf it is: leaves of a group and of the one that it came from are compared by it. The application knows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a Welcome makes: the parts of a group, and who signed its GroupInfo."""

    tree: RatchetTree
    context: GroupContext
    secrets: EpochSecrets = field(repr=False)
    encryption_secret: bytes = field(repr=False)
    interim: bytes = field(repr=False)
    own_index: LeafIndex
    private_keys: Mapping[NodeIndex, bytes] = field(repr=False)
    sender: int


def checked_tree(
    suite: CipherSuite, info: welcome.GroupInfo, ratchet_tree: bytes | None, authenticate: Authenticate, longest: int
) -> RatchetTree:
    """Return the tree of a GroupInfo, checked with it.

    Raises:
        StateError: there is none.
        MLSError: it is not valid, or the GroupInfo is not.
    """
    if info.context.version != MLS10:
        raise ValidationError("12.4.3.1 version")
    check_extensions(info.extensions)
    check_extensions(info.context.extensions)
    encoded = find(info.extensions, RATCHET_TREE)
    encoded = ratchet_tree if encoded is None else encoded
    if encoded is None:
        raise StateError("no ratchet tree")
    tree = RatchetTree.from_bytes(suite, encoded)
    signer_leaf = tree.leaf(info.signer)
    if signer_leaf is None or not info.verify(signer_leaf.signature_key):
        raise ValidationError("12.4.3.1 signature of the GroupInfo")
    if tree.tree_hash() != info.context.tree_hash:
        raise ValidationError("12.4.3.1 tree hash")
    check_tree(tree, info.context.group_id, info.context.extensions, authenticate, longest)
    return tree


def open_welcome(
    message: bytes,
    bundle: KeyPackageBundle,
    *,
    authenticate: Authenticate,
    ratchet_tree: bytes | None,
    psks: Mapping[bytes, bytes],
    resumed: "Group | None",
    client_of: ClientOf,
    longest: int,
) -> Entry:
    """Open a Welcome and check all of it: see ``Group.join``."""
    body = MLSMessage.parse(message).body
    if not isinstance(body, welcome.Welcome):
        raise StateError("not a Welcome")
    suite = SUITES.get(body.suite)
    if suite is None or body.suite != bundle.key_package.suite:
        raise ValidationError("12.4.3.1 cipher suite")
    secrets = _group_secrets(suite, body, bundle)
    if resumed is not None:
        psks = {**psks, resumed.group_id + codec.u64(resumed.epoch): resumed.secrets.resumption_psk}
    check_psks(secrets.psks, suite, {USAGE_APPLICATION, USAGE_REINIT, USAGE_BRANCH})
    member = key_schedule.member_secret(suite, secrets.joiner_secret, combine_psks(suite, secrets.psks, psks))
    info = _group_info(suite, member, body)
    context = info.context
    if context.suite != body.suite:
        raise ValidationError("12.4.3.1 cipher suite")
    tree = checked_tree(suite, info, ratchet_tree, authenticate, longest)
    _check_resumed(secrets.psks, context, tree, resumed, client_of)
    own = next((index for index, leaf in tree.members() if leaf == bundle.key_package.leaf_node), None)
    if own is None:
        raise ValidationError("12.4.3.1 own leaf")
    private_keys = {NodeIndex(2 * own): bundle.leaf_private}
    if secrets.path_secret is not None:
        path = [
            node
            for node, _ in tree.filtered_direct_path(LeafIndex(info.signer))
            if own in tree_math.subtree_leaves(node)
        ]
        keys, _ = treekem.path_keys(tree, path, secrets.path_secret)
        private_keys.update(keys)
    epoch_secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context.encode())
    tag = primitives.hmac(suite.hash_name, epoch_secrets.confirmation_key, context.confirmed_transcript_hash)
    if not primitives.equal(tag, info.confirmation_tag):
        raise PathError("confirmation tag")
    interim = interim_transcript_hash(suite, context.confirmed_transcript_hash, tag)
    return Entry(tree, context, epoch_secrets, encryption_secret, interim, own, private_keys, info.signer)


def _check_resumed(
    psks: tuple[PreSharedKeyID, ...],
    context: GroupContext,
    tree: RatchetTree,
    resumed: "Group | None",
    client_of: ClientOf,
) -> None:
    """Check a group that continues another one: sections 11.2 and 11.3."""
    usages = [psk for psk in psks if psk.psk_type == RESUMPTION and psk.usage != USAGE_APPLICATION]
    if not usages:
        if resumed is not None:
            raise ValidationError("11.2 the group does not continue that one")
        return
    if len(usages) > 1:
        raise ValidationError("12.4.3.1 more than one resumed group")
    (psk,) = usages
    if resumed is None or (psk.psk_group_id, psk.psk_epoch) != (resumed.group_id, resumed.epoch):
        raise StateError("a group that is not the one that it continues")
    if context.epoch != 1:
        raise ValidationError("12.4.3.1 epoch of a resumed group")
    _check_continues(psk.usage, context, tree, resumed, client_of)


def _check_continues(
    usage: int, context: GroupContext, tree: RatchetTree, resumed: "Group", client_of: ClientOf
) -> None:
    leaves, old = ([client_of(leaf) for _, leaf in each.members()] for each in (tree, resumed.tree))
    if not set(leaves) <= set(old):
        raise ValidationError("11.3 members of the group before")
    if usage == USAGE_BRANCH:
        if (context.version, context.suite) != (resumed.context.version, resumed.suite):
            raise ValidationError("11.3 version and cipher suite")
        return
    wanted = resumed.reinit
    if wanted is None:
        raise ValidationError("11.2 ReInit of the group before")
    parameters = wanted.version, wanted.suite, wanted.group_id, wanted.extensions
    if parameters != (context.version, context.suite, context.group_id, context.extensions):
        raise ValidationError("11.2 parameters of the ReInit")
    if len(leaves) != len(old) or set(leaves) != set(old):
        raise ValidationError("11.2 all members of the group before")


def _group_secrets(suite: CipherSuite, body: welcome.Welcome, bundle: KeyPackageBundle) -> welcome.GroupSecrets:
    reference = bundle.key_package.ref()
    sealed = next((item.encrypted_group_secrets for item in body.secrets if item.new_member == reference), None)
    if sealed is None:
        raise StateError("a Welcome for another KeyPackage")
    try:
        plain = labels.decrypt_with_label(
            suite, bundle.init_private, _WELCOME, body.encrypted_group_info, sealed.kem_output, sealed.ciphertext
        )
    except hpke.HpkeError:
        raise UnprotectError("group secrets") from None
    return codec.parse(welcome.GroupSecrets, plain)


def _group_info(suite: CipherSuite, member: bytes, body: welcome.Welcome) -> welcome.GroupInfo:
    key, nonce = key_schedule.welcome_key_nonce(suite, member)
    try:
        plain = primitives.aead_open(suite.aead, key, nonce, body.encrypted_group_info, b"")
    except primitives.AuthenticationError:
        raise UnprotectError("GroupInfo") from None
    return codec.parse(welcome.GroupInfo, plain)
