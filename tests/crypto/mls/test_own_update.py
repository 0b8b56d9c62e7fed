"""A member's own Updates (RFC 9420 section 12.1.2): others commit them, and their sender follows."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from restante_crypto.mls import (
    Application,
    Capabilities,
    CommitProcessed,
    Credential,
    CredentialError,
    Extension,
    Group,
    LeafNode,
    PathError,
    Policy,
    ReInit,
    Remove,
    StateError,
    Update,
    ValidationError,
)
from restante_crypto.mls.leaf_node import SOURCE_UPDATE
from restante_crypto.mls.own_update import OwnUpdate
from restante_crypto.mls.proposals import ProposalOrRef
from restante_crypto.mls.tree_math import NodeIndex
from support import forger
from support.mls import CAPABILITIES, Party, nobody, signature_key_pair

SENDER = 1
LEAF = NodeIndex(2 * SENDER)


def stored(group: Group) -> bytes:
    """All that is written of a group, with what reads its late messages."""
    past = group.archive()
    return group.epoch_state() + group.message_state() + past.epoch_state() + past.message_state()


def own(group: Group, reference: bytes) -> OwnUpdate:
    kept = group.proposals[reference].own
    assert kept is not None
    return kept


def reopened(party: Party) -> None:
    for index, group in party.groups.items():
        party.groups[index] = Group.restore(group.epoch_state(), group.message_state())


def all_hear_each_other(party: Party) -> None:
    for sender in party.groups:
        message = party.say(sender, b"heard")
        for index, group in party.groups.items():
            if index != sender:
                heard = group.process(message, authenticate=nobody)
                assert isinstance(heard, Application)
                party.groups[index] = heard.group


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("suite", [3, 0xF101])
def test_a_member_follows_the_commit_of_its_update(suite: int, public: bool) -> None:
    party = Party.of(4, suite)
    for index in range(4):
        party.commit(index)
    replaced = party.groups[SENDER].private_keys
    reference = party.propose_update(SENDER, public=public)
    fresh = own(party.groups[SENDER], reference).leaf_private
    reopened(party)
    party.commit(3, references=(reference,))
    group = party.groups[SENDER]
    assert party.agree()
    assert group.private_keys[LEAF] == fresh
    leaf = group.tree.occupied_leaf(SENDER)
    assert leaf.source == SOURCE_UPDATE
    assert leaf.encryption_key == group.keys.suite.kem.public_key(fresh)
    assert not set(replaced.values()) & set(group.private_keys.values())
    all_hear_each_other(party)
    party.commit(SENDER)
    party.commit(0)
    assert party.agree()


def test_each_of_several_updates_of_an_epoch_can_be_committed() -> None:
    for chosen in range(3):
        party = Party.of(3)
        references = [party.propose_update(SENDER) for _ in range(3)]
        kept = [own(party.groups[SENDER], reference).leaf_private for reference in references]
        assert len(set(kept)) == 3
        reopened(party)
        party.commit(2, references=(references[chosen],))
        assert party.agree()
        assert party.groups[SENDER].private_keys[LEAF] == kept[chosen]
        left = stored(party.groups[SENDER])
        assert [key in left for key in kept] == [number == chosen for number in range(3)]


def test_updates_of_several_members_in_one_commit() -> None:
    party = Party.of(5)
    references = tuple(party.propose_update(index) for index in (0, 1, 3, 4))
    party.commit(2, references=references)
    assert party.agree()
    all_hear_each_other(party)


def test_a_member_changes_the_key_that_it_signs_with() -> None:
    party = Party.of(3)
    before, after = party.groups[SENDER].signer, signature_key_pair()
    credential = Credential.basic(b"another name")
    extensions = (Extension(0xF1A0, b"said anew"),)
    proposed = party.groups[SENDER].propose_update(
        signer=after, credential=credential, leaf_extensions=extensions, random=os.urandom
    )
    (reference,) = proposed.group.proposals
    party.groups[SENDER] = proposed.group
    seen = []

    def authenticate(new: LeafNode, old: LeafNode | None) -> None:
        if old is not None and old.signature_key == before.public:
            seen.append(new.signature_key)

    for index in (0, 2):
        party.groups[index] = party.groups[index].process(proposed.message, authenticate=nobody).group  # type: ignore[assignment]  # of a proposal
    staged = party.groups[0].commit(references=(reference,), random=os.urandom)
    for index in (SENDER, 2):
        assert party.groups[index].signer != after  # the old key signs until the Commit is accepted
        result = party.groups[index].process(staged.message, authenticate=authenticate)
        assert isinstance(result, CommitProcessed)
        assert result.group is not None
        assert {member.index for member in result.updated} == {0, SENDER}
        party.groups[index] = result.group
    party.groups[0] = staged.group
    assert seen == [after.public] * 2
    leaf = party.groups[0].tree.occupied_leaf(SENDER)
    assert (leaf.signature_key, leaf.credential, leaf.extension(0xF1A0)) == (after.public, credential, b"said anew")
    assert party.groups[SENDER].signer == after
    assert before.private not in stored(party.groups[SENDER])
    all_hear_each_other(party)
    party.commit(SENDER)
    assert party.agree()


def test_a_leaf_keeps_what_is_not_replaced() -> None:
    party = Party.of(2)
    old = party.groups[SENDER].tree.occupied_leaf(SENDER)
    party.commit(0, references=(party.propose_update(SENDER),))
    new = party.groups[0].tree.occupied_leaf(SENDER)
    assert replace(new, encryption_key=b"", signature=b"", source=0) == replace(
        old, encryption_key=b"", signature=b"", source=0, lifetime=None
    )
    proposed = party.groups[SENDER].propose_update(
        leaf_capabilities=replace(CAPABILITIES, extensions=(0xF1A0, 0xF1A1)), random=os.urandom
    )
    (sent,) = proposed.group.proposals.values()
    assert isinstance(sent.proposal, Update)
    assert {0xF1A0, 0xF1A1} <= set(sent.proposal.leaf_node.capabilities.extensions)


# What ends the epoch deletes the secrets.


def uncovered(party: Party, _reference: bytes) -> Group:
    """Another's Commit that does not refer to it."""
    party.commit(0)
    return party.groups[SENDER]


def own_commit(party: Party, _reference: bytes) -> Group:
    return party.groups[SENDER].commit(random=os.urandom).group


def discarded(party: Party, reference: bytes) -> Group:
    return party.groups[SENDER].discard_proposals([reference])


def somebody_lets_themselves_in(party: Party, _reference: bytes) -> Group:
    joined = Group.join_externally(
        party.groups[0].group_info(),
        signer=signature_key_pair(),
        credential=Credential.basic(b"somebody"),
        capabilities=CAPABILITIES,
        authenticate=nobody,
        random=os.urandom,
    )
    result = party.groups[SENDER].process(joined.message, authenticate=nobody, policy=Policy(external_commits=True))
    assert isinstance(result, CommitProcessed)
    assert result.group is not None
    return result.group


def ended(party: Party, _reference: bytes) -> Group:
    staged = party.groups[0].commit([ReInit(b"next", 1, 3)], random=os.urandom)
    result = party.groups[SENDER].process(staged.message, authenticate=nobody, policy=Policy(reinit=True))
    assert isinstance(result, CommitProcessed)
    assert result.group is not None
    return result.group


@pytest.mark.parametrize("end", [uncovered, own_commit, discarded, somebody_lets_themselves_in, ended])
def test_the_secrets_of_an_update_that_nobody_committed_are_deleted(end: Callable[[Party, bytes], Group]) -> None:
    party = Party.of(3)
    after = signature_key_pair()
    proposed = party.groups[SENDER].propose_update(signer=after, random=os.urandom)
    party.groups[SENDER] = proposed.group
    (reference,) = proposed.group.proposals
    secrets = own(proposed.group, reference).leaf_private, after.private
    assert all(secret in stored(proposed.group) for secret in secrets)
    left = stored(end(party, reference))
    assert not any(secret in left for secret in secrets)


def test_what_an_update_replaced_is_deleted() -> None:
    party = Party.of(3)
    party.commit(SENDER)
    old = party.groups[SENDER]
    party.commit(2, references=(party.propose_update(SENDER),))
    left = stored(party.groups[SENDER])
    assert old.private_keys
    assert not any(key in left for key in old.private_keys.values())


def test_a_past_epoch_has_no_secret_of_an_update() -> None:
    party = Party.of(2)
    reference = party.propose_update(SENDER)
    past = party.groups[SENDER].archive()
    assert own(party.groups[SENDER], reference).leaf_private not in past.epoch_state() + past.message_state()


def test_the_secrets_are_not_shown() -> None:
    party = Party.of(2)
    reference = party.propose_update(SENDER)
    kept = own(party.groups[SENDER], reference)
    assert repr(kept.leaf_private) not in repr(kept)
    assert repr(kept.signer.private) not in repr(kept)


# What is refused; nothing changes.


def test_only_the_call_that_keeps_its_key_proposes_an_update() -> None:
    group = Party.of(2).groups[SENDER]
    with pytest.raises(StateError, match="without its private key"):
        group.propose(Update(group.tree.occupied_leaf(SENDER)), random=os.urandom)


def test_nobody_commits_their_own_update() -> None:
    party = Party.of(3)
    reference = party.propose_update(SENDER)
    group = party.groups[SENDER]
    with pytest.raises(ValidationError, match=r"12\.2 Update by the committer"):
        group.commit(references=(reference,), random=os.urandom)
    with pytest.raises(ValidationError, match=r"12\.2 Update by the committer"):
        group.commit([group.proposals[reference].proposal], random=os.urandom)
    with pytest.raises(ValidationError, match=r"12\.2 Update by the committer"):
        party.groups[0].process(
            forger.commit(group, [group.proposals[reference].proposal]).message, authenticate=nobody
        )


def test_a_commit_of_two_updates_of_one_member_is_refused_by_that_member_too() -> None:
    party = Party.of(3)
    references = tuple(party.propose_update(SENDER) for _ in range(2))
    forged = forger.commit(party.groups[0], [ProposalOrRef(None, each) for each in references])
    before = stored(party.groups[SENDER])
    for index in (SENDER, 2):
        with pytest.raises(ValidationError, match=r"12\.2 one leaf twice"):
            party.groups[index].process(forged.message, authenticate=nobody)
    assert stored(party.groups[SENDER]) == before


def test_the_applications_verdict_counts_for_ones_own_update_too() -> None:
    party = Party.of(3)
    reference = party.propose_update(SENDER)
    staged = party.groups[0].commit(references=(reference,), random=os.urandom)

    def refuses(new: LeafNode, _old: LeafNode | None) -> None:
        if new.source == SOURCE_UPDATE:
            raise CredentialError("not this one")

    before = stored(party.groups[SENDER])
    with pytest.raises(CredentialError):
        party.groups[SENDER].process(staged.message, authenticate=refuses)
    assert stored(party.groups[SENDER]) == before


def test_an_update_that_was_discarded_cannot_be_followed() -> None:
    party = Party.of(3)
    reference = party.propose_update(SENDER)
    staged = party.groups[0].commit(references=(reference,), random=os.urandom)
    group = party.groups[SENDER].discard_proposals([reference])
    with pytest.raises(StateError, match="did not arrive"):
        group.process(staged.message, authenticate=nobody)
    without = {each: replace(sent, own=None) for each, sent in party.groups[SENDER].proposals.items()}
    with pytest.raises(PathError, match="no private key"):
        replace(party.groups[SENDER], proposals=without).process(staged.message, authenticate=nobody)


def test_who_is_removed_instead_is_gone() -> None:
    party = Party.of(3)
    party.propose_update(SENDER)
    party.commit(0, Remove(SENDER))
    assert set(party.groups) == {0, 2}
    assert party.agree()


def test_a_leaf_that_is_none_of_this_group_is_not_proposed() -> None:
    group = Party.of(2).groups[SENDER]
    with pytest.raises(ValidationError, match=r"7\.3 cipher suite"):
        group.propose_update(leaf_capabilities=Capabilities(suites=(1,)), random=os.urandom)
    with pytest.raises(ValidationError, match=r"7\.3 leaf extensions"):
        group.propose_update(leaf_extensions=(Extension(0xF1AF, b""),), random=os.urandom)


def test_nothing_is_proposed_in_a_group_that_has_ended() -> None:
    with pytest.raises(StateError, match=r"11\.2 the group has ended"):
        ended(Party.of(2), b"").propose_update(random=os.urandom)


def test_stored_updates_that_were_changed_do_not_load() -> None:
    party = Party.of(2)
    party.propose_update(SENDER)
    group = party.groups[SENDER]
    epoch, messages = group.epoch_state(), group.message_state()
    assert Group.restore(epoch, messages).proposals == group.proposals
    for wrong in (messages[:-1], messages + b"\0"):
        with pytest.raises(StateError):
            Group.restore(epoch, wrong)
