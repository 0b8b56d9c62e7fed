"""Any order of calls, closings and openings: the store does what a plain model does."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_protocol.frames import encode_prekey
from restante_server.stores.contract import (
    Accepted,
    AddressSpec,
    Deposit,
    FenceLost,
    Pool,
    SeenPool,
    Store,
    Subscription,
    Totals,
)
from restante_server.stores.quotas import Quotas
from support.stores import (
    SUITE,
    AnyOpener,
    Opener,
    acknowledge,
    address,
    deposit,
    every_store,
    fence,
    give_addresses,
    mailbox,
    read_all,
    store_claim,
    store_deposit,
)

T = TypeVar("T")
QUOTAS = Quotas(entries=8, size=100, large_size=30, addresses=3, prekeys=5)
MAILBOXES = st.integers(0, 2)
ADDRESSES = st.integers(0, 5)  # address n is of mailbox n % 3


@dataclass(eq=False)
class Entry:
    body: bytes
    expires: int
    large: bool
    invite: bool
    through: object
    sequence: int = 0


@dataclass(eq=False)
class Alias:
    cap: int
    kind: int
    token: object = field(default_factory=object)


@dataclass
class PoolModel:
    uploaded: int = 0
    issued: int = 0
    packages: dict[int, bytes] = field(default_factory=dict)
    last_resort: bytes = b""

    def seen(self) -> Pool:
        return Pool(SUITE, self.uploaded, self.issued, len(self.packages), last_resort=bool(self.last_resort))


@dataclass
class Box:
    incarnation: bytes
    entries: list[Entry] = field(default_factory=list)
    aliases: dict[int, Alias] = field(default_factory=dict)
    pool: PoolModel | None = None
    last: int = 0
    acknowledged: int = 0
    owner: Subscription | None = None

    def takes(self, alias: Alias, size: int, *, large: bool) -> bool:
        invite = alias.kind == frames.KIND_INVITE
        return (
            sum(entry.through is alias.token for entry in self.entries) < alias.cap
            and len(self.entries) < QUOTAS.entries
            and sum(len(entry.body) for entry in self.entries) + size <= QUOTAS.size
            and (not large or sum(len(e.body) for e in self.entries if e.large) + size <= QUOTAS.large_size)
            and (not invite or sum(entry.invite for entry in self.entries) < QUOTAS.entries // limits.INVITE_SHARE)
        )


class StoreMachine(RuleBasedStateMachine):
    """The store beside the model."""

    def __init__(self, opener: AnyOpener) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.opener = opener
        give_addresses({n: n % 3 for n in range(6)})
        self.boxes: dict[int, Box] = {}
        self.fences: dict[int, bytes] = {}
        self.issued: set[tuple[bytes, int]] = set()
        self.numbers = count()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @initialize(cap=st.integers(1, 4), kind=st.integers(0, 1))
    def start(self, cap: int, kind: int) -> None:
        self.open()
        for number in range(6):
            self.create(number % 3, [])
            self.put_address(number, cap, kind if number < 3 else 0)

    def open(self) -> None:
        opening: Coroutine[Any, Any, Store] = self.opener.open()
        self.store = self.run(opening)

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        for box in self.boxes.values():
            box.owner = None
        self.open()

    @rule(seconds=st.integers(-5, 100))
    def pass_time(self, seconds: int) -> None:
        self.opener.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.run(self.store.sweep())
        for box in self.boxes.values():
            box.entries = [entry for entry in box.entries if entry.expires > self.now]

    @property
    def now(self) -> int:
        return self.opener.clock.now // 1000

    @rule(number=MAILBOXES, aliases=st.lists(st.integers(0, 1), max_size=2))
    def create(self, number: int, aliases: list[int]) -> None:
        incarnation = self.run(self.store.create_mailbox(mailbox(number), bytes(32), None))
        assert incarnation is not None
        if number in self.boxes:
            assert incarnation == self.boxes[number].incarnation
        self.boxes.setdefault(number, Box(incarnation))
        for alias in aliases:
            self.put_address(number + 3 * alias, 3, frames.KIND_CONVERSATION)

    @rule(number=MAILBOXES)
    def delete(self, number: int) -> None:
        self.run(self.store.delete_mailbox(mailbox(number)))
        self.boxes.pop(number, None)

    @rule(number=ADDRESSES, cap=st.integers(1, 4), kind=st.integers(0, 1))
    def put_address(self, number: int, cap: int, kind: int) -> None:
        code = self.run(self.store.put_addresses(mailbox(number % 3), [AddressSpec(address(number), cap, kind)]))
        box = self.boxes.get(number % 3)
        assert code == (Code.NO_MAILBOX if box is None else None)
        if box is not None:
            alias = box.aliases.setdefault(number, Alias(cap, kind))
            alias.cap, alias.kind = cap, kind

    @rule(number=ADDRESSES)
    def revoke(self, number: int) -> None:
        self.run(self.store.revoke_addresses(mailbox(number % 3), [address(number)]))
        if number % 3 in self.boxes:
            self.boxes[number % 3].aliases.pop(number, None)

    @rule(
        addresses=st.lists(ADDRESSES, min_size=1, max_size=4),
        size=st.integers(8, 40),
        lifetime=st.sampled_from([60, 1000]),
        large=st.booleans(),
        tag=st.none() | st.integers(0, 3),
    )
    def deposit(self, addresses: list[int], size: int, lifetime: int, large: bool, tag: int | None) -> None:
        self.deposit_all([(addresses, size, large)], lifetime, tag)

    @rule(
        lists=st.lists(st.lists(ADDRESSES, min_size=1, max_size=6), min_size=1, max_size=2),
        kinds=st.lists(
            st.tuples(st.integers(0, 1), st.integers(8, 20), st.sampled_from([False, False, True])),
            min_size=2,
            max_size=5,
        ),
    )
    def deposit_together(self, lists: list[list[int]], kinds: list[tuple[int, int, bool]]) -> None:
        self.deposit_all([(lists[which % len(lists)], size, large) for which, size, large in kinds], 1000, None)

    def deposit_all(self, kinds: list[tuple[list[int], int, bool]], lifetime: int, tag: int | None) -> None:
        items = [
            deposit(
                number := next(self.numbers),
                [address(n) for n in addresses],
                body=number.to_bytes(8, "big").ljust(size, b"."),
                lifetime=lifetime,
                large=large,
                fence=None if tag is None else fence(tag),
            )
            for addresses, size, large in kinds
        ]
        expected = [self.expect(addresses, item, tag) for (addresses, _, _), item in zip(kinds, items, strict=True)]
        assert self.run(self.together(items)) == expected
        known = [
            (item, answer)
            for item, answer in zip(items, expected, strict=True)
            if isinstance(answer, Accepted) and (len(answer.failed) < len(item.addresses) or tag is not None)
        ]
        assert self.run(self.together([item for item, _ in known])) == [answer for _, answer in known]
        self.learn_sequences()

    async def together(self, items: list[Deposit]) -> list[Accepted | FenceLost]:
        return await asyncio.gather(*(store_deposit(self.store, item) for item in items))

    def expect(self, addresses: list[int], item: Deposit, tag: int | None) -> Accepted | FenceLost:
        if tag is not None and tag in self.fences:
            return FenceLost()
        if tag is not None:
            self.fences[tag] = item.body
        failed: list[tuple[int, Code]] = []
        for index, target in enumerate(addresses):
            box = self.boxes.get(target % 3)
            alias = box.aliases.get(target) if box is not None else None
            if box is None or alias is None:
                failed.append((index, Code.GONE))
            elif box.takes(alias, len(item.body), large=item.large):
                invite = alias.kind == frames.KIND_INVITE
                box.entries.append(Entry(item.body, self.now + item.lifetime, item.large, invite, alias.token))
            else:
                failed.append((index, Code.FULL))
        return Accepted(tuple(failed))

    def learn_sequences(self) -> None:
        for number, box in self.boxes.items():
            sequences = {entry.body: [] for entry in box.entries}  # type: dict[bytes, list[int]]
            for stored in self.run(read_all(self.store, number)):
                sequences[stored.body].append(stored.sequence)
            for entry in box.entries:
                if sequences[entry.body]:
                    sequence = sequences[entry.body].pop(0)
                    assert entry.sequence in (0, sequence)
                    if entry.sequence == 0:
                        assert sequence > box.last
                        box.last = sequence
                    entry.sequence = sequence

    @rule(number=MAILBOXES, position=st.integers(-1, 8), exceptions=st.lists(st.integers(0, 7), max_size=4))
    def acknowledge(self, number: int, position: int, exceptions: list[int]) -> None:
        box = self.boxes.get(number)
        if box is None:
            return
        if box.owner is None:
            self.subscribe(number, 0, 0)
        if 0 <= position < len(box.entries):
            sequence = box.entries[position].sequence
        else:
            sequence = 0 if position < 0 else box.last
        kept = [box.entries[n].sequence for n in exceptions if n < len(box.entries)]
        owner = box.owner
        assert owner is not None
        assert self.run(acknowledge(self.store, number, sequence, kept, owner))
        box.entries = [entry for entry in box.entries if entry.sequence > sequence or entry.sequence in kept]
        box.acknowledged = max(box.acknowledged, sequence)

    @rule(number=MAILBOXES, ahead=st.sampled_from([0, 0, 0, 5, 1 << 30]), uploaded_ahead=st.sampled_from([0, 0, 2]))
    def subscribe(self, number: int, ahead: int, uploaded_ahead: int) -> None:
        box = self.boxes.get(number)
        seen_pools = []
        if box is not None and (box.pool is not None or uploaded_ahead):
            pool = box.pool or PoolModel()
            seen_pools = [SeenPool(SUITE, pool.uploaded + uploaded_ahead, pool.issued)]
        seen = (box.last if box is not None else 0) + ahead
        subscription = self.run(
            self.store.subscribe(mailbox(number), box.incarnation if box else b"", seen, seen_pools)
        )
        if box is None:
            assert subscription is None
            return
        assert subscription is not None
        assert (subscription.incarnation != box.incarnation) == bool(ahead or uploaded_ahead)
        if ahead or uploaded_ahead:
            box.incarnation, box.last, box.acknowledged = subscription.incarnation, seen, 0
            if box.pool is not None:
                box.pool.packages.clear()
            if uploaded_ahead:
                box.pool = box.pool or PoolModel()
                box.pool.uploaded += uploaded_ahead
        box.owner = subscription
        assert subscription.acknowledged == box.acknowledged
        assert subscription.last_sequence == box.last
        assert subscription.pools == (() if box.pool is None else (box.pool.seen(),))

    @rule(number=MAILBOXES, back=st.integers(0, 3), amount=st.integers(0, 4), last=st.booleans(), replace=st.booleans())
    def upload(self, number: int, back: int, amount: int, last: bool, replace: bool) -> None:
        box = self.boxes.get(number)
        pool = (box.pool if box is not None else None) or PoolModel()
        first = max(1, pool.uploaded + 1 - back)
        last_resort = b"last %d" % next(self.numbers) if last else b""
        packages = [b"%d/%d" % (number, n) for n in range(first, first + amount)]
        code = self.run(self.store.put_prekeys(mailbox(number), SUITE, first, packages, last_resort, replace=replace))
        fresh = {n: p for n, p in enumerate(packages, first) if n > pool.uploaded}
        if box is None:
            assert code == Code.NO_MAILBOX
            return
        if len(fresh) + (0 if replace else len(pool.packages)) > QUOTAS.prekeys:
            assert code == Code.LIMIT
            return
        assert code is None
        if replace:
            pool.packages.clear()
        pool.packages |= fresh
        pool.uploaded = max(pool.uploaded, *fresh, 0)
        pool.last_resort = last_resort or pool.last_resort
        box.pool = pool

    @rule(addresses=st.lists(ADDRESSES, min_size=1, max_size=4))
    def claim(self, addresses: list[int]) -> None:
        claimed, low = self.run(store_claim(self.store, [address(n) for n in addresses]))
        assert not low  # a pool of five is always below the mark
        for target, claim in zip(addresses, claimed, strict=True):
            box = self.boxes.get(target % 3)
            if box is None or target not in box.aliases:
                assert claim == encode_prekey(Code.GONE, 0, b"")
            elif box.pool is not None and box.pool.packages:
                number = min(box.pool.packages)
                assert number > box.pool.issued
                assert claim == encode_prekey(0, number, box.pool.packages.pop(number))
                box.pool.issued = number
            elif box.pool is not None and box.pool.last_resort:
                assert claim == encode_prekey(0, 0, box.pool.last_resort)
            else:
                assert claim == encode_prekey(Code.EMPTY, 0, b"")

    @invariant()
    def agrees(self) -> None:
        for number, box in self.boxes.items():
            readable = [entry for entry in box.entries if entry.expires > self.now]
            stored = self.run(read_all(self.store, number))
            assert [(e.sequence, e.body) for e in stored] == [(e.sequence, e.body) for e in readable]
            status = self.run(self.store.status(mailbox(number)))
            assert status is not None
            assert status.sequence == box.last
            assert (status.entries, status.size) == (len(box.entries), sum(len(e.body) for e in box.entries))
            assert status.pools == (() if box.pool is None else (box.pool.seen(),))
        for tag, body in self.fences.items():
            winner = self.run(self.store.winner(fence(tag)))
            assert winner is not None
            assert winner.body == body
        entries = [entry for box in self.boxes.values() for entry in box.entries]
        totals = Totals(len(self.boxes), len(entries), sum(len(entry.body) for entry in entries))
        assert self.run(self.store.totals()) == totals

    def teardown(self) -> None:
        for number in list(self.boxes):
            self.delete(number)
        assert not self.run(self.opener.holds_entries(self.store))
        self.run(self.store.close())
        self.runner.close()


@every_store
def test_a_store_does_what_the_model_does(opener: AnyOpener) -> None:
    opener.quotas = QUOTAS
    examples = 60 if isinstance(opener, Opener) else 20  # each step goes to a server and back
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: StoreMachine(opener.elsewhere()),  # type: ignore[arg-type, return-value]
        settings=settings(max_examples=examples, stateful_step_count=50, deadline=None),
    )
