"""A cluster behind proxies that can be cut, two relays over it behind a balancer, clients, and what happens to them."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from support.mortal import MortalRelay
from support.people import people
from support.proxies import Balancer, Proxy
from support.redis_servers import MASTERS, RedisCluster, RedisServer, free_ports
from support.survivors import Chat, Claimer, Depositor, Recipient
from support.waiting import until

RECOVERY = 10  # seconds from the fault within which every client has to be served again
FREEZE = 10  # seconds
REPLICAS = 2  # of each master: one is left when one is promoted
RIGHTS = ("on", ">password", "~*", "&*", "+@all")
NAMES = (b"first", b"second")  # of the relays, by which proxies know them


class Stage:
    """Everything that runs, and what can be done to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chance = random.Random()
        self.cluster = RedisCluster(folder / "cluster", replicas=REPLICAS)
        self.proxies = [Proxy(server.port, NAMES) for server in self.cluster.servers]
        self.relays = [MortalRelay(folder / name.decode() / "relay") for name in NAMES]
        self.front = Balancer()
        self.recipients: list[Recipient] = []
        self.depositors: list[Depositor] = []
        self.claimer: Claimer | None = None
        self.chat: Chat | None = None
        self._people = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        ports = free_ports(len(self.proxies))
        for proxy, server, port in zip(self.proxies, self.cluster.servers, ports, strict=True):
            await proxy.start(port)
            users = [word for name in NAMES for word in ("--user", name.decode(), *RIGHTS)]
            server.options = (*server.options, "--cluster-announce-port", str(port), *users)
        await asyncio.to_thread(self.cluster.start)
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies[:MASTERS])
        health = free_ports(len(self.relays))
        for name, relay, port in zip(NAMES, self.relays, health, strict=True):
            url = f"redis+cluster://{name.decode()}:password@{hosts}"
            relay.options = (f"--store={url}", f"--state={relay.folder}", f"--ops-listen=127.0.0.1:{port}")
            assert await relay.start() == "level=failover"
        await self.front.balance({relay.port: port for relay, port in zip(self.relays, health, strict=True)})
        address = f"http://127.0.0.1:{self.front.port}"
        self.recipients = [Recipient(address, bucket, publishes=bucket == 0) for bucket in range(0, 240, 40)]
        self.depositors = [Depositor(address, self.recipients, self.chance) for _ in range(2)]
        self.claimer = Claimer(address, self.recipients[0])
        self._tasks = [asyncio.create_task(recipient.run()) for recipient in self.recipients]
        for recipient in self.recipients:
            await asyncio.wait_for(recipient.registered.wait(), 30)
        self._tasks += [asyncio.create_task(each.run()) for each in self.depositors]
        self._tasks.append(asyncio.create_task(self.claimer.run()))
        self.chat = Chat(await self._people.enter_async_context(people(self.folder, address, "ann", "ben", "cy")))
        await self.chat.start()
        await self.served()

    async def stop(self) -> None:
        started = [relay for relay in self.relays if relay.started]
        for relay in started:
            with contextlib.suppress(ProcessLookupError):
                relay.signal(signal.SIGCONT)
        await self._people.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for relay in started:
            await relay.stop()
        for proxy in (*self.proxies, self.front):
            await proxy.stop()
        await asyncio.to_thread(self.cluster.stop)

    async def served(self) -> float:
        """Wait until every client got something through that began after this; return the seconds."""
        assert self.chat is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.timeout(60):
            await asyncio.gather(self._deposits_arrive(), self.chat.served())
        return loop.time() - started

    async def _deposits_arrive(self) -> None:
        counts = [len(each.accepted) for each in self.depositors]
        # The one after the next was certainly sent after this began.
        await until(lambda: all(len(d.accepted) > n + 1 for d, n in zip(self.depositors, counts, strict=True)))
        last = {each.accepted[-1] for each in self.depositors}
        await until(lambda: all(last <= recipient.got.keys() for recipient in self.recipients))

    async def check(self) -> None:
        """Nothing that was accepted is lost, nothing was stored twice, no prekey was issued twice."""
        accepted = {name for depositor in self.depositors for name in depositor.accepted}
        await until(lambda: all(accepted <= recipient.got.keys() for recipient in self.recipients))
        for recipient in self.recipients:
            assert recipient.twice == []
        assert self.claimer is not None
        assert len(set(self.claimer.claimed)) == len(self.claimer.claimed)

    async def settle(self) -> None:
        """Wait until the cluster is whole again."""
        await until(lambda: asyncio.to_thread(self._whole))

    def _whole(self) -> bool:
        if not self.cluster.healthy():
            return False
        masters = self.cluster.masters()
        counts = [int(master.command("INFO", "replication")["connected_slaves"]) for master in masters]
        return len(masters) == MASTERS and sum(counts) == MASTERS * REPLICAS and min(counts) > 0

    # What happens to it. Each returns the seconds from then until all clients were served.

    async def _until(self, seconds: float, undo: Awaitable[object]) -> float:
        """Undo a fault after so many seconds, whether or not clients are served before."""
        served = asyncio.create_task(self.served())
        try:
            await asyncio.sleep(seconds)  # as long as the fault lasts
        finally:
            await undo
        return await served

    def _master(self) -> RedisServer:
        return self.chance.choice(self.cluster.masters())

    def _relay(self) -> MortalRelay:
        """Return the one that has most clients: after a fault the other has them all."""
        return next(relay for relay in self.relays if relay.port == self.front.busiest())

    async def kill_master(self) -> float:
        master = await asyncio.to_thread(self._master)
        await asyncio.to_thread(master.kill)
        return await self._until(self.chance.choice((0, 1, 5)), asyncio.to_thread(master.start))

    async def kill_relay(self) -> float:
        relay = self._relay()
        await relay.kill()
        return await self._until(self.chance.choice((0, 1, 2)), relay.start())

    async def restart_relays(self) -> float:
        """One after the other, as for an upgrade."""
        longest = 0.0
        restarting = asyncio.create_task(self._restart())
        while not restarting.done():
            longest = max(longest, await self.served())
        await restarting
        return longest

    async def _restart(self) -> None:
        for relay in self.relays:
            assert await relay.stop() == 0
            await relay.start()

    async def stop_master(self) -> float:
        master = await asyncio.to_thread(self._master)
        master.signal(signal.SIGSTOP)
        return await self._until(FREEZE, _done(master.signal, signal.SIGCONT))

    async def stop_relay(self) -> float:
        relay = self._relay()
        relay.signal(signal.SIGSTOP)
        return await self._until(FREEZE, _done(relay.signal, signal.SIGCONT))

    async def cut(self) -> float:
        """One relay is cut off from all of Redis, with an end of its connections."""
        return await self._cut(silent=False)

    async def cut_silently(self) -> float:
        """The same, but nobody is told: bytes go nowhere."""
        return await self._cut(silent=True)

    async def _cut(self, *, silent: bool) -> float:
        who = NAMES[self.relays.index(self._relay())]
        for proxy in self.proxies:
            proxy.cut(who, silent=silent)
        return await self._until(self.chance.uniform(0.5, FREEZE), self._heal(who))

    async def cut_master(self) -> float:
        """One master is cut off from both relays, with an end of their connections; its replicas see it."""
        master = await asyncio.to_thread(self._master)
        proxy = self.proxies[self.cluster.servers.index(master)]
        for who in NAMES:
            proxy.cut(who, silent=False)
        return await self._until(self.chance.uniform(0.5, 5), self._heal(*NAMES))

    async def _heal(self, *names: bytes) -> None:
        for proxy in self.proxies:
            for who in names:
                proxy.heal(who)


async def _done(act: Callable[[signal.Signals], object], number: signal.Signals) -> None:
    act(number)


@contextlib.asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Set it up; at the end check it, unless something went wrong before."""
    stage = Stage(folder)
    try:
        await stage.start()
        yield stage
        await stage.check()
        assert stage.chat is not None
        async with asyncio.timeout(30):
            await stage.chat.check()
    finally:
        await stage.stop()
