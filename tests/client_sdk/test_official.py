"""Support and activities: the operator's people are reached like anybody else, and nobody else reads what they get."""

from pathlib import Path

import pytest

from restante import Client, Official, RelayError, publications
from restante_crypto import primitives, proofs
from restante_server.services.bulletin import LIFETIME
from support.mortal import mortal_relay
from support.people import people
from support.relay import relay_in_process

COMPLAINT = "canary complaint 3c77"
ENTRY = "canary entry for the drawing 81af"


async def test_what_is_submitted_reaches_the_staffs_devices_and_nothing_else(tmp_path: Path) -> None:
    """Acceptance of "Support and activities": the relay's disk, backup and log are searched."""
    async with (
        mortal_relay(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "support", "activities", "person") as (support, activities, person),
    ):
        assert await person.client.official() == []
        invites = [await each.client.invite() for each in (support, activities)]
        await relay.stop()
        await relay.start(*(f"--official-invite={name}={each}" for name, each in zip("SA", invites, strict=True)))
        official = await person.client.official()
        assert official == [Official("S", invites[0]), Official("A", invites[1])]
        for each, staff, text in zip(official, (support, activities), (COMPLAINT, ENTRY), strict=True):
            room = await person.client.start_conversation(each.invite)
            answering = await staff.room()
            await room.send(text)
            await staff.reads(text)
            await answering.send("thanks")
        await person.until(lambda: len(person.got) == 2)
        assert (support.texts, activities.texts) == ([COMPLAINT], [ENTRY]), "each reads its own alone"
        await room.send(ENTRY)
        contents = await relay.everything(tmp_path / "backup")
        assert sum(map(len, contents.values())) > 100_000
        for name, content in contents.items():
            for needle in (COMPLAINT, ENTRY, "canary", person.client.account_id):
                assert needle.encode() not in content, name


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
            await client._driver.run(client._engine.read_disclosure, b"{}", bytes(64))
