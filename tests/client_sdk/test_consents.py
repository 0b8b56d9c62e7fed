"""Consents as an application sees them: client.purposes(), consent, withdraw and PurposeChanged."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from restante import Client, PurposeChanged, RelayError, manage
from restante_server import processors, purposes
from restante_server.categories import Text
from restante_server.clock import system_clock
from restante_server.identity import Identity
from restante_server.purposes import PURPOSES, About, Purpose
from restante_server.services.bulletin import Bulletin
from restante_server.stores.redis import RedisStore
from support.people import person
from support.relay import PUSH, relay_in_process

ALL = tuple(Purpose)
AT_RELAY = tuple(purpose for purpose in Purpose if PURPOSES[purpose].at_relay)


async def granted(client: Client) -> set[str]:
    return {each.name for each in await client.purposes() if each.granted}


def held(relay_folder: Path, client: Client, purpose: str) -> bytes:
    return Identity.open(relay_folder).consent(client._engine.mailbox, purpose)


async def test_each_is_off_until_granted_and_withdrawn_as_easily(tmp_path: Path, any_store: dict[str, Any]) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder, purposes=ALL, **any_store) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        offered = await client.purposes()
        assert [each.name for each in offered] == list(ALL)
        assert not any(each.granted for each in offered)
        for purpose in ALL:
            await client.consent(purpose)
            assert await granted(client) == {purpose}
            kept = await relay.store.get_slot(held(folder, client, purpose))
            assert (kept is not None) == (purpose in AT_RELAY), "what concerns the client alone stays with it"
            await client.withdraw(purpose)
            assert await granted(client) == set()
            assert await relay.store.get_slot(held(folder, client, purpose)) is None
        if not isinstance(relay.store, RedisStore):
            files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            needles = [held(folder, client, purpose) for purpose in ALL]
            assert not [name for name, data in files.items() for needle in needles if needle in data]


async def test_what_is_offered_is_told_in_words(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", purposes=("push",)) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        (push,) = await client.purposes()
        about, declared = PURPOSES[Purpose.PUSH], [processors.parse(PUSH)]
        said = purposes.said_in(Purpose.PUSH, "en", declared)
        assert (push.title(), push.what(), push.refusing()) == (about.title.en, said["what"], about.refusing.en)
        assert (push.title("zh"), push.what("fr")) == (about.title.zh, said["what"])
        assert push.version == purposes.version(Purpose.PUSH, declared)
        for other in ("handle", "advertising"):
            with pytest.raises(RelayError, match="does not offer"):
                await client.consent(other)
        assert await granted(client) == set()


async def test_by_default_nothing_is_offered(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        assert await client.purposes() == []


class Purposes:
    """Reads a client's PurposeChanged."""

    def __init__(self, client: Client) -> None:
        self.changed: list[str] = []
        client.on(PurposeChanged)(lambda event: self.changed.append(event.purpose))


async def test_a_changed_purpose_announces_itself_and_is_off_until_granted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder, purposes=ALL) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        for purpose in (Purpose.HANDLE, Purpose.PUSH, Purpose.NEWS, Purpose.DIAGNOSTICS):
            await client.consent(purpose)
    for purpose in (Purpose.HANDLE, Purpose.NEWS):
        about = PURPOSES[purpose]
        wider = About(about.title, Text(about.what.en + " And more.", about.what.zh), about.refusing, about.at_relay)
        monkeypatch.setitem(PURPOSES, purpose, wider)
    async with relay_in_process(folder, purposes=[each for each in ALL if each != Purpose.DIAGNOSTICS]) as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            read = Purposes(client)
            assert await granted(client) == {"push"}
            while len(read.changed) < 3:
                await client.drained()
            assert sorted(read.changed) == ["diagnostics", "handle", "news"]
            await client._driver.chores.settled()
            assert await relay.store.get_slot(held(folder, client, "handle")) is None, "nothing of it stays"
            await client.consent("handle")
            assert await granted(client) == {"handle", "push"}
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            read = Purposes(client)
            assert await granted(client) == {"handle", "push"}
            await client.drained()
            assert read.changed == [], "once"


async def test_another_receiver_of_data_is_asked_for_anew(tmp_path: Path) -> None:
    """The purpose stays, in the same words: who receives numbers for it is another."""
    folder = tmp_path / "relay"
    before, after = (f"sms={name} Telephony;Iceland;agreement of 2026-01-02" for name in ("One", "Other"))
    async with (
        relay_in_process(folder, purposes=("handle", "number"), processors=(before,)) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        for purpose in (Purpose.HANDLE, Purpose.NUMBER):
            await client.consent(purpose)
        assert "One Telephony" in {each.name: each.what() for each in await client.purposes()}["number"]
    async with (
        relay_in_process(folder, purposes=("handle", "number"), processors=(after,)) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        read = Purposes(client)
        assert await granted(client) == {"handle"}
        while not read.changed:
            await client.drained()
        assert read.changed == ["number"]
        await client.consent("number")
        assert await granted(client) == {"handle", "number"}


async def test_a_relay_that_lost_its_store_is_told_again(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder, purposes=ALL) as relay, person(tmp_path, "alice", relay.url) as alice:
        await alice.client.consent("push")
        await alice.client.consent("number")
        await alice.client.withdraw("number")
    for path in folder.glob("relay.db*"):
        if path.is_file():
            path.unlink()
    async with relay_in_process(folder, purposes=ALL) as relay, person(tmp_path, "alice", relay.url) as alice:
        await alice.client._driver.chores.settled()
        assert await relay.store.get_slot(held(folder, alice.client, "push")) is not None
        assert await relay.store.get_slot(held(folder, alice.client, "number")) is None


async def test_what_the_relay_refuses_meanwhile_is_off(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder, purposes=ALL) as relay, person(tmp_path, "alice", relay.url) as alice:
        read = Purposes(alice.client)
        await alice.client._driver.chores.settled()
        await alice.client._driver.run(alice.client._engine.consents.grant, "push", b"outdated")
        await alice.client._driver.chores.settled()
        assert await alice.client._driver.run(alice.client._engine.consents.granted) == {}
        await alice.until(lambda: read.changed == ["push"])


async def test_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    async with relay_in_process(tmp_path / "relay", purposes=("push", "news")) as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            await client.invite()

        async def run(command: str, *arguments: str) -> str:
            whole = [command, str(tmp_path / "a.db"), "--relay", relay.url, *arguments]
            status = await asyncio.to_thread(manage.main, whole)
            out, error = capsys.readouterr()
            return out if status == 0 else error

        assert "push: off" in await run("consent")
        shown = await run("consent", "--grant", "push", "--language", "zh")
        assert "push: granted" in shown
        assert PURPOSES[Purpose.PUSH].what.zh in shown
        assert "news: off" in shown
        assert "push: off" in await run("consent", "--withdraw", "push")
        assert "does not offer" in await run("consent", "--grant", "handle")
        assert "Privacy policy" in await run("policy")
        assert "隐私政策" in await run("policy", "--number", "1", "--language", "zh")
        assert "nothing is announced" in await run("news")
        await Bulletin(relay.store, Identity.open(tmp_path / "relay"), system_clock).announce(
            "incident", {"en": "It was down."}
        )
        assert "[incident] It was down." in await run("news")
        assert "no such policy" in await run("policy", "--number", "9")
        with pytest.raises(SystemExit):
            await run("consent", "--grant", "push", "--withdraw", "news")
    async with relay_in_process(tmp_path / "relay", listen=_bind(relay.url)) as relay:
        assert "nothing optional" in await run("consent")


def _bind(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)
