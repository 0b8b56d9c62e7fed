"""The list of proposals of a Commit: what makes it valid, and what it does (RFC 9420 sections 12.2 and 12.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

from restante_crypto.mls.errors import ValidationError
from restante_crypto.mls.extensions import Extensions
from restante_crypto.mls.key_package import KeyPackage, check_key_package
from restante_crypto.mls.leaf_node import SOURCE_UPDATE
from restante_crypto.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    Update,
)
from restante_crypto.mls.psk import EXTERNAL, PreSharedKeyID
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.tree_math import LeafIndex
from restante_crypto.mls.tree_validation import Authenticate, check_leaf
from restante_crypto.suites import CipherSuite


@dataclass(frozen=True, slots=True)
class SentProposal:
    """A proposal and the leaf that sent it."""

    proposal: Proposal
    sender: LeafIndex


@dataclass(frozen=True, slots=True)
class Applied:
    """What a valid list does.

    Attributes:
        tree: with Updates, Removes and Adds.
        extensions: of the next epoch's GroupContext.
        added: leaf index of each Add.
        joiners: KeyPackage of each Add.
        removed: leaf indexes.
        updated: leaf indexes of Updates.
        psks: in the list's order.
        path_required: whether the Commit must have a path (section 12.4).
    """

    tree: RatchetTree
    extensions: Extensions
    added: tuple[LeafIndex, ...]
    joiners: tuple[KeyPackage, ...]
    removed: tuple[LeafIndex, ...]
    updated: tuple[LeafIndex, ...]
    psks: tuple[PreSharedKeyID, ...]
    path_required: bool


def apply(
    tree: RatchetTree,
    suite: CipherSuite,
    group_id: bytes,
    extensions: Extensions,
    proposals: Sequence[SentProposal],
    *,
    committer: LeafIndex,
    authenticate: Authenticate,
) -> Applied:
    """Check a regular Commit's list and apply it.

    Raises:
        ValidationError: with the rule that is broken.
        CredentialError: from ``authenticate``.
    """
    _check_kinds([sent.proposal for sent in proposals], suite)
    for sent in proposals:
        if isinstance(sent.proposal, GroupContextExtensions):
            extensions = sent.proposal.extensions
            for _, leaf in tree.members():
                check_leaf(leaf, suite.number, extensions)
    updates = [(sent.sender, sent.proposal) for sent in proposals if isinstance(sent.proposal, Update)]
    removes = [LeafIndex(sent.proposal.removed) for sent in proposals if isinstance(sent.proposal, Remove)]
    adds = [sent.proposal for sent in proposals if isinstance(sent.proposal, Add)]
    _check_targets([leaf for leaf, _ in updates], removes, committer)
    for sender, update in updates:
        _check_update(tree, sender, update, suite, group_id, extensions, authenticate)
    for add in adds:
        check_key_package(add.key_package, suite.number)
        check_leaf(add.key_package.leaf_node, suite.number, extensions)
        authenticate(add.key_package.leaf_node, None)
    if len({add.key_package.leaf_node.signature_key for add in adds}) != len(adds):
        raise ValidationError("12.2 the same client twice")
    changed, added = tree.apply(
        [(leaf, update.leaf_node) for leaf, update in updates],
        removes,
        [add.key_package.leaf_node for add in adds],
    )
    return Applied(
        changed,
        extensions,
        tuple(added),
        tuple(add.key_package for add in adds),
        tuple(removes),
        tuple(leaf for leaf, _ in updates),
        tuple(sent.proposal.psk for sent in proposals if isinstance(sent.proposal, PreSharedKey)),
        not proposals or any(not isinstance(sent.proposal, Add | PreSharedKey | ReInit) for sent in proposals),
    )


def _check_kinds(proposals: Sequence[Proposal], suite: CipherSuite) -> None:
    if any(isinstance(proposal, ExternalInit) for proposal in proposals):
        raise ValidationError("12.2 ExternalInit")
    if any(isinstance(proposal, ReInit) for proposal in proposals):
        raise ValidationError("12.2 ReInit, which this version does not follow")
    if sum(isinstance(proposal, GroupContextExtensions) for proposal in proposals) > 1:
        raise ValidationError("12.2 GroupContextExtensions twice")
    psks = [proposal.psk for proposal in proposals if isinstance(proposal, PreSharedKey)]
    if len(set(psks)) != len(psks):
        raise ValidationError("12.2 PreSharedKey twice")
    for psk in psks:
        if len(psk.psk_nonce) != suite.hash_bytes:
            raise ValidationError("12.1.4 PSK nonce")
        if psk.psk_type != EXTERNAL and psk.usage != 1:
            raise ValidationError("12.1.4 PSK usage")


def _check_targets(updates: list[LeafIndex], removes: list[LeafIndex], committer: LeafIndex) -> None:
    if committer in updates:
        raise ValidationError("12.2 Update by the committer")
    if committer in removes:
        raise ValidationError("12.2 Remove of the committer")
    if len({*updates, *removes}) != len(updates) + len(removes):
        raise ValidationError("12.2 one leaf twice")


def _check_update(
    tree: RatchetTree,
    leaf: LeafIndex,
    update: Update,
    suite: CipherSuite,
    group_id: bytes,
    extensions: Extensions,
    authenticate: Authenticate,
) -> None:
    old, new = tree.occupied_leaf(leaf), update.leaf_node
    if new.source != SOURCE_UPDATE:
        raise ValidationError("7.3 leaf of an Update")
    if new.encryption_key == old.encryption_key:
        raise ValidationError("7.3 new encryption key")
    check_leaf(new, suite.number, extensions)
    if not new.verify(group_id, leaf):
        raise ValidationError("7.3 leaf signature")
    authenticate(new, old)
