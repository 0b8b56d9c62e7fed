"""A group as it is stored: what changes with epochs, and what changes with messages.

Both are TLS presentation language like everything else, but no structs of RFC 9420: only this package reads them.
"""

from typing import TYPE_CHECKING, TypeVar

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.epoch import EpochKeys
from restante_crypto.mls.errors import DecodeError, StateError
from restante_crypto.mls.framing import Sender
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_schedule import EpochSecrets
from restante_crypto.mls.leaf_node import SignatureKeyPair
from restante_crypto.mls.own_update import OwnUpdate
from restante_crypto.mls.proposal_list import SentProposal
from restante_crypto.mls.proposals import ReInit, decode_proposal
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.secret_tree import SecretTree
from restante_crypto.mls.tree_math import NodeIndex
from restante_crypto.suites import SUITES

if TYPE_CHECKING:
    from restante_crypto.mls.group import Group

G = TypeVar("G", bound="Group")


def epoch_state(group: "Group") -> bytes:
    """Return what changes with epochs only, secrets included."""
    return b"".join(
        (
            codec.u16(group.suite),
            codec.opaque(group.tree.encode()),
            codec.opaque(group.context.encode()),
            group.secrets.encode(),
            codec.opaque(group.interim_transcript_hash),
            codec.u32(group.own_index),
            codec.vector(codec.u32(index) + codec.opaque(key) for index, key in group.private_keys.items()),
            codec.opaque(group.signer.public),
            codec.opaque(group.signer.private),
            codec.optional(None if group.reinit is None else group.reinit.encode()),
        )
    )


def message_state(group: "Group") -> bytes:
    """Return what changes with messages: the secret tree and proposals, with the secrets of own Updates."""
    proposals = codec.vector(
        codec.opaque(reference)
        + sent.sender.encode()
        + sent.proposal.encode()
        + codec.optional(None if sent.own is None else sent.own.encode())
        for reference, sent in group.proposals.items()
    )
    return group.keys.tree.encode() + proposals


def restore(kind: type[G], epoch: bytes, messages: bytes) -> G:
    """Return the group of this class with these two states. Raises StateError if they are not what was stored."""
    try:
        reader = Reader(epoch)
        suite = SUITES[reader.u16()]
        tree = RatchetTree.from_bytes(suite, reader.opaque())
        context = codec.parse(GroupContext, reader.opaque())
        secrets, interim, own_index = EpochSecrets.decode(reader), reader.opaque(), reader.u32()
        private_keys = dict(reader.vector(lambda item: (NodeIndex(item.u32()), item.opaque())))
        signer = SignatureKeyPair(reader.opaque(), reader.opaque())
        reinit = reader.optional(decode_proposal)
        reader.done()
        inner = Reader(messages)
        secret_tree = SecretTree.decode(suite, inner)
        proposals = dict(inner.vector(_read_sent))
        inner.done()
    except (DecodeError, KeyError):
        raise StateError("stored group") from None
    if not isinstance(reinit, ReInit | None):
        raise StateError("stored group")
    keys = EpochKeys.of(suite, context, secrets, own_index, secret_tree)
    return kind(keys, tree, context, secrets, interim, private_keys, signer, proposals, reinit)


def _read_sent(reader: Reader) -> tuple[bytes, SentProposal]:
    reference, sender = reader.opaque(), Sender.decode(reader)
    return reference, SentProposal(decode_proposal(reader), sender, reader.optional(OwnUpdate.decode))
