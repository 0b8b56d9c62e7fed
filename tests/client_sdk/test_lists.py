"""Lists of addresses on the anonymous connection, when the relay has no room for them. PROTOCOL.md section 6.4."""

from pathlib import Path

import pytest

from restante import Queued, lists
from restante.links import RETRY_SECONDS
from restante_protocol import frames, limits
from restante_server.app import Relay
from restante_server.services import relay as shared
from support.people import Reader, people, together
from support.relay import Peer, relay_in_process

pytestmark = pytest.mark.one_relay


@pytest.fixture(autouse=True)
def _every_deposit_goes_to_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LIST_FROM", 1)
    monkeypatch.setattr(shared, "PROCESS_LIST_ADDRESSES", 10)


async def _taken(relay: Relay) -> Peer:
    """Take all the lists that the relay has left."""
    stranger = await Peer.connect(relay.url)
    handle = 0
    while isinstance(await stranger.ask(lambda n, h=handle: frames.ListPut(n, h, [bytes(24)])), frames.Done):
        handle += 1
    return stranger


async def _talk(alice: Reader, bob: Reader, *texts: str) -> None:
    room = await alice.client.start_conversation(await bob.client.invite())
    for text in texts:
        await room.send(text)


async def test_who_takes_all_lists_stops_nobody(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, await _taken(relay):
        async with people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
            await _talk(alice, bob, "one", "two")
            await bob.reads("one", "two")
        assert relay.metrics.registry.get_sample_value("restante_refusals_total", {"code": "full"})


async def test_what_only_a_list_can_carry_waits_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        room, _ = await together(alice, bob)
        await alice.client.drained()
        stranger = await _taken(relay)
        monkeypatch.setattr(limits, "MAX_DEPOSIT_ADDRESSES", 0)
        alice.client._driver.outbox._lists = None  # as after another connection
        with pytest.raises(Queued):
            await room.send("waits", timeout=3 * RETRY_SECONDS)
        await stranger.close()
        await bob.reads("waits")


async def test_lists_make_room_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LISTS", 1)  # the relay's is another name
    async with (
        relay_in_process(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        rooms = [(await together(alice, bob))[0] for _ in range(3)]
        for number in range(9):
            await rooms[number % 3].send(str(number))
        await bob.reads(*map(str, range(9)))
        known = alice.client._driver.outbox._lists
        assert known is not None
        assert len(known._handles) == 1
