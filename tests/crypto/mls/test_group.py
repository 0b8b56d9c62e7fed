"""Groups: what members can do together, what outsiders cannot, and that a failure changes nothing."""

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from restante_crypto.mls import (
    Add,
    Application,
    Capabilities,
    CommitProcessed,
    Credential,
    CredentialError,
    DecodeError,
    Extension,
    ForeignMessage,
    GenerationUsed,
    Group,
    GroupContextExtensions,
    KeyPackage,
    LeafNode,
    Lifetime,
    MLSError,
    OwnMessage,
    PastEpoch,
    PathError,
    Policy,
    Proposal,
    ProposalReceived,
    Remove,
    StateError,
    UnprotectError,
    Update,
    ValidationError,
    codec,
    is_welcome,
    key_package_message,
    parse_key_package_message,
)
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.extensions import DEFAULT_EXTENSIONS, REQUIRED_CAPABILITIES, RequiredCapabilities
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import CustomProposal, ExternalInit, PreSharedKey, ReInit, decode_proposal
from restante_crypto.mls.psk import EXTERNAL, RESUMPTION, PreSharedKeyID
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.ratchet_tree import ParentNode
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.mls.tree_validation import check_tree
from restante_crypto.mls.welcome import Welcome
from restante_crypto.suites import SUITES
from support import forger
from support.mls import CAPABILITIES, SUITE, Party, alone, key_package, nobody, signature_key_pair


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("suite", sorted(SUITES))
@pytest.mark.parametrize("size", [2, 3, 5, 9])
def test_members_agree_and_hear_each_other(suite: int, size: int) -> None:
    party = Party.of(size, suite)
    for sender in range(size):
        message = party.say(sender, f"from {sender}".encode())
        for receiver in set(range(size)) - {sender}:
            result = party.groups[receiver].process(message, authenticate=nobody)
            assert isinstance(result, Application)
            assert (result.sender, result.data) == (sender, f"from {sender}".encode())
    for committer in range(size):
        party.commit(committer)
        assert party.agree()


def test_a_removed_member_reads_nothing_later() -> None:
    party = Party.of(3)
    outsider = party.groups[2]
    message = party.commit(0, Remove(2))
    result = outsider.process(message, authenticate=nobody)
    assert getattr(result, "group", outsider) is None
    later = party.say(1, b"secret")
    with pytest.raises(StateError):
        outsider.process(later, authenticate=nobody)
    with pytest.raises(StateError):
        outsider.archive().unprotect(later)


def test_a_joiner_reads_nothing_earlier() -> None:
    party = Party.of(2)
    earlier = party.say(0, b"secret")
    (index,) = party.add(0)
    with pytest.raises(StateError):
        party.groups[index].process(earlier, authenticate=nobody)


def test_a_past_epoch_reads_late_messages_once() -> None:
    party = Party.of(3)
    late = [party.say(1, bytes([number])) for number in range(3)]
    past = party.groups[0].archive()
    own = party.groups[1].archive()
    party.commit(2)
    past = PastEpoch.restore(past.epoch_state(), past.message_state())
    for message in reversed(late):
        opened = past.unprotect(message)
        past = opened.epoch_keys
        assert opened.sender == 1
        assert past.member(1) is not None
    with pytest.raises(GenerationUsed):
        past.unprotect(late[0])
    with pytest.raises(OwnMessage):
        own.unprotect(late[0])
    assert past.member(9) is None
    assert past.epoch == 1


def test_a_past_epoch_takes_proposals_but_no_commit() -> None:
    party = Party.of(3)
    proposed = party.groups[1].propose(Remove(1), random=os.urandom)
    commit = party.groups[2].commit(random=os.urandom).message
    past = party.groups[0].archive()
    opened = past.unprotect(proposed.message)
    assert opened.proposal == Remove(1)
    assert opened.data is None
    with pytest.raises(StateError):
        past.unprotect(commit)


def test_a_proposal_is_committed_by_reference() -> None:
    party = Party.of(3)
    proposed = party.groups[2].propose(Remove(1), random=os.urandom)
    party.groups[2] = proposed.group
    references = []
    for index in (0, 1):
        received = party.groups[index].process(proposed.message, authenticate=nobody)
        assert isinstance(received, ProposalReceived)
        party.groups[index] = Group.restore(received.group.epoch_state(), received.group.message_state())
        references.append(received.reference)
    party.commit(0, references=(references[0],))
    assert sorted(party.groups) == [0, 2]
    assert party.agree()


def test_a_reference_that_did_not_arrive_is_this_members_failure() -> None:
    party = Party.of(3)
    proposed = party.groups[2].propose(Remove(1), random=os.urandom)
    received = party.groups[0].process(proposed.message, authenticate=nobody)
    assert isinstance(received, ProposalReceived)
    commit = received.group.commit(references=(received.reference,), random=os.urandom)
    with pytest.raises(StateError) as failure:
        party.groups[1].process(commit.message, authenticate=nobody)
    assert not failure.value.common


def test_a_leaf_says_what_its_member_wants_it_to_say() -> None:
    party = Party.of(2)
    assert party.groups[1].members[1].leaf.is_from_key_package
    staged = party.groups[0].commit(random=os.urandom, leaf_extensions=(Extension(0xF1A0, b"new"),))
    result = party.groups[1].process(staged.message, authenticate=nobody)
    assert isinstance(result, CommitProcessed)
    assert result.group is not None
    member = result.group.member(0)
    assert member is not None
    assert member.leaf.extension(0xF1A0) == b"new"
    assert not member.leaf.is_from_key_package
    assert result.group.member(5) is None


def test_resync_removes_and_adds_the_same_device() -> None:
    party = Party.of(3)
    signer = party.groups[2].signer
    bundle = key_package(signer)
    staged = party.groups[0].commit([Remove(2), Add(bundle.key_package)], random=os.urandom)
    assert staged.welcome is not None
    assert staged.added == (2,)
    assert [member.index for member in staged.removed] == [2]
    joined = Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody).group
    assert joined.epoch_authenticator == staged.group.epoch_authenticator


def test_group_extensions_change_by_proposal() -> None:
    party = Party.of(2)
    party.commit(0, GroupContextExtensions((Extension(0xF1A0, b"new"),)))
    assert party.groups[1].extensions == (Extension(0xF1A0, b"new"),)
    with pytest.raises(ValidationError, match="group extensions"):
        party.groups[0].commit([GroupContextExtensions((Extension(0xF1A9, b""),))], random=os.urandom)


def test_a_psk_is_mixed_in() -> None:
    party = Party.of(2)
    psk = PreSharedKeyID(EXTERNAL, bytes(32), psk_id=b"shared")
    known = {b"shared": b"secret"}
    staged = party.groups[0].commit([PreSharedKey(psk)], random=os.urandom, psks=known)
    result = party.groups[1].process(staged.message, authenticate=nobody, psks=known)
    assert getattr(result, "group", party.groups[1]).epoch_authenticator == staged.group.epoch_authenticator
    with pytest.raises(StateError):
        party.groups[1].process(staged.message, authenticate=nobody)
    with pytest.raises(PathError):
        party.groups[1].process(staged.message, authenticate=nobody, psks={b"shared": b"another"})


def test_exported_secrets_belong_to_epoch_label_and_context() -> None:
    party = Party.of(2)
    first, second = party.groups[0], party.groups[1]
    assert first.export(b"label", b"context", 40) == second.export(b"label", b"context", 40)
    others = [first.export(b"label", b"", 40), first.export(b"other", b"context", 40)]
    party.commit(0)
    others.append(party.groups[0].export(b"label", b"context", 40))
    assert len({*others, first.export(b"label", b"context", 40)}) == 4


def test_own_messages_are_recognised_and_not_opened() -> None:
    party = Party.of(2)
    message = party.say(0, b"mine")
    with pytest.raises(OwnMessage) as own:
        party.groups[0].process(message, authenticate=nobody)
    assert own.value.sender == 0


def test_a_replay_is_refused() -> None:
    party = Party.of(2)
    message = party.say(0, b"once")
    opened = party.groups[1].process(message, authenticate=nobody)
    assert isinstance(opened, Application)
    with pytest.raises(GenerationUsed):
        opened.group.process(message, authenticate=nobody)


def test_every_flipped_byte_of_a_message_is_noticed() -> None:
    party = Party.of(2)
    message = party.say(0, b"whole")
    before = party.groups[1].message_state()
    for position in range(len(message)):
        with pytest.raises(MLSError):
            party.groups[1].process(flipped(message, position), authenticate=nobody)
    assert party.groups[1].message_state() == before


def test_every_flipped_byte_of_a_commit_is_noticed() -> None:
    party = Party.of(3)
    message = party.groups[0].commit([Remove(2)], random=os.urandom).message
    before = party.groups[1].epoch_state()
    for position in range(0, len(message), 7):
        with pytest.raises(MLSError):
            party.groups[1].process(flipped(message, position), authenticate=nobody)
    assert party.groups[1].epoch_state() == before


def test_every_flipped_byte_of_a_welcome_is_noticed() -> None:
    signer = signature_key_pair()
    bundle = key_package(signer)
    staged = alone().commit([Add(bundle.key_package)], random=os.urandom)
    assert staged.welcome is not None
    for position in range(0, len(staged.welcome), 11):
        with pytest.raises(MLSError):
            Group.join(flipped(staged.welcome, position), bundle, signer=signer, authenticate=nobody)


def test_a_welcome_is_for_its_key_package_alone() -> None:
    signer = signature_key_pair()
    bundle, other = key_package(signer), key_package(signer)
    staged = alone().commit([Add(bundle.key_package)], random=os.urandom)
    assert staged.welcome is not None
    with pytest.raises(StateError, match="another KeyPackage"):
        Group.join(staged.welcome, other, signer=signer, authenticate=nobody)
    with pytest.raises(StateError, match="not a Welcome"):
        Group.join(staged.message, bundle, signer=signer, authenticate=nobody)
    with pytest.raises(ValidationError, match="cipher suite"):
        Group.join(staged.welcome, key_package(signer, suite=1), signer=signer, authenticate=nobody)


def test_a_tree_outside_the_welcome_has_to_be_given() -> None:
    signer = signature_key_pair()
    bundle = key_package(signer)
    party = Party.of(1)
    staged = party.groups[0].commit([Add(bundle.key_package)], random=os.urandom)
    assert staged.welcome is not None
    joined = Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody, ratchet_tree=b"ignored").group
    assert joined.epoch == 1


def test_the_applications_verdict_on_credentials_counts() -> None:
    def refuse(_new: LeafNode, _old: LeafNode | None) -> None:
        raise CredentialError("refused")

    party = Party.of(2)
    bundle = key_package(signature_key_pair())
    staged = party.groups[0].commit([Add(bundle.key_package)], random=os.urandom)
    with pytest.raises(CredentialError):
        party.groups[1].process(staged.message, authenticate=refuse)
    with pytest.raises(CredentialError):
        party.groups[0].commit([Add(bundle.key_package)], random=os.urandom, authenticate=refuse)
    assert staged.welcome is not None
    with pytest.raises(CredentialError):
        Group.join(staged.welcome, bundle, signer=signature_key_pair(), authenticate=refuse)


def broken(package: KeyPackage, **changes: object) -> KeyPackage:
    return replace(package, **changes)  # type: ignore[arg-type]  # by name


def test_lists_that_no_commit_may_carry() -> None:
    party = Party.of(3)
    group = party.groups[0]
    signer = signature_key_pair()
    good = key_package(signer).key_package
    member = party.groups[1].signer
    psk = PreSharedKey(PreSharedKeyID(EXTERNAL, bytes(32), psk_id=b"x"))
    wrong: dict[str, list[Proposal]] = {
        "12.2 ExternalInit": [ExternalInit(b"")],
        "12.2 ReInit and something else": [ReInit(b"new", 1, SUITE), Remove(1)],
        "12.1.5 version of a ReInit": [ReInit(b"new", 0, SUITE)],
        "12.2 a proposal that not all members support": [CustomProposal(0xF001, b"")],
        "12.2 GroupContextExtensions twice": [GroupContextExtensions(()), GroupContextExtensions(())],
        "12.2 PreSharedKey twice": [psk, psk],
        "12.1.4 PSK nonce": [PreSharedKey(PreSharedKeyID(EXTERNAL, b"short", psk_id=b"x"))],
        "12.1.4 PSK usage": [PreSharedKey(PreSharedKeyID(RESUMPTION, bytes(32), usage=2, psk_group_id=b"g"))],
        "12.2 Remove of the committer": [Remove(0)],
        "12.2 one leaf twice": [Remove(1), Remove(1)],
        "12.1 proposal for a blank leaf": [Remove(3)],
        "12.2 the same client twice": [Add(good), Add(key_package(signer).key_package)],
        "7.3 unique signature keys": [Add(key_package(member).key_package)],
        "7.3 unique encryption keys": [Add(_with_key(signer, group.members[1].leaf.encryption_key))],
        "10.1 cipher suite": [Add(key_package(signer, suite=1).key_package)],
        "10.1 version": [Add(broken(good, version=2))],
        "10.1 signature": [Add(broken(good, signature=bytes(64)))],
        "10.1 init key": [Add(_resigned(signer, good, init_key=good.leaf_node.encryption_key))],
        "7.3 leaf signature": [Add(_resigned(signer, good, leaf_node=replace(good.leaf_node, signature=b"", raw=b"")))],
        "7.3 leaf of a KeyPackage": [
            Add(_resigned(signer, good, leaf_node=replace(good.leaf_node, source=3, lifetime=None, raw=b"")))
        ],
        "7.3 protocol version": [Add(_capable(signer, replace(CAPABILITIES, versions=())))],
        "7.3 cipher suite": [Add(_capable(signer, replace(CAPABILITIES, suites=(1,))))],
        "7.3 encryption key": [Add(_with_key(signer, bytes(32)))],
        "7.3 own credential type": [Add(_capable(signer, replace(CAPABILITIES, credentials=(2,))))],
        "7.3 leaf extensions": [Add(key_package(signer, leaf_extensions=(Extension(0xFAFA, b""),)).key_package)],
        "12.2 Update by the committer": [Update(good.leaf_node)],
    }
    for rule_name, proposals in wrong.items():
        with pytest.raises(ValidationError) as failure:
            group.commit(proposals, random=os.urandom)
        assert failure.value.rule.startswith(rule_name), rule_name
        assert failure.value.common


def _capable(signer: object, capabilities: Capabilities) -> KeyPackage:
    return key_package(signer, capabilities=capabilities).key_package  # type: ignore[arg-type]  # a key pair


def _resigned(signer: object, package: KeyPackage, **changes: object) -> KeyPackage:
    from restante_crypto.mls import labels  # noqa: PLC0415 -- of this helper alone

    changed = broken(package, **changes)
    signature = labels.sign_with_label(signer.private, b"KeyPackageTBS", changed._body())  # type: ignore[attr-defined]
    return replace(changed, signature=signature)


def _with_key(signer: object, key: bytes) -> KeyPackage:
    package = key_package(signer).key_package  # type: ignore[arg-type]  # a key pair
    leaf = replace(package.leaf_node, encryption_key=key, raw=b"").sign(signer)  # type: ignore[arg-type]
    return _resigned(signer, package, leaf_node=leaf)


def test_updates_are_checked() -> None:
    party = Party.of(3)
    sender = party.groups[1]
    old = sender.members[1].leaf

    def update(**changes: object) -> Update:
        leaf = replace(old, source=2, lifetime=None, raw=b"", **changes)  # type: ignore[arg-type]  # by name
        return Update(leaf.sign(sender.signer, sender.group_id, 1))

    fresh = key_package(sender.signer).key_package.leaf_node.encryption_key
    for rule_name, proposal in {
        "7.3 new encryption key": update(),
        "7.3 leaf of an Update": Update(old),
        "7.3 leaf signature": Update(replace(update(encryption_key=fresh).leaf_node, signature=bytes(64), raw=b"")),
    }.items():
        proposed = forger.propose(sender, proposal)
        received = party.groups[0].process(proposed.message, authenticate=nobody)
        assert isinstance(received, ProposalReceived)
        with pytest.raises(ValidationError) as failure:
            received.group.commit(references=(received.reference,), random=os.urandom)
        assert failure.value.rule == rule_name
    good = forger.propose(sender, update(encryption_key=fresh))
    received = party.groups[0].process(good.message, authenticate=nobody)
    assert isinstance(received, ProposalReceived)
    staged = received.group.commit(references=(received.reference,), random=os.urandom)
    assert staged.group.members[1].leaf.encryption_key == fresh
    other = party.groups[2].process(good.message, authenticate=nobody)
    assert isinstance(other, ProposalReceived)
    result = other.group.process(staged.message, authenticate=nobody)
    assert {member.index for member in getattr(result, "updated", ())} == {0, 1}


def test_suites_that_are_not_supported() -> None:
    with pytest.raises(StateError):
        alone(suite=2)
    with pytest.raises(StateError):
        key_package(signature_key_pair(), suite=2)
    package = key_package(signature_key_pair()).key_package
    with pytest.raises(StateError):
        replace(package, suite=2).ref()


def test_stored_groups_that_were_changed_do_not_load() -> None:
    group = Party.of(2).groups[0]
    epoch, messages = group.epoch_state(), group.message_state()
    restored = Group.restore(epoch, messages)
    assert (restored.epoch_state(), restored.message_state()) == (epoch, messages)
    past = group.archive()
    for wrong in (b"", epoch[:-1], epoch + b"\0", b"\0\2" + epoch[2:]):
        with pytest.raises(StateError):
            Group.restore(wrong, messages)
    for wrong in (b"", messages[:-1], messages + b"\0"):
        with pytest.raises(StateError):
            Group.restore(epoch, wrong)
    for wrong in (b"", past.message_state()[:-1], past.message_state() + b"\0"):
        with pytest.raises(StateError):
            PastEpoch.restore(past.epoch_state(), wrong)


def test_secrets_are_not_shown() -> None:
    party = Party.of(2)
    group = party.groups[0]
    shown = repr(group) + repr(group.archive()) + repr(group.signer) + repr(key_package(signature_key_pair()))
    for secret in (group.signer.private, group.secrets.init_secret, *group.private_keys.values()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_key_packages_travel_as_messages() -> None:
    package = key_package(signature_key_pair()).key_package
    assert parse_key_package_message(key_package_message(package)) == package
    assert parse_key_package_message(Party.of(2).say(0, b"other")) is None
    with pytest.raises(DecodeError):
        parse_key_package_message(b"\0\1\0\5")
    with pytest.raises(StateError):
        Party.of(2).groups[0].process(key_package_message(package), authenticate=nobody)


def test_messages_of_other_groups_and_forms() -> None:
    party, other = Party.of(2), Party.of(2)
    other.commit(0)
    with pytest.raises(StateError):
        party.groups[0].process(other.say(1, b"x"), authenticate=nobody)
    welcome = MLSMessage(Welcome(SUITE, (), b"")).encode()
    with pytest.raises(StateError):
        party.groups[0].process(welcome, authenticate=nobody)
    outsider = alone()
    forged = _forged(outsider, party)
    with pytest.raises(UnprotectError):
        outsider.process(forged, authenticate=nobody)


def _forged(group: Group, party: Party) -> bytes:
    message = MLSMessage.parse(party.say(0, b"x")).body
    return MLSMessage(replace(message, group_id=group.group_id, epoch=group.epoch)).encode()  # type: ignore[type-var, arg-type]


def test_credentials_everybody_understands() -> None:
    party = Party.of(2)
    x509 = Credential(2, b"", (b"certificate",))
    signer = signature_key_pair()
    package = key_package(signer, capabilities=replace(CAPABILITIES, credentials=(1, 2))).key_package
    leaf = replace(package.leaf_node, credential=x509, raw=b"").sign(signer)
    with pytest.raises(ValidationError, match="credential types"):
        party.groups[0].commit([Add(_resigned(signer, package, leaf_node=leaf))], random=os.urandom)


class Members(RuleBasedStateMachine):
    """Two to eight members who add, remove, heal and talk, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.party = Party.of(2)

    def _pick(self, number: int) -> int:
        return sorted(self.party.groups)[number % len(self.party.groups)]

    @precondition(lambda self: len(self.party.groups) < 8)
    @rule(who=st.integers(0, 7), count=st.integers(1, 3))
    def add(self, who: int, count: int) -> None:
        self.party.add(self._pick(who), count)

    @precondition(lambda self: len(self.party.groups) > 2)
    @rule(who=st.integers(0, 7), whom=st.integers(0, 7))
    def remove(self, who: int, whom: int) -> None:
        committer, removed = self._pick(who), self._pick(whom)
        if committer != removed:
            self.party.commit(committer, Remove(removed))

    @rule(who=st.integers(0, 7))
    def heal(self, who: int) -> None:
        self.party.commit(self._pick(who))

    @rule(who=st.integers(0, 7), updates=st.lists(st.integers(0, 7), min_size=1, max_size=4), data=st.data())
    def update(self, who: int, updates: list[int], data: st.DataObject) -> None:
        """Members propose Updates, some of them more than one; another commits the last ones, but perhaps not all."""
        committer = self._pick(who)
        last = {}
        for number in updates:
            sender = self._pick(number)
            if sender != committer:
                last[sender] = self.party.propose_update(sender, public=data.draw(st.booleans()))
                self.reopen(number)
        wanted = [reference for reference in last.values() if data.draw(st.booleans())]
        self.party.commit(committer, references=tuple(wanted))

    @rule(who=st.integers(0, 7), order=st.randoms(use_true_random=False))
    def talk(self, who: int, order: object) -> None:
        sender = self._pick(who)
        messages = [self.party.say(sender, bytes([number])) for number in range(4)]
        order.shuffle(messages)  # type: ignore[attr-defined]  # a Random
        for index in list(self.party.groups):
            if index != sender:
                for message in messages:
                    result = self.party.groups[index].process(message, authenticate=nobody)
                    assert isinstance(result, Application)
                    self.party.groups[index] = result.group

    @rule(who=st.integers(0, 7))
    def reopen(self, who: int) -> None:
        index = self._pick(who)
        group = self.party.groups[index]
        self.party.groups[index] = Group.restore(group.epoch_state(), group.message_state())

    @invariant()
    def all_agree(self) -> None:
        assert self.party.agree()


TestMembers = Members.TestCase
TestMembers.settings = settings(
    max_examples=15, stateful_step_count=12, suppress_health_check=[HealthCheck.too_slow], deadline=None
)


def test_a_tree_whose_keys_give_secrets_away() -> None:
    group = Party.of(2).groups[0]
    tree = group.tree.with_nodes({NodeIndex(1): ParentNode(bytes(32), b"")})
    with pytest.raises(ValidationError, match=r"7\.3 encryption key"):
        check_tree(tree, group.group_id, (), nobody)


def test_what_is_no_proposal_and_no_leaf() -> None:
    with pytest.raises(DecodeError, match="proposal type"):
        decode_proposal(Reader(bytes(20)))
    leaf = Party.of(1).groups[0].members[0].leaf
    with pytest.raises(DecodeError, match="leaf node source"):
        codec.parse(LeafNode, replace(leaf, source=9, lifetime=None, raw=b"").encode())


def test_handshakes_in_the_clear() -> None:
    party = Party.of(3)
    proposed = party.groups[1].propose(Remove(2), random=os.urandom, public=True)
    party.groups[1] = proposed.group
    references = []
    for index in (0, 2):
        result = party.groups[index].process(proposed.message, authenticate=nobody)
        assert isinstance(result, ProposalReceived)
        party.groups[index] = result.group
        references.append(result.reference)
    staged = party.groups[0].commit(references=references[:1], random=os.urandom, public=True)
    assert isinstance(MLSMessage.parse(staged.message).body, PublicMessage)
    result = party.groups[1].process(staged.message, authenticate=nobody)
    assert isinstance(result, CommitProcessed)
    assert result.group is not None
    assert result.group.epoch_authenticator == staged.group.epoch_authenticator


def test_a_welcome_without_the_tree() -> None:
    party, signer = Party.of(2), signature_key_pair()
    bundle = key_package(signer)
    staged = party.groups[0].commit([Add(bundle.key_package)], random=os.urandom, tree_in_welcome=False)
    assert staged.welcome is not None
    tree = staged.group.ratchet_tree
    joined = Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody, ratchet_tree=tree).group
    assert joined.epoch_authenticator == staged.group.epoch_authenticator


def test_a_welcome_for_each_joiner() -> None:
    group, signers = Party.of(2).groups[0], [signature_key_pair() for _ in range(3)]
    bundles = [key_package(signer) for signer in signers]
    staged = group.commit([Add(each.key_package) for each in bundles], random=os.urandom, tree_in_welcome=False)
    assert staged.welcome is not None
    assert len(staged.welcomes) == 3
    assert not is_welcome(staged.message)
    tree = staged.group.ratchet_tree
    for bundle, signer, index, letter in zip(bundles, signers, staged.added, staged.welcomes, strict=True):
        assert is_welcome(letter)
        assert len(letter) < len(staged.welcome)
        joined = Group.join(letter, bundle, signer=signer, authenticate=nobody, ratchet_tree=tree).group
        assert (joined.own_index, joined.epoch_authenticator) == (index, staged.group.epoch_authenticator)
        with pytest.raises(StateError, match="another KeyPackage"):
            Group.join(letter, bundles[index - 3], signer=signer, authenticate=nobody, ratchet_tree=tree)
    assert group.commit(random=os.urandom).welcomes == ()


def test_a_message_of_another_epoch_is_so_for_everybody() -> None:
    party = Party.of(2)
    late = party.say(1, b"late")
    party.commit(1)
    for message in (late, key_package_message(key_package(signature_key_pair()).key_package)):
        with pytest.raises(ForeignMessage) as failure:
            party.groups[0].process(message, authenticate=nobody)
        assert failure.value.common


def test_proposals_of_other_types_are_carried_to_applications_that_know_them() -> None:
    capabilities = replace(CAPABILITIES, proposals=(0xF001,))
    founder = Group.create(
        SUITE,
        b"group",
        signer=signature_key_pair(),
        credential=Credential.basic(b"founder"),
        capabilities=capabilities,
        random=os.urandom,
    )
    signer = signature_key_pair()
    bundle = key_package(signer, capabilities=capabilities)
    added = founder.commit([Add(bundle.key_package)], random=os.urandom)
    assert added.welcome is not None
    member = Group.join(added.welcome, bundle, signer=signer, authenticate=nobody).group
    staged = added.group.commit([CustomProposal(0xF001, b"data")], random=os.urandom)
    result = member.process(staged.message, authenticate=nobody, policy=Policy(custom=(0xF001,)))
    assert isinstance(result, CommitProcessed)
    assert result.custom == (CustomProposal(0xF001, b"data"),)
    with pytest.raises(ValidationError, match="does not know"):
        member.process(staged.message, authenticate=nobody)


# What is checked at the sender's door, or once for an epoch.


def test_data_waits_for_the_commit_of_what_was_proposed() -> None:
    party = Party.of(3)
    proposed = party.groups[2].propose(Remove(1), random=os.urandom)
    received = party.groups[0].process(proposed.message, authenticate=nobody)
    assert isinstance(received, ProposalReceived)
    for waiting in (proposed.group, received.group):
        with pytest.raises(StateError, match=r"12\.4 proposals wait"):
            waiting.protect(b"data", random=os.urandom)
        waiting.discard_proposals().protect(b"data", random=os.urandom)
    kept = received.group.discard_proposals([b"another"])
    assert kept.discard_proposals([received.reference]).proposals == {}
    committed = kept.commit(references=[received.reference], random=os.urandom).group
    committed.protect(b"data", random=os.urandom)


def test_proposals_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante_crypto.mls.group.MAX_PROPOSALS", 2)
    party = Party.of(2)
    messages = []
    for number in range(3):
        proposed = party.groups[1].propose(PreSharedKey(PreSharedKeyID(1, bytes([number] * 32))), random=os.urandom)
        messages.append(proposed.message)
        party.groups[1] = proposed.group.discard_proposals()
    group = party.groups[0]
    for message in messages[:2]:
        group = group.process(message, authenticate=nobody).group  # type: ignore[assignment]  # a proposal
    with pytest.raises(StateError, match="as many proposals"):
        group.process(messages[2], authenticate=nobody)
    assert len(group.proposals) == 2


def test_who_adds_looks_at_the_clock() -> None:
    package = key_package(signature_key_pair(), lifetime=Lifetime(100, 200)).key_package
    group = alone()
    for now in (100, 200, None):
        group.commit([Add(package)], now=now, random=os.urandom)
    for now in (99, 201):
        with pytest.raises(ValidationError, match=r"7\.3 lifetime"):
            group.commit([Add(package)], now=now, random=os.urandom)


def test_who_leaves_by_the_same_commit_needs_no_new_capability() -> None:
    capable = replace(CAPABILITIES, extensions=(0xF1A0, 0xF1A1), proposals=(0xF001,))
    founder = Group.create(
        SUITE,
        b"g",
        signer=signature_key_pair(),
        credential=Credential.basic(b"x"),
        capabilities=capable,
        random=os.urandom,
    )
    able, unable = (key_package(signature_key_pair(), capabilities=each) for each in (capable, CAPABILITIES))
    group = founder.commit([Add(able.key_package), Add(unable.key_package)], random=os.urandom).group
    required = RequiredCapabilities((0xF1A1,), (0xF001,), ()).encode()
    for extension in (Extension(0xF1A1, b""), Extension(REQUIRED_CAPABILITIES, required)):
        group.commit([GroupContextExtensions((extension,)), Remove(2)], random=os.urandom)
        with pytest.raises(ValidationError):
            group.commit([GroupContextExtensions((extension,))], random=os.urandom)
    group.commit([CustomProposal(0xF001, b""), Remove(2)], random=os.urandom)
    with pytest.raises(ValidationError, match="not all members support"):
        group.commit([CustomProposal(0xF001, b"")], random=os.urandom)


def test_a_path_is_warm_once_somebody_below_has_committed() -> None:
    party = Party.of(4)
    assert [party.groups[index].has_warm_path for index in range(4)] == [True, True, False, False]
    party.commit(3)
    assert all(group.has_warm_path for group in party.groups.values())
    (joined,) = party.add(0)
    assert party.groups[joined].has_warm_path  # alone on its side: its only parent is the root, which has just changed
    party.commit(1)
    (joined,) = party.add(0)
    assert not party.groups[joined].has_warm_path
    party.commit(joined)
    assert party.groups[joined].has_warm_path


def test_a_leaf_may_have_an_extension_of_every_type_that_it_supports() -> None:
    extensions = tuple(Extension(kind, b"") for kind in sorted(DEFAULT_EXTENSIONS))
    package = key_package(
        signature_key_pair(), capabilities=replace(CAPABILITIES, extensions=()), leaf_extensions=extensions
    ).key_package
    assert alone().commit([Add(package)], random=os.urandom).added == (1,)


def test_keys_that_were_skipped_are_stored() -> None:
    party = Party.of(2)
    late, later = party.say(1, b"late"), party.say(1, b"later")
    group = party.groups[0].process(later, authenticate=nobody).group
    assert group is not None
    opened = Group.restore(group.epoch_state(), group.message_state()).process(late, authenticate=nobody)
    assert isinstance(opened, Application)
    assert opened.data == b"late"
