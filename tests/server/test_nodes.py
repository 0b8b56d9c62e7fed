"""Several relays over one Redis store: whichever a client is connected to, it is the same relay."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import ADDRESS_CLAIMS, PREKEYS_LOW_MARK
from restante_server.app import Relay
from support.people import people, together
from support.relay import TIMEOUT, Owner, Peer, relay_in_process

SUITE = 3


@pytest.fixture(params=["redis", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """A store of its own."""
    base = request.getfixturevalue(f"{request.param}_url")
    return f"{base}?prefix=test-{os.urandom(8).hex()}"


@contextlib.asynccontextmanager
async def nodes(folder: Path, url: str) -> AsyncIterator[tuple[Relay, Relay]]:
    async with (
        relay_in_process(folder / "first", redis=url) as first,
        relay_in_process(folder / "second", redis=url) as second,
    ):
        yield first, second


async def drained(peer: Peer) -> None:
    assert isinstance(await peer.next(), frames.Drained)


async def test_people_on_two_nodes_talk(tmp_path: Path, url: str) -> None:
    async with (
        nodes(tmp_path, url) as (first, second),
        people(tmp_path, first.url, "alice") as (alice,),
        people(tmp_path, second.url, "bob") as (bob,),
    ):
        a, _ = await together(alice, bob)
        await a.send("hello")
        await bob.reads("hello")
        await bob.got[0].reply("hi")
        await alice.reads("hi")


async def test_nodes_have_one_key_and_keep_a_copy(tmp_path: Path, url: str) -> None:
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.connect(first.url) as one,
        await Peer.connect(second.url) as other,
    ):
        assert one.welcome.relay_key == other.welcome.relay_key
        assert one.welcome.level == first.store.level
    keys = [(tmp_path / name / "relay.key").read_bytes() for name in ("first", "second")]
    assert keys[0] == keys[1]


async def test_what_comes_in_here_goes_out_there(tmp_path: Path, url: str) -> None:
    owner = Owner()
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.own(first.url, owner) as receiver,
        await Peer.connect(first.url) as here,
        await Peer.connect(second.url) as there,
    ):
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        await drained(receiver)
        for number in range(10):
            assert isinstance(
                await (there if number % 2 else here).deposit([address], b"%d" % number), frames.Deposited
            )
        entries = await receiver.entries(10)
        assert [each.entry.body for each in entries] == [b"%d" % number for number in range(10)]
        await receiver.acknowledge(entries[-1].sequence)
        await there.deposit([address], b"typing", flags=frames.FLAG_EPHEMERAL)
        (ephemeral,) = await receiver.entries(1)
        assert (ephemeral.sequence, ephemeral.entry.body) == (0, b"typing")


async def test_a_burst_from_everywhere_arrives_once_and_in_order(tmp_path: Path, url: str) -> None:
    owner = Owner()
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.own(first.url, owner) as receiver,
        await Peer.connect(first.url) as here,
        await Peer.connect(second.url) as there,
    ):
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        for number in range(100):
            for name, sender in (("here", here), ("there", there)):
                body = f"{name} {number}".encode()
                await sender.send(
                    lambda n, body=body: frames.Deposit(n, os.urandom(16), [address], body, 3600, None, 0)
                )
        got: dict[str, list[int]] = {"here": [], "there": []}
        sequences: list[int] = []
        while len(sequences) < 200:
            each = await receiver.next()
            if isinstance(each, frames.Drained):
                continue
            name, number = each.entry.body.decode().split()
            got[name].append(int(number))
            sequences.append(each.sequence)
            await receiver.acknowledge(each.sequence)
        assert got == {"here": list(range(100)), "there": list(range(100))}
        assert sequences == sorted(set(sequences))


async def test_the_newest_connection_wins_wherever_it_is(tmp_path: Path, url: str) -> None:
    owner = Owner()
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.own(first.url, owner) as older,
        await Peer.own(second.url, owner) as newer,
    ):
        await older.subscribe()
        await drained(older)
        await newer.subscribe()
        error = await older.next()
        assert (error.code, await older.next()) == (Code.REPLACED, 1008)
        await drained(newer)


async def test_a_mailbox_deleted_there_is_closed_here(tmp_path: Path, url: str) -> None:
    owner = Owner()
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.own(first.url, owner) as subscribed,
        await Peer.own(second.url, owner) as other,
    ):
        await subscribed.subscribe()
        await drained(subscribed)
        assert isinstance(await other.ask(frames.MailboxDelete), frames.Erased)
        assert (await subscribed.next()).code == Code.STALE


async def test_an_owner_hears_of_claims_at_other_nodes(tmp_path: Path, url: str) -> None:
    owner = Owner()
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.own(first.url, owner) as receiver,
        await Peer.connect(second.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        packages = [b"package"] * PREKEYS_LOW_MARK
        await receiver.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, packages, b"", replace=False))
        await receiver.subscribe()
        await drained(receiver)
        claimed = await sender.ask(lambda n: frames.Claim(n, SUITE, [address]))
        assert claimed.prekeys[0].number == 1
        assert await receiver.next() == frames.PrekeysLow(SUITE, PREKEYS_LOW_MARK - 1)


async def test_a_spent_address_is_told_of_at_the_other_node(tmp_path: Path, url: str) -> None:
    owner = Owner()
    async with (
        nodes(tmp_path, url) as (first, second),
        await Peer.own(first.url, owner) as receiver,
        await Peer.connect(second.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        await drained(receiver)
        await sender.ask(lambda n: frames.Claim(n, SUITE, [address] * (ADDRESS_CLAIMS + 1)))
        assert await receiver.next() == frames.AddressSpent(address)


async def test_nodes_restart_one_after_the_other(tmp_path: Path, url: str) -> None:
    owner = Owner()
    sent: list[bytes] = []
    got: list[bytes] = []
    async with contextlib.AsyncExitStack() as second_life:
        async with relay_in_process(tmp_path / "first", redis=url) as first:
            second = await second_life.enter_async_context(relay_in_process(tmp_path / "second", redis=url))
            async with await Peer.own(first.url, owner) as receiver, await Peer.connect(second.url) as sender:
                address = await receiver.add_address(owner.address())
                answer = await receiver.subscribe()
                await drained(receiver)
                for number in range(20):
                    sent.append(b"%d" % number)
                    await sender.deposit([address], sent[-1])
                entries = await receiver.entries(20)
                got += [each.entry.body for each in entries]
                await receiver.acknowledge(entries[-1].sequence)
                await receiver.ask(frames.Status)  # the acknowledgement has arrived
                seen = entries[-1].sequence
        async with await Peer.connect(second.url) as sender:
            sent.append(b"while the first was away")
            await sender.deposit([address], sent[-1])
        async with await Peer.own(second.url, owner, create=False) as receiver:
            again = await receiver.subscribe(answer.incarnation, seen)
            assert again.incarnation == answer.incarnation
            got += [each.entry.body for each in await receiver.entries(1)]
            await drained(receiver)
    assert got == sent


async def test_workers_share_a_port(tmp_path: Path, redis_url: str) -> None:
    url = f"{redis_url}?prefix=test-{os.urandom(8).hex()}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "restante_server", "serve", "--listen=127.0.0.1:0", "--workers=2"),
        *(f"--store={url}", f"--state={tmp_path}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("ready http://127.0.0.1:"), line
    relay = line.split()[1]
    owners = [Owner() for _ in range(8)]
    receivers = [await Peer.own(relay, owner) for owner in owners]
    addresses = []
    for owner, receiver in zip(owners, receivers, strict=True):
        addresses.append(await receiver.add_address(owner.address()))
        await receiver.subscribe()
    senders = [await Peer.connect(relay) for _ in range(8)]
    for number, sender in enumerate(senders):
        assert await sender.deposit(addresses, b"%d" % number) == frames.Deposited(1, [])
    for receiver in receivers:
        found: list[bytes] = []
        while len(found) < len(senders):
            if not isinstance(each := await receiver.next(), frames.Drained):
                found.append(each.entry.body)
        assert found == [b"%d" % number for number in range(8)]
    for peer in (*receivers, *senders):
        await peer.close()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(TIMEOUT):
        rest, _ = await process.communicate()
    assert (process.returncode, rest) == (0, b"")
