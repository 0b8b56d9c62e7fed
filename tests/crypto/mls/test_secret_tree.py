"""Keys that are kept for late messages, how many, and when they go."""

import os

import pytest

from restante_crypto.mls import GenerationUsed, UnprotectError
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.secret_tree import Ratchet, SecretTree
from restante_crypto.mls.tree_math import LeafIndex
from restante_crypto.suites import SUITES
from support.mls import Party, nobody


def test_keys_of_skipped_messages_are_forgotten_up_to_a_mark() -> None:
    suite = SUITES[3]
    tree = SecretTree.create(suite, 4, os.urandom(32))
    assert tree.late_keys() == ()
    tree, _, _ = tree.at(LeafIndex(1), 2, application=True)
    tree, _, _ = tree.at(LeafIndex(2), 1, application=False)
    tree, _, _ = tree.at(LeafIndex(3), 0, application=True)
    noted = tree.late_keys()
    assert noted == ((1, 0, 3), (2, 2, 0))
    tree, _, _ = tree.at(LeafIndex(1), 4, application=True)
    tree = tree.forget_late_keys((*noted, (0, 9, 9)))
    assert tree.late_keys() == ((1, 0, 5),)
    for leaf, generation, application in ((1, 0, True), (1, 1, True), (2, 0, False)):
        with pytest.raises(GenerationUsed):
            tree.at(LeafIndex(leaf), generation, application=application)
    tree.at(LeafIndex(1), 3, application=True)


def test_a_group_forgets_them() -> None:
    party = Party.of(2)
    late = party.say(0, b"overtaken")
    result = party.groups[1].process(party.say(0, b"overtakes"), authenticate=nobody)
    group = result.group
    assert group is not None
    group = group.forget_late_keys(group.late_keys())
    assert group.late_keys() == ()
    with pytest.raises(GenerationUsed):
        group.process(late, authenticate=nobody)


def test_how_far_a_ratchet_goes_at_once_and_what_it_keeps() -> None:
    suite = SUITES[3]
    ratchet = Ratchet(0, os.urandom(32))
    for _ in range(5):
        ratchet, *_ = ratchet.next(suite)
    with pytest.raises(UnprotectError, match="too far ahead"):
        ratchet.at(suite, 2006)
    ratchet, *_ = ratchet.at(suite, 2005)
    with pytest.raises(GenerationUsed):
        ratchet.at(suite, 1504)
    ratchet.at(suite, 1505)


def test_a_ratchet_at_its_last_generation_is_stored_and_gives_no_key_twice() -> None:
    suite = SUITES[3]
    ratchet, key, _ = Ratchet(2**32 - 1, os.urandom(32)).at(suite, 2**32 - 1)
    stored = Ratchet.decode(Reader(ratchet.encode()))
    assert stored.generation == 2**32 - 1
    assert stored.at(suite, 2**32 - 1)[1] != key
