"""Ids, digests and the exact bytes that are signed on the wire: shared by relay and SDK. PROTOCOL.md sections 3 and 4.

Nothing here decrypts: this and ``primitives`` are the only crypto modules that the relay imports.
"""

from typing import Final

from restante_crypto import primitives
from restante_protocol import ids

_MAILBOX: Final = b"restante mailbox"
_ADDRESS: Final = b"restante address"
_SLOT: Final = b"restante slot"
_BLOB: Final = b"restante blob"
_DEPOSIT: Final = b"restante deposit"
_PUBLIC: Final = b"restante public"
_HANDLE: Final = b"restante handle"

_WELCOME_LABEL: Final = b"restante 1 welcome\x00"
_OPEN_LABEL: Final = b"restante 1 open\x00"
_SLOT_PUT_LABEL: Final = b"restante 1 slot put\x00"
_SLOT_DELETE_LABEL: Final = b"restante 1 slot delete\x00"
_BLOB_PUT_LABEL: Final = b"restante 1 blob put\x00"
_BLOB_DELETE_LABEL: Final = b"restante 1 blob delete\x00"
_ADMISSION_LABEL: Final = b"restante 1 admission\x00"
_ERASED_LABEL: Final = b"restante 1 erased\x00"
_PUBLIC_LABEL: Final = b"restante 1 public\x00"
_DISCLOSED_LABEL: Final = b"restante 1 disclosed\x00"


def _identifier(bucket: int, owner_key: bytes, nonce: bytes, person: bytes) -> bytes:
    digest = primitives.blake2b(owner_key + nonce, size=ids.ID_BYTES - 1, person=person)
    return bytes((bucket,)) + digest


def mailbox_id(bucket: int, receive_key: bytes, nonce: bytes) -> ids.MailboxId:
    """Return the id of a mailbox: bucket (0 to 239) ‖ BLAKE2b-184 of receive key (32 bytes) ‖ nonce (16 bytes)."""
    return ids.MailboxId(_identifier(bucket, receive_key, nonce, _MAILBOX))


def address_id(bucket: int, receive_key: bytes, nonce: bytes) -> ids.AddressId:
    """Return the id of a deposit address of the mailbox with this bucket and receive key."""
    return ids.AddressId(_identifier(bucket, receive_key, nonce, _ADDRESS))


def slot_id(bucket: int, write_key: bytes, nonce: bytes) -> ids.SlotId:
    """Return the id of a slot: it commits to its write key (Ed25519, 32 bytes)."""
    return ids.SlotId(_identifier(bucket, write_key, nonce, _SLOT))


def blob_id(bucket: int, write_key: bytes, nonce: bytes) -> ids.BlobId:
    """Return the id of a blob: it commits to its write key (Ed25519, 32 bytes)."""
    return ids.BlobId(_identifier(bucket, write_key, nonce, _BLOB))


def public_slot_id(relay_key: bytes, name: str) -> ids.SlotId:
    """Return the id of what the operator publishes under an ASCII name: a slot of bucket 0 of the relay key."""
    nonce = primitives.blake2b(name.encode("ascii"), size=ids.ID_NONCE_BYTES, person=_PUBLIC)
    return slot_id(0, relay_key, nonce)


def handle_slot_id(place: bytes) -> ids.SlotId:
    """Return the slot of the record at a handle's place: a hash, so that no place is a slot of something else."""
    return ids.SlotId(place[:1] + primitives.blake2b(place, size=ids.ID_BYTES - 1, person=_HANDLE))


def body_digest(body: bytes) -> bytes:
    """Return BLAKE2b-256 of a body: what a fence keeps of its winner beside the body."""
    return primitives.blake2b(body, size=ids.DIGEST_BYTES)


def deposit_digest(message_id: bytes, addresses: list[bytes], body: bytes) -> bytes:
    """Return the 32 bytes by which the relay knows a deposit again: same id, same addresses in order, same body."""
    return primitives.blake2b(
        b"".join((message_id, len(addresses).to_bytes(4, "big"), *addresses, body)),
        size=ids.DIGEST_BYTES,
        person=_DEPOSIT,
    )


def welcome_message(relay_key: bytes, client_nonce: bytes, relay_nonce: bytes) -> bytes:
    """Return what the relay signs in Welcome: it is the pinned relay, now."""
    return _WELCOME_LABEL + relay_key + client_nonce + relay_nonce


def open_message(relay_key: bytes, mailbox: bytes, client_nonce: bytes, relay_nonce: bytes) -> bytes:
    """Return what the receive key signs in Open: this relay, this mailbox, this connection."""
    return _OPEN_LABEL + relay_key + mailbox + client_nonce + relay_nonce


def slot_put_message(relay_key: bytes, slot: bytes, version: int, lifetime: int, body: bytes) -> bytes:
    """Return what the write key signs in SlotPut. Version: unsigned 64-bit, lifetime in seconds: unsigned 32-bit."""
    return b"".join(
        (_SLOT_PUT_LABEL, relay_key, slot, version.to_bytes(8, "big"), lifetime.to_bytes(4, "big"), body_digest(body))
    )


def slot_delete_message(relay_key: bytes, slot: bytes) -> bytes:
    """Return what the write key signs in SlotDelete."""
    return _SLOT_DELETE_LABEL + relay_key + slot


def blob_put_message(relay_key: bytes, blob: bytes, lifetime: int, size: int, digest: bytes) -> bytes:
    """Return what the write key signs to upload ``size`` bytes (64-bit) for ``lifetime`` seconds (32-bit)."""
    return b"".join((_BLOB_PUT_LABEL, relay_key, blob, lifetime.to_bytes(4, "big"), size.to_bytes(8, "big"), digest))


def blob_delete_message(relay_key: bytes, blob: bytes) -> bytes:
    """Return what the write key signs to delete a blob."""
    return _BLOB_DELETE_LABEL + relay_key + blob


def admission_message(mailbox: bytes) -> bytes:
    """Return what the relay key signs in an admission receipt: this mailbox may be created again."""
    return _ADMISSION_LABEL + mailbox


def erased_message(mailbox: bytes, erased_at: int) -> bytes:
    """Return what the relay key signs of an erasure: this mailbox, at this time (Unix seconds, unsigned 64-bit)."""
    return _ERASED_LABEL + mailbox + erased_at.to_bytes(8, "big")


def public_message(slot: bytes, version: int, content: bytes) -> bytes:
    """Return what the relay key signs of something published: its slot, version (unsigned 64-bit) and content."""
    return b"".join((_PUBLIC_LABEL, slot, version.to_bytes(8, "big"), content))


def disclosed_message(mailbox: bytes, entry: bytes) -> bytes:
    """Return what the relay key signs of a disclosure: this mailbox, and the entry of the log."""
    return _DISCLOSED_LABEL + mailbox + entry
