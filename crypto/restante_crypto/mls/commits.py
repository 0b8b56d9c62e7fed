"""Commits: staging one's own, and following another's (RFC 9420 section 12.4), regular and external ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from restante_crypto import hpke, primitives
from restante_crypto.mls import (
    codec,
    grease,
    key_schedule,
    labels,
    proposal_list,
    public_message,
    tree_math,
    treekem,
    welcome,
)
from restante_crypto.mls.epoch import Member
from restante_crypto.mls.errors import PathError, StateError, ValidationError
from restante_crypto.mls.extensions import MAX_LIFETIME, RATCHET_TREE, Capabilities, Extension, Extensions
from restante_crypto.mls.framing import (
    CONTENT_COMMIT,
    SENDER_MEMBER,
    SENDER_NEW_MEMBER_COMMIT,
    WIRE_PRIVATE_MESSAGE,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    Commit,
    Sender,
    confirmed_transcript_hash,
    interim_transcript_hash,
)
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, LeafNode
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposal_list import Applied, SentProposal, Terms
from restante_crypto.mls.proposals import ExternalInit, Proposal, ProposalOrRef
from restante_crypto.mls.psk import RESUMPTION, USAGE_APPLICATION, PreSharedKeyID, psk_secret
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.tree_validation import Authenticate, check_leaf, check_members, check_path_keys
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath
from restante_crypto.primitives import Random
from restante_crypto.suites import CipherSuite

if TYPE_CHECKING:
    from restante_crypto.mls.group import Group

_WELCOME = b"Welcome"


@dataclass(frozen=True, slots=True)
class Policy:
    """What an application takes beyond what members do to each other; nothing, unless it says so.

    Attributes:
        external_commits: somebody with a GroupInfo may let themselves in; ``authenticate`` still says who.
        resyncs: an external Commit is taken that removes a leaf; ``authenticate(new, old)`` says if it is its own.
        external_proposals: those named by the extension ``external_senders`` may propose, and strangers to be added.
        reinit: the group may end, to begin again with other parameters.
        custom: types of proposals that are not the RFC's.
        max_lifetime: seconds that a leaf's lifetime may last (section 7.2): one number for all members.
        psk_epochs: a Commit may mix in this group's resumption PSKs of these epochs, which all members hold, and no
            other PSK; None: every PSK that is at hand.
    """

    external_commits: bool = False
    resyncs: bool = False
    external_proposals: bool = False
    reinit: bool = False
    custom: Collection[int] = ()
    max_lifetime: int = MAX_LIFETIME
    psk_epochs: Collection[int] | None = None


@dataclass(frozen=True, slots=True)
class StagedCommit:
    """A Commit of ours that nobody has accepted yet.

    Attributes:
        message: the MLSMessage to send.
        welcome: the MLSMessage for all that it adds, or None.
        current: the group in its present epoch, with the message key used: keep it whatever happens.
        group: the group of the next epoch: replace the present one once the Commit is accepted.
        added: leaf indexes.
        removed: members.
    """

    message: bytes
    welcome: bytes | None
    current: "Group"
    group: "Group"
    added: tuple[int, ...]
    removed: tuple[Member, ...]

    @property
    def welcomes(self) -> tuple[bytes, ...]:
        """A Welcome for each of ``added``, in that order, with nobody else's secrets (section 12.4.3.1)."""
        body = None if self.welcome is None else MLSMessage.parse(self.welcome).body
        if not isinstance(body, welcome.Welcome):
            return ()
        return tuple(MLSMessage(replace(body, secrets=(each,))).encode() for each in body.secrets)


@dataclass(frozen=True, slots=True)
class CommitProcessed:
    """A Commit of a member, or of one who becomes one, checked; it holds once it is accepted for all.

    Attributes:
        group: the next epoch, or None if this member was removed.
        committer: leaf index in the epoch before; of an external Commit in the new one.
        added: members of the new epoch.
        removed: members of the epoch before.
        updated: members of the new epoch with a new leaf, the committer included.
        external: the committer let themselves in, and is in ``added``.
        custom: proposals that are not the RFC's.
    """

    group: "Group | None"
    committer: int
    added: tuple[Member, ...]
    removed: tuple[Member, ...]
    updated: tuple[Member, ...]
    external: bool = False
    custom: tuple[Proposal, ...] = ()


def combine_psks(suite: CipherSuite, ids: Sequence[PreSharedKeyID], psks: Mapping[bytes, bytes]) -> bytes:
    """Combine PSKs, which are looked up by ``psk_id`` (external) or by group id ‖ epoch (resumption)."""
    pairs = []
    for psk in ids:
        secret = psks.get(psk.psk_id or psk.psk_group_id + codec.u64(psk.psk_epoch))
        if secret is None:
            raise StateError("a PSK that is not here")
        pairs.append((psk, secret))
    return psk_secret(suite, pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a Commit of ours is to be: see ``Group.commit``."""

    proposals: Sequence[Proposal]
    references: Sequence[bytes]
    leaf_extensions: Extensions | None
    leaf_capabilities: Capabilities | None = None
    authenticated_data: bytes
    psks: Mapping[bytes, bytes]
    authenticate: Authenticate
    public: bool
    tree_in_welcome: bool
    longest: int = MAX_LIFETIME
    now: int | None = None
    usages: Collection[int] = frozenset({USAGE_APPLICATION})


@dataclass(frozen=True, slots=True)
class _Next:
    """The epoch after a Commit: its group, and what a Welcome needs."""

    group: "Group"
    joiner: bytes
    member: bytes
    tag: bytes


def stage(group: "Group", request: Request, random: Random) -> StagedCommit:
    """Stage a Commit with a path (section 12.4.1)."""
    own = LeafIndex(group.own_index)
    items = [ProposalOrRef(proposal) for proposal in request.proposals]
    items += [ProposalOrRef(None, reference) for reference in request.references]
    terms = replace(group.terms(request.authenticate, request.longest), now=request.now, usages=request.usages)
    leaf = group.tree.occupied_leaf(own)
    if request.leaf_extensions is not None or request.leaf_capabilities is not None:
        extensions = leaf.extensions if request.leaf_extensions is None else request.leaf_extensions
        said, extensions = grease.leaf(request.leaf_capabilities or leaf.capabilities, extensions, random)
        leaf = replace(leaf, capabilities=said, extensions=extensions, raw=b"")
    sent = _sent(group, items, own)
    applied = proposal_list.apply(group.tree, sent, committer=own, terms=terms, path_leaf=leaf)
    made = treekem.make_path(applied.tree, own, leaf, signer=group.signer, group_id=group.group_id, random=random)
    check_leaf(made.leaf_node, group.keys.suite, applied.extensions)
    check_members(made.tree)
    context, path = _provisional(group.context, made, applied, random)
    content = group.frame(
        CONTENT_COMMIT,
        Commit(tuple(items), path),
        request.authenticated_data,
        wire_format=WIRE_PUBLIC_MESSAGE if request.public else WIRE_PRIVATE_MESSAGE,
    )
    following = _follow_own(group, made, context, content, applied, group.secrets.init_secret, request.psks)
    confirmed = replace(content, confirmation_tag=following.tag)
    if request.public:
        keys, message = group.keys, group.keys.publish(confirmed)
    else:
        keys, message = group.keys.protect(confirmed, random)
    letter = _welcome(following, made, applied, random, with_tree=request.tree_in_welcome) if applied.added else None
    return StagedCommit(
        message,
        letter,
        replace(group, keys=keys),
        following.group,
        applied.added,
        _members(group.tree, applied.removed),
    )


def _provisional(
    context: GroupContext, made: treekem.OwnPath, applied: Applied, random: Random
) -> tuple[GroupContext, UpdatePath]:
    provisional = replace(
        context, epoch=context.epoch + 1, tree_hash=made.tree.tree_hash(), extensions=applied.extensions
    )
    new = () if applied.external_init else applied.added
    path = treekem.seal_path(made, provisional.encode(), new, random)
    return provisional, replace(path, raw=path.encode())  # encoded once: it is signed, hashed and sent


def _follow_own(
    group: "Group",
    made: treekem.OwnPath,
    provisional: GroupContext,
    content: AuthenticatedContent,
    applied: Applied,
    init_secret: bytes,
    psks: Mapping[bytes, bytes],
) -> _Next:
    suite = made.tree.suite
    confirmed = confirmed_transcript_hash(suite, group.interim_transcript_hash, content)
    context = replace(provisional, confirmed_transcript_hash=confirmed)
    joiner = key_schedule.joiner_secret(suite, init_secret, made.commit_secret, context.encode())
    member = key_schedule.member_secret(suite, joiner, combine_psks(suite, applied.psks, psks))
    secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context.encode())
    tag = primitives.hmac(suite.hash_name, secrets.confirmation_key, confirmed)
    own = applied.added[0] if applied.external_init else LeafIndex(group.own_index)
    following = group.in_epoch(
        made.tree,
        context,
        secrets,
        encryption_secret,
        interim=interim_transcript_hash(suite, confirmed, tag),
        own_index=own,
        private_keys=made.private_keys,
        signer=group.signer,
        reinit=applied.reinit,
    )
    return _Next(following, joiner, member, tag)


def stage_external(
    outside: "Group", leaf: LeafNode, external: tuple[bytes, bytes], request: Request, random: Random
) -> tuple[bytes, "Group"]:
    """Stage an external Commit (section 12.4.3.2); return its message and the group after it.

    Args:
        outside: the group as its GroupInfo shows it; it has no secrets.
        leaf: who joins, without an encryption key.
        external: encapsulation and init secret.
        request: Removes, PreSharedKeys, and the Commit's other parts.
        random: for keys and encapsulations.
    """
    encapsulation, init_secret = external
    commit_items = tuple(ProposalOrRef(each) for each in (ExternalInit(encapsulation), *request.proposals))
    terms = outside.terms(request.authenticate, request.longest)
    applied = proposal_list.apply_external(outside.tree, commit_items, leaf, terms)
    own = applied.added[0]
    made = treekem.make_path(applied.tree, own, leaf, signer=outside.signer, group_id=outside.group_id, random=random)
    check_leaf(made.leaf_node, outside.keys.suite, applied.extensions)
    check_members(made.tree)
    context, path = _provisional(outside.context, made, applied, random)
    content = outside.frame(
        CONTENT_COMMIT,
        Commit(commit_items, path),
        request.authenticated_data,
        wire_format=WIRE_PUBLIC_MESSAGE,
        sender=Sender(SENDER_NEW_MEMBER_COMMIT),
    )
    following = _follow_own(outside, made, context, content, applied, init_secret, request.psks)
    confirmed = replace(content, confirmation_tag=following.tag)
    return MLSMessage(public_message.of_an_outsider(confirmed)).encode(), following.group


def _welcome(following: _Next, made: treekem.OwnPath, applied: Applied, random: Random, *, with_tree: bool) -> bytes:
    group = following.group
    suite = group.keys.suite
    tree = (Extension(RATCHET_TREE, group.tree.encode()),) if with_tree else ()
    info = welcome.GroupInfo(group.context, (*tree, grease.extension(random)), following.tag, group.own_index).sign(
        group.signer.private
    )
    key, nonce = key_schedule.welcome_key_nonce(suite, following.member)
    encrypted_info = primitives.aead_seal(suite.aead, key, nonce, info.encode(), b"")
    hpke_context = labels.encryption_context(suite, _WELCOME, encrypted_info)
    secrets = []
    for index, package in zip(applied.added, applied.joiners, strict=True):
        path_secret = next(
            (
                secret
                for (node, _), secret in zip(made.path, made.path_secrets, strict=True)
                if index in tree_math.subtree_leaves(node)
            ),
            None,
        )
        plain = welcome.GroupSecrets(following.joiner, path_secret, applied.psks).encode()
        sealed = hpke.seal(suite, package.init_key, hpke_context, b"", plain, random)  # its key was checked
        secrets.append(welcome.EncryptedGroupSecrets(package.ref(), HPKECiphertext(*sealed)))
    return MLSMessage(welcome.Welcome(suite.number, tuple(secrets), encrypted_info)).encode()


def follow(
    group: "Group",
    content: AuthenticatedContent,
    commit: Commit,
    *,
    authenticate: Authenticate,
    psks: Mapping[bytes, bytes],
    policy: Policy,
) -> CommitProcessed:
    """Check a Commit whose signature fits, and follow it (sections 12.4.2 and 12.4.3.2)."""
    suite, terms, own = group.keys.suite, group.terms(authenticate, policy.max_lifetime), None
    external = content.content.sender.type == SENDER_NEW_MEMBER_COMMIT
    if external and commit.path is not None:  # it has one, or there was no key to verify it with
        applied = proposal_list.apply_external(group.tree, commit.proposals, commit.path.leaf_node, terms)
        committer = applied.added[0]
        if not applied.removed and not policy.external_commits:
            raise ValidationError("an external Commit of somebody new, which the application does not take")
        old = group.tree.leaf(applied.removed[0]) if applied.removed else None
        init_secret = group.external_init_secret(applied.external_init)
    else:
        committer = LeafIndex(content.content.sender.index)
        sent = _sent(group, commit.proposals, committer)
        path_leaf = None if commit.path is None else commit.path.leaf_node
        applied = proposal_list.apply(group.tree, sent, committer=committer, terms=terms, path_leaf=path_leaf)
        old, init_secret = group.tree.occupied_leaf(committer), group.secrets.init_secret
        own = next((each.own for each in sent if each.own is not None), None)
    _check_policy(applied, group.group_id, policy)
    tree = applied.tree
    if commit.path is not None:
        _check_path_leaf(commit.path.leaf_node, committer, old, replace(terms, extensions=applied.extensions))
        check_path_keys(tree, committer, commit.path)
        tree = treekem.merge_path(tree, committer, commit.path)
    elif applied.path_required:
        raise ValidationError("12.4 path required")
    check_members(tree)
    context = replace(group.context, epoch=group.epoch + 1, tree_hash=tree.tree_hash(), extensions=applied.extensions)
    removed = _members(group.tree, applied.removed)
    if group.own_index in applied.removed:
        return CommitProcessed(None, committer, (), removed, (), external)
    private_keys = {index: key for index, key in group.private_keys.items() if _still_holds(group.tree, tree, index)}
    if own is not None:
        private_keys[tree_math.leaf_node_index(LeafIndex(group.own_index))] = own.leaf_private
    commit_secret = bytes(suite.hash_bytes)
    if commit.path is not None:
        fresh, commit_secret = treekem.open_path(
            tree,
            committer,
            commit.path,
            receiver=LeafIndex(group.own_index),
            private_keys=private_keys,
            context=context.encode(),
            new_leaves=() if external else applied.added,
        )
        private_keys.update(fresh)
    confirmed = confirmed_transcript_hash(suite, group.interim_transcript_hash, content)
    context = replace(context, confirmed_transcript_hash=confirmed)
    joiner = key_schedule.joiner_secret(suite, init_secret, commit_secret, context.encode())
    member = key_schedule.member_secret(suite, joiner, combine_psks(suite, applied.psks, psks))
    secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context.encode())
    tag = primitives.hmac(suite.hash_name, secrets.confirmation_key, confirmed)
    if not primitives.equal(tag, content.confirmation_tag):
        raise PathError("confirmation tag")
    following = group.in_epoch(
        tree,
        context,
        secrets,
        encryption_secret,
        interim=interim_transcript_hash(suite, confirmed, tag),
        own_index=group.own_index,
        private_keys=private_keys,
        signer=group.signer if own is None else own.signer,
        reinit=applied.reinit,
    )
    changed = list(applied.updated) if external or commit.path is None else [*applied.updated, committer]
    return CommitProcessed(
        following,
        committer,
        _members(tree, applied.added),
        removed,
        _members(tree, changed),
        external,
        tuple(sent.proposal for sent in applied.custom),
    )


def _sent(group: "Group", items: Sequence[ProposalOrRef], committer: LeafIndex) -> list[SentProposal]:
    """Return the proposals of a Commit's list with who sent each."""
    found = []
    for item in items:
        if item.proposal is not None:
            found.append(SentProposal(item.proposal, Sender(SENDER_MEMBER, committer)))
            continue
        known = group.proposals.get(item.reference)
        if known is None:
            raise StateError("a proposal that did not arrive")
        found.append(known)
    return found


def _check_policy(applied: Applied, group_id: bytes, policy: Policy) -> None:
    if applied.reinit is not None and not policy.reinit:
        raise ValidationError("ReInit, which the application does not follow")
    if not {sent.proposal.type for sent in applied.custom} <= set(policy.custom):
        raise ValidationError("a proposal that the application does not know")
    if policy.psk_epochs is not None and not all(
        psk.psk_type == RESUMPTION and psk.psk_group_id == group_id and psk.psk_epoch in policy.psk_epochs
        for psk in applied.psks
    ):
        raise ValidationError("a PSK that not all members hold")


def _check_path_leaf(new: LeafNode, committer: LeafIndex, old: LeafNode | None, terms: Terms) -> None:
    if new.source != SOURCE_COMMIT:
        raise ValidationError("7.3 leaf of a Commit")
    if old is not None and new.encryption_key == old.encryption_key:
        raise ValidationError("7.3 new encryption key")
    check_leaf(new, terms.suite, terms.extensions)
    if not new.verify(terms.group_id, committer):
        raise ValidationError("7.3 leaf signature")
    terms.authenticate(new, old)


def _still_holds(before: RatchetTree, after: RatchetTree, index: NodeIndex) -> bool:
    if index >= 2 * after.leaves - 1:
        return False
    old, new = before.node(index), after.node(index)
    return old is not None and new is not None and old.encryption_key == new.encryption_key


def _members(tree: RatchetTree, leaves: Sequence[LeafIndex]) -> tuple[Member, ...]:
    return tuple(Member(index, leaf) for index in leaves if (leaf := tree.leaf(index)) is not None)
