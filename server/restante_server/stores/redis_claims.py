"""Claims of prekeys: which pool an address leads to is looked up once and then remembered.

What is remembered of a bucket holds for as long as that has the same epoch, and no address was revoked and no mailbox
deleted there: the script says so and nothing happens, and then the addresses are looked up again.
"""

import asyncio
import contextlib
import struct
from collections import defaultdict
from collections.abc import Awaitable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from restante_protocol import frames, ids
from restante_protocol.errors import Code
from restante_server.stores import redis_pools
from restante_server.stores.contract import EMPTY, GONE, Claimed, Outcome, PoolLow, forward
from restante_server.stores.redis_link import bulk
from restante_server.stores.redis_masters import Masters
from restante_server.stores.redis_notices import low_message
from restante_server.stores.redis_scripts import KEYS, bucket_keys
from restante_server.stores.redis_shard import FIELD_BYTES, MAX_COST, KnownClaims, MappedCall, Request, StaleError

KNOWN_POOLS: Final = 200_000  # addresses of one bucket whose pools are remembered: some 60 MB
_NOBODY: Final = bytes(8)
_NO_POOL: Final = bytes(FIELD_BYTES)
_LOW: Final = struct.Struct(">24sHI8s")

Taken = tuple[Sequence[Claimed], Sequence[PoolLow]]
"""What the store says to a claim."""


class _Known:
    """The pools to which addresses of one bucket lead.

    Attributes:
        version: epoch and revocations that they go with.
    """

    __slots__ = ("_count", "_pools", "version")

    def __init__(self) -> None:
        self.version = b""
        self._pools: dict[int, dict[bytes, bytes]] = {}
        self._count = 0

    def of(self, suite: int) -> Mapping[bytes, bytes]:
        """Return for each address the key of its packages, as it is sent."""
        return self._pools.get(suite, {})

    def learn(self, version: bytes, suite: int, found: Mapping[bytes, bytes]) -> None:
        """Remember pools; what goes with another version is forgotten."""
        if self.version != version or self._count > KNOWN_POOLS:
            self._pools.clear()
            self.version, self._count = version, 0
        if found:
            self._pools.setdefault(suite, {}).update(found)
            self._count += len(found)


class Claims:
    """The claims of one node."""

    def __init__(self, masters: Masters, node: bytes) -> None:
        """Remember nothing yet; ``node``: the own one, who is not told of pools that run low."""
        self._masters = masters
        self._node = node
        self._known: defaultdict[int, _Known] = defaultdict(_Known)  # by bucket
        self._open: dict[int, KnownClaims] = {}  # by bucket, the last one
        self._loop = asyncio.get_running_loop()

    def claim(self, request: Request, spent: Collection[int]) -> Awaitable[Taken]:
        """See ``contract.Store.claim``."""
        if self._masters.buckets > 1 or spent:
            return self._claim(request, spent)
        future: asyncio.Future[Taken] = self._loop.create_future()
        self.begin(request, future)
        return future

    def begin(self, request: Request, outcome: Outcome) -> None:
        """See ``contract.Store.begin_claim``."""
        if self._masters.buckets > 1:
            asyncio.ensure_future(self._claim(request, ())).add_done_callback(partial(forward, outcome))
            return
        suite, addresses = request
        keys = list(map(self._known[0].of(suite).get, addresses))
        if None in keys:
            call = self._look_up(0, suite, addresses, last_resort=False)
            call.outcome.add_done_callback(partial(forward, outcome))
        else:
            self._claim_known(0, cast("list[bytes]", keys), outcome, request)

    async def _claim(self, request: Request, spent: Collection[int]) -> Taken:
        suite, addresses = request
        claimed: list[Claimed] = [b""] * len(addresses)
        lows: list[PoolLow] = []
        groups: dict[int, tuple[list[int], list[bytes]]] = {}
        for place, address in enumerate(addresses):
            bucket = self._bucket(address)
            key = self._known[bucket].of(suite).get(address)
            if key is not None and place not in spent:
                places, keys = groups.setdefault(bucket, ([], []))
                places.append(place)
                keys.append(key)
        calls = []
        for bucket, (places, keys) in groups.items():
            future: asyncio.Future[tuple[list[bytes | None], bytes]] = self._loop.create_future()
            self._claim_known(bucket, keys, future, None)
            calls.append((bucket, places, future))
        for bucket, places, future in calls:
            with contextlib.suppress(StaleError):  # then they are looked up again
                answers, low = await future
                lows += self._tell(bucket, low)
                for place, answer in zip(places, answers, strict=True):
                    claimed[place] = answer or b""
        await self._look_up_rest(request, spent, claimed, lows)
        return claimed, lows

    def _claim_known(self, bucket: int, keys: list[bytes], outcome: Outcome, whole: Request | None) -> None:
        """Claim from known pools, with all others that do so in this tick. See ``KnownClaims.add``."""
        claims, version = self._open.get(bucket), self._known[bucket].version
        if claims is not None and claims.open and claims.known == version and claims.cost < MAX_COST:
            claims.add(keys, outcome, whole)
            return
        claims = self._open[bucket] = KnownClaims(bucket, version, self._complete)
        claims.add(keys, outcome, whole)
        self._loop.call_soon(claims.close)
        self._masters.submit(claims)

    async def _complete(self, request: Request, answers: Sequence[bytes | None], low: bytes) -> Taken:
        """Claim again where known pools are empty, or not to be used any more."""
        claimed = [answer or b"" for answer in answers]
        lows = self._tell(0, low)
        await self._look_up_rest(request, (), claimed, lows)
        return claimed, lows

    async def _look_up_rest(
        self, request: Request, spent: Collection[int], claimed: list[Claimed], lows: list[PoolLow]
    ) -> None:
        """Claim for addresses that have no answer yet."""
        suite, addresses = request
        groups: dict[tuple[int, bool], list[int]] = {}
        for place, answer in enumerate(claimed):
            if not answer:
                groups.setdefault((self._bucket(addresses[place]), place in spent), []).append(place)
        calls = []
        for (bucket, last_resort), places in groups.items():
            group = [addresses[place] for place in places]
            calls.append((places, self._look_up(bucket, suite, group, last_resort=last_resort)))
        for places, call in calls:
            answers, more = await call
            lows += more
            for place, answer in zip(places, answers, strict=True):
                claimed[place] = answer

    def _look_up(self, bucket: int, suite: int, addresses: Sequence[bytes], *, last_resort: bool) -> MappedCall:
        """Claim through addresses of one bucket, and learn which pools they lead to.

        The call gets their packages, and the pools that ran low.
        """
        argument = suite.to_bytes(2, "big") + bytes((last_resort,)) + b"".join(addresses)
        learn = partial(self._looked_up, bucket, self._masters.epochs[bucket], suite, addresses)
        call = MappedCall(bucket, "claim", (argument,), len(addresses), learn)
        self._masters.submit(call)
        return call

    def _looked_up(
        self, bucket: int, epoch: bytes, suite: int, addresses: Sequence[bytes], reply: Sequence[Any]
    ) -> tuple[list[Claimed], list[PoolLow]]:
        """Take what the script ``claim`` answers."""
        answers, fields, low, revocations = reply
        prekey = bucket_keys(self._masters.prefix, bucket)[KEYS.index("prekey")]
        first, end = bulk(redis_pools.list_key(prekey, _NO_POOL)).split(_NO_POOL)
        claimed: list[Claimed] = []
        found: dict[bytes, bytes] = {}
        for place, (address, answer) in enumerate(zip(addresses, answers, strict=True)):
            field = fields[FIELD_BYTES * place : FIELD_BYTES * place + FIELD_BYTES]
            if field != _NO_POOL:
                claimed.append(answer)
                found[address] = first + field + end
            elif isinstance(answer, int):
                claimed.append(GONE if answer == Code.GONE else EMPTY)
            else:
                claimed.append(frames.encode_prekey(0, 0, answer[1:]))
        self._known[bucket].learn(epoch + revocations, suite, found)
        return claimed, self._tell(bucket, low)

    def _bucket(self, address: bytes) -> int:
        return address[0] % ids.BUCKETS % self._masters.buckets

    def _tell(self, bucket: int, data: bytes) -> list[PoolLow]:
        """Return which pools ran low; other nodes that serve their owners are told."""
        lows = []
        for mailbox, suite, left, node in _LOW.iter_unpack(data):
            lows.append(PoolLow(mailbox, suite, left))
            if node not in {_NOBODY, self._node}:
                self._masters.publish(bucket, node, low_message(lows[-1]))
        return lows
