"""Fuzz targets of MLS: every decoder, and groups that are given what nobody sent.

Every decoder raises its documented error or reads exactly what it was given. Groups raise MLSError and stay as they
were.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from random import Random
from typing import Any

from restante_crypto import hpke, sealing
from restante_crypto.mls import (
    Add,
    Credential,
    ExternalSender,
    Group,
    KeyPackageBundle,
    MLSError,
    PastEpoch,
    Policy,
    Remove,
    StateError,
    ask_to_join,
    codec,
    encode_external_senders,
    parse_key_package_message,
    propose_from_outside,
    tree_math,
)
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.extensions import (
    EXTERNAL_SENDERS,
    Capabilities,
    Extension,
    Lifetime,
    RequiredCapabilities,
    external_senders,
)
from restante_crypto.mls.framing import AuthenticatedContent, Commit, FramedContent, Sender
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_package import KeyPackage
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.proposals import ProposalOrRef, decode_proposal
from restante_crypto.mls.psk import PreSharedKeyID
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.ratchet_tree import Node, ParentNode, RatchetTree
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.mls.tree_validation import check_parent_hashes, check_tree
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath, UpdatePathNode
from restante_crypto.mls.welcome import EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome
from restante_crypto.suites import SUITES, XWING
from support.fuzzing import Run, Target, one_random, refused
from support.mls import CAPABILITIES, Party, alone, key_package, nobody, signature_key_pair

SERVER = signature_key_pair()
POLICY = Policy(external_commits=True, external_proposals=True)


@cache
def party(suite: int = 3) -> Party:
    """Three members, one of whom has committed since; a server may propose."""
    server = encode_external_senders([ExternalSender(SERVER.public, Credential.basic(b"server"))])
    made = Party({0: alone(suite=suite, extensions=(server,))})
    made.add(0, 2)
    made.commit(1)
    return made


@cache
def joining(suite: int = 3) -> tuple[bytes, bytes, KeyPackageBundle, Any]:
    """A Commit that adds, its Welcome, and the KeyPackage with its signer."""
    signer = signature_key_pair()
    bundle = key_package(signer, suite=suite)
    staged = party(suite).groups[0].commit([Add(bundle.key_package), Remove(2)], random=one_random())
    assert staged.welcome is not None
    return staged.message, staged.welcome, bundle, signer


@cache
def messages(suite: int = 3) -> tuple[bytes, ...]:
    """What others may send to member 1 of ``party``: data, proposals, Commits; in the clear, too, and from outside."""
    group = party(suite).groups[0]
    bundle, signer = joining(suite)[2:]
    outside = Group.join_externally(
        group.group_info(),
        signer=signature_key_pair(),
        credential=Credential.basic(b"outside"),
        capabilities=CAPABILITIES,
        authenticate=nobody,
        replaces=2,
        random=one_random(),
    )
    return (
        group.protect(b"data" * 20, random=one_random(), authenticated_data=b"more").message,
        group.propose(Remove(2), random=one_random()).message,
        joining(suite)[0],
        group.propose(Remove(2), random=one_random(), public=True).message,
        group.commit(public=True, random=one_random()).message,
        outside.message,
        propose_from_outside(group.group_id, group.epoch, Remove(2), sender=0, signer=SERVER),
        ask_to_join(group.group_id, group.epoch, bundle.key_package, signer=signer),
    )


STRUCTS: tuple[Any, ...] = (
    AuthenticatedContent,
    Capabilities,
    Commit,
    Credential,
    EncryptedGroupSecrets,
    Extension,
    ExternalSender,
    FramedContent,
    GroupContext,
    GroupInfo,
    GroupSecrets,
    KeyPackage,
    LeafNode,
    Lifetime,
    HPKECiphertext,
    MLSMessage,
    ParentNode,
    PreSharedKeyID,
    PrivateMessage,
    ProposalOrRef,
    PublicMessage,
    RequiredCapabilities,
    Sender,
    UpdatePath,
    UpdatePathNode,
    Welcome,
)


# Decoders.


def struct(decodable: type[Any]) -> Run:
    def run(data: bytes) -> None:
        try:
            value = codec.parse(decodable, data)
        except DecodeError:
            return
        assert value.encode() == data

    return run


def proposal(data: bytes) -> None:
    reader = Reader(data)
    try:
        value = decode_proposal(reader)
        reader.done()
    except DecodeError:
        return
    assert value.encode() == data


def tree(data: bytes) -> None:
    try:
        value = RatchetTree.from_bytes(SUITES[3], data)
    except DecodeError:
        return
    assert value.encode() == data


def bundle(data: bytes) -> None:
    try:
        value = KeyPackageBundle.from_bytes(data)
    except DecodeError:
        return
    assert value.to_bytes() == data


def halves(parse: Callable[[bytes, bytes], object]) -> Callable[[bytes], object]:
    """Split at the first two bytes' number."""

    def run(data: bytes) -> object:
        end = 2 + int.from_bytes(data[:2], "big")
        return parse(data[2:end], data[end:])

    return run


def joined(first: bytes, second: bytes) -> bytes:
    return len(first).to_bytes(2, "big") + first + second


def stored_group() -> list[bytes]:
    group = party().groups[0]
    past, updating = group.archive(), group.propose_update(random=one_random()).group
    return [joined(each.epoch_state(), each.message_state()) for each in (group, past, updating)]


def encodings() -> list[bytes]:
    """Encodings of most structs; a decoder's own are among them."""
    welcome_message = joining()[1]
    package = joining()[2].key_package
    welcome = MLSMessage.parse(welcome_message).body
    group = party().groups[0]
    private, public = (MLSMessage.parse(messages()[index]).body for index in (0, 3))
    external = MLSMessage.parse(messages()[5]).body
    assert isinstance(external, PublicMessage)
    assert isinstance(external.content.content, Commit)
    path = external.content.content.path
    assert path is not None
    values: list[Any] = [
        package,
        package.leaf_node,
        package.leaf_node.capabilities,
        package.leaf_node.credential,
        Lifetime(0, 1),
        Extension(1, b"x"),
        RequiredCapabilities((1,), (2,), (1,)),
        group.context,
        welcome,
        private,
        public,
        external,
        external.content.content,
        path,
        path.nodes[0],
        HPKECiphertext(bytes(32), bytes(48)),
        EncryptedGroupSecrets(bytes(32), HPKECiphertext(bytes(32), bytes(48))),
        ExternalSender(SERVER.public, Credential.basic(b"server")),
        ParentNode(bytes(32), bytes(32), (1, 2)),
        Sender(1, 2),
        ProposalOrRef(Remove(1)),
        ProposalOrRef(None, bytes(32)),
        FramedContent(b"group", 1, Sender(1, 0), b"", 2, Add(package)),
        AuthenticatedContent(1, FramedContent(b"group", 1, Sender(1, 0), b"", 1, b"data"), bytes(64)),
        PreSharedKeyID(1, psk_id=b"psk", psk_nonce=bytes(32)),
        GroupSecrets(bytes(32), bytes(32), ()),
        GroupInfo(group.context, (), bytes(32), 0, bytes(64)),
    ]
    return [value.encode() for value in values] + [*messages(), welcome_message, group.tree.encode()]


# Groups.


def process(suite: int, data: bytes) -> None:
    group = party(suite).groups[1]
    before = group.message_state()
    try:
        result = group.process(data, authenticate=nobody, policy=POLICY)
    except MLSError:
        pass
    else:
        assert data in messages(suite), f"a forgery was taken: {result}"
    assert group.message_state() == before


def join(suite: int, data: bytes) -> None:
    _, welcome, package, signer = joining(suite)
    try:
        Group.join(data, package, signer=signer, authenticate=nobody)
    except MLSError:
        return
    assert data == welcome


@cache
def shown(suite: int) -> tuple[bytes, bytes]:
    """A GroupInfo without its tree, and the tree."""
    group = party(suite).groups[0]
    return group.group_info(with_tree=False), group.tree.encode()


def join_externally(suite: int, *, mutate_tree: bool, data: bytes) -> None:
    info, tree = shown(suite)
    try:
        Group.join_externally(
            info if mutate_tree else data,
            signer=signature_key_pair(),
            credential=Credential.basic(b"outside"),
            capabilities=CAPABILITIES,
            authenticate=nobody,
            ratchet_tree=data if mutate_tree else tree,
            random=one_random(),
        )
    except MLSError:
        return
    assert data == (tree if mutate_tree else info)


STEPS_PER_NODE = 200  # calls, in all checks together; so many for each leaf that is listed as unmerged, too


def hostile_tree(data: bytes) -> None:
    """Check a tree of up to 256 leaves that the bytes describe: it is refused, in steps linear in its size."""
    script = Random(data)
    leaves = 1 << (1 + (data[0] if data else 0) % 8)
    leaf = party().groups[0].tree.leaf(0)
    assert leaf is not None
    blank, full = script.random(), script.random()
    nodes: list[Node] = []
    listed = 0
    for index in range(2 * leaves - 1):
        key = index.to_bytes(32, "big")
        below = tree_math.subtree_leaves(NodeIndex(index))
        if script.random() < blank:
            nodes.append(None)
        elif len(below) == 1:
            claimed = replace(leaf, encryption_key=key, signature_key=key, source=3, parent_hash=bytes(32), raw=b"")
            nodes.append(claimed)
        else:
            unmerged = tuple(each for each in below if script.random() < full)
            listed += len(unmerged)
            nodes.append(ParentNode(key, bytes(32), unmerged))
    group = party().groups[0]
    hostile = RatchetTree(SUITES[3], nodes)
    steps = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event == "call"  # atheris makes calls of C of its own

    sys.setprofile(count)
    try:
        for check in (
            lambda: check_parent_hashes(hostile),
            lambda: check_tree(hostile, group.group_id, group.extensions, nobody),
            hostile.tree_hash,
            lambda: RatchetTree.from_bytes(SUITES[3], hostile.encode()),
        ):
            try:
                check()
            except MLSError:
                continue
    finally:
        sys.setprofile(None)
    assert steps <= STEPS_PER_NODE * (len(nodes) + listed), f"{steps} steps for {len(nodes)} nodes, {listed} listed"


def opened(suite: int, data: bytes) -> None:
    private, _ = SUITES[suite].kem.derive_key_pair(bytes(32))
    try:
        sealing.open_welcome(suite, private, data)
    except sealing.SealError:
        return
    assert data[sealing.TAG_BYTES :] in [each[sealing.TAG_BYTES :] for each in sealed(suite)]  # the tag is for finding


@cache
def sealed(suite: int) -> list[bytes]:
    _, public = SUITES[suite].kem.derive_key_pair(bytes(32))
    return [sealing.seal_welcome(suite, public, b"welcome", one_random())]


def encapsulated(suite: int, data: bytes) -> None:
    """Bytes as public key, and as encapsulation."""
    kem = SUITES[suite].kem
    private, _ = kem.derive_key_pair(bytes(32))
    info = hpke.info_context(SUITES[suite], b"")
    for use in (
        lambda: hpke.seal(SUITES[suite], data, info, b"", b"", one_random()),
        lambda: hpke.open(SUITES[suite], data, private, info, b"", bytes(16)),
    ):
        try:
            use()
        except hpke.HpkeError:
            continue


def keys_of(suite: int) -> list[bytes]:
    kem = SUITES[suite].kem
    _, public = kem.derive_key_pair(bytes(32))
    return [public, kem.encapsulate(public, one_random())[1]]


MLS_TARGETS: dict[str, Target] = {
    **{f"mls {each.__name__}": Target(struct(each), encodings) for each in STRUCTS},
    "mls proposal": Target(proposal, lambda: [Remove(1).encode(), Add(joining()[2].key_package).encode()]),
    "mls tree": Target(tree, lambda: [party().groups[0].tree.encode()]),
    "mls bundle": Target(bundle, lambda: [joining()[2].to_bytes()]),
    "mls KeyPackage message": Target(refused(DecodeError, parse_key_package_message), encodings),
    "mls stored group": Target(refused(StateError, halves(Group.restore)), stored_group, cost=4),
    "mls stored epoch": Target(refused(StateError, halves(PastEpoch.restore)), stored_group, cost=4),
    "mls process, suite 3": Target(partial(process, 3), lambda: list(messages(3)), cost=20),
    "mls process, X-Wing": Target(partial(process, XWING), lambda: list(messages(XWING)), cost=20),
    "mls join, suite 3": Target(partial(join, 3), lambda: [joining(3)[1]], cost=20),
    "mls join, X-Wing": Target(partial(join, XWING), lambda: [joining(XWING)[1]], cost=20),
    **{
        f"mls {what} to join externally, {name}": Target(
            lambda data, suite=suite, tree=tree: join_externally(suite, mutate_tree=tree, data=data),
            lambda suite=suite, tree=tree: [shown(suite)[tree]],
            cost=20,
        )
        for what, tree in (("GroupInfo", False), ("tree", True))
        for name, suite in (("suite 3", 3), ("X-Wing", XWING))
    },
    "mls external_senders": Target(
        refused(DecodeError, lambda data: external_senders((Extension(EXTERNAL_SENDERS, data),))),
        lambda: [party().groups[0].extensions[0].data],
    ),
    "mls hostile tree": Target(hostile_tree, lambda: [bytes([size]) * 4 for size in range(8)], cost=100),
    "hpke, suite 3": Target(partial(encapsulated, 3), lambda: keys_of(3), cost=20),
    "hpke, X-Wing": Target(partial(encapsulated, XWING), lambda: keys_of(XWING), cost=20),
    "sealed Welcome, suite 3": Target(partial(opened, 3), lambda: sealed(3), cost=20),
    "sealed Welcome, X-Wing": Target(partial(opened, XWING), lambda: sealed(XWING), cost=20),
}
