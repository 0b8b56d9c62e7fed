"""Answers that must not differ in time: ``make timing``.

Whoever can time a relay's answers must not learn whether an address is unknown, revoked or of a deleted mailbox, nor
whether a mailbox exists whose key they do not have. Each kind is tried 10,000 times, the kinds interleaved in random
order, on one connection to a relay in a process of its own. It fails if two medians differ by more than 5%.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Self

import aiohttp

from restante_crypto import primitives, proofs
from restante_protocol import frames, limits
from restante_protocol.connection import ClientConnection
from restante_protocol.errors import Code

TOLERANCE: Final = 0.05
WARM_UP: Final = 500
TRIES_PER_CONNECTION: Final = 1000  # an unproved connection is closed after ten seconds
BUCKET: Final = 7
SUITE: Final = 3

Try = Callable[[], Awaitable[None]]


class Peer:
    """One connection, one request at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, role: int) -> None:
        self._socket = socket
        self.connection = ClientConnection(role)
        self.nonce = os.urandom(32)

    @classmethod
    async def connect(cls, session: aiohttp.ClientSession, url: str, role: int) -> Self:
        peer = cls(await session.ws_connect(url + "/v1/socket", compress=0), role)
        await peer._socket.send_bytes(peer.connection.hello(peer.nonce))
        peer.connection.receive(await peer._socket.receive_bytes())
        return peer

    @property
    def welcome(self) -> frames.Welcome:
        if self.connection.welcome is None:
            raise RuntimeError("no Welcome")
        return self.connection.welcome

    async def ask(self, frame: frames.ClientFrame) -> frames.RelayFrame:
        await self._socket.send_bytes(self.connection.send(frame))
        answer = self.connection.receive(await self._socket.receive_bytes())
        if not isinstance(answer, frames.RelayFrame):
            raise TypeError("an entry")
        return answer

    def opening(self, owner: "Owner", seed: bytes) -> frames.Open:
        message = proofs.open_message(self.welcome.relay_key, owner.mailbox, self.nonce, self.welcome.nonce)
        return frames.Open(1, owner.mailbox, owner.key, owner.nonce, primitives.ed25519_sign(seed, message))


class Owner:
    """A key, its mailbox's id and one address."""

    def __init__(self) -> None:
        self.seed = os.urandom(32)
        self.key = primitives.ed25519_public(self.seed)
        self.nonce = os.urandom(16)
        self.mailbox = proofs.mailbox_id(BUCKET, self.key, self.nonce)
        self.address = proofs.address_id(BUCKET, self.key, self.nonce)

    async def create(self, session: aiohttp.ClientSession, url: str) -> Peer:
        peer = await Peer.connect(session, url, frames.ROLE_RECEIVER)
        await peer.ask(peer.opening(self, self.seed))
        await peer.ask(frames.Create(1, b""))
        await peer.ask(frames.AddressPut(1, [frames.AddressSpec(self.address, self.nonce, 100, 0)]))
        return peer


class Knocking:
    """Opens mailboxes with a wrong key, on connections younger than the relay's patience."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._peer: Peer | None = None
        self._tries = 0

    def at(self, owner: Owner, seed: bytes) -> Try:
        frame: frames.Open | None = None

        async def once() -> None:
            nonlocal frame
            if self._peer is None or self._tries % TRIES_PER_CONNECTION == 0:
                self._peer = await Peer.connect(self._session, self._url, frames.ROLE_RECEIVER)
            self._tries += 1
            frame = frame or self._peer.opening(owner, seed)
            answer = await self._peer.ask(frame)
            if not isinstance(answer, frames.Error) or answer.code != Code.UNAUTHORIZED:
                raise RuntimeError("another answer than expected")

        return once


def _measured(peer: Peer, make: Callable[[], frames.ClientFrame], check: Callable[[frames.RelayFrame], bool]) -> Try:
    async def once() -> None:
        if not check(await peer.ask(make())):
            raise RuntimeError("another answer than expected")

    return once


async def _compare(name: str, kinds: dict[str, Try], tries: int, rng: random.Random) -> bool:
    """Print the medians of all kinds; say whether they are near enough."""
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = list(kinds)
    for round_number in range(-WARM_UP, tries):
        rng.shuffle(order)
        for kind in order:
            before = time.perf_counter()
            await kinds[kind]()
            if round_number >= 0:
                times[kind].append(time.perf_counter() - before)
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    difference = max(medians.values()) / min(medians.values()) - 1
    near = difference <= TOLERANCE
    print(f"{name}: {'ok' if near else 'FAIL'}, medians differ by {difference:.1%} (at most {TOLERANCE:.0%})")
    for kind, median in medians.items():
        print(f"    {kind:<24}{median * 1e6:8.1f} µs")
    return near


async def _run(url: str, tries: int, seed: int) -> bool:
    rng = random.Random(seed)
    async with aiohttp.ClientSession() as session:
        revoked, deleted, there, not_there = Owner(), Owner(), Owner(), Owner()
        await (await revoked.create(session, url)).ask(frames.AddressRevoke(1, [revoked.address]))
        await (await deleted.create(session, url)).ask(frames.MailboxDelete(1))
        await there.create(session, url)
        sender = await Peer.connect(session, url, frames.ROLE_SENDER)
        addresses = {"unknown": Owner().address, "revoked": revoked.address, "of a deleted mailbox": deleted.address}

        def depositing(address: bytes) -> Try:
            return _measured(
                sender,
                lambda: frames.Deposit(1, os.urandom(16), [address], bytes(256), limits.MIN_LIFETIME, None, 0),
                lambda answer: answer == frames.Deposited(1, [(0, Code.GONE)]),
            )

        def claiming(address: bytes) -> Try:
            return _measured(
                sender,
                lambda: frames.Claim(1, SUITE, [address]),
                lambda answer: answer == frames.Claimed(1, [frames.ClaimedPrekey(Code.GONE, 0, b"")]),
            )

        knocking = Knocking(session, url)
        wrong = os.urandom(32)

        results = [
            await _compare("deposit", {kind: depositing(each) for kind, each in addresses.items()}, tries, rng),
            await _compare("claim", {kind: claiming(each) for kind, each in addresses.items()}, tries, rng),
            await _compare(
                "open, wrong key",
                {"existing mailbox": knocking.at(there, wrong), "no mailbox": knocking.at(not_there, wrong)},
                tries,
                rng,
            ),
        ]
        return all(results)


async def _main(tries: int, seed: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        relay = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "restante_server",
            "serve",
            "--listen=127.0.0.1:0",
            f"--store=sqlite:{Path(folder) / 'relay.db'}",
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            if relay.stdout is None:
                raise RuntimeError("no pipe")
            url = (await relay.stdout.readline()).decode().split()[1]
            return await _run(url, tries, seed)
        finally:
            relay.terminate()
            await relay.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(0 if asyncio.run(_main(arguments.tries, arguments.seed)) else 1)
