"""Those outside a group: what they are shown, how they let themselves in, and what they may propose (RFC 9420).

Sections 8.3 (external init), 12.1.8 (proposals of outsiders), 12.4.3.2 (external Commits) and 12.4.3.3 (GroupInfo).
"""

from typing import Final

from restante_crypto import hpke
from restante_crypto.mls import codec, public_message
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import UnprotectError, ValidationError
from restante_crypto.mls.extensions import EXTERNAL_PUB, RATCHET_TREE, Extension, find
from restante_crypto.mls.framing import (
    CONTENT_PROPOSAL,
    SENDER_EXTERNAL,
    SENDER_NEW_MEMBER_PROPOSAL,
    WIRE_PUBLIC_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    Sender,
)
from restante_crypto.mls.key_package import KeyPackage
from restante_crypto.mls.leaf_node import SignatureKeyPair
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.proposals import Add, Proposal
from restante_crypto.mls.welcome import GroupInfo
from restante_crypto.primitives import Random
from restante_crypto.suites import CipherSuite

_EXPORTER: Final = b"MLS 1.0 external init secret"


def shown(suite: CipherSuite, info: GroupInfo, external_secret: bytes, tree: bytes | None, seed: bytes) -> bytes:
    """Return the MLSMessage of a GroupInfo with which somebody may let themselves in; ``tree`` goes into it.

    Its extensions are those of ``info`` and what the external Commit needs.
    """
    public = suite.kem.derive_key_pair(external_secret)[1]
    extensions = [Extension(EXTERNAL_PUB, codec.opaque(public))]
    if tree is not None:
        extensions.insert(0, Extension(RATCHET_TREE, tree))
    signed = GroupInfo(info.context, (*extensions, *info.extensions), info.confirmation_tag, info.signer).sign(seed)
    return MLSMessage(signed).encode()


def external_key(info: GroupInfo) -> bytes:
    """Return the key for an external init. Raises ValidationError: nobody may let themselves in with this GroupInfo."""
    data = find(info.extensions, EXTERNAL_PUB)
    if data is None:
        raise ValidationError("12.4.3.2 external_pub")
    reader = Reader(data)
    public = reader.opaque()
    reader.done()
    return public


def encapsulate(suite: CipherSuite, public: bytes, random: Random) -> tuple[bytes, bytes]:
    """Return (encapsulation, init secret) towards a group's external key."""
    try:
        encapsulation, context = hpke.setup_sender(suite, public, hpke.info_context(suite, b""), random)
    except hpke.HpkeError:
        raise ValidationError("12.4.3.2 external_pub") from None
    return encapsulation, context.export(_EXPORTER, suite.hash_bytes)


def decapsulate(suite: CipherSuite, encapsulation: bytes, external_secret: bytes) -> bytes:
    """Return the init secret of an external Commit."""
    private = suite.kem.derive_key_pair(external_secret)[0]
    try:
        context = hpke.setup_receiver(suite, encapsulation, private, hpke.info_context(suite, b""))
    except hpke.HpkeError:
        raise UnprotectError("external init") from None
    return context.export(_EXPORTER, suite.hash_bytes)


def propose(
    group_id: bytes,
    epoch: int,
    proposal: Proposal,
    *,
    sender: int,
    signer: SignatureKeyPair,
    authenticated_data: bytes = b"",
) -> bytes:
    """Return the MLSMessage by which an external sender, of this index in ``external_senders``, proposes."""
    return _propose(group_id, epoch, proposal, Sender(SENDER_EXTERNAL, sender), signer, authenticated_data)


def ask_to_join(
    group_id: bytes, epoch: int, key_package: KeyPackage, *, signer: SignatureKeyPair, authenticated_data: bytes = b""
) -> bytes:
    """Return the MLSMessage by which somebody proposes to be added; ``signer``: of the KeyPackage's leaf."""
    sender = Sender(SENDER_NEW_MEMBER_PROPOSAL)
    return _propose(group_id, epoch, Add(key_package), sender, signer, authenticated_data)


def _propose(
    group_id: bytes, epoch: int, proposal: Proposal, sender: Sender, signer: SignatureKeyPair, data: bytes
) -> bytes:
    framed = FramedContent(group_id, epoch, sender, data, CONTENT_PROPOSAL, proposal)
    content = AuthenticatedContent(WIRE_PUBLIC_MESSAGE, framed).sign(signer.private, b"")
    return MLSMessage(public_message.of_an_outsider(content)).encode()
