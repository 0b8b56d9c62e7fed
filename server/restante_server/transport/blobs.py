"""Blobs over HTTP: PUT, GET, HEAD and DELETE at /v1/blobs/ID. PROTOCOL.md section 6.11.

One transfer per connection: the connection is closed after its answer, so nobody holds one without moving bytes.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import structlog
from aiohttp import web

from restante_protocol import ids, limits
from restante_protocol.errors import Code
from restante_server.config import BLOB_PIECE_BYTES
from restante_server.errors import Refused
from restante_server.metrics import Metrics
from restante_server.services.blobs import Blobs, Incoming, Proof, Put
from restante_server.stores.contract import StoreError, StoreFull
from restante_server.transport.refusals import refusal

PATH: Final = "/v1/blobs/{blob}"
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]*")
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_RANGE: Final = re.compile(r"bytes=(?:(0|[1-9][0-9]{0,18})-([0-9]{0,19})|-([1-9][0-9]{0,18}))")
_log = structlog.get_logger("blobs")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
R = TypeVar("R", bound=web.StreamResponse)


class _BadRange(Exception):  # noqa: N818 -- an outcome
    """A range that this blob does not have."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class BlobEndpoint:
    """The HTTP part of a relay.

    Args:
        blobs: what it serves.
        metrics: counters.
        hold: told of a connection that has a transfer, and whether it begins or ends; False: the relay is stopping.
    """

    def __init__(self, blobs: Blobs, metrics: Metrics, hold: Callable[[web.Request, bool], bool]) -> None:
        self._blobs = blobs
        self._metrics = metrics
        self._hold = hold

    def routes(self) -> list[web.RouteDef]:
        """Return what an aiohttp application needs."""
        return [
            web.put(PATH, self._served("BlobPut", self._put), expect_handler=_expect),
            web.get(PATH, self._served("BlobGet", self._get), allow_head=False),
            web.head(PATH, self._served("BlobHead", self._get)),
            web.delete(PATH, self._served("BlobDelete", self._delete)),
        ]

    def _served(self, kind: str, handler: Handler) -> Handler:
        """Return the handler with what all have in common: places, refusals, and the end of the connection."""

        async def serve(request: web.Request) -> web.StreamResponse:
            self._metrics.requests.inc(kind)
            if not self._blobs.transfers.take(1):
                return refusal(self._metrics, Code.OVERLOADED, "transfers")
            try:
                if not self._hold(request, True):
                    return refusal(self._metrics, Code.GOING_AWAY, "shutting down")
                return await handler(request)
            except Refused as refused:
                return refusal(self._metrics, refused.code, refused.detail)
            except _BadRange as bad:
                response = refusal(self._metrics, Code.LIMIT, "range")
                response.set_status(416)
                response.headers["Content-Range"] = f"bytes */{bad.size}"
                return response
            except StoreError as error:
                return refusal(self._metrics, Code.FULL if isinstance(error, StoreFull) else Code.UNAVAILABLE, "store")
            finally:
                self._blobs.transfers.give_back(1)
                self._hold(request, False)

        return serve

    async def _put(self, request: web.Request) -> web.StreamResponse:
        size = request.content_length
        if size is None:
            raise Refused(Code.MALFORMED, "size")
        lifetime = request.headers.get("Restante-Lifetime", "")
        if not _DECIMAL.fullmatch(lifetime) or int(lifetime) >= 2**32:
            raise Refused(Code.MALFORMED, "lifetime")
        digest = _field(request, "Restante-Digest", ids.DIGEST_BYTES)
        incoming = await self._blobs.begin(Put(_blob(request), size, int(lifetime), digest, _proof(request)))
        if incoming is None:
            return _closing(web.Response(status=200))
        try:
            async with _patience() as moved:
                created = await _receive(request, incoming, moved)
        except TimeoutError:
            raise Refused(Code.TIMEOUT, "too slow") from None
        finally:
            await incoming.abort()
        return _closing(web.Response(status=201 if created else 200))

    async def _get(self, request: web.Request) -> web.StreamResponse:
        blob = _blob(request)
        size = await self._blobs.size(blob)
        start, stop = _range(request, size)
        part = request.method == "GET" and "Range" in request.headers
        response = _closing(web.StreamResponse(status=206 if part else 200))
        response.content_length = stop - start
        response.content_type = "application/octet-stream"
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["Cache-Control"] = "no-store"
        if part:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        piece = await self._blobs.read(blob, start, min(BLOB_PIECE_BYTES, stop - start))
        await response.prepare(request)
        try:
            async with _patience() as moved:
                await response.write(piece)
                while (start := start + len(piece)) < stop:
                    moved(len(piece))
                    piece = await self._blobs.read(blob, start, min(BLOB_PIECE_BYTES, stop - start))
                    await response.write(piece)
                await response.write_eof()
        except (Refused, StoreError, TimeoutError, OSError):
            _log.info("transfer cut", kind="BlobGet")
            if request.transport is not None:
                request.transport.abort()  # the reader has fewer bytes than it was told
        return response

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        await self._blobs.delete(_blob(request), _proof(request))
        return _closing(web.Response(status=204))


async def _expect(_request: web.Request) -> None:
    """Do not ask for the body yet: ``_receive`` does, when it is known to be wanted."""


async def _receive(request: web.Request, incoming: Incoming, moved: Callable[[int], None]) -> bool:
    """Take the body; say whether it was stored now."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer's own
    held = bytearray()
    try:
        async for data in request.content.iter_any():
            moved(len(data))
            held += data
            if len(held) >= BLOB_PIECE_BYTES:
                await incoming.write(bytes(held))
                held.clear()
    except (web.RequestPayloadError, OSError):  # the peer has gone
        raise Refused(Code.MALFORMED, "size") from None
    await incoming.write(bytes(held))
    return await incoming.finish()


def _closing(response: R) -> R:
    response.force_close()
    return response


def _blob(request: web.Request) -> bytes:
    text = request.match_info["blob"]
    blob = bytes.fromhex(text) if len(text) == 2 * ids.ID_BYTES and _HEXADECIMAL.fullmatch(text) else b""
    if not ids.is_id(blob):
        raise Refused(Code.MALFORMED, "blob")
    return blob


def _field(request: web.Request, name: str, length: int) -> bytes:
    text = request.headers.get(name, "")
    if len(text) != 2 * length or not _HEXADECIMAL.fullmatch(text):
        raise Refused(Code.MALFORMED, name)
    return bytes.fromhex(text)


def _proof(request: web.Request) -> Proof:
    return Proof(
        _field(request, "Restante-Write-Key", ids.KEY_BYTES),
        _field(request, "Restante-Nonce", ids.ID_NONCE_BYTES),
        _field(request, "Restante-Signature", ids.SIGNATURE_BYTES),
    )


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """Return the range of a GET, [start, stop). Raises _BadRange."""
    text = request.headers.get("Range")
    if text is None or request.method == "HEAD":
        return 0, size
    match = _RANGE.fullmatch(text)
    if match is None:
        raise _BadRange(size)
    first, last, count = match.groups()
    if count is not None:
        return max(0, size - int(count)), size
    start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= stop:
        raise _BadRange(size)
    return start, stop


@contextlib.asynccontextmanager
async def _patience() -> AsyncIterator[Callable[[int], None]]:
    """Raise TimeoutError once less has moved than should have by then; the block says how many bytes have.

    So who moves nothing holds a place, and the room that it is to fill, for BLOB_PATIENCE, and not for as long as the
    whole might take.
    """
    ends = asyncio.get_running_loop().time() + limits.BLOB_PATIENCE
    async with asyncio.timeout_at(ends) as timeout:

        def moved(size: int) -> None:
            nonlocal ends
            ends += size / limits.BLOB_LEAST_RATE
            timeout.reschedule(ends)

        yield moved
