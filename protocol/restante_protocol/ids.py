"""The identifiers of the wire: their lengths, the bucket they carry, and what they commit to.

Mailboxes, deposit addresses, slots and blobs have ids of one form::

    bucket (1 byte, 0 to 239) ‖ BLAKE2b-184(owner public key ‖ nonce; personalised by the kind)

Clients make them. The hash is in ``restante_crypto.proofs``; here are only the shapes, so that a relay can route and
check a frame without computing anything. PROTOCOL.md section 3.
"""

from typing import Final, NewType

MailboxId = NewType("MailboxId", bytes)
AddressId = NewType("AddressId", bytes)
SlotId = NewType("SlotId", bytes)
BlobId = NewType("BlobId", bytes)
MessageId = NewType("MessageId", bytes)
FenceTag = NewType("FenceTag", bytes)
Incarnation = NewType("Incarnation", bytes)
OwnerToken = NewType("OwnerToken", bytes)

ID_BYTES: Final = 24  # bucket and 184 bits of hash: no collision to find, no id to guess
ID_NONCE_BYTES: Final = 16
KEY_BYTES: Final = 32  # Ed25519 public key
SIGNATURE_BYTES: Final = 64
MESSAGE_ID_BYTES: Final = 16
FENCE_BYTES: Final = 32
INCARNATION_BYTES: Final = 16
OWNER_TOKEN_BYTES: Final = 8
CHALLENGE_BYTES: Final = 32
DIGEST_BYTES: Final = 32
PURPOSE_VERSION_BYTES: Final = 8
ELEMENT_BYTES: Final = 32  # of ristretto255
PROOF_BYTES: Final = 64

BUCKETS: Final = 240  # divisible by 1 to 6, 8, 10, 12, 16, 24, 48: a store of B buckets keeps an id in bucket % B

BUCKET_ENTROPY_BYTES: Final = 8  # of a remainder by 240 nobody sees that there is one


def bucket_of(identifier: bytes) -> int:
    """Return the bucket (0 to 239) of a mailbox, address, slot or blob id, or of a fence tag.

    A fence tag is a hash without a bucket of its own; its first byte is reduced instead.
    """
    return identifier[0] % BUCKETS


def bucket_from(entropy: bytes) -> int:
    """Return a bucket by BUCKET_ENTROPY_BYTES random bytes: any is as likely as any other."""
    return int.from_bytes(entropy, "big") % BUCKETS


def is_id(identifier: bytes) -> bool:
    """Say whether these bytes have the length and the bucket range of an id."""
    return len(identifier) == ID_BYTES and identifier[0] < BUCKETS
