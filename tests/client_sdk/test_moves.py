"""An older conversation goes on with the hybrid suite, between clients and through a relay."""

import asyncio
from pathlib import Path

import pytest

from restante_crypto import primitives
from restante_crypto.suites import SUITES, XWING
from support.people import people, settled, together
from support.relay import relay_in_process


async def test_a_conversation_gets_the_hybrid_suite_when_all_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with relay_in_process(tmp_path / "relay") as relay:
        monkeypatch.setattr(primitives, "has_ml_kem_768", lambda: False)
        names = ("alice", "bob", "carol")
        async with people(tmp_path, relay.url, *names) as readers:
            rooms = await together(*readers)
            room = rooms[0].id
            assert SUITES[3].name == rooms[0].suite
            await rooms[0].send("before")
            for reader in readers[1:]:
                await reader.reads("before")
        monkeypatch.undo()
        async with people(tmp_path, relay.url, *names[:2]) as readers:
            (first,) = readers[0].client.conversations()
            await asyncio.gather(*(reader.client.drained() for reader in readers))
            await first.update_keys()
            assert first.suite == SUITES[3].name, "carol has not said that she can"
        async with people(tmp_path, relay.url, *names) as readers:
            rooms = [reader.client.conversations()[0] for reader in readers]
            sending = True
            said: list[str] = []

            async def speak() -> None:
                while sending:
                    said.append((await rooms[0].send(f"{len(said)}")).id)
                    await asyncio.sleep(0.05)  # a person's pace, not as fast as the relay takes it

            speaking = asyncio.ensure_future(speak())
            for reader in readers:
                await reader.until(lambda reader=reader: bool(reader.suites))  # type: ignore[misc]  # bound now
            sending = False
            await speaking
            assert {each.id for each in rooms} == {room}
            assert {each.suite for each in rooms} == {SUITES[XWING].name}
            assert [suite for reader in readers for suite in reader.suites] == [SUITES[XWING].name] * 3
            for reader in readers[1:]:
                await reader.has(set(said))
                assert reader.texts == [f"{number}" for number in range(len(said))]
            await settled(rooms, readers)
            assert all(reader.alarms == [] for reader in readers)
