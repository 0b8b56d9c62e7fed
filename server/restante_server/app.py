"""The relay put together: store, hub, gateway, listeners; its start, its upkeep and its orderly end."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from restante_crypto import proofs

from restante_server.clock import Clock, system_clock
from restante_server.config import Settings
from restante_server.identity import Identity
from restante_server.metrics import Metrics
from restante_server.ops import ops_app
from restante_server.services.hub import Hub
from restante_server.services.requests import ADMISSIONS
from restante_server.stores.sqlite import SqliteStore
from restante_server.transport.websocket import PATH, Gateway

SWEEP_SECONDS: Final = 60
_log = structlog.get_logger()


@dataclass(slots=True)
class Relay:
    """A running relay.

    Attributes:
        url: where it listens.
        ops_url: where health and metrics are, or empty.
        store: its store.
        metrics: its counters.
    """

    url: str
    ops_url: str
    store: SqliteStore
    metrics: Metrics
    gateway: Gateway
    runners: list[web.AppRunner] = field(default_factory=list)

    async def drain(self) -> None:
        """Accept nothing more, finish what was received, close."""
        for runner in self.runners:
            for site in tuple(runner.sites):
                await site.stop()
        await self.gateway.drain()
        for runner in self.runners:
            await runner.cleanup()


async def _listen(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=4096)
    await site.start()
    actual = runner.addresses[0][1]
    shown = f"[{host}]" if ":" in host else host
    return runner, f"http://{shown}:{actual}"


@contextlib.asynccontextmanager
async def running(settings: Settings, *, clock: Clock = system_clock) -> AsyncIterator[Relay]:
    """Run a relay until the block ends, then drain it.

    Raises:
        StoreRefused: the store cannot be opened.
        OSError: the address cannot be bound.
    """
    identity = Identity.open(settings.store.parent)
    store = await SqliteStore.open(
        settings.store, digest=proofs.body_digest, clock=clock, max_bytes=settings.max_store_bytes
    )
    try:
        metrics = Metrics()
        hub = Hub(store, metrics)
        gateway = Gateway(store, hub, identity, metrics, ADMISSIONS[settings.admission])
        app = web.Application()
        app.router.add_get(PATH, gateway.handle)
        runner, url = await _listen(app, *settings.listen)
        relay = Relay(url, "", store, metrics, gateway, [runner])
        upkeep = asyncio.ensure_future(_upkeep(relay))
        try:
            if settings.ops_listen is not None:
                ops_runner, relay.ops_url = await _listen(ops_app(store, metrics), *settings.ops_listen)
                relay.runners.append(ops_runner)
            yield relay
        finally:
            upkeep.cancel()
            await relay.drain()
    finally:
        await store.close()


async def _upkeep(relay: Relay) -> None:
    while True:
        try:
            await relay.store.sweep()
            totals = await relay.store.totals()
            relay.metrics.mailboxes.set(totals.mailboxes)
            relay.metrics.entries.set(totals.entries)
            relay.metrics.size.set(totals.size)
        except Exception as error:  # noqa: BLE001 -- the next round may go well; a failed store ends the relay
            _log.error("upkeep failed", error=type(error).__name__)
        await asyncio.sleep(SWEEP_SECONDS)


async def serve(settings: Settings, ready: Callable[[Relay], None]) -> int:
    """Run a relay until SIGTERM or SIGINT, or until its store fails; return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with running(settings) as relay:
        ready(relay)
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(relay.store.failed.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        failed = relay.store.failed.is_set()
        _log.info("stopping", reason="store failed" if failed else "signal")
    return 1 if failed else 0


def default_store() -> Path:
    """Return the default store: a data folder in the working directory."""
    return Path("restante-data") / "relay.db"
