"""No answer sets a cookie: every route of every application of the relay, in each form, taken from its own router."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from restante_protocol import frames
from restante_protocol.diagnostics import LEAST_MAILBOXES
from restante_server import inventory
from restante_server.app import Relay
from restante_server.config import BenchLimits
from restante_server.inventory import Kind
from restante_server.ops import ops_app
from support.plain_client import BlobOwner, PlainBlobs
from support.relay import Owner, Peer, relay_in_process
from support.stores import SUITE

BLOB = BlobOwner()
PARTS = {
    "blob": (BLOB.blob.hex(), "00" * 24, "no-blob"),
    "form": ("", ".txt", ".json"),
    "number": ("1", "2", "9"),
    "measure": ("use", "nothing"),
}
"""What stands for a route's variable parts: what is there, and what is not."""
LANGUAGES = ("", "?lang=zh")


def addresses(app: web.Application) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (method, route, addresses of it) of all routes; a KeyError: say in PARTS what a new part may be."""
    for route in app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        names = re.findall(r"\{(\w+)\}", path)
        values = itertools.product(*(PARTS[name] for name in names), LANGUAGES)
        yield route.method, path, [path.format(**dict(zip(names, each, strict=False))) + each[-1] for each in values]


class Visitor:
    """Asks, and keeps the names of all cookies, and which statuses each route answered with."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.cookies: set[str] = set()
        self.answers: dict[tuple[str, str], set[int]] = {}

    async def ask(self, method: str, url: str, route: str = "", **request: Any) -> None:  # noqa: ANN401 -- aiohttp's
        headers = {"Cookie": "tracker=1", **request.pop("headers", {})}
        async with self._http.request(method, url, headers=headers, allow_redirects=False, **request) as response:
            self.cookies |= {*response.cookies, *response.headers.getall("Set-Cookie", [])}
            self.answers.setdefault((method, route), set()).add(response.status)

    async def walk(self, url: str, app: web.Application) -> None:
        """Ask for every address of every route."""
        for method, route, paths in addresses(app):
            for path in paths:
                await self.ask(method, url + path, route)

    def unseen(self, *apps: web.Application) -> set[tuple[str, str]]:
        """Return the routes that never answered as they do when all is well, HEAD aside."""
        routes = {(method, route) for app in apps for method, route, _ in addresses(app) if method != "HEAD"}
        return {route for route in routes if min(self.answers.get(route, {999})) >= 400}


async def succeed(visitor: Visitor, relay: Relay) -> None:
    """Ask for what needs more than an address."""
    owner = Owner()
    async with await Peer.own(relay.url, owner) as peer:
        address = await peer.add_address(owner.address())
        await peer.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, [b"package"], b"", False))
        blobs = PlainBlobs(relay.url, peer.welcome.relay_key)
    claim = frames.encode(frames.Claim(1, SUITE, [address]))
    await visitor.ask("POST", relay.url + "/v1/claims", "/v1/claims", data=claim)
    blob, route = blobs.url + BLOB.blob.hex(), "/v1/blobs/{blob}"
    await visitor.ask("PUT", blob, route, data=b"sealed", headers=blobs.put_headers(BLOB, b"sealed"))
    for part in ({}, {"Range": "bytes=0-2"}):
        await visitor.ask("GET", blob, route, headers=part)
    await visitor.ask("HEAD", blob, route)
    await visitor.ask("DELETE", blob, route, headers=blobs.delete_headers(BLOB))
    relay.diagnostics.mailboxes = LEAST_MAILBOXES
    await visitor.ask("POST", relay.url + "/v1/diagnostics/use/1", "/v1/diagnostics/{measure}/{number}")


async def test_nothing_sets_a_cookie(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, operator_name="One"):
        pass
    settings: dict[str, Any] = {"bench": BenchLimits(seconds=1), "ops_listen": ("127.0.0.1", 0)}
    async with (
        relay_in_process(tmp_path, operator_name="Two", purposes=("diagnostics",), **settings) as relay,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        visitor, operators = Visitor(http), ops_app(relay.store, relay.metrics)
        await visitor.walk(relay.url, relay.app)
        await visitor.walk(relay.ops_url, operators)
        await succeed(visitor, relay)
        for path in ("/v1/socket", "/v1/bench"):
            async with http.ws_connect(relay.url + path) as socket:
                visitor.cookies |= {*socket._response.cookies}
                visitor.answers[("GET", path)] = {101}
        for method, path in itertools.product(("GET", "POST", "PUT", "DELETE"), ("/", "/nowhere", "/privacy", "/v1")):
            await visitor.ask(method, relay.url + path)
        assert visitor.unseen(relay.app, operators) == set()
        assert visitor.cookies == set(inventory.names(Kind.COOKIE)), "each that is set is declared: there is none"


async def test_a_cookie_would_be_noticed(tmp_path: Path) -> None:
    async def track(_request: web.Request) -> web.Response:
        answer = web.Response()
        answer.set_cookie("visitor", "1")
        return answer

    app = web.Application()
    app.router.add_get("/page{form}", track)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            visitor = Visitor(http)
            await visitor.walk(f"http://{host}:{port}", app)
        assert {name for name in visitor.cookies if "=" not in name} == {"visitor"}
        assert visitor.unseen(app) == set()
    finally:
        await runner.cleanup()
