"""PrivateMessage (RFC 9420 section 6.3): encrypted content, with the sender hidden under the sender data secret."""

from dataclasses import dataclass
from typing import Final, Self

from restante_crypto import primitives
from restante_crypto.mls import codec, labels
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.errors import DecodeError, UnprotectError
from restante_crypto.mls.framing import (
    CONTENT_APPLICATION,
    CONTENT_COMMIT,
    SENDER_MEMBER,
    WIRE_PRIVATE_MESSAGE,
    AuthenticatedContent,
    FramedContent,
    Sender,
    decode_auth,
    decode_content,
    encode_content,
)
from restante_crypto.mls.secret_tree import SecretTree
from restante_crypto.mls.tree_math import LeafIndex
from restante_crypto.primitives import Random
from restante_crypto.suites import CipherSuite

_REUSE_GUARD: Final = 4


@dataclass(frozen=True, slots=True)
class PrivateMessage:
    """The encrypted form of a content."""

    group_id: bytes
    epoch: int
    content_type: int
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """Encode."""
        return self._header() + codec.opaque(self.encrypted_sender_data) + codec.opaque(self.ciphertext)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        group_id, epoch, content_type = reader.opaque(), reader.u64(), reader.u8()
        if not CONTENT_APPLICATION <= content_type <= CONTENT_COMMIT:
            raise DecodeError("content type")
        return cls(group_id, epoch, content_type, reader.opaque(), reader.opaque(), reader.opaque())

    def _header(self) -> bytes:
        """Return PrivateContentAAD."""
        return self._sender_aad() + codec.opaque(self.authenticated_data)

    def _sender_aad(self) -> bytes:
        return _sender_aad(self.group_id, self.epoch, self.content_type)

    def sender(self, suite: CipherSuite, sender_data_secret: bytes) -> tuple[LeafIndex, int, bytes]:
        """Return (leaf index, generation, reuse guard). Raises UnprotectError."""
        key, nonce = sender_data_key_nonce(suite, sender_data_secret, self.ciphertext)
        try:
            data = primitives.aead_open(suite.aead, key, nonce, self.encrypted_sender_data, self._sender_aad())
            reader = Reader(data)
            leaf, generation, guard = LeafIndex(reader.u32()), reader.u32(), reader.raw(_REUSE_GUARD)
            reader.done()
        except (primitives.AuthenticationError, DecodeError):
            raise UnprotectError("sender data") from None
        return leaf, generation, guard


def _sender_aad(group_id: bytes, epoch: int, content_type: int) -> bytes:
    """Return SenderDataAAD."""
    return codec.opaque(group_id) + codec.u64(epoch) + codec.u8(content_type)


def sender_data_key_nonce(suite: CipherSuite, sender_data_secret: bytes, ciphertext: bytes) -> tuple[bytes, bytes]:
    """Return key and nonce of the sender data of this ciphertext (section 6.3.2)."""
    sample = ciphertext[: suite.hash_bytes]
    return (
        labels.expand_with_label(suite, sender_data_secret, b"key", sample, suite.key_bytes),
        labels.expand_with_label(suite, sender_data_secret, b"nonce", sample, suite.nonce_bytes),
    )


def _guarded(nonce: bytes, guard: bytes) -> bytes:
    head = int.from_bytes(nonce[:_REUSE_GUARD], "big") ^ int.from_bytes(guard, "big")
    return head.to_bytes(_REUSE_GUARD, "big") + nonce[_REUSE_GUARD:]


def protect(
    suite: CipherSuite, tree: SecretTree, sender_data_secret: bytes, content: AuthenticatedContent, random: Random
) -> tuple[SecretTree, PrivateMessage]:
    """Encrypt a signed content of a member; return (secret tree, message). No padding: the outer seal pads."""
    framed = content.content
    application = framed.content_type == CONTENT_APPLICATION
    leaf = LeafIndex(framed.sender.index)
    after, generation, key, nonce = tree.next(leaf, application=application)
    guard = random(_REUSE_GUARD)
    sender_aad = _sender_aad(framed.group_id, framed.epoch, framed.content_type)
    aad = sender_aad + codec.opaque(framed.authenticated_data)
    plaintext = encode_content(framed.content) + content.encode_auth()
    ciphertext = primitives.aead_seal(suite.aead, key, _guarded(nonce, guard), plaintext, aad)
    sender_key, sender_nonce = sender_data_key_nonce(suite, sender_data_secret, ciphertext)
    sender_data = codec.u32(leaf) + codec.u32(generation) + guard
    encrypted = primitives.aead_seal(suite.aead, sender_key, sender_nonce, sender_data, sender_aad)
    return after, PrivateMessage(
        framed.group_id, framed.epoch, framed.content_type, framed.authenticated_data, encrypted, ciphertext
    )


def unprotect(
    suite: CipherSuite, tree: SecretTree, message: PrivateMessage, sender: tuple[LeafIndex, int, bytes]
) -> tuple[SecretTree, AuthenticatedContent]:
    """Decrypt a message whose ``PrivateMessage.sender`` is known; the signature is the caller's to verify.

    Raises:
        UnprotectError, GenerationUsed: it does not open.
        DecodeError: what is inside is no content, or the padding is not zero.
    """
    leaf, generation, guard = sender
    after, key, nonce = tree.at(leaf, generation, application=message.content_type == CONTENT_APPLICATION)
    try:
        plaintext = primitives.aead_open(
            suite.aead,
            key,
            _guarded(nonce, guard),
            message.ciphertext,
            message._header(),  # noqa: SLF001 -- of this module
        )
    except primitives.AuthenticationError:
        raise UnprotectError("ciphertext") from None
    reader = Reader(plaintext)
    body = decode_content(message.content_type, reader)
    signature, confirmation_tag = decode_auth(message.content_type, reader)
    if any(reader.rest()):
        raise DecodeError("padding")
    framed = FramedContent(
        message.group_id,
        message.epoch,
        Sender(SENDER_MEMBER, leaf),
        message.authenticated_data,
        message.content_type,
        body,
    )
    return after, AuthenticatedContent(WIRE_PRIVATE_MESSAGE, framed, signature, confirmation_tag)
