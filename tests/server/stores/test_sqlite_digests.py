"""The digests of deposits in the embedded store: in memory and a log, later in a table."""

from collections.abc import Iterator

import apsw
import pytest

from restante_server.stores import sqlite_digests
from restante_server.stores.sqlite_digests import Digests
from restante_server.stores.sqlite_schema import SCHEMA

DAY = 86_400
PART = 8  # digests that are saved at a time


def digest(number: int) -> bytes:
    """A digest; consecutive ones are in different ranges."""
    return bytes((number % 256,)) + number.to_bytes(15, "big")


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    yield connection
    connection.close()


def rows(db: apsw.Connection, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 -- our own words
    return count


def restarted(db: apsw.Connection) -> Digests:
    digests = Digests()
    digests.rebuild(db)
    return digests


def swept(digests: Digests, db: apsw.Connection, now: int, limit: int = 100) -> None:
    while digests.sweep(db, now, limit):
        pass


def test_what_was_added_is_found_until_it_expires_also_after_a_restart(db: apsw.Connection) -> None:
    digests = Digests()
    digests.add(db, [digest(1), digest(2)], DAY, [])
    digests.add_failed(db, [(digest(3), b"what failed", DAY)])
    asked = [digest(number) for number in range(5)]
    for each in (digests, restarted(db)):
        assert each.find(db, asked, 0) == {digest(1): b"", digest(2): b"", digest(3): b"what failed"}
        assert each.find(db, asked, DAY) == {}


def test_what_is_too_much_moves_to_the_table_and_is_found_there(
    db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_digests, "RECENT", 100)
    digests = Digests()
    everything = [digest(number) for number in range(1024)]
    for place in range(0, 1024, 64):
        digests.add(db, everything[place : place + 64], DAY + place, [])
    assert digests.unsaved == 924
    while digests.unsaved:
        digests.save(db, [], PART)
    assert 1024 - 100 <= rows(db, "deduplication") < 1024
    digests.add(db, [digest(2000)], DAY, [])
    found = dict.fromkeys([*everything, digest(2000)], b"")
    assert digests.find(db, [*everything, digest(2000)], 0) == found
    assert restarted(db).find(db, [*everything, digest(2000)], 0) == found


def test_a_part_is_at_most_a_range_more_than_was_asked_for(
    db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = Digests()
    digests.add(db, [digest(number) for number in range(1024)], DAY, [])  # four in each range
    assert digests.save(db, [], PART) == 0, "there are not too many in memory"
    monkeypatch.setattr(sqlite_digests, "RECENT", 0)
    assert [digests.save(db, [], limit) for limit in (1, 4, 5, 2000)] == [4, 4, 8, 1024 - 16]


def test_rows_of_the_log_go_once_all_ranges_have_moved(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = Digests()
    digests.add(db, [digest(number) for number in range(512)], DAY, [])
    monkeypatch.setattr(sqlite_digests, "RECENT", 0)
    digests.save(db, [], PART)
    assert rows(db, "deduplication_log") == 1
    while digests.unsaved:
        digests.save(db, [], PART)
    assert rows(db, "deduplication_log") == 0
    assert rows(db, "deduplication") == 512


def test_a_transaction_that_is_rolled_back_changes_nothing(
    db: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = Digests()
    digests.add(db, [digest(number) for number in range(512)], DAY, [])
    monkeypatch.setattr(sqlite_digests, "RECENT", 0)
    undo: sqlite_digests.Undo = []
    db.execute("BEGIN")
    digests.add(db, [digest(600)], DAY, undo)
    digests.save(db, undo, PART)
    db.execute("ROLLBACK")
    for each in reversed(undo):
        each()
    assert digests.unsaved == 512
    assert digests.find(db, [digest(5), digest(600)], 0) == {digest(5): b""}
    while digests.unsaved:
        digests.save(db, [], PART)
    assert restarted(db).find(db, [digest(5), digest(600)], 0) == {digest(5): b""}


def test_a_sweep_drops_what_has_expired(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_digests, "RECENT", 0)
    digests = Digests()
    digests.add(db, [digest(number) for number in range(512)], DAY, [])
    while digests.unsaved:
        digests.save(db, [], PART)
    monkeypatch.undo()
    for number in range(5):
        digests.add(db, [digest(1000 + number)], DAY + number, [])
    digests.add_failed(db, [(digest(2000), b"failed", 2 * DAY)])
    swept(digests, db, DAY, 3)
    assert (rows(db, "deduplication"), rows(db, "deduplication_log")) == (1, 4)
    assert digests.find(db, [digest(5), digest(1000), digest(1004)], 0) == {digest(1004): b""}
    swept(digests, db, DAY + 2, 3)  # too soon for the table
    assert (rows(db, "deduplication"), rows(db, "deduplication_log")) == (1, 2)
    swept(digests, db, 2 * DAY, 3)
    assert (rows(db, "deduplication"), rows(db, "deduplication_log")) == (0, 0)
    swept(digests, db, 2 * DAY)


def test_what_expired_may_come_again_with_another_outcome(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = Digests()
    digests.add(db, [digest(1)], DAY, [])
    digests.add(db, [digest(1)], 2 * DAY, [])
    assert digests.find(db, [digest(1)], DAY) == {digest(1): b""}
    digests.add_failed(db, [(digest(1), b"failed", 3 * DAY)])
    monkeypatch.setattr(sqlite_digests, "RECENT", 0)
    assert digests.unsaved == 0
    assert digests.find(db, [digest(1)], 2 * DAY) == {digest(1): b"failed"}
