"""What tests of stores need: a clock that they move, ids, and deposits."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random

import apsw
import pytest

from restante_crypto import proofs
from restante_server.stores.contract import (
    Accepted,
    AddressSpec,
    Delivery,
    Deposit,
    FenceLost,
    Issued,
    Store,
    StoredEntry,
    Subscription,
)
from restante_server.stores.quotas import Quotas
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import parse_redis
from restante_server.stores.redis_scripts import KEYS, bucket_keys
from restante_server.stores.sqlite import SqliteStore

START = 1_800_000_000_000
SUITE = 3
DAY = 86_400


@dataclass
class MovedClock:
    """Unix milliseconds, moved by the test alone."""

    now: int = START

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        self.now += seconds * 1000


_mailbox_of: dict[int, int] = {}
"""Which mailbox an address is made for: its id carries that one's bucket. Mailbox 1 unless said otherwise."""


def identifier(kind: str, number: int, bucket: int | None = None) -> bytes:
    """Return a 24-byte id, the same for the same name."""
    digest = blake2b(f"{kind} {number}".encode(), digest_size=23).digest()
    return bytes(((number if bucket is None else bucket) % 240,)) + digest


def mailbox(number: int) -> bytes:
    return identifier("mailbox", number)


def address(number: int) -> bytes:
    return identifier("address", number, _mailbox_of.get(number, 1))


def give_addresses(mailboxes: Mapping[int, int]) -> None:
    """Say for each of these addresses which mailbox it is made for; all others are forgotten."""
    _mailbox_of.clear()
    _mailbox_of.update(mailboxes)


def fence(number: int) -> bytes:
    return blake2b(f"fence {number}".encode(), digest_size=32).digest()


def code(number: int) -> bytes:
    return blake2b(f"code {number}".encode(), digest_size=32).digest()


def deposit(
    number: int,
    addresses: Sequence[bytes],
    *,
    body: bytes = b"ciphertext",
    lifetime: int = DAY,
    fence: bytes | None = None,
    large: bool = False,
) -> Deposit:
    """Return a deposit whose message id is made of its number."""
    message_id = number.to_bytes(16, "big")
    digest = proofs.deposit_digest(message_id, list(addresses), body)
    return Deposit(message_id, addresses, body, lifetime, fence, large, digest)


class Watched:
    """A ``contract.Watcher`` that remembers.

    Attributes:
        seen: what it was called with, by name.
        told: all deliveries of other nodes.
        reminded: mailboxes, and up to which sequence the store knows of acknowledgements.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []
        self.told: list[Delivery] = []
        self.reminded: list[tuple[bytes, int]] = []

    @property
    def woken(self) -> list[object]:
        """Mailboxes whose subscription has to read."""
        return [rest[0] for kind, *rest in self.seen if kind == "wake"]

    def wake(self, mailbox: bytes) -> None:
        self.seen.append(("wake", mailbox))

    def announce_told(self, deliveries: Sequence[Delivery]) -> None:
        self.seen.append(("told",))
        self.told += deliveries

    def remind(self, mailbox: bytes, sequence: int) -> None:
        self.reminded.append((mailbox, sequence))

    def replace(self, mailbox: bytes, owner_token: bytes) -> None:
        self.seen.append(("replace", mailbox, owner_token))

    def lose(self, mailbox: bytes) -> None:
        self.seen.append(("lose", mailbox))

    def announce_deleted(self, mailbox: bytes, but: None) -> None:
        self.seen.append(("deleted", mailbox))

    def announce_low(self, lows: object) -> None:
        self.seen.append(("low", lows))

    def announce_spent(self, mailbox: bytes, address: bytes) -> None:
        self.seen.append(("spent", mailbox, address))

    def announce_ephemeral(self, mailboxes: object, message_id: bytes, body: bytes) -> None:
        self.seen.append(("ephemeral", mailboxes, message_id, body))


@dataclass
class Opener:
    """Opens the same store again and again.

    Attributes:
        path: where it is.
        clock: its clock.
        quotas: its quotas.
        max_bytes: its limit.
        vfs: its file layer.
        random: where its random bytes come from.
        free: bytes that the file system has left.
    """

    path: Path
    clock: MovedClock = field(default_factory=MovedClock)
    quotas: Quotas = field(default_factory=Quotas)
    max_bytes: int = 0
    vfs: str | None = None
    random: Callable[[int], bytes] = field(default_factory=lambda: Random(1).randbytes)
    free: int = 1 << 40

    async def open(self) -> SqliteStore:
        return await SqliteStore.open(
            self.path,
            clock=self.clock,
            quotas=self.quotas,
            max_bytes=self.max_bytes,
            vfs=self.vfs,
            random=self.random,
            free_bytes=lambda: self.free,
        )

    def elsewhere(self) -> "Opener":
        """Return an opener of another, empty store."""
        return Opener(self.path.parent / os.urandom(8).hex() / "relay.db", quotas=self.quotas)

    async def holds_entries(self, store: Store) -> bool:
        """Say whether anything is left that belongs to an entry."""
        assert isinstance(store, SqliteStore)
        return bool(store._index.groups or store._index.waiting)


@dataclass
class RedisOpener:
    """The same for a store on Redis: a prefix of its own makes it another store.

    Attributes:
        url: where it is.
        clock: its clock.
        quotas: its quotas.
        random: where its random bytes come from.
    """

    url: str
    clock: MovedClock = field(default_factory=MovedClock)
    quotas: Quotas = field(default_factory=Quotas)
    random: Callable[[int], bytes] = os.urandom

    async def open(self) -> RedisStore:
        return await RedisStore.open(parse_redis(self.url), clock=self.clock, quotas=self.quotas, random=self.random)

    def elsewhere(self) -> "RedisOpener":
        """Return an opener of another, empty store."""
        return RedisOpener(f"{self.url.partition('?')[0]}?prefix=test-{os.urandom(8).hex()}", quotas=self.quotas)

    async def holds_entries(self, store: Store) -> bool:
        """Say whether anything is left that belongs to an entry."""
        assert isinstance(store, RedisStore)
        prefix = parse_redis(self.url).prefix
        found = 0
        for bucket in range(store.masters.buckets):
            keys = bucket_keys(prefix, bucket)
            for name in ("entry", "payload", "reference", "waiting"):
                found += await store.masters.command("HLEN", keys[KEYS.index(name)], bucket=bucket)
        return found > 0


AnyOpener = Opener | RedisOpener
every_store = pytest.mark.every_store
"""The file, one Valkey, a cluster, and Redis itself where it is: see tests/server/stores/conftest.py."""


def new_redis(url: str) -> RedisOpener:
    """Return an opener of an empty store on this server or cluster."""
    return RedisOpener(f"{url}?prefix=test-{os.urandom(8).hex()}")


async def two_nodes(url: str, clock: MovedClock) -> tuple[RedisStore, RedisStore]:
    """Return two stores over an empty one on this server or cluster."""
    opener = new_redis(url)
    opener.clock = clock
    return await opener.open(), await opener.open()


async def make_mailbox(
    store: Store, number: int, addresses: Sequence[int] = (), *, kind: int = 0, cap: int = 10_000
) -> None:
    """Create a mailbox with addresses, which are made for it."""
    _mailbox_of.update(dict.fromkeys(addresses, number))
    await store.create_mailbox(mailbox(number), bytes(32), None)
    if addresses:
        specs = [AddressSpec(address(each), cap, kind) for each in addresses]
        assert await store.put_addresses(mailbox(number), specs) is None


async def subscribe(store: Store, number: int) -> Subscription:
    """Subscribe as a client does that knows nothing."""
    subscription = await store.subscribe(mailbox(number), b"", 0, [])
    assert subscription is not None
    return subscription


async def read_all(store: Store, number: int) -> Sequence[StoredEntry]:
    """Return what waits."""
    return await store.read(mailbox(number), 0, 1_000_000, 1 << 40)


async def bodies(store: Store, number: int) -> list[bytes]:
    """Return the bodies of what waits."""
    return [entry.body for entry in await read_all(store, number)]


async def store_claim(store: Store, addresses: Sequence[bytes]) -> Issued:
    """Claim when this is first run."""
    return await store.claim(SUITE, addresses)


async def store_deposit(store: Store, item: Deposit) -> Accepted | FenceLost:
    """Deposit when this is first run, as other calls take effect."""
    return await store.deposit(item)


async def acknowledge(
    store: Store, number: int, sequence: int, exceptions: Sequence[int] = (), owner: Subscription | None = None
) -> bool:
    """Acknowledge, as a new owner unless one is given."""
    owner = owner or await subscribe(store, number)
    current = store.acknowledge(mailbox(number), owner.owner_token, owner.incarnation, sequence, exceptions)
    return current if isinstance(current, bool) else await current


def rows(path: Path, table: str) -> int:
    """Count a table's rows, in the file."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    count: int = db.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 -- names of tests
    db.close()
    return count
