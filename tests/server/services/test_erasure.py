"""What is erased is in no file of the store any more, and older backups do not bring it back."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.app import Relay
from restante_server.config import BACKUP_LIFETIME, TOMBSTONE_LIFETIME
from restante_server.identity import Identity
from restante_server.purposes import Purpose
from restante_server.services.erasure import Eraser
from restante_server.stores import backup as backups
from restante_server.stores.blob_folder import BlobFolder
from restante_server.stores.contract import StoreFull, StoreRefused, StoreUnavailable
from restante_server.stores.sqlite import SqliteStore
from restante_server.stores.tombstones import NAME, Journal
from support import disk
from support.directories import NUMBERS, Phones, consent, put_handle, put_number, verify, withdraw
from support.plain_client import Answer, BlobOwner, PlainBlobs
from support.push_service import push_service, wake_at
from support.redis_servers import RedisServer, free_ports
from support.relay import HOUR, Owner, Peer, relay_in_process, relay_process
from support.stores import DAY, MovedClock, address, deposit, identifier, mailbox, make_mailbox
from support.waiting import until

SUITE = 3
SEEN = 20  # bytes: nothing else has the same by chance


class Person:
    """Somebody with everything that a relay can hold, and the bytes of it."""

    def __init__(self) -> None:
        self.owner = Owner(bucket=int.from_bytes(os.urandom(1), "big") % 240)
        self.addresses = [self.owner.address() for _ in range(30)]
        self.packages = [os.urandom(800) for _ in range(60)]
        self.last_resort = os.urandom(900)
        self.bodies = [os.urandom(size) for size in (40, 500, 3000, 9000, 90_000)] * 2
        self.slot_seed, self.slot_nonce, self.slot_body = os.urandom(32), os.urandom(16), os.urandom(2000)
        self.slot = proofs.slot_id(9, primitives.ed25519_public(self.slot_seed), self.slot_nonce)

    @property
    def traces(self) -> list[bytes]:
        """What must not be found: of long values their beginning, middle and end."""
        own = [self.owner.mailbox, self.owner.key, self.slot, *(spec.address for spec in self.addresses)]
        long = [*self.packages, self.last_resort, *self.bodies, self.slot_body]
        return own + [part for each in long for part in (each[:24], each[len(each) // 2 :][:24], each[-24:])]

    async def settle(self, url: str) -> None:
        async with await Peer.own(url, self.owner) as peer, await Peer.connect(url) as sender:
            await peer.ask(lambda n: frames.AddressPut(n, self.addresses))
            await peer.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, self.packages, self.last_resort, False))
            for body in self.bodies:
                assert (await sender.deposit([self.addresses[0].address], body)).failed == []
            key = primitives.ed25519_public(self.slot_seed)
            message = proofs.slot_put_message(sender.welcome.relay_key, self.slot, 1, HOUR, self.slot_body)
            signature = primitives.ed25519_sign(self.slot_seed, message)
            put = lambda n: frames.SlotPut(n, self.slot, key, self.slot_nonce, 1, HOUR, self.slot_body, signature)  # noqa: E731
            assert isinstance(await sender.ask(put), frames.Done)
            for _ in range(20):  # what was there once is to be found nowhere either
                await sender.ask(lambda n: frames.Claim(n, SUITE, [self.addresses[1].address]))

    async def erase(self, url: str) -> frames.Erased:
        async with await Peer.connect(url) as sender:
            key = primitives.ed25519_public(self.slot_seed)
            message = proofs.slot_delete_message(sender.welcome.relay_key, self.slot)
            signature = primitives.ed25519_sign(self.slot_seed, message)
            build = lambda n: frames.SlotDelete(n, self.slot, key, self.slot_nonce, signature)  # noqa: E731
            assert isinstance(await sender.ask(build), frames.Done)
        async with await Peer.own(url, self.owner) as peer:
            answer = await peer.ask(frames.MailboxDelete)
        assert isinstance(answer, frames.Erased)
        return answer


def found(folder: Path, person: Person) -> set[str]:
    """Return the files, within the folder, in which anything of somebody is."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name for name, data in files.items() if any(trace in data for trace in person.traces)}


@pytest.mark.database_file
async def test_no_byte_is_left_in_any_file_and_the_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    people = [Person() for _ in range(6)]
    async with relay_in_process(folder) as relay:
        await asyncio.gather(*(person.settle(relay.url) for person in people))
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "before")
        gone, kept = people[:3], people[3:]
        answers = await asyncio.gather(*(person.erase(relay.url) for person in gone))
        for person, answer in zip(gone, answers, strict=True):
            assert await asyncio.to_thread(found, folder, person) == set()
            signed = proofs.erased_message(person.owner.mailbox, answer.erased_at)
            key = primitives.ed25519_public((folder / "relay.key").read_bytes())
            assert primitives.ed25519_verify(key, signed, answer.receipt)
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "after")
        for person in gone:
            assert await asyncio.to_thread(found, tmp_path / "before", person) == {"relay.db"}, "the search finds"
            assert await asyncio.to_thread(found, tmp_path / "after", person) == set()
        for person in kept:
            async with await Peer.own(relay.url, person.owner, create=False) as peer:
                assert (await peer.ask(frames.Status)).entries == len(person.bodies)


@pytest.mark.database_file
async def test_an_older_backup_does_not_bring_it_back(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    gone, kept, shared = Person(), Person(), os.urandom(3000)
    async with relay_in_process(folder) as relay:
        await asyncio.gather(gone.settle(relay.url), kept.settle(relay.url))
        async with await Peer.connect(relay.url) as sender:
            await sender.deposit([gone.addresses[0].address, kept.addresses[0].address], shared)
            await sender.deposit([gone.addresses[0].address], b"won", fence=bytes(32))
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "older")
        await gone.erase(relay.url)
    backups.restore(tmp_path / "older", folder / "relay.db", force=True)
    assert found(folder, gone) == set()
    assert "relay.db" in found(folder, kept)
    async with relay_in_process(folder) as relay:
        async with await Peer.own(relay.url, kept.owner, create=False) as peer:
            await peer.subscribe()
            bodies = [each.entry.body for each in await peer.entries(len(kept.bodies) + 1)]
            assert bodies[-1] == shared
        async with await Peer.connect(relay.url, frames.ROLE_RECEIVER) as peer:
            assert (await peer.prove(gone.owner)).code == Code.NO_MAILBOX
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "newer")
    backups.restore(tmp_path / "older", folder / "relay.db", force=True)
    assert found(folder, gone) == set(), "a restored store knows it still"


@pytest.mark.database_file
async def test_a_mailbox_that_came_again_stays_in_a_newer_backup(tmp_path: Path) -> None:
    folder, person, clock = tmp_path / "relay", Person(), MovedClock()
    async with relay_in_process(folder, clock=clock) as relay:
        await person.settle(relay.url)
        await person.erase(relay.url)
        clock.advance(10)
        await person.settle(relay.url)
        await person.erase(relay.url)
        clock.advance(10)
        await person.settle(relay.url)
        backups.backup(folder / "relay.db", tmp_path / "newer", clock=clock)
    backups.restore(tmp_path / "newer", folder / "relay.db", force=True, clock=clock)
    assert "relay.db" in found(folder, person)


@pytest.mark.database_file
async def test_a_backup_that_is_too_old_is_refused(tmp_path: Path) -> None:
    clock = MovedClock()
    async with relay_in_process(tmp_path / "relay", clock=clock):
        backups.backup(tmp_path / "relay" / "relay.db", tmp_path / "backup", clock=clock)
    clock.advance(BACKUP_LIFETIME)
    backups.restore(tmp_path / "backup", tmp_path / "one" / "relay.db", clock=clock)
    clock.advance(1)
    with pytest.raises(StoreRefused, match="older than a year"):
        backups.restore(tmp_path / "backup", tmp_path / "two" / "relay.db", clock=clock)


@pytest.mark.database_file
async def test_a_store_that_cannot_be_read_stops_a_restore(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay"):
        backups.backup(tmp_path / "relay" / "relay.db", tmp_path / "backup")
    damaged = tmp_path / "relay" / "relay.db"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreRefused, match="cannot be read"):
        backups.restore(tmp_path / "backup", damaged, force=True)
    assert damaged.read_bytes().startswith(b"no database")


async def test_those_who_wait_share_a_scrub_and_late_ones_get_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db", clock=MovedClock())
    eraser = Eraser(store, Identity.open(tmp_path), MovedClock(), Journal(tmp_path))
    for number in range(6):
        await make_mailbox(store, number, [number])
    scrubs = 0
    scrub = store.scrub

    async def counted() -> None:
        nonlocal scrubs
        scrubs += 1
        await scrub()

    monkeypatch.setattr(store, "scrub", counted)
    await asyncio.gather(*(eraser.erase_mailbox(mailbox(number)) for number in range(5)))
    assert scrubs < 5
    before = scrubs
    await eraser.erase_mailbox(mailbox(5))
    assert scrubs == before + 1
    await store.close()
    with pytest.raises(StoreUnavailable):
        await eraser.erase_mailbox(mailbox(5))


async def test_slots_that_are_not_there_leave_no_tombstone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db", clock=MovedClock())
    identity = Identity.open(tmp_path)
    eraser = Eraser(store, identity, MovedClock(), Journal(tmp_path))
    slot = identifier("slot", 1)
    await eraser.erase_slot(slot)
    assert await store.get_slot(identity.tombstone(slot)) is None
    await store.put_slot(slot, 1, DAY, b"slot")
    await eraser.erase_slot(slot)
    assert await store.get_slot(slot) is None
    assert await store.get_slot(identity.tombstone(slot)) is not None
    await store.close()


async def test_a_slot_that_is_taken_back_is_in_no_file(tmp_path: Path) -> None:
    clock = MovedClock()
    store = await SqliteStore.open(tmp_path / "relay.db", clock=clock)
    eraser = Eraser(store, Identity.open(tmp_path), clock, Journal(tmp_path))
    slot, body = identifier("slot", 1), os.urandom(40)

    def places() -> set[str]:
        return {path.name for path in tmp_path.iterdir() if body in path.read_bytes() or slot in path.read_bytes()}

    for scrub in (False, True):
        await store.put_slot(slot, 1, DAY, body)
        await eraser.erase_slot(slot, scrub=scrub)
        assert bool(places()) != scrub
    assert await eraser.erase_slot(slot, scrub=True) == clock() // 1000, "again, after an interruption"
    await store.close()


async def test_a_relay_goes_on_while_it_scrubs(relay: Relay) -> None:
    one, other = Owner(), Owner()
    async with await Peer.own(relay.url, one) as peer, await Peer.own(relay.url, other) as receiver:
        spec = await receiver.add_address(other.address())
        async with await Peer.connect(relay.url) as sender:
            asked = asyncio.ensure_future(peer.ask(frames.MailboxDelete))
            outcomes = await asyncio.gather(*(sender.deposit([spec], b"%d" % n) for n in range(1)))
            assert outcomes[0].failed == []
            assert isinstance(await asked, frames.Erased)


async def test_a_full_disk_refuses_and_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from restante_server.stores import sqlite_holdings  # noqa: PLC0415 -- to look inside
    from restante_server.stores.contract import StoreFull  # noqa: PLC0415 -- the same

    store = await SqliteStore.open(tmp_path / "relay.db", clock=MovedClock())
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    monkeypatch.setattr(sqlite_holdings, "VACUUM_FACTOR", 1 << 60)
    with pytest.raises(StoreFull):
        await store.scrub()
    assert (await store.totals()).entries == 1
    await store.close()


def in_any(folders: list[Path], person: Person) -> set[str]:
    return set().union(*(found(folder, person) for folder in folders))


async def test_nothing_of_who_erased_is_anywhere(place: tuple[list[str], list[Path]], tmp_path: Path) -> None:
    """Database files and their log, Redis dumps and logs on masters and replicas, the relay's log, a later backup."""
    arguments, folders = place
    gone, kept = Person(), Person()
    async with relay_process(tmp_path / "relay", *arguments) as relay:
        await asyncio.gather(gone.settle(relay.url), kept.settle(relay.url))
        assert await asyncio.to_thread(in_any, folders, gone), "the search finds"
        await gone.erase(relay.url)
        assert await asyncio.to_thread(in_any, folders, gone) == set()
        if len(folders) > 1:  # a copy of the servers' files is their backup
            for number, folder in enumerate(folders[1:]):
                await asyncio.to_thread(shutil.copytree, folder, tmp_path / "later" / str(number))
        else:
            await asyncio.to_thread(backups.backup, tmp_path / "relay" / "relay.db", tmp_path / "later")
        assert await asyncio.to_thread(found, tmp_path / "later", gone) == set()
        assert await asyncio.to_thread(found, tmp_path / "later", kept), "the search finds"
        async with await Peer.own(relay.url, kept.owner, create=False) as peer:
            assert (await peer.ask(frames.Status)).entries == len(kept.bodies)
        await relay.stop()
    assert not any(trace in relay.stderr for trace in gone.traces)


def of(slots: dict[bytes, bytes]) -> list[bytes]:
    """What must not be found of slots: their ids, beginnings and ends."""
    return [part for slot, body in slots.items() for part in (slot, body[:24], body[-24:]) if len(part) >= SEEN]


async def test_what_is_withdrawn_is_in_no_file(chosen_store: None, tmp_path: Path, cheap: None, phones: Phones) -> None:
    """Each purpose for which the relay holds anything: its slots, on masters and replicas, and in a later copy."""
    folder, offered = tmp_path / "relay", (Purpose.HANDLE, Purpose.NUMBER, Purpose.PUSH)
    async with (
        push_service() as service,
        relay_in_process(
            folder, purposes=offered, processors=(service.declaration,), push_private=True, sms="console"
        ) as relay,
        await Peer.own(relay.url, Owner(bucket=9)) as peer,
    ):
        empty = await asyncio.to_thread(disk.slots, folder)
        await consent(peer, Purpose.HANDLE)
        await put_handle(peer, folder, "alice")
        await consent(peer, Purpose.NUMBER)
        await verify(peer, phones, NUMBERS[0])
        await put_number(peer, folder, NUMBERS[0])
        await wake_at(peer, service, service.endpoint("device"))
        for number, purpose in enumerate(offered):
            before = await asyncio.to_thread(disk.slots, folder)
            there = await asyncio.to_thread(disk.files, *disk.places(folder))
            await withdraw(peer, purpose)
            after = await asyncio.to_thread(disk.slots, folder)
            gone = {slot: body for slot, body in before.items() if slot not in after}
            assert len(gone) >= 2, f"{purpose}: the consent, and what was held"
            assert all(any(trace in data for data in there.values()) for trace in of(gone)), "the search finds"
            changed = {slot: body for slot, body in before.items() if body != after.get(slot)}
            traces = of(gone) + [trace for trace in of(changed) if trace not in after]
            await asyncio.to_thread(disk.back_up, folder, tmp_path / f"later {number}")
            files = await asyncio.to_thread(disk.files, *disk.places(folder), tmp_path / f"later {number}")
            assert {name for name, data in files.items() if any(trace in data for trace in traces)} == set(), purpose
        assert set(after) > set(empty), "tombstones, and how often a number was asked and told"


# A store that is put back, by whatever means.


async def test_an_older_store_is_noticed_and_what_was_erased_since_is_erased(
    any_store: dict[str, Any], tmp_path: Path
) -> None:
    """The store is set back to what it was before: everything is there again, and no tombstone."""
    folder = tmp_path / "relay"
    gone, kept, blob = Person(), Person(), BlobOwner()
    async with relay_in_process(folder, **any_store) as relay:
        await asyncio.gather(gone.settle(relay.url), kept.settle(relay.url))
        await gone.erase(relay.url)
        key = primitives.ed25519_public((folder / "relay.key").read_bytes())
        blobs = PlainBlobs(relay.url, key)
        assert await blobs.put(blob, b"sealed") == Answer(201)
        assert await blobs.delete(blob) == Answer(204)
        identity = Identity.open(folder)
        buried = [identity.tombstone(each) for each in (gone.owner.mailbox, gone.slot, blob.blob)]
        for tombstone in buried:
            assert await relay.store.get_slot(tombstone) is not None
            await relay.store.delete_slot(tombstone)
        await gone.settle(relay.url)
        assert await blobs.put(blob, b"sealed") == Answer(201)
    async with relay_in_process(folder, **any_store) as relay:
        assert not await relay.store.has_mailbox(gone.owner.mailbox)
        assert await relay.store.has_mailbox(kept.owner.mailbox)
        assert await relay.store.get_slot(gone.slot) is None
        assert await relay.store.get_slot(kept.slot) is not None
        assert (await PlainBlobs(relay.url, key).get(blob.blob)).status == 404
        for tombstone in buried:
            assert await relay.store.get_slot(tombstone) is not None, "from now on in this store, too"


async def test_a_store_that_is_set_back_while_the_relay_runs(tmp_path: Path) -> None:
    clock, blobs = MovedClock(), await BlobFolder.open(tmp_path / "blobs")
    store = await SqliteStore.open(tmp_path / "relay.db", clock=clock)
    identity = Identity.open(tmp_path)
    eraser = Eraser(store, identity, clock, Journal(tmp_path))
    await eraser.look(blobs)
    await make_mailbox(store, 1)
    await eraser.erase_mailbox(mailbox(1))
    await eraser.look(blobs)
    await make_mailbox(store, 1)  # made again: it is another
    await eraser.look(blobs)
    assert await store.has_mailbox(mailbox(1))
    await store.delete_slot(identity.tombstone(mailbox(1)))
    await eraser.look(blobs)
    assert not await store.has_mailbox(mailbox(1))
    await store.close()
    with pytest.raises(StoreUnavailable):
        await eraser.look(blobs)


@pytest.mark.database_file
async def test_a_lost_store_does_not_lose_what_was_erased(tmp_path: Path) -> None:
    folder, person, blob = tmp_path / "relay", Person(), BlobOwner()
    async with relay_in_process(folder) as relay:
        await person.settle(relay.url)
        key = primitives.ed25519_public((folder / "relay.key").read_bytes())
        assert await PlainBlobs(relay.url, key).put(blob, b"sealed") == Answer(201)
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "older")
        await person.erase(relay.url)
        assert await PlainBlobs(relay.url, key).delete(blob) == Answer(204)
    for path in folder.glob("relay.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    backups.restore(tmp_path / "older", folder / "relay.db")
    assert found(folder, person) == set()
    assert not (folder / "relay.db.blobs" / blob.blob[:1].hex() / blob.blob.hex()).exists()


def test_the_list_survives_a_crash_and_forgets_in_time(tmp_path: Path) -> None:
    journal, now = Journal(tmp_path), MovedClock()() // 1000
    assert journal.tidy(now) == {}
    one, two = identifier("slot", 1), identifier("slot", 2)
    journal.add(one, now)
    journal.add(two, now + 9)
    path = tmp_path / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes() + b"torn")
    assert journal.read() == {one: now, two: now + 9}
    assert journal.tidy(now) == journal.read()
    assert path.stat().st_size == 64
    journal.add(one, now + 20)
    assert journal.tidy(now + 1) == {one: now + 20, two: now + 9}
    assert journal.tidy(now + TOMBSTONE_LIFETIME + 10) == {one: now + 20}
    assert journal.read() == {one: now + 20}


async def test_a_list_that_cannot_be_written_stops_an_erasure_but_no_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path / "relay.db", clock=MovedClock())
    eraser = Eraser(store, Identity.open(tmp_path), MovedClock(), Journal(tmp_path / "nowhere"))
    await make_mailbox(store, 1)
    with pytest.raises(StoreFull):
        await eraser.erase_mailbox(mailbox(1))
    assert await store.has_mailbox(mailbox(1)), "nothing is erased without a mark"
    await eraser.bury_blob(identifier("blob", 1))
    await store.close()


async def test_a_replica_that_is_behind_is_no_receipt(tmp_path: Path) -> None:
    master, replica = (RedisServer(tmp_path / name, free_ports(1)[0]) for name in ("master", "replica"))
    owner = Owner()
    try:
        master.start()
        replica.start("--replicaof", f"127.0.0.1 {master.port}")
        await until(lambda: master.command("INFO", "replication").get("slave0", {}).get("state") == "online")
        async with relay_in_process(tmp_path / "relay", redis=f"redis://127.0.0.1:{master.port}") as relay:
            async with await Peer.own(relay.url, owner) as peer:
                assert isinstance(await peer.ask(frames.MailboxDelete), frames.Erased)
            erased: bytes = owner.mailbox
            files = await asyncio.to_thread(lambda: [path for path in tmp_path.rglob("*") if path.is_file()])
            assert not any(erased in path.read_bytes() for path in files), "nor at the replica"
        async with (
            relay_in_process(tmp_path / "relay", redis=f"redis://127.0.0.1:{master.port}") as relay,
            await Peer.own(relay.url, owner) as peer,
        ):
            replica.signal(signal.SIGSTOP)
            answer = await peer.ask(frames.MailboxDelete)
            assert (type(answer), answer.code) == (frames.Error, Code.UNAVAILABLE)
            replica.signal(signal.SIGCONT)
    finally:
        replica.stop()
        master.stop()
