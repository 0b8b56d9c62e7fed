"""Contents on their way, through the public API and a real relay."""

import asyncio
from pathlib import Path

import pytest

from restante import FileError, Queued
from restante.engine.engine import Engine
from support.mortal import mortal_relay
from support.people import people, person, together
from support.relay import relay_in_process


async def test_concurrent_sends_keep_the_order_of_the_calls(tmp_path: Path) -> None:
    texts = [str(number) for number in range(300)]
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, _ = await together(alice, bob)
        await asyncio.gather(*(a.send(text) for text in texts))
        await bob.reads(*texts)


async def test_offline_a_message_is_queued_and_goes_out_by_itself(tmp_path: Path) -> None:
    async with (
        mortal_relay(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, _ = await together(alice, bob)
        await relay.stop()
        with pytest.raises(Queued) as queued:
            await a.send("later", timeout=0.1)
        await relay.start()
        await bob.reads("later")
        assert bob.got[0].id == queued.value.id


async def test_the_outbox_survives_closing(tmp_path: Path) -> None:
    async with mortal_relay(tmp_path / "relay") as relay, person(tmp_path, "bob", relay.url) as bob:
        async with person(tmp_path, "alice", relay.url) as alice:
            a, _ = await together(alice, bob)
            await relay.stop()
            with pytest.raises(Queued):
                await a.send("kept", timeout=0.1)
        await relay.start()
        async with person(tmp_path, "alice", relay.url):
            await bob.reads("kept")


async def test_what_the_file_does_not_take_is_not_sent_and_each_caller_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_engine: Engine, _messages: object) -> None:
        raise FileError

    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, _ = await together(alice, bob)
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "submit", full)
            failed = await asyncio.gather(a.send("one"), a.send("two"), return_exceptions=True)
        assert [type(each) for each in failed] == [FileError, FileError]
        await a.send("three")
        await bob.reads("three")
