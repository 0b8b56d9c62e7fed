"""What reads and writes the messages of one epoch: shared by the current group and by past epochs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from restante_crypto import primitives
from restante_crypto.mls import codec, private_message, public_message
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError, ForeignMessage, OwnMessage, StateError, UnprotectError
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_COMMIT,
    CONTENT_PROPOSAL,
    SENDER_EXTERNAL,
    SENDER_MEMBER,
    SENDER_NEW_MEMBER_COMMIT,
    SENDER_NEW_MEMBER_PROPOSAL,
    AuthenticatedContent,
    Commit,
)
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_schedule import EpochSecrets
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.proposals import Proposal
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.secret_tree import SecretTree
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES, CipherSuite

_OF_OUTSIDERS: Final = {
    SENDER_EXTERNAL: CONTENT_PROPOSAL,
    SENDER_NEW_MEMBER_PROPOSAL: CONTENT_PROPOSAL,
    SENDER_NEW_MEMBER_COMMIT: CONTENT_COMMIT,
}
"""The content that each kind of sender may send who is no member (section 6.1)."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member: leaf index and leaf."""

    index: int
    leaf: LeafNode


@dataclass(frozen=True, slots=True)
class EpochKeys:
    """The keys of one epoch's messages.

    Attributes:
        suite: the group's suite.
        group_id: the group.
        epoch: its number.
        own_index: this member's leaf.
        context: the encoded GroupContext.
        sender_data_secret: hides senders.
        membership_key: authenticates PublicMessages; empty in a past epoch.
        tree: the message keys.
    """

    suite: CipherSuite
    group_id: bytes
    epoch: int
    own_index: int
    context: bytes = field(repr=False)
    sender_data_secret: bytes = field(repr=False)
    membership_key: bytes = field(repr=False)
    tree: SecretTree = field(repr=False)

    @classmethod
    def of(
        cls, suite: CipherSuite, context: GroupContext, secrets: EpochSecrets, own_index: int, tree: SecretTree
    ) -> Self:
        """Return the keys of the epoch that this context and these secrets are of."""
        return cls(
            suite,
            context.group_id,
            context.epoch,
            own_index,
            context.encode(),
            secrets.sender_data_secret,
            secrets.membership_key,
            tree,
        )

    def protect(self, content: AuthenticatedContent, random: Random) -> tuple[Self, bytes]:
        """Encrypt a signed content; return (keys, MLSMessage)."""
        tree, message = private_message.protect(self.suite, self.tree, self.sender_data_secret, content, random)
        return replace(self, tree=tree), MLSMessage(message).encode()

    def publish(self, content: AuthenticatedContent) -> bytes:
        """Return a signed content of a member as MLSMessage in the clear."""
        return MLSMessage(public_message.protect(self.suite, self.membership_key, content, self.context)).encode()

    def unprotect(
        self, message: MLSMessage, key_of: Callable[[AuthenticatedContent], bytes | None]
    ) -> tuple[Self, AuthenticatedContent]:
        """Decrypt, verify and return (keys, content); ``key_of`` returns the signature key of who sent it, if any.

        Raises:
            ForeignMessage: another group, epoch or kind of message.
            OwnMessage: sent by this member.
            UnprotectError, GenerationUsed, DecodeError: it is not what a member sent.
        """
        body = message.body
        match body:
            case PrivateMessage():
                self._check(body.group_id, body.epoch)
                sender = body.sender(self.suite, self.sender_data_secret)
                if sender[0] == self.own_index:
                    raise OwnMessage(self.own_index)
                tree, content = private_message.unprotect(self.suite, self.tree, body, sender)
                keys = replace(self, tree=tree)
            case PublicMessage():
                keys, content = self, self._public(body)
            case _:
                raise ForeignMessage("not a message of a group")
        key = key_of(content)
        if key is None or not content.verify(key, self.context):
            raise UnprotectError("signature")
        return keys, content

    def _check(self, group_id: bytes, epoch: int) -> None:
        if group_id != self.group_id or epoch != self.epoch:
            raise ForeignMessage("another group or epoch")

    def _public(self, body: PublicMessage) -> AuthenticatedContent:
        framed = body.content
        self._check(framed.group_id, framed.epoch)
        if framed.content_type == CONTENT_APPLICATION:
            raise UnprotectError("application data in a PublicMessage")
        content = body.authenticated()
        if framed.sender.type != SENDER_MEMBER:
            if framed.content_type != _OF_OUTSIDERS[framed.sender.type]:
                raise UnprotectError("content of a sender who is no member")
            return content
        expected = public_message.membership_tag(self.suite, self.membership_key, content, self.context)
        if not self.membership_key or not primitives.equal(expected, body.membership_tag):
            raise UnprotectError("membership tag")
        if framed.sender.index == self.own_index:
            raise OwnMessage(self.own_index)
        return content


@dataclass(frozen=True, slots=True)
class LateMessage:
    """A message of a past epoch: application data, or a proposal."""

    epoch_keys: "PastEpoch"
    sender: int
    data: bytes | None
    proposal: Proposal | None
    authenticated_data: bytes


@dataclass(frozen=True, slots=True)
class PastEpoch:
    """What still reads late messages of an epoch that is over; it can neither send nor join."""

    keys: EpochKeys = field(repr=False)
    leaves: Mapping[int, LeafNode] = field(repr=False)

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.keys.epoch

    def member(self, index: int) -> Member | None:
        """Return the member at this leaf in that epoch."""
        leaf = self.leaves.get(index)
        return Member(index, leaf) if leaf is not None else None

    def unprotect(self, message: bytes) -> LateMessage:
        """Open a late message. Raises as EpochKeys.unprotect, and StateError for a Commit: it comes too late."""
        keys, content = self.keys.unprotect(MLSMessage.parse(message), self._key_of)
        framed = content.content
        after = replace(self, keys=keys)
        if isinstance(framed.content, bytes):
            return LateMessage(after, framed.sender.index, framed.content, None, framed.authenticated_data)
        if isinstance(framed.content, Commit):
            raise StateError("a Commit of an epoch that is over")
        return LateMessage(after, framed.sender.index, None, framed.content, framed.authenticated_data)

    def _key_of(self, content: AuthenticatedContent) -> bytes | None:
        sender = content.content.sender
        if sender.type != SENDER_MEMBER:
            raise StateError("a sender who is no member")
        leaf = self.leaves.get(sender.index)
        return leaf.signature_key if leaf is not None else None

    def epoch_state(self) -> bytes:
        """Return what does not change with messages, for storage."""
        keys = self.keys
        return b"".join(
            (
                codec.u16(keys.suite.number),
                codec.opaque(keys.group_id),
                codec.u64(keys.epoch),
                codec.u32(keys.own_index),
                codec.opaque(keys.context),
                codec.opaque(keys.sender_data_secret),
                codec.vector(codec.u32(index) + leaf.encode() for index, leaf in self.leaves.items()),
            )
        )

    def message_state(self) -> bytes:
        """Return what changes with messages, for storage."""
        return self.keys.tree.encode()

    @classmethod
    def restore(cls, epoch_state: bytes, message_state: bytes) -> Self:
        """Return the epoch from storage. Raises StateError if the bytes are not what was stored."""
        try:
            reader = Reader(epoch_state)
            suite = SUITES[reader.u16()]
            group_id, epoch, own_index = reader.opaque(), reader.u64(), reader.u32()
            context, sender_data_secret = reader.opaque(), reader.opaque()
            leaves = dict(reader.vector(lambda item: (item.u32(), LeafNode.decode(item))))
            reader.done()
            inner = Reader(message_state)
            tree = SecretTree.decode(suite, inner)
            inner.done()
        except (DecodeError, KeyError):
            raise StateError("stored epoch") from None
        return cls(EpochKeys(suite, group_id, epoch, own_index, context, sender_data_secret, b"", tree), leaves)
