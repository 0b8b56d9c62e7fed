"""What every place for blobs does, in one suite for all of them."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from restante_crypto import primitives
from restante_server.processors import Gateway, parse
from restante_server.stores.blob_folder import BlobFolder
from restante_server.stores.blob_objects import BlobObjects
from restante_server.stores.blobs import HEAD_BYTES, BlobHead, BlobStore
from restante_server.stores.contract import StoreRefused, StoreUnavailable
from support.plain_client import Answer, BlobOwner, PlainBlobs
from support.relay import relay_in_process
from support.stores import identifier

BLOB, OTHER = identifier("blob", 1), identifier("blob", 2)
HEAD = BlobHead(1_900_000_000, bytes(range(32)), 6)

DECLARED = ("object-storage=Example Storage;Iceland;agreement of 2026-01-01",)
GATEWAY = Gateway([parse(DECLARED[0])])


def ask(method: str, url: str) -> None:
    with urlopen(Request(url, method=method)) as answer:  # noqa: S310 -- our own server
        assert answer.status < 300


@pytest.fixture(scope="module")
def s3() -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, in the environment of this process."""
    host, port = s3.get_host_and_port()
    name = f"blobs-{os.urandom(4).hex()}"
    ask("PUT", f"http://{host}:{port}/{name}")
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(key, value)
    return f"s3://{name}/prefix"


@pytest.fixture(params=["folder", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return await BlobFolder.open(tmp_path / "blobs")
    return await BlobObjects.open(request.getfixturevalue("bucket"), GATEWAY)


async def put(store: BlobStore, blob: bytes, body: bytes = b"sealed", head: BlobHead = HEAD) -> bool:
    upload = await store.begin(blob, head)
    await upload.write(body[:2])
    await upload.write(body[2:])
    stored = await upload.commit()
    await upload.abort()
    return stored


async def test_a_blob_is_there_as_it_was_given(store: BlobStore) -> None:
    assert await store.head(BLOB) is None
    assert await store.read(BLOB, 0, 9) is None
    assert await put(store, BLOB)
    assert await store.head(BLOB) == HEAD
    await store.settle(BLOB)
    assert [await store.read(BLOB, *part) for part in ((0, 9), (2, 3), (5, 1))] == [b"sealed", b"ale", b"d"]
    assert await store.list() == {BLOB: 6}


async def test_a_blob_never_changes(store: BlobStore) -> None:
    one, other = await store.begin(BLOB, HEAD), await store.begin(BLOB, HEAD)
    await one.write(b"sealed")
    await other.write(b"SEALED")
    assert await one.commit()
    assert not await other.commit()
    await one.abort()
    await other.abort()
    assert await store.read(BLOB, 0, 9) == b"sealed"


async def test_a_large_blob(store: BlobStore) -> None:
    body = os.urandom(1_000_000) * 18
    head = BlobHead(1_900_000_000, bytes(32), len(body))
    assert await put(store, BLOB, body, head)
    assert not await put(store, BLOB, body, head)
    assert await store.head(BLOB) == head
    for start in (0, 8_388_608, 17_999_999):
        assert await store.read(BLOB, start, 100_000) == body[start : start + 100_000]


async def test_what_is_not_committed_is_not_there(store: BlobStore) -> None:
    upload = await store.begin(BLOB, HEAD)
    await upload.write(b"sea")
    assert await store.head(BLOB) is None
    await upload.abort()
    assert await store.list() == {}


async def test_a_deleted_blob_is_gone_and_may_be_stored_again(store: BlobStore) -> None:
    await put(store, BLOB)
    await put(store, OTHER)
    await store.delete(BLOB)
    await store.delete(BLOB)
    assert await store.head(BLOB) is None
    assert await store.list() == {OTHER: 6}
    assert await store.heads([OTHER, BLOB]) == [HEAD, None]
    assert await put(store, BLOB)


# S3 alone.


async def test_a_bucket_that_is_not_there_is_refused(bucket: str) -> None:
    with pytest.raises(StoreRefused, match="bucket"):
        await BlobObjects.open("s3://another-bucket/prefix", GATEWAY)
    assert urlsplit(bucket).scheme == "s3"


async def test_a_bucket_that_goes_away_is_unavailable(s3: ThreadedMotoServer, bucket: str) -> None:
    store = await BlobObjects.open(bucket, GATEWAY)
    await put(store, BLOB)
    upload, large = await store.begin(OTHER, HEAD), await store.begin(OTHER, HEAD)
    await large.write(bytes(9_000_000))
    host, port = s3.get_host_and_port()
    await asyncio.to_thread(ask, "POST", f"http://{host}:{port}/moto-api/reset")
    for what in (upload.commit(), large.commit(), store.list()):
        with pytest.raises(StoreUnavailable):
            await what
    await upload.abort()
    await large.abort()


async def test_a_stray_object_is_no_blob(bucket: str) -> None:
    store = await BlobObjects.open(bucket, GATEWAY)
    upload = await store.begin(BLOB, HEAD)
    upload._file.seek(0)
    await upload.write(b"short")
    upload._file.truncate()
    await upload.commit()
    await upload.abort()
    assert await store.head(BLOB) is None
    assert await store.list() == {BLOB: 5 - HEAD_BYTES}


async def test_storage_of_others_has_to_be_declared(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="object-storage"):
        async with relay_in_process(tmp_path, blobs=bucket):
            pass


async def test_relays_share_a_bucket(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("one", "two"):
        (tmp_path / name / "relay.key").write_bytes(bytes(32))
    key = primitives.ed25519_public(bytes(32))
    async with (
        relay_in_process(tmp_path / "one", blobs=bucket, processors=DECLARED) as one,
        relay_in_process(tmp_path / "two", blobs=bucket, processors=DECLARED) as two,
    ):
        here, there, owner = PlainBlobs(one.url, key), PlainBlobs(two.url, key), BlobOwner()
        body = os.urandom(600_000)
        assert await here.put(owner, body) == Answer(201)
        assert await there.put(owner, body) == Answer(200)
        assert await there.get(owner.blob) == Answer(200, body)
        assert (await there.get(owner.blob, "300000-300009")).body == body[300_000:300_010]
        assert await there.delete(owner) == Answer(204)
        assert (await here.get(owner.blob)).status == 404
    assert not (tmp_path / "one" / "relay.db.blobs").exists()


async def test_without_the_package_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "restante_server.stores.blob_objects", None)
    with pytest.raises(StoreRefused, match="s3"):
        async with relay_in_process(tmp_path, blobs="s3://bucket/prefix"):
            pass


async def test_nobody_answers(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = BlobObjects(S3Store.from_url(bucket, retry_config={"max_retries": 0}), GATEWAY)
    upload = await store.begin(BLOB, HEAD)
    for what in (store.head(BLOB), store.read(BLOB, 0, 1), store.delete(BLOB), store.list(), upload.commit()):
        with pytest.raises(StoreUnavailable):
            await what
    await upload.abort()
