"""Slots: small versioned blobs that only their write key changes. PROTOCOL.md section 6."""

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.errors import Refused
from restante_server.services.relay import Relay


def _prove(frame: frames.SlotPut | frames.SlotDelete, message: bytes) -> None:
    expected = proofs.slot_id(frame.slot[0], frame.write_key, frame.nonce)
    fits = primitives.ed25519_verify(frame.write_key, message, frame.signature)
    if not (primitives.equal(expected, frame.slot) and fits):
        raise Refused(Code.UNAUTHORIZED)


async def get(relay: Relay, frame: frames.SlotGet) -> frames.Slot:
    """Answer SlotGet. Raises Refused(NOT_FOUND)."""
    slot = await relay.store.get_slot(frame.slot)
    if slot is None:
        raise Refused(Code.NOT_FOUND)
    return frames.Slot(frame.request, slot.version, slot.body)


async def put(relay: Relay, frame: frames.SlotPut) -> frames.Done:
    """Answer SlotPut.

    Raises:
        Refused: UNAUTHORIZED, CONFLICT for another version, FULL while too many new slots are made.
    """
    relay_key = relay.identity.public
    _prove(frame, proofs.slot_put_message(relay_key, frame.slot, frame.version, frame.lifetime, frame.body))
    if frame.version == 1 and not relay.slot_creations.take(relay.clock()):
        raise Refused(Code.FULL, "new slots")
    if not await relay.store.put_slot(frame.slot, frame.version, frame.lifetime, frame.body):
        raise Refused(Code.CONFLICT)
    return frames.Done(frame.request)


async def delete(relay: Relay, frame: frames.SlotDelete) -> frames.Done:
    """Answer SlotDelete. Raises Refused(UNAUTHORIZED)."""
    _prove(frame, proofs.slot_delete_message(relay.identity.public, frame.slot))
    await relay.eraser.erase_slot(frame.slot)
    return frames.Done(frame.request)
