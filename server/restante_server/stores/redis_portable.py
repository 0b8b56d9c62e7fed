"""The store on Redis as records, for ``stores.migration``. The formats are those of ``redis_lua/prelude.lua``."""

import asyncio
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from restante_protocol import ids
from restante_server.stores import redis_pools
from restante_server.stores.contract import StoreRefused
from restante_server.stores.migration import (
    AddressRecord,
    CodeRecord,
    EntryRecord,
    FenceRecord,
    MailboxRecord,
    PayloadRecord,
    PoolRecord,
    Record,
    SlotRecord,
)
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import RedisAddress
from restante_server.stores.redis_scripts import KEYS, bucket_keys

_BATCH: Final = 1000  # fields per command
_QUEUE: Final = struct.Struct(">24s8s8sQQIII6s6sIB")
_MAILBOX: Final = struct.Struct(">4s16s8sI32s")
_ENTRY: Final = struct.Struct(">Q6sIB5s")  # then which members of the group wait
_INVITE: Final = 2  # flags of an entry; 1: large
_SCATTERED: Final = 4
_ALONE: Final = b"\x00\x01"  # the members of a group of one
_EXPIRY_BYTES: Final = 6  # Unix seconds
_ADDRESS: Final = struct.Struct(">5s4sIB")
_COUNTERS: Final = (6, 4, 5, 6, 4, 6, 7)  # bytes of version, queues, addresses, payloads, mailboxes, entries, size


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


@dataclass(slots=True)
class _Bucket:
    """What one bucket is to hold: fields by key, members of ``expiry``, packages by pool."""

    hashes: defaultdict[str, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    expiry: dict[bytes, int] = field(default_factory=dict)
    packages: dict[bytes, list[bytes]] = field(default_factory=dict)
    mailboxes: dict[bytes, MailboxRecord] = field(default_factory=dict)
    numbers: dict[bytes, bytes] = field(default_factory=dict)
    addresses: dict[bytes, bytes] = field(default_factory=dict)
    counts: defaultdict[bytes, int] = field(default_factory=lambda: defaultdict(int))
    entries: defaultdict[bytes, list[tuple[int, bytes, int, int]]] = field(default_factory=lambda: defaultdict(list))
    suites: defaultdict[bytes, bytes] = field(default_factory=lambda: defaultdict(bytes))
    payloads: int = 0
    last_address: int = 0
    total: int = 0
    size: int = 0


class RedisPortable:
    """A store on Redis that no relay uses. Open it with ``open``."""

    def __init__(self, store: RedisStore, prefix: str) -> None:
        self._store = store
        self._masters = store.masters
        self._prefix = prefix

    @classmethod
    async def open(cls, address: RedisAddress, *, accept_loss: bool = False) -> Self:
        """Connect. Raises StoreRefused: a relay uses the store, or what ``RedisStore.open`` raises."""
        store = await RedisStore.open(address, accept_loss=accept_loss)
        portable = cls(store, address.prefix)
        for bucket in range(portable._masters.buckets):
            pattern = f"{address.prefix}:{{{bucket}}}:node:*"
            channels = await portable._command(bucket, "PUBSUB", "SHARDCHANNELS", pattern)
            if len(channels) > 1:  # one is its own
                await store.close()
                raise StoreRefused("a relay uses this store: stop it first")
        await portable._finish_fences()
        return portable

    async def close(self) -> None:
        """Disconnect."""
        await self._store.close()

    async def _finish_fences(self) -> None:
        """Wait until what other nodes have left is fanned out."""
        while True:
            lengths = [await self._command(b, "HLEN", self._key(b, "pending")) for b in range(self._masters.buckets)]
            if not any(lengths):
                return
            await asyncio.sleep(0.5)

    def _key(self, bucket: int, name: str) -> bytes:
        return bucket_keys(self._prefix, bucket)[KEYS.index(name)]

    async def _command(self, bucket: int, *command: Any) -> Any:  # noqa: ANN401 -- a reply
        return await self._masters.command(*command, bucket=bucket)

    async def _hash(self, bucket: int, name: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        cursor: bytes | int = 0
        while True:
            cursor, flat = await self._command(bucket, "HSCAN", self._key(bucket, name), cursor, "COUNT", _BATCH)
            found.update(zip(flat[::2], flat[1::2], strict=True))
            if cursor == b"0":
                return found

    # migration.Portable.

    async def key(self) -> bytes:
        """See ``migration.Portable``."""
        return await self._command(0, "HGET", self._masters.record_key, "key") or b""

    async def empty(self) -> bool:
        """See ``migration.Portable``."""
        for bucket in range(self._masters.buckets):
            for name in ("mailbox", "fence", "slot", "code"):
                if await self._command(bucket, "HLEN", self._key(bucket, name)):
                    return False
        return True

    async def retire(self) -> None:
        """See ``migration.Portable``: a bucket of another epoch issues none of its packages."""
        for bucket in range(self._masters.buckets):
            await self._command(bucket, "HDEL", self._key(bucket, "state"), "run", "replication")

    async def records(self) -> AsyncIterator[Record]:
        """See ``migration.Portable``. One kind of one bucket is in memory at a time."""
        for kind in (self._mailboxes, self._addresses, self._payloads, self._fences, self._pools):
            for bucket in range(self._masters.buckets):
                for record in await kind(bucket):
                    yield record
        for bucket in range(self._masters.buckets):
            for slot, data in (await self._hash(bucket, "slot")).items():
                yield SlotRecord(slot, _number(data[:8]), _number(data[8:14]), data[14:])
        for bucket in range(self._masters.buckets):
            for code, data in (await self._hash(bucket, "code")).items():
                yield CodeRecord(code, _number(data[:6]), len(data) > _EXPIRY_BYTES)

    async def _mailboxes(self, bucket: int) -> Sequence[Record]:
        queues = await self._hash(bucket, "queue")
        found: list[Record] = []
        for identifier, data in (await self._hash(bucket, "mailbox")).items():
            number, incarnation, _, _, key = _MAILBOX.unpack(data[: _MAILBOX.size])
            queue = _QUEUE.unpack(queues[number])
            found.append(MailboxRecord(identifier, key, incarnation, queue[3], queue[4]))
        return found

    async def _names(self, bucket: int) -> dict[bytes, bytes]:
        """Return the mailboxes' ids by running number."""
        return {number: data[:24] for number, data in (await self._hash(bucket, "queue")).items()}

    async def _addresses(self, bucket: int) -> Sequence[Record]:
        names = await self._names(bucket)
        found: list[Record] = []
        for identifier, data in (await self._hash(bucket, "address")).items():
            _, queue, cap, kind = _ADDRESS.unpack(data)
            if queue in names:
                found.append(AddressRecord(identifier, names[queue], cap, kind))
        return found

    async def _payloads(self, bucket: int) -> Sequence[Record]:
        names = await self._names(bucket)
        addresses = {data[:5]: identifier for identifier, data in (await self._hash(bucket, "address")).items()}
        entries = await self._hash(bucket, "entry")
        payloads = await self._hash(bucket, "payload")
        waiting: defaultdict[bytes, list[EntryRecord]] = defaultdict(list)
        large: set[bytes] = set()
        for place, entry in sorted(entries.items()):
            sequence, lead, _, flags, address = _ENTRY.unpack(entry[: _ENTRY.size])
            for member in _members(entry[_ENTRY.size :], flags):
                number = (_number(lead) + member).to_bytes(6, "big")
                waiting[number].append(
                    EntryRecord(names[place[:4]], sequence + member, addresses.get(address, b""), bool(flags & _INVITE))
                )
                if flags & 1:
                    large.add(number)
        found: list[Record] = []
        for number, data in sorted(payloads.items()):
            if number not in waiting:  # only others of its group are waited for
                continue
            fence_end = 26 + _number(data[6:10])
            body = data[fence_end + 4 : fence_end + 4 + _number(data[fence_end : fence_end + 4])]
            fence = data[26:fence_end] or None
            found.append(
                PayloadRecord(data[10:26], fence, _number(data[:6]), number in large, body, tuple(waiting[number]))
            )
        return found

    async def _fences(self, bucket: int) -> Sequence[Record]:
        found: list[Record] = []
        for tag, data in (await self._hash(bucket, "fence")).items():
            expires = await self._command(bucket, "ZSCORE", self._key(bucket, "expiry"), b"f" + tag)
            found.append(FenceRecord(tag, data[:16], data[16:48], data[70:], int(float(expires))))
        return found

    async def _pools(self, bucket: int) -> Sequence[Record]:
        names = await self._names(bucket)
        prekey = self._key(bucket, "prekey")
        last_resorts = await self._hash(bucket, "last-resort")
        found: list[Record] = []
        for name, data in (await self._hash(bucket, "pool")).items():
            key = redis_pools.list_key(prekey, name)
            pool = await redis_pools.look(self._masters.command, bucket, data, key)
            prekeys: list[tuple[int, bytes]] = []
            if pool.epoch == self._masters.epochs[bucket]:
                prekeys = await redis_pools.packages(self._masters.command, bucket, key, 0, -1)
            found.append(
                PoolRecord(
                    names[name[:4]],
                    _number(name[4:]),
                    pool.uploaded,
                    pool.issued,
                    last_resorts.get(name, b""),
                    tuple(prekeys),
                )
            )
        return found

    async def write(self, records: AsyncIterator[Record], key: bytes) -> None:
        """See ``migration.Portable``. Everything is in memory until it is written."""
        buckets = [_Bucket() for _ in range(self._masters.buckets)]

        of = self._masters.bucket_of
        async for record in records:
            if isinstance(record, PayloadRecord):
                split: dict[int, list[EntryRecord]] = {}
                for entry in record.entries:
                    split.setdefault(of(entry.mailbox), []).append(entry)
                for bucket, entries in split.items():
                    _take_payload(buckets[bucket], record, entries)
            elif isinstance(record, PoolRecord):
                bucket = of(record.mailbox)
                _take_pool(buckets[bucket], record, self._masters.epochs[bucket])
            else:
                _take(buckets, of, record)
        for number, bucket_of in enumerate(buckets):
            await self._write_bucket(number, bucket_of)
        if key:
            await self._store.share_key(key)

    async def _write_bucket(self, number: int, bucket: _Bucket) -> None:
        _complete(bucket, self._masters.epochs[number])
        for name, values in bucket.hashes.items():
            for part in _parts(values):
                await self._command(number, "HSET", self._key(number, name), *part)
        for pool, packages in bucket.packages.items():
            key = redis_pools.list_key(self._key(number, "prekey"), pool)
            for first in range(0, len(packages), _BATCH):
                await self._command(number, "RPUSH", key, *packages[first : first + _BATCH])
        for part in _parts(bucket.expiry):
            flipped = [value for pair in zip(part[1::2], part[::2], strict=True) for value in pair]
            await self._command(number, "ZADD", self._key(number, "expiry"), *flipped)
        counters = (
            1,
            len(bucket.numbers) + 1,
            bucket.last_address + 1,
            bucket.payloads + 1,
            len(bucket.numbers),
            bucket.total,
            bucket.size,
        )
        packed = b"".join(value.to_bytes(size, "big") for value, size in zip(counters, _COUNTERS, strict=True))
        await self._command(number, "HSET", self._key(number, "state"), "counters", packed)


def _members(packed: bytes, flags: int) -> Iterable[int]:
    """Return the places in its group of what waits of an entry."""
    return packed if flags & _SCATTERED else range(packed[0], packed[0] + packed[1])


def _parts(values: Mapping[bytes, Any]) -> Iterator[list[Any]]:
    flat = [value for pair in values.items() for value in pair]
    for first in range(0, len(flat), 2 * _BATCH):
        yield flat[first : first + 2 * _BATCH]


def _take(
    buckets: Sequence[_Bucket],
    of: Callable[[bytes], int],
    record: MailboxRecord | AddressRecord | FenceRecord | SlotRecord | CodeRecord,
) -> None:
    match record:
        case MailboxRecord():
            _take_mailbox(buckets[of(record.id)], record)
        case AddressRecord():
            _take_address(buckets[of(record.id)], record)
        case FenceRecord():
            value = record.message_id + record.digest + bytes(22) + record.body  # its retry is not fanned out again
            _take_expiring(buckets[of(record.tag)], "fence", record.tag, value, record.expires)
        case SlotRecord():
            value = record.version.to_bytes(8, "big") + record.expires.to_bytes(6, "big") + record.body
            _take_expiring(buckets[of(record.id)], "slot", record.id, value, record.expires)
        case CodeRecord():
            value = record.expires.to_bytes(_EXPIRY_BYTES, "big") + bytes(ids.ID_BYTES * record.used)
            _take_expiring(buckets[of(record.hash)], "code", record.hash, value, record.expires)


def _take_expiring(bucket: _Bucket, name: str, identifier: bytes, value: bytes, expires: int) -> None:
    bucket.hashes[name][identifier] = value
    bucket.expiry[name[:1].encode() + identifier] = expires


def _take_mailbox(bucket: _Bucket, record: MailboxRecord) -> None:
    bucket.mailboxes[record.id] = record
    bucket.numbers[record.id] = (len(bucket.numbers) + 1).to_bytes(4, "big")


def _take_address(bucket: _Bucket, record: AddressRecord) -> None:
    bucket.last_address += 1
    number = bucket.addresses[record.id] = bucket.last_address.to_bytes(5, "big")
    bucket.counts[record.mailbox] += 1
    value = _ADDRESS.pack(number, bucket.numbers[record.mailbox], record.cap, record.kind)
    bucket.hashes["address"][record.id] = value


def _take_payload(bucket: _Bucket, record: PayloadRecord, entries: Sequence[EntryRecord]) -> None:
    bucket.payloads += 1
    number = bucket.payloads.to_bytes(6, "big")
    places = []
    for entry in entries:
        address = bucket.addresses.get(entry.address)
        if address is None:  # revoked: a number that no address has
            bucket.last_address += 1
            address = bucket.last_address.to_bytes(5, "big")
        flags = record.large + 2 * entry.invite
        waiting = bucket.entries[entry.mailbox]
        place = bucket.numbers[entry.mailbox] + len(waiting).to_bytes(4, "big")
        places.append(place)
        bucket.hashes["entry"][place] = _ENTRY.pack(entry.sequence, number, len(record.body), flags, address) + _ALONE
        waiting.append((entry.sequence, address, len(record.body), flags))
    fence = record.fence or b""
    head = record.expires.to_bytes(6, "big") + len(fence).to_bytes(4, "big") + record.message_id + fence
    body = len(record.body).to_bytes(4, "big") + record.body
    bucket.hashes["payload"][number] = head + body + b"".join(places)
    bucket.hashes["reference"][number] = len(places).to_bytes(4, "big") + len(record.body).to_bytes(4, "big")
    bucket.expiry[b"p" + number] = record.expires


def _take_pool(bucket: _Bucket, record: PoolRecord, epoch: bytes) -> None:
    suite = record.suite.to_bytes(2, "big")
    name = bucket.numbers[record.mailbox] + suite
    bucket.suites[record.mailbox] += suite
    numbers = [number for number, _ in record.prekeys]
    bucket.hashes["pool"][name] = redis_pools.encode_pool(
        epoch, record.uploaded, record.issued, numbers, last_resort=record.last_resort != b""
    )
    if record.last_resort:
        bucket.hashes["last-resort"][name] = record.last_resort
    bucket.packages[name] = redis_pools.encode_packages(record.prekeys)


def _complete(bucket: _Bucket, epoch: bytes) -> None:
    """Make what depends on everything of a mailbox."""
    for identifier, record in bucket.mailboxes.items():
        number, entries = bucket.numbers[identifier], bucket.entries[identifier]
        size = sum(entry[2] for entry in entries)
        large = sum(entry[2] for entry in entries if entry[3] & 1)
        invites = sum(entry[3] >> 1 for entry in entries)
        bucket.total += len(entries)
        bucket.size += size
        bucket.hashes["queue"][number] = _QUEUE.pack(
            identifier,
            bytes(8),
            bytes(8),
            record.last,
            record.acknowledged,
            0,
            len(entries),
            len(entries),
            size.to_bytes(6, "big"),
            large.to_bytes(6, "big"),
            invites,
            0,  # not counted by address: a deposit does that when the queue is long
        )
        bucket.hashes["mailbox"][identifier] = (
            _MAILBOX.pack(number, record.incarnation, epoch, bucket.counts[identifier], record.receive_key)
            + bucket.suites[identifier]
        )
