"""The path of a Commit, and when it must have one (RFC 9420 sections 12.4 and 12.4.2): each rule is broken alone."""

from dataclasses import replace
from functools import partial
from typing import Final

import pytest

from restante_crypto.mls import GroupContextExtensions, PathError, Remove
from support.forger import Path
from support.rules import PLAIN, SMALL, WIDE, Row, holds
from support.rules_commits import (
    add,
    after,
    broken,
    ciphertexts,
    fields,
    first,
    key_of_member_1,
    old_key,
    paths,
    same,
    whole_paths,
    without_path,
)

TABLE: Final[list[Row]] = [
    # 12.4.2: the path.
    Row("12.4.2 keys of the path", partial(whole_paths, WIDE), after(lambda path: path), old_key(3)),
    Row("12.4.2 keys of the path", partial(whole_paths, WIDE), after(lambda path: path), old_key(5)),
    Row("12.4.2 keys of the path", partial(whole_paths, WIDE), after(lambda path: path), old_key(0)),
    Row("12.4.2 keys of the path", partial(paths, PLAIN), same, key_of_member_1),
    Row(
        "7.3 unique encryption keys",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        lambda _: Path(keys=lambda keys: [keys[0], keys[0]]),
    ),
    Row(
        "7.5 length of the path",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        after(lambda path: replace(path, nodes=path.nodes[1:])),
    ),
    Row(
        "7.5 public key of the path",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        lambda _: Path(keys=first(lambda _key: SMALL)),
    ),
    Row("7.9.2 parent hash of the committer's leaf", partial(paths, PLAIN), same, fields(parent_hash=bytes(32))),
    Row(
        "7.6 number of ciphertexts",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        ciphertexts(lambda sealed: sealed[1:]),
    ),
    Row(
        "7.6 number of ciphertexts",
        partial(whole_paths, WIDE),
        after(lambda path: path),
        ciphertexts(lambda sealed: sealed * 2),
    ),
    Row("path secret", partial(whole_paths, WIDE), after(lambda path: path), ciphertexts(broken), PathError),
    # 12.4: when a path is required.
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: []),
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: [Remove(2)]),
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: [GroupContextExtensions(())]),
    Row("12.4 path required", partial(without_path, PLAIN), None, lambda _: [add(), Remove(2)]),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule)
def test_rule(row: Row) -> None:
    holds(row)
