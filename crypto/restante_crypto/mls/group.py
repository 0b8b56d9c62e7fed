"""A group as one member sees it (RFC 9420 sections 11 and 12): frozen, every step gives the next group.

A failure changes nothing, because nothing is changed in place. What a Commit does is in ``commits``, how one joins in
``joining`` and ``external``, how a group continues another in ``continuing``, how it is stored in ``stored_group``.

Longer than 600 lines because it is the public surface of MLS, and half of it says what each step promises.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from restante_crypto import primitives
from restante_crypto.mls import commits, continuing, external, grease, joining, key_schedule, own_update, stored_group
from restante_crypto.mls.commits import CommitProcessed, Policy, Request, StagedCommit
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.epoch import EpochKeys, Member, PastEpoch
from restante_crypto.mls.errors import StateError, ValidationError
from restante_crypto.mls.extensions import Capabilities, Extensions, Lifetime, check_extensions, external_senders
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_PROPOSAL,
    SENDER_EXTERNAL,
    SENDER_MEMBER,
    SENDER_NEW_MEMBER_COMMIT,
    WIRE_PRIVATE_MESSAGE,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    Commit,
    Content,
    FramedContent,
    Sender,
    interim_transcript_hash,
)
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.joining import ClientOf
from restante_crypto.mls.key_package import KeyPackage, KeyPackageBundle
from restante_crypto.mls.key_schedule import EpochSecrets
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, SOURCE_KEY_PACKAGE, LeafNode, SignatureKeyPair
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.own_update import OwnUpdate
from restante_crypto.mls.proposal_list import BY_OUTSIDERS, SentProposal, Terms
from restante_crypto.mls.proposals import Add, PreSharedKey, Proposal, ReInit, Remove, Update
from restante_crypto.mls.psk import USAGE_BRANCH, USAGE_REINIT, PreSharedKeyID
from restante_crypto.mls.ratchet_tree import ParentNode, RatchetTree
from restante_crypto.mls.secret_tree import SecretTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.tree_validation import Authenticate, check_leaf
from restante_crypto.mls.welcome import GroupInfo, Welcome
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES

_NO_PSKS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
_FOREVER: Final = Lifetime(0, 2**64 - 1)  # of a leaf that its first Commit replaces, before anybody sees it

MAX_PROPOSALS: Final = 2048  # kept in an epoch: an Update of each of a thousand members, and as much again


@dataclass(frozen=True, slots=True)
class Protected:
    """A message of ours, and the group after it."""

    group: "Group"
    message: bytes


@dataclass(frozen=True, slots=True)
class Application:
    """Application data of a member."""

    group: "Group"
    sender: int
    data: bytes
    authenticated_data: bytes


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A proposal, which a Commit of this epoch may refer to.

    Attributes:
        group: with it.
        sender: a member's leaf index; with ``outside`` that of an external sender, or 0 of who asks to be added.
        proposal: what is proposed.
        reference: by which a Commit names it.
        outside: the sender is no member.
    """

    group: "Group"
    sender: int
    proposal: Proposal
    reference: bytes
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """A group that was joined, and the leaf index of who signed its GroupInfo."""

    group: "Group"
    sender: int


@dataclass(frozen=True, slots=True)
class JoinedExternally:
    """A group after an external Commit of ours, and that Commit's MLSMessage: both hold once it is accepted."""

    group: "Group"
    message: bytes


def _credential(leaf: LeafNode) -> Credential:
    return leaf.credential


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A member's view of a group in one epoch.

    Attributes:
        reinit: the group has ended, and is to begin again like this (section 11.2).
    """

    keys: EpochKeys = field(repr=False)
    tree: RatchetTree = field(repr=False)
    context: GroupContext
    secrets: EpochSecrets = field(repr=False)
    interim_transcript_hash: bytes = field(repr=False)
    private_keys: Mapping[NodeIndex, bytes] = field(repr=False)
    signer: SignatureKeyPair = field(repr=False)
    proposals: Mapping[bytes, SentProposal] = field(repr=False)
    reinit: ReInit | None = None

    # What it is.

    @property
    def suite(self) -> int:
        """The cipher suite's number."""
        return self.keys.suite.number

    @property
    def group_id(self) -> bytes:
        """The group's id."""
        return self.context.group_id

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.context.epoch

    @property
    def own_index(self) -> int:
        """This member's leaf."""
        return self.keys.own_index

    @property
    def extensions(self) -> Extensions:
        """The extensions of the GroupContext."""
        return self.context.extensions

    @property
    def epoch_authenticator(self) -> bytes:
        """One hash long; equal for all members of the epoch (section 8.7)."""
        return self.secrets.epoch_authenticator

    @property
    def ratchet_tree(self) -> bytes:
        """The encoded tree, which a joiner needs whose Welcome or GroupInfo does not have it (section 12.4.3.3)."""
        return self.tree.encode()

    @property
    def resumption_psk(self) -> bytes:
        """One hash long; proves later to have been a member of this epoch, and opens nothing (section 8.6)."""
        return self.secrets.resumption_psk

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, by leaf index."""
        return tuple(Member(index, leaf) for index, leaf in self.tree.members())

    @property
    def has_warm_path(self) -> bool:
        """Whether every parent above this member has a key that it holds: Commits need no ciphertext for it alone."""
        own = LeafIndex(self.own_index)
        nodes = (self.tree.node(index) for index, _ in self.tree.filtered_direct_path(own))
        return all(isinstance(node, ParentNode) and own not in node.unmerged_leaves for node in nodes)

    def member(self, index: int) -> Member | None:
        """Return the member at this leaf index."""
        leaf = self.tree.leaf(index)
        return Member(index, leaf) if leaf is not None else None

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return a secret that only this epoch's members know (section 8.5)."""
        return key_schedule.export(self.keys.suite, self.secrets.exporter_secret, label, context, length)

    # Beginnings.

    @classmethod
    def create(  # noqa: PLR0913 -- a group and its first leaf have these parts
        cls,
        suite: int,
        group_id: bytes,
        *,
        signer: SignatureKeyPair,
        credential: Credential,
        capabilities: Capabilities,
        leaf_extensions: Extensions = (),
        extensions: Extensions = (),
        lifetime: Lifetime = _FOREVER,
        random: Random,
    ) -> Self:
        """Create a group of one (section 11).

        Its leaf has this lifetime until its first Commit: name one if somebody may let themselves in before.

        Raises:
            StateError: for a suite that is not supported.
            ValidationError: credential, capabilities and extensions do not fit each other.
        """
        if suite not in SUITES:
            raise StateError("cipher suite")
        chosen = SUITES[suite]
        leaf_private, encryption_key = chosen.kem.derive_key_pair(random(32))
        capabilities, leaf_extensions = grease.leaf(capabilities, leaf_extensions, random)
        leaf = LeafNode(
            encryption_key,
            signer.public,
            credential,
            capabilities,
            SOURCE_KEY_PACKAGE,
            lifetime,
            extensions=leaf_extensions,
        ).sign(signer)
        check_extensions(extensions)
        check_leaf(leaf, chosen, extensions)
        tree = RatchetTree(chosen, [leaf])
        context = GroupContext(suite, group_id, 0, tree.tree_hash(), b"", extensions)
        secrets, encryption_secret = key_schedule.from_epoch_secret(chosen, random(chosen.hash_bytes))
        tag = primitives.hmac(chosen.hash_name, secrets.confirmation_key, b"")
        return cls.in_epoch(
            tree,
            context,
            secrets,
            encryption_secret,
            interim=interim_transcript_hash(chosen, b"", tag),
            own_index=0,
            private_keys={NodeIndex(0): leaf_private},
            signer=signer,
        )

    @classmethod
    def in_epoch(  # noqa: PLR0913 -- an epoch has these parts
        cls,
        tree: RatchetTree,
        context: GroupContext,
        secrets: EpochSecrets,
        encryption_secret: bytes,
        *,
        interim: bytes,
        own_index: int,
        private_keys: Mapping[NodeIndex, bytes],
        signer: SignatureKeyPair,
        reinit: ReInit | None = None,
    ) -> Self:
        """Return a group at the beginning of an epoch: for this package's own use."""
        secret_tree = SecretTree.create(tree.suite, tree.leaves, encryption_secret)
        keys = EpochKeys.of(tree.suite, context, secrets, own_index, secret_tree)
        return cls(keys, tree, context, secrets, interim, private_keys, signer, {}, reinit)

    @classmethod
    def join(  # noqa: PLR0913 -- what a Welcome is measured by
        cls,
        welcome_message: bytes,
        bundle: KeyPackageBundle,
        *,
        signer: SignatureKeyPair,
        authenticate: Authenticate,
        ratchet_tree: bytes | None = None,
        psks: Mapping[bytes, bytes] = _NO_PSKS,
        resumed: "Group | None" = None,
        client_of: ClientOf = _credential,
        groups: Collection[bytes] = (),
        policy: Policy = Policy(),  # noqa: B008 -- a frozen value
    ) -> Joined:
        """Join by a Welcome (section 12.4.3.1).

        Args:
            welcome_message: an MLSMessage.
            bundle: the KeyPackage that it is for.
            signer: the key pair of that KeyPackage's leaf.
            authenticate: checks every member's credential.
            ratchet_tree: a member's ``Group.ratchet_tree``, if it is not in the Welcome.
            psks: secrets by ``psk_id``, or by group id ‖ epoch (8 bytes) of resumption PSKs.
            resumed: the group that the new one continues (sections 11.2 and 11.3); None if it continues none.
            client_of: says whose leaf it is, in either of the two; by default its credential does.
            groups: ids of the groups that this client takes part in: the new one is not among them.
            policy: of it, how long a leaf's lifetime may last.

        Raises:
            MLSError: DecodeError, StateError (not for this KeyPackage), UnprotectError, ValidationError, PathError.
        """
        entry = joining.open_welcome(
            welcome_message,
            bundle,
            authenticate=authenticate,
            ratchet_tree=ratchet_tree,
            psks=psks,
            resumed=resumed,
            client_of=client_of,
            longest=policy.max_lifetime,
        )
        if entry.context.group_id in groups:
            raise ValidationError("12.4.3.1 group_id")
        group = cls.in_epoch(
            entry.tree,
            entry.context,
            entry.secrets,
            entry.encryption_secret,
            interim=entry.interim,
            own_index=entry.own_index,
            private_keys=entry.private_keys,
            signer=signer,
        )
        return Joined(group, entry.sender)

    @classmethod
    def join_externally(  # noqa: PLR0913 -- a group and a leaf have these parts
        cls,
        group_info: bytes,
        *,
        signer: SignatureKeyPair,
        credential: Credential,
        capabilities: Capabilities,
        authenticate: Authenticate,
        random: Random,
        leaf_extensions: Extensions = (),
        ratchet_tree: bytes | None = None,
        replaces: int | None = None,
        psk_ids: Sequence[PreSharedKeyID] = (),
        psks: Mapping[bytes, bytes] = _NO_PSKS,
        authenticated_data: bytes = b"",
        policy: Policy = Policy(),  # noqa: B008 -- a frozen value
    ) -> JoinedExternally:
        """Let oneself in by an external Commit (section 12.4.3.2), in the clear.

        Args:
            group_info: the MLSMessage of a member's ``group_info``.
            signer: of the new leaf.
            credential: of the new leaf.
            capabilities: of the new leaf.
            authenticate: checks every member's credential.
            random: for keys and encapsulations.
            leaf_extensions: of the new leaf.
            ratchet_tree: the tree, if it is not in the GroupInfo.
            replaces: this client's old leaf, which is removed.
            psk_ids: PSKs to mix in.
            psks: their secrets: see ``join``.
            authenticated_data: of the Commit.
            policy: see ``join``.

        Raises:
            MLSError: DecodeError, StateError, ValidationError.
        """
        info = MLSMessage.parse(group_info).body
        if not isinstance(info, GroupInfo):
            raise StateError("not a GroupInfo")
        suite = SUITES.get(info.context.suite)
        if suite is None:
            raise StateError("cipher suite")
        tree = joining.checked_tree(suite, info, ratchet_tree, authenticate, policy.max_lifetime)
        init = external.encapsulate(suite, external.external_key(info), random)
        none = EpochSecrets(*[b""] * 8)
        interim = interim_transcript_hash(suite, info.context.confirmed_transcript_hash, info.confirmation_tag)
        outside = cls.in_epoch(
            tree,
            info.context,
            none,
            bytes(suite.hash_bytes),
            interim=interim,
            own_index=info.signer,
            private_keys={},
            signer=signer,
        )
        capabilities, leaf_extensions = grease.leaf(capabilities, leaf_extensions, random)
        leaf = LeafNode(b"", signer.public, credential, capabilities, SOURCE_COMMIT, extensions=leaf_extensions)
        items: list[Proposal] = [] if replaces is None else [Remove(replaces)]
        items += [PreSharedKey(psk) for psk in psk_ids]
        request = Request(
            proposals=items,
            references=(),
            leaf_extensions=None,
            authenticated_data=authenticated_data,
            psks=psks,
            authenticate=authenticate,
            public=True,
            tree_in_welcome=False,
        )
        message, group = commits.stage_external(outside, leaf, init, request, random)
        return JoinedExternally(group, message)

    def branch(
        self,
        group_id: bytes,
        key_packages: Sequence[KeyPackage],
        *,
        signer: SignatureKeyPair,
        extensions: Extensions = (),
        authenticate: Authenticate,
        random: Random,
    ) -> StagedCommit:
        """Begin a group of some of the members, bound to this one (section 11.3)."""
        wanted = ReInit(group_id, self.context.version, self.suite, extensions)
        own = self.tree.occupied_leaf(self.own_index)
        return continuing.begin(self, wanted, USAGE_BRANCH, key_packages, own, signer, authenticate, random)

    def begin_again(
        self,
        key_packages: Sequence[KeyPackage],
        *,
        signer: SignatureKeyPair,
        authenticate: Authenticate,
        random: Random,
        leaf_extensions: Extensions | None = None,
        leaf_capabilities: Capabilities | None = None,
    ) -> StagedCommit:
        """Begin the group again that a ReInit has ended, with all its members (section 11.2).

        Args:
            key_packages: of all others, for the new cipher suite.
            signer: of the own leaf.
            authenticate: checks the credentials of the others.
            random: for keys and encapsulations.
            leaf_extensions: of the own leaf; None: as it has them.
            leaf_capabilities: the same.

        Raises:
            StateError: it has not ended.
        """
        if self.reinit is None:
            raise StateError("11.2 the group has not ended")
        if len(key_packages) != len(self.members) - 1:
            raise ValidationError("11.2 all members of the group before")
        own = self.tree.occupied_leaf(self.own_index)
        leaf = replace(
            own,
            extensions=own.extensions if leaf_extensions is None else leaf_extensions,
            capabilities=leaf_capabilities or own.capabilities,
            raw=b"",
        )
        return continuing.begin(self, self.reinit, USAGE_REINIT, key_packages, leaf, signer, authenticate, random)

    # For those outside.

    def group_info(self, *, with_tree: bool = True, random: Random | None = None) -> bytes:
        """Return the MLSMessage of a signed GroupInfo, with which somebody may let themselves in (section 12.4.3.3).

        With ``random`` it has an extension that nobody knows (section 13.5).
        """
        suite, context = self.keys.suite, self.context
        tag = primitives.hmac(suite.hash_name, self.secrets.confirmation_key, context.confirmed_transcript_hash)
        unknown = () if random is None else (grease.extension(random),)
        info = GroupInfo(context, unknown, tag, self.own_index)
        tree = self.tree.encode() if with_tree else None
        return external.shown(suite, info, self.secrets.external_secret, tree, self.signer.private)

    def external_init_secret(self, encapsulation: bytes) -> bytes:
        """Return the init secret of an external Commit of this epoch: for this package's own use."""
        return external.decapsulate(self.keys.suite, encapsulation, self.secrets.external_secret)

    # Sending.

    def frame(
        self,
        content_type: int,
        content: Content,
        authenticated_data: bytes,
        *,
        wire_format: int = WIRE_PRIVATE_MESSAGE,
        sender: Sender | None = None,
    ) -> AuthenticatedContent:
        """Return a signed content: for this package's own use. Raises StateError: the group has ended."""
        if self.reinit is not None:
            raise StateError("11.2 the group has ended")
        sender = sender or Sender(SENDER_MEMBER, self.own_index)
        framed = FramedContent(self.group_id, self.epoch, sender, authenticated_data, content_type, content)
        return AuthenticatedContent(wire_format, framed).sign(self.signer.private, self.keys.context)

    def protect(self, data: bytes, *, random: Random, authenticated_data: bytes = b"") -> Protected:
        """Encrypt application data.

        Raises:
            StateError: proposals wait for a Commit (section 12.4): commit them first, or discard them.
        """
        if self.proposals:
            raise StateError("12.4 proposals wait for a Commit")
        content = self.frame(CONTENT_APPLICATION, data, authenticated_data)
        keys, message = self.keys.protect(content, random)
        return Protected(replace(self, keys=keys), message)

    def propose(
        self, proposal: Proposal, *, random: Random, authenticated_data: bytes = b"", public: bool = False
    ) -> Protected:
        """Propose something that another member may commit; ``public``: in the clear, as a PublicMessage.

        Raises:
            StateError: an Update, whose private key only ``propose_update`` keeps; or as many proposals as are kept.
        """
        if isinstance(proposal, Update):
            raise StateError("an Update without its private key")
        return self._propose(proposal, None, random, authenticated_data, public=public)

    def propose_update(
        self,
        *,
        random: Random,
        signer: SignatureKeyPair | None = None,
        credential: Credential | None = None,
        leaf_extensions: Extensions | None = None,
        leaf_capabilities: Capabilities | None = None,
        authenticated_data: bytes = b"",
        public: bool = False,
    ) -> Protected:
        """Propose fresh keys for the own leaf, which another member may commit (section 12.1.2).

        Its secrets are kept with the group, and dropped at the end of the epoch unless the Commit refers to it; of
        several in one epoch each keeps its own. An own Commit cannot refer to it, but has fresh keys in its path.

        Args:
            random: for keys and encapsulations.
            signer: the key pair that signs from the Commit on; None: as before.
            credential: replaces that of the own leaf.
            leaf_extensions: replace those of the own leaf.
            leaf_capabilities: replace those of the own leaf.
            authenticated_data: authenticated, not encrypted.
            public: in the clear, as a PublicMessage.

        Raises:
            ValidationError: such a leaf is none of this group.
            StateError: the group has ended, or as many proposals as are kept.
        """
        update, own = own_update.make(
            self,
            signer=signer,
            credential=credential,
            leaf_extensions=leaf_extensions,
            leaf_capabilities=leaf_capabilities,
            random=random,
        )
        return self._propose(update, own, random, authenticated_data, public=public)

    def _propose(
        self, proposal: Proposal, own: OwnUpdate | None, random: Random, authenticated_data: bytes, *, public: bool
    ) -> Protected:
        wire_format = WIRE_PUBLIC_MESSAGE if public else WIRE_PRIVATE_MESSAGE
        content = self.frame(CONTENT_PROPOSAL, proposal, authenticated_data, wire_format=wire_format)
        if public:
            keys, message = self.keys, self.keys.publish(content)
        else:
            keys, message = self.keys.protect(content, random)
        kept = self._keep(content.proposal_ref(self.keys.suite), SentProposal(proposal, content.content.sender, own))
        return Protected(replace(self, keys=keys, proposals=kept), message)

    def discard_proposals(self, references: Collection[bytes] | None = None) -> Self:
        """Return the group without these received proposals, or without any: no Commit can refer to them any more.

        For proposals that are not valid, or that the application does not want: while any is kept, ``protect`` waits.
        """
        kept = (
            {} if references is None else {key: each for key, each in self.proposals.items() if key not in references}
        )
        return replace(self, proposals=kept)

    def _keep(self, reference: bytes, sent: SentProposal) -> Mapping[bytes, SentProposal]:
        if len(self.proposals) >= MAX_PROPOSALS:
            raise StateError("as many proposals as are kept")
        return {**self.proposals, reference: sent}

    def commit(  # noqa: PLR0913 -- a Commit has these parts
        self,
        proposals: Sequence[Proposal] = (),
        *,
        random: Random,
        references: Sequence[bytes] = (),
        leaf_extensions: Extensions | None = None,
        leaf_capabilities: Capabilities | None = None,
        authenticated_data: bytes = b"",
        psks: Mapping[bytes, bytes] = _NO_PSKS,
        authenticate: Authenticate = lambda _new, _old: None,
        public: bool = False,
        tree_in_welcome: bool = True,
        now: int | None = None,
        policy: Policy = Policy(),  # noqa: B008 -- a frozen value
    ) -> StagedCommit:
        """Stage a Commit with a path (section 12.4.1): proposals by value, then those referred to.

        Args:
            proposals: by value.
            random: for keys and encapsulations.
            references: of proposals received in this epoch.
            leaf_extensions: replace those of the own leaf.
            leaf_capabilities: replace those of the own leaf.
            authenticated_data: authenticated, not encrypted.
            psks: see ``join``.
            authenticate: checks the credentials of what is added; the caller has usually done that.
            public: in the clear, as a PublicMessage.
            tree_in_welcome: without it, those added get the next group's ``ratchet_tree`` another way.
            now: Unix seconds, with which the lifetimes of what is added are compared; without it, the caller has done
                that (``validate_key_package``).
            policy: see ``join``.

        Raises:
            ValidationError: the list is not valid.
            StateError: a reference or a PSK is not known.
        """
        request = Request(
            proposals=proposals,
            references=references,
            leaf_extensions=leaf_extensions,
            leaf_capabilities=leaf_capabilities,
            authenticated_data=authenticated_data,
            psks=psks,
            authenticate=authenticate,
            public=public,
            tree_in_welcome=tree_in_welcome,
            longest=policy.max_lifetime,
            now=now,
        )
        return commits.stage(self, request, random)

    # Receiving.

    def process(
        self,
        message: bytes,
        *,
        authenticate: Authenticate,
        psks: Mapping[bytes, bytes] = _NO_PSKS,
        policy: Policy = Policy(),  # noqa: B008 -- a frozen value
    ) -> Application | ProposalReceived | CommitProcessed:
        """Open, verify and check a message of this epoch.

        Args:
            message: an MLSMessage.
            authenticate: checks the credentials of what is added or changed.
            psks: see ``join``.
            policy: what is taken beyond what members do to each other.

        Raises:
            MLSError: see ``errors``; nothing has changed.
        """
        if self.reinit is not None:
            raise StateError("11.2 the group has ended")
        keys, content = self.keys.unprotect(MLSMessage.parse(message), lambda content: self._key_of(content, policy))
        framed, group = content.content, replace(self, keys=keys)
        sender, body = framed.sender, framed.content
        if isinstance(body, bytes):
            return Application(group, sender.index, body, framed.authenticated_data)
        if isinstance(body, Commit):
            return commits.follow(group, content, body, authenticate=authenticate, psks=psks, policy=policy)
        reference = content.proposal_ref(self.keys.suite)
        kept = self._keep(reference, SentProposal(body, sender))
        outside = sender.type != SENDER_MEMBER
        return ProposalReceived(replace(group, proposals=kept), sender.index, body, reference, outside)

    def _key_of(self, content: AuthenticatedContent, policy: Policy) -> bytes | None:
        """Return the signature key of who sent this. Raises StateError, ValidationError: they may not."""
        sender, body = content.content.sender, content.content.content
        if sender.type == SENDER_MEMBER:
            leaf = self.tree.leaf(sender.index)
            return leaf.signature_key if leaf is not None else None
        commits_outside = policy.external_commits or policy.resyncs
        if not (commits_outside if sender.type == SENDER_NEW_MEMBER_COMMIT else policy.external_proposals):
            raise ValidationError("a sender who is no member, whom the application does not hear")
        if isinstance(body, Commit):
            if body.path is None:
                raise ValidationError("12.4.3.2 path required")
            return body.path.leaf_node.signature_key
        if sender.type == SENDER_EXTERNAL:
            if not isinstance(body, BY_OUTSIDERS):
                raise ValidationError("12.1.8 proposal of an external sender")
            known = external_senders(self.extensions)
            return known[sender.index].signature_key if sender.index < len(known) else None
        if not isinstance(body, Add):
            raise ValidationError("12.1.8 proposal of a new member")
        return body.key_package.leaf_node.signature_key

    def terms(self, authenticate: Authenticate, longest: int) -> Terms:
        """Return what proposals are checked against: for this package's own use."""
        return Terms(self.keys.suite, self.group_id, self.extensions, authenticate, longest)

    # Storage.

    def late_keys(self) -> tuple[tuple[int, int, int], ...]:
        """Return where keys are kept for messages of this epoch that were skipped: see ``forget_late_keys``."""
        return self.keys.tree.late_keys()

    def forget_late_keys(self, noted: Sequence[tuple[int, int, int]]) -> Self:
        """Forget the keys that were kept when ``late_keys`` returned this: such messages come too late now."""
        return replace(self, keys=replace(self.keys, tree=self.keys.tree.forget_late_keys(noted)))

    def archive(self) -> PastEpoch:
        """Return what reads late messages of this epoch, and nothing more."""
        return PastEpoch(replace(self.keys, membership_key=b""), dict(self.tree.members()))

    def epoch_state(self) -> bytes:
        """Return what changes with epochs only, secrets included, for storage."""
        return stored_group.epoch_state(self)

    def message_state(self) -> bytes:
        """Return what changes with messages: the secret tree and proposals, for storage; own Updates have secrets."""
        return stored_group.message_state(self)

    @classmethod
    def restore(cls, epoch_state: bytes, message_state: bytes) -> Self:
        """Return the group from storage. Raises StateError if the bytes are not what was stored."""
        return stored_group.restore(cls, epoch_state, message_state)


def is_welcome(message: bytes) -> bool:
    """Say whether an MLSMessage is a Welcome. Raises DecodeError."""
    return isinstance(MLSMessage.parse(message).body, Welcome)


def key_package_message(key_package: KeyPackage) -> bytes:
    """Return a KeyPackage as MLSMessage."""
    return MLSMessage(key_package).encode()


def parse_key_package_message(message: bytes) -> KeyPackage | None:
    """Return the KeyPackage if the MLSMessage is one, else None. Raises DecodeError."""
    body = MLSMessage.parse(message).body
    return body if isinstance(body, KeyPackage) else None
