"""External Commits and proposals from outside (RFC 9420 sections 12.1.8, 12.2, 12.4.3.2): each rule is broken alone."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pytest

from restante_crypto.mls import (
    Add,
    CommitProcessed,
    CustomProposal,
    Extension,
    Group,
    GroupContextExtensions,
    Policy,
    Proposal,
    ProposalReceived,
    ReInit,
    Remove,
    SignatureKeyPair,
    Update,
)
from restante_crypto.mls.extensions import EXTERNAL_PUB
from restante_crypto.mls.framing import SENDER_EXTERNAL, SENDER_NEW_MEMBER_PROPOSAL, Sender
from restante_crypto.mls.leaf_node import SOURCE_UPDATE
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import ExternalInit, ProposalOrRef
from restante_crypto.mls.welcome import GroupInfo
from support import forger
from support.forger import Path
from support.mls import SUITE, signature_key_pair
from support.rules import (
    CAPABLE,
    DEMANDING,
    EXTENDED,
    IMPOSTOR,
    MEMBER,
    NARROW,
    OTHER,
    PLAIN,
    PSK,
    SERVED,
    SERVER,
    SMALL,
    TAKES,
    Row,
    Setting,
    authenticate,
    bundle_of,
    holds,
    party,
)
from support.rules_commits import (
    LeafChange,
    add,
    capable,
    fields,
    key_as_before,
    key_of_member_1,
    psk,
    resumption,
    unsigned,
)
from support.rules_joining import more


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


def asks() -> tuple[Sender, Proposal, SignatureKeyPair]:
    signer = signature_key_pair()
    return Sender(SENDER_NEW_MEMBER_PROPOSAL), Add(bundle_of(signer).key_package), signer


TABLE: Final[list[Row]] = [
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
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_rule(row: Row) -> None:
    holds(row)
