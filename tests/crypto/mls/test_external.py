"""Those who are no members: external Commits, and proposals from outside."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from restante_crypto.mls import (
    Add,
    Application,
    CommitProcessed,
    Credential,
    DecodeError,
    Extension,
    ExternalSender,
    Group,
    GroupContextExtensions,
    JoinedExternally,
    LeafNode,
    MLSError,
    PathError,
    Policy,
    PreSharedKey,
    PreSharedKeyID,
    Proposal,
    ProposalReceived,
    Remove,
    StateError,
    UnprotectError,
    Update,
    ValidationError,
    ask_to_join,
    codec,
    encode_external_senders,
    external,
    propose_from_outside,
    public_message,
    resumption_psk_id,
    treekem,
)
from restante_crypto.mls.extensions import EXTERNAL_PUB, RATCHET_TREE
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_COMMIT,
    CONTENT_PROPOSAL,
    SENDER_EXTERNAL,
    SENDER_NEW_MEMBER_COMMIT,
    SENDER_NEW_MEMBER_PROPOSAL,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    Commit,
    FramedContent,
    Sender,
)
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, SOURCE_UPDATE, SignatureKeyPair
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import ExternalInit, ProposalOrRef
from restante_crypto.mls.psk import EXTERNAL, RESUMPTION
from restante_crypto.mls.tree_math import LeafIndex
from restante_crypto.mls.update_path import UpdatePath
from restante_crypto.mls.welcome import GroupInfo
from restante_crypto.suites import SUITES, XWING
from support.mls import CAPABILITIES, SUITE, Party, key_package, nobody, signature_key_pair

OPEN = Policy(external_commits=True, external_proposals=True)


def let_in(group_info: bytes, **changes: object) -> JoinedExternally:
    """A stranger's external Commit."""
    arguments: dict[str, object] = {
        "signer": signature_key_pair(),
        "credential": Credential.basic(b"stranger"),
        "capabilities": CAPABILITIES,
        "authenticate": nobody,
        "random": os.urandom,
    }
    return Group.join_externally(group_info, **{**arguments, **changes})  # type: ignore[arg-type]  # by name


def follow(party: Party, joined: JoinedExternally, **psks: object) -> list[CommitProcessed]:
    """Let all members follow; the joiner takes part from here on."""
    results = []
    for index, group in tuple(party.groups.items()):
        result = group.process(joined.message, authenticate=nobody, policy=OPEN, **psks)  # type: ignore[arg-type]  # by name
        assert isinstance(result, CommitProcessed)
        results.append(result)
        del party.groups[index]
        if result.group is not None:
            party.groups[index] = result.group
    party.groups[joined.group.own_index] = joined.group
    return results


# External Commits: section 12.4.3.2.


@pytest.mark.parametrize("suite", [1, SUITE, XWING])
def test_a_stranger_lets_itself_in(suite: int) -> None:
    party = Party.of(3, suite)
    joined = let_in(party.groups[1].group_info())
    results = follow(party, joined)
    assert party.agree()
    assert all(result.external and result.committer == 3 for result in results)
    assert [[member.index for member in result.added] for result in results] == [[3]] * 3
    for sender in party.groups:
        message = party.say(sender, b"hello")
        for index, group in party.groups.items():
            if index != sender:
                assert isinstance(group.process(message, authenticate=nobody), Application)
    party.commit(3)
    party.add(0)
    assert party.agree()


def test_a_tree_beside_the_group_info() -> None:
    party = Party.of(2)
    info, tree = party.groups[0].group_info(with_tree=False), party.groups[0].tree.encode()
    with pytest.raises(StateError, match="no ratchet tree"):
        let_in(info)
    follow(party, let_in(info, ratchet_tree=tree))
    assert party.agree()


def test_a_member_comes_back_in_place_of_its_old_leaf() -> None:
    party = Party.of(4)
    lost = party.groups[2]
    joined = let_in(party.groups[0].group_info(), signer=lost.signer, replaces=2)
    seen: list[tuple[LeafNode, LeafNode | None]] = []
    result = party.groups[1].process(joined.message, authenticate=lambda new, old: seen.append((new, old)), policy=OPEN)
    assert isinstance(result, CommitProcessed)
    assert [member.index for member in result.removed] == [2]
    assert seen == [(joined.group.tree.leaf(2), party.groups[1].tree.leaf(2))]
    assert follow(party, joined)[2].group is None
    assert party.agree()
    assert len(party.groups) == 4


def test_psks_of_both_kinds_in_an_external_commit() -> None:
    party = Party.of(2)
    old = party.groups[0]
    names = [
        PreSharedKeyID(EXTERNAL, os.urandom(32), psk_id=b"shared"),
        PreSharedKeyID(RESUMPTION, os.urandom(32), usage=1, psk_group_id=old.group_id, psk_epoch=old.epoch),
    ]
    secrets = {b"shared": b"secret", old.group_id + codec.u64(old.epoch): old.secrets.resumption_psk}
    joined = let_in(old.group_info(), psk_ids=names, psks=secrets)
    with pytest.raises(StateError):
        old.process(joined.message, authenticate=nobody, policy=OPEN)
    with pytest.raises(PathError):
        old.process(joined.message, authenticate=nobody, policy=OPEN, psks={**secrets, b"shared": b"other"})
    follow(party, joined, psks=secrets)
    assert party.agree()


def test_nobody_is_let_in_unless_the_application_says_so() -> None:
    group = Party.of(2).groups[0]
    joined = let_in(group.group_info())
    with pytest.raises(ValidationError, match="no member") as failure:
        group.process(joined.message, authenticate=nobody)
    assert failure.value.common
    with pytest.raises(StateError, match="no member"):
        group.archive().unprotect(joined.message)


def test_only_who_was_a_member_is_let_in_again() -> None:
    party = Party.of(3)
    again, group = Policy(resyncs=True), party.groups[0]
    with pytest.raises(ValidationError, match="somebody new") as failure:
        group.process(let_in(group.group_info()).message, authenticate=nobody, policy=again)
    assert failure.value.common
    joined = let_in(group.group_info(), signer=party.groups[2].signer, replaces=2)
    result = group.process(joined.message, authenticate=nobody, policy=again)
    assert isinstance(result, CommitProcessed)
    assert result.external


def test_the_application_says_which_resumption_psks_count() -> None:
    party = Party.of(2)
    group = party.groups[0]
    for epoch, name in ((1, b"group"), (0, b"group"), (1, b"other")):
        psk = resumption_psk_id(SUITE, name, epoch, os.urandom)
        psks = {name + codec.u64(epoch): group.resumption_psk}
        joined = let_in(group.group_info(), psk_ids=[psk], psks=psks)
        policy = Policy(external_commits=True, psk_epochs=range(1, 2))
        if (epoch, name) == (1, b"group"):
            result = group.process(joined.message, authenticate=nobody, psks=psks, policy=policy)
            assert isinstance(result, CommitProcessed)
        else:
            with pytest.raises(ValidationError, match="not all members hold") as failure:
                group.process(joined.message, authenticate=nobody, psks=psks, policy=policy)
            assert failure.value.common
    external_psk = PreSharedKeyID(EXTERNAL, os.urandom(32), psk_id=b"shared")
    joined = let_in(group.group_info(), psk_ids=[external_psk], psks={b"shared": b"secret"})
    with pytest.raises(ValidationError, match="not all members hold"):
        group.process(
            joined.message,
            authenticate=nobody,
            psks={b"shared": b"secret"},
            policy=Policy(external_commits=True, psk_epochs=()),
        )


def forged(
    group: Group,
    alter: Callable[[list[ProposalOrRef], UpdatePath], tuple[list[ProposalOrRef], UpdatePath | None]],
    removes: Sequence[int] = (),
    signer: SignatureKeyPair | None = None,
) -> bytes:
    """An external Commit of which one thing is changed before it is signed; its confirmation tag is of zeros."""
    signer = signer or signature_key_pair()
    info = MLSMessage.parse(group.group_info()).body
    assert isinstance(info, GroupInfo)
    suite = SUITES[SUITE]
    encapsulation, _ = external.encapsulate(suite, external.external_key(info), os.urandom)
    leaf = LeafNode(bytes(32), signer.public, Credential.basic(b"x"), CAPABILITIES, SOURCE_COMMIT)
    tree, (own,) = group.tree.apply([], [LeafIndex(each) for each in removes], [leaf])
    made = treekem.make_path(tree, own, leaf, signer=signer, group_id=group.group_id, random=os.urandom)
    context = replace(group.context, epoch=group.epoch + 1, tree_hash=made.tree.tree_hash())
    path = treekem.seal_path(made, context.encode(), (), os.urandom)
    proposals: list[Proposal] = [ExternalInit(encapsulation), *(Remove(each) for each in removes)]
    items, altered = alter([ProposalOrRef(each) for each in proposals], path)
    sender = Sender(SENDER_NEW_MEMBER_COMMIT)
    framed = FramedContent(group.group_id, group.epoch, sender, b"", CONTENT_COMMIT, Commit(tuple(items), altered))
    content = AuthenticatedContent(WIRE_PUBLIC_MESSAGE, framed).sign(signer.private, group.context.encode())
    return MLSMessage(public_message.of_an_outsider(replace(content, confirmation_tag=bytes(32)))).encode()


def with_leaf(signer: SignatureKeyPair, group: Group, path: UpdatePath, **changes: object) -> UpdatePath:
    leaf = replace(path.leaf_node, raw=b"", **changes)  # type: ignore[arg-type]  # by name
    return replace(path, leaf_node=leaf.sign(signer, group.group_id, 2))


def test_rules_of_external_commits() -> None:
    group, signer = Party.of(2).groups[0], signature_key_pair()
    psk = PreSharedKey(PreSharedKeyID(EXTERNAL, bytes(32), psk_id=b"x"))
    short = PreSharedKey(PreSharedKeyID(EXTERNAL, bytes(3), psk_id=b"x"))
    branch = PreSharedKey(PreSharedKeyID(RESUMPTION, bytes(32), usage=3, psk_group_id=b"g"))
    add = Add(key_package(signature_key_pair()).key_package)
    value = ProposalOrRef
    rules: dict[str, bytes] = {
        "12.4.3.2 a reference": forged(group, lambda items, path: ([*items, value(None, bytes(32))], path)),
        "12.2 one ExternalInit": forged(group, lambda items, path: (items[1:], path)),
        "12.2 one ExternalInit ": forged(group, lambda items, path: ([*items, items[0]], path)),
        "12.2 more than one Remove": forged(
            group, lambda items, path: ([*items, value(Remove(0)), value(Remove(1))], path)
        ),
        "12.2 proposal in an external Commit": forged(group, lambda items, path: ([*items, value(add)], path)),
        "12.2 PreSharedKey twice": forged(group, lambda items, path: ([*items, value(psk), value(psk)], path)),
        "12.1.4 PSK nonce": forged(group, lambda items, path: ([*items, value(short)], path)),
        "12.1.4 PSK usage": forged(group, lambda items, path: ([*items, value(branch)], path)),
        "12.1 proposal for a blank leaf": forged(group, lambda items, path: ([*items, value(Remove(3))], path)),
        "7.3 leaf of a Commit": forged(
            group,
            lambda items, path: (items, with_leaf(signer, group, path, source=SOURCE_UPDATE)),
            signer=signer,
        ),
        "7.3 cipher suite": forged(
            group,
            lambda items, path: (
                items,
                with_leaf(signer, group, path, capabilities=replace(CAPABILITIES, suites=(1,))),
            ),
            signer=signer,
        ),
        "7.3 leaf signature": forged(
            group,
            lambda items, path: (
                items,
                replace(path, leaf_node=replace(path.leaf_node, signature=bytes(64), raw=b"")),
            ),
            signer=signer,
        ),
        "7.3 unique signature keys": forged(group, lambda items, path: (items, path), signer=group.signer),
        "12.4.3.2 path required": forged(group, lambda items, _path: (items, None)),
        "7.5 length of the path": forged(group, lambda items, path: (items, replace(path, nodes=()))),
        "7.5 public key of the path": forged(
            group,
            lambda items, path: (items, replace(path, nodes=(replace(path.nodes[0], encryption_key=bytes(32)),))),
        ),
    }
    for rule, message in rules.items():
        with pytest.raises(ValidationError) as failure:
            group.process(message, authenticate=nobody, policy=OPEN)
        assert failure.value.rule.startswith(rule.strip()), rule
    honest = forged(group, lambda items, path: (items, path))
    with pytest.raises(PathError, match="confirmation tag"):
        group.process(honest, authenticate=nobody, policy=OPEN)
    broken = forged(group, lambda items, path: ([value(ExternalInit(bytes(7))), *items[1:]], path))
    with pytest.raises(UnprotectError, match="external init"):
        group.process(broken, authenticate=nobody, policy=OPEN)


def test_who_comes_back_has_a_new_key() -> None:
    party = Party.of(3)
    group, lost = party.groups[0], party.groups[2]
    old_key = lost.tree.occupied_leaf(2).encryption_key
    message = forged(
        group,
        lambda items, path: (items, with_leaf(lost.signer, group, path, encryption_key=old_key)),
        removes=[2],
        signer=lost.signer,
    )
    with pytest.raises(ValidationError, match=r"7\.3 new encryption key"):
        group.process(message, authenticate=nobody, policy=OPEN)


# GroupInfo: section 12.4.3.3.


def test_what_is_no_group_info_to_join_by() -> None:
    group = Party.of(2).groups[0]
    info = MLSMessage.parse(group.group_info()).body
    assert isinstance(info, GroupInfo)

    def again(extensions: tuple[Extension, ...], **changes: object) -> bytes:
        changed = replace(info, extensions=extensions, **changes)  # type: ignore[arg-type]  # by name
        return MLSMessage(changed.sign(group.signer.private)).encode()

    tree = Extension(RATCHET_TREE, group.tree.encode())
    with pytest.raises(StateError, match="not a GroupInfo"):
        let_in(Party.of(1).groups[0].protect(b"x", random=os.urandom).message)
    with pytest.raises(ValidationError, match=r"12\.4\.3\.2 external_pub"):
        let_in(again((tree,)))
    with pytest.raises(ValidationError, match=r"12\.4\.3\.2 external_pub"):
        let_in(again((tree, Extension(EXTERNAL_PUB, codec.opaque(bytes(32))))))
    with pytest.raises(DecodeError):
        let_in(again((tree, Extension(EXTERNAL_PUB, codec.opaque(bytes(32)) + b"more"))))
    with pytest.raises(StateError, match="cipher suite"):
        let_in(again(info.extensions, context=replace(info.context, suite=77)))
    with pytest.raises(ValidationError, match="tree hash"):
        let_in(again(info.extensions, context=replace(info.context, tree_hash=bytes(32))))
    with pytest.raises(ValidationError, match="signature of the GroupInfo"):
        let_in(MLSMessage(replace(info, signature=bytes(64))).encode())
    with pytest.raises(ValidationError, match="signature of the GroupInfo"):
        let_in(again(info.extensions, signer=5))


# Proposals from outside: section 12.1.8.


def test_an_external_sender_proposes_and_members_commit() -> None:
    party, server = Party.of(3), signature_key_pair()
    known = encode_external_senders([ExternalSender(server.public, Credential.basic(b"server"))])
    party.commit(0, GroupContextExtensions((known,)))
    group = party.groups[0]
    message = propose_from_outside(group.group_id, group.epoch, Remove(2), sender=0, signer=server)
    with pytest.raises(ValidationError, match="no member"):
        group.process(message, authenticate=nobody)
    references = []
    for index, each in party.groups.items():
        result = each.process(message, authenticate=nobody, policy=OPEN)
        assert isinstance(result, ProposalReceived)
        assert (result.outside, result.sender, result.proposal) == (True, 0, Remove(2))
        party.groups[index] = Group.restore(result.group.epoch_state(), result.group.message_state())
        references.append(result.reference)
    party.commit(1, references=(references[0],))
    assert set(party.groups) == {0, 1}
    assert party.agree()


def test_a_stranger_asks_to_be_added() -> None:
    party, signer = Party.of(2), signature_key_pair()
    bundle, group = key_package(signer, "stranger"), party.groups[0]
    message = ask_to_join(group.group_id, group.epoch, bundle.key_package, signer=signer)
    result = group.process(message, authenticate=nobody, policy=OPEN)
    assert isinstance(result, ProposalReceived)
    staged = result.group.commit(references=[result.reference], random=os.urandom)
    assert staged.welcome is not None
    joined = Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody).group
    assert joined.epoch_authenticator == staged.group.epoch_authenticator


def said(
    group: Group, sender: Sender, kind: int, content: bytes | Proposal | Commit, signer: SignatureKeyPair
) -> bytes:
    framed = FramedContent(group.group_id, group.epoch, sender, b"", kind, content)
    signed = AuthenticatedContent(WIRE_PUBLIC_MESSAGE, framed).sign(signer.private, group.context.encode())
    return MLSMessage(public_message.of_an_outsider(signed)).encode()


def test_rules_for_outsiders() -> None:
    party, server = Party.of(2), signature_key_pair()
    party.commit(0, GroupContextExtensions((encode_external_senders([ExternalSender(server.public, Credential(1))]),)))
    group = party.groups[0]
    update = Update(key_package(server).key_package.leaf_node)
    add = Add(key_package(server).key_package)
    wrong: list[tuple[type[MLSError], str, bytes]] = [
        (ValidationError, r"12\.1\.8", propose_from_outside(b"group", group.epoch, update, sender=0, signer=server)),
        (UnprotectError, "signature", propose_from_outside(b"group", group.epoch, add, sender=1, signer=server)),
        (
            UnprotectError,
            "signature",
            propose_from_outside(b"group", group.epoch, add, sender=0, signer=signature_key_pair()),
        ),
        (StateError, "epoch", propose_from_outside(b"group", group.epoch + 1, add, sender=0, signer=server)),
        (StateError, "group", propose_from_outside(b"other", group.epoch, add, sender=0, signer=server)),
        (
            ValidationError,
            r"12\.1\.8",
            said(group, Sender(SENDER_NEW_MEMBER_PROPOSAL), CONTENT_PROPOSAL, Remove(1), server),
        ),
        (
            UnprotectError,
            "no member",
            said(group, Sender(SENDER_EXTERNAL), CONTENT_COMMIT, Commit((), None), server),
        ),
        (
            UnprotectError,
            "no member",
            said(group, Sender(SENDER_NEW_MEMBER_COMMIT), CONTENT_PROPOSAL, add, server),
        ),
        (UnprotectError, "application", said(group, Sender(SENDER_EXTERNAL), CONTENT_APPLICATION, b"x", server)),
    ]
    for kind, text, message in wrong:
        with pytest.raises(kind, match=text):
            group.process(message, authenticate=nobody, policy=OPEN)


def test_nobody_proposes_from_outside_unless_the_group_names_them() -> None:
    group, server = Party.of(2).groups[0], signature_key_pair()
    message = propose_from_outside(group.group_id, group.epoch, Remove(1), sender=0, signer=server)
    with pytest.raises(UnprotectError, match="signature"):
        group.process(message, authenticate=nobody, policy=OPEN)


def test_external_senders_that_cannot_be_read() -> None:
    party, server = Party.of(2), signature_key_pair()
    party.commit(0, GroupContextExtensions((Extension(5, b"\x02nonsense"),)))
    group = party.groups[0]
    message = propose_from_outside(group.group_id, group.epoch, Remove(1), sender=0, signer=server)
    with pytest.raises(DecodeError):
        group.process(message, authenticate=nobody, policy=OPEN)
