"""Lists of proposals (RFC 9420 sections 12.1 to 12.3): each rule is broken alone."""

from dataclasses import replace
from functools import partial
from typing import Final

import pytest

from restante_crypto.mls import Add, CustomProposal, GroupContextExtensions, Policy, ReInit, Remove
from restante_crypto.mls.proposals import ExternalInit
from support import forger
from support.mls import SUITE, signature_key_pair
from support.rules import (
    CAPABLE,
    KNOWN,
    PLAIN,
    PSK,
    REQUIRED,
    TAKES,
    UNKNOWN,
    Row,
    authenticate,
    bundle_of,
    holds,
    party,
    required,
)
from support.rules_commits import RESUMED, add, by_committer, lists, psk, resumption, with_update


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


TABLE: Final[list[Row]] = [
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
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_rule(row: Row) -> None:
    holds(row)
