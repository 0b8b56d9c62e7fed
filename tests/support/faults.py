"""A cluster behind proxies that can be cut, two relays over it, and clients that live with what happens to them."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp

from restante_protocol import frames
from restante_protocol.connection import NumberedEntry
from restante_protocol.errors import ProtocolError
from support.mortal import MortalRelay
from support.redis_servers import MASTERS, RedisCluster, RedisServer, free_ports
from support.relay import Owner, Peer

SUITE = 3
PATIENCE = 4  # seconds that a client waits for an answer before it connects anew
RECOVERY = 10  # seconds after which clients have to be served again
REPLICAS = 2  # of each master: one is left when one is promoted
TROUBLE = (OSError, TimeoutError, aiohttp.ClientError, ProtocolError, AssertionError, TypeError)
"""What a client meets while something is broken; it connects anew."""


class Proxy:
    """Forwards connections to one of its targets; ``cut`` ends them all and takes no more until ``heal``."""

    def __init__(self, *targets: int) -> None:
        self.targets = targets
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut = False
        self._turn = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        self._cut = False

    async def stop(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        for _ in self.targets:
            self._turn += 1
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(
                    "127.0.0.1", self.targets[self._turn % len(self.targets)]
                )
                break
        else:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= pair

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Recipient:
    """A mailbox and the client that reads it, connecting anew whenever it has to.

    Attributes:
        got: by message id, where it was.
        twice: message ids that were stored a second time.
    """

    def __init__(self, url: str, bucket: int, *, publishes: bool) -> None:
        self.url = url
        self.owner = Owner(bucket)
        self.spec = self.owner.address()
        self.got: dict[bytes, int] = {}
        self.twice: list[bytes] = []
        self.registered = asyncio.Event()
        self._publishes = publishes
        self._uploaded = 0
        self._incarnation = b""
        self._seen = 0

    async def run(self) -> None:
        while True:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(PATIENCE):
                    peer = await Peer.own(self.url, self.owner)
                try:
                    await self._read(peer)
                finally:
                    await peer.close()
            await asyncio.sleep(0.1)

    async def _read(self, peer: Peer) -> None:
        async with asyncio.timeout(PATIENCE):
            await peer.add_address(self.spec)
            if self._publishes:
                await self._publish(peer)
            answer = await peer.subscribe(self._incarnation, self._seen)
        if answer.incarnation != self._incarnation:
            self._incarnation, self._seen = answer.incarnation, 0
        self.registered.set()
        while True:
            each = await peer.next()
            if isinstance(each, NumberedEntry):
                name = each.entry.message_id
                if self.got.setdefault(name, each.sequence) != each.sequence:
                    self.twice.append(name)
                self._seen = max(self._seen, each.sequence)
                await peer.acknowledge(each.sequence)
            elif isinstance(each, frames.PrekeysLow):
                return  # connect anew, and publish
            elif not isinstance(each, frames.Drained):
                return

    async def _publish(self, peer: Peer) -> None:
        status = await peer.ask(frames.Status)
        left = sum(pool.left for pool in status.pools)
        while left < 200:
            packages = [os.urandom(32) for _ in range(100)]
            first = self._uploaded + 1
            self._uploaded += len(packages)  # whatever comes of it: a number is used once
            put = partial(
                frames.PrekeysPut, suite=SUITE, first=first, packages=packages, last_resort=b"", replace=False
            )
            assert isinstance(await peer.ask(put), frames.Done)
            left += len(packages)


class Depositor:
    """A client that deposits for everybody, again and again with the same id until it is accepted.

    Attributes:
        accepted: message ids.
    """

    def __init__(self, url: str, recipients: list[Recipient], chance: random.Random) -> None:
        self.url = url
        self.accepted: list[bytes] = []
        self._to = [recipient.spec.address for recipient in recipients]
        self._chance = chance

    async def run(self) -> None:
        name = b""
        body = b""
        while True:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(PATIENCE):
                    peer = await Peer.connect(self.url)
                try:
                    while True:
                        if not name:
                            name, body = self._chance.randbytes(16), self._chance.randbytes(256)
                        async with asyncio.timeout(PATIENCE):
                            answer = await peer.deposit(self._to, body, message_id=name)
                        if isinstance(answer, frames.Deposited):
                            assert answer.failed == []
                            self.accepted.append(name)
                            name = b""
                        await asyncio.sleep(0.005)
                finally:
                    await peer.close()
            await asyncio.sleep(0.1)


class Claimer:
    """A client that claims prekeys.

    Attributes:
        claimed: all packages that it was given.
    """

    def __init__(self, url: str, recipient: Recipient) -> None:
        self.url = url
        self.claimed: list[bytes] = []
        self._address = recipient.spec.address

    async def run(self) -> None:
        while True:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(PATIENCE):
                    peer = await Peer.connect(self.url)
                try:
                    while True:
                        async with asyncio.timeout(PATIENCE):
                            answer = await peer.ask(lambda n: frames.Claim(n, SUITE, [self._address] * 2))
                        if isinstance(answer, frames.Claimed):
                            self.claimed += [each.package for each in answer.prekeys if each.number]
                        await asyncio.sleep(0.05)
                finally:
                    await peer.close()
            await asyncio.sleep(0.1)


class Stage:
    """Everything that runs, and what can be done to it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.cluster = RedisCluster(folder / "cluster", replicas=REPLICAS)
        self.proxies = [Proxy(server.port) for server in self.cluster.servers]
        self.relays = [MortalRelay(folder / name / "relay") for name in ("first", "second")]
        self.front = Proxy()
        self.recipients: list[Recipient] = []
        self.depositors: list[Depositor] = []
        self.claimer: Claimer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        ports = free_ports(len(self.proxies))
        for proxy, server, port in zip(self.proxies, self.cluster.servers, ports, strict=True):
            await proxy.start(port)
            server.options = (*server.options, "--cluster-announce-port", str(port))
        await asyncio.to_thread(self.cluster.start)
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies[:MASTERS])
        for relay in self.relays:
            relay.options = (f"--store={url}", f"--state={relay.folder}")
            assert await relay.start() == "level=failover"
        self.front.targets = tuple(relay.port for relay in self.relays)
        await self.front.start()
        address = f"http://127.0.0.1:{self.front.port}"
        self.recipients = [Recipient(address, bucket, publishes=bucket == 0) for bucket in range(0, 240, 40)]
        self.depositors = [Depositor(address, self.recipients, self.chance) for _ in range(2)]
        self.claimer = Claimer(address, self.recipients[0])
        self._tasks = [asyncio.create_task(recipient.run()) for recipient in self.recipients]
        for recipient in self.recipients:
            await asyncio.wait_for(recipient.registered.wait(), 30)
        self._tasks += [asyncio.create_task(each.run()) for each in self.depositors]
        self._tasks.append(asyncio.create_task(self.claimer.run()))
        await self.served()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for relay in self.relays:
            with contextlib.suppress(ProcessLookupError):
                relay.signal(signal.SIGCONT)
            await relay.stop()
        for proxy in (*self.proxies, self.front):
            await proxy.stop()
        await asyncio.to_thread(self.cluster.stop)

    async def served(self) -> float:
        """Wait until something new of each depositor has been accepted and read by all; return the seconds."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        counts = [len(each.accepted) for each in self.depositors]
        async with asyncio.timeout(60):
            # The one after the next was certainly sent after this began.
            while any(len(d.accepted) < count + 2 for d, count in zip(self.depositors, counts, strict=True)):
                await asyncio.sleep(0.02)
            last = {each.accepted[-1] for each in self.depositors}
            while not all(last <= recipient.got.keys() for recipient in self.recipients):
                await asyncio.sleep(0.02)
        return loop.time() - started

    async def check(self) -> None:
        """Nothing that was accepted is lost, nothing was stored twice, no prekey was issued twice."""
        accepted = {name for depositor in self.depositors for name in depositor.accepted}
        async with asyncio.timeout(30):
            while not all(accepted <= recipient.got.keys() for recipient in self.recipients):
                await asyncio.sleep(0.05)
        for recipient in self.recipients:
            assert recipient.twice == []
        assert self.claimer is not None
        assert len(set(self.claimer.claimed)) == len(self.claimer.claimed)

    # What happens to it. Each returns how long clients were not served.

    def _master(self) -> RedisServer:
        return self.chance.choice(self.cluster.masters())

    async def settle(self) -> None:
        """Wait until the cluster is whole again."""
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(self._whole):
                await asyncio.sleep(0.1)

    def _whole(self) -> bool:
        if not self.cluster.healthy():
            return False
        masters = self.cluster.masters()
        counts = [int(master.command("INFO", "replication")["connected_slaves"]) for master in masters]
        return len(masters) == MASTERS and sum(counts) == MASTERS * REPLICAS and min(counts) > 0

    async def kill_master(self) -> float:
        master = await asyncio.to_thread(self._master)
        await asyncio.to_thread(master.kill)
        served = asyncio.create_task(self.served())
        await asyncio.sleep(self.chance.choice((0, 1, 5)))
        await asyncio.to_thread(master.start)
        return await served

    async def kill_relay(self) -> float:
        relay = self.chance.choice(self.relays)
        await relay.kill()
        served = asyncio.create_task(self.served())
        await asyncio.sleep(self.chance.choice((0, 1, 2)))
        await relay.start()
        return await served

    async def stop_master(self) -> float:
        master = await asyncio.to_thread(self._master)
        master.signal(signal.SIGSTOP)
        served = asyncio.create_task(self.served())
        await asyncio.sleep(10)
        master.signal(signal.SIGCONT)
        return await served

    async def stop_relay(self) -> float:
        relay = self.chance.choice(self.relays)
        relay.signal(signal.SIGSTOP)
        await asyncio.sleep(10)
        relay.signal(signal.SIGCONT)
        return await self.served()

    async def cut(self) -> float:
        master = await asyncio.to_thread(self._master)
        proxy = self.proxies[self.cluster.servers.index(master)]
        proxy.cut()
        await asyncio.sleep(self.chance.uniform(0.5, 5))
        proxy.heal()
        return await self.served()


@contextlib.asynccontextmanager
async def stage(folder: Path, seed: int) -> AsyncIterator[Stage]:
    """Set it up; at the end check it, unless something went wrong before."""
    stage = Stage(folder, random.Random(seed))
    try:
        await stage.start()
        yield stage
        await stage.check()
    finally:
        await stage.stop()
