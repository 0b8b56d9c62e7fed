import os
from pathlib import Path

import pytest

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.app import Relay
from restante_server.services import relay as shared
from support.relay import HOUR, Peer, relay_in_process


class Writer:
    """Who may write one slot."""

    def __init__(self) -> None:
        self.seed = os.urandom(32)
        self.key = primitives.ed25519_public(self.seed)
        self.nonce = os.urandom(16)
        self.slot = proofs.slot_id(1, self.key, self.nonce)

    async def put(self, peer: Peer, version: int, body: bytes, *, seed: bytes | None = None) -> object:
        message = proofs.slot_put_message(peer.welcome.relay_key, self.slot, version, HOUR, body)
        signature = primitives.ed25519_sign(seed or self.seed, message)
        answer = await peer.ask(
            lambda n: frames.SlotPut(n, self.slot, self.key, self.nonce, version, HOUR, body, signature)
        )
        return Code(answer.code) if isinstance(answer, frames.Error) else type(answer)

    async def delete(self, peer: Peer, *, seed: bytes | None = None) -> object:
        message = proofs.slot_delete_message(peer.welcome.relay_key, self.slot)
        signature = primitives.ed25519_sign(seed or self.seed, message)
        answer = await peer.ask(lambda n: frames.SlotDelete(n, self.slot, self.key, self.nonce, signature))
        return Code(answer.code) if isinstance(answer, frames.Error) else type(answer)

    async def get(self, peer: Peer) -> object:
        answer = await peer.ask(lambda n: frames.SlotGet(n, self.slot))
        return Code(answer.code) if isinstance(answer, frames.Error) else (answer.version, answer.body)


async def test_versions_are_compared_and_set(relay: Relay) -> None:
    writer = Writer()
    async with await Peer.connect(relay.url) as peer:
        assert await writer.get(peer) is Code.NOT_FOUND
        assert await writer.put(peer, 2, b"too high") is Code.CONFLICT
        assert await writer.put(peer, 1, b"one") is frames.Done
        assert await writer.put(peer, 1, b"one") is frames.Done, "a retry"
        assert await writer.put(peer, 1, b"another one") is Code.CONFLICT
        assert await writer.put(peer, 2, b"two") is frames.Done
        assert await writer.get(peer) == (2, b"two")


async def test_a_read_sees_the_write_before_it(relay: Relay) -> None:
    writer = Writer()
    async with await Peer.connect(relay.url) as peer:
        message = proofs.slot_put_message(peer.welcome.relay_key, writer.slot, 1, HOUR, b"body")
        signature = primitives.ed25519_sign(writer.seed, message)
        await peer.send(lambda n: frames.SlotPut(n, writer.slot, writer.key, writer.nonce, 1, HOUR, b"body", signature))
        number = await peer.send(lambda n: frames.SlotGet(n, writer.slot))
        assert (await peer.answer(number)).body == b"body"


async def test_deletion_is_final_and_idempotent(relay: Relay) -> None:
    writer = Writer()
    async with await Peer.connect(relay.url) as peer:
        assert await writer.put(peer, 1, b"one") is frames.Done
        assert await writer.delete(peer) is frames.Done
        assert await writer.delete(peer) is frames.Done
        assert await writer.get(peer) is Code.NOT_FOUND


async def test_only_the_write_key_changes_a_slot(relay: Relay) -> None:
    writer, thief = Writer(), Writer()
    async with await Peer.connect(relay.url) as peer:
        assert await writer.put(peer, 1, b"mine") is frames.Done
        assert await writer.put(peer, 2, b"forged", seed=thief.seed) is Code.UNAUTHORIZED
        assert await writer.delete(peer, seed=thief.seed) is Code.UNAUTHORIZED
        thief.slot = writer.slot
        assert await thief.put(peer, 2, b"own key, other's slot") is Code.UNAUTHORIZED
        assert await thief.delete(peer) is Code.UNAUTHORIZED
        assert await writer.get(peer) == (1, b"mine")


async def test_new_slots_come_at_a_limited_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SLOT_CREATIONS", 2)
    now = 1_800_000_000_000
    async with (
        relay_in_process(tmp_path, clock=lambda: now) as relay,
        await Peer.connect(relay.url) as peer,
    ):
        writers = [Writer() for _ in range(3)]
        assert [await writer.put(peer, 1, b"") for writer in writers] == [frames.Done, frames.Done, Code.FULL]
        assert await writers[0].put(peer, 2, b"changes are free") is frames.Done
        now += 1000
        assert await writers[2].put(peer, 1, b"") is frames.Done
