"""The list of proposals of a Commit: what makes it valid, and what it does (RFC 9420 sections 12.2 and 12.3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from restante_crypto.mls.errors import ValidationError
from restante_crypto.mls.extensions import MAX_LIFETIME, Capabilities, Extensions, check_extensions
from restante_crypto.mls.framing import Sender
from restante_crypto.mls.key_package import MLS10, KeyPackage, check_key_package, check_lifetime
from restante_crypto.mls.leaf_node import SOURCE_UPDATE, LeafNode
from restante_crypto.mls.own_update import OwnUpdate
from restante_crypto.mls.proposals import (
    Add,
    CustomProposal,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ProposalOrRef,
    ReInit,
    Remove,
    Update,
)
from restante_crypto.mls.psk import EXTERNAL, USAGE_APPLICATION, PreSharedKeyID
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.tree_math import LeafIndex
from restante_crypto.mls.tree_validation import Authenticate, check_leaf, check_supports
from restante_crypto.suites import CipherSuite

BY_OUTSIDERS: Final = (Add, Remove, PreSharedKey, ReInit, GroupContextExtensions)
"""What an external sender may propose (section 12.1.8)."""


@dataclass(frozen=True, slots=True)
class SentProposal:
    """A proposal and who sent it; ``own``: the secrets of an Update that this member sent."""

    proposal: Proposal
    sender: Sender
    own: OwnUpdate | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a list of proposals is checked against.

    Attributes:
        suite: the group's.
        group_id: the group's.
        extensions: of its GroupContext.
        authenticate: checks credentials.
        longest: seconds that a leaf's lifetime may last.
        now: Unix seconds, with which whoever sends compares lifetimes; None: they are not compared.
        usages: of resumption PSKs that this Commit may have.
    """

    suite: CipherSuite
    group_id: bytes
    extensions: Extensions
    authenticate: Authenticate
    longest: int = MAX_LIFETIME
    now: int | None = None
    usages: Collection[int] = frozenset({USAGE_APPLICATION})


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
        reinit: the group ends, and begins again like this.
        custom: proposals of other types than the RFC's.
        external_init: the encapsulated init secret of an external Commit.
    """

    tree: RatchetTree
    extensions: Extensions
    added: tuple[LeafIndex, ...] = ()
    joiners: tuple[KeyPackage, ...] = ()
    removed: tuple[LeafIndex, ...] = ()
    updated: tuple[LeafIndex, ...] = ()
    psks: tuple[PreSharedKeyID, ...] = ()
    path_required: bool = True
    reinit: ReInit | None = None
    custom: tuple[SentProposal, ...] = ()
    external_init: bytes = b""


def apply(
    tree: RatchetTree,
    proposals: Sequence[SentProposal],
    *,
    committer: LeafIndex,
    terms: Terms,
    path_leaf: LeafNode | None = None,
) -> Applied:
    """Check a regular Commit's list and apply it; ``path_leaf``: the committer's new one, if the Commit has a path.

    Raises:
        ValidationError: with the rule that is broken.
        CredentialError: from ``authenticate``.
    """
    _check_kinds([sent.proposal for sent in proposals], terms)
    updates = [(LeafIndex(sent.sender.index), sent.proposal) for sent in proposals if isinstance(sent.proposal, Update)]
    removes = [LeafIndex(sent.proposal.removed) for sent in proposals if isinstance(sent.proposal, Remove)]
    adds = [sent.proposal for sent in proposals if isinstance(sent.proposal, Add)]
    _check_targets([leaf for leaf, _ in updates], removes, committer)
    changes = next((s.proposal for s in proposals if isinstance(s.proposal, GroupContextExtensions)), None)
    custom = tuple(sent for sent in proposals if isinstance(sent.proposal, CustomProposal))
    if changes is not None or custom:
        leaves = dict(tree.members()) | {leaf: update.leaf_node for leaf, update in updates}
        if path_leaf is not None:
            leaves[committer] = path_leaf
        gone = set(removes)
        staying = [leaf.capabilities for index, leaf in leaves.items() if index not in gone]
        _check_custom(staying, custom)
        if changes is not None:  # first of all (section 12.3): what follows is measured by it
            check_extensions(changes.extensions)
            terms = replace(terms, extensions=changes.extensions)
            for capabilities in staying:
                check_supports(capabilities, terms.extensions)
    for sender, update in updates:
        _check_update(tree, sender, update, terms)
    for add in adds:
        _check_add(add.key_package, terms)
    if len({add.key_package.leaf_node.signature_key for add in adds}) != len(adds):
        raise ValidationError("12.2 the same client twice")
    changed, added = tree.apply(
        [(leaf, update.leaf_node) for leaf, update in updates],
        removes,
        [add.key_package.leaf_node for add in adds],
    )
    return Applied(
        changed,
        terms.extensions,
        added=tuple(added),
        joiners=tuple(add.key_package for add in adds),
        removed=tuple(removes),
        updated=tuple(leaf for leaf, _ in updates),
        psks=_psks(proposals),
        path_required=not proposals
        or any(not isinstance(sent.proposal, Add | PreSharedKey | ReInit | CustomProposal) for sent in proposals),
        reinit=next((sent.proposal for sent in proposals if isinstance(sent.proposal, ReInit)), None),
        custom=custom,
    )


def apply_external(tree: RatchetTree, proposals: Sequence[ProposalOrRef], leaf: LeafNode, terms: Terms) -> Applied:
    """Check an external Commit's list and apply it; its sender is added at the leftmost place, with this leaf.

    Raises:
        ValidationError: with the rule that is broken.
    """
    values = [item.proposal for item in proposals if item.proposal is not None]
    if len(values) != len(proposals):
        raise ValidationError("12.4.3.2 a reference in an external Commit")
    inits = [proposal for proposal in values if isinstance(proposal, ExternalInit)]
    removes = [LeafIndex(proposal.removed) for proposal in values if isinstance(proposal, Remove)]
    if len(inits) != 1:
        raise ValidationError("12.2 one ExternalInit")
    if len(removes) > 1:
        raise ValidationError("12.2 more than one Remove in an external Commit")
    if not all(isinstance(proposal, ExternalInit | Remove | PreSharedKey) for proposal in values):
        raise ValidationError("12.2 proposal in an external Commit")
    _check_psks(values, terms)
    changed, added = tree.apply([], removes, [leaf])
    psks = tuple(proposal.psk for proposal in values if isinstance(proposal, PreSharedKey))
    return Applied(
        changed,
        terms.extensions,
        added=tuple(added),
        removed=tuple(removes),
        psks=psks,
        external_init=inits[0].kem_output,
    )


def _psks(proposals: Sequence[SentProposal]) -> tuple[PreSharedKeyID, ...]:
    return tuple(sent.proposal.psk for sent in proposals if isinstance(sent.proposal, PreSharedKey))


def _check_kinds(proposals: Sequence[Proposal], terms: Terms) -> None:
    if any(isinstance(proposal, ExternalInit) for proposal in proposals):
        raise ValidationError("12.2 ExternalInit")
    for proposal in [proposal for proposal in proposals if isinstance(proposal, ReInit)]:
        if len(proposals) > 1:
            raise ValidationError("12.2 ReInit and something else")
        check_extensions(proposal.extensions)
        if proposal.version < MLS10:
            raise ValidationError("12.1.5 version of a ReInit")
    if sum(isinstance(proposal, GroupContextExtensions) for proposal in proposals) > 1:
        raise ValidationError("12.2 GroupContextExtensions twice")
    _check_psks(proposals, terms)


def _check_psks(proposals: Sequence[Proposal], terms: Terms) -> None:
    check_psks(
        [proposal.psk for proposal in proposals if isinstance(proposal, PreSharedKey)], terms.suite, terms.usages
    )


def check_psks(psks: Sequence[PreSharedKeyID], suite: CipherSuite, usages: Collection[int]) -> None:
    """Check the PSKs of a Commit, or of a Welcome, which has the same (sections 12.1.4 and 12.2)."""
    if len(set(psks)) != len(psks):
        raise ValidationError("12.2 PreSharedKey twice")
    for psk in psks:
        if len(psk.psk_nonce) != suite.hash_bytes:
            raise ValidationError("12.1.4 PSK nonce")
        if psk.psk_type != EXTERNAL and psk.usage not in usages:
            raise ValidationError("12.1.4 PSK usage")


def _check_custom(staying: Sequence[Capabilities], custom: Sequence[SentProposal]) -> None:
    kinds = {sent.proposal.type for sent in custom}
    if not all(kinds.issubset(capabilities.proposals) for capabilities in staying):
        raise ValidationError("12.2 a proposal that not all members support")


def _check_targets(updates: list[LeafIndex], removes: list[LeafIndex], committer: LeafIndex) -> None:
    if committer in updates:
        raise ValidationError("12.2 Update by the committer")
    if committer in removes:
        raise ValidationError("12.2 Remove of the committer")
    if len({*updates, *removes}) != len(updates) + len(removes):
        raise ValidationError("12.2 one leaf twice")


def _check_add(package: KeyPackage, terms: Terms) -> None:
    check_key_package(package, terms.suite.number)
    check_leaf(package.leaf_node, terms.suite, terms.extensions)
    check_lifetime(package.leaf_node, longest=terms.longest, now=terms.now)
    terms.authenticate(package.leaf_node, None)


def _check_update(tree: RatchetTree, leaf: LeafIndex, update: Update, terms: Terms) -> None:
    old, new = tree.occupied_leaf(leaf), update.leaf_node
    if new.source != SOURCE_UPDATE:
        raise ValidationError("7.3 leaf of an Update")
    if new.encryption_key == old.encryption_key:
        raise ValidationError("7.3 new encryption key")
    check_leaf(new, terms.suite, terms.extensions)
    if not new.verify(terms.group_id, leaf):
        raise ValidationError("7.3 leaf signature")
    terms.authenticate(new, old)
