"""Every rule of RFC 9420 (sections 7.3, 8.4, 10.1, 12.1 to 12.4, 13.4) against a message that breaks it alone.

``TABLE`` has for each rule what is forged, and the same forgery unbroken. Both are processed by a member who did not
make them; the unbroken one is followed to the same epoch, so that nothing but the rule can be the reason.
"""

import ast
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path as File
from typing import Any, Final

import pytest

import restante_crypto.mls
from restante_crypto.mls import (
    Add,
    Capabilities,
    CommitProcessed,
    Credential,
    CredentialError,
    CustomProposal,
    Extension,
    ExternalSender,
    Group,
    GroupContextExtensions,
    KeyPackage,
    KeyPackageBundle,
    LeafNode,
    Lifetime,
    MLSError,
    PathError,
    Policy,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
    ProposalReceived,
    ReInit,
    Remove,
    SignatureKeyPair,
    UnprotectError,
    Update,
    ValidationError,
    create_key_package,
    encode_external_senders,
)
from restante_crypto.mls.extensions import (
    EXTERNAL_PUB,
    MAX_LIFETIME,
    RATCHET_TREE,
    REQUIRED_CAPABILITIES,
    RequiredCapabilities,
)
from restante_crypto.mls.framing import (
    SENDER_EXTERNAL,
    SENDER_NEW_MEMBER_PROPOSAL,
    Sender,
)
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, SOURCE_UPDATE
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import ExternalInit, ProposalOrRef
from restante_crypto.mls.psk import EXTERNAL, RESUMPTION
from restante_crypto.mls.ratchet_tree import Node, ParentNode, RatchetTree
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath
from restante_crypto.mls.welcome import GroupInfo, GroupSecrets
from restante_crypto.suites import SUITES
from support import forger
from support.forger import Path
from support.mls import ALWAYS, SUITE, signature_key_pair

CAPABLE: Final = Capabilities(suites=(1, SUITE), extensions=(0xF1A0,), proposals=(0xF001,), credentials=(1, 3))
MEMBER: Final = Credential.basic(b"member")
OTHER: Final = Credential(3, b"of another type")
IMPOSTOR: Final = Credential.basic(b"impostor")
KNOWN: Final = Extension(0xF1A0, b"known")
UNKNOWN: Final = Extension(0xF1A9, b"unknown")
PSK: Final = {b"shared": b"secret"}
TAKES: Final = Policy(external_commits=True, external_proposals=True, reinit=True, custom=(0xF001,))
SERVER: Final = signature_key_pair()
SMALL: Final = bytes(32)  # a key of small order: everybody knows its secrets


def authenticate(new: LeafNode, _old: LeafNode | None) -> None:
    if new.credential == IMPOSTOR:
        raise CredentialError("a credential that the application refuses")


def required(
    extensions: tuple[int, ...] = (), proposals: tuple[int, ...] = (), credentials: tuple[int, ...] = ()
) -> Extension:
    return Extension(REQUIRED_CAPABILITIES, RequiredCapabilities(extensions, proposals, credentials).encode())


REQUIRED: Final = required((0xF1A0,), (0xF001,), (3,))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a party is like."""

    size: int = 3
    capabilities: Capabilities = CAPABLE
    credential: Credential = MEMBER
    extensions: tuple[Extension, ...] = ()
    committed: tuple[int, ...] = ()


def bundle_of(
    signer: SignatureKeyPair, capabilities: Capabilities = CAPABLE, credential: Credential = MEMBER
) -> KeyPackageBundle:
    return create_key_package(
        SUITE, signer=signer, credential=credential, capabilities=capabilities, lifetime=ALWAYS, random=os.urandom
    )


@cache
def party(setting: Setting) -> tuple[Group, ...]:
    """Members in one epoch, by leaf index. Groups are frozen: all tests share them."""
    founder = Group.create(
        SUITE,
        b"group",
        signer=signature_key_pair(),
        credential=setting.credential,
        capabilities=setting.capabilities,
        extensions=setting.extensions,
        random=os.urandom,
    )
    signers = [signature_key_pair() for _ in range(1, setting.size)]
    bundles = [bundle_of(signer, setting.capabilities, setting.credential) for signer in signers]
    staged = founder.commit([Add(bundle.key_package) for bundle in bundles], random=os.urandom)
    groups = [staged.group]
    for bundle, signer in zip(bundles, signers, strict=True):
        assert staged.welcome is not None
        groups.append(Group.join(staged.welcome, bundle, signer=signer, authenticate=authenticate).group)
    for committer in setting.committed:
        message = groups[committer].commit(random=os.urandom)
        groups = [
            message.group if index == committer else followed(group, message.message)
            for index, group in enumerate(groups)
        ]
    return tuple(groups)


def followed(group: Group, message: bytes) -> Group:
    result = group.process(message, authenticate=authenticate, psks=PSK, policy=TAKES)
    assert isinstance(result, CommitProcessed)
    assert result.group is not None
    return result.group


def follow(group: Group, forged: forger.Forged) -> None:
    assert followed(group, forged.message).epoch_authenticator == forged.group.epoch_authenticator


@dataclass(frozen=True)
class Row:
    """A rule's text, what is forged (a function of what breaks it), what is right and what is wrong."""

    rule: str
    forge: Callable[[Any], None]
    right: Any
    wrong: Any
    error: type[MLSError] = ValidationError


# What is forged. Each takes what may be wrong, makes the message, and lets another member process it.

Change = Callable[[tuple[Group, ...], SignatureKeyPair], KeyPackage]


def adds(setting: Setting, change: Change) -> None:
    """A Commit with an Add of this KeyPackage."""
    groups = party(setting)
    package = change(groups, signature_key_pair())
    follow(groups[1], forger.commit(groups[0], [Add(package)], psks=PSK))


def package(
    leaf: Mapping[str, object] | None = None,
    *,
    capabilities: Capabilities = CAPABLE,
    credential: Credential = MEMBER,
    sign_leaf: bool = True,
    **fields: object,
) -> Change:
    """A KeyPackage with such fields, and such fields of its leaf."""

    def make(_groups: tuple[Group, ...], signer: SignatureKeyPair) -> KeyPackage:
        made = bundle_of(signer, capabilities, credential).key_package
        return forger.resigned(made, signer, leaf, sign_leaf=sign_leaf, **fields)

    return make


def same_key_twice(_groups: tuple[Group, ...], signer: SignatureKeyPair) -> KeyPackage:
    made = bundle_of(signer).key_package
    return forger.resigned(made, signer, init_key=made.leaf_node.encryption_key)


def of_a_member(groups: tuple[Group, ...], _signer: SignatureKeyPair) -> KeyPackage:
    return bundle_of(groups[1].signer).key_package


def with_a_members_key(groups: tuple[Group, ...], signer: SignatureKeyPair) -> KeyPackage:
    key = groups[1].tree.occupied_leaf(1).encryption_key
    return forger.resigned(bundle_of(signer).key_package, signer, {"encryption_key": key})


def with_a_parents_key(groups: tuple[Group, ...], signer: SignatureKeyPair) -> KeyPackage:
    other = groups[1].tree.node(NodeIndex(1))  # below which the committer's path is: it is replaced; take the right one
    key = dict(groups[1].tree.parents())[NodeIndex(5)].encryption_key if other is not None else SMALL
    return forger.resigned(bundle_of(signer).key_package, signer, {"encryption_key": key})


LeafChange = Callable[[tuple[Group, ...], int], tuple[dict[str, object], SignatureKeyPair | None]]


def fields(signer: SignatureKeyPair | None = None, **changes: object) -> LeafChange:
    return lambda _groups, _index: (changes, signer)


def capable(**changes: object) -> LeafChange:
    return fields(capabilities=replace(CAPABLE, **changes))  # type: ignore[arg-type]  # by name


def key_of_member_1(groups: tuple[Group, ...], _index: int) -> tuple[dict[str, object], None]:
    return {"encryption_key": groups[1].tree.occupied_leaf(1).encryption_key}, None


def signed_as_member_1(groups: tuple[Group, ...], _index: int) -> tuple[dict[str, object], SignatureKeyPair]:
    return {"signature_key": groups[1].signer.public}, groups[1].signer


def key_as_before(groups: tuple[Group, ...], index: int) -> tuple[dict[str, object], None]:
    return {"encryption_key": groups[index].tree.occupied_leaf(index).encryption_key}, None


def updates(setting: Setting, change: LeafChange, *, signature: bytes | None = None) -> None:
    """A Commit with an Update of member 2 to such a leaf, by reference."""
    groups = list(party(setting))
    sender = groups[2]
    changes, signer = change(party(setting), 2)
    fresh = bundle_of(sender.signer).key_package.leaf_node.encryption_key
    old = replace(sender.tree.occupied_leaf(2), source=SOURCE_UPDATE, lifetime=None, encryption_key=fresh)
    old = replace(old, extensions=(), raw=b"")
    leaf = replace(old, **changes).sign(signer or sender.signer, b"group", 2)  # type: ignore[arg-type]  # by name
    if signature is not None:
        leaf = replace(leaf, signature=signature, raw=b"")
    message = forger.propose(sender, Update(leaf)).message
    references = []
    for index in (0, 1):
        received = groups[index].process(message, authenticate=authenticate)
        assert isinstance(received, ProposalReceived)
        groups[index] = received.group
        references.append(ProposalOrRef(None, received.reference))
    follow(groups[1], forger.commit(groups[0], references[:1]))


def paths(setting: Setting, change: LeafChange) -> None:
    """A Commit whose path has such a leaf."""
    groups = party(setting)
    changes, signer = change(groups, 0)
    follow(groups[1], forger.commit(groups[0], path=Path(leaf={"extensions": (), **changes}, signer=signer)))


def whole_paths(setting: Setting, change: Callable[[tuple[Group, ...]], Path | None]) -> None:
    """A Commit with such a path."""
    groups = party(setting)
    follow(groups[1], forger.commit(groups[0], path=change(groups)))


def after(change: Callable[[UpdatePath], UpdatePath]) -> Callable[[tuple[Group, ...]], Path]:
    return lambda _groups: Path(after=change)


def first(change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda keys: [change(keys[0]), *keys[1:]]


def old_key(node: int) -> Callable[[tuple[Group, ...]], Path]:
    """The first key of the path is that of this node."""

    def make(groups: tuple[Group, ...]) -> Path:
        known = groups[0].tree.node(NodeIndex(node))
        assert known is not None
        return Path(keys=lambda keys: [*keys[:-1], known.encryption_key])

    return make


def unsigned(path: UpdatePath) -> UpdatePath:
    return replace(path, leaf_node=replace(path.leaf_node, signature=bytes(64), raw=b""))


def ciphertexts(change: Callable[[tuple[HPKECiphertext, ...]], tuple[HPKECiphertext, ...]]) -> Callable[..., Any]:
    return after(
        lambda path: replace(
            path,
            nodes=tuple(replace(node, encrypted_path_secret=change(node.encrypted_path_secret)) for node in path.nodes),
        )
    )


def broken(sealed: tuple[HPKECiphertext, ...]) -> tuple[HPKECiphertext, ...]:
    return tuple(replace(each, ciphertext=bytes(48)) for each in sealed)


def lists(setting: Setting, items: forger.Items, *, path: bool = True, psks: Mapping[bytes, bytes] = PSK) -> None:
    """A Commit with these proposals."""
    groups = party(setting)
    follow(groups[1], forger.commit(groups[0], items, path=Path() if path else None, psks=psks))


def without_path(setting: Setting, items: Callable[[tuple[Group, ...]], forger.Items] | None) -> None:
    groups = party(setting)
    good = [Add(bundle_of(signature_key_pair()).key_package)]
    follow(groups[1], forger.commit(groups[0], good if items is None else items(groups), path=None))


def with_update(targets: tuple[str, ...]) -> Callable[[Setting, bool], None]:
    """A Commit with several proposals about member 2 by reference: each sent by itself, or by the committer."""

    def make(setting: Setting, wrong: bool) -> None:
        groups = list(party(setting))
        references: list[ProposalOrRef] = []
        for number, what in enumerate(targets if wrong else targets[:1]):
            sender = 0 if what == "committer" else 2
            old = groups[sender].tree.occupied_leaf(sender)
            fresh = bundle_of(groups[sender].signer).key_package.leaf_node.encryption_key
            leaf = replace(old, source=SOURCE_UPDATE, lifetime=None, encryption_key=fresh, raw=b"", extensions=())
            proposal: Proposal = Remove(2)
            if what != "remove":
                proposal = Update(leaf.sign(groups[sender].signer, b"group", sender))
            proposed = forger.propose(groups[sender], proposal)
            groups[sender] = proposed.group
            for index in {0, 1} - {sender}:
                received = groups[index].process(proposed.message, authenticate=authenticate)
                assert isinstance(received, ProposalReceived)
                groups[index] = received.group
            references.append(ProposalOrRef(None, tuple(groups[1].proposals)[number]))
        follow(groups[1], forger.commit(groups[0], references))

    return make


def by_committer(setting: Setting, wrong: bool) -> None:
    with_update(("committer",) if wrong else ("update",))(setting, True)


# Joining.


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


# Those outside.


@dataclass(frozen=True, kw_only=True)
class Outside:
    """An external Commit: what to change in its leaf, path and proposals."""

    leaf: LeafChange = lambda _groups, _index: ({}, None)
    alter: Callable[[list[ProposalOrRef]], list[ProposalOrRef]] = lambda items: items
    removes: tuple[int, ...] = ()
    path: Path | None = forger.HONEST
    signer: int | None = None
    policy: Policy = TAKES


def lets_in(setting: Setting, outside: Outside) -> None:
    """An external Commit of a stranger, or of member 2 who comes back."""
    groups = party(setting)
    index = 2 if outside.removes else len(groups)
    signer = (
        groups[outside.signer if outside.signer is not None else 2].signer
        if outside.removes or outside.signer is not None
        else signature_key_pair()
    )
    changes, _ = outside.leaf(groups, index)
    path = None if outside.path is None else replace(outside.path, leaf=changes)
    leaf = replace(bundle_of(signer).key_package.leaf_node, extensions=())
    forged = forger.external_commit(groups[0], signer, outside.alter, leaf=leaf, path=path, removes=outside.removes)
    result = groups[1].process(forged.message, authenticate=authenticate, psks=PSK, policy=outside.policy)
    assert isinstance(result, CommitProcessed)
    assert result.group is not None
    if outside == Outside() or outside.removes:
        assert result.group.epoch_authenticator == forged.group.epoch_authenticator


def and_also(*proposals: Proposal) -> Outside:
    return Outside(alter=lambda items: [*items, *(ProposalOrRef(each) for each in proposals)])


def proposes(setting: Setting, message: Callable[[Group], tuple[Sender, Proposal, SignatureKeyPair]]) -> None:
    """A proposal of somebody outside."""
    group = party(setting)[0]
    sender, proposal, signer = message(group)
    result = group.process(
        forger.from_outside(group, sender, proposal, signer), authenticate=authenticate, policy=TAKES
    )
    assert isinstance(result, ProposalReceived)


def shows(setting: Setting, extensions: Callable[[GroupInfo], GroupInfo]) -> None:
    """A GroupInfo by which somebody lets themselves in."""
    group = party(setting)[0]
    info = MLSMessage.parse(group.group_info()).body
    assert isinstance(info, GroupInfo)
    Group.join_externally(
        MLSMessage(extensions(info).sign(group.signer.private)).encode(),
        signer=signature_key_pair(),
        credential=MEMBER,
        capabilities=CAPABLE,
        authenticate=authenticate,
        random=os.urandom,
    )


def without_external_pub(info: GroupInfo) -> GroupInfo:
    return replace(info, extensions=tuple(each for each in info.extensions if each.type != EXTERNAL_PUB))


def small_external_pub(info: GroupInfo) -> GroupInfo:
    return more(Extension(EXTERNAL_PUB, b"\x20" + SMALL))(without_external_pub(info))


# The table.

PLAIN: Final = Setting()
NARROW: Final = Setting(capabilities=replace(CAPABLE, credentials=(1,)))
OTHERS: Final = Setting(credential=OTHER)
EXTENDED: Final = Setting(extensions=(KNOWN,))
DEMANDING: Final = Setting(extensions=(REQUIRED,))
SERVED: Final = Setting(extensions=(encode_external_senders([ExternalSender(SERVER.public, MEMBER)]),))
WIDE: Final = Setting(size=4, committed=(0, 1, 2, 3))
DEEP: Final = Setting(size=15, committed=(12, 8))  # whose next joiner is unmerged in two parents, 27 and 23

honest = package()
same = fields()
NOTHING: Final = Path()


def lacking() -> list[tuple[str, dict[str, tuple[int, ...]]]]:
    return [
        (name, {name: (1,) if name == "credentials" else ()}) for name in ("extensions", "proposals", "credentials")
    ]


def leaf_rows(forge: Callable[[Setting, LeafChange], None], source: str) -> list[Row]:
    """The rules of section 7.3 for a leaf of an Update, of a path, or in the tree of who joins."""
    rows = [
        Row("a credential that the application refuses", partial(forge, PLAIN), same, fields(credential=IMPOSTOR)),
        Row("7.3 protocol version", partial(forge, PLAIN), same, capable(versions=(2,))),
        Row("7.3 cipher suite", partial(forge, PLAIN), same, capable(suites=(1,))),
        Row(
            "7.3 own credential type",
            partial(forge, PLAIN),
            same,
            fields(credential=OTHER, capabilities=replace(CAPABLE, credentials=(1,))),
        ),
        Row("7.3 leaf extensions", partial(forge, PLAIN), fields(extensions=(KNOWN,)), fields(extensions=(UNKNOWN,))),
        Row(
            "13.4 an extension twice",
            partial(forge, PLAIN),
            fields(extensions=(KNOWN,)),
            fields(extensions=(KNOWN, KNOWN)),
        ),
        Row("13.4 group extensions", partial(forge, EXTENDED), same, capable(extensions=())),
        Row("7.3 credential types", partial(forge, NARROW), same, fields(credential=OTHER, capabilities=CAPABLE)),
        Row(
            "7.3 credential types",
            partial(forge, OTHERS),
            same,
            fields(credential=MEMBER, capabilities=replace(CAPABLE, credentials=(1,))),
        ),
        Row("7.3 encryption key", partial(forge, PLAIN), same, fields(encryption_key=SMALL)),
        Row("7.3 unique signature keys", partial(forge, PLAIN), same, signed_as_member_1),
    ]
    rows += [
        Row("7.3 required capabilities", partial(forge, DEMANDING), same, capable(**lack)) for _, lack in lacking()
    ]
    if source:
        kind = SOURCE_COMMIT if source == "an Update" else SOURCE_UPDATE
        rows.append(Row(f"7.3 leaf of {source}", partial(forge, PLAIN), same, fields(source=kind)))
        rows.append(Row("7.3 new encryption key", partial(forge, PLAIN), same, key_as_before))
    return rows


def joining_leaf(setting: Setting, change: LeafChange) -> None:
    joins(setting, Letter(leaves={2: change}))


def add(capabilities: Capabilities = CAPABLE) -> Add:
    return Add(bundle_of(signature_key_pair(), capabilities).key_package)


def psk(nonce: bytes = bytes(32)) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyID(EXTERNAL, nonce, psk_id=b"shared"))


def resumption(usage: int) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyID(RESUMPTION, bytes(32), usage=usage, psk_group_id=b"shared"))


RESUMED: Final = {b"shared" + bytes(8): b"secret"}


def alone_says(items: forger.Items, policy: Policy) -> None:
    groups = party(PLAIN)
    groups[1].process(
        forger.commit(groups[0], items, psks=PSK).message, authenticate=authenticate, policy=policy, psks=PSK
    )


def resumes(items: forger.Items) -> None:
    groups = party(PLAIN)
    message = forger.commit(groups[0], items, psks=RESUMED).message
    groups[1].process(message, authenticate=authenticate, psks=RESUMED)


def twice(*, wrong: bool) -> None:
    signer = signature_key_pair()
    lists(PLAIN, [Add(bundle_of(each).key_package) for each in (signer, signer if wrong else signature_key_pair())])


def asks() -> tuple[Sender, Proposal, SignatureKeyPair]:
    signer = signature_key_pair()
    return Sender(SENDER_NEW_MEMBER_PROPOSAL), Add(bundle_of(signer).key_package), signer


TABLE: Final[list[Row]] = [
    # 10.1 and 7.3: the KeyPackage of an Add.
    Row("10.1 version", partial(adds, PLAIN), honest, package(version=2)),
    Row("10.1 cipher suite", partial(adds, PLAIN), honest, package(suite=1)),
    Row(
        "10.1 signature",
        partial(adds, PLAIN),
        honest,
        lambda groups, signer: replace(honest(groups, signer), signature=bytes(64)),
    ),
    Row("10.1 init key", partial(adds, PLAIN), honest, same_key_twice),
    Row("10.1 init key", partial(adds, PLAIN), honest, package(init_key=SMALL)),
    Row("7.3 leaf of a KeyPackage", partial(adds, PLAIN), honest, package({"source": SOURCE_UPDATE, "lifetime": None})),
    Row("7.3 leaf signature", partial(adds, PLAIN), honest, package({"signature": bytes(64)}, sign_leaf=False)),
    Row(
        "7.2 total lifetime",
        partial(adds, PLAIN),
        package({"lifetime": Lifetime(5, 5 + MAX_LIFETIME)}),
        package({"lifetime": Lifetime(5, 6 + MAX_LIFETIME)}),
    ),
    Row(
        "7.2 total lifetime",
        partial(adds, PLAIN),
        package({"lifetime": Lifetime(5, 5)}),
        package({"lifetime": Lifetime(5, 4)}),
    ),
    Row("a credential that the application refuses", partial(adds, PLAIN), honest, package(credential=IMPOSTOR)),
    Row("7.3 protocol version", partial(adds, PLAIN), honest, package(capabilities=replace(CAPABLE, versions=(2,)))),
    Row("7.3 cipher suite", partial(adds, PLAIN), honest, package(capabilities=replace(CAPABLE, suites=(1,)))),
    Row("7.3 encryption key", partial(adds, PLAIN), honest, package({"encryption_key": SMALL})),
    Row(
        "7.3 own credential type",
        partial(adds, PLAIN),
        honest,
        package(credential=OTHER, capabilities=replace(CAPABLE, credentials=(1,))),
    ),
    Row(
        "7.3 leaf extensions",
        partial(adds, PLAIN),
        package({"extensions": (KNOWN,)}),
        package({"extensions": (UNKNOWN,)}),
    ),
    Row(
        "13.4 an extension twice",
        partial(adds, PLAIN),
        package({"extensions": (KNOWN,)}),
        package({"extensions": (KNOWN, KNOWN)}),
    ),
    Row(
        "13.4 an extension twice",
        partial(adds, PLAIN),
        package(extensions=(UNKNOWN,)),
        package(extensions=(UNKNOWN, UNKNOWN)),
    ),
    Row(
        "13.4 group extensions", partial(adds, EXTENDED), honest, package(capabilities=replace(CAPABLE, extensions=()))
    ),
    *(
        Row(
            "7.3 required capabilities",
            partial(adds, DEMANDING),
            honest,
            package(capabilities=replace(CAPABLE, **lack)),
        )  # type: ignore[arg-type]  # by name
        for _, lack in lacking()
    ),
    Row("7.3 credential types", partial(adds, NARROW), honest, package(credential=OTHER)),
    Row(
        "7.3 credential types",
        partial(adds, OTHERS),
        package(credential=OTHER),
        package(capabilities=replace(CAPABLE, credentials=(1,))),
    ),
    Row("7.3 unique signature keys", partial(adds, PLAIN), honest, of_a_member),
    Row("7.3 unique encryption keys", partial(adds, PLAIN), honest, with_a_members_key),
    Row("7.3 unique encryption keys", partial(adds, WIDE), honest, with_a_parents_key),
    # 7.3: the leaf of an Update, of a path, and of a tree that one joins.
    *leaf_rows(updates, "an Update"),
    Row("7.3 leaf signature", lambda broken: updates(PLAIN, same, signature=broken), None, bytes(64)),
    Row("7.3 unique encryption keys", partial(updates, PLAIN), same, key_of_member_1),
    *leaf_rows(paths, "a Commit"),
    Row("7.3 leaf signature", partial(whole_paths, PLAIN), after(lambda path: path), after(unsigned)),
    *leaf_rows(joining_leaf, ""),
    Row("7.3 unique encryption keys", partial(joins, PLAIN), Letter(), Letter(leaves={2: key_of_member_1})),
    Row("7.3 leaf signature", partial(joins, PLAIN), Letter(), Letter(leaves={2: fields(signature_key_pair())})),
    Row(
        "7.2 total lifetime",
        partial(joins, PLAIN),
        Letter(leaves={2: fields(lifetime=Lifetime(0, MAX_LIFETIME))}),
        Letter(leaves={2: fields(lifetime=Lifetime(0, MAX_LIFETIME + 1))}),
    ),
    Row(
        "7.3 encryption key", partial(joins, PLAIN), Letter(), Letter(path=Path(keys=lambda keys: [*keys[:-1], SMALL]))
    ),
    # 12.4.2: the path.
    Row("12.4.2 keys of the path", partial(whole_paths, WIDE), after(lambda path: path), old_key(3)),
    Row("12.4.2 keys of the path", partial(whole_paths, WIDE), after(lambda path: path), old_key(5)),
    Row("12.4.2 keys of the path", partial(whole_paths, WIDE), after(lambda path: path), old_key(0)),
    Row("12.4.2 keys of the path", partial(paths, PLAIN), same, key_of_member_1),
    Row(
        "7.3 unique encryption keys",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        lambda _: Path(keys=lambda keys: [keys[0], keys[0]]),
    ),
    Row(
        "7.5 length of the path",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        after(lambda path: replace(path, nodes=path.nodes[1:])),
    ),
    Row(
        "7.5 public key of the path",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        lambda _: Path(keys=first(lambda _key: SMALL)),
    ),
    Row("7.9.2 parent hash of the committer's leaf", partial(paths, PLAIN), same, fields(parent_hash=bytes(32))),
    Row(
        "7.6 number of ciphertexts",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        ciphertexts(lambda sealed: sealed[1:]),
    ),
    Row(
        "7.6 number of ciphertexts",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        ciphertexts(lambda sealed: sealed * 2),
    ),
    Row("path secret", partial(whole_paths, WIDE), after(lambda path: path), ciphertexts(broken), PathError),
    # 12.4: when a path is required.
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: []),
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: [Remove(2)]),
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: [GroupContextExtensions(())]),
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: [add(), Remove(2)]),
    # 12.1 and 12.2: the list.
    Row("12.1 proposal for a blank leaf", partial(lists, PLAIN), [Remove(2)], [Remove(3)]),
    Row("12.1 proposal for a blank leaf", partial(lists, PLAIN), [Remove(2)], [Remove(4)]),
    Row("12.1 proposal for a blank leaf", partial(lists, PLAIN), [Remove(2)], [Remove(2**32 - 1)]),
    Row("12.2 Remove of the committer", partial(lists, PLAIN), [Remove(2)], [Remove(0)]),
    Row("12.2 one leaf twice", partial(lists, PLAIN), [Remove(2)], [Remove(2), Remove(2)]),
    Row("12.2 one leaf twice", partial(with_update(("update", "remove")), PLAIN), False, True),
    Row("12.2 one leaf twice", partial(with_update(("update", "update")), PLAIN), False, True),
    Row("12.2 Update by the committer", partial(by_committer, PLAIN), False, True),
    Row("12.2 ExternalInit", partial(lists, PLAIN), [], [ExternalInit(bytes(32))]),
    Row(
        "12.2 ReInit and something else",
        partial(lists, PLAIN),
        [ReInit(b"new", 1, SUITE)],
        [ReInit(b"new", 1, SUITE), Remove(2)],
    ),
    Row("12.1.5 version of a ReInit", partial(lists, PLAIN), [ReInit(b"new", 1, SUITE)], [ReInit(b"new", 0, SUITE)]),
    Row(
        "13.4 an extension twice",
        partial(lists, PLAIN),
        [ReInit(b"new", 1, SUITE, (KNOWN,))],
        [ReInit(b"new", 1, SUITE, (KNOWN, KNOWN))],
    ),
    Row(
        "ReInit, which the application does not follow",
        lambda policy: alone_says([ReInit(b"new", 1, SUITE)], policy),
        TAKES,
        Policy(),
    ),
    Row(
        "a proposal that the application does not know",
        lambda policy: alone_says([CustomProposal(0xF001, b"")], policy),
        TAKES,
        Policy(),
    ),
    Row(
        "a PSK that not all members hold",
        lambda policy: alone_says([psk()], policy),
        TAKES,
        Policy(psk_epochs=frozenset()),
    ),
    Row(
        "12.2 a proposal that not all members support",
        partial(lists, PLAIN),
        [CustomProposal(0xF001, b"")],
        [CustomProposal(0xF002, b"")],
    ),
    Row(
        "12.2 GroupContextExtensions twice",
        partial(lists, PLAIN),
        [GroupContextExtensions(())],
        [GroupContextExtensions(())] * 2,
    ),
    Row(
        "13.4 an extension twice",
        partial(lists, PLAIN),
        [GroupContextExtensions((KNOWN,))],
        [GroupContextExtensions((KNOWN, KNOWN))],
    ),
    Row(
        "13.4 group extensions",
        partial(lists, PLAIN),
        [GroupContextExtensions((KNOWN,))],
        [GroupContextExtensions((UNKNOWN,))],
    ),
    *(
        Row(
            "7.3 required capabilities",
            partial(lists, PLAIN),
            [GroupContextExtensions((required(**{name: (good,)}),))],
            [GroupContextExtensions((required(**{name: (0xFFF0,)}),))],
        )
        for name, good in (("extensions", 0xF1A0), ("proposals", 0xF001), ("credentials", 3))
    ),
    # 12.3: the extensions of the same list come first.
    Row(
        "13.4 group extensions",
        partial(lists, PLAIN),
        [add(), GroupContextExtensions((KNOWN,))],
        [add(replace(CAPABLE, extensions=())), GroupContextExtensions((KNOWN,))],
    ),
    Row(
        "7.3 required capabilities",
        partial(lists, PLAIN),
        [add(), GroupContextExtensions((REQUIRED,))],
        [add(replace(CAPABLE, proposals=())), GroupContextExtensions((REQUIRED,))],
    ),
    Row("12.2 PreSharedKey twice", partial(lists, PLAIN), [psk(), psk(bytes(31) + b"1")], [psk(), psk()]),
    Row("12.1.4 PSK nonce", partial(lists, PLAIN), [psk()], [psk(bytes(31))]),
    *(Row("12.1.4 PSK usage", resumes, [resumption(1)], [resumption(usage)]) for usage in (0, 2, 3, 4)),
    Row("12.2 the same client twice", lambda wrong: twice(wrong=wrong), False, True),
    # 12.4.3.2 and 12.2: external Commits.
    Row("12.4.3.2 path required", partial(lets_in, PLAIN), Outside(), Outside(path=None)),
    Row(
        "12.4.3.2 a reference in an external Commit",
        partial(lets_in, PLAIN),
        Outside(),
        Outside(alter=lambda items: [*items, ProposalOrRef(None, bytes(32))]),
    ),
    Row("12.2 one ExternalInit", partial(lets_in, PLAIN), Outside(), Outside(alter=lambda items: items[1:])),
    Row("12.2 one ExternalInit", partial(lets_in, PLAIN), Outside(), Outside(alter=lambda items: items * 2)),
    Row(
        "12.2 more than one Remove in an external Commit",
        partial(lets_in, PLAIN),
        Outside(removes=(2,)),
        Outside(removes=(2,), alter=lambda items: [*items, ProposalOrRef(Remove(0))]),
    ),
    Row("12.1 proposal for a blank leaf", partial(lets_in, PLAIN), Outside(removes=(2,)), and_also(Remove(3))),
    *(
        Row("12.2 proposal in an external Commit", partial(lets_in, PLAIN), Outside(), and_also(each))
        for each in (add(), GroupContextExtensions(()), ReInit(b"new", 1, SUITE), CustomProposal(0xF001, b""))
    ),
    Row("12.2 PreSharedKey twice", partial(lets_in, PLAIN), Outside(), and_also(psk(), psk())),
    Row("12.1.4 PSK nonce", partial(lets_in, PLAIN), Outside(), and_also(psk(b"short"))),
    Row("12.1.4 PSK usage", partial(lets_in, PLAIN), Outside(), and_also(resumption(3))),
    Row("7.3 leaf of a Commit", partial(lets_in, PLAIN), Outside(), Outside(leaf=fields(source=SOURCE_UPDATE))),
    Row("7.3 leaf signature", partial(lets_in, PLAIN), Outside(), Outside(path=Path(after=unsigned))),
    Row(
        "7.3 new encryption key",
        partial(lets_in, PLAIN),
        Outside(removes=(2,)),
        Outside(removes=(2,), leaf=key_as_before),
    ),
    Row("7.3 cipher suite", partial(lets_in, PLAIN), Outside(), Outside(leaf=capable(suites=(1,)))),
    Row("13.4 group extensions", partial(lets_in, EXTENDED), Outside(), Outside(leaf=capable(extensions=()))),
    Row("7.3 required capabilities", partial(lets_in, DEMANDING), Outside(), Outside(leaf=capable(proposals=()))),
    Row(
        "7.3 credential types",
        partial(lets_in, NARROW),
        Outside(),
        Outside(leaf=fields(credential=OTHER, capabilities=CAPABLE)),
    ),
    Row("7.3 unique signature keys", partial(lets_in, PLAIN), Outside(), Outside(signer=1)),
    Row("12.4.2 keys of the path", partial(lets_in, PLAIN), Outside(), Outside(leaf=key_of_member_1)),
    Row(
        "a credential that the application refuses",
        partial(lets_in, PLAIN),
        Outside(),
        Outside(leaf=fields(credential=IMPOSTOR)),
    ),
    Row(
        "an external Commit of somebody new, which the application does not take",
        partial(lets_in, PLAIN),
        Outside(removes=(2,), policy=Policy(resyncs=True)),
        Outside(policy=Policy(resyncs=True)),
    ),
    Row(
        "a sender who is no member, whom the application does not hear",
        partial(lets_in, PLAIN),
        Outside(),
        Outside(policy=Policy()),
    ),
    Row("12.4.3.2 external_pub", partial(shows, PLAIN), lambda info: info, without_external_pub),
    Row("12.4.3.2 external_pub", partial(shows, PLAIN), lambda info: info, small_external_pub),
    # 12.1.8: proposals from outside.
    *(
        Row(
            "12.1.8 proposal of an external sender",
            partial(proposes, SERVED),
            lambda _: (Sender(SENDER_EXTERNAL), Remove(1), SERVER),
            lambda _, each=each: (Sender(SENDER_EXTERNAL), each, SERVER),
        )
        for each in (ExternalInit(bytes(32)), CustomProposal(0xF001, b""), Update(add().key_package.leaf_node))
    ),
    *(
        Row(
            "12.1.8 proposal of a new member",
            partial(proposes, PLAIN),
            lambda _: asks(),
            lambda _, each=each: (Sender(SENDER_NEW_MEMBER_PROPOSAL), each, SERVER),
        )
        for each in (Remove(1), ReInit(b"new", 1, SUITE), psk(), CustomProposal(0xF001, b""))
    ),
    # 12.4.3.1: joining.
    Row("12.4.3.1 version", partial(joins, PLAIN), Letter(), Letter(info=context(version=2))),
    Row("12.4.3.1 cipher suite", partial(joins, PLAIN), Letter(), Letter(info=context(suite=1))),
    Row(
        "12.4.3.1 group_id", partial(joins, PLAIN), Letter(groups=(b"another",)), Letter(groups=(b"another", b"group"))
    ),
    Row("12.4.3.1 signature of the GroupInfo", partial(joins, PLAIN), Letter(), Letter(signer=1)),
    Row("12.4.3.1 signature of the GroupInfo", partial(joins, PLAIN), Letter(), Letter(signature=bytes(64))),
    Row(
        "12.4.3.1 signature of the GroupInfo",
        partial(joins, PLAIN),
        Letter(),
        Letter(info=lambda info: replace(info, signer=9)),
    ),
    Row("12.4.3.1 tree hash", partial(joins, PLAIN), Letter(), Letter(info=context(tree_hash=bytes(32)))),
    Row(
        "13.4 an extension twice",
        partial(joins, PLAIN),
        Letter(info=more(UNKNOWN)),
        Letter(info=more(UNKNOWN, UNKNOWN)),
    ),
    Row(
        "13.4 an extension twice", partial(joins, PLAIN), Letter(extensions=(KNOWN,)), Letter(extensions=(KNOWN, KNOWN))
    ),
    Row("13.4 group extensions", partial(joins, PLAIN), Letter(extensions=(KNOWN,)), Letter(extensions=(UNKNOWN,))),
    Row("12.4.3.1 own leaf", partial(joins, PLAIN), Letter(), Letter(info=without_the_joiner)),
    Row("12.4.3.1 unmerged leaves in order", partial(joins, DEEP), Letter(), Letter(node={23: listing(15, 15)})),
    Row("12.4.3.1 unmerged leaf", partial(joins, DEEP), Letter(), Letter(node={23: listing(0, 15)})),
    Row("12.4.3.1 unmerged leaf", partial(joins, DEEP), Letter(), Letter(node={23: listing(15, 99)})),
    Row("12.4.3.1 unmerged leaf between", partial(joins, DEEP), Letter(), Letter(node={27: listing()})),
    Row(
        "7.9.2 parent hash",
        partial(joins, DEEP),
        Letter(),
        Letter(node={23: lambda node: replace(node, encryption_key=b"\x09" + bytes(31))}),
    ),
    Row("7.9.2 parent hash", partial(joins, DEEP), Letter(), Letter(node={23: listing()})),
    Row(
        "path secret of another key",
        partial(joins, PLAIN),
        Letter(),
        Letter(secrets=lambda known: replace(known, path_secret=bytes(32))),
        PathError,
    ),
    Row(
        "confirmation tag",
        partial(joins, PLAIN),
        Letter(),
        Letter(info=lambda info: replace(info, confirmation_tag=bytes(32))),
        PathError,
    ),
    # 8.4: Commit and Welcome have the same PSKs.
    Row(
        "GroupInfo",
        partial(joins, PLAIN),
        Letter(psk=True),
        Letter(psk=True, secrets=lambda known: replace(known, psks=())),
        UnprotectError,
    ),
    Row(
        "12.1.4 PSK nonce",
        partial(joins, PLAIN),
        Letter(psk=True),
        Letter(psk=True, secrets=lambda known: replace(known, psks=(psk(b"").psk,))),
    ),
    Row(
        "12.1.4 PSK usage",
        partial(joins, PLAIN),
        Letter(psk=True),
        Letter(psk=True, secrets=lambda known: replace(known, psks=(resumption(9).psk,))),
    ),
    Row(
        "12.2 PreSharedKey twice",
        partial(joins, PLAIN),
        Letter(psk=True),
        Letter(psk=True, secrets=lambda known: replace(known, psks=known.psks * 2)),
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_rule(row: Row) -> None:
    row.forge(row.right)
    with pytest.raises(row.error) as failure:
        row.forge(row.wrong)
    assert str(failure.value) == row.rule
    assert failure.value.common == (row.error is not PathError)


ELSEWHERE: Final = {
    "7.3 lifetime": "test_group.py",  # of whoever sends: it alone looks at a clock
    "11.2 all members of the group before": "test_joining.py",
    "11.2 ReInit of the group before": "test_joining.py",
    "11.2 parameters of the ReInit": "test_joining.py",
    "11.2 the group does not continue that one": "test_joining.py",
    "11.3 members of the group before": "test_joining.py",
    "11.3 version and cipher suite": "test_joining.py",
    "12.4.3.1 epoch of a resumed group": "test_joining.py",
    "12.4.3.1 more than one resumed group": "test_joining.py",
}
"""Rules of groups that continue another, whose Welcomes take two groups to make."""


def test_every_rule_of_the_package_is_in_the_table() -> None:
    rules = set()
    for source in File(restante_crypto.mls.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ValidationError":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                rules.add(argument.value)
    refusals = {row.rule for row in TABLE if row.error is ValidationError} - {
        "a credential that the application refuses"
    }
    assert refusals | set(ELSEWHERE) == rules
    for rule, name in ELSEWHERE.items():
        text = (File(__file__).parent / name).read_text().replace("\\", "")
        assert rule in text
