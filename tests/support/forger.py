"""Messages of a member who obeys no rule: signed, authenticated and encrypted as they should be, whatever they say."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from restante_crypto import primitives
from restante_crypto.mls import (
    Add,
    Group,
    GroupContextExtensions,
    KeyPackage,
    KeyPackageBundle,
    LeafNode,
    PreSharedKey,
    Proposal,
    Protected,
    Remove,
    SignatureKeyPair,
    Update,
    codec,
    commits,
    external,
    key_schedule,
    labels,
    public_message,
    treekem,
    welcome,
)
from restante_crypto.mls.framing import (
    CONTENT_COMMIT,
    CONTENT_PROPOSAL,
    SENDER_NEW_MEMBER_COMMIT,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    Commit,
    Content,
    FramedContent,
    Sender,
)
from restante_crypto.mls.leaf_node import SOURCE_COMMIT
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposal_list import Applied
from restante_crypto.mls.proposals import ExternalInit, ProposalOrRef
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath
from restante_crypto.mls.welcome import GroupInfo, GroupSecrets
from restante_crypto.suites import SUITES

Items = Sequence[Proposal | ProposalOrRef]


@dataclass(frozen=True)
class Forged:
    """A Commit, the group that its maker makes of it, and the Welcome."""

    message: bytes
    group: Group
    welcome: bytes | None


@dataclass(frozen=True, kw_only=True)
class Path:
    """What to change in the path.

    Attributes:
        leaf: fields of the new leaf, which is signed with them.
        signer: of the new leaf, if not the committer.
        keys: the public keys of the path, before everything that follows from them.
        after: the finished path, after everything was signed.
    """

    leaf: Mapping[str, object] | None = None
    signer: SignatureKeyPair | None = None
    keys: Callable[[list[bytes]], list[bytes]] = list
    after: Callable[[UpdatePath], UpdatePath] = lambda path: path


HONEST = Path()


def commit(
    group: Group, items: Items = (), *, path: Path | None = HONEST, psks: Mapping[bytes, bytes] | None = None
) -> Forged:
    """A Commit of these proposals, as far as they can be applied at all."""
    own = LeafIndex(group.own_index)
    values = tuple(item if isinstance(item, ProposalOrRef) else ProposalOrRef(item) for item in items)
    applied = _applied(group, values, own)
    leaf = group.tree.occupied_leaf(own)
    made = _without_path(group, applied, leaf) if path is None else _path(group, applied.tree, own, leaf, path)
    return _finish(group, made, applied, values, path, group.secrets.init_secret, psks or {})


def _applied(group: Group, items: tuple[ProposalOrRef, ...], own: LeafIndex) -> Applied:
    sent = [
        (item.proposal, int(own))
        if item.proposal is not None
        else (group.proposals[item.reference].proposal, group.proposals[item.reference].sender.index)
        for item in items
    ]
    there = {index for index, _ in group.tree.members()}
    removes = [
        LeafIndex(each) for each in sorted({p.removed for p, _ in sent if isinstance(p, Remove)} & there - {own})
    ]
    updates = {LeafIndex(who): each.leaf_node for each, who in sent if isinstance(each, Update)}
    adds = [each.key_package for each, _ in sent if isinstance(each, Add)]
    tree, added = group.tree.apply(
        [(who, leaf) for who, leaf in updates.items() if who not in removes],
        removes,
        [package.leaf_node for package in adds],
    )
    changes = [each.extensions for each, _ in sent if isinstance(each, GroupContextExtensions)]
    return Applied(
        tree,
        changes[-1] if changes else group.extensions,
        added=tuple(added),
        joiners=tuple(adds),
        removed=tuple(removes),
        psks=tuple(each.psk for each, _ in sent if isinstance(each, PreSharedKey)),
    )


def _without_path(group: Group, applied: Applied, leaf: LeafNode) -> treekem.OwnPath:
    zeros = bytes(group.keys.suite.hash_bytes)
    return treekem.OwnPath(applied.tree, leaf, (), group.private_keys, (), (), zeros)


def _path(group: Group, tree: RatchetTree, own: LeafIndex, leaf: LeafNode, path: Path) -> treekem.OwnPath:
    made = treekem.make_path(tree, own, leaf, signer=group.signer, group_id=group.group_id, random=os.urandom)
    keys = path.keys(list(made.public_keys))
    nodes, parent_hash = treekem.path_nodes(tree, own, made.path, keys)
    fields = {"parent_hash": parent_hash, **(path.leaf or {})}
    unsigned = replace(made.leaf_node, raw=b"", **fields)  # type: ignore[arg-type]  # by name
    signed = unsigned.sign(path.signer or group.signer, group.group_id, own)
    changed = tree.with_nodes({**nodes, NodeIndex(2 * own): signed})
    return replace(made, tree=changed, leaf_node=signed, public_keys=tuple(keys))


def _finish(
    group: Group,
    made: treekem.OwnPath,
    applied: Applied,
    items: tuple[ProposalOrRef, ...],
    path: Path | None,
    init_secret: bytes,
    psks: Mapping[bytes, bytes],
) -> Forged:
    outside = bool(applied.external_init)
    context, sealed = commits._provisional(group.context, made, applied, os.urandom)
    body = Commit(items, None if path is None else replace(path.after(sealed), raw=b""))
    if outside:
        sender = Sender(SENDER_NEW_MEMBER_COMMIT)
        content = group.frame(CONTENT_COMMIT, body, b"", wire_format=WIRE_PUBLIC_MESSAGE, sender=sender)
    else:
        content = group.frame(CONTENT_COMMIT, body, b"")
    following = commits._follow_own(group, made, context, content, applied, init_secret, psks)
    confirmed = replace(content, confirmation_tag=following.tag)
    if outside:
        return Forged(MLSMessage(public_message.of_an_outsider(confirmed)).encode(), following.group, None)
    _, message = group.keys.protect(confirmed, os.urandom)
    try:
        letter = commits._welcome(following, made, applied, os.urandom, with_tree=True) if applied.joiners else None
    except Exception:  # noqa: BLE001 -- a KeyPackage that is none
        letter = None
    return Forged(message, following.group, letter)


def external_commit(
    group: Group,
    signer: SignatureKeyPair,
    alter: Callable[[list[ProposalOrRef]], list[ProposalOrRef]] = lambda items: items,
    *,
    leaf: LeafNode,
    path: Path | None = HONEST,
    removes: Collection[int] = (),
) -> Forged:
    """An external Commit to the group that a member sees; ``alter`` changes its proposals."""
    info = MLSMessage.parse(group.group_info()).body
    assert isinstance(info, GroupInfo)
    suite = group.keys.suite
    encapsulation, init_secret = external.encapsulate(suite, external.external_key(info), os.urandom)
    unsigned = replace(leaf, source=SOURCE_COMMIT, lifetime=None, raw=b"")
    tree, added = group.tree.apply([], [LeafIndex(each) for each in removes], [unsigned])
    outside = replace(group, signer=signer)
    made = _path(outside, tree, added[0], unsigned, path or HONEST)
    items = [ProposalOrRef(ExternalInit(encapsulation)), *(ProposalOrRef(Remove(each)) for each in removes)]
    applied = Applied(tree, group.extensions, tuple(added), external_init=encapsulation)
    return _finish(outside, made, applied, tuple(alter(items)), path, init_secret, {})


def propose(group: Group, proposal: Proposal) -> Protected:
    """A proposal that is not looked at, and of an Update keeps no key."""
    return group._propose(proposal, None, os.urandom, b"", public=False)


def from_outside(
    group: Group, sender: Sender, content: Content, signer: SignatureKeyPair, kind: int = CONTENT_PROPOSAL
) -> bytes:
    """A message of somebody who is no member."""
    framed = FramedContent(group.group_id, group.epoch, sender, b"", kind, content)
    signed = AuthenticatedContent(WIRE_PUBLIC_MESSAGE, framed).sign(signer.private, group.context.encode())
    return MLSMessage(public_message.of_an_outsider(signed)).encode()


def resigned(
    package: KeyPackage,
    signer: SignatureKeyPair,
    leaf: Mapping[str, object] | None = None,
    *,
    sign_leaf: bool = True,
    **fields: object,
) -> KeyPackage:
    """A KeyPackage with these fields, and these of its leaf, signed again."""
    changed = replace(package.leaf_node, raw=b"", **(leaf or {}))  # type: ignore[arg-type]  # by name
    changed = changed.sign(signer) if sign_leaf else changed
    unsigned = replace(package, **{"leaf_node": changed, **fields})  # type: ignore[arg-type]  # by name
    return replace(unsigned, signature=labels.sign_with_label(signer.private, b"KeyPackageTBS", unsigned._body()))


def rewritten(
    letter: bytes,
    bundle: KeyPackageBundle,
    signer: SignatureKeyPair,
    *,
    info: Callable[[GroupInfo], GroupInfo] = lambda info: info,
    secrets: Callable[[GroupSecrets], GroupSecrets] = lambda secrets: secrets,
    psk_secret: bytes | None = None,
    signature: bytes | None = None,
) -> bytes:
    """A Welcome for one joiner with another GroupInfo, signed by this member, or other GroupSecrets."""
    body = MLSMessage.parse(letter).body
    assert isinstance(body, welcome.Welcome)
    suite = SUITES[body.suite]
    item = next(each for each in body.secrets if each.new_member == bundle.key_package.ref())
    sealed = item.encrypted_group_secrets
    plain = labels.decrypt_with_label(
        suite, bundle.init_private, b"Welcome", body.encrypted_group_info, sealed.kem_output, sealed.ciphertext
    )
    opened = codec.parse(GroupSecrets, plain)
    member = key_schedule.member_secret(suite, opened.joiner_secret, psk_secret or bytes(suite.hash_bytes))
    key, nonce = key_schedule.welcome_key_nonce(suite, member)
    known = codec.parse(GroupInfo, primitives.aead_open(suite.aead, key, nonce, body.encrypted_group_info, b""))
    changed = info(known).sign(signer.private)
    changed = changed if signature is None else replace(changed, signature=signature)
    encrypted = primitives.aead_seal(suite.aead, key, nonce, changed.encode(), b"")
    again = labels.encrypt_with_label(
        suite, bundle.key_package.init_key, b"Welcome", encrypted, secrets(opened).encode(), os.urandom
    )
    item = replace(item, encrypted_group_secrets=HPKECiphertext(*again))
    return MLSMessage(replace(body, secrets=(item,), encrypted_group_info=encrypted)).encode()
