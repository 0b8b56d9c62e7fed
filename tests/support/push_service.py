"""A real push service on the loopback interface: takes pushes as RFC 8030 says, and keeps all that it was told."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from restante_protocol import frames
from restante_server import processors, purposes
from restante_server.purposes import Purpose
from support.relay import TIMEOUT, Peer


@dataclass(frozen=True)
class Pushed:
    """One request: nothing else of it reaches the service."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def decoded(text: str) -> bytes:
    """Return what base64url without padding stands for."""
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verified(field: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return header, claims and key of a VAPID Authorization field; raises InvalidSignature."""
    scheme, _, rest = field.partition(" ")
    assert scheme == "vapid"
    parameters = dict(each.split("=", 1) for each in rest.split(", "))
    assert set(parameters) == {"t", "k"}
    header, claims, signature = parameters["t"].split(".")
    raw = decoded(signature)
    assert len(raw) == 64
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key = decoded(parameters["k"])
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    public.verify(der, f"{header}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    return json.loads(decoded(header)), json.loads(decoded(claims)), key


class PushService:
    """Endpoints, and what came to them.

    Attributes:
        pushes: all that came, oldest first.
        answers: statuses for the next requests, then 201.
        location: of a redirect.
        retry_after: of all answers.
    """

    def __init__(self) -> None:
        self.pushes: list[Pushed] = []
        self.answers: list[int] = []
        self.location = ""
        self.retry_after = ""
        self.port = 0
        self.scheme = "http"
        self.silent = False
        self.ended = asyncio.Event()
        self._came = asyncio.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def declaration(self) -> str:
        """What an operator tells ``--processor``."""
        return f"push=Example Push;Iceland;agreement of 2026-01-03;{self.host}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}"

    def endpoint(self, name: str) -> str:
        return f"{self.origin}/wake/{name}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.pushes.append(Pushed(request.method, request.path, dict(request.headers), await request.read()))
        self._came.set()
        if self.silent:
            await self.ended.wait()
        status = self.answers.pop(0) if self.answers else 201
        fields = {"Location": self.location, "Retry-After": self.retry_after}
        headers = {name: value for name, value in fields.items() if value}
        return web.Response(status=status, headers=headers, body=b"x" * 100_000 if status == 413 else b"")

    async def until(self, count: int) -> list[Pushed]:
        """Wait until so many pushes have come; return them."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.pushes) < count:
                self._came.clear()
                await self._came.wait()
        return self.pushes[:count]


async def grant(peer: Peer, service: PushService) -> None:
    """Say yes to push, where this service is declared."""
    version = purposes.version(Purpose.PUSH, [processors.parse(service.declaration)])
    answer = await peer.ask(lambda n: frames.ConsentPut(n, Purpose.PUSH, version))
    assert isinstance(answer, frames.Done), answer


async def wake_at(peer: Peer, service: PushService, endpoint: str) -> None:
    """Have the peer's device woken at an endpoint of this service."""
    await grant(peer, service)
    answer = await peer.ask(lambda n: frames.PushPut(n, endpoint))
    assert isinstance(answer, frames.Done), answer


@contextlib.asynccontextmanager
async def push_service(context: ssl.SSLContext | None = None) -> AsyncIterator[PushService]:
    """Run one on a free port."""
    service = PushService()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    service.port = runner.addresses[0][1]
    service.scheme = "https" if context else "http"
    try:
        yield service
    finally:
        service.ended.set()
        await runner.cleanup()
