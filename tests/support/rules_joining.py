"""Welcomes that break rules of RFC 9420. See support/rules.py."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import restante_crypto.mls
from restante_crypto.mls import (
    Add,
    Capabilities,
    Extension,
    Group,
    KeyPackageBundle,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
)
from restante_crypto.mls.extensions import RATCHET_TREE
from restante_crypto.mls.psk import EXTERNAL
from restante_crypto.mls.ratchet_tree import Node, ParentNode, RatchetTree
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.mls.welcome import GroupInfo, GroupSecrets
from restante_crypto.suites import SUITES
from support import forger
from support.forger import Path
from support.mls import SUITE, signature_key_pair
from support.rules import CAPABLE, PSK, Setting, authenticate, bundle_of, party
from support.rules_commits import LeafChange


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What to change for a joiner: leaves before the Commit that adds it, then GroupInfo and GroupSecrets."""

    leaves: Mapping[int, LeafChange] = field(default_factory=dict)
    node: Mapping[int, Callable[[ParentNode], ParentNode]] = field(default_factory=dict)
    info: Callable[[GroupInfo], GroupInfo] = lambda info: info
    secrets: Callable[[GroupSecrets], GroupSecrets] = lambda secrets: secrets
    signer: int = 0
    signature: bytes | None = None
    path: Path = forger.HONEST
    groups: Collection[bytes] = ()
    psk: bool = False
    capabilities: Capabilities = CAPABLE
    extensions: tuple[Extension, ...] | None = None
    added: KeyPackageBundle | None = None
    other: bool = False


def joins(setting: Setting, letter: Letter) -> None:
    """A Welcome that was changed so."""
    groups = party(setting)
    maker, signer = groups[0], signature_key_pair()
    changed: dict[NodeIndex, Node] = {}
    for index, change in letter.leaves.items():
        values, key = change(groups, index)
        leaf = replace(groups[0].tree.occupied_leaf(index), raw=b"", **{"extensions": (), **values})  # type: ignore[arg-type]  # by name
        changed[NodeIndex(2 * index)] = leaf.sign(key or groups[index].signer, b"group", index)
    if changed:
        changed |= dict.fromkeys(index for index, _ in maker.tree.parents())
        maker = replace(maker, tree=maker.tree.with_nodes(changed))
    if letter.extensions is not None:
        maker = replace(maker, context=replace(maker.context, extensions=letter.extensions))
    bundle = bundle_of(signer, letter.capabilities)
    psk = PreSharedKeyID(EXTERNAL, bytes(32), psk_id=b"shared")
    items: list[Proposal] = [Add(bundle.key_package), *([PreSharedKey(psk)] if letter.psk else [])]
    forged = forger.commit(maker, items, psks=PSK, path=letter.path)
    assert forged.welcome is not None

    def info(known: GroupInfo) -> GroupInfo:
        if letter.node:
            tree = forged.group.tree
            for index, alter in letter.node.items():
                parent = tree.node(NodeIndex(index))
                assert isinstance(parent, ParentNode)
                tree = tree.with_nodes({NodeIndex(index): alter(parent)})
            known = with_tree(tree)(known)
        return letter.info(known)

    secret = restante_crypto.mls.psk.psk_secret(SUITES[SUITE], [(psk, b"secret")]) if letter.psk else None
    message = forger.rewritten(
        forged.welcome,
        bundle,
        groups[letter.signer].signer,
        info=info,
        secrets=letter.secrets,
        psk_secret=secret,
        signature=letter.signature,
    )
    joined = Group.join(message, bundle, signer=signer, authenticate=authenticate, psks=PSK, groups=letter.groups).group
    assert joined.epoch_authenticator == forged.group.epoch_authenticator


def with_tree(tree: RatchetTree) -> Callable[[GroupInfo], GroupInfo]:
    return lambda info: replace(
        info,
        context=replace(info.context, tree_hash=tree.tree_hash()),
        extensions=(Extension(RATCHET_TREE, tree.encode()),),
    )


def without_the_joiner(info: GroupInfo) -> GroupInfo:
    return with_tree(party(Setting())[0].tree)(replace(info))


def context(**changes: object) -> Callable[[GroupInfo], GroupInfo]:
    return lambda info: replace(info, context=replace(info.context, **changes))  # type: ignore[arg-type]  # by name


def more(*extensions: Extension) -> Callable[[GroupInfo], GroupInfo]:
    return lambda info: replace(info, extensions=(*info.extensions, *extensions))


def listing(*leaves: int) -> Callable[[ParentNode], ParentNode]:
    return lambda parent: replace(parent, unmerged_leaves=leaves)
