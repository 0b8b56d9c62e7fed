"""Mobile numbers over the wire, on each store."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from restante_crypto.directory import Entry, Kind
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server import processors
from restante_server.oprf_key import OprfKey
from restante_server.processors import Processor
from restante_server.purposes import Purpose
from restante_server.services import numbers
from restante_server.services.budgets import Pace
from restante_server.services.numbers import TEXTS_OF_MAILBOX, TEXTS_TO_NUMBER, is_mobile
from support.directories import (
    NUMBERS,
    OFFERED,
    Phones,
    before_putting,
    bucket,
    consent,
    find,
    put_number,
    read_number,
    sealed,
    verify,
    withdraw,
)
from support.relay import Owner, Peer, relay_in_process
from support.stores import MovedClock

pytestmark = pytest.mark.usefixtures("cheap")
ONE, TWO, THREE, FOUR = NUMBERS


async def granted(url: str, owner: Owner, *named: Processor) -> Peer:
    peer = await Peer.own(url, owner)
    await consent(peer, Purpose.NUMBER, *named)
    return peer


def entry_of(found: Entry | frames.Error) -> Entry:
    assert isinstance(found, Entry), found
    return found


async def test_a_verified_number_is_found_by_who_has_verified_one(
    tmp_path: Path, any_store: dict[str, Any], phones: Phones
) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner()) as alice,
        await granted(relay.url, Owner(100)) as bob,
    ):
        for answer in (await put_number_anywhere(alice), await alice.ask(lambda n: frames.NumbersGet(n, 0, b""))):
            assert answer.code == Code.UNAUTHORIZED, "before a number is verified"
        assert (await find(alice, tmp_path, Kind.NUMBER, TWO)).code == Code.UNAUTHORIZED  # type: ignore[union-attr]
        assert isinstance(await verify(alice, phones, ONE), frames.Done)
        assert isinstance(await put_number(alice, tmp_path, ONE, b"alice's"), frames.Done)
        assert isinstance(await verify(bob, phones, TWO), frames.Done)
        found = entry_of(await find(bob, tmp_path, Kind.NUMBER, ONE))
        assert await read_number(bob, found) == b"alice's"
        assert await read_number(bob, entry_of(await find(bob, tmp_path, Kind.NUMBER, TWO))) is None
        assert isinstance(await put_number(alice, tmp_path, ONE, b"changed"), frames.Done)
        assert await read_number(bob, found) == b"changed"


async def put_number_anywhere(peer: Peer) -> Any:  # noqa: ANN401 -- an answer
    return await peer.ask(lambda n: frames.NumberPut(n, bytes(limits.DIRECTORY_RECORD_BYTES)))


async def test_a_bucket_has_a_hundred_records_and_decoys_stay_the_same(tmp_path: Path, phones: Phones) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED) as relay,
        await granted(relay.url, Owner()) as alice,
        await Peer.connect(relay.url) as sender,
    ):
        await verify(alice, phones, ONE)
        entry = entry_of(await find(alice, tmp_path, Kind.NUMBER, ONE))
        before = await bucket(alice, entry.place[0])
        assert len(before) == limits.DIRECTORY_BUCKET
        assert before == await bucket(alice, entry.place[0])
        await put_number(alice, tmp_path, ONE)
        after = await bucket(alice, entry.place[0])
        assert len(after) == limits.DIRECTORY_BUCKET
        (new,) = [each for each in after if each not in before]
        assert new.place == entry.place
        assert sorted(each.place for each in after) == [each.place for each in after]
        assert {each.place[0] for each in after} == {entry.place[0]}
        other = await bucket(alice, (entry.place[0] + 1) % 240)
        assert not {each.place for each in other} & {each.place for each in after}
        for each in [*after[:5], new]:
            answer = await sender.ask(lambda n, place=each.place: frames.SlotGet(n, place))
            assert answer.code == Code.NOT_FOUND, "no slot tells a record from a decoy"


async def test_a_large_bucket_comes_in_pages(
    tmp_path: Path, any_store: dict[str, Any], phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DIRECTORY_PAGE", 30)
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner()) as alice,
    ):
        await verify(alice, phones, ONE)
        await put_number(alice, tmp_path, ONE, b"on some page")
        entry = entry_of(await find(alice, tmp_path, Kind.NUMBER, ONE))
        records = await bucket(alice, entry.place[0])
        assert len(records) == limits.DIRECTORY_BUCKET
        assert await read_number(alice, entry) == b"on some page"


async def test_what_was_restored_without_its_record_is_a_decoy_and_leaves_the_list(
    tmp_path: Path, phones: Phones
) -> None:
    async with relay_in_process(tmp_path, **OFFERED) as relay, await granted(relay.url, Owner()) as alice:
        await verify(alice, phones, ONE)
        await put_number(alice, tmp_path, ONE)
        entry = entry_of(await find(alice, tmp_path, Kind.NUMBER, ONE))
        key = OprfKey.open(tmp_path / "oprf.key", make=False)
        await relay.store.delete_slot(key.slot("record", entry.place, entry.place[0]))
        assert await read_number(alice, entry) is None
        assert await relay.store.get_slot(key.slot("list", entry.place[:1], entry.place[0])) is None
        assert len(await bucket(alice, entry.place[0])) == limits.DIRECTORY_BUCKET


async def test_only_mobile_numbers_as_e164_writes_them(tmp_path: Path) -> None:
    assert all(is_mobile(number) for number in NUMBERS)
    async with relay_in_process(tmp_path, **OFFERED) as relay, await granted(relay.url, Owner()) as alice:
        for number in ("+44 7911 123456", "07911123456", "+442083661177", "+4479111", "number", "447911123456"):
            assert (await alice.ask(lambda n, asked=number: frames.NumberClaim(n, asked))).code == Code.LIMIT


async def test_a_code_is_tried_five_times_and_lives_ten_minutes(
    tmp_path: Path, any_store: dict[str, Any], phones: Phones
) -> None:
    clock = MovedClock()
    async with (
        relay_in_process(tmp_path, clock=clock, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner()) as alice,
        await granted(relay.url, Owner(100)) as bob,
    ):

        async def confirm(code: str, peer: Peer = alice) -> Any:  # noqa: ANN401 -- an answer
            answer = await peer.ask(lambda n: frames.NumberConfirm(n, ONE, code))
            return Code(answer.code) if isinstance(answer, frames.Error) else answer

        async def claim() -> str:
            assert isinstance(await alice.ask(lambda n: frames.NumberClaim(n, ONE)), frames.Done)
            return phones.code(ONE)

        assert await confirm("123456") == Code.NOT_FOUND, "none was sent"
        code = await claim()
        wrong = f"{(int(code) + 1) % 10**6:06d}"
        assert await confirm(code, bob) == Code.NOT_FOUND, "it was sent for another mailbox"
        assert [await confirm(wrong) for _ in range(limits.NUMBER_CODE_TRIES)] == [Code.UNAUTHORIZED] * 5
        assert await confirm(code) == Code.NOT_FOUND, "too many tries"
        code = await claim()
        clock.advance(limits.NUMBER_CODE_LIFETIME + 1)
        assert await confirm(code) == Code.NOT_FOUND, "too late"
        code = await claim()
        assert isinstance(await confirm(code), frames.Done)
        assert await confirm(code) == Code.NOT_FOUND, "used"


async def test_wrong_codes_at_the_same_time_are_all_counted(tmp_path: Path, phones: Phones) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **OFFERED) as relay, await granted(relay.url, owner) as alice:
        await alice.ask(lambda n: frames.NumberClaim(n, ONE))
        wrong = f"{(int(phones.code(ONE)) + 1) % 10**6:06d}"
        peers = [await Peer.own(relay.url, owner) for _ in range(8)]
        answers = await asyncio.gather(*(peer.ask(lambda n: frames.NumberConfirm(n, ONE, wrong)) for peer in peers))
        for peer in peers:
            await peer.close()
        codes = sorted(answer.code for answer in answers)
        assert codes == [Code.UNAUTHORIZED] * limits.NUMBER_CODE_TRIES + [Code.NOT_FOUND] * 3


async def test_text_messages_are_limited_by_number_mailbox_and_relay(
    tmp_path: Path, any_store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovedClock()
    async with relay_in_process(tmp_path, clock=clock, **OFFERED, **any_store) as relay:

        async def texts(peer: Peer, number: str, count: int) -> list[Any]:
            answers = [await peer.ask(lambda n: frames.NumberClaim(n, number)) for _ in range(count)]
            return [getattr(each, "code", 0) for each in answers]

        async with await granted(relay.url, Owner()) as alice, await granted(relay.url, Owner(100)) as bob:
            assert await texts(alice, ONE, 4) == [0] * TEXTS_TO_NUMBER.units + [Code.BUDGET]
            assert await texts(bob, ONE, 1) == [Code.BUDGET], "whoever asks"
            assert await texts(alice, TWO, 2) == [0, Code.BUDGET], "one mailbox has so many"
            clock.advance(max(TEXTS_TO_NUMBER.seconds, TEXTS_OF_MAILBOX.seconds))
            assert await texts(alice, ONE, 2) == [0, Code.BUDGET]
    monkeypatch.setattr(numbers, "NUMBER_TEXTS", 1)
    async with relay_in_process(tmp_path / "another", **OFFERED) as relay:
        for owner, expected in ((Owner(), frames.Done), (Owner(100), frames.Error)):
            async with await granted(relay.url, owner) as peer:
                assert isinstance(await peer.ask(lambda n: frames.NumberClaim(n, THREE)), expected)


async def test_a_sender_that_fails_leaves_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"a shared secret of the test")
    nobody = "sms=Nobody;Nowhere;none"
    nowhere: dict[str, Any] = {
        "sms": "http://127.0.0.1:1/",
        "sms_secret": secret,
        "processors": (nobody,),
    }
    async with (
        relay_in_process(tmp_path, purposes=("number",), **nowhere) as relay,
        await granted(relay.url, Owner(), processors.parse(nobody)) as alice,
    ):
        assert (await alice.ask(lambda n: frames.NumberClaim(n, ONE))).code == Code.UNAVAILABLE
        assert (await alice.ask(lambda n: frames.NumberConfirm(n, ONE, "123456"))).code == Code.NOT_FOUND


async def test_a_number_is_one_mailboxs_and_moves_with_its_holder(
    tmp_path: Path, any_store: dict[str, Any], phones: Phones
) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner()) as old,
        await granted(relay.url, Owner(100)) as new,
    ):
        await verify(old, phones, ONE)
        await put_number(old, tmp_path, ONE, b"old")
        assert isinstance(await verify(new, phones, ONE), frames.Done)
        entry = entry_of(await find(new, tmp_path, Kind.NUMBER, ONE))
        assert await read_number(new, entry) is None, "the old one's record is gone"
        assert (await put_number_anywhere(old)).code == Code.UNAUTHORIZED
        assert isinstance(await put_number(new, tmp_path, ONE, b"new"), frames.Done)
        assert await read_number(new, entry) == b"new"
        assert isinstance(await old.ask(frames.NumberDelete), frames.Done)
        assert await read_number(new, entry) == b"new", "who has it no more deletes nothing"
        assert isinstance(await verify(new, phones, TWO), frames.Done)
        await put_number(new, tmp_path, TWO, b"second")
        assert await read_number(new, entry) is None, "one mailbox has one number"
        assert await read_number(new, entry_of(await find(new, tmp_path, Kind.NUMBER, TWO))) == b"second"
        assert isinstance(await verify(new, phones, TWO), frames.Done)
        assert await read_number(new, entry_of(await find(new, tmp_path, Kind.NUMBER, TWO))) == b"second"


@pytest.mark.parametrize("how", ["delete", "withdraw", "erase"])
async def test_it_is_erased(tmp_path: Path, any_store: dict[str, Any], phones: Phones, how: str) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner(100)) as bob,
    ):
        await verify(bob, phones, TWO)
        async with await granted(relay.url, Owner()) as alice:
            await verify(alice, phones, ONE)
            await put_number(alice, tmp_path, ONE)
            entry = entry_of(await find(bob, tmp_path, Kind.NUMBER, ONE))
            assert await read_number(bob, entry) == b"invite"
            if how == "withdraw":
                await withdraw(alice, Purpose.NUMBER)
                await consent(alice, Purpose.NUMBER)
                assert (await find(alice, tmp_path, Kind.NUMBER, ONE)).code == Code.UNAUTHORIZED  # type: ignore[union-attr]
            else:
                build: Callable[[int], Any] = frames.NumberDelete if how == "delete" else frames.MailboxDelete
                assert not isinstance(await alice.ask(build), frames.Error)
        assert await read_number(bob, entry) is None


async def test_two_nodes_share_a_numbers_budget_and_it_stays_with_the_number(
    tmp_path: Path, redis_url: str, phones: Phones, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "PACE", Pace(units=6, seconds=limits.NUMBER_QUERY_SECONDS))
    url, clock = f"{redis_url}?prefix=test-{os.urandom(8).hex()}", MovedClock()
    key = tmp_path / "shared" / "oprf.key"
    key.parent.mkdir()
    shared: dict[str, Any] = {"redis": url, "oprf_key": key, "clock": clock, **OFFERED}
    owner = Owner()
    async with (
        relay_in_process(tmp_path / "one", **shared) as one,
        relay_in_process(tmp_path / "two", **shared) as two,
        await granted(one.url, owner) as here,
        await granted(two.url, owner) as there,
        await granted(two.url, Owner(100)) as other,
    ):
        await verify(here, phones, ONE)
        for peer in (here, there, here, there, here):
            entry_of(await find(peer, key.parent, Kind.NUMBER, TWO))
        assert isinstance(await there.ask(lambda n: frames.NumbersGet(n, 1, b"")), frames.Numbers)
        for peer in (here, there):
            assert (await find(peer, key.parent, Kind.NUMBER, TWO)).code == Code.BUDGET  # type: ignore[union-attr]
            assert (await peer.ask(lambda n: frames.NumbersGet(n, 1, b""))).code == Code.BUDGET
        await verify(other, phones, ONE)
        assert (await find(other, key.parent, Kind.NUMBER, TWO)).code == Code.BUDGET, "it goes with the number"  # type: ignore[union-attr]
        clock.advance(limits.NUMBER_QUERY_SECONDS)
        entry_of(await find(other, key.parent, Kind.NUMBER, TWO))


@pytest.mark.parametrize("how", ["withdraw", "delete"])
async def test_erasing_while_a_record_is_put_leaves_none(
    tmp_path: Path, phones: Phones, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The number goes between the look at it and the record: what was written is erased again."""
    owner = Owner()
    async with (
        relay_in_process(tmp_path, **OFFERED) as relay,
        await granted(relay.url, owner) as alice,
        await granted(relay.url, owner) as elsewhere,
    ):
        await verify(alice, phones, ONE)
        entry = entry_of(await find(alice, tmp_path, Kind.NUMBER, ONE))
        key = OprfKey.open(tmp_path / "oprf.key", make=False)
        record = key.slot("record", entry.place, entry.place[0])

        async def erase() -> None:
            if how == "withdraw":
                await withdraw(elsewhere, Purpose.NUMBER)
            else:
                await elsewhere.ask(frames.NumberDelete)

        before_putting(monkeypatch, relay.store, record, erase)
        answer = await alice.ask(lambda n: frames.NumberPut(n, sealed(entry, b"late")))
        assert isinstance(answer, frames.Error) == (how == "withdraw")
        assert await relay.store.get_slot(record) is None
        assert await relay.store.get_slot(key.slot("list", entry.place[:1], entry.place[0])) is None
