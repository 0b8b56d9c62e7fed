"""Groups that continue another one: ReInit (section 11.2) and branches (section 11.3)."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from restante_crypto.mls import (
    Add,
    Capabilities,
    Extension,
    Group,
    KeyPackageBundle,
    Policy,
    PreSharedKey,
    PreSharedKeyID,
    ReInit,
    Remove,
    SignatureKeyPair,
    StagedCommit,
    StateError,
    ValidationError,
    codec,
    commits,
    grease,
)
from restante_crypto.mls.proposals import Proposal
from restante_crypto.mls.psk import RESUMPTION, USAGE_APPLICATION, USAGE_BRANCH, USAGE_REINIT
from restante_crypto.suites import XWING
from support.mls import SUITE, Party, alone, key_package, nobody, signature_key_pair

WANTED = ReInit(b"again", 1, XWING, (Extension(0xF1A0, b"new"),))


def ended(party: Party, wanted: ReInit = WANTED) -> Party:
    """The same members after a Commit with a ReInit."""
    staged = party.groups[0].commit([wanted], random=os.urandom)
    after = {0: staged.group}
    for index in tuple(party.groups)[1:]:
        result = party.groups[index].process(staged.message, authenticate=nobody, policy=Policy(reinit=True))
        following = result.group
        assert following is not None
        after[index] = following
    return Party(after)


def packages(suite: int, count: int = 2) -> tuple[list[SignatureKeyPair], list[KeyPackageBundle]]:
    signers = [signature_key_pair() for _ in range(count)]
    return signers, [key_package(signer, suite=suite) for signer in signers]


def join(staged: StagedCommit, bundle: KeyPackageBundle, signer: SignatureKeyPair, resumed: Group | None) -> Group:
    assert staged.welcome is not None
    return Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody, resumed=resumed).group


def test_a_group_ends_and_begins_again_with_other_parameters() -> None:
    party = ended(Party.of(3))
    assert party.agree()
    signers, bundles = packages(XWING)
    founder = Group.restore(party.groups[0].epoch_state(), party.groups[0].message_state())
    assert founder.reinit == WANTED
    staged = founder.begin_again(
        [each.key_package for each in bundles], signer=signature_key_pair(), authenticate=nobody, random=os.urandom
    )
    group = join(staged, bundles[0], signers[0], party.groups[1])
    assert (group.suite, group.group_id, group.extensions, group.epoch) == (XWING, b"again", WANTED.extensions, 1)
    assert group.epoch_authenticator == staged.group.epoch_authenticator


def test_a_leaf_may_say_something_else_from_the_next_commit_or_group_on() -> None:
    able = Capabilities(suites=(3, XWING), extensions=(0xF1A0, 0xF1A7))
    said = (Extension(0xF1A7, b"said"),)
    staged = Party.of(2).groups[0].commit(leaf_capabilities=able, leaf_extensions=said, random=os.urandom)
    leaf = staged.group.tree.occupied_leaf(0)
    assert (grease.meant(leaf.capabilities), grease.without(leaf.extensions)) == (able, said)
    signers, bundles = packages(XWING, 1)
    party = ended(Party.of(2))
    staged = party.groups[0].begin_again(
        [bundles[0].key_package],
        signer=party.groups[0].signer,
        authenticate=nobody,
        random=os.urandom,
        leaf_extensions=said,
        leaf_capabilities=able,
    )
    group = join(staged, bundles[0], signers[0], party.groups[1])
    leaf = group.tree.occupied_leaf(0)
    assert (grease.meant(leaf.capabilities), grease.without(leaf.extensions)) == (able, said)


def test_nothing_happens_in_a_group_that_has_ended() -> None:
    before = Party.of(2)
    message = before.say(1, b"late")
    party = ended(before)
    acts: list[Callable[[Group], object]] = [
        lambda group: group.protect(b"x", random=os.urandom),
        lambda group: group.propose(Remove(1), random=os.urandom),
        lambda group: group.commit(random=os.urandom),
        lambda group: group.process(message, authenticate=nobody),
    ]
    for act in acts:
        with pytest.raises(StateError, match=r"11\.2 the group has ended"):
            act(party.groups[0])
    with pytest.raises(StateError, match="not ended"):
        before.groups[0].begin_again([], signer=signature_key_pair(), authenticate=nobody, random=os.urandom)
    with pytest.raises(ValidationError, match=r"11\.2 all members"):
        party.groups[0].begin_again([], signer=signature_key_pair(), authenticate=nobody, random=os.urandom)


def test_a_stored_group_can_end_by_a_reinit_alone() -> None:
    group = ended(Party.of(1)).groups[0]
    state = group.epoch_state().replace(WANTED.encode(), Remove(1).encode())
    with pytest.raises(StateError, match="stored group"):
        Group.restore(state, group.message_state())


def test_a_reinit_is_followed_only_if_the_application_does() -> None:
    party = Party.of(2)
    staged = party.groups[0].commit([WANTED], random=os.urandom)
    with pytest.raises(ValidationError, match="ReInit"):
        party.groups[1].process(staged.message, authenticate=nobody)


def test_a_branch_has_some_of_the_members() -> None:
    party = Party.of(3)
    signers, bundles = packages(SUITE, 1)
    staged = party.groups[0].branch(
        b"side", [bundles[0].key_package], signer=signature_key_pair(), authenticate=nobody, random=os.urandom
    )
    group = join(staged, bundles[0], signers[0], party.groups[2])
    assert group.group_id == b"side"
    assert len(group.members) == 2
    with pytest.raises(StateError, match="PSK"):
        join(staged, bundles[0], signers[0], None)


def resumed(old: Group, suite: int, usages: list[int], bundles: list[KeyPackageBundle], new: Group) -> StagedCommit:
    """The first Commit of a group with such PSKs, whatever that is allowed."""
    psks = [
        PreSharedKeyID(RESUMPTION, os.urandom(32), usage=usage, psk_group_id=old.group_id, psk_epoch=old.epoch)
        for usage in usages
    ]
    assert new.suite == suite
    proposals: list[Proposal] = [Add(each.key_package) for each in bundles]
    proposals += [PreSharedKey(psk) for psk in psks]
    request = commits.Request(
        proposals=proposals,
        references=(),
        leaf_extensions=None,
        authenticated_data=b"",
        psks={old.group_id + codec.u64(old.epoch): old.secrets.resumption_psk},
        authenticate=nobody,
        public=False,
        tree_in_welcome=True,
        usages=frozenset({1, 2, 3, 9}),
    )
    return commits.stage(new, request, os.urandom)


def founded(
    suite: int = SUITE,
    group_id: bytes = b"again",
    name: str = "founder",
    extensions: tuple[Extension, ...] = (),
) -> Group:
    made = alone(name, suite)
    context = replace(made.context, group_id=group_id, extensions=extensions)
    return Group.in_epoch(
        made.tree,
        context,
        made.secrets,
        bytes(32),
        interim=made.interim_transcript_hash,
        own_index=0,
        private_keys=made.private_keys,
        signer=made.signer,
    )


def test_rules_of_groups_that_continue_another() -> None:
    party = Party.of(2)
    old = party.groups[1]
    again = ended(party, replace(WANTED, suite=SUITE)).groups[1]
    (signer,), (bundle,) = packages(SUITE, 1)
    right = founded(extensions=WANTED.extensions)

    def refused(rule: str, new: Group, usages: list[int], before: Group, *, ready: Group | None = None) -> None:
        staged = resumed(before, SUITE, usages, [bundle], new)
        with pytest.raises(ValidationError) as failure:
            join(staged, bundle, signer, ready or before)
        assert failure.value.rule == rule

    join(resumed(again, SUITE, [USAGE_REINIT], [bundle], right), bundle, signer, again)
    refused("11.2 parameters of the ReInit", founded(), [USAGE_REINIT], again)
    refused("11.2 parameters of the ReInit", founded(group_id=b"x"), [USAGE_REINIT], again)
    refused("11.2 ReInit of the group before", right, [USAGE_REINIT], old)
    refused("12.1.4 PSK usage", right, [9], again)
    refused("12.4.3.1 more than one resumed group", right, [USAGE_REINIT, USAGE_BRANCH], again)
    refused("11.3 members of the group before", founded(name="stranger"), [USAGE_BRANCH], old)
    refused("11.2 the group does not continue that one", founded(), [USAGE_APPLICATION], old)
    later = replace(right, context=replace(right.context, epoch=4), keys=replace(right.keys, epoch=4))
    refused("12.4.3.1 epoch of a resumed group", later, [USAGE_REINIT], again)
    staged = resumed(old, SUITE, [USAGE_BRANCH], [bundle], founded())
    psks = {old.group_id + codec.u64(old.epoch): old.secrets.resumption_psk}
    assert staged.welcome is not None
    with pytest.raises(StateError, match="not the one"):
        Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody, psks=psks)
    three = ended(Party.of(3), replace(WANTED, suite=SUITE)).groups[1]
    refused("11.2 all members of the group before", founded(extensions=WANTED.extensions), [USAGE_REINIT], three)


def test_a_branch_keeps_the_suite() -> None:
    old = Party.of(2).groups[1]
    (signer,), (bundle,) = packages(1, 1)
    staged = resumed(old, 1, [USAGE_BRANCH], [bundle], founded(1))
    with pytest.raises(ValidationError, match=r"11\.3 version and cipher suite"):
        join(staged, bundle, signer, old)
