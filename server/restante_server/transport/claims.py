"""Claims of prekeys over HTTP: POST /v1/claims. PROTOCOL.md section 6.9.

The body is a Claim, the answer a Claimed, as on the WebSocket. A connection is kept from one claim to the next.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

from restante_protocol import checks, frames, limits
from restante_protocol.errors import Code, RemoteError
from restante_server.config import CLAIM_CONNECTIONS, CLAIM_PATIENCE, PROCESS_REQUEST_BYTES
from restante_server.services import claims
from restante_server.services.relay import Relay
from restante_server.stores.contract import Issued, StoreError, StoreFull
from restante_server.transport.backlog import Backlog
from restante_server.transport.refusals import refusal

PATH: Final = "/v1/claims"
_LOOK_INTERVAL: Final = 1.0  # seconds between looks at the connections that are kept
_log = structlog.get_logger("claims")


@dataclass(slots=True)
class _Kept:
    """A connection: its first request, loop time of the last claim's start, and whether that is still in work."""

    request: web.Request
    since: float
    working: bool


class ClaimEndpoint:
    """The claims of a relay over HTTP, and the connections that they come on.

    Args:
        relay: what all connections share.
        hold: told of a connection that is kept, and whether that begins or ends; False: the relay is stopping.
    """

    def __init__(self, relay: Relay, hold: Callable[[web.Request, bool], bool]) -> None:
        self._relay = relay
        self._backlog = Backlog(PROCESS_REQUEST_BYTES)
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        self._kept: dict[object, _Kept] = {}  # by their protocols
        self._unread = 0  # bytes that peers have not taken, at the last look

    def routes(self) -> list[web.RouteDef]:
        """Return what an aiohttp application needs."""
        return [web.post(PATH, self._serve)]

    async def watch(self) -> None:
        """Let go of the connections that are gone, and cut off those that do not move, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            self._look(self._loop.time())

    def _look(self, now: float) -> None:
        unread = 0
        for protocol, kept in list(self._kept.items()):
            transport = kept.request.transport
            if transport is None or transport.is_closing():
                del self._kept[protocol]
                self._hold(kept.request, False)
                continue
            waits = transport.get_write_buffer_size()
            unread += waits
            if (kept.working or waits) and now - kept.since > CLAIM_PATIENCE:
                transport.abort()
        self._unread = unread

    async def _serve(self, request: web.Request) -> web.Response:
        metrics = self._relay.metrics
        metrics.requests.inc("Claim")
        kept = self._kept.get(request.protocol) or self._admit(request)
        if isinstance(kept, Code):
            return refusal(metrics, kept, "claims")
        size = request.content_length
        if size is None:
            return refusal(metrics, Code.MALFORMED, "size")
        if size > limits.MAX_CLAIM_BYTES:
            return refusal(metrics, Code.TOO_LARGE, "claim")
        kept.since = self._loop.time()
        kept.working = True
        try:
            data = await request.read()
            if self._backlog.full:
                await self._backlog.room()
            return await self._claim(data)
        except (web.RequestPayloadError, OSError):  # the peer has gone
            return refusal(metrics, Code.MALFORMED, "size")
        finally:
            kept.working = False

    def _admit(self, request: web.Request) -> _Kept | Code:
        """Keep a connection, or say why not."""
        if len(self._kept) >= CLAIM_CONNECTIONS or self._unread > PROCESS_REQUEST_BYTES:
            return Code.OVERLOADED
        if not self._hold(request, True):
            return Code.GOING_AWAY
        kept = self._kept[request.protocol] = _Kept(request, self._loop.time(), working=False)
        return kept

    async def _claim(self, data: bytes) -> web.Response:
        metrics = self._relay.metrics
        frame: frames.ClientFrame | None = None
        try:
            frame = frames.decode_client_frame(data)
            if not isinstance(frame, frames.Claim):
                return refusal(metrics, Code.MALFORMED, "no Claim")
            checks.check(frame)
        except RemoteError as error:
            number = frame.request if isinstance(frame, frames.Claim) and error.code is Code.LIMIT else 0
            return refusal(metrics, error.code, error.detail, number)
        cost = len(data) + len(frame.addresses) * limits.MAX_PREKEY_BYTES
        self._backlog.take(cost)
        try:
            taken: asyncio.Future[Issued] = self._loop.create_future()
            claims.begin(self._relay, frame, taken)
            prekeys = claims.issued(self._relay, frame, await taken)
        except StoreError as error:
            code = Code.FULL if isinstance(error, StoreFull) else Code.UNAVAILABLE
            return refusal(metrics, code, "store", frame.request)
        finally:
            self._backlog.give_back(cost)
        return web.Response(body=b"".join(frames.encode_claimed(frame.request, prekeys)))
