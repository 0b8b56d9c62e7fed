"""How what the index has in memory is saved: in parts, in an order that a power loss may cut anywhere."""

import asyncio
import shutil

import apsw
import pytest

from restante_protocol import limits
from restante_protocol.frames import encode_prekey
from restante_server.stores import sqlite_index, sqlite_mailboxes, sqlite_prekeys, sqlite_supplies, sqlite_writer
from restante_server.stores.contract import EMPTY, StoreFull
from restante_server.stores.sqlite import SqliteStore
from restante_server.stores.sqlite_writer import Batch
from support.stores import (
    SUITE,
    Opener,
    acknowledge,
    address,
    deposit,
    mailbox,
    make_mailbox,
    read_all,
    rows,
    subscribe,
)
from support.waiting import until


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is saved but when a test asks for it, or closes the store."""
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", 1000)


async def save(store: SqliteStore, limit: int, *, fail: bool = False) -> int:
    """Save so many rows of each kind, in a transaction; return how many were."""

    def run(batch: Batch) -> int:
        saved = store._index.save(batch.db, batch.undo, limit)
        if fail:
            raise ZeroDivisionError
        return saved

    return await store._writer.submit(run)


async def end_in_vain(store: SqliteStore, number: int) -> None:
    """Delete a mailbox in a transaction that is rolled back."""

    def run(batch: Batch) -> None:
        sqlite_mailboxes.delete(batch, store._index, mailbox(number))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._writer.submit(run)


SAVED = "mailbox WHERE cursor > 0"


async def spend_one_payload(store: SqliteStore) -> None:
    """Have three mailboxes acknowledge the same deposit."""
    for number in (1, 2, 3):
        await make_mailbox(store, number, [number])
    await store.deposit(deposit(1, [address(number) for number in (1, 2, 3)]))
    for number in (1, 2, 3):
        await acknowledge(store, number, limits.MAX_SEQUENCE)


async def test_a_payload_goes_with_or_after_the_cursors_of_all_who_had_it(opener: Opener) -> None:
    """Or sequences that a client has seen could be given again after a power loss."""
    store = await opener.open()
    await spend_one_payload(store)
    assert store._index.unsaved == 4
    assert await save(store, 2) == 2
    assert (rows(opener.path, SAVED), rows(opener.path, "payload")) == (2, 1)
    assert await save(store, 2) == 2
    assert (rows(opener.path, SAVED), rows(opener.path, "payload")) == (3, 0)
    assert store._index.unsaved == 0
    await store.close()


async def test_a_part_that_is_rolled_back_is_saved_later_in_the_same_order(opener: Opener) -> None:
    store = await opener.open()
    await spend_one_payload(store)
    for limit in (1, 2, 10):
        with pytest.raises(ZeroDivisionError):
            await save(store, limit, fail=True)
        assert store._index.unsaved == 4
    assert [await save(store, 1) for _ in range(3)] == [1, 1, 2]
    assert rows(opener.path, "payload") == 0
    await store.close()


async def test_a_mailbox_whose_end_is_rolled_back_is_saved_before_anything_is_deleted(opener: Opener) -> None:
    store = await opener.open()
    await spend_one_payload(store)
    await end_in_vain(store, 1)
    assert await save(store, 1) == 1
    assert rows(opener.path, f"{SAVED} AND n = 1") == 1
    assert await save(store, 1) == 1
    assert rows(opener.path, "payload") == 1
    assert await save(store, 1) == 2
    assert rows(opener.path, "payload") == 0
    await store.close()


async def test_saving_goes_on_part_by_part_and_closing_saves_the_rest_at_once(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "SAVE_PART", 1)
    store = await opener.open()
    for turn in (0, 100):
        for number in range(1, 6):
            if not turn:
                await make_mailbox(store, number, [number])
            await store.deposit(deposit(turn + number, [address(number)]))
            await acknowledge(store, number, limits.MAX_SEQUENCE)
        store._writer._save()
        if not turn:
            while store._index.unsaved:
                await store.status(mailbox(1))
    await store.close()
    assert rows(opener.path, "payload") == 0


async def test_what_is_acknowledged_while_others_are_saved_is_saved_soon_after(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", 0)
    store = await opener.open()
    for number in (1, 2):
        await make_mailbox(store, number, [number])
        await store.deposit(deposit(number, [address(number)]))
    owners = {number: await subscribe(store, number) for number in (1, 2)}
    await acknowledge(store, 1, limits.MAX_SEQUENCE, owner=owners[1])
    while not (store._writer._saving and store._writer._running):
        await asyncio.sleep(0)
    await acknowledge(store, 2, limits.MAX_SEQUENCE, owner=owners[2])
    await until(lambda: not store._index.unsaved)
    assert rows(opener.path, "payload") == 0
    await store.close()


async def test_a_part_grows_with_what_waits(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or more would come with each commit than one part saves."""
    monkeypatch.setattr(sqlite_writer, "SAVE_PART", 1)
    limits_of_parts = []
    store = await opener.open()
    save = store._index.save

    def recorded(db: apsw.Connection, undo: sqlite_index.Undo, limit: int) -> int:
        limits_of_parts.append(limit)
        return save(db, undo, limit)

    monkeypatch.setattr(store._index, "save", recorded)
    for number in range(40):
        await make_mailbox(store, number, [number])
        await store.deposit(deposit(number, [address(number)]))
        await acknowledge(store, number, limits.MAX_SEQUENCE)
    store._writer._save()
    await until(lambda: not store._index.unsaved)
    assert limits_of_parts[0] == 80 // sqlite_writer.SAVE_SHARE
    assert limits_of_parts[-1] == 1
    await store.close()


async def test_a_large_group_counts_by_its_rows(opener: Opener) -> None:
    store = await opener.open()
    for number in (1, 2):
        await make_mailbox(store, number, [number])
    both = [address(1), address(2)]
    for turn in range(3):
        await asyncio.gather(*(store.deposit(deposit(100 * turn + n, both)) for n in range(10)))
    for number in (1, 2):
        await acknowledge(store, number, limits.MAX_SEQUENCE)
    await save(store, 2)
    assert 0 < rows(opener.path, "payload") < 30
    await store.close()
    assert rows(opener.path, "payload") == 0


async def test_what_was_being_saved_is_known_after_a_rollback(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it was looked up later in the same transaction, or forgotten while that was committed."""
    monkeypatch.setattr(sqlite_supplies, "KEPT_PACKAGES", 0)
    monkeypatch.setattr(sqlite_index, "CACHE", 0)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"", replace=False)
    await store.deposit(deposit(1, [address(1)]))
    owner = await subscribe(store, 1)
    (entry,) = await read_all(store, 1)
    await acknowledge(store, 1, limits.MAX_SEQUENCE, owner=owner)
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 1, b"1")]
    unsaved = store._index.unsaved
    commit = store._writer._commit

    def full() -> None:
        raise apsw.FullError

    def run(batch: Batch) -> None:
        store._index.save(batch.db, batch.undo)
        sqlite_mailboxes.status(batch, store._index, mailbox(1))

    monkeypatch.setattr(store._writer, "_commit", full)
    saving = store._writer.submit(run)
    while store._writer._running is None:
        await asyncio.sleep(0)
    store._index.trim()
    with pytest.raises(StoreFull):
        await saving
    monkeypatch.setattr(store._writer, "_commit", commit)
    assert store._index.unsaved == unsaved
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 2, b"2")]
    again = await store.subscribe(mailbox(1), owner.incarnation, entry.sequence, [])
    assert again is not None
    assert again.incarnation == owner.incarnation
    await store.close()


async def test_claims_that_are_rolled_back_do_not_count(opener: Opener) -> None:
    store = await opener.open()
    for number in (1, 2):
        await make_mailbox(store, number, [number])
        await store.put_prekeys(mailbox(number), SUITE, 1, [b"1", b"2", b"3"], b"", replace=False)
        await store.claim(SUITE, [address(number)])

    def run(batch: Batch) -> None:
        store._index.save(batch.db, batch.undo, 1)
        sqlite_prekeys.claim(batch, store._index, SUITE, [address(2)], ())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._writer.submit(run)
    assert store._index.supplies.unsaved == 2
    assert [await save(store, 1) for _ in range(3)] == [1, 1, 0]
    assert rows(opener.path, "pool WHERE issued = 1") == 2
    await store.close()


async def test_the_log_of_claims_goes_as_far_as_its_pools_are_saved(opener: Opener) -> None:
    logged = "meta WHERE key LIKE 'claims %'"
    store = await opener.open()
    for number in (1, 2, 3):
        await make_mailbox(store, number, [number])
        packages = [b"%d" % place for place in range(10)]
        await store.put_prekeys(mailbox(number), SUITE, 1, packages, b"", replace=False)
    for number in (1, 2, 1, 3):
        await store.claim(SUITE, [address(number)])
    with pytest.raises(ZeroDivisionError):
        await save(store, 1, fail=True)
    assert (rows(opener.path, logged), store._index.supplies.unsaved) == (4, 4)
    assert await save(store, 1) == 2, "whatever was taken of the first pool"
    assert (rows(opener.path, logged), rows(opener.path, "prekey")) == (3, 28)
    assert await store.put_prekeys(mailbox(2), SUITE, 11, [b"more"], b"", replace=False) is None
    assert (rows(opener.path, logged), rows(opener.path, "prekey")) == (3, 28), "2 was settled, and has one more"
    killed = opener.path.parent.parent / "killed" / opener.path.name
    shutil.copytree(opener.path.parent, killed.parent)
    assert await save(store, 1) == 2, "with what was settled"
    assert (rows(opener.path, logged), store._index.supplies.unsaved) == (0, 0)
    assert (await store.claim(SUITE, [address(2)]))[0] == [encode_prekey(0, 2, b"1")]
    await store.close()

    store = await Opener(killed).open()
    assert [(await subscribe(store, number)).pools[0].issued for number in (1, 2, 3)] == [2, 1, 1]
    await store.close()


async def test_pools_of_a_mailbox_whose_end_is_rolled_back_keep_their_place(opener: Opener) -> None:
    store = await opener.open()
    for number in (1, 2):
        await make_mailbox(store, number, [number])
        await store.put_prekeys(mailbox(number), SUITE, 1, [b"1", b"2"], b"", replace=False)
        await store.claim(SUITE, [address(number)])
    await end_in_vain(store, 1)
    await save(store, 1)
    assert rows(opener.path, "pool WHERE issued = 1 AND mailbox = 1") == 1
    assert (await store.claim(SUITE, [address(1)] * 2))[0] == [encode_prekey(0, 2, b"2"), EMPTY]
    await store.close()
