"""What was deposited lately is kept for a relay that loses it, up to a number."""

import pytest

from restante.engine import outbox
from restante_protocol import frames
from support.engines import World


def test_the_oldest_of_what_was_deposited_lately_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "REDEPOSIT_COUNT", 2)
    alice, bob, _ = world.members
    for number in range(5):
        alice.say(world.room, f"message {number}")
        world.clock.pass_seconds(1)
    alice.engine.upkeep()
    bob.waiting.clear()
    alice.engine.subscribed(frames.Subscribed(1, b"j" * 16, b"t" * 8, 0, []))
    alice.send_all()
    bob.read()
    assert bob.texts() == ["message 3", "message 4"]
