"""The store for many relay processes: a Redis or Valkey server, replicated or not, or a cluster.

``stores.contract`` says what each method does. Everything of a mailbox is in one bucket, whose keys share a slot; a
script changes a bucket all or nothing. ``redis_masters`` knows where buckets are, ``redis_shard`` batches what is in
``redis_calls``, ``redis_scripts`` has the scripts, ``redis_fan`` takes deposits to their buckets, and ``redis_claims``
remembers which pools addresses lead to. Calls of one bucket take effect in their order; a deposit under a fence first
wins it, and then goes out.

Longer than 600 lines because the contract has that many methods; each is a call of a script and its answer's reading.
"""

import asyncio
import contextlib
import itertools
import os
import struct
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Self, cast

from restante_crypto import proofs
from restante_protocol import frames, ids, limits
from restante_protocol.errors import Code
from restante_server.clock import Clock, system_clock
from restante_server.stores import redis_holdings, redis_scrub
from restante_server.stores.contract import (
    DIGEST_BYTES,
    SPENT_KEPT,
    Accepted,
    AddressSpec,
    Delivery,
    Deposit,
    FenceLost,
    Holding,
    Issued,
    Level,
    Listener,
    Outcome,
    Pool,
    SeenPool,
    Status,
    StoredEntry,
    StoredSlot,
    StoreError,
    Subscription,
    Totals,
    Watcher,
    Winner,
    forward,
)
from restante_server.stores.quotas import Quotas
from restante_server.stores.redis_address import RedisAddress
from restante_server.stores.redis_calls import Call, Fan
from restante_server.stores.redis_claims import Claims
from restante_server.stores.redis_fan import FanOut, decode_deposit, encode_deposit
from restante_server.stores.redis_masters import Masters
from restante_server.stores.redis_notices import (
    DELETED,
    EPHEMERAL,
    LOOK_INTERVAL,
    REPLACED,
    SPENT,
    Change,
    Notices,
    committed_messages,
)
from restante_server.stores.redis_scripts import KEYS, bucket_keys, channel
from restante_server.stores.redis_shard import Committed

NODE_BYTES: Final = 8
SWEEP_BATCH: Final = 250  # of each kind per script call
SWEEP_ENTRIES: Final = 5000  # of them per script call
LEASE_SECONDS: Final = 5  # a fence that was won but not fanned out is taken over after so long
REDRIVE_INTERVAL: Final = 2.0  # seconds between looks for such fences
REDRIVE_BATCH: Final = 20
_NOBODY: Final = bytes(NODE_BYTES)
_ELSEWHERE: Final = struct.Struct(">8s24s")
_POOL_BYTES: Final = 19  # suite 2, uploaded 6, issued 6, left 4, last resort 1
_PUT: Final = {0: None, 1: Code.NO_MAILBOX, 2: Code.LIMIT}


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _pool(data: bytes) -> Pool:
    return Pool(_number(data[:2]), _number(data[2:8]), _number(data[8:14]), _number(data[14:18]), data[18] == 1)


def _pools(data: bytes) -> tuple[Pool, ...]:
    pools = [_pool(data[place : place + _POOL_BYTES]) for place in range(0, len(data), _POOL_BYTES)]
    return tuple(sorted(pools, key=lambda pool: pool.suite))


def _ascend(done: list[Committed]) -> bool:
    """Say whether each bucket stored deposits in the order in which they were asked for: some were tried again."""
    newest: dict[int, int] = {}
    for batch in done:
        for group in batch.groups:
            number = group.fans[0].number
            if number < newest.get(batch.bucket, number):
                return False
            newest[batch.bucket] = number
    return True


class RedisStore:
    """A store on Redis or Valkey. Open it with ``open``."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        clock: Clock,
        quotas: Quotas,
        random: Callable[[int], bytes],
        accept_loss: bool,
    ) -> None:
        self._failed = asyncio.Event()
        self._clock = clock
        self._quotas = quotas
        self._random = random
        self._node = random(NODE_BYTES)
        self._listener: Listener = lambda _deliveries: None
        self._notices = Notices()
        self._masters = Masters(address, self, self._node, random, accept_loss=accept_loss)
        self._numbers = itertools.count()  # of deposits
        self._upkeep: list[asyncio.Task[None]] = []
        self._claims = Claims(self._masters, self._node)

    @classmethod
    async def open(
        cls,
        address: RedisAddress,
        *,
        clock: Clock = system_clock,
        quotas: Quotas | None = None,
        random: Callable[[int], bytes] = os.urandom,
        accept_loss: bool = False,
    ) -> Self:
        """Connect to a store, or begin one.

        Args:
            address: where it is.
            clock: Unix milliseconds.
            quotas: per mailbox; by default those of ``restante_protocol.limits``.
            random: n -> n random bytes.
            accept_loss: a power failure may lose what was accepted shortly before.

        Raises:
            StoreRefused: no answer, or not set up to keep what is accepted; the text says what to do.
        """
        store = cls(address, clock=clock, quotas=quotas or Quotas(), random=random, accept_loss=accept_loss)
        try:
            await store._masters.open()
        except BaseException:
            await store.close()
            raise
        store._upkeep = [
            asyncio.create_task(store._repeat(LOOK_INTERVAL, store._look)),
            asyncio.create_task(store._repeat(REDRIVE_INTERVAL, store._redrive)),
        ]
        return store

    @property
    def level(self) -> Level:
        """What the masters hold."""
        return self._masters.level

    @property
    def failed(self) -> asyncio.Event:
        """Never set: what fails here may come back."""
        return self._failed

    @property
    def reachable(self) -> bool:
        """See contract."""
        return self._masters.reachable

    @property
    def masters(self) -> Masters:
        """The connections, for upkeep from outside."""
        return self._masters

    def listen(self, listener: Listener) -> None:
        """See contract."""
        self._listener = listener

    def watch(self, watcher: Watcher) -> None:
        """See contract."""
        self._notices.watch(watcher)

    async def close(self) -> None:
        """See contract."""
        for task in self._upkeep:
            task.cancel()
        if self._upkeep:
            await asyncio.wait(self._upkeep)
        await self._masters.close()

    async def share_key(self, seed: bytes) -> bytes:
        """Make this the key of all nodes, unless there is one; return the one that is."""
        masters = self._masters
        await masters.command("HSETNX", masters.record_key, "key", seed)
        key = bytes(await masters.command("HGET", masters.record_key, "key"))
        masters.facts["key"] = key
        return key

    def _bucket(self, identifier: bytes) -> int:
        return self._masters.bucket_of(identifier)

    def _call(self, identifier: bytes, script: str, *arguments: bytes | int | str, cost: int = 1) -> Call:
        call = Call(self._bucket(identifier), script, arguments, cost)
        self._masters.submit(call)
        return call

    def _now(self) -> int:
        return self._clock() // 1000

    def _grouped(self, identifiers: Sequence[bytes]) -> dict[int, list[int]]:
        """Return the places of identifiers by bucket."""
        groups: dict[int, list[int]] = {}
        for place, identifier in enumerate(identifiers):
            groups.setdefault(self._bucket(identifier), []).append(place)
        return groups

    # What the masters ask: redis_masters.Store.

    def head(self, script: str) -> tuple[bytes | int | str, ...]:
        """Return the arguments that all calls of a batched script share."""
        if script == "deposit":
            quotas = self._quotas
            return (
                self._clock(),
                self._node,
                quotas.entries,
                quotas.size,
                quotas.large_size,
                quotas.invite_entries,
                limits.DEDUPLICATION_LIFETIME,
            )
        return (limits.PREKEYS_LOW_MARK,) if script == "claim" else ()

    def deposited(self, done: list[Committed], *, in_order: bool) -> None:
        """Announce what is committed: what several buckets have of the same deposits as one.

        For that they are sorted by when they were asked for, which must be the order within each bucket, too.
        """
        in_order = in_order and _ascend(done)
        found: list[tuple[tuple[Fan, ...], list[tuple[bytes, int, int]]]] = []
        merged: dict[tuple[Fan, ...], list[tuple[bytes, int, int]]] = {}
        changes: list[Change] = []
        for batch in done:
            latest: dict[bytes, int] = {}
            for group in batch.groups:
                recipients = merged.get(group.fans) if in_order else None
                if recipients is None:
                    merged[group.fans] = group.recipients
                    found.append((group.fans, group.recipients))
                else:
                    recipients += group.recipients
                latest.update([(mailbox, first + count - 1) for mailbox, first, count in group.recipients])
            changes += [(mailbox, last, latest[mailbox]) for mailbox, last in batch.before if mailbox in latest]
        if in_order:
            found.sort(key=lambda group: group[0][0].number)  # each mailbox has them in this order
        deliveries = [
            Delivery([(fan.item.message_id, fan.item.body, fan.item.fence) for fan in fans], recipients)
            for fans, recipients in found
        ]
        if deliveries:
            self._notices.committed(changes)
            self._tell(done, deliveries, changes)
            self._listener(deliveries)

    def _tell(self, done: list[Committed], deliveries: list[Delivery], changes: list[Change]) -> None:
        """Tell other nodes what is committed for mailboxes that they serve.

        All of it is of one master, so the channel of any of its buckets reaches a node.
        """
        nodes: dict[bytes, bytes] = {}
        buckets: dict[bytes, int] = {}
        for batch in done:
            for node, mailbox in _ELSEWHERE.iter_unpack(batch.elsewhere):
                nodes[mailbox] = node
                buckets[node] = batch.bucket
        if nodes:
            for node, message in committed_messages(deliveries, changes, nodes).items():
                self._masters.publish(buckets[node], node, message)

    def heard(self, message: bytes) -> None:
        """Another node says something."""
        self._notices.heard(message)

    def renewed(self, bucket: int) -> None:
        """A bucket has another history."""
        self._notices.renewed(lambda mailbox: self._bucket(mailbox) == bucket)

    # Mailboxes.

    async def create_mailbox(self, mailbox: bytes, receive_key: bytes, code_hash: bytes | None) -> bytes | None:
        """See contract. A code is first kept for this mailbox, then used up: its bucket is another."""
        incarnation = self._random(ids.INCARNATION_BYTES)
        if code_hash is None:
            return bytes(await self._call(mailbox, "create", mailbox, receive_key, incarnation, 1))
        known = await self._call(mailbox, "create", mailbox, receive_key, incarnation, 0)
        if known is not None:
            await self._call(code_hash, "take_code", code_hash, mailbox, b"")  # kept by a node that was stopped
            return bytes(known)
        if not await self._call(code_hash, "take_code", code_hash, mailbox, self._now()):
            return None
        made = await self._call(mailbox, "create", mailbox, receive_key, incarnation, 1)
        await self._call(code_hash, "take_code", code_hash, mailbox, b"")
        return bytes(made)

    async def has_mailbox(self, mailbox: bytes) -> bool:
        """See contract."""
        return await self._call(mailbox, "status", mailbox) is not None

    async def delete_mailbox(self, mailbox: bytes) -> None:
        """See contract."""
        node = await self._call(mailbox, "delete", mailbox)
        if node is not None:
            self._claims.forget(self._bucket(mailbox))
        self._notices.disown(mailbox)
        if node not in {None, _NOBODY, self._node}:
            self._masters.publish(self._bucket(mailbox), node, DELETED + mailbox)

    async def subscribe(
        self, mailbox: bytes, incarnation: bytes, seen: int, pools: Sequence[SeenPool]
    ) -> Subscription | None:
        """See contract."""
        token = self._random(ids.OWNER_TOKEN_BYTES)
        reply = await self._call(
            mailbox,
            "subscribe",
            mailbox,
            incarnation,
            seen.to_bytes(8, "big"),
            self._node,
            token,
            self._random(ids.INCARNATION_BYTES),
            *(p.suite.to_bytes(2, "big") + p.uploaded.to_bytes(6, "big") + p.used.to_bytes(6, "big") for p in pools),
        )
        if reply is None:
            return None
        current, acknowledged, last, held, old_node, old_token, spent = reply
        self._notices.own(mailbox, token, _number(last))
        if old_node not in {_NOBODY, self._node}:
            self._masters.publish(self._bucket(mailbox), old_node, REPLACED + mailbox + old_token)
        addresses = tuple(spent[place : place + ids.ID_BYTES] for place in range(0, len(spent), ids.ID_BYTES))
        return Subscription(current, token, _number(acknowledged), _number(last), _pools(held), addresses)

    async def release(self, mailbox: bytes, owner_token: bytes) -> None:
        """See contract."""
        self._notices.disown(mailbox, owner_token)
        await self._call(mailbox, "release", mailbox, owner_token)

    async def is_served(self, mailbox: bytes) -> bool:
        """See contract. A node that is gone without releasing its mailboxes listens no more."""
        (found,) = await self._call(mailbox, "latest", mailbox)
        node = _NOBODY if found is None else found[:NODE_BYTES]
        if node in {_NOBODY, self._node}:
            return node == self._node
        bucket = self._bucket(mailbox)
        heard = channel(self._masters.prefix, bucket, node)
        _, listening = await self._masters.command("PUBSUB", "SHARDNUMSUB", heard, bucket=bucket)
        return bool(listening)

    def acknowledge(
        self, mailbox: bytes, owner_token: bytes, incarnation: bytes, sequence: int, exceptions: Sequence[int]
    ) -> "asyncio.Future[bool]":
        """See contract."""
        order = owner_token + incarnation + sequence.to_bytes(8, "big")
        if exceptions:
            order += b"".join([each.to_bytes(8, "big") for each in exceptions])
        return cast("asyncio.Future[bool]", self._call(mailbox, "acknowledge", mailbox, order).outcome)

    async def read(self, mailbox: bytes, after: int, entries: int, size: int) -> Sequence[StoredEntry]:
        """See contract."""
        durable = int(self.level == "failover")
        reply = await self._call(
            mailbox, "read", mailbox, after.to_bytes(8, "big"), entries, size, self._now(), durable
        )
        found = []
        for sequence, record in zip(reply[::2], reply[1::2], strict=True):
            place = 20 + _number(record[:4])
            found.append(StoredEntry(_number(sequence), record[4:20], record[place + 4 :], record[20:place] or None))
        return found

    async def status(self, mailbox: bytes) -> Status | None:
        """See contract."""
        reply = await self._call(mailbox, "status", mailbox)
        return None if reply is None else Status(_number(reply[0]), reply[1], reply[2], _pools(reply[3]))

    # Addresses and prekeys.

    async def put_addresses(self, mailbox: bytes, addresses: Sequence[AddressSpec]) -> Code | None:
        """See contract."""
        bucket = self._bucket(mailbox)  # an address elsewhere cannot be this mailbox's
        addresses = [spec for spec in addresses if self._bucket(spec.address) == bucket]
        specs = [spec.address + spec.cap.to_bytes(4, "big") + bytes((spec.kind,)) for spec in addresses]
        return _PUT[await self._call(mailbox, "put_addresses", mailbox, self._quotas.addresses, *specs)]

    async def revoke_addresses(self, mailbox: bytes, addresses: Sequence[bytes]) -> None:
        """See contract."""
        if await self._call(mailbox, "revoke_addresses", mailbox, *addresses):
            self._claims.forget(self._bucket(mailbox))

    async def put_prekeys(
        self, mailbox: bytes, suite: int, first: int, packages: Sequence[bytes], last_resort: bytes, *, replace: bool
    ) -> Code | None:
        """See contract."""
        return _PUT[
            await self._call(
                mailbox,
                "put_prekeys",
                mailbox,
                suite.to_bytes(2, "big"),
                first,
                self._quotas.prekeys,
                limits.MAX_SUITES,
                limits.PREKEYS_LOW_MARK,
                int(replace),
                last_resort,
                *(frames.encode_prekey(0, first + place, package) for place, package in enumerate(packages)),
                cost=max(1, len(packages)),
            )
        ]

    def claim(self, suite: int, addresses: Sequence[bytes], spent: Collection[int] = ()) -> Awaitable[Issued]:
        """See contract."""
        return self._claims.claim((suite, addresses), spent)

    def begin_claim(self, suite: int, addresses: Sequence[bytes], outcome: Outcome) -> None:
        """See contract."""
        self._claims.begin((suite, addresses), outcome)

    async def mark_spent(self, address: bytes) -> bytes | None:
        """See contract."""
        reply = await self._call(address, "mark_spent", address, SPENT_KEPT)
        if reply is None:
            return None
        mailbox, node = reply[: ids.ID_BYTES], reply[ids.ID_BYTES :]
        if node not in {_NOBODY, self._node}:
            self._masters.publish(self._bucket(address), node, SPENT + mailbox + address)
        return bytes(mailbox)

    # Deposits.

    async def resolve(self, addresses: Sequence[bytes]) -> Sequence[bytes | None]:
        """See contract."""
        return [found[: ids.ID_BYTES] if found else None for found in await self._resolve(addresses)]

    async def pass_on(self, addresses: Sequence[bytes], message_id: bytes, body: bytes) -> Sequence[bytes | None]:
        """See contract."""
        found = await self._resolve(addresses)
        for each in dict.fromkeys(found):  # a list that names a mailbox a thousand times is not sent so often
            if each is not None and each[ids.ID_BYTES :] not in {_NOBODY, self._node}:
                mailbox = each[: ids.ID_BYTES]
                message = EPHEMERAL + mailbox + message_id + body
                self._masters.publish(self._bucket(mailbox), each[ids.ID_BYTES :], message)
        return [each[: ids.ID_BYTES] if each else None for each in found]

    async def _resolve(self, addresses: Sequence[bytes]) -> Sequence[bytes | None]:
        groups = self._grouped(addresses)
        calls = []
        for places in groups.values():
            group = [addresses[place] for place in places]
            calls.append((places, self._call(group[0], "resolve", *group, cost=len(group))))
        found: list[bytes | None] = [None] * len(addresses)
        for places, call in calls:
            for place, each in zip(places, await call, strict=True):
                found[place] = each
        return found

    def deposit(self, deposit: Deposit) -> Awaitable[Accepted | FenceLost]:
        """See contract."""
        future: asyncio.Future[Accepted | FenceLost] = asyncio.get_running_loop().create_future()
        self.begin_deposit(deposit, future)
        return future

    def begin_deposit(self, deposit: Deposit, outcome: Outcome) -> None:
        """See contract."""
        if deposit.fence is not None:
            asyncio.ensure_future(self._deposit_fenced(deposit)).add_done_callback(partial(forward, outcome))
            return
        fan = FanOut(deposit, next(self._numbers), self._masters.buckets, outcome)
        if fan.split:
            fan.outcome = future = asyncio.get_running_loop().create_future()
            asyncio.ensure_future(self._settle(fan, future)).add_done_callback(partial(forward, outcome))
        self._submit(fan)

    async def _deposit_fenced(self, deposit: Deposit) -> Accepted | FenceLost:
        outcome = await self.win_fence(deposit)
        if outcome == 0:
            return FenceLost()
        return await self._finish_fence(deposit) if outcome == 1 else Accepted(())

    async def win_fence(self, deposit: Deposit) -> int:
        """Win the fence of a deposit: 0 lost, 1 won and to be fanned out, by any node; 2 won and done with."""
        now = self._clock()
        fence = deposit.fence or b""
        outcome: int = await self._call(
            fence,
            "fence_claim",
            fence,
            deposit.message_id,
            proofs.body_digest(deposit.body),
            deposit.digest[:DIGEST_BYTES],
            deposit.body,
            encode_deposit(deposit),
            now // 1000,
            now // 1000 + limits.FENCE_LIFETIME,
            now + LEASE_SECONDS * 1000,
            now // 1000 + limits.DEDUPLICATION_LIFETIME,
        )
        return outcome

    async def _finish_fence(self, deposit: Deposit) -> Accepted:
        future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._submit(FanOut(deposit, next(self._numbers), self._masters.buckets, future))
        accepted = await future
        if deposit.fence is not None:
            await self._call(deposit.fence, "fence_done", deposit.fence)
        return accepted

    def _submit(self, fan: FanOut) -> None:
        for part in fan.parts:
            self._masters.submit(part)

    async def _settle(self, fan: FanOut, future: asyncio.Future[Accepted]) -> Accepted:
        """Have all buckets forget a deposit that none has stored: it is not known again."""
        outcome = await future
        if len(outcome.failed) == len(fan.item.addresses):
            calls = [Call(part.bucket, "forget", (fan.digest,)) for part in fan.parts]
            for call in calls:
                self._masters.submit(call)
            for call in calls:
                await call
        return outcome

    async def winner(self, fence: bytes) -> Winner | None:
        """See contract."""
        reply = await self._call(fence, "winner", fence)
        return None if reply is None else Winner(*reply)

    # Slots and codes.

    async def get_slot(self, slot: bytes) -> StoredSlot | None:
        """See contract."""
        reply = await self._call(slot, "get_slot", slot, self._now())
        return None if reply is None else StoredSlot(_number(reply[0]), reply[1])

    async def put_slot(self, slot: bytes, version: int, lifetime: int, body: bytes) -> bool:
        """See contract."""
        now = self._now()
        before, current = (version - 1).to_bytes(8, "big"), version.to_bytes(8, "big")
        return bool(await self._call(slot, "put_slot", slot, current, before, now, now + lifetime, body))

    async def delete_slot(self, slot: bytes) -> None:
        """See contract."""
        await self._call(slot, "delete_slot", slot)

    async def add_codes(self, hashes: Sequence[bytes], lifetime: int) -> None:
        """See contract."""
        expires = self._now() + lifetime
        for places in self._grouped(hashes).values():
            group = [hashes[place] for place in places]
            await self._call(group[0], "add_codes", expires, *group)

    # What is held of a mailbox.

    async def holdings(self, mailbox: bytes, after: bytes) -> tuple[Sequence[Holding], bytes]:
        """See contract."""
        masters, bucket = self._masters, self._bucket(mailbox)
        found: tuple[Sequence[Holding], bytes] = await redis_holdings.part(
            masters.command, self.read, masters.prefix, bucket, mailbox, after
        )
        return found

    async def find(self, wanted: Callable[[bytes], bool]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """See contract."""
        found: dict[str, list[bytes]] = {"mailbox": [], "slot": []}
        for bucket in range(self._masters.buckets):
            keys = bucket_keys(self._masters.prefix, bucket)
            for name, identifiers in found.items():
                fields = await self._masters.command("HKEYS", keys[KEYS.index(name)], bucket=bucket)
                identifiers += [each for each in fields if wanted(each)]
        return found["mailbox"], found["slot"]

    async def scrub(self) -> None:
        """See contract. Addresses of deleted mailboxes go with the sweep; each server writes its log and dump anew.

        Replicas, too, once they have what was deleted: a file of one would bring it back.
        """
        await self.sweep()
        masters = self._masters
        await asyncio.gather(*(redis_scrub.rewrite_all(link, masters.connect) for link in masters.links()))

    # Upkeep.

    async def sweep(self) -> None:
        """See contract."""
        await asyncio.gather(*(self._sweep(bucket) for bucket in range(self._masters.buckets)))

    async def _sweep(self, bucket: int) -> None:
        more = 1
        while more:
            call = Call(bucket, "sweep", (self._now(), SWEEP_BATCH, SWEEP_ENTRIES))
            self._masters.submit(call)
            more = await call

    async def totals(self) -> Totals:
        """See contract."""
        calls = [Call(bucket, "totals", ()) for bucket in range(self._masters.buckets)]
        for call in calls:
            self._masters.submit(call)
        found = [await call for call in calls]
        mailboxes, entries, size = (sum(column) for column in zip(*found, strict=True))
        return Totals(mailboxes, entries, size)

    async def _repeat(self, interval: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(interval)
            with contextlib.suppress(StoreError):
                await work()

    async def _look(self) -> None:
        """See whether a mailbox that is served here has something that nobody told of, or another owner."""
        for bucket, mailboxes in list(self._notices.batches(self._bucket)):
            call = Call(bucket, "latest", mailboxes, len(mailboxes))
            self._masters.submit(call)
            for mailbox, found in zip(mailboxes, await call, strict=True):
                self._notices.looked(mailbox, found)

    async def _redrive(self) -> None:
        """Finish what other nodes have won fences for and left."""
        now = self._clock()
        calls = [
            Call(bucket, "fence_pending", (now, now + LEASE_SECONDS * 1000, REDRIVE_BATCH))
            for bucket in range(self._masters.buckets)
        ]
        for call in calls:
            self._masters.submit(call)
        for call in calls:
            for data in await call:
                with contextlib.suppress(StoreError):
                    await self._finish_fence(decode_deposit(data))
