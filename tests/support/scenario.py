"""A relay that was used for everything it can do, and what was then stored and emitted: run once for each store."""

import asyncio
import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import directory, oprf, proofs
from restante_crypto.directory import Kind as DirectoryKind
from restante_crypto.directory import entry
from restante_protocol import frames
from restante_server import announcements, disclosures, inventory
from restante_server.app import Relay
from restante_server.codes import leave
from restante_server.config import PushPace
from restante_server.grounds import Ground
from restante_server.identity import Identity
from restante_server.inventory import Item, Kind
from restante_server.oprf_key import OprfKey
from restante_server.processors import Role
from restante_server.purposes import Purpose
from restante_server.push_key import PushKey
from restante_server.services.bulletin import Bulletin
from restante_server.services.disclosure import Request, new_id
from restante_server.stores import backup as backups
from restante_server.stores import sqlite_schema
from restante_server.stores.redis import RedisStore
from support import observed
from support.directories import CHEAP, NUMBERS, Phones, put_handle, put_number, verify
from support.directories import consent as consent_to
from support.people import people, together
from support.plain_client import Answer, BlobOwner, PlainBlobs
from support.push_service import PushService, push_service, wake_at
from support.redis_records import Records
from support.relay import Owner, Peer, relay_in_process
from support.stores import DAY, SUITE, MovedClock, address, code, deposit, fence, mailbox, make_mailbox
from support.waiting import until

_PUBLISHED = ("policy", "policy 1", "announcements", "directory", "official", "transparency", "diagnostics", "push")
_ENDING = (Kind.COLUMN, Kind.KEY, Kind.FIELD, Kind.SLOT, Kind.BLOB)
_HANDED_ON = {Kind.SMS: Role.SMS, Kind.PUSH: Role.PUSH}

Things = Mapping[Kind, frozenset[str]]
"""Names of what was found, by kind."""


@dataclass
class Seen:
    """What was found.

    Attributes:
        folder: of the relay.
        records: what is on Redis, if that is the store.
        found: after the relay was used.
        empty: columns of tables that nothing was in.
        left: by seconds that the clock was moved on: what was there after the next sweep.
        classes: what is in a slot, by its id; it is filled while the relay is used.
    """

    folder: Path
    records: Records | None
    found: Things = field(default_factory=dict)
    empty: frozenset[str] = frozenset()
    left: dict[int, Things] = field(default_factory=dict)
    classes: dict[bytes, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.folder / "relay.db"

    @property
    def compared(self) -> Things:
        """What is compared in both directions: over Redis a relay has not all files."""
        return {kind: names for kind, names in self.found.items() if self.records is None or kind != Kind.FILE}

    def stored(self) -> dict[Kind, frozenset[str]]:
        """Return what is stored now, beside files; of a slot of no known kind, its id."""
        found = {Kind.BLOB: frozenset(observed.blobs(self.folder / "relay.db.blobs"))}
        if self.records is not None:
            contents = self.records.read()
            slots: Iterable[bytes] = contents.hash("slot")
            found |= {Kind.KEY: contents.keys(), Kind.FIELD: contents.fields()}
        else:
            slots = observed.values(self.database, "slot", "id")
            found[Kind.COLUMN] = frozenset(observed.columns(self.database))
        return {**found, Kind.SLOT: frozenset(self.classes.get(each, each.hex()) for each in slots)}


def differences(found: Things, items: Iterable[Item] = inventory.ITEMS) -> set[tuple[Kind, str]]:
    """Return what is found and not declared, or declared and not found, of the kinds that were looked for."""
    declared = list(items)
    return {
        (kind, name)
        for kind, names in found.items()
        for both in observed.unmatched(set(names), {item.name for item in declared if item.kind == kind})
        for name in both
    }


def undeclared(found: Things) -> set[tuple[Kind, str]]:
    """Return what is found and not declared."""
    return {
        (kind, name)
        for kind, names in found.items()
        for name in observed.unmatched(set(names), inventory.names(kind))[0]
    }


def fits(item: Item, things: Things) -> bool:
    """Say whether anything of what an item declares is among these things."""
    return observed.unmatched(things.get(item.kind, frozenset()), {item.name})[1] == set()


def lifetimes() -> list[int]:
    """Return the lifetimes, in seconds, that end anything that is stored."""
    return sorted({item.lifetime for item in inventory.ITEMS if item.lifetime is not None and item.kind in _ENDING})


async def run(folder: Path, redis: str = "") -> Seen:
    """Use a relay, over this Redis (a URL with a prefix) or over a database, and look at it."""
    records = Records(redis, redis.rpartition("=")[2]) if redis else None
    seen, clock = Seen(folder / "relay", records), MovedClock()
    where: dict[str, Any] = {"redis": redis} if redis else {"store": seen.database}
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(shown):
        patch.setattr(directory, "COST", CHEAP)
        async with (
            push_service() as service,
            relay_in_process(
                seen.folder,
                clock=clock,
                official=("Support=restante:AA",),
                purposes=("push", "handle", "number", "diagnostics"),
                processors=(service.declaration,),
                push_private=True,
                push_pace=PushPace(0.0, 0.0),
                **{"store": seen.database, **where},
            ) as relay,
        ):
            seen.classes |= await _use_push(relay, seen.folder, service)
            await _use(relay, seen, folder, clock, Phones(shown.getvalue))
            found = seen.stored()
            found[Kind.LABEL] = frozenset(observed.labels(relay.metrics.registry))
            found[Kind.LOG] = frozenset(observed.log_fields())
            found[Kind.FILE] = frozenset(observed.files(seen.folder) | _other_files(folder / "other", seen.folder))
            found |= {kind: frozenset(observed.handed_on(role)) for kind, role in _HANDED_ON.items()}
            seen.found = found
            seen.empty = found.get(Kind.COLUMN, frozenset()) - observed.filled(seen.database)
            await _outlive(relay, seen, clock)
    return seen


async def _use(relay: Relay, seen: Seen, folder: Path, clock: MovedClock, phones: Phones) -> None:
    """Have everything there: two people, a message and a code that wait, an error, an announcement, a disclosure."""
    identity = Identity.open(seen.folder)
    async with people(folder, relay.url, "alice", "bob") as (alice, bob):
        room, _ = await together(alice, bob)
        await room.send("used")
        await bob.reads("used")
        await bob.stop()
        await alice.client.set_profile("Alice", b"picture")
        await room.send("waits")
        await alice.client.consent("push")
        kept = alice.client._engine.mailbox
        seen.classes[identity.consent(kept, "push")] = "consent"
        seen.classes[alice.client._engine.profiles.slots()[0]] = "profile"
        for reader in (alice, bob):
            table = reader.client._engine._tables.invites
            seen.classes |= {row.key: "invite" for row in await reader.client._driver.run(table.rows)}
    erased = Owner()
    async with await Peer.connect(relay.url) as peer:
        await peer.ask(lambda n: frames.SlotGet(n, bytes(24)))
        async with await Peer.own(relay.url, erased) as owner:
            await owner.ask(frames.MailboxDelete)
        assert await PlainBlobs(relay.url, peer.welcome.relay_key).put(BlobOwner(), b"blob") == Answer(201)
    named = Owner(bucket=9)
    async with await Peer.own(relay.url, named) as owner:
        seen.classes |= await _use_directory(owner, named, seen.folder, phones)
        for first in (1, 5):
            await owner.ask(lambda n: frames.PrekeysPut(n, SUITE, first, [b"sealed"], b"", False))  # noqa: B023 -- at once
    await relay.diagnostics.flush()
    await Bulletin(relay.store, identity, clock).announce("service", {"en": "used"})
    await asyncio.to_thread(leave, seen.database, 1, clock())
    request = Request(new_id(), Ground.CONSENT, kept, ("mailbox.id",), "Somebody", "asked for")
    answer = await asyncio.to_thread(disclosures.leave, seen.database, request)
    await until(answer.exists)
    await _use_store(relay)
    seen.classes |= {proofs.public_slot_id(identity.public, name): name for name in _PUBLISHED}
    seen.classes[identity.tombstone(erased.mailbox)] = "tombstone"
    seen.classes[identity.ledger_slot(1)] = "disclosure 1"


async def _use_store(relay: Relay) -> None:
    """Have there what is there for an instant alone, or of busy mailboxes."""
    store = relay.store
    await make_mailbox(store, 1, [1])
    await asyncio.gather(*(store.deposit(deposit(2 + number, [address(1)])) for number in range(300)))
    await store.deposit(deposit(1000, [address(1)], fence=fence(1)))
    await store.deposit(deposit(1001, [address(1), address(99)]))
    await store.mark_spent(address(1))
    await store.add_codes([code(1)], DAY)
    if isinstance(store, RedisStore):  # what is in several buckets
        await store.win_fence(deposit(1, [bytes(24)], fence=bytes(32)))
        await store._call(code(1), "take_code", code(1), mailbox(1), store._now())
    await make_mailbox(store, 2, [2])
    await store.delete_mailbox(mailbox(2))


async def _use_directory(peer: Peer, owner: Owner, folder: Path, phones: Phones) -> dict[bytes, str]:
    """Have everything in the directory, and a code that waits; return what is in which slots."""
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


async def _use_push(relay: Relay, folder: Path, service: PushService) -> dict[bytes, str]:
    """Have a device woken; return what is in which slots."""
    owner, identity = Owner(bucket=7), Identity.open(folder)
    async with await Peer.own(relay.url, owner) as peer:
        await wake_at(peer, service, service.endpoint("device"))
        waiting = await peer.add_address(owner.address())
    async with await Peer.connect(relay.url) as sender:
        await sender.deposit([waiting])
    await service.until(1)
    key = PushKey.of(identity)
    return {
        identity.consent(owner.mailbox, Purpose.PUSH): "consent",
        key.slot("endpoint", owner.mailbox): "push endpoint",
        key.slot("rest", owner.mailbox): "push rest",
    }


def _other_files(folder: Path, relay: Path) -> set[str]:
    """Return the names of files that are there for an instant, or after a crash or an upgrade."""
    folder.mkdir()
    path = folder / "relay.db"
    db = sqlite_schema.connect(path, None)
    sqlite_schema.prepare(db, path, bytes)
    sqlite_schema.prepare(db, path, bytes, {sqlite_schema.VERSION: "SELECT 1"})
    db.close()
    announcements.leave(path, announcements.Announcement(announcements.Kind.SERVICE, {"en": "left"}))
    disclosures.leave(path, Request(new_id(), Ground.CONSENT, bytes(24), ("mailbox.id",), "Somebody", "asked for"))
    with pytest.MonkeyPatch.context() as crash:
        crash.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("power loss")))
        with pytest.raises(OSError, match="power loss"):
            sqlite_schema.write_durably(folder / "relay.key", os.urandom(32))
    if (relay / "relay.db").exists():
        backups._prepare(relay, path)
    return observed.files(folder)


async def _outlive(relay: Relay, seen: Seen, clock: MovedClock) -> None:
    """Move the clock over each lifetime, sweep, and look.

    What one relay takes over from another is stored only then: longer lifetimes begin with that.
    """
    moved = 0
    for seconds in lifetimes():
        clock.advance(seconds + 1 - moved)
        moved = seconds + 1
        if isinstance(relay.store, RedisStore) and seconds == lifetimes()[0]:
            await relay.store._redrive()
            moved = 0
        await relay.store.sweep()
        await relay.blobs.sweep()
        left = seen.stored()
        if seen.records is None:
            left[Kind.COLUMN] = frozenset(observed.filled(seen.database))
        seen.left[seconds] = left
