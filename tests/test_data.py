"""The inventory, docs/data.md and relays that were used say the same: nothing more, nothing less, nothing longer."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from prometheus_client import Counter

from restante_crypto import oprf, primitives, proofs
from restante_crypto.directory import Kind as DirectoryKind
from restante_crypto.directory import entry
from restante_protocol import frames, limits
from restante_server import announcements, disclosures, inventory
from restante_server.app import Relay
from restante_server.categories import Category, incomplete
from restante_server.codes import leave
from restante_server.grounds import Ground
from restante_server.identity import Identity
from restante_server.inventory import Item, Kind
from restante_server.oprf_key import OprfKey
from restante_server.purposes import Purpose
from restante_server.services.bulletin import Bulletin
from restante_server.services.disclosure import Request, new_id
from restante_server.stores import backup as backups
from restante_server.stores import blobs, sqlite_schema
from restante_server.stores.redis import RedisStore
from support import observed
from support.directories import NUMBERS, Phones, put_handle, put_number, verify
from support.directories import consent as consent_to
from support.people import people, together
from support.plain_client import Answer, BlobOwner, PlainBlobs
from support.relay import Owner, Peer, relay_in_process
from support.stores import DAY, MovedClock, address, deposit, make_mailbox

PAGE = Path(__file__).parent.parent / "docs" / "data.md"


@dataclass
class Used:
    """A relay that was used, still running; its people have gone."""

    relay: Relay
    folder: Path
    clock: MovedClock
    invites: set[bytes]
    erased: Owner
    profile: bytes
    consent: bytes
    directory: dict[bytes, str]


@pytest.fixture
async def used(tmp_path: Path, cheap: None, phones: Phones) -> AsyncIterator[Used]:
    """A scenario that touches every table: two people, a code, an undelivered message, an error."""
    folder, clock = tmp_path / "relay", MovedClock()
    erased = Owner()
    async with relay_in_process(
        folder,
        clock=clock,
        official=("Support=restante:AA",),
        purposes=("push", "handle", "number", "diagnostics"),
        sms="console",
    ) as relay:
        invites: set[bytes] = set()
        async with people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
            room, _ = await together(alice, bob)
            await room.send("used")
            await bob.reads("used")
            await bob.stop()
            await alice.client.set_profile("Alice", b"picture")
            profile = alice.client._engine._profiles.slots()[0]
            kept = alice.client._engine.mailbox
            await room.send("waits")
            await alice.client.consent("push")
            consent = Identity.open(folder).consent(alice.client._engine.mailbox, "push")
            for reader in (alice, bob):
                table = reader.client._engine._tables.invites
                invites |= {row.key for row in await reader.client._driver.run(table.rows)}
        async with await Peer.connect(relay.url) as peer:
            await peer.ask(lambda n: frames.SlotGet(n, bytes(24)))
            async with await Peer.own(relay.url, erased) as owner:
                await owner.ask(frames.MailboxDelete)
            assert await PlainBlobs(relay.url, peer.welcome.relay_key).put(BlobOwner(), b"blob") == Answer(201)
        named = Owner(bucket=9)
        async with await Peer.own(relay.url, named) as owner:
            directory = await use_directory(owner, named, folder, phones)
        await relay.diagnostics.flush()
        await relay.store.add_codes([bytes(32)], DAY)
        await Bulletin(relay.store, Identity.open(folder), clock).announce("service", {"en": "used"})
        await asyncio.to_thread(leave, folder / "relay.db", 1)
        request = Request(new_id(), Ground.CONSENT, kept, ("mailbox.id",), "Somebody", "asked for")
        answer = await asyncio.to_thread(disclosures.leave, folder / "relay.db", request)
        while not answer.exists():
            await asyncio.sleep(0.02)
        yield Used(relay, folder, clock, invites, erased, profile, consent, directory)


async def use_directory(peer: Peer, owner: Owner, folder: Path, phones: Phones) -> dict[bytes, str]:
    """Have everything in the directory, and a code that waits; return the names of its slots."""
    for purpose in (Purpose.HANDLE, Purpose.NUMBER):
        await consent_to(peer, purpose)
    await put_handle(peer, folder, "alice")
    await verify(peer, phones, NUMBERS[0])
    await put_number(peer, folder, NUMBERS[0])
    await peer.ask(lambda n: frames.NumberClaim(n, NUMBERS[1]))
    key, identity = OprfKey.open(folder / "oprf.key", make=False), Identity.open(folder)
    mark, waiting = (key.mark("number", number.encode()) for number in NUMBERS[:2])
    handle, number = (
        entry(kind, oprf.evaluate(key.pair(kind), name.encode())).place
        for kind, name in ((DirectoryKind.HANDLE, "alice"), (DirectoryKind.NUMBER, NUMBERS[0]))
    )
    return {
        **{identity.consent(owner.mailbox, purpose): "consent" for purpose in (Purpose.HANDLE, Purpose.NUMBER)},
        proofs.handle_slot_id(handle): "handle",
        key.slot("entry", owner.mailbox, owner.bucket): "directory entry",
        key.slot("record", number, number[0]): "number record",
        key.slot("list", number[:1], number[0]): "number list",
        key.slot("holder", mark): "number holder",
        key.slot("queries", mark): "number queries",
        key.slot("texts", mark): "number texts",
        key.slot("texts", waiting): "number texts",
        key.slot("code", waiting + owner.mailbox): "number code",
    }


def missing(found: set[str], kind: Kind, items: tuple[Item, ...] = inventory.ITEMS) -> set[str]:
    """Return what is found and not declared, or declared and not found."""
    return found ^ {item.name for item in items if item.kind == kind}


async def test_every_stored_column_is_declared_and_every_declared_one_is_there(used: Used) -> None:
    assert missing(observed.columns(used.folder / "relay.db"), Kind.COLUMN) == set()
    empty = {table for table, rows in observed.counts(used.folder / "relay.db").items() if not rows}
    assert empty == set(), "the scenario has to fill every table"


async def test_every_redis_key_is_declared_and_every_declared_one_is_there(redis_url: str, tmp_path: Path) -> None:
    prefix = f"test-{os.urandom(8).hex()}"
    url = f"{redis_url}?prefix={prefix}"
    async with relay_in_process(tmp_path / "relay", redis=url) as relay:
        async with people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
            room, _ = await together(alice, bob)
            await room.send("used")
            await bob.reads("used")
        store = relay.store
        assert isinstance(store, RedisStore)
        await make_mailbox(store, 1, [1])
        await asyncio.gather(*(store.deposit(deposit(2 + number, [address(1)])) for number in range(300)))
        await store.add_codes([bytes(32)], DAY)
        await store.win_fence(deposit(1, [bytes(24)], fence=bytes(32)))
        found = observed.redis_keys(url, prefix)
    assert missing(found, Kind.KEY) == set()


async def test_every_label_is_declared_and_every_declared_one_is_there(used: Used) -> None:
    assert missing(observed.labels(used.relay.metrics.registry), Kind.LABEL) == set()


def test_every_log_field_is_declared_and_every_declared_one_is_there() -> None:
    assert missing(observed.log_fields(), Kind.LOG) == set()


async def test_every_file_is_declared_and_every_declared_one_is_there(
    used: Used, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = observed.files(used.folder)
    db = sqlite_schema.connect(tmp_path / "relay.db", None)
    sqlite_schema.prepare(db, tmp_path / "relay.db", bytes)
    sqlite_schema.prepare(db, tmp_path / "relay.db", bytes, {sqlite_schema.VERSION: "SELECT 1"})
    db.close()
    announcements.leave(tmp_path / "relay.db", announcements.Announcement(announcements.Kind.SERVICE, {"en": "left"}))
    request = Request(new_id(), Ground.CONSENT, bytes(24), ("mailbox.id",), "Somebody", "asked for")
    disclosures.leave(tmp_path / "relay.db", request)
    left = ("relay.db.v", "relay.db.announcement", "relay.db.disclose-")
    found |= {name for name in observed.files(tmp_path) if name.startswith(left)}
    with monkeypatch.context() as crash:
        crash.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("power loss")))
        with pytest.raises(OSError, match="power loss"):
            sqlite_schema.write_durably(tmp_path / "relay.key", b"key")
    backups._prepare(used.folder, tmp_path / "relay.db")
    found |= {name for name in observed.files(tmp_path) if name.endswith((".new", ".restored"))}
    assert observed.unmatched(found, set(inventory.names(Kind.FILE))) == (set(), set())


async def test_every_part_of_a_blob_is_declared_and_every_declared_one_is_there(used: Used) -> None:
    assert missing({f"blob.{name}" for name in blobs.FIELDS}, Kind.BLOB) == set()
    (path,) = (used.folder / "relay.db.blobs").glob("??/*")
    data = path.read_bytes()
    head = blobs.BlobHead.decode(data, len(data))
    assert head is not None
    assert data == head.encode() + b"blob", "nothing else is in the file"


async def test_every_slot_is_of_a_declared_class_and_every_class_is_there(used: Used) -> None:
    key = primitives.ed25519_public((used.folder / "relay.key").read_bytes())
    names = ("policy", "policy 1", "announcements", "directory", "official", "transparency", "diagnostics")
    published: dict[bytes, str] = {proofs.public_slot_id(key, name): name for name in names}
    published[Identity.open(used.folder).tombstone(used.erased.mailbox)] = "tombstone"
    published[used.profile] = "profile"
    published[used.consent] = "consent"
    published |= used.directory
    published[Identity.open(used.folder).ledger_slot(1)] = "disclosure 1"
    found = {
        "invite" if slot in used.invites else published.get(slot, slot.hex())
        for slot in observed.values(used.folder / "relay.db", "slot", "id")
    }
    assert observed.unmatched(found, set(inventory.names(Kind.SLOT))) == (set(), set())


async def test_nothing_outlives_its_lifetime(used: Used) -> None:
    bounds = {
        item.name.partition(".")[0]: item.lifetime
        for item in inventory.ITEMS
        if item.kind == Kind.COLUMN and item.lifetime is not None
    }
    tombstone = Identity.open(used.folder).tombstone(used.erased.mailbox)
    before = 0
    for lifetime in sorted(set(bounds.values())):
        used.clock.advance(lifetime - before + 1)
        before = lifetime + 1
        await used.relay.store.sweep()
        await used.relay.blobs.sweep()
        if limits.MAX_SLOT_LIFETIME <= lifetime < bounds["slot"]:
            assert observed.values(used.folder / "relay.db", "slot", "id") == [tombstone]
        left = observed.counts(used.folder / "relay.db")
        assert {table for table, bound in bounds.items() if bound <= lifetime and left[table]} == set()
    assert bounds["slot"] > limits.MAX_BLOB_LIFETIME
    assert list((used.folder / "relay.db.blobs").glob("??/*")) == []
    assert observed.counts(used.folder / "relay.db")["mailbox"] == 3, "only their owners end these"


# Breaking it: each kind of declaration, taken away, is missed; each kind of thing, added, is noticed.


@pytest.mark.parametrize("item", inventory.ITEMS, ids=lambda item: item.name)
def test_removing_any_line_fails(item: Item) -> None:
    """The page is compared with the whole inventory, and the inventory with what is found: no line can go."""
    rest = tuple(other for other in inventory.ITEMS if other is not item)
    assert len({(other.kind, other.name) for other in rest}) == len(inventory.ITEMS) - 1, "declared once"
    assert f"| `{item.name}` | {item.kind} |" in PAGE.read_text()


@pytest.mark.parametrize("kind", [Kind.COLUMN, Kind.LABEL, Kind.LOG, Kind.FILE])
async def test_a_line_that_is_removed_is_missed(used: Used, kind: Kind) -> None:
    found = {
        Kind.COLUMN: observed.columns(used.folder / "relay.db"),
        Kind.LABEL: observed.labels(used.relay.metrics.registry),
        Kind.LOG: observed.log_fields(),
    }
    for gone in (item for item in inventory.ITEMS if item.kind == kind):
        rest = tuple(item for item in inventory.ITEMS if item is not gone)
        if kind == Kind.FILE:
            example = gone.name.replace("*", "1")
            assert observed.unmatched({example}, {i.name for i in rest if i.kind == kind})[0] == {example}
        else:
            assert missing(found[kind], kind, rest) == {gone.name}


async def test_an_undeclared_column_is_noticed(used: Used, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    db = apsw.Connection(str(copy))
    db.execute(sqlite_schema.SCHEMA)
    db.execute("ALTER TABLE mailbox ADD COLUMN last_seen_ip TEXT")
    db.close()
    assert missing(observed.columns(copy), Kind.COLUMN) == {"mailbox.last_seen_ip"}


async def test_an_undeclared_label_is_noticed(used: Used) -> None:
    registry = used.relay.metrics.registry
    Counter("restante_by_country", "Broken on purpose", ["country"], registry=registry).labels("xx").inc()
    assert missing(observed.labels(registry), Kind.LABEL) == {"restante_by_country.country"}


def test_an_undeclared_log_field_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text('_log.info("opened", mailbox=mailbox)\n')
    assert observed.log_fields(tmp_path) - inventory.names(Kind.LOG) == {"mailbox"}


def test_an_undeclared_file_is_noticed() -> None:
    found, _ = observed.unmatched({"relay.db", "access.log"}, set(inventory.names(Kind.FILE)))
    assert found == {"access.log"}


# The page.


def test_the_page_is_made_from_the_inventory() -> None:
    assert PAGE.read_text() == inventory.page(), "python -m restante_server.inventory > docs/data.md"


@pytest.mark.parametrize("category", Category, ids=lambda category: category.name)
def test_a_category_has_items_and_is_told_in_every_language(category: Category) -> None:
    assert any(item.category is category for item in inventory.ITEMS)
    assert incomplete(category) == []
