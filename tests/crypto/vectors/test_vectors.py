"""The official vectors of the MLS working group, one test per kind; their test-vectors.md says what each proves."""

import os
from typing import Any

import pytest

from restante_crypto import primitives
from restante_crypto.mls import Policy, codec, key_schedule, labels, private_message, public_message, tree_math, treekem
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.epoch import EpochKeys
from restante_crypto.mls.errors import UnprotectError
from restante_crypto.mls.extensions import Extension
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_COMMIT,
    CONTENT_PROPOSAL,
    SENDER_MEMBER,
    WIRE_PRIVATE_MESSAGE,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    Commit,
    FramedContent,
    Sender,
    confirmed_transcript_hash,
    decode_content,
    encode_content,
    interim_transcript_hash,
)
from restante_crypto.mls.group import Group, ProposalReceived
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.joining import _group_info, _group_secrets
from restante_crypto.mls.key_package import KeyPackage, KeyPackageBundle
from restante_crypto.mls.leaf_node import LeafNode, SignatureKeyPair
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import Add, Remove, Update, decode_proposal
from restante_crypto.mls.psk import EXTERNAL, PreSharedKeyID, psk_secret
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.secret_tree import SecretTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.tree_validation import check_parent_hashes
from restante_crypto.mls.update_path import UpdatePath
from restante_crypto.mls.welcome import GroupSecrets, Welcome
from restante_crypto.suites import SUITES

Case = dict[str, Any]
H = bytes.fromhex
EVER = Policy(max_lifetime=2**64 - 1)
"""Leaves of the vectors live as long as they can say."""


def nobody(_new: LeafNode, _old: LeafNode | None) -> None:
    """Vectors have credentials of their own kind: every one is taken."""


@pytest.mark.vectors("tree-math")
def test_tree_math(case: Case) -> None:
    leaves = case["n_leaves"]
    assert tree_math.node_width(leaves) == case["n_nodes"]
    root = tree_math.root(leaves)
    assert root == case["root"]
    for index in range(case["n_nodes"]):
        node = NodeIndex(index)
        children = (None, None) if tree_math.is_leaf(node) else tree_math.children(node)
        assert children == (case["left"][index], case["right"][index])
        above = (None, None) if node == root else (tree_math.parent(node), tree_math.sibling(node))
        assert above == (case["parent"][index], case["sibling"][index])


@pytest.mark.vectors("deserialization")
def test_deserialization(case: Case) -> None:
    header = H(case["vlbytes_header"])
    assert Reader(header).length() == case["length"]
    assert codec.length(case["length"]) == header


@pytest.mark.vectors("messages")
def test_messages(case: Case) -> None:
    for name in (
        "mls_welcome",
        "mls_group_info",
        "mls_key_package",
        "public_message_application",
        "public_message_proposal",
        "public_message_commit",
        "private_message",
    ):
        assert MLSMessage.parse(H(case[name])).encode() == H(case[name]), name
    tree = H(case["ratchet_tree"])
    assert RatchetTree.from_bytes(SUITES[1], tree).encode() == tree
    assert codec.parse(GroupSecrets, H(case["group_secrets"])).encode() == H(case["group_secrets"])
    assert codec.parse(Commit, H(case["commit"])).encode() == H(case["commit"])
    names = ("add", "update", "remove", "pre_shared_key", "re_init", "external_init", "group_context_extensions")
    for kind, name in enumerate(names, 1):
        data = codec.u16(kind) + H(case[f"{name}_proposal"])
        reader = Reader(data)
        assert decode_proposal(reader).encode() == data, name
        reader.done()


@pytest.mark.vectors("crypto-basics")
def test_crypto_basics(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    ref = case["ref_hash"]
    assert labels.ref_hash(suite, ref["label"].encode(), H(ref["value"])) == H(ref["out"])
    expand = case["expand_with_label"]
    label = expand["label"].encode()
    expanded = labels.expand_with_label(suite, H(expand["secret"]), label, H(expand["context"]), expand["length"])
    assert expanded == H(expand["out"])
    derive = case["derive_secret"]
    assert labels.derive_secret(suite, H(derive["secret"]), derive["label"].encode()) == H(derive["out"])
    tree = case["derive_tree_secret"]
    secret = labels.derive_tree_secret(
        suite, H(tree["secret"]), tree["label"].encode(), tree["generation"], tree["length"]
    )
    assert secret == H(tree["out"])
    sign = case["sign_with_label"]
    public, content, label = H(sign["pub"]), H(sign["content"]), sign["label"].encode()
    assert labels.verify_with_label(public, label, content, H(sign["signature"]))
    made = labels.sign_with_label(H(sign["priv"]), label, content)
    assert labels.verify_with_label(public, label, content, made)
    seal = case["encrypt_with_label"]
    private, label, context, plaintext = (
        H(seal["priv"]),
        seal["label"].encode(),
        H(seal["context"]),
        H(seal["plaintext"]),
    )
    opened = labels.decrypt_with_label(suite, private, label, context, H(seal["kem_output"]), H(seal["ciphertext"]))
    assert opened == plaintext
    sealed = labels.encrypt_with_label(suite, H(seal["pub"]), label, context, plaintext, os.urandom)
    assert labels.decrypt_with_label(suite, private, label, context, *sealed) == plaintext


@pytest.mark.vectors("secret-tree")
def test_secret_tree(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    data = case["sender_data"]
    key_nonce = private_message.sender_data_key_nonce(suite, H(data["sender_data_secret"]), H(data["ciphertext"]))
    assert key_nonce == (H(data["key"]), H(data["nonce"]))
    tree = SecretTree.create(suite, len(case["leaves"]), H(case["encryption_secret"]))
    for leaf, generations in enumerate(case["leaves"]):
        for entry in generations:
            for kind in ("handshake", "application"):
                tree, key, nonce = tree.at(LeafIndex(leaf), entry["generation"], application=kind == "application")
                assert (key, nonce) == (H(entry[f"{kind}_key"]), H(entry[f"{kind}_nonce"]))


@pytest.mark.vectors("message-protection")
def test_message_protection(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    context = GroupContext(
        suite.number,
        H(case["group_id"]),
        case["epoch"],
        H(case["tree_hash"]),
        H(case["confirmed_transcript_hash"]),
    ).encode()
    keys = EpochKeys(
        suite,
        H(case["group_id"]),
        case["epoch"],
        0,
        context,
        H(case["sender_data_secret"]),
        H(case["membership_key"]),
        SecretTree.create(suite, 2, H(case["encryption_secret"])),
    )

    def key_of(content: AuthenticatedContent) -> bytes | None:
        return H(case["signature_pub"]) if content.content.sender == Sender(SENDER_MEMBER, 1) else None

    for name, kind in (
        ("proposal", CONTENT_PROPOSAL),
        ("commit", CONTENT_COMMIT),
        ("application", CONTENT_APPLICATION),
    ):
        raw = H(case[name])
        body = raw if kind == CONTENT_APPLICATION else decode_content(kind, Reader(raw))
        for wire in ("pub", "priv"):
            if f"{name}_{wire}" in case:
                _, content = keys.unprotect(MLSMessage.parse(H(case[f"{name}_{wire}"])), key_of)
                opened = content.content.content
                assert opened == raw if isinstance(opened, bytes) else encode_content(opened) == raw
        framed = FramedContent(keys.group_id, keys.epoch, Sender(SENDER_MEMBER, 1), b"", kind, body)
        seed = H(case["signature_priv"])
        tag = bytes(32) if kind == CONTENT_COMMIT else b""
        private = AuthenticatedContent(WIRE_PRIVATE_MESSAGE, framed, b"", tag).sign(seed, context)
        _, message = keys.protect(private, os.urandom)
        assert encode_content(keys.unprotect(MLSMessage.parse(message), key_of)[1].content.content) == encode_content(
            body
        )
        public = AuthenticatedContent(WIRE_PUBLIC_MESSAGE, framed, b"", tag).sign(seed, context)
        made = MLSMessage(public_message.protect(suite, keys.membership_key, public, context))
        if kind == CONTENT_APPLICATION:
            with pytest.raises(UnprotectError):
                keys.unprotect(made, key_of)
        else:
            assert keys.unprotect(MLSMessage.parse(made.encode()), key_of)[1] == public


@pytest.mark.vectors("key-schedule")
def test_key_schedule(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    init_secret = H(case["initial_init_secret"])
    for number, epoch in enumerate(case["epochs"]):
        context = GroupContext(
            suite.number,
            H(case["group_id"]),
            number,
            H(epoch["tree_hash"]),
            H(epoch["confirmed_transcript_hash"]),
        ).encode()
        assert context == H(epoch["group_context"])
        joiner = key_schedule.joiner_secret(suite, init_secret, H(epoch["commit_secret"]), context)
        assert joiner == H(epoch["joiner_secret"])
        member = key_schedule.member_secret(suite, joiner, H(epoch["psk_secret"]))
        assert labels.derive_secret(suite, member, b"welcome") == H(epoch["welcome_secret"])
        secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context)
        assert encryption_secret == H(epoch["encryption_secret"])
        for name in secrets.__slots__:
            assert getattr(secrets, name) == H(epoch[name]), name
        assert suite.kem.derive_key_pair(secrets.external_secret)[1] == H(epoch["external_pub"])
        exporter = epoch["exporter"]
        exported = key_schedule.export(
            suite, secrets.exporter_secret, exporter["label"].encode(), H(exporter["context"]), exporter["length"]
        )
        assert exported == H(exporter["secret"])
        init_secret = secrets.init_secret


@pytest.mark.vectors("psk_secret")
def test_psk_secret(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    psks = [
        (PreSharedKeyID(EXTERNAL, H(psk["psk_nonce"]), psk_id=H(psk["psk_id"])), H(psk["psk"])) for psk in case["psks"]
    ]
    assert psk_secret(suite, psks) == H(case["psk_secret"])


@pytest.mark.vectors("transcript-hashes")
def test_transcript_hashes(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    content = codec.parse(AuthenticatedContent, H(case["authenticated_content"]))
    assert isinstance(content.content.content, Commit)
    confirmed = confirmed_transcript_hash(suite, H(case["interim_transcript_hash_before"]), content)
    assert confirmed == H(case["confirmed_transcript_hash_after"])
    tag = primitives.hmac(suite.hash_name, H(case["confirmation_key"]), confirmed)
    assert tag == content.confirmation_tag
    assert interim_transcript_hash(suite, confirmed, tag) == H(case["interim_transcript_hash_after"])


@pytest.mark.vectors("welcome")
def test_welcome(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    package = MLSMessage.parse(H(case["key_package"])).body
    welcome = MLSMessage.parse(H(case["welcome"])).body
    assert isinstance(package, KeyPackage)
    assert isinstance(welcome, Welcome)
    secrets = _group_secrets(suite, welcome, KeyPackageBundle(package, H(case["init_priv"]), b""))
    member = key_schedule.member_secret(suite, secrets.joiner_secret, psk_secret(suite, []))
    info = _group_info(suite, member, welcome)
    assert info.verify(H(case["signer_pub"]))
    epoch, _ = key_schedule.epoch_secrets(suite, member, info.context.encode())
    tag = primitives.hmac(suite.hash_name, epoch.confirmation_key, info.context.confirmed_transcript_hash)
    assert tag == info.confirmation_tag


@pytest.mark.vectors("tree-operations")
def test_tree_operations(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    tree = RatchetTree.from_bytes(suite, H(case["tree_before"]))
    assert tree.tree_hash() == H(case["tree_hash_before"])
    proposal = decode_proposal(Reader(H(case["proposal"])))
    sender = LeafIndex(case["proposal_sender"])
    match proposal:
        case Add():
            after, _ = tree.apply([], [], [proposal.key_package.leaf_node])
        case Update():
            after, _ = tree.apply([(sender, proposal.leaf_node)], [], [])
        case Remove():
            after, _ = tree.apply([], [LeafIndex(proposal.removed)], [])
        case _:
            raise AssertionError
    assert after.encode() == H(case["tree_after"])
    assert after.tree_hash() == H(case["tree_hash_after"])
    assert RatchetTree.from_bytes(suite, after.encode()).tree_hash() == after.tree_hash()


@pytest.mark.vectors("tree-validation")
def test_tree_validation(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    tree = RatchetTree.from_bytes(suite, H(case["tree"]))
    for index, resolution in enumerate(case["resolutions"]):
        assert tree.resolution(NodeIndex(index)) == resolution
    for index, tree_hash in enumerate(case["tree_hashes"]):
        assert tree.tree_hash(NodeIndex(index)) == H(tree_hash)
    check_parent_hashes(tree)
    assert all(leaf.verify(H(case["group_id"]), index) for index, leaf in tree.members())


@pytest.mark.vectors("treekem")
def test_treekem(case: Case) -> None:
    suite = SUITES[case["cipher_suite"]]
    tree = RatchetTree.from_bytes(suite, H(case["ratchet_tree"]))
    group_id = H(case["group_id"])
    private: dict[int, dict[NodeIndex, bytes]] = {}
    signers: dict[int, SignatureKeyPair] = {}
    for leaf in case["leaves_private"]:
        index = leaf["index"]
        keys = {NodeIndex(2 * index): H(leaf["encryption_priv"])}
        for entry in leaf["path_secrets"]:
            keys[NodeIndex(entry["node"])] = treekem.node_key_pair(suite, H(entry["path_secret"]))[0]
        for node, key in keys.items():
            known = tree.node(node)
            assert known is not None
            assert known.encryption_key == suite.kem.public_key(key)
        seed = H(leaf["signature_priv"])
        signers[index] = SignatureKeyPair(primitives.ed25519_public(seed), seed)
        private[index] = keys

    def context(changed: RatchetTree) -> bytes:
        return GroupContext(
            suite.number, group_id, case["epoch"], changed.tree_hash(), H(case["confirmed_transcript_hash"])
        ).encode()

    for entry in case["update_paths"]:
        sender = LeafIndex(entry["sender"])
        path = codec.parse(UpdatePath, H(entry["update_path"]))
        after = treekem.merge_path(tree, sender, path)
        assert after.tree_hash() == H(entry["tree_hash_after"])
        leaf_node = tree.leaf(sender)
        assert leaf_node is not None
        made = treekem.make_path(tree, sender, leaf_node, signer=signers[sender], group_id=group_id, random=os.urandom)
        own = treekem.seal_path(made, context(made.tree), (), os.urandom)
        assert treekem.merge_path(tree, sender, own).tree_hash() == made.tree.tree_hash()
        for index, keys in private.items():
            if index == sender:
                continue
            for update, changed, expected in (
                (path, after, H(entry["commit_secret"])),
                (own, made.tree, made.commit_secret),
            ):
                fresh, commit_secret = treekem.open_path(
                    changed,
                    sender,
                    update,
                    receiver=LeafIndex(index),
                    private_keys=keys,
                    context=context(changed),
                    new_leaves=(),
                )
                assert commit_secret == expected
                if update is path:
                    secret = H(entry["path_secrets"][index])
                    lowest = min(fresh, key=tree_math.level)
                    assert fresh[lowest] == treekem.node_key_pair(suite, secret)[0]


@pytest.mark.vectors("passive-client-welcome", "passive-client-handling-commit", "passive-client-random")
def test_passive_client(case: Case) -> None:
    psks = {H(psk["psk_id"]): H(psk["psk"]) for psk in case["external_psks"]}
    package = MLSMessage.parse(H(case["key_package"])).body
    assert isinstance(package, KeyPackage)
    seed = H(case["signature_priv"])
    signer = SignatureKeyPair(primitives.ed25519_public(seed), seed)
    assert signer.public == package.leaf_node.signature_key
    kem = SUITES[case["cipher_suite"]].kem
    bundle = KeyPackageBundle(package, H(case["init_priv"]), H(case["encryption_priv"]))
    assert kem.public_key(bundle.init_private) == package.init_key
    assert kem.public_key(bundle.leaf_private) == package.leaf_node.encryption_key
    group = Group.join(
        H(case["welcome"]),
        KeyPackageBundle.from_bytes(bundle.to_bytes()),
        signer=signer,
        authenticate=nobody,
        ratchet_tree=H(case["ratchet_tree"]) if case["ratchet_tree"] else None,
        psks=psks,
        policy=EVER,
    ).group
    assert group.epoch_authenticator == H(case["initial_epoch_authenticator"])
    for epoch in case["epochs"]:
        psks[group.group_id + codec.u64(group.epoch)] = group.secrets.resumption_psk
        for proposal in epoch["proposals"]:
            received = group.process(H(proposal), authenticate=nobody, policy=EVER)
            assert isinstance(received, ProposalReceived)
            group = received.group
        group = Group.restore(group.epoch_state(), group.message_state())
        following = group.process(H(epoch["commit"]), authenticate=nobody, psks=psks, policy=EVER).group
        assert following is not None
        group = following
        assert group.epoch_authenticator == H(epoch["epoch_authenticator"])


def test_extension_type_is_carried_verbatim() -> None:
    extension = Extension(0x0A0A, b"grease")
    assert codec.parse(Extension, extension.encode()) == extension
