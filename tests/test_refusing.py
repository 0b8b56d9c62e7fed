"""Whatever a person grants and refuses, every other function works: all combinations of all purposes."""

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from restante import Client, ConsentNeeded, Profile
from restante_server.purposes import PURPOSES, Purpose
from support.people import people, together
from support.relay import relay_in_process

COMBINATIONS = [
    tuple(purpose for purpose, chosen in zip(Purpose, each, strict=True) if chosen)
    for each in itertools.product((False, True), repeat=len(Purpose))
]


CALLS: dict[Purpose, Callable[[Client], Awaitable[object]]] = {
    Purpose.HANDLE: lambda client: client.find_handle("nobody"),
    Purpose.PUSH: lambda client: client.set_push("https://push.example.net/alice"),
}
"""What needs which purpose, and nothing else."""


@pytest.mark.parametrize("granted", COMBINATIONS, ids=lambda each: "+".join(each) or "nothing")
async def test_every_other_function_works(tmp_path: Path, cheap: None, granted: tuple[Purpose, ...]) -> None:
    async with (
        relay_in_process(tmp_path / "relay", purposes=tuple(Purpose)) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        me = alice.client.account_id
        for purpose in granted:
            await alice.client.consent(purpose)
        for purpose, call in CALLS.items():
            if purpose in granted:
                await call(alice.client)
            else:
                with pytest.raises(ConsentNeeded):
                    await call(alice.client)
        room, other = await together(alice, bob)
        await room.send("question")
        await bob.reads("question")
        await other.send("answer")
        await alice.reads("answer")
        await alice.client.set_profile("Alice")
        await bob.until(lambda: bool(bob.profiles))
        assert await bob.client.profile(me) == Profile(me, "Alice", b"")
        await room.update_keys()
        assert {each.name for each in await alice.client.purposes() if each.granted} == set(granted)
        held = (await alice.client.export_data()).document["held"]
        told = {each["purpose"] for each in held["consent"]}
        assert told == {purpose for purpose in granted if PURPOSES[purpose].at_relay}
        assert (await alice.client.erase()).verify()
        assert alice.alarms == bob.alarms == []
