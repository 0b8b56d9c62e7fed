"""Who knows one address cannot take all packages; on every store."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import ADDRESS_CLAIM_SECONDS, ADDRESS_CLAIMS
from restante_server.app import Relay
from restante_server.stores.contract import StoreUnavailable
from support.relay import Owner, Peer, relay_in_process
from support.stores import MovedClock

SUITE = 3
PACKAGES = [bytes([number]) * 3 for number in range(100)]


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(params=["sqlite", "redis", "cluster"])
async def relay(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> AsyncIterator[Relay]:
    settings = {}
    if request.param != "sqlite":
        settings["redis"] = f"{request.getfixturevalue(f'{request.param}_url')}?prefix=test-{os.urandom(8).hex()}"
    async with relay_in_process(tmp_path, clock=clock, **settings) as running:
        yield running


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def owned(relay: Relay, owner: Owner) -> AsyncIterator[Peer]:
    async with await Peer.own(relay.url, owner) as peer:
        yield peer


@pytest.fixture
async def sender(relay: Relay) -> AsyncIterator[Peer]:
    async with await Peer.connect(relay.url) as peer:
        yield peer


async def fill(peer: Peer, last_resort: bytes = b"last") -> None:
    answer = await peer.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, PACKAGES, last_resort, False))
    assert isinstance(answer, frames.Done)


async def claim(sender: Peer, addresses: list[bytes]) -> list[tuple[int, int, bytes]]:
    claimed = await sender.ask(lambda n: frames.Claim(n, SUITE, addresses))
    return [(each.code, each.number, each.package) for each in claimed.prekeys]


def one_time(first: int, count: int) -> list[tuple[int, int, bytes]]:
    return [(0, number, PACKAGES[number - 1]) for number in range(first, first + count)]


LAST = [(0, 0, b"last")]


async def test_an_address_gives_so_many_then_the_last_resort_then_more(
    clock: MovedClock, owner: Owner, owned: Peer, sender: Peer
) -> None:
    one, other = [await owned.add_address(owner.address()) for _ in range(2)]
    await fill(owned)
    assert await claim(sender, [one] * (ADDRESS_CLAIMS + 2)) == one_time(1, ADDRESS_CLAIMS) + LAST * 2
    assert await claim(sender, [one, other, one]) == LAST + one_time(ADDRESS_CLAIMS + 1, 1) + LAST
    clock.advance(ADDRESS_CLAIM_SECONDS)
    assert await claim(sender, [one, one]) == one_time(ADDRESS_CLAIMS + 2, 1) + LAST


async def test_without_a_last_resort_it_is_empty(owner: Owner, owned: Peer, sender: Peer) -> None:
    address = await owned.add_address(owner.address())
    await fill(owned, b"")
    assert (await claim(sender, [address] * (ADDRESS_CLAIMS + 1)))[-1] == (Code.EMPTY, 0, b"")
    status = await owned.ask(frames.Status)
    assert [pool.left for pool in status.pools] == [len(PACKAGES) - ADDRESS_CLAIMS]


async def test_an_owner_who_is_there_is_told_once(clock: MovedClock, owner: Owner, owned: Peer, sender: Peer) -> None:
    address = await owned.add_address(owner.address())
    await fill(owned)
    await owned.subscribe()
    assert isinstance(await owned.next(), frames.Drained)
    await claim(sender, [address] * ADDRESS_CLAIMS)
    await claim(sender, [address] * 3)
    assert await owned.next() == frames.AddressSpent(address)
    await claim(sender, [address] * 3)
    clock.advance(ADDRESS_CLAIM_SECONDS)
    await claim(sender, [address] * 3)
    clock.advance(ADDRESS_CLAIMS * ADDRESS_CLAIM_SECONDS)
    await claim(sender, [address] * (ADDRESS_CLAIMS + 1))
    assert await owned.next() == frames.AddressSpent(address)


async def test_an_owner_who_comes_later_is_told_then(relay: Relay, owner: Owner, owned: Peer, sender: Peer) -> None:
    addresses = [await owned.add_address(owner.address()) for _ in range(2)]
    await fill(owned)
    for address in addresses:
        await claim(sender, [address] * (ADDRESS_CLAIMS + 1))
    await owned.subscribe()
    told = [await owned.next() for _ in range(3)]
    assert {each for each in told if not isinstance(each, frames.Drained)} == {
        frames.AddressSpent(address) for address in addresses
    }
    async with await Peer.own(relay.url, owner) as again:
        await again.subscribe()
        assert isinstance(await again.next(), frames.Drained)
        await sender.deposit([addresses[0]])
        await again.entries(1)


async def test_revoked_and_unknown_addresses_have_no_budget(owner: Owner, owned: Peer, sender: Peer) -> None:
    address = await owned.add_address(owner.address())
    await fill(owned)
    await claim(sender, [address] * ADDRESS_CLAIMS)
    await owned.ask(lambda n: frames.AddressRevoke(n, [address]))
    gone = (Code.GONE, 0, b"")
    assert await claim(sender, [address, bytes(24)] * (ADDRESS_CLAIMS + 1)) == [gone] * (2 * ADDRESS_CLAIMS + 2)
    await owned.subscribe()
    assert isinstance(await owned.next(), frames.Drained)


async def test_claims_go_on_when_nobody_can_be_told(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, owner: Owner, owned: Peer, sender: Peer
) -> None:
    async def fail(_address: bytes) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(relay.store, "mark_spent", fail)
    address = await owned.add_address(owner.address())
    await fill(owned)
    assert (await claim(sender, [address] * (ADDRESS_CLAIMS + 1)))[-1:] == LAST
