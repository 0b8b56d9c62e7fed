"""All masters of a Redis or Valkey store: who holds which bucket, connections, checks, and the buckets' epochs."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import hiredis
import structlog

from restante_protocol import ids
from restante_server.stores import redis_durability
from restante_server.stores.contract import Level, StoreRefused, StoreUnavailable
from restante_server.stores.redis_address import Host, RedisAddress
from restante_server.stores.redis_calls import Call
from restante_server.stores.redis_link import Link, LinkLost
from restante_server.stores.redis_scripts import SCRIPTS, bucket_keys, channel
from restante_server.stores.redis_shard import WAIT_MILLISECONDS, Committed, Shard
from restante_server.stores.redis_topology import HostOf, find_masters

CLUSTER_BUCKETS: Final = 48  # divides ids.BUCKETS; sixteen masters get three each
VERSION: Final = 1  # of the layout of keys
CALL_SECONDS: Final = 6.0  # a call is tried again for so long while masters come and go
SETUP_SECONDS: Final = 3.0  # for one server to connect and be looked at
LOOK_INTERVAL: Final = 0.5  # seconds between looks at what hangs and who replicates
RETRY_INTERVAL: Final = 0.1  # seconds between looks while something is missing
_STALLED: Final = 1.0  # seconds after which a silent master's place is asked for

_log = structlog.get_logger("redis")


class Store(Protocol):
    """The store, as its masters see it."""

    def head(self, script: str) -> tuple[bytes | int | str, ...]:
        """See ``redis_shard.Surroundings``."""
        ...

    def deposited(self, done: list[Committed], *, in_order: bool) -> None:
        """See ``redis_shard.Surroundings``."""
        ...

    def heard(self, message: bytes) -> None:
        """Another node sent this."""
        ...

    def renewed(self, bucket: int) -> None:
        """The bucket has another epoch."""
        ...


class Masters:
    """See the module.

    Attributes:
        prefix: of all keys.
        buckets: how many.
        epochs: of each bucket; empty before it was looked at.
        versions: the highest of each bucket that this node was told.
        level: what the masters hold.
        facts: what the store's own record says: it is written again if it is lost.
    """

    def __init__(
        self, address: RedisAddress, store: Store, node: bytes, random: Callable[[int], bytes], *, accept_loss: bool
    ) -> None:
        """Begin unconnected; ``open`` connects."""
        self.prefix = address.prefix
        self.buckets = 0
        self.epochs: list[bytes] = []
        self.versions: list[int] = []
        self.level: Level = "power"
        self.facts: dict[str, bytes] = {}
        self._address = address
        self._store = store
        self._node = node
        self._random = random
        self._accept_loss = accept_loss
        self._host_of: HostOf = lambda _bucket: None
        self._hosts: list[Host | None] = []
        self._shards: dict[Host, Shard] = {}
        self._parked: list[Call] = []
        self._troubled = asyncio.Event()
        self._closed = False
        self._opened = False
        self._keeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.head = store.head
        self.deposited = store.deposited

    # Opening and closing.

    async def open(self) -> None:
        """Connect to all masters. Raises StoreRefused."""
        try:
            await self._look_up()
            await self._open_record()
            await self._refresh()
        except (LinkLost, OSError, TimeoutError) as error:
            raise StoreRefused(
                f"the Redis or Valkey server does not answer: {str(error) or type(error).__name__}"
            ) from None
        levels = {shard.replicas > 0 for shard in self._shards.values()}
        if len(levels) > 1:
            raise StoreRefused("some masters have replicas and others have none: give each one, or none")
        self._opened = True
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Finish what was asked for, and disconnect."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_SECONDS):
                for shard in list(self._shards.values()):
                    await shard.settled()
        tasks = [task for task in [self._keeper, *(s.connecting for s in self._shards.values())] if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for shard in self._shards.values():
            shard.close()
            for call in shard.take_pending():
                call.fail(StoreUnavailable())
        for call in self._parked:
            call.fail(StoreUnavailable())
        await asyncio.sleep(0)  # the transports end in the next turn of the loop

    async def _open_record(self) -> None:
        """Read or make the store's own record: version, number of buckets."""
        count = CLUSTER_BUCKETS if self._address.kind == "cluster" else 1
        host = self._host_of(0)
        if host is None:
            raise LinkLost("the cluster has no master for some slots")
        link = await Link.open(self._address, host)
        try:
            self._judge(await redis_durability.ask(link))
            key = self.record_key
            replies = await link.call(
                [
                    ("HSETNX", key, "version", VERSION),
                    ("HSETNX", key, "buckets", count),
                    ("HMGET", key, "version", "buckets"),
                ]
            )
            if isinstance(replies[-1], hiredis.ReplyError):
                raise StoreRefused(f"the server refuses commands: {str(replies[-1]).partition(' ')[0]}")
            version, buckets = replies[-1]
            if int(version) > VERSION:
                raise StoreRefused("a newer version of the relay wrote this store: upgrade the relay")
        finally:
            link.close()
        self.facts.update(version=version, buckets=buckets)
        self.buckets = int(buckets)
        self.epochs = [b""] * self.buckets
        self.versions = [0] * self.buckets
        self._map()

    @property
    def record_key(self) -> bytes:
        """The key of the store's own record, in the slot of bucket 0."""
        return f"{self.prefix}:{{0}}:store".encode()

    # Calls.

    def bucket_of(self, identifier: bytes) -> int:
        """Return the bucket of an id or a fence tag."""
        return ids.bucket_of(identifier) % self.buckets

    def host_of(self, bucket: int) -> Host | None:
        """See ``redis_shard.Surroundings``."""
        return self._hosts[bucket]

    def submit(self, call: Call) -> None:
        """Send a call to its bucket's master."""
        if not call.deadline:
            if self._closed:
                call.fail(StoreUnavailable())
                return
            call.deadline = self._loop.time() + CALL_SECONDS
        host = self._hosts[call.bucket]
        shard = self._shards.get(host) if host is not None else None
        if shard is None:
            self._parked.append(call)
            self.trouble()
        else:
            shard.submit(call)

    def publish(self, bucket: int, node: bytes, message: bytes) -> None:
        """Tell a node; if it is lost, that node finds out by itself."""
        host = self._hosts[bucket]
        if host is not None and (shard := self._shards.get(host)) is not None:
            shard.publish(channel(self.prefix, bucket, node), message)

    async def command(self, *command: Any, bucket: int = 0) -> Any:  # noqa: ANN401 -- a command and its reply
        """Run one command on the master of a bucket, or raise StoreUnavailable."""
        host = self._hosts[bucket]
        shard = self._shards.get(host) if host is not None else None
        if shard is None or shard.link is None:
            raise StoreUnavailable
        try:
            (reply,) = await shard.link.call([command])
        except LinkLost:
            raise StoreUnavailable from None
        if isinstance(reply, hiredis.ReplyError):
            raise StoreUnavailable
        return reply

    @property
    def reachable(self) -> bool:
        """A master is connected, and does not owe a reply for long."""
        shards = self._shards.values()
        return any(s.ready and s.link is not None and s.link.silence < _STALLED for s in shards)

    def links(self) -> list[Link]:
        """Return a connection to each master."""
        return [shard.link for shard in self._shards.values() if shard.link is not None]

    async def connect(self, host: Host) -> Link:
        """Connect to a server, such as a replica. Raises LinkLost or OSError."""
        return await Link.open(self._address, host)

    # Upkeep.

    def trouble(self) -> None:
        """Look at everything soon."""
        self._troubled.set()

    async def _keep(self) -> None:
        while True:
            wait = LOOK_INTERVAL if self._whole() else RETRY_INTERVAL
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._troubled.wait(), wait)
            troubled = self._troubled.is_set()
            self._troubled.clear()
            try:
                await self._tend(troubled)
            except (LinkLost, OSError, TimeoutError, StoreRefused) as error:
                _log.warning("masters not found", error=type(error).__name__)
            now = self._loop.time()
            for shard in self._shards.values():
                shard.expire(now)
            for call in [call for call in self._parked if call.deadline < now]:
                self._parked.remove(call)
                call.fail(StoreUnavailable())
            if troubled:
                await asyncio.sleep(RETRY_INTERVAL / 4)

    def _whole(self) -> bool:
        return all(shard.ready for shard in self._shards.values()) and not self._parked

    async def _tend(self, troubled: bool) -> None:
        now = self._loop.time()
        stalled = any(shard.since and now - shard.since > _STALLED for shard in self._shards.values())
        if troubled or stalled or not self._whole():
            await self._look_up()
            self._map()
            await self._refresh()
        if self.level == "failover":
            await self._count_replicas()

    async def _look_up(self) -> None:
        self._host_of = await find_masters(
            self._address, [link for link in self.links() if not link.lost], list(self._shards)
        )

    def _map(self) -> None:
        self._hosts = [self._host_of(bucket) for bucket in range(self.buckets)]

    async def _refresh(self) -> None:
        """Have a shard for every master; with the first call, all have to connect."""
        wanted = {host for host in self._hosts if host is not None}
        for host in [host for host in self._shards if host not in wanted]:
            shard = self._shards.pop(host)
            if shard.connecting is not None:
                shard.connecting.cancel()
            calls = shard.take_pending()
            shard.close()
            # What was under way comes back to the shard in this tick's callbacks.
            self._loop.call_soon(self._move, shard)
            self._parked += calls
        for host in wanted:
            shard = self._shards.setdefault(host, Shard(self, host))
            missing = {bucket for bucket in range(self.buckets) if self._hosts[bucket] == host} - shard.begun
            if (missing or not shard.ready) and shard.connecting is None:
                shard.connecting = asyncio.create_task(self._set_up(shard))
        parked, self._parked = self._parked, []
        for call in parked:
            self.submit(call)
        tasks = [shard.connecting for shard in self._shards.values() if shard.connecting is not None]
        if not self._opened:
            for task in tasks:
                await task
        elif tasks:
            await asyncio.wait(tasks, timeout=RETRY_INTERVAL)

    def _move(self, shard: Shard) -> None:
        for call in shard.take_pending():
            self.submit(call)

    async def _set_up(self, shard: Shard) -> None:
        """Connect, check, look at the buckets, listen; then calls go out."""
        try:
            async with asyncio.timeout(SETUP_SECONDS):
                if shard.link is None or shard.link.lost:
                    shard.forget()
                    shard.link = await Link.open(self._address, shard.host, on_lost=lambda: self._lost(shard))
                facts = await redis_durability.ask(shard.link)
                self._judge(facts)
                if self.level == "failover":
                    shard.replicas = facts.replicas
                await self._load_scripts(shard.link)
                await self._begin(shard, facts)
                await self._listen(shard)
            shard.ready = True
            shard.schedule()
        except (LinkLost, OSError, TimeoutError, StoreRefused) as error:
            if not self._opened:
                raise
            _log.warning("master not ready", reason=str(error) if isinstance(error, StoreRefused) else "no answer")
            shard.close()
        finally:
            shard.connecting = None

    def _lost(self, shard: Shard) -> None:
        shard.ready = False
        self.trouble()

    def _judge(self, facts: redis_durability.Facts) -> None:
        """Check a master. Raises StoreRefused if it does not hold the level."""
        level = redis_durability.judge(
            facts, may_fail_over=self._address.kind != "single", accept_loss=self._accept_loss
        )
        if not self._opened:
            self.level = level
        elif level != self.level and not (self.level == "power" and level == "failover"):
            raise StoreRefused(f"this master holds level {level}, the relay promised {self.level}")

    async def _load_scripts(self, link: Link) -> None:
        replies = await link.call([("SCRIPT", "LOAD", script.text) for script in SCRIPTS.values()])
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise StoreRefused(f"the server does not take scripts: {reply}")

    async def _begin(self, shard: Shard, facts: redis_durability.Facts) -> None:
        """Look at the buckets of this master that have not been looked at over this connection."""
        here = {bucket for bucket in range(self.buckets) if self._hosts[bucket] == shard.host}
        shard.begun &= here  # what has moved away may come back changed
        buckets = sorted(here - shard.begun)
        if not buckets or shard.link is None:
            return
        commands: list[tuple[Any, ...]] = []
        script = SCRIPTS["begin"]
        for bucket in buckets:
            keys = bucket_keys(self.prefix, bucket)
            arguments = (b"", facts.run_id, facts.replication, facts.previous, self.versions[bucket], self._random(8))
            commands.append(("EVALSHA", script.sha, len(keys), *keys, *arguments))
        count = len(commands)
        if 0 in buckets:
            commands += [("HSETNX", self.record_key, name, value) for name, value in self.facts.items()]
        commands.append(("WAIT", shard.replicas, WAIT_MILLISECONDS))
        replies = await shard.link.call(commands)
        if shard.replicas and (not isinstance(replies[-1], int) or replies[-1] < shard.replicas):
            raise LinkLost("too few replicas")
        for bucket, reply in zip(buckets, replies[:count], strict=True):
            if isinstance(reply, hiredis.ReplyError):
                raise LinkLost(str(reply))
            renewed = self.epochs[bucket] not in {b"", reply}
            self.epochs[bucket] = reply
            shard.begun.add(bucket)
            if renewed:
                _log.warning("a bucket has a new epoch")
                self._store.renewed(bucket)

    async def _listen(self, shard: Shard) -> None:
        """Subscribe to what other nodes say about this master's buckets."""
        if shard.notices is None or shard.notices.lost:
            shard.subscribed.clear()
            shard.notices = await Link.open(
                self._address,
                shard.host,
                on_push=lambda reply: self._pushed(shard, reply),
                on_lost=lambda: self._lost(shard),
            )
        wanted = {channel(self.prefix, bucket, self._node) for bucket in shard.begun}
        for name in wanted - shard.subscribed:
            shard.notices.send(("SSUBSCRIBE", name))
        while not wanted <= shard.subscribed:
            shard.heard.clear()
            await shard.heard.wait()

    def _pushed(self, shard: Shard, reply: list[Any]) -> None:
        if reply[0] == b"smessage":
            self._store.heard(reply[2])
        elif reply[0] == b"ssubscribe":
            shard.subscribed.add(reply[1])
        elif reply[0] == b"sunsubscribe":  # the slot is another master's now
            shard.subscribed.discard(reply[1])
            self.trouble()
        shard.heard.set()

    async def _count_replicas(self) -> None:
        """Learn who replicates: all of these have to confirm."""
        for shard in list(self._shards.values()):
            if shard.ready and shard.link is not None:
                try:
                    async with asyncio.timeout(_STALLED + WAIT_MILLISECONDS / 1000):
                        (reply,) = await shard.link.call([("INFO", "replication")])
                except (LinkLost, TimeoutError):
                    continue
                found = redis_durability.info(reply)
                shard.replicas = max(1, int(found.get("connected_slaves", 0)))
                if found.get("role") != "master":
                    shard.close()
