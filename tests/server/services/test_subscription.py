import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from restante_protocol import frames
from restante_protocol.connection import NumberedEntry
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_BODY_BYTES, MAX_LARGE_BODY_BYTES, WINDOW_BYTES, WINDOW_ENTRIES
from restante_server.app import Relay
from restante_server.services import subscription
from restante_server.services.subscription import Subscription
from restante_server.stores.sqlite import SqliteStore
from support.relay import Owner, Peer, relay_in_process
from support.waiting import until


async def test_the_life_of_a_message(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert await receiver.next() == frames.Drained(0)
        message_id = os.urandom(16)
        deposited = await sender.deposit([address], b"sealed", message_id=message_id)
        assert deposited.failed == []
        (numbered,) = await receiver.entries(1)
        assert numbered.entry == frames.Entry(message_id, b"sealed", None)
        await receiver.acknowledge(numbered.sequence)
        status = await receiver.ask(frames.Status)
        assert (status.entries, status.size, status.sequence) == (0, 0, numbered.sequence)


async def test_backlog_comes_in_order_and_then_live(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        for number in range(5):
            await sender.deposit([address], b"%d" % number)
        await receiver.subscribe()
        backlog = await receiver.entries(5)
        drained = await receiver.next()
        assert drained == frames.Drained(backlog[-1].sequence)
        await sender.deposit([address], b"5")
        every = [*backlog, *await receiver.entries(1)]
        assert [each.entry.body for each in every] == [b"0", b"1", b"2", b"3", b"4", b"5"]
        assert sorted({each.sequence for each in every}) == [each.sequence for each in every]


async def test_window_stops_delivery_until_entries_are_acknowledged(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        numbers = [
            await sender.send(lambda n, i=i: frames.Deposit(n, os.urandom(16), [address], b"%d" % i, 3600, None, 0))
            for i in range(WINDOW_ENTRIES - 1)
        ]
        for number in numbers:
            await sender.answer(number)
        for i in range(WINDOW_ENTRIES - 1, WINDOW_ENTRIES + 50):
            await sender.deposit([address], b"%d" % i)
        first = await receiver.entries(WINDOW_ENTRIES)
        await receiver.ask(frames.Status)
        assert not receiver.pushed, "nothing came before the answer: the window is full"
        await receiver.acknowledge(first[-1].sequence)
        rest = await receiver.entries(50)
        assert [int(each.entry.body) for each in first + rest] == list(range(WINDOW_ENTRIES + 50))


@pytest.mark.database_file
async def test_a_window_is_filled_before_anything_waits_for_its_acknowledgement(relay: Relay) -> None:
    """Also by entries of one commit that do not all fit: who acknowledges only a whole window would wait for ever."""
    assert isinstance(relay.store, SqliteStore)
    owner, other = Owner(), Owner()
    async with (
        await Peer.own(relay.url, owner) as receiver,
        await Peer.own(relay.url, other) as another,
        await Peer.connect(relay.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        both = [address, await another.add_address(other.address())]
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        for i in range(WINDOW_ENTRIES - 3):
            await sender.deposit([address], b"%d" % i)
        await sender.ask(lambda n: frames.ListPut(n, 1, both))
        commits = threading.Event()
        waiting = relay.store._writer.submit_apart(lambda _db: commits.wait())
        together = [
            await sender.send(lambda n, i=i: frames.Deposit(n, os.urandom(16), 1, b"%d" % i, 3600, None, 0))
            for i in range(WINDOW_ENTRIES - 3, WINDOW_ENTRIES + 2)
        ]
        await sender.ask(lambda n: frames.ListPut(n, 2, [address]))  # all of these have been read
        commits.set()
        await waiting
        for number in together:
            await sender.answer(number)
        first = await receiver.entries(WINDOW_ENTRIES)
        await receiver.acknowledge(first[-1].sequence)
        assert [int(each.entry.body) for each in first + await receiver.entries(2)] == list(range(WINDOW_ENTRIES + 2))


async def test_who_falls_behind_again_and_again_misses_nothing(tmp_path: Path, any_store: dict[str, Any]) -> None:
    """Windows fill exactly, and what catches up with them reads while others are committed."""
    count, size = 320, WINDOW_BYTES // 16
    owner, other = Owner(), Owner()
    async with (
        relay_in_process(tmp_path / "relay", **any_store) as relay,
        await Peer.own(relay.url, owner) as receiver,
        await Peer.own(relay.url, other) as another,
        await Peer.connect(relay.url) as sender,
    ):
        both = [await receiver.add_address(owner.address()), await another.add_address(other.address())]
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        await sender.ask(lambda n: frames.ListPut(n, 1, both))

        async def deposit_all() -> None:
            in_flight: deque[int] = deque()
            for i in range(count):
                body = i.to_bytes(size, "big")
                in_flight.append(
                    await sender.send(lambda n, body=body: frames.Deposit(n, os.urandom(16), 1, body, 3600, None, 0))
                )
                if len(in_flight) == 8:
                    await sender.answer(in_flight.popleft())
            for number in in_flight:
                await sender.answer(number)

        depositing = asyncio.ensure_future(deposit_all())
        got: list[int] = []
        while len(got) < count:
            entries = await receiver.entries(16)
            await receiver.acknowledge(entries[-1].sequence)
            got += [int.from_bytes(each.entry.body, "big") for each in entries]
        await depositing
        assert got == list(range(count))


async def test_window_is_limited_in_bytes_but_lets_one_large_entry_through(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        for _ in range(3):
            await sender.deposit([address], bytes(500_000), flags=frames.FLAG_LARGE)
        await receiver.subscribe()
        for remaining in (2, 1, 0):
            (numbered,) = await receiver.entries(1)
            status = await receiver.ask(frames.Status)
            assert status.entries == remaining + 1
            assert not any(isinstance(each, NumberedEntry) for each in receiver.pushed)
            await receiver.acknowledge(numbered.sequence)
        assert isinstance(await receiver.next(), frames.Drained)


async def test_entries_of_every_size_arrive_as_they_were_sent(relay: Relay) -> None:
    owner = Owner()
    sizes = [1, 60, 80, 90, 100, 125, 126, 127, 65_400, 65_535, 65_536, MAX_BODY_BYTES, MAX_LARGE_BODY_BYTES]
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        for size in sizes:
            body = os.urandom(size)
            await sender.deposit([address], body, flags=frames.FLAG_LARGE)
            (numbered,) = await receiver.entries(1)
            assert numbered.entry.body == body
            await receiver.acknowledge(numbered.sequence)


async def test_exceptions_stay_in_the_store(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.connect(relay.url) as sender:
        async with await Peer.own(relay.url, owner) as receiver:
            address = await receiver.add_address(owner.address())
            for number in range(4):
                await sender.deposit([address], b"%d" % number)
            await receiver.subscribe()
            every = await receiver.entries(4)
            await receiver.acknowledge(every[-1].sequence, every[1].sequence, every[2].sequence)
        async with await Peer.own(relay.url, owner) as again:
            subscribed = await again.subscribe()
            assert subscribed.acknowledged == every[-1].sequence
            assert [each.entry.body for each in await again.entries(2)] == [b"1", b"2"]
            await again.acknowledge(every[1].sequence)
            assert (await again.ask(frames.Status)).entries == 1


async def test_unacknowledged_entries_come_again(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.connect(relay.url) as sender:
        async with await Peer.own(relay.url, owner) as receiver:
            address = await receiver.add_address(owner.address())
            await receiver.subscribe()
            await sender.deposit([address], b"twice")
            assert isinstance(await receiver.next(), frames.Drained)
            first = await receiver.entries(1)
        async with await Peer.own(relay.url, owner) as again:
            await again.subscribe()
            second = await again.entries(1)
            assert second[0].sequence == first[0].sequence


async def test_what_was_never_sent_cannot_be_acknowledged(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        await receiver.acknowledge(2**62)
        await receiver.ask(frames.Status)
        await sender.deposit([address], b"later")
        assert isinstance(await receiver.next(), frames.Drained)
        assert [each.entry.body for each in await receiver.entries(1)] == [b"later"]


async def test_newest_connection_wins(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as older, await Peer.connect(relay.url) as sender:
        address = await older.add_address(owner.address())
        await older.subscribe()
        assert isinstance(await older.next(), frames.Drained)
        async with await Peer.own(relay.url, owner) as newer:
            await newer.subscribe()
            error = await older.next()
            assert (error.request, error.code) == (0, Code.REPLACED)
            assert await older.next() == 1008
            assert isinstance(await newer.next(), frames.Drained)
            await sender.deposit([address], b"to the newer")
            assert [each.entry.body for each in await newer.entries(1)] == [b"to the newer"]


async def test_stale_acknowledgement_closes(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        subscribed = await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        receiver.subscribed = frames.Subscribed(0, subscribed.incarnation, bytes(8), 0, [])
        await receiver.acknowledge(1)
        error = await receiver.next()
        assert (error.request, error.code) == (0, Code.STALE)
        assert await receiver.next() == 1008


async def test_slow_reader_costs_no_memory_and_loses_nothing(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        body = bytes(90_000)
        for number in range(150):  # 13 MB that are not read
            deposited = await sender.deposit([address], number.to_bytes(4, "big") + body)
            assert deposited.failed == []
        seen: list[int] = []
        while len(seen) < 150:
            (numbered,) = await receiver.entries(1)
            seen.append(int.from_bytes(numbered.entry.body[:4], "big"))
            await receiver.acknowledge(numbered.sequence)
        assert seen == list(range(150))


async def test_who_acknowledges_without_reading_costs_no_memory_either(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        body = bytes(90_000)
        for number in range(250):  # 22 MB, more than the sockets hold
            await sender.deposit([address], number.to_bytes(4, "big") + body)
            await receiver.acknowledge(2**62)
        for number in range(250):
            (numbered,) = await receiver.entries(1)
            assert int.from_bytes(numbered.entry.body[:4], "big") == number
            await receiver.acknowledge(numbered.sequence)
        read = relay.metrics.registry.get_sample_value("restante_entries_read_total")
        assert read, "it fell behind and read on from the store"


async def test_many_recipients_get_the_same_entry(relay: Relay) -> None:
    owners = [Owner(bucket) for bucket in range(20)]
    receivers = [await Peer.own(relay.url, owner) for owner in owners]
    addresses = [await receiver.add_address(owner.address()) for receiver, owner in zip(receivers, owners, strict=True)]
    for receiver in receivers:
        await receiver.subscribe()
    async with await Peer.connect(relay.url) as sender:
        await sender.deposit(addresses, b"to all")
    for receiver in receivers:
        assert isinstance(await receiver.next(), frames.Drained)
        assert [each.entry.body for each in await receiver.entries(1)] == [b"to all"]
        await receiver.close()


async def test_ephemeral_is_delivered_to_who_is_connected_and_not_stored(relay: Relay) -> None:
    present, absent = Owner(), Owner()
    async with await Peer.connect(relay.url) as sender:
        async with await Peer.own(relay.url, absent) as receiver:
            absent_address = await receiver.add_address(absent.address())
        async with await Peer.own(relay.url, present) as receiver:
            address = await receiver.add_address(present.address())
            await receiver.subscribe()
            assert isinstance(await receiver.next(), frames.Drained)
            answer = await sender.deposit([address, absent_address, bytes(24)], b"typing", flags=frames.FLAG_EPHEMERAL)
            assert answer.failed == [(2, Code.GONE)]
            (numbered,) = await receiver.entries(1)
            assert (numbered.sequence, numbered.entry.body) == (0, b"typing")
        async with await Peer.own(relay.url, absent) as receiver:
            assert (await receiver.ask(frames.Status)).entries == 0


async def test_more_ephemerals_at_once_than_a_window_holds_are_dropped(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        body = bytes(MAX_LARGE_BODY_BYTES)
        flags = frames.FLAG_EPHEMERAL | frames.FLAG_LARGE
        assert (await sender.deposit([address] * 1000, body, flags=flags)).failed == []
        assert (await sender.deposit([address] * 1000, b"typing", flags=frames.FLAG_EPHEMERAL)).failed == []
        assert await receiver.ask(frames.Status)
        came = [each.entry.body for each in receiver.pushed]
        assert came[0] == body, "one is always sent"
        assert came[1:].count(b"typing") == len(came) - 1, "and not the other 999"


async def test_deleted_mailbox_ends_its_connections(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as subscribed, await Peer.own(relay.url, owner) as deleting:
        await subscribed.subscribe()
        assert isinstance(await subscribed.next(), frames.Drained)
        assert isinstance(await deleting.ask(frames.MailboxDelete), frames.Erased)
        assert await deleting.next() == 1000
        error = await subscribed.next()
        assert (error.request, error.code) == (0, Code.STALE)
    async with await Peer.own(relay.url, owner, create=False) as again:
        answer = await again.ask(frames.Status)
        assert answer.code == Code.NO_MAILBOX


# Acknowledgements on their way to the store.


@pytest.fixture
async def told(
    any_store: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Relay, list[int]]]:
    """A relay on each store, and the sequences up to which it told the store."""
    async with relay_in_process(tmp_path / "relay", **any_store) as relay:
        sequences: list[int] = []
        acknowledge = relay.store.acknowledge

        def count(*order: Any) -> "bool | asyncio.Future[bool]":  # noqa: ANN401 -- as the store's
            sequences.append(order[3])
            return acknowledge(*order)

        monkeypatch.setattr(relay.store, "acknowledge", count)
        yield relay, sequences


async def acknowledge_each(relay: Relay, receiver: Peer, owner: Owner, count: int) -> list[int]:
    """Deliver so many entries and acknowledge each by itself; return their sequences."""
    address = await receiver.add_address(owner.address())
    await receiver.subscribe()
    assert isinstance(await receiver.next(), frames.Drained)
    sequences = []
    async with await Peer.connect(relay.url) as sender:
        for number in range(count):
            await sender.deposit([address], b"body %d" % number)
            (numbered,) = await receiver.entries(1)
            await receiver.acknowledge(numbered.sequence)
            sequences.append(numbered.sequence)
    return sequences


async def test_a_store_that_is_asked_hears_of_one_and_then_of_many_together(
    told: tuple[Relay, list[int]], any_store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, heard = told
    monkeypatch.setattr(subscription, "ACKNOWLEDGE_SECONDS", 1000)
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        sequences = await acknowledge_each(relay, receiver, owner, 5)
        status = await receiver.ask(frames.Status)
        assert (status.entries, status.sequence) == (0, sequences[-1]), "whoever asks is answered as of now"
        assert heard == ([sequences[0], sequences[-1]] if any_store["redis"] else sequences)


async def test_what_is_exported_is_what_is_not_acknowledged(
    told: tuple[Relay, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, _ = told
    monkeypatch.setattr(subscription, "ACKNOWLEDGE_SECONDS", 1000)
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        await acknowledge_each(relay, receiver, owner, 3)
        exported = await receiver.ask(lambda n: frames.Export(n, b""))
        while exported.after:
            assert not [each for each in exported.held if each.value == b"body 2"]
            exported = await receiver.ask(lambda n, after=exported.after: frames.Export(n, after))
        assert not [each for each in exported.held if each.value == b"body 2"]


@pytest.mark.parametrize("closes_first", [True, False])
async def test_what_was_acknowledged_does_not_come_again_over_the_next_connection(
    told: tuple[Relay, list[int]], monkeypatch: pytest.MonkeyPatch, *, closes_first: bool
) -> None:
    relay, heard = told
    monkeypatch.setattr(subscription, "ACKNOWLEDGE_SECONDS", 1000)
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        sequences = await acknowledge_each(relay, receiver, owner, 4)
        if closes_first:
            await receiver.close()
            await until(lambda: heard[-1] == sequences[-1])
        else:  # it only has not heard of it yet
            await receiver.ask(frames.ConsentGet)
        async with await Peer.own(relay.url, owner) as again:
            subscribed = await again.subscribe()
            assert subscribed.acknowledged == sequences[-1]
            assert isinstance(await again.next(), frames.Drained)


async def test_what_comes_meanwhile_is_told_after_a_pause(
    told: tuple[Relay, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, heard = told
    monkeypatch.setattr(subscription, "ACKNOWLEDGE_SECONDS", 0.01)
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        sequences = await acknowledge_each(relay, receiver, owner, 20)
        await until(lambda: heard[-1] == sequences[-1])
        assert heard == sorted(heard)


async def test_whatever_has_to_know_what_is_gone_has_the_store_told_first(
    told: tuple[Relay, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, heard = told
    monkeypatch.setattr(subscription, "ACKNOWLEDGE_SECONDS", 1000)
    owner = Owner()
    delete = relay.store.delete_mailbox

    async def delete_mailbox(mailbox: bytes) -> None:
        heard.append(0)
        await delete(mailbox)

    monkeypatch.setattr(relay.store, "delete_mailbox", delete_mailbox)
    async with await Peer.own(relay.url, owner) as receiver:
        sequences = await acknowledge_each(relay, receiver, owner, 3)
        await receiver.ask(frames.ConsentGet)  # all have been read
        relay.hub.wake(owner.mailbox)
        await until(lambda: heard[-1] == sequences[-1])  # a page is not looked for past them
        async with await Peer.connect(relay.url) as sender:
            await sender.deposit([await receiver.add_address(owner.address())], b"last")
        (numbered,) = await receiver.entries(1)
        await receiver.acknowledge(numbered.sequence)
        assert isinstance(await receiver.ask(frames.MailboxDelete), frames.Erased)
        assert heard[-2:] == [numbered.sequence, 0], "or it would be told of a mailbox that is no more"


@dataclass
class Slow:
    """The subscription of a mailbox whose store answers when it is told to."""

    subscription: Subscription
    calls: list["asyncio.Future[bool]"] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    def acknowledge(self, *order: Any) -> "asyncio.Future[bool]":  # noqa: ANN401 -- as the store's
        self.sequences.append(order[3])
        self.calls.append(asyncio.get_running_loop().create_future())
        return self.calls[-1]

    async def answer(self) -> None:
        self.calls[-1].set_result(True)
        await asyncio.sleep(0)


@pytest.fixture
async def slow(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Slow]:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        for _ in range(5):
            await sender.deposit([address], b"body")
        await receiver.entries(5)
        made = Slow(relay.hub._subscriptions[owner.mailbox])
        monkeypatch.setattr(made.subscription, "_store", made)
        yield made
        monkeypatch.undo()


async def turns() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_waits_for_the_store_does_not_wait_for_what_comes_later(slow: Slow) -> None:
    first = slow.subscription._cursor - 4
    slow.subscription.acknowledge(first)
    slow.subscription.acknowledge(first + 1)
    waiting = asyncio.ensure_future(slow.subscription.settle())
    await turns()
    assert slow.sequences == [first]
    await slow.answer()
    await turns()
    assert slow.sequences == [first, first + 1], "without a pause"
    slow.subscription.acknowledge(first + 2)
    await slow.answer()
    await turns()
    assert waiting.done()
    assert slow.subscription.acknowledging, "of what came later"
    last = asyncio.ensure_future(slow.subscription.settle())
    await turns()
    await slow.answer()
    await last
    assert slow.sequences[-1] == first + 2


async def test_a_store_that_has_lost_acknowledgements_is_told_again(slow: Slow) -> None:
    first = slow.subscription._cursor - 4
    slow.subscription.acknowledge(first + 2)
    slow.subscription.remind(first)
    assert slow.sequences == [first + 2], "it has still to answer"
    await slow.answer()
    slow.subscription.remind(first + 2)
    assert slow.sequences == [first + 2], "it knows"
    slow.subscription.remind(first)
    assert slow.sequences == [first + 2, first + 2]
    await slow.answer()


async def test_the_next_connection_waits_for_the_last_acknowledgements_of_the_one_that_ends(
    slow: Slow, relay: Relay
) -> None:
    slow.subscription.acknowledge(slow.subscription._cursor)
    leaving = asyncio.ensure_future(relay.hub.remove(slow.subscription))
    await turns()
    assert not relay.hub.connected()
    subscribing = asyncio.ensure_future(relay.hub.settle(slow.subscription.mailbox))
    await turns()
    assert not subscribing.done()
    await slow.answer()
    await asyncio.gather(leaving, subscribing)
