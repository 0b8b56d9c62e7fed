"""The main job through the public API, against a real relay."""

import asyncio
from pathlib import Path

import pytest

from restante import (
    AlreadyOpen,
    Client,
    NotAdmitted,
    Replaced,
    WrongPassphrase,
)
from support.people import people, together
from support.relay import relay_in_process


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


async def test_a_closed_relay_admits_by_code(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", admission="invite") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="a", admission="wrong") as client,
    ):
        with pytest.raises(NotAdmitted):
            await client.invite()
