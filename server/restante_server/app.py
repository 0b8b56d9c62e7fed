"""The relay put together: store, hub, acceptor, listeners; its start, its upkeep and its orderly end."""

import asyncio
import contextlib
import gc
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from restante_protocol import limits
from restante_server import (
    announcements,
    codes,
    disclosures,
    oprf_key,
    policy,
    policy_texts,
    processors,
    purposes,
    sms,
    webpush,
)
from restante_server.categories import LANGUAGES
from restante_server.clock import Clock, system_clock
from restante_server.config import (
    BLOB_SWEEP_INTERVAL,
    CODES_INTERVAL,
    PUBLISH_INTERVAL,
    SHUTDOWN_GRACE,
    SPARE_FILES,
    SWEEP_INTERVAL,
    Settings,
    parse_official,
)
from restante_server.identity import Identity
from restante_server.metrics import Metrics
from restante_server.ops import ops_app
from restante_server.push_key import PushKey
from restante_server.services.bench import Bench
from restante_server.services.blobs import Blobs
from restante_server.services.bulletin import Bulletin
from restante_server.services.consents import Consents
from restante_server.services.diagnostics import Diagnostics
from restante_server.services.directory import PURPOSES as DIRECTORY
from restante_server.services.directory import Directory
from restante_server.services.disclosure import Discloser
from restante_server.services.erasure import Eraser
from restante_server.services.hub import Hub
from restante_server.services.ledger import ChainBroken, Ledger
from restante_server.services.push import Push, Service
from restante_server.services.relay import Relay as Shared
from restante_server.stores.blob_folder import BlobFolder
from restante_server.stores.blobs import BlobStore, default_blobs
from restante_server.stores.contract import Store, StoreError, StoreRefused
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import parse_redis
from restante_server.stores.sqlite import SqliteStore
from restante_server.stores.tombstones import Journal
from restante_server.transport import diagnostics as reports
from restante_server.transport import pages, transparency
from restante_server.transport.blobs import BlobEndpoint
from restante_server.transport.claims import ClaimEndpoint
from restante_server.transport.messages import binary_message
from restante_server.transport.websocket import Acceptor

_BACKLOG: Final = 4096  # connections that wait to be accepted: everybody reconnects at once after a restart
GC_THRESHOLD: Final = 50_000  # objects; a deposit in work has some ten
_log = structlog.get_logger("relay")


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay.

    Attributes:
        url: where it listens.
        ops_url: where health and metrics are, or empty.
        store: its store.
        blobs: its blobs.
        hub: who is connected.
        metrics: its counters.
        diagnostics: the sums that it keeps of them.
        push: what wakes devices.
        app: what it answers over HTTP, in public.
    """

    url: str
    ops_url: str
    store: Store
    blobs: Blobs
    hub: Hub
    metrics: Metrics
    diagnostics: Diagnostics
    push: Push
    app: web.Application


_Factory = Callable[[web.Server], Callable[[], asyncio.Protocol]]


async def _listen(
    stack: contextlib.AsyncExitStack,
    app: web.Application,
    bind: tuple[str, int],
    protocols: _Factory = lambda server: server,
    before_end: Callable[[], Coroutine[Any, Any, None]] | None = None,
    *,
    reuse_port: bool = False,
) -> str:
    """Serve an application until the stack unwinds; return its URL.

    At the end nothing new is accepted, ``before_end`` lets go of what is connected, and what is left is cut off.
    """
    host, port = bind
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=False,
        shutdown_timeout=1,
        keepalive_timeout=limits.PING_TIMEOUT,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if before_end is not None:
        stack.push_async_callback(before_end)
    if runner.server is None:
        raise RuntimeError("the runner is set up")
    factory = protocols(runner.server)
    server = await asyncio.get_running_loop().create_server(
        factory, host, port, backlog=_BACKLOG, reuse_port=reuse_port or None
    )
    stack.callback(server.close)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{server.sockets[0].getsockname()[1]}"


def _max_connections() -> int:
    """Return how many sockets the process may open, less what the rest of it needs."""
    if sys.platform == "win32":
        return 2**31
    import resource  # noqa: PLC0415 -- not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 2**31 if soft == resource.RLIM_INFINITY else max(1, soft - SPARE_FILES)


@contextlib.asynccontextmanager
async def running(  # noqa: PLR0915 -- one statement for each part
    settings: Settings, *, clock: Clock = system_clock
) -> AsyncIterator[Relay]:
    """Run a relay until the block ends; then it finishes what was received, and stops.

    Raises:
        StoreRefused: the store or the key beside it cannot be opened.
        OSError: an address cannot be bound.
    """
    async with contextlib.AsyncExitStack() as stack:
        declared = [processors.parse(text) for text in settings.processors]
        offered = purposes.parse(settings.purposes)
        for text in settings.official:
            parse_official(text)
        store, identity = await _open_store(settings, clock, stack)
        metrics = Metrics()
        hub = Hub(binary_message, metrics)
        store.listen(hub.announce)
        store.watch(hub)
        eraser = Eraser(store, identity, clock, Journal(settings.store.parent))
        gateway = processors.Gateway(declared)
        consents = Consents(store, identity, eraser, offered, clock, declared)
        published = Bulletin(store, identity, clock)
        diagnostics = Diagnostics(published, clock, offered=purposes.Purpose.DIAGNOSTICS in offered)
        stack.push_async_callback(_attempt, diagnostics.flush)
        numbers = purposes.Purpose.NUMBER in offered
        directory = await Directory.open(
            settings.oprf_key or settings.store.with_name(oprf_key.NAME),
            store,
            published,
            eraser,
            consents,
            clock,
            await sms.sender(settings.sms, settings.sms_secret, gateway, clock, wanted=numbers),
            offered,
            new_key=settings.new_oprf_key,
        )
        service = None
        if purposes.Purpose.PUSH in offered:
            service = await _open_push(settings, gateway, clock, stack)
        push = Push(store, PushKey.of(identity), eraser, consents, clock, metrics, service, settings.push_pace)
        stack.push_async_callback(push.finish, SHUTDOWN_GRACE)
        hub.missed = push.missed if push.offered else None
        ledger = Ledger(store, identity, clock)
        discloser = Discloser(store, identity, ledger, hub, clock)
        shared = Shared(
            store=store,
            hub=hub,
            identity=identity,
            admission=settings.admission,
            wrap=binary_message,
            metrics=metrics,
            eraser=eraser,
            consents=consents,
            directory=directory,
            push=push,
            ledger=ledger,
            clock=clock,
        )
        ops_url = ""
        if settings.ops_listen is not None:
            ops_url = await _listen(stack, ops_app(store, metrics), settings.ops_listen)
        acceptor = Acceptor(shared, settings, _max_connections())
        kept = await _open_blobs(settings, gateway)
        blobs = Blobs(kept, identity.public, metrics, clock, settings.max_blobs_bytes, eraser.bury_blob)
        await _catch_up(eraser, kept)
        await blobs.count()
        app = web.Application()
        claims = ClaimEndpoint(shared, acceptor.hold)
        transfers = BlobEndpoint(blobs, metrics, acceptor.hold)
        bench = Bench(shared, settings.bench) if settings.bench.seconds else None
        if bench is not None:
            stack.push_async_callback(bench.close, SHUTDOWN_GRACE)
        app.add_routes([*acceptor.routes(bench), *claims.routes(), *transfers.routes()])
        app.add_routes([*pages.routes(published), *reports.routes(diagnostics), *transparency.routes(published)])
        await codes.collect(settings.store, store, clock)
        await _attempt(lambda: _publish(settings, published, directory, push))
        await _attempt(lambda: _keep(ledger))
        url = await _listen(
            stack, app, settings.listen, acceptor.protocols, acceptor.close, reuse_port=settings.reuse_port
        )
        tasks = [
            asyncio.create_task(acceptor.watch()),
            asyncio.create_task(claims.watch()),
            asyncio.create_task(_repeat(SWEEP_INTERVAL, lambda: _sweep(shared, diagnostics, settings.store.parent))),
            asyncio.create_task(_repeat(BLOB_SWEEP_INTERVAL, blobs.sweep)),
            asyncio.create_task(_repeat(SWEEP_INTERVAL, lambda: eraser.look(kept))),
            asyncio.create_task(_later(PUBLISH_INTERVAL, lambda: _publish(settings, published, directory, push))),
            asyncio.create_task(_repeat(CODES_INTERVAL, lambda: announcements.collect(settings.store, published))),
            asyncio.create_task(_later(PUBLISH_INTERVAL, lambda: _keep(ledger))),
            asyncio.create_task(_repeat(SWEEP_INTERVAL, discloser.tell)),
            asyncio.create_task(push.run()),
            asyncio.create_task(_repeat(CODES_INTERVAL, lambda: disclosures.collect(settings.store, discloser))),
        ]
        if settings.admission == "invite":
            tasks.append(
                asyncio.create_task(_repeat(CODES_INTERVAL, lambda: codes.collect(settings.store, store, clock)))
            )
        stack.push_async_callback(_cancel, tasks)
        yield Relay(url, ops_url, store, blobs, hub, metrics, diagnostics, push, app)


async def _open_push(
    settings: Settings, gateway: processors.Gateway, clock: Clock, stack: contextlib.AsyncExitStack
) -> Service:
    """Return what sends pushes until the stack unwinds."""
    sender = await stack.enter_async_context(webpush.WebPush(clock=clock, private=settings.push_private))
    return webpush.service(sender, gateway, settings.operator_contact)


async def _open_blobs(settings: Settings, gateway: processors.Gateway) -> BlobStore:
    if isinstance(settings.blobs, str):
        try:
            from restante_server.stores.blob_objects import BlobObjects  # noqa: PLC0415 -- needs the extra s3
        except ModuleNotFoundError:
            raise StoreRefused("blobs in S3 need one package more: pip install 'restante[server,s3]'") from None
        return await BlobObjects.open(settings.blobs, gateway)
    return await BlobFolder.open(settings.blobs or default_blobs(settings.store))


async def _open_store(settings: Settings, clock: Clock, stack: contextlib.AsyncExitStack) -> tuple[Store, Identity]:
    """Open the store, until the stack unwinds, and the relay's key."""
    folder = settings.store.parent
    if settings.redis:
        shared = await RedisStore.open(parse_redis(settings.redis), clock=clock, accept_loss=settings.accept_loss)
        stack.push_async_callback(shared.close)
        return shared, await Identity.share(folder, shared.share_key)
    store = await SqliteStore.open(settings.store, clock=clock, max_bytes=settings.max_store_bytes)
    stack.push_async_callback(store.close)
    return store, await asyncio.to_thread(Identity.open, folder)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _repeat(interval: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do this now and at every interval; a failure is logged, and the next round may go well."""
    while True:
        await _attempt(work)
        await asyncio.sleep(interval)


async def _later(interval: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do at every interval what was done just now."""
    await asyncio.sleep(interval)
    await _repeat(interval, work)


async def _attempt(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except (StoreError, OSError) as error:
        _log.warning("upkeep failed", error=type(error).__name__)


async def _publish(settings: Settings, published: Bulletin, directory: Directory | None, push: Push) -> None:
    operator = policy.Operator(settings.operator_name, settings.operator_contact)
    declared = [processors.parse(text) for text in settings.processors]
    offered = purposes.parse(settings.purposes)
    number = await published.publish_policy(policy.document(operator, declared, offered))
    if number > 1:
        texts = {language: policy_texts.CHANGED[language].format(number=number) for language in LANGUAGES}
        await published.announce(announcements.Kind.POLICY, texts, number=number)
    await published.refresh_announcements()
    await published.publish_official([parse_official(text) for text in settings.official])
    if directory is not None and DIRECTORY & set(offered):
        await directory.publish(published)
    if push.offered:
        await push.publish(published)


async def _catch_up(eraser: Eraser, blobs: BlobStore) -> None:
    try:
        if await eraser.catch_up(blobs):
            _log.warning("the store is an older one: what was erased since is erased from it")
    except StoreError:
        raise StoreRefused("the store is an older one, and what was erased since cannot be erased from it") from None


async def _keep(ledger: Ledger) -> None:
    try:
        await ledger.keep()
    except ChainBroken:
        _log.error("the log of disclosures was tampered with")


async def _sweep(relay: Shared, diagnostics: Diagnostics, folder: Path) -> None:
    store, metrics = relay.store, relay.metrics
    relay.claim_budgets.trim(relay.clock())
    if relay.directory is not None:
        relay.directory.trim()
    relay.push.trim()
    await store.sweep()
    metrics.disk_free.set((await asyncio.to_thread(shutil.disk_usage, folder)).free)
    totals = await store.totals()
    metrics.mailboxes.set(totals.mailboxes)
    diagnostics.mailboxes = totals.mailboxes
    await diagnostics.flush()
    metrics.entries.set(totals.entries)
    metrics.size.set(totals.size)


async def serve(settings: Settings, ready: Callable[[Relay], None]) -> int:
    """Run a relay until SIGTERM or SIGINT, or until its store fails; return the exit status."""
    stop = asyncio.Event()
    _on_signals(stop)
    async with running(settings) as relay:
        _collect_rarely()
        ready(relay)
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(relay.store.failed.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await _cancel([wait for wait in waits if not wait.done()])
        failed = relay.store.failed.is_set()
        _log.info("stopping", reason="store failed" if failed else "signal")
    return 1 if failed else 0


def _collect_rarely() -> None:
    """Look for reference cycles less often: only connections that end leave any, and each look costs all the others."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
        else:
            loop.add_signal_handler(name, stop.set)
