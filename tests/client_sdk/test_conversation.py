"""A conversation as an application holds it, over a real relay."""

import asyncio
from pathlib import Path

import pytest

from restante import Client, ContactRequest, ConversationError, MemberRemoved, Message, MessageTooLarge, NotAMember
from restante.errors import MAX_CONTENT_BYTES
from support.people import people, person, settled, together
from support.relay import relay_in_process


async def test_contents_of_every_size_arrive_as_they_are(tmp_path: Path) -> None:
    contents: list[str | bytes] = [
        "",
        b"",
        "é" * 100,
        bytes(range(256)),
        "🌍" * (MAX_CONTENT_BYTES // 4),
        bytes(65_536),
    ]
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, _ = await together(alice, bob)
        for content in contents:
            await a.send(content)
        await bob.until(lambda: len(bob.got) == len(contents))
        for content, message in zip(contents, bob.got, strict=True):
            assert message.text == (content if isinstance(content, str) else None)
            assert message.data == (content.encode() if isinstance(content, str) else content)
        with pytest.raises(MessageTooLarge):
            await a.send(bytes(MAX_CONTENT_BYTES + 1))


async def test_a_group_adds_removes_heals_and_is_left(tmp_path: Path) -> None:
    names = ("alice", "bob", "carol", "dave")
    async with relay_in_process(tmp_path / "relay") as relay, people(tmp_path, relay.url, *names) as readers:
        alice, bob, carol, dave = readers
        a, b, c = await together(alice, bob, carol, title="Picnic")
        assert [room.title for room in (a, b, c)] == ["Picnic"] * 3
        await a.send("before dave")
        await b.add(await dave.client.invite())
        d = await dave.room()
        await c.update_keys()
        await settled([a, b, c, d], readers)
        await a.send("with dave")
        await dave.reads("with dave")
        await a.remove(bob.client.account_id)
        await bob.until(lambda: any(isinstance(change, MemberRemoved) for change in bob.changes))
        await a.send("without bob")
        await carol.until(lambda: "without bob" in carol.texts)
        await bob.client.drained()
        assert "without bob" not in bob.texts
        assert not b.active
        assert b.members == []
        for refused in (b.send("?"), b.update_keys(), b.leave(), b.remove(alice.client.account_id)):
            with pytest.raises(NotAMember):
                await refused
        await c.leave()
        await alice.until(lambda: len(alice.changes) > 1)
        await settled([a, d], [alice, dave])
        assert set(a.members) == {alice.client.account_id, dave.client.account_id}
        assert bob.client.conversations() == []
        with pytest.raises(NotAMember):
            await a.remove(bob.client.account_id)
        with pytest.raises(ConversationError):
            await a.remove(alice.client.account_id)
        assert all(reader.alarms == [] for reader in readers)


async def test_a_strangers_messages_wait_for_acceptance(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        person(tmp_path, "alice", relay.url) as alice,
        Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="b") as bob,
    ):
        a = await alice.client.start_conversation(await bob.invite())
        await a.send("one")
        await bob.drained()
        events = bob.events()
        request = await anext(events)
        assert isinstance(request, ContactRequest)
        assert request.sender == alice.client.account_id
        assert [room.accepted for room in bob.conversations()] == [False]
        await request.accept()
        assert request.conversation.accepted
        message = await anext(events)
        assert isinstance(message, Message)
        assert message.text == "one"


async def test_a_declined_stranger_sees_a_member_leave(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        person(tmp_path, "alice", relay.url) as alice,
        Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="b") as bob,
    ):
        a = await alice.client.start_conversation(await bob.invite())
        request = await anext(bob.events())
        assert isinstance(request, ContactRequest)
        await request.decline()
        assert bob.conversations() == []
        async with asyncio.timeout(30):
            while len(a.members) > 1:
                await alice.client.drained()
