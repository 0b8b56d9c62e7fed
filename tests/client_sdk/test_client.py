"""The main job through the public API, against a real relay."""

import asyncio
from pathlib import Path

import pytest

from restante import (
    AlreadyOpen,
    Client,
    ConnectionChanged,
    ContactRequest,
    ConversationError,
    Event,
    InviteError,
    MemberRemoved,
    Message,
    MessageTooLarge,
    NotAdmitted,
    NotAMember,
    Replaced,
    WrongPassphrase,
)
from restante.errors import MAX_CONTENT_BYTES
from restante.invites import Invite, open_manifest
from restante_protocol import frames, limits
from restante_server.clock import system_clock
from support.mortal import mortal_relay
from support.people import people, person, settled, together
from support.relay import Peer, relay_in_process


async def read_and_fail(path: Path, relay: str, found: list[Event]) -> None:
    """The application fails with an event in hand."""
    async with Client.open(path, relay=relay, passphrase="b") as client:
        found.append(await anext(client.events()))
        raise ZeroDivisionError


async def test_two_people_talk(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        a, b = await together(alice, bob)
        receipt = await a.send("hello")
        await bob.reads("hello")
        assert bob.got[0].id == receipt.id
        assert bob.got[0].sender == alice.client.account_id
        await bob.got[0].reply("hi 👋")
        await alice.reads("hi 👋")
        assert a.members == b.members == [alice.client.account_id, bob.client.account_id]
        assert a.epoch_authenticator == b.epoch_authenticator
        assert a.suite == b.suite == "MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519"


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
            while len(bob._waiting) < 2:
                await asyncio.sleep(0.01)
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


async def test_a_file_is_open_once_and_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="right"):
            with pytest.raises(AlreadyOpen):
                async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="right"):
                    pass
        with pytest.raises(WrongPassphrase):
            async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="wrong"):
                pass


async def test_a_copy_that_connects_replaces_the_first(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="a") as client:
            await client.drained()
        (tmp_path / "copy.db").write_bytes((tmp_path / "a.db").read_bytes())
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="a") as client:
            await client.drained()
            async with Client.open(tmp_path / "copy.db", relay=relay.url, passphrase="a") as copy:
                await copy.drained()
                assert isinstance(await asyncio.wait_for(anext(client.events()), 30), Replaced)


async def test_invites_that_lead_nowhere(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        relay_in_process(tmp_path / "other") as other,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
        person(tmp_path, "carol", other.url) as carol,
    ):
        foreign, own, good = (
            await carol.client.invite(),
            await alice.client.invite(),
            await bob.client.invite(),
        )
        for wrong in ("restante:", "hello", good[:-8], foreign, own):
            with pytest.raises(InviteError):
                await alice.client.start_conversation(wrong)
        with pytest.raises(InviteError):
            await alice.client.start_conversation([])


async def test_a_closed_relay_admits_by_code(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", admission="invite") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="a", admission="wrong") as client,
    ):
        with pytest.raises(NotAdmitted):
            await client.invite()


async def use_up(sender: Peer, text: str) -> None:
    """Claim more often than an invite's address gives packages, as somebody who has the invite."""
    invite = Invite.parse(text)
    slot = await sender.ask(lambda n: frames.SlotGet(n, invite.slot))
    (device,) = open_manifest(slot.body, invite, now=system_clock() // 1000).devices
    suite, address = device.pools[0]
    answer = await sender.ask(lambda n: frames.Claim(n, suite, [address] * (limits.ADDRESS_CLAIMS + 1)))
    last = answer.prekeys[-1]
    assert (last.code, last.number) == (0, 0), "the key that all share"


async def test_who_uses_an_invite_up_is_noticed_and_others_come_through(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        person(tmp_path, "alice", relay.url) as alice,
        await Peer.connect(relay.url) as sender,
    ):
        async with person(tmp_path, "bob", relay.url) as bob:
            first, second = [await bob.client.invite() for _ in range(2)]
            await bob.client.drained()
            await use_up(sender, first)
            await bob.until(lambda: bool(bob.overused))
            assert [event.invite for event in bob.overused] == [first]
        await use_up(sender, second)
        async with person(tmp_path, "bob", relay.url) as bob:  # he was away
            await bob.until(lambda: second in {event.invite for event in bob.overused})
            room = await alice.client.start_conversation([first])
            await bob.room()
            await room.send("with the key that all share")
            await bob.reads("with the key that all share")
