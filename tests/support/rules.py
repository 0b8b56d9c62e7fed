"""For the rules of RFC 9420: parties, and what a rule's row is.

``forge`` of a row makes a message that breaks the rule alone, or the same message unbroken; both are processed by a
member who did not make them, and the unbroken one is followed to the same epoch, so that nothing but the rule can be
the reason.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import pytest

from restante_crypto.mls import (
    Add,
    Capabilities,
    CommitProcessed,
    Credential,
    CredentialError,
    Extension,
    ExternalSender,
    Group,
    KeyPackageBundle,
    LeafNode,
    MLSError,
    PathError,
    Policy,
    SignatureKeyPair,
    ValidationError,
    create_key_package,
    encode_external_senders,
)
from restante_crypto.mls.extensions import REQUIRED_CAPABILITIES, RequiredCapabilities
from support import forger
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


PLAIN: Final = Setting()
NARROW: Final = Setting(capabilities=replace(CAPABLE, credentials=(1,)))
OTHERS: Final = Setting(credential=OTHER)
EXTENDED: Final = Setting(extensions=(KNOWN,))
DEMANDING: Final = Setting(extensions=(REQUIRED,))
SERVED: Final = Setting(extensions=(encode_external_senders([ExternalSender(SERVER.public, MEMBER)]),))
WIDE: Final = Setting(size=4, committed=(0, 1, 2, 3))
DEEP: Final = Setting(size=15, committed=(12, 8))  # whose next joiner is unmerged in two parents, 27 and 23


def holds(row: Row) -> None:
    """What is right passes, and what is wrong is refused by this rule's name."""
    row.forge(row.right)
    with pytest.raises(row.error) as failure:
        row.forge(row.wrong)
    assert str(failure.value) == row.rule
    assert failure.value.common == (row.error is not PathError)
