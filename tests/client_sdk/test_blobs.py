"""Blobs between clients, through a relay."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from restante.blobs import BlobKeys, BlobReference, delete, download, fetch, upload
from restante.errors import Refused, RelayError
from restante.links import Disconnected
from restante_crypto import primitives
from restante_crypto.blobs import BlobError, sealed_length
from restante_protocol import limits
from restante_protocol.errors import Code
from restante_server.app import Relay
from support.plain_client import SENDER, PlainClient
from support.relay import HOUR, relay_in_process

CONTENT = b"a photograph, or the tree of a large group" * 10_000


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    async with relay_in_process(tmp_path) as relay:
        yield relay


@pytest.fixture
async def relay_key(relay: Relay) -> bytes:
    async with await PlainClient.connect(relay.url, SENDER) as client:
        return client.relay_key


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_content_goes_and_comes(
    relay: Relay, relay_key: bytes, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    keys = BlobKeys.make(os.urandom)
    reference = await upload(session, relay.url, relay_key, keys, CONTENT, HOUR)
    assert BlobReference.decode(reference.encode()) == reference, "it travels in a message"
    assert await download(session, relay.url, reference) == CONTENT
    (path,) = await asyncio.to_thread(lambda: list(tmp_path.glob("relay.db.blobs/??/*")))
    stored = await asyncio.to_thread(path.read_bytes)
    assert len(stored) == sealed_length(len(CONTENT)) + 56
    assert CONTENT[:20] not in stored


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (65_535, 65_537), (100_000, 300_000), (400_000, None), (7, None)])
async def test_a_range(
    relay: Relay, relay_key: bytes, session: aiohttp.ClientSession, start: int, stop: int | None
) -> None:
    reference = await upload(session, relay.url, relay_key, BlobKeys.make(os.urandom), CONTENT, HOUR)
    assert await download(session, relay.url, reference, start, stop) == CONTENT[start:stop]


async def test_an_upload_may_be_done_again(relay: Relay, relay_key: bytes, session: aiohttp.ClientSession) -> None:
    keys = BlobKeys.decode(BlobKeys.make(os.urandom).encode())
    first = await upload(session, relay.url, relay_key, keys, CONTENT, HOUR)
    assert await upload(session, relay.url, relay_key, keys, CONTENT, HOUR) == first
    with pytest.raises(Refused) as refused:
        await upload(session, relay.url, relay_key, keys, b"another content", HOUR)
    assert refused.value.code == Code.CONFLICT


async def test_only_its_keys_delete_it(relay: Relay, relay_key: bytes, session: aiohttp.ClientSession) -> None:
    keys, other = BlobKeys.make(os.urandom), BlobKeys.make(os.urandom)
    reference = await upload(session, relay.url, relay_key, keys, b"", HOUR)
    await delete(session, relay.url, relay_key, other)
    assert await download(session, relay.url, reference) == b""
    for _ in range(2):
        await delete(session, relay.url, relay_key, keys)
    with pytest.raises(Refused) as refused:
        await download(session, relay.url, reference)
    assert refused.value.code == Code.NOT_FOUND


async def test_limits_are_told(relay: Relay, relay_key: bytes, session: aiohttp.ClientSession) -> None:
    with pytest.raises(Refused) as refused:
        await upload(session, relay.url, relay_key, BlobKeys.make(os.urandom), CONTENT, 1)
    assert refused.value.code == Code.LIMIT


async def test_what_the_relay_changed_does_not_open(
    relay: Relay, relay_key: bytes, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    reference = await upload(session, relay.url, relay_key, BlobKeys.make(os.urandom), CONTENT, HOUR)

    def change() -> None:
        (path,) = tmp_path.glob("relay.db.blobs/??/*")
        data = bytearray(path.read_bytes())
        data[200_000] ^= 1
        path.write_bytes(data)

    await asyncio.to_thread(change)
    with pytest.raises(BlobError):
        await download(session, relay.url, reference)
    assert await download(session, relay.url, reference, 0, 100_000) == CONTENT[:100_000]


@pytest.mark.parametrize("answer", [(404, b"<html>"), (502, b""), (301, b""), (400, b"\x92\x42\x01")])
async def test_somebody_else_who_answers(session: aiohttp.ClientSession, answer: tuple[int, bytes]) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=answer[0], body=answer[1])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    with pytest.raises(Disconnected):
        await delete(session, f"http://{host}:{port}", bytes(32), BlobKeys.make(os.urandom))
    await runner.cleanup()


async def test_an_answer_of_another_kind(session: aiohttp.ClientSession) -> None:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    with pytest.raises(RelayError):
        await upload(session, f"ws://{host}:{port}", bytes(32), BlobKeys.make(os.urandom), b"content", HOUR)
    await runner.cleanup()


async def test_what_came_is_counted_also_of_a_blob_that_is_cut_off(session: aiohttp.ClientSession) -> None:
    keys = BlobKeys.make(os.urandom)
    sealed = bytes(300_000)

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(sealed))})
        await response.prepare(request)
        await response.write(sealed[:200_000])
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    received: list[int] = []
    with pytest.raises(Disconnected):
        await fetch(session, f"http://{host}:{port}", keys.reference(bytes(250_000)), received.append)
    assert sum(received) == 200_000
    await runner.cleanup()


async def test_nobody_answers(session: aiohttp.ClientSession) -> None:
    with pytest.raises(Disconnected):
        await delete(session, "http://127.0.0.1:1", bytes(32), BlobKeys.make(os.urandom))


def test_keys_and_references_are_checked_and_hide_their_contents() -> None:
    keys = BlobKeys.make(os.urandom)
    reference = BlobReference(keys.blob, keys.key, bytes(32), 5)
    assert repr(keys) == "<BlobKeys>"
    assert repr(reference) == "<BlobReference>"
    assert keys.write_key == primitives.ed25519_public(keys.seed)
    for wrong in (
        lambda: BlobKeys(b"", keys.nonce, 1, keys.key),
        lambda: BlobKeys(keys.seed, b"", 1, keys.key),
        lambda: BlobKeys(keys.seed, keys.nonce, 240, keys.key),
        lambda: BlobKeys(keys.seed, keys.nonce, 1, b""),
        lambda: BlobReference(b"", keys.key, bytes(32), 5),
        lambda: BlobReference(keys.blob, b"", bytes(32), 5),
        lambda: BlobReference(keys.blob, keys.key, b"", 5),
        lambda: BlobReference(keys.blob, keys.key, bytes(32), limits.MAX_BLOB_BYTES + 1),
        lambda: BlobReference.decode(b"\x91\x01"),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()
