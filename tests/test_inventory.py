"""The inventory broken on purpose: each line that is taken away is missed, each kind of thing that is added noticed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import apsw
import pytest
from prometheus_client import Counter

from restante_crypto import primitives
from restante_server import inventory, processors
from restante_server.inventory import Kind
from restante_server.metrics import Metrics
from restante_server.processors import Outgoing, Role
from restante_server.stores import blobs
from restante_server.stores.blobs import BlobHead
from restante_server.stores.redis_scripts import KEYS
from support import observed, scenario
from support.scenario import Seen, differences

PAGE = Path(__file__).parent.parent / "docs" / "data.md"


def test_each_line_that_is_removed_is_missed(seen: Seen) -> None:
    for gone in inventory.ITEMS:
        if gone.kind in seen.compared:
            rest = [item for item in inventory.ITEMS if item is not gone]
            missed = differences({gone.kind: seen.compared[gone.kind]}, rest)
            assert missed, gone.name
            assert all(observed.unmatched({name}, {gone.name})[0] == set() for _, name in missed), gone.name


def test_each_kind_is_looked_for_on_each_store_that_has_it(seen: Seen) -> None:
    """Cookies, of which there are none, are looked for in ``tests/server/test_cookies.py``."""
    elsewhere = {Kind.KEY, Kind.FIELD} if seen.records is None else {Kind.COLUMN, Kind.FILE}
    assert set(seen.compared) == set(Kind) - {Kind.COOKIE} - elsewhere


def test_each_line_is_there_once_and_on_the_page() -> None:
    page = PAGE.read_text()
    for item in inventory.ITEMS:
        assert [each for each in inventory.ITEMS if (each.kind, each.name) == (item.kind, item.name)] == [item]
        assert f"| `{item.name}` | {item.kind} |" in page


# Things that nobody declared, in a store that was used.


def new(seen: Seen, add: Callable[[], object]) -> set[tuple[Kind, str]]:
    """Return what is undeclared in the store after something was added, and was not before."""
    before = scenario.undeclared(seen.stored())
    add()
    return scenario.undeclared(seen.stored()) - before


def in_database(seen: Seen, *statement: object) -> Callable[[], None]:
    def add() -> None:
        db = apsw.Connection(str(seen.database))
        db.execute(*statement)  # type: ignore[arg-type]
        db.close()

    return add


@pytest.mark.parametrize("seen", ["sqlite"], indirect=True)
def test_an_undeclared_column_or_table_is_noticed(seen: Seen) -> None:
    added = in_database(seen, "ALTER TABLE mailbox ADD COLUMN last_seen_ip TEXT")
    assert new(seen, added) == {(Kind.COLUMN, "mailbox.last_seen_ip")}
    assert new(seen, in_database(seen, "CREATE TABLE visit (at INTEGER)")) == {(Kind.COLUMN, "visit.at")}


@pytest.mark.parametrize("seen", ["redis"], indirect=True)
def test_an_undeclared_key_or_field_on_redis_is_noticed(seen: Seen) -> None:
    assert seen.records is not None
    put, append = partial(partial, seen.records.put), partial(partial, seen.records.append)
    assert (Kind.KEY, "{b}:last-seen") in new(seen, put("last-seen", b"mailbox", b"yesterday"))
    assert new(seen, put("state", b"country", b"xx")) == {(Kind.FIELD, "{b}:state.?country")}
    assert new(seen, put("address", b"not an id", b"")) == {(Kind.FIELD, "{b}:address.?")}
    assert new(seen, append("queue", b"10.0.0.7")) == {(Kind.FIELD, "{b}:queue.?")}
    assert new(seen, append("mailbox", b"?")) == {(Kind.FIELD, "{b}:mailbox.?")}


def test_a_slot_of_no_declared_kind_is_noticed(seen: Seen) -> None:
    slot = os.urandom(24)
    add = in_database(seen, "INSERT INTO slot VALUES (?, 1, 1, x'00')", (slot,))
    if seen.records is not None:
        add = partial(seen.records.put, "slot", slot, bytes(15))
    assert new(seen, add) == {(Kind.SLOT, slot.hex())}


def test_a_blob_with_anything_more_is_noticed(seen: Seen) -> None:
    path = seen.folder / "relay.db.blobs" / "00" / ("00" * 24)
    path.parent.mkdir(exist_ok=True)
    head = BlobHead(1, primitives.blake2b(b"body", size=32), 4).encode()
    assert new(seen, partial(path.write_bytes, head + b"body")) == set()
    assert new(seen, partial(path.write_bytes, head + b"body" + b"uploader")) == {(Kind.BLOB, "blob.?")}
    path.unlink()


def test_an_undeclared_file_is_noticed(seen: Seen) -> None:
    path = seen.folder / "access.log"
    path.touch()
    assert scenario.undeclared({Kind.FILE: frozenset(observed.files(seen.folder))}) == {(Kind.FILE, "access.log")}
    path.unlink()


def test_an_undeclared_label_is_noticed() -> None:
    registry = Metrics().registry
    Counter("restante_by_country", "Broken on purpose", ["country"], registry=registry).labels("xx").inc()
    found = frozenset(observed.labels(registry))
    assert scenario.undeclared({Kind.LABEL: found}) == {(Kind.LABEL, "restante_by_country.country")}


def test_an_undeclared_log_field_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text('_log.info("opened", mailbox=mailbox)\n')
    assert scenario.undeclared({Kind.LOG: frozenset(observed.log_fields(tmp_path))}) == {(Kind.LOG, "mailbox")}


@pytest.mark.parametrize(("kind", "goes_to"), [(Kind.PUSH, Role.PUSH), (Kind.SMS, Role.SMS)])
def test_an_undeclared_field_for_others_is_noticed(kind: Kind, goes_to: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True, repr=False)
    class Louder(Outgoing):
        role: ClassVar[Role] = goes_to
        thing: ClassVar[str] = goes_to
        sender: str

    monkeypatch.setattr(processors, "Louder", Louder, raising=False)
    found = frozenset(observed.handed_on(goes_to))
    assert scenario.undeclared({kind: found}) == {(kind, f"{goes_to}.sender")}


# Places that name things a second time.


def test_a_blob_goes_to_an_object_store_as_it_is_declared() -> None:
    found = observed.handed_on(Role.OBJECT_STORAGE)
    assert found == inventory.names(Kind.BLOB) == {f"blob.{name}" for name in blobs.FIELDS}


def test_every_key_of_the_layout_is_declared() -> None:
    declared = {name.removeprefix("{b}:").removesuffix(":*") for name in inventory.names(Kind.KEY)}
    assert declared == {*KEYS, "store"}
