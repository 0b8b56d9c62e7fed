"""Real relays for tests, in this process or in one of their own, and a client that speaks in frames."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import aiohttp

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.connection import ClientConnection, NumberedEntry
from restante_server.app import Relay, running
from restante_server.clock import Clock, system_clock
from restante_server.config import Settings
from support.proxies import Spread

TIMEOUT = 60  # seconds until a test gives up waiting; on a machine of many a process starts in twenty
PATH = "/v1/socket"
HOUR = 3600
PUSH = "push=Example Push;Iceland;agreement of 2026-01-03;push.example.net"  # a push service that nothing goes to
offered: tuple[str, ...] = ()  # purposes that every relay in this process offers: see --refuse-all
shared_store = ""  # URL of a Redis, of relays whose test names no store: see --store
nodes = 1  # such relays run as so many over it, behind one address
Frame = Any  # a frame, an entry or a close code: which one is what a test is about


@contextlib.asynccontextmanager
async def relay_in_process(folder: Path, *, clock: Clock = system_clock, **settings: object) -> AsyncIterator[Relay]:
    """Run a relay in this event loop, on free ports of the loopback interface."""
    default = {"listen": ("127.0.0.1", 0), "store": folder / "relay.db", "purposes": offered, "sms": "console"}
    chosen: dict[str, Any] = {**default, **settings}
    if "push" in chosen["purposes"]:
        chosen.setdefault("processors", (PUSH,))
    count = 1
    if shared_store and "redis" not in settings and "store" not in settings:
        count = 1 if "listen" in settings else nodes
        chosen["redis"] = store_of(chosen["store"])
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(running(Settings(**chosen), clock=clock)) for _ in range(count)]
        first = relays[0]
        if count > 1:
            front = await Spread([int(relay.url.rpartition(":")[2]) for relay in relays]).start()
            stack.push_async_callback(front.stop)
            first = replace(first, url=f"http://127.0.0.1:{front.port}")
        yield first


def store_of(database: Path) -> str:
    """Return a store's place on the servers of ``--store``: the same for the same file."""
    return f"{shared_store}?prefix=test-{blake2b(str(database).encode(), digest_size=8).hexdigest()}"


def store_options(database: Path) -> list[str]:
    """Return what a relay in a process of its own is told."""
    if shared_store:
        return [f"--store={store_of(database)}", f"--state={database.parent}"]
    return [f"--store=sqlite:{database}"]


class RelayProcess:
    """A relay in a process of its own.

    Attributes:
        url: from its ready line.
        ready: that line.
        process: to signal.
    """

    def __init__(self, process: asyncio.subprocess.Process, ready: str) -> None:
        self.process = process
        self.ready = ready
        self.url = ready.split()[1]
        self.stderr = b""

    @classmethod
    async def start(cls, folder: Path, *arguments: str, command: tuple[str, ...] = ()) -> Self:
        """Start ``python -m restante_server serve`` (or another command) and wait for its ready line."""
        process = await asyncio.create_subprocess_exec(
            *(command or (sys.executable, "-m", "restante_server")),
            "serve",
            "--listen=127.0.0.1:0",
            *store_options(folder / "relay.db"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(TIMEOUT):
            line = await process.stdout.readline()
        if not line.startswith(b"ready "):
            _, error = await process.communicate()
            raise AssertionError(error.decode())
        return cls(process, line.decode())

    async def stop(self, name: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, keep what was written to stderr; return the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(name)
        async with asyncio.timeout(TIMEOUT):
            rest, self.stderr = await self.process.communicate()
        assert rest == b"", "more than the ready line on stdout"
        assert self.process.returncode is not None
        return self.process.returncode


@contextlib.asynccontextmanager
async def relay_process(folder: Path, *arguments: str) -> AsyncIterator[RelayProcess]:
    """Run a relay process until the block ends."""
    relay = await RelayProcess.start(folder, *arguments)
    try:
        yield relay
    finally:
        if relay.process.returncode is None:
            await relay.stop()


class Owner:
    """Somebody with a mailbox: its key, its id and its addresses."""

    def __init__(self, bucket: int = 3) -> None:
        self.seed = os.urandom(32)
        self.key = primitives.ed25519_public(self.seed)
        self.nonce = os.urandom(16)
        self.bucket = bucket
        self.mailbox = proofs.mailbox_id(bucket, self.key, self.nonce)

    def address(self, cap: int = 10_000, kind: int = frames.KIND_CONVERSATION) -> frames.AddressSpec:
        """Return a new address of this mailbox."""
        nonce = os.urandom(16)
        return frames.AddressSpec(proofs.address_id(self.bucket, self.key, nonce), nonce, cap, kind)


class Peer:
    """One connection to a relay.

    Attributes:
        welcome: the relay's.
        pushed: runs' entries and other pushes that came while an answer was awaited.
    """

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, role: int) -> None:
        self.session = session
        self.socket = socket
        self.connection = ClientConnection(role)
        self.nonce = os.urandom(32)
        self.pushed: deque[Frame] = deque()
        self.subscribed: frames.Subscribed | None = None

    @classmethod
    async def dial(cls, url: str, role: int, *, autoping: bool = True) -> Self:
        """Open the socket and say nothing."""
        session = aiohttp.ClientSession()
        try:
            socket = await session.ws_connect(url + PATH, compress=0, max_msg_size=0, autoping=autoping)
        except BaseException:
            await session.close()
            raise
        return cls(session, socket, role)

    @classmethod
    async def connect(cls, url: str, role: int = frames.ROLE_SENDER, *, autoping: bool = True) -> Self:
        """Open the socket and shake hands."""
        peer = await cls.dial(url, role, autoping=autoping)
        try:
            await peer.socket.send_bytes(peer.connection.hello(peer.nonce))
            assert isinstance(await peer.receive(), frames.Welcome)
        except BaseException:
            await peer.close()
            raise
        return peer

    @classmethod
    async def own(cls, url: str, owner: Owner, *, create: bool = True) -> Self:
        """Connect, prove the mailbox, and create it unless told not to."""
        peer = await cls.connect(url, frames.ROLE_RECEIVER)
        try:
            answer = await peer.prove(owner)
            if create and isinstance(answer, frames.Error):
                assert isinstance(await peer.ask(lambda n: frames.Create(n, b"")), frames.Created)
        except BaseException:
            await peer.close()
            raise
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the socket."""
        await self.socket.close()
        await self.session.close()

    @property
    def welcome(self) -> frames.Welcome:
        """The relay's Welcome."""
        assert self.connection.welcome is not None
        return self.connection.welcome

    async def receive(self) -> Frame:
        """Return the next frame, whatever it is; the close code if the relay has closed."""
        async with asyncio.timeout(TIMEOUT):
            message = await self.socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return self.connection.receive(message.data)
        if message.type is aiohttp.WSMsgType.CLOSE:
            return message.data
        return self.socket.close_code

    async def next(self) -> Frame:
        """Return the next push (runs' headers left out), or the close code."""
        if self.pushed:
            return self.pushed.popleft()
        while isinstance(frame := await self.receive(), frames.Run):
            pass
        return frame

    async def entries(self, count: int) -> list[NumberedEntry]:
        """Return the next pushes, which have to be entries."""
        found = [await self.next() for _ in range(count)]
        assert all(isinstance(each, NumberedEntry) for each in found), found
        return found

    async def send(self, build: Callable[[int], frames.ClientFrame]) -> int:
        """Send a request; return its number."""
        number = self.connection.next_request()
        await self.socket.send_bytes(self.connection.send(build(number)))
        return number

    async def answer(self, number: int) -> Frame:
        """Return the answer to this request; pushes are kept."""
        while True:
            frame = await self.receive()
            assert not isinstance(frame, int | None), f"closed: {frame}"
            if getattr(frame, "request", None) == number:
                return frame
            if not isinstance(frame, frames.Run):
                self.pushed.append(frame)

    async def ask(self, build: Callable[[int], frames.ClientFrame]) -> Frame:
        """Send a request and return its answer."""
        return await self.answer(await self.send(build))

    async def prove(self, owner: Owner, *, seed: bytes | None = None) -> Frame:
        """Prove a mailbox, with its own key or a wrong one."""
        message = proofs.open_message(self.welcome.relay_key, owner.mailbox, self.nonce, self.welcome.nonce)
        signature = primitives.ed25519_sign(seed or owner.seed, message)
        return await self.ask(lambda n: frames.Open(n, owner.mailbox, owner.key, owner.nonce, signature))

    async def subscribe(self, incarnation: bytes = b"", seen: int = 0) -> frames.Subscribed:
        """Subscribe."""
        answer = await self.ask(lambda n: frames.Subscribe(n, incarnation, seen, []))
        assert isinstance(answer, frames.Subscribed), answer
        self.subscribed = answer
        return answer

    async def acknowledge(self, sequence: int, *exceptions: int) -> None:
        """Acknowledge."""
        assert self.subscribed is not None
        frame = frames.Ack(self.subscribed.owner_token, self.subscribed.incarnation, sequence, list(exceptions))
        await self.socket.send_bytes(self.connection.send(frame))

    async def add_address(self, spec: frames.AddressSpec) -> bytes:
        """Register an address; return its id."""
        assert isinstance(await self.ask(lambda n: frames.AddressPut(n, [spec])), frames.Done)
        return spec.address

    async def deposit(
        self,
        to: list[bytes] | int,
        body: bytes = b"body",
        *,
        message_id: bytes | None = None,
        fence: bytes | None = None,
        flags: int = 0,
    ) -> Frame:
        """Deposit and return the answer."""
        return await self.ask(lambda n: frames.Deposit(n, message_id or os.urandom(16), to, body, HOUR, fence, flags))
