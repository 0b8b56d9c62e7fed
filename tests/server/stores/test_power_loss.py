"""Power losses at random points of a random schedule: nothing that was promised is forgotten."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgpack
import pytest

from restante_protocol import limits
from restante_protocol.errors import Code
from restante_server.stores import sqlite_writer
from restante_server.stores.contract import Accepted, FenceLost, StoreRefused, StoreUnavailable, Subscription
from restante_server.stores.sqlite import SqliteStore
from support.power_loss import PowerLossVfs
from support.stores import (
    SUITE,
    MovedClock,
    Opener,
    acknowledge,
    address,
    deposit,
    fence,
    mailbox,
    make_mailbox,
    read_all,
)

CRASHES = 200
RUNS = 8  # each is one store that loses power again and again
MAILBOXES = 4


@dataclass
class Promised:
    """What the store has promised so far; what was under way when the power went may or may not have happened."""

    accepted: dict[int, set[bytes]] = field(default_factory=lambda: {n: set() for n in range(MAILBOXES)})
    sequences: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(MAILBOXES), 0))
    acknowledged: dict[int, set[bytes]] = field(default_factory=lambda: {n: set() for n in range(MAILBOXES)})
    fences: dict[int, bytes] = field(default_factory=dict)
    issued: Counter[tuple[int, int]] = field(default_factory=Counter)
    uploading: Counter[int] = field(default_factory=Counter)
    uploaded: Counter[int] = field(default_factory=Counter)
    owners: dict[int, Subscription] = field(default_factory=dict)
    next_deposit: int = 0


class Schedule:
    """Random calls, and what they promise."""

    def __init__(self, store: SqliteStore, promised: Promised, random: Random) -> None:
        self._store = store
        self._promised = promised
        self._lists: dict[tuple[int, ...], list[bytes]] = {}
        self._random = random

    async def run(self) -> None:
        """Call until the power goes."""
        calls = [self._deposit, self._deposit, self._fence, self._claim, self._upload, self._acknowledge]
        while True:
            batch = [self._random.choice(calls)() for _ in range(self._random.randrange(1, 6))]
            for result in await asyncio.gather(*batch, return_exceptions=True):
                if isinstance(result, StoreUnavailable):
                    return
                assert result is None

    def _targets(self) -> list[int]:
        return self._random.sample(range(MAILBOXES), self._random.randrange(1, MAILBOXES + 1))

    def _body(self) -> bytes:
        self._promised.next_deposit += 1
        return b"%d " % self._promised.next_deposit * self._random.choice([1, 100, 3000])

    async def _deposit(self) -> None:
        body, targets = self._body(), self._targets()
        addresses = self._lists.setdefault(tuple(targets), [address(n) for n in targets])  # the same list: a group
        item = deposit(self._promised.next_deposit, addresses, body=body)
        assert await self._store.deposit(item) == Accepted(())
        for number in targets:
            self._promised.accepted[number].add(body)

    async def _fence(self) -> None:
        body, tag = self._body(), self._random.randrange(30)
        item = deposit(self._promised.next_deposit, [address(0)], body=body, fence=fence(tag))
        answer = await self._store.deposit(item)
        if answer == FenceLost():
            return
        assert tag not in self._promised.fences
        self._promised.fences[tag] = body
        self._promised.accepted[0].add(body)

    async def _claim(self) -> None:
        targets = self._targets()
        claimed, _ = await self._store.claim(SUITE, [address(n) for n in targets])
        for number, claim in zip(targets, claimed, strict=True):
            code, issued, package = msgpack.unpackb(claim)
            if code == 0:
                assert package == b"%d" % issued
                self._promised.issued[number, issued] += 1
            else:
                assert code == Code.EMPTY

    async def _upload(self) -> None:
        number = self._random.randrange(MAILBOXES)
        first = self._promised.uploading[number] + 1
        packages = [b"%d" % n for n in range(first, first + 3)]
        self._promised.uploading[number] += 3
        assert await self._store.put_prekeys(mailbox(number), SUITE, first, packages, b"", replace=False) is None
        self._promised.uploaded[number] = max(self._promised.uploaded[number], first + 2)

    async def _acknowledge(self) -> None:
        number = self._random.randrange(MAILBOXES)
        entries = await self._store.read(mailbox(number), 0, 5, 1 << 30)
        if not entries:
            return
        last = entries[-1].sequence
        self._promised.sequences[number] = max(self._promised.sequences[number], last)
        kept = [entry.sequence for entry in entries if self._random.random() < 0.2]
        self._promised.acknowledged[number] |= {entry.body for entry in entries if entry.sequence not in kept}
        owner = self._promised.owners[number]
        assert await acknowledge(self._store, number, last, kept, owner)


async def _start(store: SqliteStore, promised: Promised) -> None:
    """Subscribe to all mailboxes: the store is never behind what its clients have seen."""
    for number in range(MAILBOXES):
        known = promised.owners.get(number)
        subscription = await store.subscribe(
            mailbox(number), known.incarnation if known else b"", promised.sequences[number], []
        )
        assert subscription is not None
        assert known is None or subscription.incarnation == known.incarnation
        promised.owners[number] = subscription


async def _check(store: SqliteStore, promised: Promised) -> None:
    for number in range(MAILBOXES):
        entries = await read_all(store, number)
        there = {entry.body for entry in entries}
        assert promised.accepted[number] - promised.acknowledged[number] <= there
        assert len(there) == len(entries)
        promised.accepted[number] = there | promised.accepted[number]
        sequences = [entry.sequence for entry in entries]
        assert sequences == sorted(set(sequences))
        status = await store.status(mailbox(number))
        assert status is not None
        assert status.sequence >= max([promised.sequences[number], *sequences])
        assert (status.entries, status.size) == (len(entries), sum(len(entry.body) for entry in entries))
        for pool in status.pools:
            assert pool.uploaded >= promised.uploaded[number]
            assert pool.issued >= max((n for m, n in promised.issued if m == number), default=0)
    for tag, body in promised.fences.items():
        winner = await store.winner(fence(tag))
        assert winner is not None
        assert winner.body == body
    for tag in range(30):
        if tag not in promised.fences and (winner := await store.winner(fence(tag))) is not None:
            promised.fences[tag] = winner.body  # won as the power went
    assert set(promised.issued.values()) <= {1}


@pytest.mark.parametrize("seed", range(RUNS))
def test_nothing_promised_is_forgotten(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", seed % 2)  # half of the runs save at every opportunity,
    monkeypatch.setattr(sqlite_writer, "SAVE_PART", random.choice([1, 3, 512]))  # and most in parts
    promised = Promised()
    clock = MovedClock()

    async def lose_power(folder: Path, vfs: str, *, first: bool) -> None:
        store = await Opener(folder / "relay.db", clock, vfs=vfs, random=random.randbytes).open()
        try:
            if first:
                for number in range(MAILBOXES):
                    await make_mailbox(store, number, [number])
            await _check(store, promised)
            await _start(store, promised)
            await Schedule(store, promised, random).run()
            assert store.failed.is_set()
        except StoreUnavailable:
            pass
        finally:
            await store.close()

    folder = tmp_path / "0"
    folder.mkdir()
    for crash in range(CRASHES // RUNS):
        clock.advance(random.choice([-5, 0, 3]))
        vfs = PowerLossVfs(
            f"power-loss-{seed}-{crash}", random.randrange(200, 500) if crash == 0 else random.randrange(1, 400)
        )
        vfs.load(folder)
        with contextlib.suppress(StoreRefused):  # the power went while the store was opened
            asyncio.run(lose_power(folder, vfs.name, first=crash == 0))
        assert vfs.lost
        sidecar = folder / "relay.db.epoch"
        folder = tmp_path / str(crash + 1)
        folder.mkdir()
        for name, data in vfs.survivors(random).items():
            (folder / name).write_bytes(data)
        if sidecar.exists():
            (folder / sidecar.name).write_bytes(sidecar.read_bytes())
        vfs.unregister()
    asyncio.run(_final_check(folder, promised, clock))


async def _final_check(folder: Path, promised: Promised, clock: MovedClock) -> None:
    store = await Opener(folder / "relay.db", clock).open()
    await _check(store, promised)
    assert promised.issued
    assert promised.fences
    for number in range(MAILBOXES):
        owner = await store.subscribe(mailbox(number), b"", 0, [])
        assert owner is not None
        await acknowledge(store, number, limits.MAX_SEQUENCE, owner=owner)
        assert await read_all(store, number) == []
    await store.close()
