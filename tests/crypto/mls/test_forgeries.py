"""Messages that break one rule alone: made by a member who signs what it should not, or by nobody at all."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from restante_crypto import primitives
from restante_crypto.mls import (
    Add,
    Application,
    Extension,
    Group,
    KeyPackageBundle,
    LeafNode,
    MLSError,
    OwnMessage,
    PathError,
    Remove,
    UnprotectError,
    Update,
    ValidationError,
    codec,
    key_schedule,
    labels,
    public_message,
    treekem,
    validate_key_package,
    welcome,
)
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.extensions import RATCHET_TREE, REQUIRED_CAPABILITIES, RequiredCapabilities
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_COMMIT,
    CONTENT_PROPOSAL,
    SENDER_MEMBER,
    SENDER_NEW_MEMBER_PROPOSAL,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    Commit,
    FramedContent,
    Sender,
    decode_content,
)
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage, protect, sender_data_key_nonce
from restante_crypto.mls.proposals import Proposal, ProposalOrRef
from restante_crypto.mls.ratchet_tree import ParentNode, RatchetTree
from restante_crypto.mls.secret_tree import MAX_FORWARD, SecretTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.tree_validation import check_parent_hashes, check_tree
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath
from restante_crypto.suites import SUITES
from support import forger
from support.mls import SUITE, Party, alone, key_package, nobody, signature_key_pair


def forged(group: Group, commit: Commit) -> bytes:
    """A Commit of this member, signed, with a confirmation tag of zeros."""
    content = group.frame(CONTENT_COMMIT, commit, b"")
    return group.keys.protect(replace(content, confirmation_tag=bytes(32)), os.urandom)[1]


def a_path(group: Group, tree: RatchetTree | None = None, leaf: LeafNode | None = None) -> UpdatePath:
    """An honest path of this member."""
    tree = tree or group.tree
    made = treekem.make_path(
        tree,
        LeafIndex(group.own_index),
        leaf or group.members[group.own_index].leaf,
        signer=group.signer,
        group_id=group.group_id,
        random=os.urandom,
    )
    context = replace(group.context, epoch=group.epoch + 1, tree_hash=made.tree.tree_hash())
    return treekem.seal_path(made, context.encode(), (), os.urandom)


def resigned(group: Group, leaf: LeafNode, **changes: object) -> LeafNode:
    changed = replace(leaf, raw=b"", **changes)  # type: ignore[arg-type]  # by name
    return changed.sign(group.signer, group.group_id, group.own_index)


Breaker = Callable[[Group, UpdatePath], UpdatePath | None]

PATHS: dict[str, tuple[type[MLSError], Breaker]] = {
    "12.4 path required": (ValidationError, lambda _group, _path: None),
    "7.5 length of the path": (ValidationError, lambda _group, path: replace(path, nodes=path.nodes[1:])),
    "7.9.2 parent hash of the committer's leaf": (
        ValidationError,
        lambda group, path: replace(path, leaf_node=resigned(group, path.leaf_node, parent_hash=bytes(32))),
    ),
    "7.6 number of ciphertexts": (
        ValidationError,
        lambda _group, path: replace(path, nodes=(replace(path.nodes[0], encrypted_path_secret=()), *path.nodes[1:])),
    ),
    "path secret": (
        PathError,
        lambda _group, path: replace(
            path,
            nodes=tuple(
                replace(
                    node,
                    encrypted_path_secret=tuple(replace(s, ciphertext=bytes(48)) for s in node.encrypted_path_secret),
                )
                for node in path.nodes
            ),
        ),
    ),
    "confirmation tag": (PathError, lambda _group, path: path),
    "7.3 leaf of a Commit": (
        ValidationError,
        lambda group, path: replace(path, leaf_node=resigned(group, path.leaf_node, source=2)),
    ),
    "7.3 new encryption key": (
        ValidationError,
        lambda group, path: replace(
            path,
            leaf_node=resigned(group, path.leaf_node, encryption_key=group.members[0].leaf.encryption_key),
        ),
    ),
    "7.3 leaf signature": (
        ValidationError,
        lambda _group, path: replace(path, leaf_node=replace(path.leaf_node, signature=bytes(64), raw=b"")),
    ),
}


@pytest.mark.parametrize("rule", PATHS)
def test_paths(rule: str) -> None:
    party = Party.of(3)
    group = party.groups[0]
    kind, breaks = PATHS[rule]
    before = party.groups[1].epoch_state(), party.groups[1].message_state()
    with pytest.raises(kind) as failure:
        party.groups[1].process(forged(group, Commit((), breaks(group, a_path(group)))), authenticate=nobody)
    assert rule in str(failure.value)
    assert failure.value.common == (kind is ValidationError)
    assert (party.groups[1].epoch_state(), party.groups[1].message_state()) == before


def test_a_path_of_other_secrets() -> None:
    party = Party.of(2)
    group = party.groups[0]
    honest, other = a_path(group), a_path(group)
    mixed = replace(
        honest,
        nodes=tuple(
            replace(node, encrypted_path_secret=wrong.encrypted_path_secret)
            for node, wrong in zip(honest.nodes, other.nodes, strict=True)
        ),
    )
    with pytest.raises(PathError):
        party.groups[1].process(forged(group, Commit((), mixed)), authenticate=nobody)


def test_a_secret_of_other_keys() -> None:
    tree = Party.of(2).groups[0].tree
    with pytest.raises(PathError, match="another key"):
        treekem.path_keys(tree, [tree.root], bytes(32))


def test_a_member_without_its_keys_cannot_follow() -> None:
    party = Party.of(2)
    lost = replace(party.groups[1], private_keys={})
    with pytest.raises(PathError, match="no private key"):
        lost.process(party.groups[0].commit(random=os.urandom).message, authenticate=nobody)


def test_a_commit_without_a_path_adds() -> None:
    party = Party.of(2)
    add = ProposalOrRef(Add(key_package(signature_key_pair()).key_package))
    with pytest.raises(PathError, match="confirmation tag"):
        party.groups[1].process(forged(party.groups[0], Commit((add,), None)), authenticate=nobody)


def test_keys_of_small_order_in_the_tree() -> None:
    party = Party.of(3)
    group = party.groups[0]
    leaf = group.members[1].leaf
    broken = group.tree.with_nodes({NodeIndex(2): replace(leaf, encryption_key=bytes(32), raw=b"")})
    with pytest.raises(ValidationError, match="encryption key"):
        replace(group, tree=broken).commit(random=os.urandom)
    signer = signature_key_pair()
    package = key_package(signer).key_package
    weak = replace(package, init_key=bytes(32))
    signature = labels.sign_with_label(signer.private, b"KeyPackageTBS", weak._body())
    with pytest.raises(ValidationError, match="init key"):
        group.commit([Add(replace(weak, signature=signature))], random=os.urandom)


def test_a_removed_member_cannot_commit() -> None:
    party = Party.of(2)
    group = party.groups[1]
    blank = group.tree.with_nodes({NodeIndex(2): None})
    with pytest.raises(ValidationError):
        replace(group, tree=blank).commit(random=os.urandom)


def test_key_packages_outside_their_lifetime() -> None:
    package = key_package(signature_key_pair()).key_package
    validate_key_package(package, SUITE, now=5)
    with pytest.raises(ValidationError, match="lifetime"):
        validate_key_package(package, SUITE, now=2**63)


def test_required_capabilities() -> None:
    required = RequiredCapabilities((0xF1A0,), (), (1,))
    assert codec.parse(RequiredCapabilities, required.encode()) == required
    group = alone(extensions=(Extension(REQUIRED_CAPABILITIES, required.encode()),))
    able = key_package(signature_key_pair())
    assert group.commit([Add(able.key_package)], random=os.urandom).added == (1,)
    unable = key_package(
        signature_key_pair(), capabilities=replace(able.key_package.leaf_node.capabilities, extensions=())
    )
    with pytest.raises(ValidationError, match="required capabilities"):
        group.commit([Add(unable.key_package)], random=os.urandom)


# Welcomes.


def a_welcome(
    party: Party, bundle: KeyPackageBundle, change: Callable[[welcome.GroupInfo], welcome.GroupInfo]
) -> bytes:
    """A Welcome of the first member whose GroupInfo was changed and signed again."""
    suite = SUITES[SUITE]
    staged = party.groups[0].commit([Add(bundle.key_package)], random=os.urandom)
    assert staged.welcome is not None
    body = MLSMessage.parse(staged.welcome).body
    assert isinstance(body, welcome.Welcome)
    sealed = body.secrets[0].encrypted_group_secrets
    plain = labels.decrypt_with_label(
        suite, bundle.init_private, b"Welcome", body.encrypted_group_info, sealed.kem_output, sealed.ciphertext
    )
    secrets = codec.parse(welcome.GroupSecrets, plain)
    member = key_schedule.member_secret(suite, secrets.joiner_secret, bytes(32))
    key, nonce = key_schedule.welcome_key_nonce(suite, member)
    opened = primitives.aead_open(suite.aead, key, nonce, body.encrypted_group_info, b"")
    info = change(codec.parse(welcome.GroupInfo, opened)).sign(party.groups[0].signer.private)
    encrypted = primitives.aead_seal(suite.aead, key, nonce, info.encode(), b"")
    again = labels.encrypt_with_label(suite, bundle.key_package.init_key, b"Welcome", encrypted, plain, os.urandom)
    item = replace(body.secrets[0], encrypted_group_secrets=HPKECiphertext(*again))
    return MLSMessage(replace(body, secrets=(item,), encrypted_group_info=encrypted)).encode()


def other_tree(info: welcome.GroupInfo) -> welcome.GroupInfo:
    return replace(info, extensions=(Extension(RATCHET_TREE, Party.of(2).groups[0].tree.encode()),))


WELCOMES: dict[str, Callable[[welcome.GroupInfo], welcome.GroupInfo]] = {
    "cipher suite": lambda info: replace(info, context=replace(info.context, suite=1)),
    "no ratchet tree": lambda info: replace(info, extensions=()),
    "signature of the GroupInfo": lambda info: replace(info, signer=7),
    "tree hash": lambda info: replace(info, context=replace(info.context, tree_hash=bytes(32))),
    "confirmation tag": lambda info: replace(info, confirmation_tag=bytes(32)),
}


@pytest.mark.parametrize("rule", WELCOMES)
def test_welcomes(rule: str) -> None:
    party = Party.of(2)
    signer = signature_key_pair()
    bundle = key_package(signer)
    good = a_welcome(party, bundle, lambda info: info)
    assert Group.join(good, bundle, signer=signer, authenticate=nobody).sender == 0
    with pytest.raises(MLSError, match=rule):
        Group.join(a_welcome(party, bundle, WELCOMES[rule]), bundle, signer=signer, authenticate=nobody)


def test_a_welcome_with_a_tree_that_lacks_the_joiner() -> None:
    party = Party.of(2)
    signer = signature_key_pair()
    bundle = key_package(signer)

    def without(info: welcome.GroupInfo) -> welcome.GroupInfo:
        tree = party.groups[0].tree
        return replace(
            info,
            context=replace(info.context, tree_hash=tree.tree_hash()),
            extensions=(Extension(RATCHET_TREE, tree.encode()),),
        )

    with pytest.raises(ValidationError, match="own leaf"):
        Group.join(a_welcome(party, bundle, without), bundle, signer=signer, authenticate=nobody)


def test_a_welcome_whose_group_info_was_changed() -> None:
    party = Party.of(2)
    bundle = key_package(signature_key_pair())
    suite = SUITES[SUITE]
    plain = welcome.GroupSecrets(bytes(32), None, ()).encode()
    sealed = labels.encrypt_with_label(suite, bundle.key_package.init_key, b"Welcome", b"junk", plain, os.urandom)
    item = welcome.EncryptedGroupSecrets(bundle.key_package.ref(), HPKECiphertext(*sealed))
    message = MLSMessage(welcome.Welcome(SUITE, (item,), b"junk")).encode()
    with pytest.raises(UnprotectError, match="GroupInfo"):
        Group.join(message, bundle, signer=party.groups[0].signer, authenticate=nobody)


# Messages.


def public(group: Group, proposal: Proposal, sender: Sender | None = None) -> AuthenticatedContent:
    framed = FramedContent(
        group.group_id,
        group.epoch,
        sender or Sender(SENDER_MEMBER, group.own_index),
        b"",
        CONTENT_PROPOSAL,
        proposal,
    )
    return AuthenticatedContent(WIRE_PUBLIC_MESSAGE, framed).sign(group.signer.private, group.keys.context)


def test_public_messages() -> None:
    party = Party.of(3)
    sender, receiver = party.groups[1], party.groups[0]
    content = public(sender, Remove(2))
    good = public_message.protect(SUITES[SUITE], sender.keys.membership_key, content, sender.keys.context)
    received = receiver.process(MLSMessage(good).encode(), authenticate=nobody)
    assert getattr(received, "proposal", None) == Remove(2)
    with pytest.raises(OwnMessage):
        sender.process(MLSMessage(good).encode(), authenticate=nobody)
    with pytest.raises(UnprotectError, match="membership tag"):
        receiver.process(MLSMessage(replace(good, membership_tag=bytes(32))).encode(), authenticate=nobody)
    unsigned = replace(content, signature=bytes(64))
    bad = public_message.protect(SUITES[SUITE], sender.keys.membership_key, unsigned, sender.keys.context)
    with pytest.raises(UnprotectError, match="signature"):
        receiver.process(MLSMessage(bad).encode(), authenticate=nobody)
    stranger = public(sender, Remove(2), Sender(SENDER_NEW_MEMBER_PROPOSAL))
    message = MLSMessage(public_message.PublicMessage(stranger.content, stranger.signature, b"", b"")).encode()
    with pytest.raises(ValidationError, match="no member"):
        receiver.process(message, authenticate=nobody)


def test_private_messages_nobody_may_send() -> None:
    party = Party.of(2)
    sender, receiver = party.groups[1], party.groups[0]
    unsigned = replace(sender.frame(CONTENT_APPLICATION, b"x", b""), signature=bytes(64))
    with pytest.raises(UnprotectError, match="signature"):
        receiver.process(sender.keys.protect(unsigned, os.urandom)[1], authenticate=nobody)
    ahead = sender.keys
    tree = ahead.tree
    for _ in range(3):
        tree, *_rest = tree.next(LeafIndex(1), application=True)
    content = sender.frame(CONTENT_APPLICATION, b"later", b"")
    _, message = replace(ahead, tree=tree).protect(content, os.urandom)
    opened = receiver.process(message, authenticate=nobody)
    assert isinstance(opened, Application)


def test_padding_that_is_not_zero() -> None:
    party = Party.of(2)
    sender, receiver = party.groups[1], party.groups[0]
    keys = sender.keys
    content = sender.frame(CONTENT_APPLICATION, b"x", b"")
    _, generation, key, nonce = keys.tree.next(LeafIndex(1), application=True)
    message = PrivateMessage(sender.group_id, sender.epoch, CONTENT_APPLICATION, b"", b"", b"")
    plain = codec.opaque(b"x") + content.encode_auth() + b"\x00\x01"
    ciphertext = primitives.aead_seal(keys.suite.aead, key, nonce, plain, message._header())
    data_key, data_nonce = sender_data_key_nonce(keys.suite, keys.sender_data_secret, ciphertext)
    data = codec.u32(1) + codec.u32(generation) + bytes(4)
    sealed = primitives.aead_seal(keys.suite.aead, data_key, data_nonce, data, message._sender_aad())
    whole = MLSMessage(replace(message, encrypted_sender_data=sealed, ciphertext=ciphertext)).encode()
    with pytest.raises(DecodeError, match="padding"):
        receiver.process(whole, authenticate=nobody)
    assert protect is not None


def test_secret_trees() -> None:
    suite = SUITES[SUITE]
    tree = SecretTree.create(suite, 4, bytes(32))
    with pytest.raises(UnprotectError, match="outside"):
        tree.at(LeafIndex(4), 0, application=True)
    with pytest.raises(UnprotectError, match="ahead"):
        tree.at(LeafIndex(0), MAX_FORWARD + 1, application=True)
    after, *_ = tree.next(LeafIndex(2), application=False)
    assert SecretTree.decode(suite, codec.Reader(after.encode())) == after
    with pytest.raises(DecodeError, match="ratchets"):
        SecretTree.decode(suite, codec.Reader(replace(after, handshake={}).encode()))


def test_contents_and_credentials_of_other_types() -> None:
    with pytest.raises(DecodeError, match="content type"):
        decode_content(9, codec.Reader(b""))
    x509 = Credential(2, b"", (b"a", b"b"))
    assert codec.parse(Credential, x509.encode()) == x509


# Trees.


def unmerged() -> tuple[RatchetTree, NodeIndex]:
    """The tree of five members, warm, whose fifth was added without a path; and its root."""
    party = Party.of(4)
    for index in range(4):
        party.commit(index)
    tree, _ = party.groups[0].tree.apply([], [], [key_package(signature_key_pair()).key_package.leaf_node])
    return tree, tree.root


def test_a_leaf_outside_the_tree_is_none() -> None:
    tree = Party.of(2).groups[0].tree
    assert tree.leaf(-1) is tree.leaf(9) is None


def with_unmerged(tree: RatchetTree, node: NodeIndex, leaves: tuple[int, ...]) -> RatchetTree:
    parent = tree.node(node)
    assert isinstance(parent, ParentNode)
    return tree.with_nodes({node: replace(parent, unmerged_leaves=leaves)})


def test_unmerged_leaves() -> None:
    party = Party.of(8)
    for index in range(8):
        party.commit(index)
    tree, _ = party.groups[0].tree.apply([], [LeafIndex(1)], [])
    party = Party.of(4)
    for index in range(4):
        party.commit(index)
    good = party.groups[0].tree
    check_parent_hashes(good)
    root = good.root
    for leaves, rule in (((2, 1), "order"), ((1, 1), "order"), ((9,), "unmerged leaf"), ((3,), "between")):
        with pytest.raises(ValidationError, match=rule):
            check_parent_hashes(with_unmerged(good, root, leaves))
    assert tree.leaf(1) is None


def test_parent_hashes() -> None:
    party = Party.of(4)
    for index in range(4):
        party.commit(index)
    good = party.groups[0].tree
    parent = good.node(good.root)
    assert isinstance(parent, ParentNode)
    with pytest.raises(ValidationError, match="parent hash"):
        check_parent_hashes(good.with_nodes({good.root: replace(parent, encryption_key=os.urandom(32))}))


def test_leaf_signatures_of_a_tree() -> None:
    party = Party.of(2)
    group = party.groups[0]
    check_tree(group.tree, group.group_id, group.extensions, nobody)
    with pytest.raises(ValidationError, match="leaf signature"):
        check_tree(group.tree, b"another group", group.extensions, nobody)


def test_an_update_of_a_blank_leaf() -> None:
    party = Party.of(3)
    group = party.groups[1]
    leaf = resigned(group, group.members[1].leaf, source=2, lifetime=None, encryption_key=os.urandom(32))
    proposed = forger.propose(group, Update(leaf))
    received = party.groups[0].process(proposed.message, authenticate=nobody)
    blank = received.group.tree.with_nodes({NodeIndex(2): None})  # type: ignore[union-attr]  # of a proposal
    with pytest.raises(ValidationError, match="blank leaf"):
        replace(received.group, tree=blank).commit(  # type: ignore[type-var]  # not None for a proposal
            references=(getattr(received, "reference", b""),), random=os.urandom
        )
