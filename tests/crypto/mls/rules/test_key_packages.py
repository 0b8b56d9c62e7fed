"""The KeyPackage of an Add (RFC 9420 sections 7.2, 7.3 and 10.1): each rule is broken alone."""

from dataclasses import replace
from functools import partial
from typing import Final

import pytest

from restante_crypto.mls import Lifetime
from restante_crypto.mls.extensions import MAX_LIFETIME
from restante_crypto.mls.leaf_node import SOURCE_UPDATE
from support.rules import (
    CAPABLE,
    DEMANDING,
    EXTENDED,
    IMPOSTOR,
    KNOWN,
    NARROW,
    OTHER,
    OTHERS,
    PLAIN,
    SMALL,
    UNKNOWN,
    WIDE,
    Row,
    holds,
)
from support.rules_commits import (
    adds,
    honest,
    lacking,
    of_a_member,
    package,
    same_key_twice,
    with_a_members_key,
    with_a_parents_key,
)

TABLE: Final[list[Row]] = [
    # 10.1 and 7.3: the KeyPackage of an Add.
    Row("10.1 version", partial(adds, PLAIN), honest, package(version=2)),
    Row("10.1 cipher suite", partial(adds, PLAIN), honest, package(suite=1)),
    Row(
        "10.1 signature",
        partial(adds, PLAIN),
        honest,
        lambda groups, signer: replace(honest(groups, signer), signature=bytes(64)),
    ),
    Row("10.1 init key", partial(adds, PLAIN), honest, same_key_twice),
    Row("10.1 init key", partial(adds, PLAIN), honest, package(init_key=SMALL)),
    Row("7.3 leaf of a KeyPackage", partial(adds, PLAIN), honest, package({"source": SOURCE_UPDATE, "lifetime": None})),
    Row("7.3 leaf signature", partial(adds, PLAIN), honest, package({"signature": bytes(64)}, sign_leaf=False)),
    Row(
        "7.2 total lifetime",
        partial(adds, PLAIN),
        package({"lifetime": Lifetime(5, 5 + MAX_LIFETIME)}),
        package({"lifetime": Lifetime(5, 6 + MAX_LIFETIME)}),
    ),
    Row(
        "7.2 total lifetime",
        partial(adds, PLAIN),
        package({"lifetime": Lifetime(5, 5)}),
        package({"lifetime": Lifetime(5, 4)}),
    ),
    Row("a credential that the application refuses", partial(adds, PLAIN), honest, package(credential=IMPOSTOR)),
    Row("7.3 protocol version", partial(adds, PLAIN), honest, package(capabilities=replace(CAPABLE, versions=(2,)))),
    Row("7.3 cipher suite", partial(adds, PLAIN), honest, package(capabilities=replace(CAPABLE, suites=(1,)))),
    Row("7.3 encryption key", partial(adds, PLAIN), honest, package({"encryption_key": SMALL})),
    Row(
        "7.3 own credential type",
        partial(adds, PLAIN),
        honest,
        package(credential=OTHER, capabilities=replace(CAPABLE, credentials=(1,))),
    ),
    Row(
        "7.3 leaf extensions",
        partial(adds, PLAIN),
        package({"extensions": (KNOWN,)}),
        package({"extensions": (UNKNOWN,)}),
    ),
    Row(
        "13.4 an extension twice",
        partial(adds, PLAIN),
        package({"extensions": (KNOWN,)}),
        package({"extensions": (KNOWN, KNOWN)}),
    ),
    Row(
        "13.4 an extension twice",
        partial(adds, PLAIN),
        package(extensions=(UNKNOWN,)),
        package(extensions=(UNKNOWN, UNKNOWN)),
    ),
    Row(
        "13.4 group extensions", partial(adds, EXTENDED), honest, package(capabilities=replace(CAPABLE, extensions=()))
    ),
    *(
        Row(
            "7.3 required capabilities",
            partial(adds, DEMANDING),
            honest,
            package(capabilities=replace(CAPABLE, **lack)),
        )  # type: ignore[arg-type]  # by name
        for _, lack in lacking()
    ),
    Row("7.3 credential types", partial(adds, NARROW), honest, package(credential=OTHER)),
    Row(
        "7.3 credential types",
        partial(adds, OTHERS),
        package(credential=OTHER),
        package(capabilities=replace(CAPABLE, credentials=(1,))),
    ),
    Row("7.3 unique signature keys", partial(adds, PLAIN), honest, of_a_member),
    Row("7.3 unique encryption keys", partial(adds, PLAIN), honest, with_a_members_key),
    Row("7.3 unique encryption keys", partial(adds, WIDE), honest, with_a_parents_key),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_rule(row: Row) -> None:
    holds(row)
