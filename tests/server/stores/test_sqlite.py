"""What is particular to the embedded store: its lock, its epoch, full and broken disks."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import apsw
import pytest

from restante_protocol import limits
from restante_protocol.errors import Code
from restante_protocol.frames import encode_prekey
from restante_server.stores import sqlite_index, sqlite_supplies, sqlite_writer
from restante_server.stores.contract import (
    Accepted,
    Delivery,
    FenceLost,
    Pool,
    SeenPool,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    Totals,
)
from support.broken_disk import BrokenDiskVfs
from support.stores import (
    DAY,
    SUITE,
    Opener,
    acknowledge,
    address,
    bodies,
    code,
    deposit,
    fence,
    identifier,
    mailbox,
    make_mailbox,
    read_all,
    rows,
    store_deposit,
    subscribe,
)
from support.waiting import until


@pytest.fixture
def disk(opener: Opener) -> Iterator[BrokenDiskVfs]:
    vfs = BrokenDiskVfs("broken-disk")
    opener.vfs = vfs.name
    yield vfs
    vfs.unregister()


# Opening.


async def test_files_are_the_owner_s_alone(opener: Opener) -> None:
    store = await opener.open()
    assert store.level == "power"
    assert opener.path.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in opener.path.parent.glob("relay.db*") if path.suffix != ".lock"} == {
        0
    }
    await store.close()


async def test_a_store_is_opened_once(opener: Opener) -> None:
    store = await opener.open()
    with pytest.raises(StoreRefused, match="another process holds this store"):
        await opener.open()
    await store.close()
    await (await opener.open()).close()


async def test_the_lock_of_another_process_holds(opener: Opener) -> None:
    script = (
        "import sys; from pathlib import Path; from restante_server.stores import sqlite_schema\n"
        "lock = sqlite_schema.lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    opener.path.parent.mkdir(parents=True)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(opener.path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(StoreRefused):
        await opener.open()
    holder.kill()
    await holder.wait()
    await (await opener.open()).close()


async def test_what_is_no_store_is_refused(opener: Opener) -> None:
    opener.path.parent.mkdir(parents=True)
    opener.path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreRefused, match="not a usable database"):
        await opener.open()
    opener.path.unlink()
    db = apsw.Connection(str(opener.path))
    db.execute("CREATE TABLE somebody_else_s (column)")
    db.close()
    with pytest.raises(StoreRefused, match="no store of a relay"):
        await opener.open()


async def test_a_newer_store_is_refused(opener: Opener) -> None:
    await (await opener.open()).close()
    db = apsw.Connection(str(opener.path))
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreRefused, match="newer version"):
        await opener.open()


# Claims.


async def test_what_was_issued_before_a_kill_is_void_after_it(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"last", replace=False)
    claimed, _ = await store.claim(SUITE, [address(1)] * 2)
    assert claimed == [encode_prekey(0, 1, b"1"), encode_prekey(0, 2, b"2")]
    assert store._index.supplies.unsaved, "its rows are not yet deleted"
    killed = opener.path.parent.parent / "killed" / opener.path.name
    shutil.copytree(opener.path.parent, killed.parent)
    await store.close()

    store = await Opener(killed).open()
    assert (await subscribe(store, 1)).pools == (Pool(SUITE, 3, 2, 1, last_resort=True),)
    claimed, _ = await store.claim(SUITE, [address(1)] * 2)
    assert claimed == [encode_prekey(0, 3, b"3"), encode_prekey(0, 0, b"last")]
    await store.close()
    db = apsw.Connection(str(killed))
    assert db.execute("SELECT count(*) FROM prekey").get == 0
    assert db.execute("SELECT count(*) FROM meta WHERE key LIKE 'claims %'").get == 0
    db.close()


async def test_claims_and_uploads_of_one_transaction_are_undone_together(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"", replace=False)
    await store.claim(SUITE, [address(1)])

    async def claim() -> object:
        return await store.claim(SUITE, [address(1)])

    async def fail() -> object:
        return await store._writer.submit(_fail)

    together = [claim(), store.put_prekeys(mailbox(1), SUITE, 3, [b"3"], b"", replace=False), claim(), fail()]
    first, put, second, failed = await asyncio.gather(*together, return_exceptions=True)
    assert isinstance(failed, ZeroDivisionError), "all were rolled back for it, and run again one by one"
    assert put is None
    assert first == ([encode_prekey(0, 2, b"2")], [])
    assert second == ([encode_prekey(0, 3, b"3")], [])
    status = await store.status(mailbox(1))
    assert status is not None
    assert status.pools == (Pool(SUITE, 3, 3, 0, last_resort=False),)
    await store.close()


async def test_pools_that_are_only_cached_are_forgotten(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_supplies, "KEPT_PACKAGES", 0)
    monkeypatch.setattr(sqlite_supplies, "READ", 2)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    packages = [b"%d" % number for number in range(1, 8)]
    await store.put_prekeys(mailbox(1), SUITE, 1, packages, b"", replace=False)
    for number, package in enumerate(packages, 1):
        assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, number, package)]
        await store.scrub()
        store._index.trim()
        assert not store._index.supplies._known
    await store.close()


def _fail(_batch: object) -> None:
    raise ZeroDivisionError


# The epoch.


async def test_an_older_copy_is_noticed(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"last", replace=False)
    first = await subscribe(store, 1)
    await store.close()
    copy = opener.path.with_name("copy")
    shutil.copy(opener.path, copy)

    store = await opener.open()
    assert (await subscribe(store, 1)).incarnation == first.incarnation
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 1, b"1")]
    await store.close()
    shutil.copy(copy, opener.path)

    store = await opener.open()
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 0, b"last")]
    new = await store.subscribe(mailbox(1), first.incarnation, 0, [SeenPool(SUITE, 2, 1)])
    assert new is not None
    assert new.incarnation != first.incarnation
    assert await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"", replace=False) is None
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 3, b"3")]
    await store.close()
    store = await opener.open()
    assert (await subscribe(store, 1)).incarnation == new.incarnation
    await store.close()


async def test_a_copy_of_a_running_store_is_noticed_after_its_end(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1)
    first = await subscribe(store, 1)
    files = [path for path in opener.path.parent.iterdir() if path.name in ("relay.db", "relay.db-wal")]
    copies = {path: path.read_bytes() for path in files}
    await store.close()
    for path, data in copies.items():
        path.write_bytes(data)
    store = await opener.open()
    assert (await subscribe(store, 1)).incarnation != first.incarnation
    await store.close()


async def test_a_store_without_its_sidecar_takes_a_new_epoch(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1)
    first = await subscribe(store, 1)
    await store.close()
    opener.path.with_name("relay.db.epoch").unlink()
    store = await opener.open()
    assert (await subscribe(store, 1)).incarnation != first.incarnation
    await store.close()


# The log and its index.


async def test_what_nobody_waits_for_leaves_the_disk(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    await store.deposit(deposit(2, [address(1)], fence=fence(1)))
    assert rows(opener.path, "payload") == 2
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    while rows(opener.path, "payload") != 1:
        await asyncio.sleep(0)
    while rows(opener.path, "payload WHERE recipients = x''") != 1:
        await asyncio.sleep(0)
    await store.close()


async def test_many_rows_are_saved_at_once(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", 1000)
    monkeypatch.setattr(sqlite_writer, "SAVE_ROWS", 3)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2])
    for number in (1, 2):
        await store.deposit(deposit(number, [address(number)]))
        await acknowledge(store, number, limits.MAX_SEQUENCE)
    await store.status(mailbox(1))
    assert rows(opener.path, "payload") == 0
    await store.close()


async def test_no_entry_is_passed_over_whose_commit_ends_while_others_are_read(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whoever acknowledges the next one would have it deleted."""
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    begins, ended = threading.Event(), threading.Event()
    commit, read = store._writer._commit, store._read

    def commit_late() -> None:
        begins.wait()
        commit()
        ended.set()

    async def read_and_let_commit(function: Callable[[apsw.Connection], object]) -> object:
        found = await read(function)
        begins.set()
        await asyncio.to_thread(ended.wait)
        return found

    monkeypatch.setattr(store._writer, "_commit", commit_late)
    monkeypatch.setattr(store, "_read", read_and_let_commit)
    deposits = [asyncio.ensure_future(store.deposit(deposit(n, [address(1)], body=b"%d" % n))) for n in range(3)]
    await until(lambda: store._index.entries == 3)
    first = await store.read(mailbox(1), 0, 1, 1)
    begins.set()
    await asyncio.gather(*deposits)
    assert [entry.body for entry in first] in ([], [b"0"])
    every = await store.read(mailbox(1), 0, 10, 10_000)
    assert [entry.body for entry in every] == [b"0", b"1", b"2"]
    await store.close()


async def test_caches_are_bounded(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "SAVE_SECONDS", 0)
    monkeypatch.setattr(sqlite_index, "CACHE", 3)
    store = await opener.open()
    owners = {}
    for number in range(10):
        await make_mailbox(store, number, [number])
        await store.deposit(deposit(number, [address(number)], body=b"%d" % number))
        owners[number] = await subscribe(store, number)
        if number > 0:
            await acknowledge(store, number, limits.MAX_SEQUENCE, owner=owners[number])
    await store.deposit(deposit(100, [address(0)], body=b"again"))
    while len(store._index.mailboxes) > 5:
        await store.status(mailbox(0))
    assert await bodies(store, 0) == [b"0", b"again"]
    for number in range(10):
        await store.deposit(deposit(100 + number, [address(number)], body=b"later"))
        assert (await bodies(store, number))[-1] == b"later"
        assert await acknowledge(store, number, limits.MAX_SEQUENCE, owner=owners[number])
    assert await store.totals() == Totals(10, 0, 0)
    await store.close()


async def test_a_mailbox_deleted_before_a_crash_leaves_nothing(opener: Opener, disk: BrokenDiskVfs) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2])
    await store.deposit(deposit(1, [address(1)]))
    await store.deposit(deposit(2, [address(1), address(2)]))
    await store.delete_mailbox(mailbox(1))
    disk.unsyncable = True
    await store.close()
    disk.unsyncable = False
    store = await opener.open()
    assert await store.totals() == Totals(1, 1, len(b"ciphertext"))
    await store.close()
    assert rows(opener.path, "payload") == 1


# Full disks.


async def test_the_operator_s_limit(opener: Opener) -> None:
    opener.max_bytes = 400_000
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    taken = 0
    with contextlib.suppress(StoreFull):
        while await store.deposit(deposit(taken, [address(1)], body=bytes(20_000))) == Accepted(()):
            taken += 1
    assert 3 < taken < 20
    assert opener.path.stat().st_size <= opener.max_bytes
    assert len(await read_all(store, 1)) == taken
    assert (await store.totals()).entries == taken
    with pytest.raises(StoreFull):
        await store.put_slot(identifier("slot", 1), 1, DAY, bytes(40_000))
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    while rows(opener.path, "payload"):
        await asyncio.sleep(0)
    assert await store.deposit(deposit(200, [address(1)], body=bytes(20_000))) == Accepted(())
    assert not store.failed.is_set()
    await store.close()


async def test_what_does_not_fit_fails_alone(opener: Opener) -> None:
    opener.max_bytes = 400_000
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    announced: list[Delivery] = []
    store.listen(announced.extend)
    answers = await asyncio.gather(
        store.deposit(deposit(1, [address(1)], body=b"small")),
        store.deposit(deposit(2, [address(1)], body=bytes(500_000), large=True, fence=fence(1))),
        store.create_mailbox(mailbox(2), bytes(32), None),
        store.status(mailbox(2)),
        store.deposit(deposit(3, [address(1)], body=b"other", fence=fence(1))),
        store.deposit(deposit(4, [address(1)], body=bytes(500_000), large=True)),
        return_exceptions=True,
    )
    assert answers[0] == answers[4] == Accepted(())
    assert isinstance(answers[1], StoreFull)
    assert isinstance(answers[2], bytes)
    assert isinstance(answers[5], StoreFull)
    assert await bodies(store, 1) == [b"small", b"other"]
    assert [body for delivery in announced for _, body, _ in delivery.entries] == [b"small", b"other"]
    status = await store.status(mailbox(1))
    assert status is not None
    assert (status.entries, status.size) == (2, 10)
    await store.close()


async def test_a_full_disk_refuses_deposits_and_goes_on_reading(opener: Opener, disk: BrokenDiskVfs) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    disk.full = True
    with pytest.raises(StoreFull):
        await asyncio.gather(*(store.deposit(deposit(n, [address(1)], body=bytes(10_000))) for n in range(2, 1000)))
    with pytest.raises(StoreFull):
        await store.deposit(deposit(1000, [address(1)], body=bytes(10_000), fence=fence(1)))
    assert await store.winner(fence(1)) is None
    assert (await bodies(store, 1))[0] == b"ciphertext"
    assert await acknowledge(store, 1, limits.MAX_SEQUENCE)
    assert await read_all(store, 1) == []
    disk.full = False
    assert await store.deposit(deposit(2000, [address(1)])) == Accepted(())
    while rows(opener.path, "payload") != 1:
        await asyncio.sleep(0)
    assert not store.failed.is_set()
    await store.close()


async def test_room_is_kept_for_deleting(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1"], b"", replace=False)
    await store.deposit(deposit(1, [address(1)]))
    opener.free = sqlite_writer.LEAST_FREE_BYTES - 1
    for refused in (
        store.deposit(deposit(2, [address(1)])),
        store.create_mailbox(mailbox(2), bytes(32), None),
        store.put_prekeys(mailbox(1), SUITE, 2, [b"2"], b"", replace=False),
        store.put_slot(identifier("slot", 1), 1, DAY, b""),
        store.put_addresses(mailbox(1), []),
        store.add_codes([code(1)], DAY),
    ):
        with pytest.raises(StoreFull):
            await refused
    owner = await subscribe(store, 1)
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 1, b"1")]
    assert await acknowledge(store, 1, limits.MAX_SEQUENCE, owner=owner)
    await store.delete_mailbox(mailbox(1))
    assert rows(opener.path, "mailbox") == 0
    opener.free = sqlite_writer.LEAST_FREE_BYTES
    assert await store.create_mailbox(mailbox(1), bytes(32), None) is not None
    await store.close()


async def test_a_rolled_back_batch_leaves_no_trace(opener: Opener) -> None:
    opener.max_bytes = 400_000
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)], body=b"first"))
    owner = await subscribe(store, 1)
    answers = await asyncio.gather(
        store.delete_mailbox(mailbox(1)),
        store.create_mailbox(mailbox(1), bytes(32), None),
        store.subscribe(mailbox(1), b"", 1 << 62, []),
        acknowledge(store, 1, 1, owner=owner),
        store_deposit(store, deposit(2, [address(1)])),
        store_deposit(store, deposit(3, [address(1)], body=bytes(500_000), large=True)),
        return_exceptions=True,
    )
    assert answers[0] is None
    assert answers[4] == answers[5] == Accepted(((0, Code.GONE),))
    await make_mailbox(store, 1, [1])
    outcomes = await asyncio.gather(
        store.put_addresses(mailbox(1), []),
        store_deposit(store, deposit(4, [address(1)], body=b"acknowledged at once")),
        acknowledge(store, 1, 0),
        store_deposit(store, deposit(5, [address(1)], body=bytes(500_000), large=True)),
        store.subscribe(mailbox(1), bytes(16), 0, []),
        return_exceptions=True,
    )
    assert isinstance(outcomes[3], StoreFull)
    assert await bodies(store, 1) == [b"acknowledged at once"]
    assert (await store.totals()).entries == 1
    await store.close()


# Broken disks.


async def test_a_failed_sync_stops_the_store(opener: Opener, disk: BrokenDiskVfs) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    announced: list[Delivery] = []
    store.listen(announced.extend)
    disk.unsyncable = True
    answers = await asyncio.gather(*(store.deposit(deposit(n, [address(1)])) for n in range(3)), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert announced == []
    await store.failed.wait()
    disk.unsyncable = False
    with pytest.raises(StoreUnavailable):
        await store.deposit(deposit(9, [address(1)]))
    with pytest.raises(StoreUnavailable):
        await store.read(mailbox(1), 0, 1, 1)
    with pytest.raises(StoreUnavailable):
        await store.status(mailbox(1))
    await store.close()
    store = await opener.open()
    assert await store.deposit(deposit(10, [address(1)])) == Accepted(())
    await store.close()


async def test_a_failed_save_stops_the_store(opener: Opener, disk: BrokenDiskVfs) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    owner = await subscribe(store, 1)
    disk.unsyncable = True
    await acknowledge(store, 1, limits.MAX_SEQUENCE, owner=owner)
    await store.failed.wait()
    await store.close()


async def test_a_disk_that_cannot_be_read(opener: Opener, disk: BrokenDiskVfs) -> None:
    store = await opener.open()
    for number in range(50):
        await make_mailbox(store, number, [number])
        await store.deposit(deposit(number, [address(number)], body=bytes(50_000)))
    disk.unreadable = True
    with pytest.raises(StoreUnavailable):
        await asyncio.gather(*(read_all(store, number) for number in range(50)))
    await store.close()


async def test_an_error_of_one_operation_is_its_own(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    bad = store.put_slot(identifier("slot", 1), 1, DAY, object())  # type: ignore[arg-type]  # a bug in the relay
    answers = await asyncio.gather(
        store.deposit(deposit(1, [address(1)])),
        bad,
        acknowledge(store, 1, 1, object()),  # type: ignore[arg-type]  # the same
        store.deposit(deposit(2, [address(1)])),
        return_exceptions=True,
    )
    assert answers[0] == answers[3] == Accepted(())
    assert isinstance(answers[1], TypeError)
    assert len(await read_all(store, 1)) == 2
    assert not store.failed.is_set()
    await store.close()


async def test_a_caller_that_gives_up_disturbs_nobody(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    given_up = asyncio.ensure_future(store.deposit(deposit(1, [address(1)], fence=fence(1))))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await store.deposit(deposit(2, [address(1)], fence=fence(1))) == FenceLost()
    assert await bodies(store, 1) == [b"ciphertext"]
    await store.close()


async def test_a_transaction_goes_to_so_many_addresses(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_BATCH_ADDRESSES", 3)
    store = await opener.open()
    transactions: list[int] = []
    store.listen(lambda deliveries: transactions.append(sum(len(each.entries) for each in deliveries)))
    await make_mailbox(store, 1, [1])
    lists = [[address(1)] * 2 for _ in range(3)]
    of_one_list = [deposit(number, lists[0]) for number in range(3)]
    others = [deposit(10, lists[1]), deposit(11, lists[1], lifetime=60), deposit(12, [address(1)] * 4)]
    fenced = [deposit(20 + number, lists[2], fence=fence(number)) for number in range(2)]
    await asyncio.gather(*(store.deposit(each) for each in [*of_one_list, *others, *fenced]))
    assert transactions == [3, 1, 1, 1, 1, 1]
    await store.close()


async def test_so_many_entries_wait_in_all_mailboxes(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_ENTRIES", 2)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    assert await store.deposit(deposit(1, [address(1)] * 2)) == Accepted(())
    refused, put = await asyncio.gather(
        store.deposit(deposit(2, [address(1)])),
        store.put_slot(identifier("slot", 1), 1, DAY, b"body"),
        return_exceptions=True,
    )
    assert isinstance(refused, StoreFull)
    assert put is True, "only deposits are refused"
    assert await acknowledge(store, 1, limits.MAX_SEQUENCE)
    assert await store.deposit(deposit(2, [address(1)])) == Accepted(())
    await store.close()
