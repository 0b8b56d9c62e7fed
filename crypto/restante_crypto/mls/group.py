"""A group as one member sees it (RFC 9420 sections 11 and 12): frozen, every step gives the next group.

A failure changes nothing, because nothing is changed in place. Not here yet: external Commits and senders, ReInit and
branching, proposals of other types than the RFC's.

Longer than 600 lines because a group is one value with the operations of sections 11 and 12; what they are made of is
in the files beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from restante_crypto import hpke, primitives
from restante_crypto.mls import codec, key_schedule, labels, proposal_list, tree_math, treekem, welcome
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.epoch import EpochKeys, Member, PastEpoch
from restante_crypto.mls.errors import (
    DecodeError,
    PathError,
    StateError,
    UnprotectError,
    ValidationError,
)
from restante_crypto.mls.extensions import RATCHET_TREE, Capabilities, Extension, Extensions, Lifetime, find
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_COMMIT,
    CONTENT_PROPOSAL,
    SENDER_MEMBER,
    WIRE_PRIVATE_MESSAGE,
    AuthenticatedContent,
    Commit,
    Content,
    FramedContent,
    Sender,
    confirmed_transcript_hash,
    interim_transcript_hash,
)
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_package import KeyPackage, KeyPackageBundle
from restante_crypto.mls.key_schedule import EpochSecrets
from restante_crypto.mls.leaf_node import SOURCE_COMMIT, SOURCE_KEY_PACKAGE, LeafNode, SignatureKeyPair
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposal_list import Applied, SentProposal
from restante_crypto.mls.proposals import Proposal, ProposalOrRef, decode_proposal
from restante_crypto.mls.psk import PreSharedKeyID, psk_secret
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.secret_tree import SecretTree
from restante_crypto.mls.tree_math import LeafIndex, NodeIndex
from restante_crypto.mls.tree_validation import Authenticate, check_leaf, check_members, check_tree
from restante_crypto.mls.update_path import HPKECiphertext, UpdatePath
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES, CipherSuite

_WELCOME: Final = b"Welcome"
_NO_PSKS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
_FOREVER: Final = Lifetime(0, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Protected:
    """A message of ours, and the group after it."""

    group: "Group"
    message: bytes


@dataclass(frozen=True, slots=True)
class StagedCommit:
    """A Commit of ours that nobody has accepted yet.

    Attributes:
        message: the MLSMessage to send.
        welcome: the MLSMessage for those it adds, or None.
        current: the group in its present epoch, with the message key used: keep it whatever happens.
        group: the group of the next epoch: replace the present one once the Commit is accepted.
        added: leaf indexes.
        removed: members.
    """

    message: bytes
    welcome: bytes | None
    current: "Group"
    group: "Group"
    added: tuple[int, ...]
    removed: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Application:
    """Application data of a member."""

    group: "Group"
    sender: int
    data: bytes
    authenticated_data: bytes


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A proposal of a member, which a Commit of this epoch may refer to."""

    group: "Group"
    sender: int
    proposal: Proposal
    reference: bytes


@dataclass(frozen=True, slots=True)
class CommitProcessed:
    """A Commit of a member, checked; it holds once it is accepted for all.

    Attributes:
        group: the next epoch, or None if this member was removed.
        committer: leaf index in the epoch before.
        added: members of the new epoch.
        removed: members of the epoch before.
        updated: members of the new epoch with a new leaf, the committer included.
    """

    group: "Group | None"
    committer: int
    added: tuple[Member, ...]
    removed: tuple[Member, ...]
    updated: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A group that was joined, and the leaf index of who signed its GroupInfo."""

    group: "Group"
    sender: int


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A member's view of a group in one epoch."""

    keys: EpochKeys = field(repr=False)
    tree: RatchetTree = field(repr=False)
    context: GroupContext
    secrets: EpochSecrets = field(repr=False)
    interim_transcript_hash: bytes = field(repr=False)
    private_keys: Mapping[NodeIndex, bytes] = field(repr=False)
    signer: SignatureKeyPair = field(repr=False)
    proposals: Mapping[bytes, SentProposal] = field(repr=False)

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
    def members(self) -> tuple[Member, ...]:
        """All members, by leaf index."""
        return tuple(Member(index, leaf) for index, leaf in self.tree.members())

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
        """Create a group of one (section 11). Raises StateError for a suite that is not supported."""
        if suite not in SUITES:
            raise StateError("cipher suite")
        chosen = SUITES[suite]
        leaf_private, encryption_key = chosen.kem.derive_key_pair(random(32))
        leaf = LeafNode(
            encryption_key,
            signer.public,
            credential,
            capabilities,
            SOURCE_KEY_PACKAGE,
            lifetime,
            extensions=leaf_extensions,
        ).sign(signer)
        check_leaf(leaf, suite, extensions)
        tree = RatchetTree(chosen, [leaf])
        context = GroupContext(suite, group_id, 0, tree.tree_hash(), b"", extensions)
        secrets, encryption_secret = key_schedule.from_epoch_secret(chosen, random(chosen.hash_bytes))
        tag = primitives.hmac(chosen.hash_name, secrets.confirmation_key, b"")
        return cls._in_epoch(
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
    def _in_epoch(
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
    ) -> Self:
        suite = tree.suite
        keys = EpochKeys(
            suite,
            context.group_id,
            context.epoch,
            own_index,
            context.encode(),
            secrets.sender_data_secret,
            secrets.membership_key,
            SecretTree.create(suite, tree.leaves, encryption_secret),
        )
        return cls(keys, tree, context, secrets, interim, private_keys, signer, {})

    @classmethod
    def join(
        cls,
        welcome_message: bytes,
        bundle: KeyPackageBundle,
        *,
        signer: SignatureKeyPair,
        authenticate: Authenticate,
        ratchet_tree: bytes | None = None,
        psks: Mapping[bytes, bytes] = _NO_PSKS,
    ) -> Joined:
        """Join by a Welcome (section 12.4.3.1).

        Args:
            welcome_message: an MLSMessage.
            bundle: the KeyPackage that it is for.
            signer: the key pair of that KeyPackage's leaf.
            authenticate: checks every member's credential.
            ratchet_tree: the tree, if it is not in the Welcome.
            psks: secrets by encoded PreSharedKeyID without nonce; see ``_psks``.

        Raises:
            MLSError: DecodeError, StateError (not for this KeyPackage), UnprotectError, ValidationError, PathError.
        """
        body = MLSMessage.parse(welcome_message).body
        if not isinstance(body, welcome.Welcome):
            raise StateError("not a Welcome")
        suite = SUITES.get(body.suite)
        if suite is None or body.suite != bundle.key_package.suite:
            raise ValidationError("12.4.3.1 cipher suite")
        secrets = _group_secrets(suite, body, bundle)
        member = key_schedule.member_secret(suite, secrets.joiner_secret, _psk_secret(suite, secrets.psks, psks))
        info = _group_info(suite, member, body)
        context = info.context
        if context.suite != body.suite:
            raise ValidationError("12.4.3.1 cipher suite")
        encoded = find(info.extensions, RATCHET_TREE)
        encoded = ratchet_tree if encoded is None else encoded
        if encoded is None:
            raise StateError("no ratchet tree")
        tree = RatchetTree.from_bytes(suite, encoded)
        signer_leaf = tree.leaf(info.signer)
        if signer_leaf is None or not info.verify(signer_leaf.signature_key):
            raise ValidationError("12.4.3.1 signature of the GroupInfo")
        if tree.tree_hash() != context.tree_hash:
            raise ValidationError("12.4.3.1 tree hash")
        check_tree(tree, context.group_id, context.extensions, authenticate)
        own = next((index for index, leaf in tree.members() if leaf == bundle.key_package.leaf_node), None)
        if own is None:
            raise ValidationError("12.4.3.1 own leaf")
        private_keys = {NodeIndex(2 * own): bundle.leaf_private}
        if secrets.path_secret is not None:
            path = [
                (node, child)
                for node, child in tree.filtered_direct_path(LeafIndex(info.signer))
                if own in _leaves_below(node)
            ]
            keys, _ = treekem.path_keys(tree, [node for node, _ in path], secrets.path_secret)
            private_keys.update(keys)
        epoch_secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context.encode())
        tag = primitives.hmac(suite.hash_name, epoch_secrets.confirmation_key, context.confirmed_transcript_hash)
        if not primitives.equal(tag, info.confirmation_tag):
            raise PathError("confirmation tag")
        group = cls._in_epoch(
            tree,
            context,
            epoch_secrets,
            encryption_secret,
            interim=interim_transcript_hash(suite, context.confirmed_transcript_hash, tag),
            own_index=own,
            private_keys=private_keys,
            signer=signer,
        )
        return Joined(group, info.signer)

    # Sending.

    def _frame(self, content_type: int, content: Content, authenticated_data: bytes) -> AuthenticatedContent:
        framed = FramedContent(
            self.group_id,
            self.epoch,
            Sender(SENDER_MEMBER, self.own_index),
            authenticated_data,
            content_type,
            content,
        )
        return AuthenticatedContent(WIRE_PRIVATE_MESSAGE, framed).sign(self.signer.private, self.keys.context)

    def protect(self, data: bytes, *, random: Random, authenticated_data: bytes = b"") -> Protected:
        """Encrypt application data."""
        content = self._frame(CONTENT_APPLICATION, data, authenticated_data)
        keys, message = self.keys.protect(content, random)
        return Protected(replace(self, keys=keys), message)

    def propose(self, proposal: Proposal, *, random: Random, authenticated_data: bytes = b"") -> Protected:
        """Propose something that another member may commit."""
        content = self._frame(CONTENT_PROPOSAL, proposal, authenticated_data)
        keys, message = self.keys.protect(content, random)
        reference = content.proposal_ref(self.keys.suite)
        known = {**self.proposals, reference: SentProposal(proposal, LeafIndex(self.own_index))}
        return Protected(replace(self, keys=keys, proposals=known), message)

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        random: Random,
        references: Sequence[bytes] = (),
        leaf_extensions: Extensions | None = None,
        authenticated_data: bytes = b"",
        psks: Mapping[bytes, bytes] = _NO_PSKS,
        authenticate: Authenticate = lambda _new, _old: None,
    ) -> StagedCommit:
        """Stage a Commit with a path (section 12.4.1): proposals by value, then those referred to.

        Args:
            proposals: by value.
            random: for keys and encapsulations.
            references: of proposals received in this epoch.
            leaf_extensions: replace those of the own leaf.
            authenticated_data: authenticated, not encrypted.
            psks: see ``join``.
            authenticate: checks the credentials of what is added; the caller has usually done that.

        Raises:
            ValidationError: the list is not valid.
            StateError: a reference or a PSK is not known.
        """
        suite, own = self.keys.suite, LeafIndex(self.own_index)
        items = [ProposalOrRef(proposal) for proposal in proposals]
        items += [ProposalOrRef(None, reference) for reference in references]
        applied = self._apply(items, own, authenticate)
        leaf = self.tree.occupied_leaf(own)
        if leaf_extensions is not None:
            leaf = replace(leaf, extensions=leaf_extensions, raw=b"")
        made = treekem.make_path(applied.tree, own, leaf, signer=self.signer, group_id=self.group_id, random=random)
        check_leaf(made.leaf_node, suite.number, applied.extensions)
        check_members(made.tree)
        provisional = replace(
            self.context, epoch=self.epoch + 1, tree_hash=made.tree.tree_hash(), extensions=applied.extensions
        )
        path = treekem.seal_path(made, provisional.encode(), applied.added, random)
        content = self._frame(CONTENT_COMMIT, Commit(tuple(items), path), authenticated_data)
        context = replace(
            provisional,
            confirmed_transcript_hash=confirmed_transcript_hash(suite, self.interim_transcript_hash, content),
        )
        joiner = key_schedule.joiner_secret(suite, self.secrets.init_secret, made.commit_secret, context.encode())
        member = key_schedule.member_secret(suite, joiner, _psk_secret(suite, applied.psks, psks))
        secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context.encode())
        tag = primitives.hmac(suite.hash_name, secrets.confirmation_key, context.confirmed_transcript_hash)
        keys, message = self.keys.protect(replace(content, confirmation_tag=tag), random)
        group = self._in_epoch(
            made.tree,
            context,
            secrets,
            encryption_secret,
            interim=interim_transcript_hash(suite, context.confirmed_transcript_hash, tag),
            own_index=own,
            private_keys=made.private_keys,
            signer=self.signer,
        )
        return StagedCommit(
            message,
            group._welcome(made, applied, joiner, member, tag, random) if applied.added else None,  # noqa: SLF001 -- our own
            replace(self, keys=keys),
            group,
            applied.added,
            tuple(Member(index, old) for index in applied.removed if (old := self.tree.leaf(index)) is not None),
        )

    def _welcome(
        self, made: treekem.OwnPath, applied: Applied, joiner: bytes, member: bytes, tag: bytes, random: Random
    ) -> bytes:
        suite = self.keys.suite
        info = welcome.GroupInfo(
            self.context, (Extension(RATCHET_TREE, self.tree.encode()),), tag, self.own_index
        ).sign(self.signer.private)
        key, nonce = key_schedule.welcome_key_nonce(suite, member)
        encrypted_info = primitives.aead_seal(suite.aead, key, nonce, info.encode(), b"")
        hpke_context = labels.encryption_context(suite, _WELCOME, encrypted_info)
        secrets = []
        for index, package in zip(applied.added, applied.joiners, strict=True):
            path_secret = next(
                (
                    secret
                    for (node, _), secret in zip(made.path, made.path_secrets, strict=True)
                    if index in _leaves_below(node)
                ),
                None,
            )
            plain = welcome.GroupSecrets(joiner, path_secret, applied.psks).encode()
            try:
                sealed = hpke.seal(suite, package.init_key, hpke_context, b"", plain, random)
            except hpke.HpkeError:
                raise ValidationError("10.1 init key") from None
            secrets.append(welcome.EncryptedGroupSecrets(package.ref(), HPKECiphertext(*sealed)))
        return MLSMessage(welcome.Welcome(suite.number, tuple(secrets), encrypted_info)).encode()

    # Receiving.

    def process(
        self, message: bytes, *, authenticate: Authenticate, psks: Mapping[bytes, bytes] = _NO_PSKS
    ) -> Application | ProposalReceived | CommitProcessed:
        """Open, verify and check a message of this epoch.

        Raises:
            MLSError: see ``errors``; nothing has changed.
        """
        keys, content = self.keys.unprotect(MLSMessage.parse(message), self.tree.leaf)
        framed = content.content
        group = replace(self, keys=keys)
        sender = framed.sender.index
        if isinstance(framed.content, bytes):
            return Application(group, sender, framed.content, framed.authenticated_data)
        if isinstance(framed.content, Commit):
            return group._process_commit(content, framed.content, LeafIndex(sender), authenticate, psks)  # noqa: SLF001 -- our own
        reference = content.proposal_ref(self.keys.suite)
        known = {**self.proposals, reference: SentProposal(framed.content, LeafIndex(sender))}
        return ProposalReceived(replace(group, proposals=known), sender, framed.content, reference)

    def _process_commit(
        self,
        content: AuthenticatedContent,
        commit: Commit,
        committer: LeafIndex,
        authenticate: Authenticate,
        psks: Mapping[bytes, bytes],
    ) -> CommitProcessed:
        suite = self.keys.suite
        applied = self._apply(commit.proposals, committer, authenticate)
        removed = tuple(Member(i, old) for i in applied.removed if (old := self.tree.leaf(i)) is not None)
        tree = applied.tree
        if commit.path is not None:
            self._check_path_leaf(commit.path, committer, applied, authenticate)
            tree = treekem.merge_path(tree, committer, commit.path)
        elif applied.path_required:
            raise ValidationError("12.4 path required")
        check_members(tree)
        context = replace(self.context, epoch=self.epoch + 1, tree_hash=tree.tree_hash(), extensions=applied.extensions)
        if self.own_index in applied.removed:
            return CommitProcessed(None, committer, (), removed, ())
        private_keys = {index: key for index, key in self.private_keys.items() if self._still_holds(tree, index)}
        commit_secret = bytes(suite.hash_bytes)
        if commit.path is not None:
            fresh, commit_secret = treekem.open_path(
                tree,
                committer,
                commit.path,
                receiver=LeafIndex(self.own_index),
                private_keys=private_keys,
                context=context.encode(),
                new_leaves=applied.added,
            )
            private_keys.update(fresh)
        context = replace(
            context, confirmed_transcript_hash=confirmed_transcript_hash(suite, self.interim_transcript_hash, content)
        )
        joiner = key_schedule.joiner_secret(suite, self.secrets.init_secret, commit_secret, context.encode())
        member = key_schedule.member_secret(suite, joiner, _psk_secret(suite, applied.psks, psks))
        secrets, encryption_secret = key_schedule.epoch_secrets(suite, member, context.encode())
        tag = primitives.hmac(suite.hash_name, secrets.confirmation_key, context.confirmed_transcript_hash)
        if not primitives.equal(tag, content.confirmation_tag):
            raise PathError("confirmation tag")
        group = self._in_epoch(
            tree,
            context,
            secrets,
            encryption_secret,
            interim=interim_transcript_hash(suite, context.confirmed_transcript_hash, tag),
            own_index=self.own_index,
            private_keys=private_keys,
            signer=self.signer,
        )
        changed = [*applied.updated, committer] if commit.path is not None else list(applied.updated)
        return CommitProcessed(
            group,
            committer,
            tuple(Member(index, leaf) for index in applied.added if (leaf := tree.leaf(index)) is not None),
            removed,
            tuple(Member(index, leaf) for index in changed if (leaf := tree.leaf(index)) is not None),
        )

    def _apply(self, items: Sequence[ProposalOrRef], committer: LeafIndex, authenticate: Authenticate) -> Applied:
        sent = []
        for item in items:
            if item.proposal is not None:
                sent.append(SentProposal(item.proposal, committer))
                continue
            known = self.proposals.get(item.reference)
            if known is None:
                raise StateError("a proposal that did not arrive")
            sent.append(known)
        return proposal_list.apply(
            self.tree,
            self.keys.suite,
            self.group_id,
            self.extensions,
            sent,
            committer=committer,
            authenticate=authenticate,
        )

    def _check_path_leaf(
        self, path: UpdatePath, committer: LeafIndex, applied: Applied, authenticate: Authenticate
    ) -> None:
        old, new = self.tree.occupied_leaf(committer), path.leaf_node
        if new.source != SOURCE_COMMIT:
            raise ValidationError("7.3 leaf of a Commit")
        if new.encryption_key == old.encryption_key:
            raise ValidationError("7.3 new encryption key")
        check_leaf(new, self.suite, applied.extensions)
        if not new.verify(self.group_id, committer):
            raise ValidationError("7.3 leaf signature")
        authenticate(new, old)

    def _still_holds(self, tree: RatchetTree, index: NodeIndex) -> bool:
        if index >= 2 * tree.leaves - 1:
            return False
        before, after = self.tree.node(index), tree.node(index)
        return before is not None and after is not None and before.encryption_key == after.encryption_key

    # Storage.

    def archive(self) -> PastEpoch:
        """Return what reads late messages of this epoch, and nothing more."""
        return PastEpoch(replace(self.keys, membership_key=b""), dict(self.tree.members()))

    def epoch_state(self) -> bytes:
        """Return what changes with epochs only, secrets included, for storage."""
        return b"".join(
            (
                codec.u16(self.suite),
                codec.opaque(self.tree.encode()),
                codec.opaque(self.context.encode()),
                self.secrets.encode(),
                codec.opaque(self.interim_transcript_hash),
                codec.u32(self.own_index),
                codec.vector(codec.u32(index) + codec.opaque(key) for index, key in self.private_keys.items()),
                codec.opaque(self.signer.public),
                codec.opaque(self.signer.private),
            )
        )

    def message_state(self) -> bytes:
        """Return what changes with messages: the secret tree and received proposals, for storage."""
        proposals = codec.vector(
            codec.opaque(reference) + codec.u32(sent.sender) + sent.proposal.encode()
            for reference, sent in self.proposals.items()
        )
        return self.keys.tree.encode() + proposals

    @classmethod
    def restore(cls, epoch_state: bytes, message_state: bytes) -> Self:
        """Return the group from storage. Raises StateError if the bytes are not what was stored."""
        try:
            reader = Reader(epoch_state)
            suite = SUITES[reader.u16()]
            tree = RatchetTree.from_bytes(suite, reader.opaque())
            context = codec.parse(GroupContext, reader.opaque())
            secrets, interim, own_index = EpochSecrets.decode(reader), reader.opaque(), reader.u32()
            private_keys = dict(reader.vector(lambda item: (NodeIndex(item.u32()), item.opaque())))
            signer = SignatureKeyPair(reader.opaque(), reader.opaque())
            reader.done()
            inner = Reader(message_state)
            secret_tree = SecretTree.decode(suite, inner)
            proposals = dict(
                inner.vector(
                    lambda item: (item.opaque(), _sent(LeafIndex(item.u32()), item)),
                )
            )
            inner.done()
        except (DecodeError, KeyError):
            raise StateError("stored group") from None
        keys = EpochKeys(
            suite,
            context.group_id,
            context.epoch,
            own_index,
            context.encode(),
            secrets.sender_data_secret,
            secrets.membership_key,
            secret_tree,
        )
        return cls(keys, tree, context, secrets, interim, private_keys, signer, proposals)


def _sent(sender: LeafIndex, reader: Reader) -> SentProposal:
    return SentProposal(decode_proposal(reader), sender)


def _leaves_below(node: NodeIndex) -> range:
    return tree_math.subtree_leaves(node)


def _psk_secret(suite: CipherSuite, ids: Sequence[PreSharedKeyID], psks: Mapping[bytes, bytes]) -> bytes:
    """Combine PSKs, which are looked up by ``psk_id`` (external) or by group id ‖ epoch (resumption)."""
    pairs = []
    for psk in ids:
        secret = psks.get(psk.psk_id or psk.psk_group_id + codec.u64(psk.psk_epoch))
        if secret is None:
            raise StateError("a PSK that is not here")
        pairs.append((psk, secret))
    return psk_secret(suite, pairs)


def _group_secrets(suite: CipherSuite, body: welcome.Welcome, bundle: KeyPackageBundle) -> welcome.GroupSecrets:
    reference = bundle.key_package.ref()
    sealed = next((item.encrypted_group_secrets for item in body.secrets if item.new_member == reference), None)
    if sealed is None:
        raise StateError("a Welcome for another KeyPackage")
    try:
        plain = labels.decrypt_with_label(
            suite, bundle.init_private, _WELCOME, body.encrypted_group_info, sealed.kem_output, sealed.ciphertext
        )
    except hpke.HpkeError:
        raise UnprotectError("group secrets") from None
    return codec.parse(welcome.GroupSecrets, plain)


def _group_info(suite: CipherSuite, member: bytes, body: welcome.Welcome) -> welcome.GroupInfo:
    key, nonce = key_schedule.welcome_key_nonce(suite, member)
    try:
        plain = primitives.aead_open(suite.aead, key, nonce, body.encrypted_group_info, b"")
    except primitives.AuthenticationError:
        raise UnprotectError("GroupInfo") from None
    return codec.parse(welcome.GroupInfo, plain)


def key_package_message(key_package: KeyPackage) -> bytes:
    """Return a KeyPackage as MLSMessage."""
    return MLSMessage(key_package).encode()


def parse_key_package_message(message: bytes) -> KeyPackage | None:
    """Return the KeyPackage if the MLSMessage is one, else None. Raises DecodeError."""
    body = MLSMessage.parse(message).body
    return body if isinstance(body, KeyPackage) else None
