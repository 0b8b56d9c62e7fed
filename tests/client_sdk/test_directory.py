"""The directory as an application sees it."""

import asyncio
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from restante import Client, ConsentNeeded, EntryLost, Found, HandleTaken, InviteError, Refused, RelayError, manage
from restante.invites import Invite
from restante.names import handle, number
from restante.slots import RENEWAL
from restante_crypto import directory as stretching
from restante_crypto.directory import Cost, Kind
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.identity import Identity
from restante_server.oprf_key import OprfKey
from restante_server.purposes import Purpose
from restante_server.services import handles
from restante_server.services.budgets import Pace
from restante_server.services.bulletin import Bulletin
from restante_server.services.numbers import Numbers
from support import disk
from support.directories import NUMBERS, OFFERED, Phones
from support.people import people, person
from support.relay import relay_in_process
from support.stores import MovedClock

pytestmark = pytest.mark.usefixtures("cheap")
ONE, TWO, *_ = NUMBERS


async def consent(*clients: Client) -> None:
    for client in clients:
        for purpose in (Purpose.HANDLE, Purpose.NUMBER):
            await client.consent(purpose)


async def verify(client: Client, phones: Phones, mobile: str) -> None:
    await client.verify_number(mobile)
    await client.confirm_number(mobile, phones.code(mobile))


async def test_found_by_handle_and_written_to(tmp_path: Path, any_store: dict[str, Any]) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED, **any_store) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("Alice.Example")
        assert await alice.client.handle() == "alice.example"
        assert await bob.client.find_handle("alice.exampl") is None
        found = await bob.client.find_handle("ALICE.example")
        assert found is not None
        assert (found.account, found.by) == (alice.client.account_id, "handle")
        assert found.invite not in repr(found)
        room = await bob.client.start_conversation(found.invite)
        await room.send("found you")
        await alice.reads("found you")


async def test_who_was_found_is_unverified_until_safety_numbers_were_compared(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("alice")
        found = await bob.client.find_handle("alice")
        assert found is not None
        assert await bob.client.contacts() == []
        await bob.client.start_conversation([found.invite, await carol.client.invite()])
        assert {(each.account, each.found_by, each.verified) for each in await bob.client.contacts()} == {
            (alice.client.account_id, "handle", False),
            (carol.client.account_id, "", False),
        }
        shown = alice.client.safety_number(bob.client.account_id)
        wrong = carol.client.safety_number(bob.client.account_id)
        assert not await bob.client.confirm_safety_number(found.account, wrong.code)
        assert not any(each.verified for each in await bob.client.contacts())
        assert await bob.client.confirm_safety_number(found.account, shown.digits)
        with pytest.raises(ValueError, match="account"):
            await bob.client.confirm_safety_number("nobody", shown.code)
        await bob.stop()
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        person(tmp_path, "bob", relay.url) as again,
    ):
        verified = {each.account for each in await again.client.contacts() if each.verified}
        assert verified == {found.account}, "it is kept"


async def test_a_handle_is_its_firsts_and_can_be_changed_and_cleared(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("alice")
        slots = len(bob.client._engine.chores.slots())
        with pytest.raises(HandleTaken):
            await bob.client.set_handle("alice")
        assert await bob.client.handle() is None
        assert len(bob.client._engine.chores.slots()) == slots, "the invite that was made for it is gone"
        await bob.client.set_handle("bob")
        with pytest.raises(HandleTaken):
            await bob.client.set_handle("alice")
        assert await bob.client.handle() == "bob"
        before = await bob.client.find_handle("alice")
        assert before is not None
        await alice.client.set_handle("alix")
        assert await bob.client.find_handle("alice") is None
        assert await bob.client.find_handle("alix") == before
        await alice.client.clear_handle()
        await alice.client.clear_handle()
        assert await alice.client.handle() is None
        assert await bob.client.find_handle("alix") is None
        with pytest.raises(InviteError):
            await bob.client.start_conversation(before.invite)
        await bob.client.set_handle("alix")


async def test_numbers_are_verified_and_found(tmp_path: Path, any_store: dict[str, Any], phones: Phones) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED, **any_store) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        with pytest.raises(Refused) as refused:
            await bob.client.find_numbers([ONE])
        assert refused.value.code == Code.UNAUTHORIZED
        await verify(alice.client, phones, ONE)
        assert await alice.client.number() == ONE
        await bob.client.verify_number("0151 12345678", region="DE")
        code = phones.code("+4915112345678")
        with pytest.raises(Refused):
            await bob.client.confirm_number("0151 12345678", f"{(int(code) + 1) % 10**6:06d}", region="DE")
        await bob.client.confirm_number("0151 12345678", f" {code}", region="DE")
        asked = [ONE, TWO, "+44 7911 123456", *(f"+4479111235{last:02d}" for last in range(17))]
        found = await bob.client.find_numbers(asked)
        assert found == {ONE: Found(alice.client.account_id, found[ONE].invite, "number")}
        room = await bob.client.start_conversation(found[ONE].invite)
        await room.send("found you")
        await alice.reads("found you")
        await alice.client.clear_number()
        assert await alice.client.number() is None
        assert await bob.client.find_numbers([ONE]) == {}


async def test_without_consent_nothing_leaves_the_device(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        person(tmp_path, "alice", relay.url) as alice,
    ):
        client = alice.client
        for call in (
            client.set_handle("alice"),
            client.find_handle("alice"),
            client.verify_number(ONE),
            client.confirm_number(ONE, "123456"),
            client.find_numbers([ONE]),
        ):
            with pytest.raises(ConsentNeeded):
                await call
    async with (
        relay_in_process(tmp_path / "without") as relay,
        person(tmp_path, "bob", relay.url) as bob,
    ):
        with pytest.raises(RelayError, match="does not offer"):
            await bob.client.consent("handle")


async def test_withdrawing_erases_the_entry_and_its_invite(tmp_path: Path, phones: Phones) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder, **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("alice")
        await verify(alice.client, phones, ONE)
        await verify(bob.client, phones, TWO)
        key = OprfKey.open(folder / "oprf.key", make=False)
        entry = key.slot("entry", alice.client._engine.mailbox, alice.client._engine.mailbox[0])
        assert await relay.store.get_slot(entry) is not None
        for purpose in (Purpose.HANDLE, Purpose.NUMBER):
            await alice.client.withdraw(purpose)
        assert await alice.client.handle() is None
        assert await alice.client.number() is None
        assert alice.client._engine.chores.slots() == []
        assert await relay.store.get_slot(entry) is None
        assert await bob.client.find_handle("alice") is None
        assert await bob.client.find_numbers([ONE]) == {}


async def test_it_is_exported_and_erased(tmp_path: Path, phones: Phones) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("alice")
        await verify(alice.client, phones, ONE)
        await verify(bob.client, phones, TWO)
        held = (await alice.client.export_data()).document["held"]
        own = alice.client._engine.directory.own(Kind.HANDLE)
        assert own is not None
        assert [each["place"] for each in held["handle"]] == [own.place.hex()]
        assert [set(each) for each in held["number"]] == [{"place", "record", "verified_at", "queries", "texts"}]
        await alice.client.erase()
        assert await bob.client.find_handle("alice") is None
        assert await bob.client.find_numbers([ONE]) == {}


async def test_neither_handle_nor_number_is_on_the_relays_side(
    tmp_path: Path, phones: Phones, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder, ops_listen=("127.0.0.1", 0), **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("canary-handle")
        await verify(alice.client, phones, ONE)
        await verify(bob.client, phones, TWO)
        assert await bob.client.find_handle("canary-handle")
        assert await bob.client.find_numbers([ONE])
        disk.back_up(folder, tmp_path / "backup")
        contents = disk.files(*disk.places(folder), tmp_path / "backup")
        contents["metrics"] = repr([list(family.samples) for family in relay.metrics.registry.collect()]).encode()
        logged = "\n".join(line for line in capfd.readouterr().err.splitlines() if not line.startswith("text message"))
        contents["log"] = logged.encode()
        assert sum(map(len, contents.values())) > 100_000
        bare = [mobile.removeprefix("+") for mobile in (ONE, TWO)]
        for needle in ("canary", *bare, *(each[2:] for each in bare), alice.client.account_id):
            assert [name for name, data in contents.items() if needle.encode() in data] == [], needle


@pytest.mark.parametrize("has", list(itertools.product([False, True], repeat=4)), ids=str)
async def test_handle_number_nickname_and_avatar_work_without_each_other(
    tmp_path: Path, phones: Phones, has: tuple[bool, ...]
) -> None:
    by_handle, by_number, nickname, avatar = has
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(bob.client)
        await verify(bob.client, phones, TWO)
        if by_handle:
            await alice.client.consent(Purpose.HANDLE)
            await alice.client.set_handle("alice")
        if by_number:
            await alice.client.consent(Purpose.NUMBER)
            await verify(alice.client, phones, ONE)
        if nickname or avatar:
            await alice.client.set_profile("Alice" if nickname else "", b"picture" if avatar else b"")
        found = await bob.client.find_handle("alice")
        found_by_number = (await bob.client.find_numbers([ONE])).get(ONE)
        assert ((found is not None), (found_by_number is not None)) == (by_handle, by_number)
        who = found or found_by_number
        await bob.client.start_conversation(who.invite if who else await alice.client.invite())
        await alice.room()
        if nickname or avatar:
            await bob.until(lambda: len(bob.profiles) > 0)
        profile = await bob.client.profile(alice.client.account_id)
        shown = (profile.nickname == "Alice", profile.avatar == b"picture") if profile else (False, False)
        assert shown == (nickname, avatar)


async def losses(client: Client) -> str:
    async for event in client.events():
        if isinstance(event, EntryLost):
            return event.purpose
    raise AssertionError


async def test_a_relay_that_lost_everything_gets_handles_again(tmp_path: Path, phones: Phones) -> None:
    """And a number has to be verified again: the relay does not take a client's word for it."""
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        await consent(client)
        await client.set_handle("alice")
        await verify(client, phones, ONE)
        port = int(relay.url.rpartition(":")[2])
    disk.lose(tmp_path / "relay")
    (tmp_path / "relay" / "oprf.key").unlink()
    async with (
        relay_in_process(tmp_path / "relay", listen=("127.0.0.1", port), **OFFERED) as relay,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
        person(tmp_path, "bob", relay.url) as bob,
    ):
        await client._driver.chores.settled()
        assert await losses(client) == "number"
        assert (await client.handle(), await client.number()) == ("alice", None)
        await consent(bob.client)
        found = await bob.client.find_handle("alice")
        assert found is not None
        assert found.account == client.account_id
        await verify(client, phones, ONE)


async def test_entries_are_renewed_before_they_lapse(tmp_path: Path, phones: Phones) -> None:
    clock = MovedClock()
    async with (
        relay_in_process(tmp_path / "relay", clock=clock, **OFFERED) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await consent(alice.client, bob.client)
        await alice.client.set_handle("alice")
        await verify(alice.client, phones, ONE)
        for reader in (alice, bob):
            reader.client._engine._state.clock = clock
        published = Bulletin(relay.store, Identity.open(tmp_path / "relay"), clock)
        for _ in range(2):
            version, content = await published.read("directory")
            assert await published.write("directory", version, content), "as the relay does every day"
            clock.advance(limits.MAX_SLOT_LIFETIME - RENEWAL + 10)
            for reader in (alice, bob):
                await reader.client._driver.do(reader.client._engine.upkeep)
                await reader.client._driver.chores.settled()
        assert await bob.client.find_handle("alice") is not None
        await verify(bob.client, phones, TWO)
        assert ONE in await bob.client.find_numbers([ONE])


async def test_a_number_that_another_verified_is_lost(tmp_path: Path, phones: Phones) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        person(tmp_path, "bob", relay.url) as bob,
        Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
    ):
        await consent(client, bob.client)
        await verify(client, phones, ONE)
        await verify(bob.client, phones, ONE)
        await client._driver.run(register_again, client)
        await client._driver.chores.settled()
        assert await losses(client) == "number"
        assert await client.number() is None
        assert (await bob.client.find_numbers([ONE]))[ONE].account == bob.client.account_id


def register_again(client: Client) -> None:
    with client._engine._state.transaction():
        client._engine.directory.register_again()


async def test_beyond_the_budget_entries_are_put_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PACE", Pace(units=3, seconds=600))
    folder = tmp_path / "relay"
    async with relay_in_process(folder, **OFFERED) as relay, person(tmp_path, "alice", relay.url) as alice:
        client = alice.client
        await consent(client)
        await client.set_handle("alice")
        await client.find_handle("bob")
        with pytest.raises(Refused) as refused:
            await client.find_handle("carol")
        assert refused.value.code == Code.BUDGET
        own = client._engine.directory.own(Kind.HANDLE)
        assert own is not None
        with client._engine._state.transaction():
            other = type(own)(own.name, bytes(32), own.place, own.key, own.invite)
            client._engine.directory._put(Kind.HANDLE, other)
        await client._driver.chores.settled()
        kept = client._engine.directory.own(Kind.HANDLE)
        assert kept is not None
        assert kept.renew_at > client._engine._state.now()


async def test_a_relay_that_evaluates_with_another_key_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        person(tmp_path, "alice", relay.url) as alice,
    ):
        await consent(alice.client)
        pair = OprfKey.pair
        monkeypatch.setattr(OprfKey, "pair", lambda _self, kind: pair(OprfKey(os.urandom(32)), kind))
        with pytest.raises(RelayError, match="another key"):
            await alice.client.set_handle("alice")
        assert await alice.client.handle() is None


async def test_a_bucket_without_an_end_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phones: Phones
) -> None:
    async def bucket(_self: Numbers, _mailbox: bytes, frame: frames.NumbersGet) -> frames.Numbers:
        place = bytes([frame.bucket]) + (int.from_bytes(frame.after[1:], "big") + 1).to_bytes(23, "big")
        return frames.Numbers(frame.request, [frames.DirectoryRecord(place, bytes(512))], more=True)

    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        person(tmp_path, "alice", relay.url) as alice,
    ):
        await consent(alice.client)
        await verify(alice.client, phones, ONE)
        monkeypatch.setattr(Numbers, "bucket", bucket)
        monkeypatch.setattr(limits, "NUMBER_QUERIES", 5)
        with pytest.raises(RelayError, match="no end"):
            await alice.client.find_numbers([TWO])


async def test_records_that_are_none_are_nobody(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", **OFFERED) as relay,
        person(tmp_path, "alice", relay.url) as alice,
    ):
        engine = alice.client._engine
        entry = stretching.entry(Kind.HANDLE, bytes(64), Cost(operations=1, memory=8192))
        assert engine.directory.read(Kind.HANDLE, entry, b"") is None
        assert engine.directory.read(Kind.HANDLE, entry, bytes(512)) is None
        assert engine.directory.read(Kind.HANDLE, entry, engine.directory.record(entry, "no invite")) is None
        invite = await alice.client.invite()
        assert engine.directory.read(Kind.HANDLE, entry, engine.directory.record(entry, invite)) is not None
        parsed = Invite.parse(invite)
        elsewhere = type(parsed)(
            relay_url=parsed.relay_url, relay_key=bytes(32), slot=parsed.slot, key=parsed.key, account=parsed.account
        )
        assert engine.directory.read(Kind.HANDLE, entry, engine.directory.record(entry, elsewhere.text())) is None
        with pytest.raises(ValueError, match="too long"):
            engine.directory.record(entry, "x" * 500)


def test_what_a_handle_is() -> None:
    assert handle(" Straße ") == handle("STRASSE") == "strasse"
    assert handle("\uff21\uff2c\uff29\uff23\uff25") == "alice"
    assert handle("a.b-c_d9") == "a.b-c_d9"
    assert handle("王小明") == "王小明"
    for text in (
        "",
        "ab",
        "a" * 33,
        "a b",
        ".abc",
        "abc.",
        "a..b",
        "a@b",
        "alice\x00",
        "\u0301abc",
        "字" * 22,
        "ab\n\ncd",
    ):
        with pytest.raises(ValueError, match="handle"):
            handle(text)


def test_what_a_number_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert number("07911 123456", "GB") == number("+44 (0)7911-123456") == ONE
    for text in ("", "07911 123456", "+4", "number", "+44000000"):
        with pytest.raises(ValueError, match="telephone"):
            number(text)
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(ValueError, match="restante"):
        number(ONE)


async def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    codes = Phones(lambda: "".join(shown))
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    async with relay_in_process(tmp_path / "relay", **OFFERED) as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            await consent(client)
            account = client.account_id

        async def run(*arguments: str) -> str:
            command = [arguments[0], str(tmp_path / "a.db"), "--relay", relay.url, *arguments[1:]]
            status = await asyncio.to_thread(manage.main, command)
            told = capsys.readouterr()
            shown.append(told.err)
            return told.out.strip() if status == 0 else told.err.strip()

        assert await run("handle") == "no handle"
        assert await run("handle", "--set", "Alice") == "alice"
        assert (await run("handle", "--find", "alice")).startswith(f"{account}\nrestante:")
        assert await run("handle", "--find", "nobody") == "nobody"
        assert await run("handle", "--clear") == "no handle"
        assert "3 to 32" in await run("handle", "--set", "x")
        assert await run("number") == "no number"
        assert await run("number", "--verify", ONE) == "a code was sent"
        assert await run("number", "--confirm", ONE, codes.code(ONE)) == ONE
        assert (await run("number", "--find", "+44 7911 123456")).startswith(f"{account}\nrestante:")
        assert await run("number", "--find", TWO) == "nobody"
        assert await run("number", "--clear") == "no number"
