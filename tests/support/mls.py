"""Members for tests of MLS: key pairs, KeyPackages and groups, without relay or SDK."""

import os
from dataclasses import dataclass

from restante_crypto import primitives
from restante_crypto.mls import (
    Add,
    Capabilities,
    CommitProcessed,
    Credential,
    Extension,
    Group,
    KeyPackageBundle,
    LeafNode,
    Lifetime,
    Proposal,
    ProposalReceived,
    SignatureKeyPair,
    create_key_package,
)
from restante_crypto.mls.extensions import MAX_LIFETIME

SUITE = 0x0003
CAPABILITIES = Capabilities(suites=(1, 3, 84, 0xF00E, 0xF101), extensions=(0xF1A0,))
ALWAYS = Lifetime(0, MAX_LIFETIME)


def nobody(_new: LeafNode, _old: LeafNode | None) -> None:
    """An application that takes every credential."""


def signature_key_pair() -> SignatureKeyPair:
    seed = os.urandom(32)
    return SignatureKeyPair(primitives.ed25519_public(seed), seed)


def key_package(
    signer: SignatureKeyPair,
    name: str = "member",
    *,
    suite: int = SUITE,
    capabilities: Capabilities = CAPABILITIES,
    lifetime: Lifetime = ALWAYS,
    leaf_extensions: tuple[Extension, ...] = (),
) -> KeyPackageBundle:
    return create_key_package(
        suite,
        signer=signer,
        credential=Credential.basic(name.encode()),
        capabilities=capabilities,
        lifetime=lifetime,
        leaf_extensions=leaf_extensions,
        random=os.urandom,
    )


def alone(name: str = "founder", suite: int = SUITE, extensions: tuple[Extension, ...] = ()) -> Group:
    """A group of one."""
    return Group.create(
        suite,
        b"group",
        signer=signature_key_pair(),
        credential=Credential.basic(name.encode()),
        capabilities=CAPABILITIES,
        extensions=extensions,
        random=os.urandom,
    )


@dataclass
class Party:
    """Groups of several members in the same epoch, by leaf index."""

    groups: dict[int, Group]

    @classmethod
    def of(cls, size: int, suite: int = SUITE) -> "Party":
        party = cls({0: alone(suite=suite)})
        if size > 1:
            party.add(0, size - 1)
        return party

    def add(self, committer: int, count: int = 1) -> list[int]:
        """Add new members by one Commit; return their leaf indexes."""
        suite = self.groups[committer].suite
        signers = [signature_key_pair() for _ in range(count)]
        bundles = [key_package(signer, suite=suite) for signer in signers]
        staged = self.groups[committer].commit([Add(bundle.key_package) for bundle in bundles], random=os.urandom)
        self._follow(committer, staged.message, staged.group)
        assert staged.welcome is not None
        for index, bundle, signer in zip(staged.added, bundles, signers, strict=True):
            joined = Group.join(staged.welcome, bundle, signer=signer, authenticate=nobody)
            assert joined.sender == committer
            assert joined.group.own_index == index
            self.groups[index] = joined.group
        return list(staged.added)

    def commit(self, committer: int, *proposals: Proposal, references: tuple[bytes, ...] = ()) -> bytes:
        """Commit and let everybody follow; return the message."""
        staged = self.groups[committer].commit(proposals, references=references, random=os.urandom)
        self._follow(committer, staged.message, staged.group)
        return staged.message

    def propose_update(self, sender: int, *, public: bool = False) -> bytes:
        """Propose fresh keys for a member, which all hear of; return the reference."""
        proposed = self.groups[sender].propose_update(public=public, random=os.urandom)
        known = self.groups[sender].proposals
        self.groups[sender] = proposed.group
        for index, group in self.groups.items():
            if index != sender:
                received = group.process(proposed.message, authenticate=nobody)
                assert isinstance(received, ProposalReceived)
                self.groups[index] = received.group
        (reference,) = proposed.group.proposals.keys() - known.keys()
        return reference

    def _follow(self, committer: int, message: bytes, group: Group) -> None:
        following = {committer: group}
        for index, old in self.groups.items():
            if index != committer:
                result = old.process(message, authenticate=nobody)
                assert isinstance(result, CommitProcessed)
                if result.group is not None:
                    following[index] = result.group
        self.groups = following

    def say(self, sender: int, data: bytes) -> bytes:
        """Protect data; return the message."""
        protected = self.groups[sender].protect(data, random=os.urandom)
        self.groups[sender] = protected.group
        return protected.message

    def agree(self) -> bool:
        """Whether all have the same epoch authenticator and tree."""
        return len({(g.epoch, g.epoch_authenticator, g.tree.tree_hash()) for g in self.groups.values()}) == 1
