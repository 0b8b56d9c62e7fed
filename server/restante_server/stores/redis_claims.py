"""Claims of prekeys: which pool an address leads to is looked up once and then remembered.

What is remembered of a bucket holds for as long as that has the same epoch, and no address was revoked and no mailbox
deleted there. Packages are popped and then a script is asked whether it held: of an address that is no more the package
is issued to nobody, and after another epoch none is.
"""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Awaitable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from restante_protocol import frames, ids, limits
from restante_protocol.errors import Code
from restante_server.stores import redis_pools
from restante_server.stores.contract import EMPTY, GONE, Claimed, Issued, Outcome, PoolLow, StoreUnavailable, forward
from restante_server.stores.redis_calls import HOLDS, REVOKED, Call, KnownClaims, MappedCall, Package, Popped, Request
from restante_server.stores.redis_link import pack
from restante_server.stores.redis_masters import Masters
from restante_server.stores.redis_notices import low_message
from restante_server.stores.redis_pools import FIELD_BYTES, list_key
from restante_server.stores.redis_scripts import KEYS, bucket_keys
from restante_server.stores.redis_shard import MAX_COST

KNOWN_POOLS: Final = 200_000  # addresses of one bucket whose pools are remembered: some 60 MB
_NOBODY: Final = bytes(8)
_NUMBER_BYTES: Final = 4
_NO_POOL: Final = bytes(FIELD_BYTES)
_END: Final = b"\r\n"
_LOW: Final = struct.Struct(">24sHI8s")


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
        """Return for each address the command that pops its packages, as it is sent."""
        return self._pools.get(suite, {})

    def forget(self) -> None:
        """Look up all again."""
        self.learn(b"", 0, {}, ())

    def learn(self, version: bytes, suite: int, found: Mapping[bytes, bytes], empty: Sequence[bytes]) -> None:
        """Remember pools, but those that are empty; what goes with another version is forgotten."""
        if self.version != version or self._count > KNOWN_POOLS:
            self._pools.clear()
            self.version, self._count = version, 0
        if found:
            self._pools.setdefault(suite, {}).update(found)
            self._count += len(found)
        pools = self._pools.get(suite, {})
        for address in empty:
            pools.pop(address, None)


class Claims:
    """The claims of one node."""

    def __init__(self, masters: Masters, node: bytes) -> None:
        """Remember nothing yet; ``node``: the own one, who is not told of pools that run low."""
        self._masters = masters
        self._node = node
        self._known: defaultdict[int, _Known] = defaultdict(_Known)  # by bucket
        self._open: dict[int, KnownClaims] = {}  # by bucket, the last one
        self._loop = asyncio.get_running_loop()

    def forget(self, bucket: int) -> None:
        """An address was revoked there, or a mailbox deleted: look up all again."""
        self._known[bucket].forget()

    def claim(self, request: Request, spent: Collection[int]) -> Awaitable[Issued]:
        """See ``contract.Store.claim``."""
        if self._masters.buckets > 1 or spent:
            return self._claim(request, spent)
        future: asyncio.Future[Issued] = self._loop.create_future()
        self.begin(request, future)
        return future

    def begin(self, request: Request, outcome: Outcome) -> None:
        """See ``contract.Store.begin_claim``."""
        if self._masters.buckets > 1:
            asyncio.ensure_future(self._claim(request, ())).add_done_callback(partial(forward, outcome))
            return
        suite, addresses = request
        pops = list(map(self._known[0].of(suite).get, addresses))
        if None in pops:
            call = self._look_up(0, suite, addresses, last_resort=False)
            call.outcome.add_done_callback(partial(forward, outcome))
        else:
            self._claim_known(0, cast("list[bytes]", pops), outcome, request)

    async def _claim(self, request: Request, spent: Collection[int]) -> Issued:
        suite, addresses = request
        claimed: list[Claimed] = [b""] * len(addresses)
        lows: list[PoolLow] = []
        groups: dict[int, tuple[list[int], list[bytes]]] = {}
        for place, address in enumerate(addresses):
            bucket = self._masters.bucket_of(address)
            pop = self._known[bucket].of(suite).get(address)
            if pop is not None and place not in spent:
                places, pops = groups.setdefault(bucket, ([], []))
                places.append(place)
                pops.append(pop)
        calls = []
        for bucket, (places, pops) in groups.items():
            future: asyncio.Future[Popped] = self._loop.create_future()
            self._claim_known(bucket, pops, future, None)
            calls.append((bucket, places, pops, future))
        outcomes = await _all([future for *_, future in calls])
        for (bucket, places, pops, _), (popped, state) in zip(calls, outcomes, strict=True):
            found, more = await self._take(bucket, [addresses[place] for place in places], pops, popped, state)
            lows += more
            for place, answer in zip(places, found, strict=True):
                claimed[place] = answer
        await self._look_up_rest(request, spent, claimed, lows)
        return claimed, lows

    def _claim_known(self, bucket: int, pops: list[bytes], outcome: Outcome, whole: Request | None) -> None:
        """Claim from known pools, with all others that do so in this tick. See ``KnownClaims.add``."""
        claims, version = self._open.get(bucket), self._known[bucket].version
        if claims is not None and claims.open and claims.known == version and claims.cost < MAX_COST:
            claims.add(pops, outcome, whole)
            return
        claims = self._open[bucket] = KnownClaims(bucket, version, self._complete)
        claims.add(pops, outcome, whole)
        self._loop.call_soon(claims.close)
        self._masters.submit(claims)

    async def _complete(self, request: Request, pops: Sequence[bytes], popped: list[Package], state: int) -> Issued:
        """Take what was popped of the only bucket, and claim again where there is nothing."""
        claimed, lows = await self._take(0, request[1], pops, popped, state)
        await self._look_up_rest(request, (), claimed, lows)
        return claimed, lows

    async def _take(
        self, bucket: int, addresses: Sequence[bytes], pops: Sequence[bytes], popped: list[Package], state: int
    ) -> tuple[list[Claimed], list[PoolLow]]:
        """Return what popped packages answer, b"" where something has to be looked up, and which pools ran low."""
        claimed = [package if isinstance(package, bytes) else b"" for package in popped]
        lows: list[PoolLow] = []
        for place, package in enumerate(claimed):
            if package.startswith(redis_pools.LOW):
                claimed[place] = redis_pools.FIRST + package[1:]
                lows += await self._run_low(bucket, pops[place])
        if state != HOLDS:
            self.forget(bucket)
        if state == REVOKED:
            call = Call(bucket, "resolve", addresses, len(addresses))
            self._masters.submit(call)
            found = await call
            claimed = [answer if mailbox else GONE for answer, mailbox in zip(claimed, found, strict=True)]
        return claimed, lows

    async def _run_low(self, bucket: int, pop: bytes) -> list[PoolLow]:
        """Return who owns a pool that ran low; if the store is out of reach, the next subscription tells."""
        field = pop[-FIELD_BYTES - len(_END) : -len(_END)]
        queue = bucket_keys(self._masters.prefix, bucket)[KEYS.index("queue")]
        try:
            record = await self._masters.command("HGET", queue, field[:_NUMBER_BYTES], bucket=bucket)
        except StoreUnavailable:
            return []
        if record is None:
            return []
        owner, node = record[: ids.ID_BYTES], record[ids.ID_BYTES : ids.ID_BYTES + len(_NOBODY)]
        suite = int.from_bytes(field[_NUMBER_BYTES:], "big")
        return [self._tell(bucket, PoolLow(owner, suite, limits.PREKEYS_LOW_MARK - 1), node)]

    async def _look_up_rest(
        self, request: Request, spent: Collection[int], claimed: list[Claimed], lows: list[PoolLow]
    ) -> None:
        """Claim for addresses that have no answer yet."""
        suite, addresses = request
        groups: dict[tuple[int, bool], list[int]] = {}
        for place, answer in enumerate(claimed):
            if not answer:
                groups.setdefault((self._masters.bucket_of(addresses[place]), place in spent), []).append(place)
        calls = []
        for (bucket, last_resort), places in groups.items():
            group = [addresses[place] for place in places]
            calls.append((places, self._look_up(bucket, suite, group, last_resort=last_resort)))
        outcomes = await _all([call.outcome for _, call in calls])
        for (places, _), (answers, more) in zip(calls, outcomes, strict=True):
            lows += more
            for place, answer in zip(places, answers, strict=True):
                claimed[place] = answer

    def _look_up(self, bucket: int, suite: int, addresses: Sequence[bytes], *, last_resort: bool) -> MappedCall:
        """Claim through addresses of one bucket, and learn which pools they lead to.

        The call gets their packages, and the pools that ran low.
        """
        argument = suite.to_bytes(2, "big") + bytes((last_resort,)) + b"".join(addresses)
        learn = partial(self._looked_up, bucket, suite, addresses)
        call = MappedCall(bucket, "claim", (argument,), len(addresses), learn)
        self._masters.submit(call)
        return call

    def _looked_up(
        self, bucket: int, suite: int, addresses: Sequence[bytes], reply: Sequence[Any]
    ) -> tuple[list[Claimed], list[PoolLow]]:
        """Take what the script ``claim`` answers."""
        answers, fields, low, revocations = reply
        prekey = bucket_keys(self._masters.prefix, bucket)[KEYS.index("prekey")]
        key = list_key(prekey, _NO_POOL)
        first = pack(("LPOP", key)).removesuffix(_NO_POOL + _END)
        claimed: list[Claimed] = []
        found: dict[bytes, bytes] = {}
        empty: list[bytes] = []
        for place, (address, answer) in enumerate(zip(addresses, answers, strict=True)):
            field = fields[FIELD_BYTES * place : FIELD_BYTES * place + FIELD_BYTES]
            if field != _NO_POOL:
                claimed.append(answer)
                found[address] = first + field + _END
                continue
            empty.append(address)
            if isinstance(answer, int):
                claimed.append(GONE if answer == Code.GONE else EMPTY)
            else:
                claimed.append(frames.encode_prekey(0, 0, answer[1:]))
        self._known[bucket].learn(self._masters.epochs[bucket] + revocations, suite, found, empty)
        return claimed, [
            self._tell(bucket, PoolLow(mailbox, of_suite, left), node)
            for mailbox, of_suite, left, node in _LOW.iter_unpack(low)
        ]

    def _tell(self, bucket: int, low: PoolLow, node: bytes) -> PoolLow:
        """Tell the node that serves its owner, if it is another, that a pool ran low; return that."""
        if node not in {_NOBODY, self._node}:
            self._masters.publish(bucket, node, low_message(low))
        return low


async def _all(futures: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """Return all results, or raise the first error once nothing is under way."""
    results = await asyncio.gather(*futures, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
