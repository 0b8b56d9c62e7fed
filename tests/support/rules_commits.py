"""Commits that break rules of RFC 9420: Adds, Updates, paths and lists. See support/rules.py."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from restante_crypto.mls import (
    Add,
    Capabilities,
    Credential,
    Group,
    KeyPackage,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
    ProposalReceived,
    Remove,
    SignatureKeyPair,
    Update,
)
from restante_crypto.mls.leaf_node import SOURCE_UPDATE
from restante_crypto.mls.proposals import ProposalOrRef
from restante_crypto.mls.psk import EXTERNAL, RESUMPTION
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath
from support import forger
from support.forger import Path
from support.mls import signature_key_pair
from support.rules import CAPABLE, MEMBER, PSK, SMALL, Setting, authenticate, bundle_of, follow, party

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


honest = package()
same = fields()
NOTHING: Final = Path()


def lacking() -> list[tuple[str, dict[str, tuple[int, ...]]]]:
    return [
        (name, {name: (1,) if name == "credentials" else ()}) for name in ("extensions", "proposals", "credentials")
    ]


def add(capabilities: Capabilities = CAPABLE) -> Add:
    return Add(bundle_of(signature_key_pair(), capabilities).key_package)


def psk(nonce: bytes = bytes(32)) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyID(EXTERNAL, nonce, psk_id=b"shared"))


def resumption(usage: int) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyID(RESUMPTION, bytes(32), usage=usage, psk_group_id=b"shared"))


RESUMED: Final = {b"shared" + bytes(8): b"secret"}
