"""Blobs as objects in S3, or what speaks like it: ``PREFIX/BUCKET/ID``. Needs the extra ``s3``.

Credentials and endpoint are the AWS_* variables of the environment. An upload waits in a temporary file until it is
whole and its digest has been checked; then it is one request, or several for a large one, and S3 says when it is kept.
Two large uploads of one id at the same moment may both be stored, the later over the earlier: only the holder of the
write key can make that happen. A bucket is in others' hands: what is sent there has passed the gateway.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from restante_protocol import ids
from restante_server.processors import BlobName, Gateway, Passed, Role, StoredBlob, Undeclared
from restante_server.stores.blobs import HEAD_BYTES, BlobHead
from restante_server.stores.contract import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import RetryConfig

_ONE_REQUEST: Final = 8 * 1024 * 1024  # bytes that are held in memory and stored only if there is no object yet
_PART_BYTES: Final = 8 * 1024 * 1024
_HEADS: Final = 16  # requests at a time
_PARTS: Final = 2  # of one upload on their way at a time
_RETRIES: "Final[RetryConfig]" = {"max_retries": 3}

_GONE: Final = (BaseError, FileNotFoundError)  # the latter also if there is no such bucket


class BlobObjects:
    """Blobs in a bucket, which any number of relays may share."""

    def __init__(self, store: S3Store, gateway: Gateway) -> None:
        self._store = store
        self._gateway = gateway

    @classmethod
    async def open(cls, url: str, gateway: Gateway) -> Self:
        """Open a bucket: s3://BUCKET/PREFIX. Raises StoreRefused: it does not answer, or nobody is declared for it."""
        try:
            gateway.processors(Role.OBJECT_STORAGE)
            opened = cls(S3Store.from_url(url, retry_config=_RETRIES), gateway)
            await opened.list()
        except Undeclared as error:
            raise StoreRefused(f"blobs in S3 are in others' hands: {error}") from None
        except (BaseError, StoreUnavailable):
            raise StoreRefused("the bucket for blobs does not answer, or not with these credentials") from None
        return opened

    def _path(self, blob: bytes) -> str:
        return _path(self._gateway.pass_out(BlobName(blob)))

    async def head(self, blob: bytes) -> BlobHead | None:
        """See contract."""
        try:
            found = await obstore.head_async(self._store, self._path(blob))
            if found["size"] < HEAD_BYTES:
                return None
            data = await obstore.get_range_async(self._store, self._path(blob), start=0, length=HEAD_BYTES)
        except FileNotFoundError:
            return None
        except BaseError:
            raise StoreUnavailable from None
        return BlobHead.decode(bytes(data), found["size"])

    async def heads(self, blobs: Sequence[bytes]) -> Sequence[BlobHead | None]:
        """See contract."""
        places = asyncio.Semaphore(_HEADS)

        async def one(blob: bytes) -> BlobHead | None:
            async with places:
                return await self.head(blob)

        return await asyncio.gather(*(one(blob) for blob in blobs))

    async def settle(self, blob: bytes) -> None:
        """See contract: what can be read is kept."""

    async def read(self, blob: bytes, start: int, size: int) -> bytes | None:
        """See contract."""
        try:
            start += HEAD_BYTES
            return bytes(await obstore.get_range_async(self._store, self._path(blob), start=start, length=size))
        except FileNotFoundError:
            return None
        except BaseError:
            raise StoreUnavailable from None

    async def begin(self, blob: bytes, head: BlobHead) -> "_Upload":
        """See contract."""
        file = await asyncio.to_thread(tempfile.TemporaryFile)
        file.write(head.encode())  # into its buffer
        values = StoredBlob(blob, head.expires, head.digest, file)
        return _Upload(self._store, self._gateway.pass_out(values))

    async def delete(self, blob: bytes) -> None:
        """See contract."""
        try:
            await obstore.delete_async(self._store, self._path(blob))
        except FileNotFoundError:
            return
        except BaseError:
            raise StoreUnavailable from None

    async def list(self) -> Mapping[bytes, int]:
        """See contract: what uploads leave behind is not among the objects, and the bucket's own rules drop it."""
        found = {}
        try:
            async for batch in obstore.list(self._store):
                for each in batch:
                    name = each["path"].rpartition("/")[2]
                    if len(name) == 2 * ids.ID_BYTES:
                        found[bytes.fromhex(name)] = each["size"] - HEAD_BYTES
        except _GONE:
            raise StoreUnavailable from None
        return found


class _Upload:
    """See ``blobs.Upload``."""

    def __init__(self, store: S3Store, passed: Passed[StoredBlob]) -> None:
        self._store = store
        self._path = _path(passed)
        self._file = passed.values.body

    async def write(self, data: bytes) -> None:
        """See contract."""
        await asyncio.to_thread(self._file.write, data)

    async def commit(self) -> bool:
        """See contract."""
        try:
            if await asyncio.to_thread(self._file.tell) <= _ONE_REQUEST:
                await obstore.put_async(self._store, self._path, await asyncio.to_thread(self._read), mode="create")
                return True
            try:
                await obstore.head_async(self._store, self._path)
            except FileNotFoundError:
                await asyncio.to_thread(self._file.seek, 0)
                await obstore.put_async(
                    self._store, self._path, self._file, chunk_size=_PART_BYTES, max_concurrency=_PARTS
                )
                return True
        except AlreadyExistsError:
            return False
        except _GONE:
            raise StoreUnavailable from None
        return False

    def _read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    async def abort(self) -> None:
        """See contract."""
        await asyncio.to_thread(self._file.close)


def _path(passed: Passed[BlobName] | Passed[StoredBlob]) -> str:
    blob = passed.values.id
    return f"{blob[:1].hex()}/{blob.hex()}"
