"""What claims cost, counted in steps and not in time; and how large the file becomes."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis

from restante_protocol import limits
from restante_server.stores import sqlite_writer
from restante_server.stores.quotas import Quotas
from restante_server.stores.redis import RedisStore
from restante_server.stores.sqlite import SqliteStore
from restante_server.stores.sqlite_supplies import READ
from support.stores import (
    SUITE,
    Opener,
    acknowledge,
    address,
    deposit,
    give_addresses,
    mailbox,
    make_mailbox,
    new_redis,
)
from support.waiting import until

SMALL, SOME, LARGE = 10, 2 * READ, 10_000  # packages in a pool
CLAIMS = 8
PACKAGE = 300  # bytes
QUOTAS = Quotas(prekeys=LARGE)
ENTRIES, BODY = 200, 10_000  # entries at a time, and bytes of each


async def fill(store: SqliteStore | RedisStore, number: int, size: int) -> None:
    """Give a mailbox a pool of this size."""
    await make_mailbox(store, number, [number])
    for first in range(1, size + 1, limits.MAX_PREKEY_BATCH):
        packages = [bytes(PACKAGE)] * min(limits.MAX_PREKEY_BATCH, size + 1 - first)
        assert await store.put_prekeys(mailbox(number), SUITE, first, packages, b"last", replace=False) is None


# The embedded store.


@dataclass(frozen=True)
class Steps:
    """Of SQLite: instructions of its virtual machine, and pages that it looked at."""

    instructions: int
    pages: int


class Counter:
    """Counts what the writing connection does."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._instructions = 0
        db.set_progress_handler(self._step, 1)

    def _step(self) -> bool:
        self._instructions += 1
        return False

    def take(self) -> Steps:
        """Return the steps since the last time."""
        hits, misses = apsw.SQLITE_DBSTATUS_CACHE_HIT, apsw.SQLITE_DBSTATUS_CACHE_MISS
        pages = sum(self._db.status(kind, reset=True)[0] for kind in (hits, misses))
        steps, self._instructions = Steps(self._instructions, pages), 0
        return steps


async def steps_of_claims(path: Path, size: int) -> tuple[Steps, Steps, Steps]:
    """Return the steps of the first claim of an opened store, of the next ones together, and of saving them."""
    give_addresses({})
    opener = Opener(path / str(size) / "relay.db", quotas=QUOTAS)
    store = await opener.open()
    await fill(store, 1, size)
    await store.close()
    store = await opener.open()
    counter = Counter(store._writer._db)
    counter.take()
    await store.claim(SUITE, [address(1)])
    first = counter.take()
    for _ in range(CLAIMS - 1):
        claimed, _ = await store.claim(SUITE, [address(1)])
        assert len(claimed[0]) > PACKAGE
    rest = counter.take()
    store._writer._save()
    await until(lambda: not store._index.supplies.unsaved)
    await store._writer._idle.wait()
    saved = counter.take()
    await store.close()
    return first, rest, saved


async def test_a_claim_costs_the_same_whatever_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", 1000)
    small, some, large = [await steps_of_claims(tmp_path, size) for size in (SMALL, SOME, LARGE)]
    for one, other, least in zip(some, large, small, strict=True):
        assert least.instructions <= one.instructions == other.instructions
        assert other.pages - one.pages <= CLAIMS, "the table is a level deeper, no more"


# Redis.


class Commands:
    """Counts what a server runs, in scripts too, besides what the store looks at by itself."""

    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(url)

    def take(self) -> dict[str, int]:
        """Return calls by command since the last time."""
        found = self._client.info("commandstats")
        self._client.config_resetstat()
        calls = {name.removeprefix("cmdstat_"): counts["calls"] for name, counts in found.items()}
        return {name: count for name, count in calls.items() if name.partition("|")[0] not in {"info", "config"}}

    def slow(self, names: set[str]) -> set[str]:
        """Return which of these do not take constant or logarithmic time, by what the server says of itself."""
        return {
            name for name in names if "fast" not in self._client.execute_command("COMMAND", "INFO", name)[name]["flags"]
        }

    def close(self) -> None:
        self._client.close()


async def commands_of_claims(url: str, size: int) -> tuple[dict[str, int], dict[str, int], set[str]]:
    """Return the commands of the first claim of an opened store, of the next ones together, and which are slow."""
    give_addresses({})
    opener = new_redis(url)
    opener.quotas = QUOTAS
    store = await opener.open()
    await fill(store, 1, size)
    await store.close()
    store = await opener.open()
    commands = Commands(url)
    commands.take()
    await store.claim(SUITE, [address(1)])
    first = commands.take()
    for _ in range(CLAIMS - 1):
        claimed, _ = await store.claim(SUITE, [address(1)])
        assert len(claimed[0]) > PACKAGE
    rest = commands.take()
    slow = commands.slow(first.keys() | rest.keys())
    commands.close()
    await store.close()
    return first, rest, slow


async def test_a_claim_from_redis_runs_the_same_commands_whatever_is_left(redis_url: str) -> None:
    small = await commands_of_claims(redis_url, SMALL)
    assert small == await commands_of_claims(redis_url, LARGE)
    first, rest, slow = small
    assert first["evalsha"] == 1
    assert rest["evalsha"] <= CLAIMS - 1
    assert slow <= {"evalsha"}, "the scripts, which run the others"


# The file.


async def test_what_is_acknowledged_makes_room_for_what_comes(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are used again: the file grows to the most that waited at a time, and no further."""
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", 0)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    sizes = []
    for turn in range(4):
        numbers = range(turn * ENTRIES, (turn + 1) * ENTRIES)
        await asyncio.gather(*(store.deposit(deposit(n, [address(1)], body=bytes(BODY))) for n in numbers))
        assert await acknowledge(store, 1, limits.MAX_SEQUENCE)
        await until(lambda: not store._index.unsaved)
        await store._writer._idle.wait()
        store._writer._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        sizes.append(opener.path.stat().st_size)
    assert sizes[0] > ENTRIES * BODY
    assert sizes[-1] < 1.05 * sizes[0], "what is known of each deposit for a day, and no body"
    await store.scrub()
    assert opener.path.stat().st_size < 0.1 * sizes[0], "written anew it is as small as what is left"
    await store.close()
