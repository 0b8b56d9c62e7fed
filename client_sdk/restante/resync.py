"""What a member whose state is beyond use and the others say to each other, until it has let itself in again.

::

    request  under the outer key of the last epoch that both sides have:
             kind (2) ‖ ResyncRequest, signed by the key of the asker's leaf
    answer   under the request's HPKE key (``sealing.seal_answer``):
             ResyncAnswer, signed by the key of a leaf, with a GroupInfo of the current epoch

Neither touches a message key, so even an old copy of a file may ask. The first two bytes of an MLSMessage are the
version of MLS and never ``kind``. Who may ask, who may answer and what follows is in ``engine.recovery`` and
``engine.answering``.
"""

from typing import Final, Self

import msgspec

from restante.blobs import BlobReference
from restante.handshakes import MAX_HANDSHAKE_BYTES
from restante.packed import Packed, check
from restante_crypto import primitives
from restante_crypto.mls import SignatureKeyPair
from restante_protocol import ids

VERSION: Final = 1
KIND: Final = b"\xf1\xa2"
HISTORY: Final = 64  # epochs that an answer tells about
MAX_HASH_BYTES: Final = 64  # of the suites' hashes, and so of their authenticators
_MAX_EPOCH: Final = 2**63 - 1
_MAX_LEAF: Final = 2**32 - 1
_MAX_KEY_BYTES: Final = 4096  # an HPKE public key: 32 in X25519, 1216 in X-Wing
_TAG_BYTES: Final = 8
_REQUEST_LABEL: Final = b"restante 1 resync request\x00"
_ANSWER_LABEL: Final = b"restante 1 resync answer\x00"


class ResyncRequest(Packed, frozen=True, kw_only=True):
    """A member asks to let itself in again.

    Attributes:
        version: of this format; later ones append.
        conversation: group id.
        epoch: the last epoch that asker and members have in common, as the asker knows; its outer key seals this.
        authenticator: that epoch's epoch authenticator.
        branch: the authenticator of the epoch after it on a fork's branch that the asker left; empty if it left none.
        public: HPKE public key in the group's suite, made for this request alone.
        address: 24 bytes, where the answer goes.
        signature_key: 32 bytes, of the asker's leaf.
        signature: 64 bytes, by that key over all of this.
    """

    version: int = VERSION
    conversation: bytes
    epoch: int
    authenticator: bytes
    branch: bytes = b""
    public: bytes
    address: bytes
    signature_key: bytes
    signature: bytes = bytes(ids.SIGNATURE_BYTES)

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(self.version >= VERSION, "version")
        check(0 < len(self.conversation) <= MAX_HASH_BYTES, "conversation")
        check(0 <= self.epoch <= _MAX_EPOCH, "epoch")
        check(0 < len(self.authenticator) <= MAX_HASH_BYTES, "authenticator")
        check(len(self.branch) <= MAX_HASH_BYTES, "branch")
        check(0 < len(self.public) <= _MAX_KEY_BYTES, "public key")
        check(ids.is_id(self.address), "address")
        check(len(self.signature_key) == ids.KEY_BYTES, "signature key")
        check(len(self.signature) == ids.SIGNATURE_BYTES, "signature")

    def sign(self, signer: SignatureKeyPair) -> Self:
        """Return the request signed; ``signer`` is the key pair of ``signature_key``."""
        return msgspec.structs.replace(self, signature=primitives.ed25519_sign(signer.private, self._signed()))

    def verify(self) -> bool:
        """Say whether the key that it names has signed it."""
        return primitives.ed25519_verify(self.signature_key, self._signed(), self.signature)

    def _signed(self) -> bytes:
        return _REQUEST_LABEL + msgspec.structs.replace(self, signature=bytes(ids.SIGNATURE_BYTES)).encode()

    def message(self) -> bytes:
        """Return what goes under the outer seal."""
        return KIND + self.encode()

    def digest(self) -> bytes:
        """Return 32 bytes that name this request in its answers."""
        return primitives.blake2b(self.encode(), size=32)


def is_request(message: bytes) -> bool:
    """Say whether a message from under the outer seal is a request, and no MLSMessage."""
    return message[: len(KIND)] == KIND


def read_request(message: bytes) -> ResyncRequest:
    """Read a request. Raises ValueError, whatever the bytes."""
    check(is_request(message), "not a request")
    return ResyncRequest.decode(message[len(KIND) :])


class ResyncAnswer(Packed, frozen=True, kw_only=True):
    """What a member needs to let itself in again.

    Attributes:
        version: of this format; later ones append.
        request: 32 bytes, the request's digest.
        history: (epoch, epoch authenticator), ascending: the request's epoch and the next, then the last HISTORY.
        fence: 32 bytes, the tag under which the next Commit is deposited.
        tag: 8 bytes, of the current epoch's outer key.
        key: 32 bytes, that key.
        replaces: leaf index of the asker.
        resumption: whether all members hold the resumption PSK of the request's epoch.
        group_info: MLSMessage of a GroupInfo of the current epoch, without the tree.
        tree: the ratchet tree itself, or where it is.
        signature_key: 32 bytes, of the leaf that answers.
        signature: 64 bytes, by that key over all of this.
    """

    version: int = VERSION
    request: bytes
    history: list[tuple[int, bytes]]
    fence: bytes
    tag: bytes
    key: bytes
    replaces: int
    resumption: bool
    group_info: bytes
    tree: bytes | BlobReference
    signature_key: bytes
    signature: bytes = bytes(ids.SIGNATURE_BYTES)

    def __post_init__(self) -> None:
        """Check lengths and order. Raises ValueError."""
        check(self.version >= VERSION, "version")
        check(len(self.request) == 32, "request")  # noqa: PLR2004 -- a digest
        check(0 < len(self.history) <= HISTORY + 2, "history")
        numbers = [epoch for epoch, _ in self.history]
        check(numbers[0] >= 0 and numbers[-1] <= _MAX_EPOCH and numbers == sorted(set(numbers)), "history")
        check(all(0 < len(each) <= MAX_HASH_BYTES for _, each in self.history), "authenticator")
        check(len(self.fence) == 32, "fence")  # noqa: PLR2004 -- see Conversation.fence_tag
        check(len(self.tag) == _TAG_BYTES, "tag")
        check(len(self.key) == ids.KEY_BYTES, "key")
        check(0 <= self.replaces <= _MAX_LEAF, "leaf")
        check(isinstance(self.tree, bytes) or self.tree.length <= MAX_HANDSHAKE_BYTES, "length")
        check(len(self.signature_key) == ids.KEY_BYTES, "signature key")
        check(len(self.signature) == ids.SIGNATURE_BYTES, "signature")

    @property
    def epoch(self) -> int:
        """The current epoch of who answers."""
        return self.history[-1][0]

    def agrees(self, other: "ResyncAnswer") -> bool:
        """Say whether both are of one group: the younger of them has the older one's epoch in its history."""
        older, younger = sorted((self, other), key=lambda answer: answer.epoch)
        return dict(younger.history).get(older.epoch) == older.history[-1][1]

    def sign(self, signer: SignatureKeyPair) -> Self:
        """Return the answer signed; ``signer`` is the key pair of ``signature_key``."""
        return msgspec.structs.replace(self, signature=primitives.ed25519_sign(signer.private, self._signed()))

    def verify(self) -> bool:
        """Say whether the key that it names has signed it."""
        return primitives.ed25519_verify(self.signature_key, self._signed(), self.signature)

    def _signed(self) -> bytes:
        return _ANSWER_LABEL + msgspec.structs.replace(self, signature=bytes(ids.SIGNATURE_BYTES)).encode()
