"""What proves a slot to be its writer's, to a relay that checks it."""

import os
from pathlib import Path

from restante.links import numbered
from restante.slots import SlotKeys
from restante_protocol import frames, ids
from restante_protocol.errors import Code
from support.relay import HOUR, Peer, relay_in_process


async def told(peer: Peer, request: frames.SlotPut | frames.SlotDelete) -> object:
    answer = await peer.ask(lambda number: numbered(request, number))
    return Code(answer.code) if isinstance(answer, frames.Error) else type(answer)


async def held(peer: Peer, keys: SlotKeys) -> object:
    answer = await peer.ask(lambda number: frames.SlotGet(number, keys.slot))
    return (answer.version, answer.body) if isinstance(answer, frames.Slot) else Code(answer.code)


async def test_the_relay_takes_what_they_sign(tmp_path: Path) -> None:
    keys = SlotKeys.make(os.urandom)
    async with relay_in_process(tmp_path) as relay, await Peer.connect(relay.url) as peer:
        relay_key = peer.welcome.relay_key
        assert await told(peer, keys.put(relay_key, 1, HOUR, b"one")) is frames.Done
        assert await told(peer, keys.put(relay_key, 2, HOUR, b"two")) is frames.Done
        assert await held(peer, keys) == (2, b"two")
        assert await told(peer, keys.delete(relay_key)) is frames.Done
        assert await held(peer, keys) is Code.NOT_FOUND


async def test_the_relay_takes_nothing_that_was_signed_for_another(tmp_path: Path) -> None:
    keys, other = SlotKeys.make(os.urandom), os.urandom(32)
    async with relay_in_process(tmp_path) as relay, await Peer.connect(relay.url) as peer:
        assert await told(peer, keys.put(other, 1, HOUR, b"one")) is Code.UNAUTHORIZED
        assert await told(peer, keys.put(peer.welcome.relay_key, 1, HOUR, b"one")) is frames.Done
        assert await told(peer, keys.delete(other)) is Code.UNAUTHORIZED
        assert await held(peer, keys) == (1, b"one")


def test_the_same_keys_name_the_same_slot_and_say_nothing_of_themselves() -> None:
    keys = SlotKeys.make(os.urandom)
    again = SlotKeys(keys.write_seed, keys.nonce, keys.slot[0])
    assert again == keys
    assert again.slot == keys.slot
    assert repr(keys) == "SlotKeys()"
    assert SlotKeys.make(lambda size: b"\xff" * size).bucket < ids.BUCKETS
