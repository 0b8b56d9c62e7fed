"""Handshakes as they are under their seals: what is too large for a body stands in a blob.

::

    under the outer seal of an epoch   an MLSMessage, or a CommitReference to one (first byte 0 or not)
    under a KeyPackage's init key      an Admission: the joiner's Welcome, and the ratchet tree, or where it is and who
                                       vouches for it

A blob of a handshake belongs to an epoch: what seals it, and what writes and deletes it, comes from the MLS-Exporter of
the epoch that the Commit leads to (``epoch_keys``). So every member of that epoch can store it again after the relay
lost it, as the same bytes under the same id, and all who answer an external join of one epoch share one tree. Members
whom the Commit removes read it, but cannot delete it.
"""

from typing import Final, Self

import msgspec

from restante.account import Identity, certify, verify_certificate
from restante.blobs import BlobKeys, BlobReference
from restante.packed import Packed, check
from restante_crypto import primitives
from restante_crypto.blobs import KEY_BYTES
from restante_crypto.mls import Group, SignatureKeyPair
from restante_protocol import ids, limits

VERSION: Final = 1
TREE_INLINE_BYTES: Final = 16 * 1024
"""A tree up to here goes with each Welcome: about 8 devices in the hybrid suite, 50 in the others."""
COMMIT_INLINE_BYTES: Final = limits.MAX_BODY_BYTES
"""A body with a Commit is at most this long: with X-Wing, below about 70 members whose leaves have no parents yet."""
MAX_HANDSHAKE_BYTES: Final = 32 * 1024 * 1024
"""No Commit and no tree is larger: 16,384 members in the hybrid suite, and what their names in MLS take."""

COMMIT: Final = b"commit"
TREE: Final = b"tree"
_LABEL: Final = b"restante blob"
_VOUCHER_LABEL: Final = b"restante 1 admission tree\x00"
_MLS_FIRST: Final = b"\x00"  # of ProtocolVersion, of every MLSMessage; no MessagePack array begins so
_SEED_BYTES: Final = 32


class CommitReference(Packed, frozen=True, kw_only=True):
    """What goes under a fence in place of a Commit that is too large for a body.

    Attributes:
        version: of this format; later ones append.
        commit: where the MLSMessage is. Its digest makes it the same Commit for everybody.
    """

    version: int = VERSION
    commit: BlobReference

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(self.version >= VERSION, "version")
        check(self.commit.length <= MAX_HANDSHAKE_BYTES, "length")


class Voucher(Packed, frozen=True, array_like=True):
    """A device says that a Welcome and its tree are its own, before anybody has to fetch the tree to see that.

    Attributes:
        account: 32 bytes.
        device: 32 bytes, the signature key of a device.
        certificate: 64 bytes, of the device by the account.
        signature: 64 bytes, by the device: this joiner's KeyPackage, this Welcome, this tree.
    """

    account: bytes
    device: bytes
    certificate: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(len(self.account) == ids.KEY_BYTES, "account")
        check(len(self.device) == ids.KEY_BYTES, "device")
        check(len(self.certificate) == ids.SIGNATURE_BYTES, "certificate")
        check(len(self.signature) == ids.SIGNATURE_BYTES, "signature")


class Admission(Packed, frozen=True, kw_only=True):
    """What lets somebody in who does not have the tree.

    Attributes:
        version: of this format; later ones append.
        message: an MLSMessage without the tree: a Welcome for one joiner.
        tree: the ratchet tree itself, or where it is. The signed GroupInfo has its hash.
        voucher: of whoever sends it, if the tree is not here.
    """

    version: int = VERSION
    message: bytes
    tree: bytes | BlobReference
    voucher: Voucher | None = None

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(self.version >= VERSION, "version")
        check(isinstance(self.tree, bytes) or self.tree.length <= MAX_HANDSHAKE_BYTES, "length")

    def vouch(self, init_key: bytes, identity: Identity, signer: SignatureKeyPair) -> Self:
        """Return it with the voucher of a device of ours, for the joiner whose KeyPackage has this init key."""
        signature = primitives.ed25519_sign(signer.private, self._vouched(init_key))
        voucher = Voucher(identity.public, signer.public, certify(identity, signer.public), signature)
        return msgspec.structs.replace(self, voucher=voucher)

    def vouching(self, init_key: bytes) -> bytes:
        """Return the account whose device vouches for this to the joiner with this init key; empty: none does."""
        voucher = self.voucher
        if voucher is None or not verify_certificate(voucher.account, voucher.device, voucher.certificate):
            return b""
        signed = primitives.ed25519_verify(voucher.device, self._vouched(init_key), voucher.signature)
        return voucher.account if signed else b""

    def _vouched(self, init_key: bytes) -> bytes:
        plain = msgspec.structs.replace(self, voucher=None).encode()
        return _VOUCHER_LABEL + primitives.sha256(init_key) + plain


def is_reference(message: bytes) -> bool:
    """Say whether this, from under an outer seal, is no MLSMessage but says where one is."""
    return message[:1] != _MLS_FIRST


def epoch_keys(group: Group, purpose: bytes) -> BlobKeys:
    """Return the keys of the epoch's blob for this purpose: COMMIT, which led to it, or TREE."""
    sizes = (_SEED_BYTES, ids.ID_NONCE_BYTES, ids.BUCKET_ENTROPY_BYTES, KEY_BYTES)
    secret = group.export(_LABEL, purpose, sum(sizes))
    parts, start = [], 0
    for size in sizes:
        parts.append(secret[start : start + size])
        start += size
    seed, nonce, bucket, key = parts
    return BlobKeys(seed, nonce, ids.bucket_from(bucket), key)
