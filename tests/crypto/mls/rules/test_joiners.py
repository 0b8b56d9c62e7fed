"""Joining by Welcome (RFC 9420 sections 8.4 and 12.4.3.1): each rule is broken alone."""

from dataclasses import replace
from functools import partial
from typing import Final

import pytest

from restante_crypto.mls import PathError, UnprotectError
from support.rules import DEEP, KNOWN, PLAIN, UNKNOWN, Row, holds
from support.rules_commits import psk, resumption
from support.rules_joining import Letter, context, joins, listing, more, without_the_joiner

TABLE: Final[list[Row]] = [
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
    holds(row)
