"""Blobs over HTTP, against a relay: what is refused, what is cut off, and what the limits hold back."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import aiohttp
import pytest

from restante_protocol import frames, limits
from restante_server import config
from restante_server.app import Relay
from restante_server.services import blobs as service
from restante_server.stores.contract import StoreUnavailable
from restante_server.transport.websocket import Acceptor
from support import observed
from support.plain_client import SENDER, Answer, BlobOwner, PlainBlobs, PlainClient
from support.relay import TIMEOUT, RelayProcess, relay_in_process
from support.stores import DAY, MovedClock

MALFORMED, LIMIT, UNAUTHORIZED, CONFLICT, NOT_FOUND, FULL, UNAVAILABLE = 1, 20, 21, 24, 25, 26, 28
CREATED, SAME = Answer(201), Answer(200)


async def client(relay: Relay) -> PlainBlobs:
    async with await PlainClient.connect(relay.url, SENDER) as connected:
        return PlainBlobs(relay.url, connected.relay_key)


@pytest.fixture
async def blobs(relay: Relay) -> PlainBlobs:
    return await client(relay)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def small(tmp_path: Path, clock: MovedClock) -> AsyncIterator[Relay]:
    """A relay with room for two small blobs."""
    cap = 2 * config.BLOB_LEAST_CHARGE
    async with relay_in_process(tmp_path / "small", clock=clock, max_blobs_bytes=cap) as relay:
        yield relay


@pytest.mark.parametrize("room", [0, config.BLOB_LEAST_CHARGE])
async def test_a_blob_that_can_never_be_stored_is_refused_for_good(tmp_path: Path, room: int) -> None:
    async with relay_in_process(tmp_path / "less", max_blobs_bytes=room) as relay:
        theirs = await client(relay)
        assert (await theirs.put(BlobOwner(), bytes(room + 1))).code == LIMIT
        fits = await theirs.put(BlobOwner(), b"sealed")
        assert fits.code == LIMIT if not room else fits == CREATED


async def test_a_large_blob_comes_back_in_pieces(blobs: PlainBlobs) -> None:
    owner, body = BlobOwner(), os.urandom(3 * config.BLOB_PIECE_BYTES + 1)
    assert await blobs.put(owner, body) == CREATED
    assert await blobs.get(owner.blob) == Answer(200, body)
    for start, stop in ((0, 1), (1, 2), (config.BLOB_PIECE_BYTES - 1, 2 * config.BLOB_PIECE_BYTES + 1), (5, len(body))):
        part = f"bytes {start}-{stop - 1}/{len(body)}"
        assert await blobs.get(owner.blob, f"{start}-{stop - 1}") == Answer(206, body[start:stop], part=part)


async def test_what_a_head_tells(blobs: PlainBlobs) -> None:
    owner = BlobOwner()
    assert await blobs.request("HEAD", owner.blob, {}) == Answer(404)
    await blobs.put(owner, b"sealed")
    async with aiohttp.ClientSession() as session, session.head(blobs.url + owner.blob.hex()) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == "6"
        assert response.headers["Cache-Control"] == "no-store"
        assert {"ETag", "Last-Modified"} & response.headers.keys() == set()


@pytest.mark.parametrize(
    ("part", "status", "body"),
    [
        ("0-", 206, b"sealed"),
        ("2-100", 206, b"aled"),
        ("-100", 206, b"sealed"),
        ("6-", 416, b""),
        ("3-2", 416, b""),
        ("-0", 416, b""),
        ("0-1,3-4", 416, b""),
        ("x-y", 416, b""),
    ],
)
async def test_ranges(blobs: PlainBlobs, part: str, status: int, body: bytes) -> None:
    owner = BlobOwner()
    await blobs.put(owner, b"sealed")
    answer = await blobs.get(owner.blob, part)
    assert (answer.status, answer.body) == (status, body)
    assert (answer.code, answer.part) == ((LIMIT, "bytes */6") if status == 416 else (None, answer.part))


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("Restante-Lifetime", "", Answer(400, code=MALFORMED)),
        ("Restante-Lifetime", "0060", Answer(400, code=MALFORMED)),
        ("Restante-Lifetime", "-60", Answer(400, code=MALFORMED)),
        ("Restante-Lifetime", "4294967296", Answer(400, code=MALFORMED)),
        ("Restante-Lifetime", "3601", Answer(403, code=UNAUTHORIZED)),
        ("Restante-Digest", "00" * 31, Answer(400, code=MALFORMED)),
        ("Restante-Digest", "0G" * 32, Answer(400, code=MALFORMED)),
        ("Restante-Digest", "00" * 32, Answer(403, code=UNAUTHORIZED)),
        ("Restante-Write-Key", "00" * 33, Answer(400, code=MALFORMED)),
        ("Restante-Write-Key", "00" * 32, Answer(403, code=UNAUTHORIZED)),
        ("Restante-Nonce", "", Answer(400, code=MALFORMED)),
        ("Restante-Nonce", "00" * 16, Answer(403, code=UNAUTHORIZED)),
        ("Restante-Signature", "xx" * 64, Answer(400, code=MALFORMED)),
        ("Restante-Signature", "00" * 64, Answer(403, code=UNAUTHORIZED)),
    ],
)
async def test_a_wrong_header_stores_nothing(blobs: PlainBlobs, name: str, value: str, answer: Answer) -> None:
    owner = BlobOwner()
    headers = blobs.put_headers(owner, b"sealed") | {name: value}
    assert await blobs.request("PUT", owner.blob, headers, b"sealed") == answer
    assert await blobs.get(owner.blob) == Answer(404, code=NOT_FOUND)


async def test_refusals_say_nothing_about_what_exists(blobs: PlainBlobs) -> None:
    owner, thief = BlobOwner(), BlobOwner()
    headers = blobs.put_headers(owner, b"sealed") | {"Restante-Signature": thief.key.sign(b"").signature.hex()}
    before = await blobs.request("PUT", owner.blob, headers, b"sealed")
    await blobs.put(owner, b"sealed")
    assert await blobs.request("PUT", owner.blob, headers, b"sealed") == before == Answer(403, code=UNAUTHORIZED)
    headers = thief.headers(b"")
    assert await blobs.request("DELETE", owner.blob, headers) == await blobs.request("DELETE", thief.blob, headers)


@pytest.mark.parametrize("blob", [bytes(23), bytes(25), b"\xf0" + bytes(23)])
async def test_what_is_no_id(blobs: PlainBlobs, blob: bytes) -> None:
    assert await blobs.get(blob) == Answer(400, code=MALFORMED)


@pytest.mark.parametrize("lifetime", [0, limits.MIN_LIFETIME - 1, limits.MAX_BLOB_LIFETIME + 1])
async def test_lifetimes_have_bounds(blobs: PlainBlobs, lifetime: int) -> None:
    assert await blobs.put(BlobOwner(), b"sealed", lifetime) == Answer(413, code=LIMIT)


async def test_sizes_have_bounds(blobs: PlainBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BLOB_BYTES", 1000)
    assert await blobs.put(BlobOwner(), bytes(1000)) == CREATED
    assert await blobs.put(BlobOwner(), bytes(1001)) == Answer(413, code=LIMIT)
    assert await blobs.put(BlobOwner(), b"") == Answer(413, code=LIMIT)


async def test_the_body_has_to_fit_its_digest(blobs: PlainBlobs) -> None:
    owner = BlobOwner()
    headers = blobs.put_headers(owner, b"sealed")
    assert await blobs.request("PUT", owner.blob, headers, b"SEALED") == Answer(400, code=MALFORMED)
    assert await blobs.get(owner.blob) == Answer(404, code=NOT_FOUND)
    assert await blobs.put(owner, b"sealed") == CREATED


async def rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def raw(relay: Relay, text: str, *, end: bool = False) -> bytes:
    """Send bytes, and if told so no more; return the first line of the answer."""
    host, _, port = relay.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(TIMEOUT):
        writer.write(text.encode())
        if end:
            writer.close()
            await writer.wait_closed()
            return b""
        data = await reader.readline()
    writer.close()
    return data


def head(owner: BlobOwner, headers: dict[str, str]) -> str:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"PUT /v1/blobs/{owner.blob.hex()} HTTP/1.1\r\nHost: relay\r\n{lines}\r\n"


async def test_a_size_is_told_first(relay: Relay, blobs: PlainBlobs) -> None:
    owner = BlobOwner()
    headers = blobs.put_headers(owner, b"sealed") | {"Transfer-Encoding": "chunked"}
    assert b" 400 " in await raw(relay, head(owner, headers) + "6\r\nsealed\r\n0\r\n\r\n")


async def test_an_upload_that_breaks_off_leaves_nothing(relay: Relay, blobs: PlainBlobs, tmp_path: Path) -> None:
    owner = BlobOwner()
    headers = blobs.put_headers(owner, bytes(1000)) | {"Content-Length": "1000"}
    await raw(relay, head(owner, headers) + "\0" * 999, end=True)
    while relay.blobs.reserved.used or not relay.metrics.refusals.labels("malformed")._value.get():
        await asyncio.sleep(0)
    assert observed.files(tmp_path / "relay.db.blobs") == set()
    assert await blobs.get(owner.blob) == Answer(404, code=NOT_FOUND)


async def test_the_body_is_asked_for_only_if_it_is_wanted(relay: Relay, blobs: PlainBlobs) -> None:
    owner = BlobOwner()
    headers = blobs.put_headers(owner, b"sealed") | {"Content-Length": "6", "Expect": "100-continue"}
    await blobs.put(owner, b"sealed")
    answer = await raw(relay, head(owner, headers))
    assert answer.startswith(b"HTTP/1.1 200 ")
    headers["Restante-Digest"] = "00" * 32
    answer = await raw(relay, head(owner, headers))
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_who_is_too_slow_is_cut_off(relay: Relay, blobs: PlainBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = BlobOwner()
    headers = blobs.put_headers(owner, b"sealed") | {"Content-Length": "6"}
    body = os.urandom(20_000_000)
    await blobs.put(other := BlobOwner(), body)
    monkeypatch.setattr(limits, "BLOB_PATIENCE", 0)
    monkeypatch.setattr(limits, "BLOB_LEAST_RATE", 1e9)
    assert b" 408 " in await raw(relay, head(owner, headers) + "seale")
    with pytest.raises(aiohttp.ClientPayloadError):
        await blobs.get(other.blob)
    assert relay.blobs.transfers.used == 0


async def test_who_moves_nothing_is_cut_off_however_much_is_to_come(
    relay: Relay, blobs: PlainBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOB_PATIENCE", 0.2)
    monkeypatch.setattr(limits, "BLOB_LEAST_RATE", 100)
    owner, body = BlobOwner(), bytes(1_000_000)
    headers = blobs.put_headers(owner, body) | {"Content-Length": "1000000"}
    assert b" 408 " in await raw(relay, head(owner, headers) + "\0" * 20)
    assert relay.blobs.reserved.used == 0


async def test_a_transfer_outlives_the_time_to_decide(tmp_path: Path) -> None:
    """A connection that has not opened a WebSocket in time is dropped, unless it moves a blob."""
    async with relay_in_process(tmp_path, handshake_timeout=0.2) as relay:
        blobs, owner = await client(relay), BlobOwner()
        headers = blobs.put_headers(owner, b"sealed") | {"Content-Length": "6"}
        host, _, port = relay.url.removeprefix("http://").rpartition(":")
        idle_reader, idle = await asyncio.open_connection(host, int(port))
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(TIMEOUT):
            writer.write(head(owner, headers).encode())
            assert await rest(idle_reader) == b""
            idle.close()
            later_reader, later = await asyncio.open_connection(host, int(port))
            assert await rest(later_reader) == b""
            later.close()
            writer.write(b"sealed")
            assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.close()


async def test_no_more_transfers_than_places(relay: Relay, blobs: PlainBlobs) -> None:
    relay.blobs.transfers.take(config.BLOB_TRANSFERS)
    assert await blobs.get(bytes(24)) == Answer(503, code=6)
    relay.blobs.transfers.give_back(config.BLOB_TRANSFERS)
    assert await blobs.get(bytes(24)) == Answer(404, code=NOT_FOUND)


async def test_all_blobs_together_have_a_bound(small: Relay) -> None:
    blobs, owners = await client(small), [BlobOwner() for _ in range(3)]
    assert [await blobs.put(owner, b"sealed") for owner in owners] == [CREATED, CREATED, Answer(507, code=FULL)]
    assert await blobs.put(owners[0], b"sealed") == SAME, "a retry needs no room"
    assert await blobs.get(owners[0].blob) == Answer(200, b"sealed"), "reading goes on"
    assert await blobs.delete(owners[1]) == Answer(204)
    assert await blobs.put(owners[2], b"sealed") == CREATED


async def test_new_blobs_come_at_a_limited_rate(
    tmp_path: Path, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BLOB_CREATIONS", 2)
    monkeypatch.setattr(service, "BLOB_CREATIONS_BYTES", 4 * config.BLOB_LEAST_CHARGE)
    async with relay_in_process(tmp_path, clock=clock) as relay:
        blobs, owners = await client(relay), [BlobOwner() for _ in range(4)]
        assert [await blobs.put(owner, b"") for owner in owners[:1]] == [Answer(413, code=LIMIT)], "that costs nothing"
        found = [await blobs.put(owner, b"sealed") for owner in owners]
        assert found == [CREATED, CREATED, Answer(507, code=FULL), Answer(507, code=FULL)]
        clock.advance(1)
        assert await blobs.put(owners[2], bytes(5 * config.BLOB_LEAST_CHARGE)) == Answer(507, code=FULL)
        assert await blobs.put(owners[2], b"sealed") == CREATED


async def test_a_blob_ends_with_its_lifetime(small: Relay, clock: MovedClock) -> None:
    blobs, one, other = await client(small), BlobOwner(), BlobOwner()
    await blobs.put(one, b"sealed", 60)
    await blobs.put(other, b"sealed", DAY)
    clock.advance(60)
    assert await blobs.get(one.blob) == Answer(404, code=NOT_FOUND)
    assert await blobs.put(one, b"another") == CREATED, "then it may be stored again"
    clock.advance(DAY)
    await small.blobs.sweep()
    assert small.blobs.reserved.used == 0


async def test_relays_share_blobs(small: Relay, tmp_path: Path, clock: MovedClock) -> None:
    folder = tmp_path / "small" / "relay.db.blobs"
    await asyncio.to_thread((tmp_path / "second").mkdir)
    key = (tmp_path / "small" / "relay.key").read_bytes()
    (tmp_path / "second" / "relay.key").write_bytes(key)
    async with relay_in_process(tmp_path / "second", clock=clock, blobs=folder) as second:
        here, there = await client(small), await client(second)
        one, two = BlobOwner(), BlobOwner()
        assert await here.put(one, b"sealed") == CREATED
        assert await there.put(two, b"sealed", 60) == CREATED
        assert await there.get(one.blob) == Answer(200, b"sealed")
        await small.blobs.sweep()
        assert await here.put(BlobOwner(), b"sealed") == Answer(507, code=FULL), "the other's count as well"
        await there.delete(one)
        await small.blobs.sweep()
        assert small.blobs.reserved.used == config.BLOB_LEAST_CHARGE
        await there.delete(two)
        assert await there.put(two, b"sealed", DAY) == CREATED
        clock.advance(60)
        await small.blobs.sweep()
        assert await here.get(two.blob) == Answer(200, b"sealed"), "stored anew, for longer than this relay had seen"


async def test_a_blob_that_is_another_meanwhile(relay: Relay, blobs: PlainBlobs) -> None:
    """Two uploads under one id that overlap: one is stored, the other is the same or a conflict."""
    owner = BlobOwner()
    host, _, port = relay.url.removeprefix("http://").rpartition(":")
    for body, status in ((b"sealed", b" 200 "), (b"SEALED", b" 409 ")):
        headers = blobs.put_headers(owner, body) | {"Content-Length": "6"}
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head(owner, headers).encode() + body[:3])
        while relay.blobs.reserved.used != config.BLOB_LEAST_CHARGE:
            await asyncio.sleep(0)
        assert await blobs.put(owner, b"sealed") == CREATED
        writer.write(body[3:])
        assert status in await reader.readline()
        writer.close()
        assert await blobs.get(owner.blob) == Answer(200, b"sealed")
        await blobs.delete(owner)


async def test_a_blob_that_goes_while_it_is_read(
    relay: Relay, blobs: PlainBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = BlobOwner()
    await blobs.put(owner, bytes(3 * config.BLOB_PIECE_BYTES))
    read, pieces = relay.blobs.read, 0

    async def disappearing(blob: bytes, start: int, size: int) -> bytes:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            await blobs.delete(owner)
        return await read(blob, start, size)

    monkeypatch.setattr(service.Blobs, "read", lambda _, *arguments: disappearing(*arguments))
    with pytest.raises(aiohttp.ClientPayloadError):
        await blobs.get(owner.blob)


async def test_a_store_that_does_not_answer(relay: Relay, blobs: PlainBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(relay.blobs._store, "begin", unavailable)
    assert await blobs.put(BlobOwner(), b"sealed") == Answer(503, code=UNAVAILABLE)
    assert relay.blobs.reserved.used == 0


async def test_a_relay_that_stops_serves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Acceptor, "hold", lambda *_: False)
    async with relay_in_process(tmp_path) as relay:
        assert await PlainBlobs(relay.url, bytes(32)).get(bytes(24)) == Answer(503, code=7)


async def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    process = await RelayProcess.start(tmp_path)
    async with await PlainClient.connect(process.url, SENDER) as connected:
        key = connected.relay_key
    blobs, owners, stored = PlainBlobs(process.url, key), list[BlobOwner](), list[BlobOwner]()
    body = os.urandom(100_000)

    async def upload() -> None:
        """Upload one after the other until the relay is dead: however fast either is, some are on their way then."""
        while len(stored) < 20:
            owners.append(BlobOwner())
            with contextlib.suppress(aiohttp.ClientError, OSError):
                if await blobs.put(owner := owners[-1], body) == CREATED:
                    stored.append(owner)
                    if len(stored) == 20:
                        process.process.kill()

    await asyncio.gather(*(upload() for _ in range(50)))
    await process.stop()
    assert len(stored) >= 20
    async with relay_in_process(tmp_path) as relay:
        again = PlainBlobs(relay.url, key)
        for owner in owners:
            answer = await again.get(owner.blob)
            assert answer == Answer(200, body) or owner not in stored, "what was answered is there"
            assert answer in (Answer(200, body), Answer(404, code=NOT_FOUND)), "and nothing is there by halves"


async def test_no_request_is_answered_but_with_a_code(relay: Relay, pytestconfig: pytest.Config) -> None:
    """Random and mutated requests: a status of the document, and an Error for those that refuse."""
    random = Random(pytestconfig.getoption("--seed"))
    blobs, owner = await client(relay), BlobOwner()
    good = blobs.put_headers(owner, b"sealed") | {"Range": "bytes=0-1"}
    values = ["", "0", "-1", "9" * 30, "bytes=0-0", "bytes=9999999999999999999-", "x", "a" * 64, "00" * 32, "é"]
    async with aiohttp.ClientSession() as session:
        for _ in range(500):
            headers = {name: value for name, value in good.items() if random.random() < 0.9}
            for name in random.sample(sorted(good), random.randrange(3)):
                headers[name] = random.choice(values)
            blob = random.choice([owner.blob.hex(), "00" * 24, "F" * 48, "x", "00" * 30])
            method = random.choice(["GET", "HEAD", "PUT", "DELETE"])
            body = random.choice([b"sealed", b"", b"longer than that"]) if method == "PUT" else None
            async with session.request(method, blobs.url + blob, headers=headers, data=body) as answer:
                data = await answer.read()
                assert answer.status in {200, 201, 204, 206, 400, 403, 404, 409, 413, 416}, (method, headers, blob)
                if answer.status >= 400 and method != "HEAD":
                    assert isinstance(frames.decode_relay_frame(data), frames.Error)
    assert relay.blobs.transfers.used == 0


async def test_relays_over_one_redis_share_blobs(tmp_path: Path, redis_url: str) -> None:
    url, folder = f"{redis_url}?prefix=test-{os.urandom(8).hex()}", tmp_path / "blobs"
    async with (
        relay_in_process(tmp_path / "first", redis=url, blobs=folder) as first,
        relay_in_process(tmp_path / "second", redis=url, blobs=folder) as second,
    ):
        here, there, owner = await client(first), await client(second), BlobOwner()
        assert here.relay_key == there.relay_key
        assert await here.put(owner, b"sealed") == CREATED
        assert await there.put(owner, b"sealed") == SAME
        assert await there.get(owner.blob) == Answer(200, b"sealed")
        assert await there.delete(owner) == Answer(204)
        assert await here.get(owner.blob) == Answer(404, code=NOT_FOUND)
