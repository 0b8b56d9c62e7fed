"""GREASE: values that nobody knows are sent, and change nothing."""

import os
from random import Random

import pytest

from restante_crypto.mls import Add, Extension, Group, LeafNode, grease
from restante_crypto.mls.extensions import Extensions
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.welcome import GroupInfo
from support import forger
from support.mls import CAPABILITIES, Party, alone, key_package, nobody, signature_key_pair


def unknown(extensions: Extensions) -> list[Extension]:
    return [each for each in extensions if each.type in grease.VALUES]


def check_leaf(leaf: LeafNode) -> None:
    said = leaf.capabilities
    for field in (said.suites, said.extensions, said.proposals, said.credentials):
        assert len(set(field) & set(grease.VALUES)) == 1
    (extra,) = unknown(leaf.extensions)
    assert extra.type in said.extensions
    assert not set(said.versions) & set(grease.VALUES)


def test_the_values_are_those_that_are_set_aside() -> None:
    assert grease.VALUES[:3] == (0x0A0A, 0x1A1A, 0x2A2A)
    assert (len(grease.VALUES), grease.VALUES[-1]) == (15, 0xEAEA)
    assert {grease.value(lambda _, byte=byte: bytes((byte,))) for byte in range(256)} == set(grease.VALUES)  # type: ignore[misc]


def test_what_is_sent_depends_on_the_randomness_alone() -> None:
    made = [grease.leaf(CAPABILITIES, (), Random(seed).randbytes) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    lengths = {len(grease.extension(Random(seed).randbytes).data) for seed in range(200)}
    assert lengths == set(range(grease.MAX_DATA + 1))


def test_leaves_and_key_packages_have_values_that_nobody_knows() -> None:
    package = key_package(signature_key_pair()).key_package
    check_leaf(package.leaf_node)
    assert len(unknown(package.extensions)) == 1
    party = Party.of(2)
    for index in (0, 1):
        check_leaf(party.groups[0].tree.occupied_leaf(index))
    joined = Group.join_externally(
        party.groups[0].group_info(random=os.urandom),
        signer=signature_key_pair(),
        credential=package.leaf_node.credential,
        capabilities=CAPABILITIES,
        authenticate=nobody,
        random=os.urandom,
    )
    check_leaf(joined.group.tree.occupied_leaf(2))


def test_a_leaf_whose_extensions_change_has_such_a_value_still() -> None:
    group = alone()
    new = Extension(0xF1A0, b"new")
    leaf = group.commit(random=os.urandom, leaf_extensions=(new,)).group.members[0].leaf
    check_leaf(leaf)
    assert grease.without(leaf.extensions) == (new,)
    unchanged = group.commit(random=os.urandom).group.members[0].leaf
    assert unchanged.capabilities == group.members[0].leaf.capabilities


def test_a_group_info_has_an_extension_that_nobody_knows() -> None:
    group = Party.of(2).groups[0]
    shown = MLSMessage.parse(group.group_info(random=os.urandom)).body
    assert isinstance(shown, GroupInfo)
    assert len(unknown(shown.extensions)) == 1
    assert not unknown(shown.context.extensions)


@pytest.mark.parametrize("with_tree", [True, False])
def test_a_welcome_has_an_extension_that_nobody_knows(with_tree: bool) -> None:
    signer = signature_key_pair()
    bundle = key_package(signer)
    staged = alone().commit([Add(bundle.key_package)], random=os.urandom, tree_in_welcome=with_tree)
    assert staged.welcome is not None
    seen: list[GroupInfo] = []

    def look(info: GroupInfo) -> GroupInfo:
        seen.append(info)
        return info

    forger.rewritten(staged.welcome, bundle, signer, info=look)
    assert len(unknown(seen[0].extensions)) == 1
    tree = None if with_tree else staged.group.ratchet_tree
    joined = Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody, ratchet_tree=tree).group
    assert joined.epoch_authenticator == staged.group.epoch_authenticator
