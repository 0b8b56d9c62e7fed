"""Slots that this client writes: what proves to a relay that a slot is its writer's. PROTOCOL.md sections 3, 4 and 6.9.

What is in a slot, and what seals it, is its writer's matter. Consents and entries of the directory are
slots of the relay's own: they are put by other requests, and lapse as these do.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from restante_crypto import primitives, proofs
from restante_crypto.primitives import Random
from restante_protocol import frames, ids

RENEWAL: Final = 30 * 86_400  # seconds before its end a slot, ours or the relay's own, is put again
_SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SlotKeys:
    """What writes and deletes one slot.

    Attributes:
        write_seed: of the write key (Ed25519, 32 bytes).
        nonce: in the id (16 bytes).
        bucket: of the id (0 to 239).
    """

    write_seed: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    bucket: int = field(repr=False)

    @classmethod
    def make(cls, random: Random) -> Self:
        """Return new ones, for one slot."""
        return cls(random(_SEED_BYTES), random(ids.ID_NONCE_BYTES), ids.bucket_from(random(ids.BUCKET_ENTROPY_BYTES)))

    @property
    def write_key(self) -> bytes:
        """The public key that the id commits to."""
        return primitives.ed25519_public(self.write_seed)

    @property
    def slot(self) -> ids.SlotId:
        """The slot's id."""
        return proofs.slot_id(self.bucket, self.write_key, self.nonce)

    def put(self, relay_key: bytes, version: int, lifetime: int, body: bytes) -> frames.SlotPut:
        """Return the request, numbered 0, that writes a version (from 1) at this relay for ``lifetime`` seconds."""
        slot = self.slot
        return frames.SlotPut(
            request=0,
            slot=slot,
            write_key=self.write_key,
            nonce=self.nonce,
            version=version,
            lifetime=lifetime,
            body=body,
            signature=self._sign(proofs.slot_put_message(relay_key, slot, version, lifetime, body)),
        )

    def delete(self, relay_key: bytes) -> frames.SlotDelete:
        """Return the request, numbered 0, that deletes the slot at this relay for good."""
        slot = self.slot
        return frames.SlotDelete(
            request=0,
            slot=slot,
            write_key=self.write_key,
            nonce=self.nonce,
            signature=self._sign(proofs.slot_delete_message(relay_key, slot)),
        )

    def _sign(self, message: bytes) -> bytes:
        return primitives.ed25519_sign(self.write_seed, message)
