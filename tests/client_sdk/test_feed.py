"""Events on their way to the application, through the public API and a real relay."""

import asyncio
from pathlib import Path

import pytest

from restante import Client, ConnectionChanged, ContactRequest, Event, Message
from support.mortal import mortal_relay
from support.people import person
from support.relay import relay_in_process
from support.waiting import until


async def read_and_fail(path: Path, relay: str, found: list[Event]) -> None:
    """The application fails with an event in hand."""
    async with Client.open(path, relay=relay, passphrase="b") as client:
        found.append(await anext(client.events()))
        raise ZeroDivisionError


async def test_an_event_comes_again_until_it_is_handled(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        path = tmp_path / "bob.db"
        async with Client.open(path, relay=relay.url, passphrase="b") as bob:
            a = await alice.client.start_conversation(await bob.invite())
            request = await anext(bob.events())
            assert isinstance(request, ContactRequest)
            await request.accept()
        await a.send("one")
        await a.send("two")
        found: list[Event] = []
        with pytest.raises(ZeroDivisionError):
            await read_and_fail(path, relay.url, found)
        async with Client.open(path, relay=relay.url, passphrase="b") as bob:
            again = await anext(bob.events())
            assert isinstance(again, Message)
            assert (again.id, again.text) == (found[0].id, "one")
        async with Client.open(path, relay=relay.url, passphrase="b") as bob:
            following = await anext(bob.events())
            assert isinstance(following, Message)
            assert following.text == "two"


async def test_handlers_get_their_events_and_the_loop_the_others(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        person(tmp_path, "alice", relay.url) as alice,
        Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="b") as bob,
    ):
        heard: asyncio.Queue[str | None] = asyncio.Queue()

        @bob.on(Message)
        async def on_message(message: Message) -> None:
            heard.put_nowait(message.text)
            if message.text == "fails":
                raise ValueError

        a = await alice.client.start_conversation(await bob.invite())
        request = await anext(bob.events())
        assert isinstance(request, ContactRequest)
        await request.accept()
        await a.send("fails")
        await a.send("to the handler")
        assert [await asyncio.wait_for(heard.get(), 30) for _ in range(2)] == ["fails", "to the handler"]


async def test_a_loop_that_waits_keeps_nothing_from_the_handlers(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        person(tmp_path, "alice", relay.url) as alice,
        Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="b") as bob,
    ):
        heard: asyncio.Queue[str | None] = asyncio.Queue()
        bob.on(Message)(lambda message: heard.put_nowait(message.text))
        a = await alice.client.start_conversation(await bob.invite())
        events = bob.events()
        request = await anext(events)
        assert isinstance(request, ContactRequest)
        await request.accept()
        other = asyncio.ensure_future(anext(events))
        async with asyncio.timeout(30):
            await until(lambda: len(bob._feed._waiting) >= 2)
            for text in ("one", "two"):
                await a.send(text)
                assert await heard.get() == text
        other.cancel()
        await asyncio.wait([other])


async def test_losing_the_relay_is_an_event(tmp_path: Path) -> None:
    async with (
        mortal_relay(tmp_path / "relay") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="a") as client,
    ):
        await client.drained()
        events = client.events()
        await relay.stop()
        lost = await asyncio.wait_for(anext(events), 30)
        await relay.start()
        found = await asyncio.wait_for(anext(events), 30)
        assert [event.connected for event in (lost, found) if isinstance(event, ConnectionChanged)] == [False, True]
