"""The leaf of an Update, of a path, and of a tree that one joins (RFC 9420 section 7.3): each rule is broken alone."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import pytest

from restante_crypto.mls import Lifetime
from restante_crypto.mls.extensions import MAX_LIFETIME
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, SOURCE_UPDATE
from support.forger import Path
from support.mls import signature_key_pair
from support.rules import (
    CAPABLE,
    DEMANDING,
    EXTENDED,
    IMPOSTOR,
    KNOWN,
    MEMBER,
    NARROW,
    OTHER,
    OTHERS,
    PLAIN,
    SMALL,
    UNKNOWN,
    Row,
    Setting,
    holds,
)
from support.rules_commits import (
    LeafChange,
    after,
    capable,
    fields,
    key_as_before,
    key_of_member_1,
    lacking,
    paths,
    same,
    signed_as_member_1,
    unsigned,
    updates,
    whole_paths,
)
from support.rules_joining import Letter, joins


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


TABLE: Final[list[Row]] = [
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
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_rule(row: Row) -> None:
    holds(row)
