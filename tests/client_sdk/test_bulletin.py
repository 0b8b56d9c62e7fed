"""What the operator publishes, as a client fetches it from a real relay."""

from pathlib import Path
from typing import Any

import pytest

from restante import Client, Message, Official, Policy, PolicyDeclined, RelayError, publications
from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_server import policy
from restante_server.app import Relay
from restante_server.clock import system_clock
from restante_server.identity import Identity
from restante_server.services.bulletin import LIFETIME, Bulletin
from support.people import people, person, together
from support.relay import relay_in_process


async def mailboxes(relay: Relay) -> int:
    return (await relay.store.totals()).mailboxes


async def test_the_policy_is_there_before_the_mailbox(tmp_path: Path) -> None:
    asked: list[tuple[Policy | None, int]] = []
    async with relay_in_process(tmp_path / "relay", operator_name="Example Post", operator_contact="p@x.org") as relay:

        async def agree(shown: Policy | None) -> bool:
            asked.append((shown, await mailboxes(relay)))
            return True

        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p", agree=agree) as client:
            await client.invite()
            shown = await client.policy()
            assert asked == [(shown, 0)], "before"
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p", agree=agree) as client:
            await client.drained()
            assert len(asked) == 1, "once"
    assert shown is not None
    assert (shown.number, shown.operator, shown.contact) == (1, "Example Post", "p@x.org")
    assert set(shown.languages) == {"en", "zh"}
    assert "Example Post runs this relay" in shown.text()
    assert shown.text("fr") == shown.text("en")
    assert "隐私政策" in shown.text("zh")


async def test_who_does_not_agree_has_no_mailbox_and_can_still_read(tmp_path: Path) -> None:
    async def decline(_shown: Policy | None) -> bool:
        return False

    async with (
        relay_in_process(tmp_path / "relay") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p", agree=decline) as client,
    ):
        with pytest.raises(PolicyDeclined):
            await client.invite()
        assert await mailboxes(relay) == 0


async def test_earlier_versions(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay", operator_name="One"):
        pass
    async with (
        relay_in_process(tmp_path / "relay", operator_name="Two") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        newest, first = await client.policy(), await client.policy(1)
        assert newest is not None
        assert first is not None
        assert (newest.number, newest.operator, first.operator) == (2, "Two", "One")
        assert await client.policy(3) is None


async def test_what_the_relays_key_has_not_signed_is_an_error(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        shown = await client.policy()
        assert shown is not None
        key = (tmp_path / "relay" / "relay.key").read_bytes()
        slot = proofs.public_slot_id(primitives.ed25519_public(key), "policy 1")
        stored = await relay.store.get_slot(slot)
        assert stored is not None
        assert await relay.store.put_slot(slot, 2, LIFETIME, stored.body)
        with pytest.raises(RelayError, match="not signed"):
            await client.policy()
        other = policy.encode(policy.document(policy.Operator("Other")))
        body = primitives.ed25519_sign(key, proofs.public_message(slot, 3, other)) + other
        assert await relay.store.put_slot(slot, 3, LIFETIME, body)
        with pytest.raises(RelayError, match="another policy"):
            await client.policy()
        await relay.store.delete_slot(slot)
        assert await client.policy() is None


async def test_an_announcement_is_an_event_of_its_own_and_comes_once(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay:
        bulletin = Bulletin(relay.store, Identity.open(folder), system_clock)
        await bulletin.announce("service", {"en": "before there was this account"})
        async with people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
            room, _ = await together(alice, bob)
            assert [each.number for each in await bob.client.announcements()] == [1]
            await bulletin.announce("incident", {"en": "It was down.", "zh": "曾中断。"})
            await room.send("correspondence")
            (_, announced) = await bob.client.announcements()
            await bob.reads("correspondence")
            assert (announced.kind, announced.text("zh"), announced.text("fr")) == (
                "incident",
                "曾中断。",
                "It was down.",
            )
            assert Message not in type(announced).__mro__
            assert not hasattr(announced, "sender")
            assert not hasattr(announced, "conversation")
            assert not hasattr(announced, "reply")
            await bob.until(lambda: bool(bob.announcements))
            assert [(each.number, each.kind) for each in bob.announcements] == [(2, "incident")]
            await bob.client.announcements()
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.client.announcements()
            await bob.client.drained()
            await bulletin.announce("policy", {"en": "changed"}, number=2)
            await bob.client.announcements()
            await bob.until(lambda: bool(bob.announcements))
            assert [each.number for each in bob.announcements] == [3]


async def test_news_are_shown_to_those_who_granted_them_and_fetched_by_all(
    tmp_path: Path, any_store: dict[str, Any]
) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder, purposes=("news",), **any_store) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        bulletin = Bulletin(relay.store, Identity.open(folder), system_clock)
        for each in (alice, bob):
            assert await each.client.announcements() == []
        await alice.client.consent("news")
        await bulletin.announce("news", {"en": "a feast"})
        await bulletin.announce("incident", {"en": "it was down"})
        for reader, kinds in ((alice, ["news", "incident"]), (bob, ["incident"])):
            assert [each.kind for each in await reader.client.announcements()] == kinds
            await reader.until(lambda reader=reader, kinds=kinds: len(reader.announcements) == len(kinds))
            assert [each.kind for each in reader.announcements] == kinds
        await alice.client.withdraw("news")
        assert [each.kind for each in await alice.client.announcements()] == ["incident"]
        slot = publications.slot_of(bob.client._engine.relay_key or b"", publications.ANNOUNCEMENTS)
        fetched = [await each.client._driver.ask(lambda n: frames.SlotGet(n, slot)) for each in (alice, bob)]
        bodies = {(each.version, each.body) for each in fetched if isinstance(each, frames.Slot)}
        assert len(bodies) == 1, "the same for everybody"


async def test_a_file_looks_by_itself_when_it_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay:
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.client.announcements()
        await Bulletin(relay.store, Identity.open(folder), system_clock).announce("transfer", {"en": "to others"})
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.until(lambda: bool(bob.announcements))
            assert bob.announcements[0].text() == "to others"


async def test_a_forged_announcement_is_no_event(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay:
        async with person(tmp_path, "bob", relay.url) as bob:
            key = (folder / "relay.key").read_bytes()
            slot = proofs.public_slot_id(primitives.ed25519_public(key), publications.ANNOUNCEMENTS)
            assert await bob.client.announcements() == []
            forged = b'[{"number":1,"at":1,"kind":"service","policy":0,"texts":{"en":"forged"}}]'
            assert await relay.store.put_slot(slot, 1, LIFETIME, bytes(64) + forged)
            with pytest.raises(RelayError, match="not signed"):
                await bob.client.announcements()
            signature = primitives.ed25519_sign(key, proofs.public_message(slot, 2, b"{}"))
            assert await relay.store.put_slot(slot, 2, LIFETIME, signature + b"{}")
            with pytest.raises(RelayError, match="announcements"):
                await bob.client.announcements()
        async with person(tmp_path, "bob", relay.url) as bob:
            await bob.client.drained()
            assert bob.announcements == []


async def test_a_list_that_is_none_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder, official=("Support=restante:AA",)) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        assert await client.official() == [Official("Support", "restante:AA")]
        key = (folder / "relay.key").read_bytes()
        slot = publications.slot_of(primitives.ed25519_public(key), publications.OFFICIAL)
        signed = primitives.ed25519_sign(key, proofs.public_message(slot, 2, b"{}")) + b"{}"
        assert await relay.store.put_slot(slot, 2, LIFETIME, signed)
        with pytest.raises(RelayError, match="official"):
            await client.official()
        assert await relay.store.put_slot(slot, 3, LIFETIME, bytes(64) + b"[]")
        with pytest.raises(RelayError, match="not signed"):
            await client.official()


async def test_counts_of_disclosures_that_are_none_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        counted = await client.transparency()
        assert counted is not None
        assert counted.count == 0
        key = (folder / "relay.key").read_bytes()
        slot = publications.slot_of(primitives.ed25519_public(key), publications.TRANSPARENCY)
        for version, content in ((2, b"[]"), (3, b'{"count":-1,"head":"","grounds":{}}')):
            signed = primitives.ed25519_sign(key, proofs.public_message(slot, version, content)) + content
            assert await relay.store.put_slot(slot, version, LIFETIME, signed)
            with pytest.raises(RelayError, match="disclosures"):
                await client.transparency()
        await relay.store.delete_slot(slot)
        assert await client.transparency() is None
        with pytest.raises(ValueError, match="not signed"):
            await client._driver.run(client._engine.bulletin.read_disclosure, b"{}", bytes(64))
