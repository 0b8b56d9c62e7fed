"""Diagnostics: nothing without consent, and nothing in them that is anywhere else in a client's traffic."""

import re
from pathlib import Path

import pytest

from restante import Client, diagnostics
from restante.engine import usage
from restante_protocol.diagnostics import CLASSES, MAX_DELAY, PERIOD, Measure
from support.crowd import crowded
from support.people import Reader, people, together
from support.recorder import Recorded, Recorder, recorded
from support.relay import relay_in_process

GET = rb"GET /v1/diagnostics HTTP/1\.1\r\nHost: 127\.0\.0\.1:\d+\r\n\r\n"
POST = rb"POST /v1/diagnostics/[a-z]+/\d HTTP/1\.1\r\nHost: 127\.0\.0\.1:\d+\r\nContent-Length: 0\r\n\r\n"
ALL = {f"POST /v1/diagnostics/{each}/{n}".encode() for each, count in CLASSES.items() for n in range(count)}


def reports(recorder: Recorder) -> list[Recorded]:
    return [each for each in recorder.connections if b"/v1/diagnostics" in each.sent]


def counted(client: Client) -> int | None:
    """How many messages this process has counted; None: it does not count."""
    counts = client._driver.diagnostics.counts
    return counts.messages if counts is not None else None


def kept(client: Client) -> bytes | None:
    return client._engine._tables.account.get(usage._KEY)


async def later(reader: Reader) -> None:
    """The period and its delay are over: what is due is sent."""
    client = reader.client
    await client._driver.diagnostics.look()
    state = client._engine._state
    clock, state.clock = state.clock, lambda: clock() + (PERIOD + MAX_DELAY) * 1000
    try:
        await client._driver.diagnostics.look()
    finally:
        state.clock = clock


async def test_no_identifier_is_shared_with_any_other_traffic(tmp_path: Path) -> None:
    async with (
        crowded(tmp_path / "relay") as relay,
        recorded(relay.url) as recorder,
        people(tmp_path, recorder.url, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        room, _, _ = await together(alice, bob, carol)
        for reader in (alice, bob):
            await reader.client.consent("diagnostics")
        await room.send("something else")
        await bob.reads("something else")
        for reader in (alice, bob, carol):
            await later(reader)
        found = reports(recorder)
        asked = [bytes(each.sent) for each in found if each.sent.startswith(b"GET")]
        told = [bytes(each.sent) for each in found if each.sent.startswith(b"POST")]
        assert (len(found), len(asked), len(told)) == (4, 2, 2), (
            "each on a connection of its own; carol's are not there"
        )
        assert all(re.fullmatch(GET, each) for each in asked)
        assert all(re.fullmatch(POST, each) for each in told), "nothing but a measure, a class, and the relay's name"
        assert len(set(asked)) == 1, "all clients ask in the same bytes"
        assert {each.partition(b" HTTP/1.1")[0] for each in told} <= ALL, "one of 18 that every client may send"
        assert not any(b"Set-Cookie" in each.answered for each in found)
        await relay.diagnostics.flush()
        shown = await relay.diagnostics.shown()
        assert sum(map(sum, shown["reported"].values())) == 2


async def test_below_fifty_mailboxes_nothing_is_sent(tmp_path: Path) -> None:
    async with (
        relay_in_process(tmp_path / "relay", purposes=("diagnostics",)) as relay,
        recorded(relay.url) as recorder,
        people(tmp_path, recorder.url, "alice") as (alice,),
    ):
        await alice.client.consent("diagnostics")
        await later(alice)
        assert [bytes(each.sent[:4]) for each in reports(recorder)] == [b"GET "]


async def test_withdrawing_stops_collecting_and_the_sums_stay(tmp_path: Path) -> None:
    async with (
        crowded(tmp_path / "relay") as relay,
        recorded(relay.url) as recorder,
        people(tmp_path, recorder.url, "alice", "bob") as (alice, bob),
    ):
        room, _ = await together(alice, bob)
        await room.send("not counted")
        run = alice.client._driver.run
        assert counted(alice.client) is None
        await later(alice)
        assert (reports(recorder), await run(kept, alice.client)) == ([], None)
        await alice.client.consent("diagnostics")
        await room.send("counted")
        assert counted(alice.client) == 1
        await later(alice)
        assert await run(kept, alice.client) is not None
        assert len(reports(recorder)) == 2
        await alice.client.withdraw("diagnostics")
        assert (counted(alice.client), await run(kept, alice.client)) == (None, None)
        await room.send("not counted again")
        await later(alice)
        assert len(reports(recorder)) == 2
        await relay.diagnostics.flush()
        assert sum(map(sum, (await relay.diagnostics.shown())["reported"].values())) == 1


async def test_a_relay_that_does_not_answer_gets_nothing_again(tmp_path: Path) -> None:
    assert not await diagnostics.send("http://127.0.0.1:1", Measure.USE, 0)
    with pytest.raises(ValueError, match="a channel is"):
        async with Client.open(tmp_path / "a.db", relay="http://127.0.0.1:1", passphrase="p", channel="spam"):
            pass
