"""A store moves from a file to Redis and back."""

import asyncio
import os
from pathlib import Path

import msgpack
import pytest
from typer.testing import CliRunner

from restante_protocol import limits
from restante_server import migrate
from restante_server.__main__ import cli
from restante_server.clock import system_clock
from restante_server.stores.contract import (
    AddressSpec,
    FenceLost,
    Pool,
    SeenPool,
    Status,
    Store,
    StoredEntry,
    StoredSlot,
    StoreRefused,
    Winner,
)
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import parse_redis
from restante_server.stores.sqlite import SqliteStore
from restante_server.stores.sqlite_schema import write_durably
from support.stores import (
    DAY,
    SUITE,
    acknowledge,
    address,
    code,
    deposit,
    fence,
    give_addresses,
    identifier,
    mailbox,
    make_mailbox,
    read_all,
    subscribe,
)

BOXES = 60  # of them some share a bucket


async def fill(store: Store) -> None:
    for number in range(BOXES):
        await make_mailbox(store, number, [number, 100 + number])
    everybody = [address(number) for number in range(BOXES)]
    for number in range(20):
        tag = fence(number) if number % 5 == 0 else None
        item = deposit(number, everybody, body=os.urandom(50 + number), fence=tag, large=number == 7)
        await store.deposit(item)
    for number in range(0, BOXES, 2):
        entries = await read_all(store, number)
        await acknowledge(store, number, entries[10].sequence, [entries[3].sequence])
    await store.put_addresses(mailbox(3), [AddressSpec(address(103), 7, 1)])
    await store.deposit(deposit(1000, [address(103)], body=b"by invite"))
    await store.deposit(deposit(1001, [address(104)], body=b"through one that is revoked"))
    await store.revoke_addresses(mailbox(4), [address(104)])
    await store.deposit(deposit(1002, [address(999)], body=b"for nobody", fence=fence(99)))
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"last", replace=False)
    await store.put_prekeys(mailbox(1), SUITE, 30, [b"30"], b"", replace=False)
    await store.claim(SUITE, [address(1)])
    await store.put_slot(identifier("slot", 1), 1, DAY, b"slot")
    await store.add_codes([code(1), code(2)], DAY)
    await store.create_mailbox(mailbox(BOXES), bytes(32), code(2))
    await store.delete_mailbox(mailbox(BOXES))
    await store.delete_mailbox(mailbox(5))


async def look(store: Store) -> tuple[object, ...]:
    boxes: list[tuple[Status | None, list[StoredEntry]]] = [
        (await store.status(mailbox(number)), list(await read_all(store, number))) for number in range(BOXES)
    ]
    winners: list[Winner | None] = [await store.winner(fence(number)) for number in (0, 5, 99)]
    resolved = list(await store.resolve([address(number) for number in range(200)]))
    return boxes, winners, resolved, await store.get_slot(identifier("slot", 1)), await store.totals()


@pytest.fixture(params=["redis", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """A store of its own."""
    give_addresses({100 + number: number for number in range(BOXES)})
    return f"{request.getfixturevalue(f'{request.param}_url')}?prefix=test-{os.urandom(8).hex()}"


async def test_a_store_moves_to_redis_and_back(tmp_path: Path, url: str) -> None:
    there, back = tmp_path / "there" / "relay.db", tmp_path / "back" / "relay.db"
    store: Store = await SqliteStore.open(there)
    await fill(store)
    before = await look(store)
    first = await subscribe(store, 1)
    await store.close()
    write_durably(there.with_name("relay.key"), bytes(range(32)))

    moved = await migrate.run(f"sqlite:{there}", url)
    assert moved.counts["mailbox"] == BOXES - 1
    store = await RedisStore.open(parse_redis(url))
    assert await look(store) == before
    again = await store.subscribe(mailbox(1), first.incarnation, first.last_sequence, [SeenPool(SUITE, 30, 1)])
    assert again is not None
    assert (again.incarnation, again.pools) == (first.incarnation, (Pool(SUITE, 30, 1, 2, last_resort=True),))
    assert await store.deposit(deposit(5000, [address(1)], fence=fence(0))) == FenceLost()
    await store.close()

    assert await migrate.run(url, f"sqlite:{back}") == moved
    assert back.with_name("relay.key").read_bytes() == bytes(range(32))
    store = await SqliteStore.open(back)
    assert await look(store) == before
    assert await store.get_slot(identifier("slot", 1)) == StoredSlot(1, b"slot")
    claimed, _ = await store.claim(SUITE, [address(1)] * 3)
    assert [msgpack.unpackb(each)[1] for each in claimed] == [2, 30, 0]
    for number in range(BOXES):
        if number != 5:
            await acknowledge(store, number, limits.MAX_SEQUENCE)
    assert (await store.totals()).entries == 0
    assert await store.create_mailbox(mailbox(BOXES), bytes(32), code(2)) is None, "it was used before the move"
    assert await store.create_mailbox(mailbox(BOXES), bytes(32), code(1)) is not None
    await store.close()

    for opening in (SqliteStore.open(there), RedisStore.open(parse_redis(url))):
        source: Store = await opening
        claimed, _ = await source.claim(SUITE, [address(1)])
        assert msgpack.unpackb(claimed[0])[1] == 0, "what was left behind issues no package that the new store has"
        await source.close()


async def test_a_pool_runs_low_after_it_moved(tmp_path: Path, url: str) -> None:
    here = tmp_path / "relay.db"
    store: Store = await SqliteStore.open(here)
    await make_mailbox(store, 1, [1])
    packages = [b"%d" % number for number in range(limits.PREKEYS_LOW_MARK + 1)]
    await store.put_prekeys(mailbox(1), SUITE, 1, packages, b"", replace=False)
    await store.close()
    await migrate.run(f"sqlite:{here}", url)
    store = await RedisStore.open(parse_redis(url))
    told = [(await store.claim(SUITE, [address(1)]))[1] for _ in packages]
    assert [len(low) for low in told] == [0, 1, *[0] * (limits.PREKEYS_LOW_MARK - 1)]
    await store.close()


async def test_a_store_in_use_does_not_move(tmp_path: Path, url: str) -> None:
    here = tmp_path / "relay.db"
    store = await SqliteStore.open(here)
    with pytest.raises(StoreRefused, match="another process"):
        await migrate.run(f"sqlite:{here}", url)
    await store.close()
    used = await RedisStore.open(parse_redis(url))
    with pytest.raises(StoreRefused, match="a relay uses this store"):
        await migrate.run(f"sqlite:{here}", url)
    await make_mailbox(used, 1)
    await used.close()
    with pytest.raises(StoreRefused, match="holds something already"):
        await migrate.run(f"sqlite:{here}", url)


def test_the_command_says_what_moved(tmp_path: Path, redis_url: str) -> None:
    here = tmp_path / "relay.db"

    async def make() -> None:
        store = await SqliteStore.open(here, clock=system_clock)
        await make_mailbox(store, 1, [1])
        await store.close()

    asyncio.run(make())
    url = f"{redis_url}?prefix=test-{os.urandom(8).hex()}"
    result = CliRunner().invoke(cli, ["migrate", "--from", f"sqlite:{here}", "--to", url])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("1 mailboxes, 1 addresses, 0 entries, ")
    result = CliRunner().invoke(cli, ["migrate", "--from", f"sqlite:{tmp_path / 'none.db'}", "--to", url])
    assert (result.exit_code, "there is no store" in result.output) == (1, True)
