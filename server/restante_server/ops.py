"""Health and metrics, on a bind of their own: they are for the operator, not for clients."""

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from restante_server.metrics import Metrics
from restante_server.stores.contract import Store, StoreError


def ops_app(store: Store, metrics: Metrics) -> web.Application:
    """Return the application that serves /healthz, /readyz and /metrics."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        try:
            await store.totals()
        except StoreError:
            return web.Response(status=503, text="store unavailable\n")
        if store.failed.is_set():
            return web.Response(status=503, text="store failed\n")
        return web.Response(text=f"ready level={store.level}\n")

    async def show(_request: web.Request) -> web.Response:
        body = await asyncio.to_thread(generate_latest, metrics.registry)  # reads files of /proc
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show)
    return app
