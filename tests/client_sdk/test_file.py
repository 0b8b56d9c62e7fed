import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante import passphrase as passphrases
from restante.errors import AlreadyOpen, FileDamaged, FileError, WrongPassphrase
from restante.file import ClientFile, Row, Table

TABLES = ("fruit", "colours")
SECRET = "secret"


def opened(path: Path, passphrase: str | bytes = SECRET) -> ClientFile:
    return ClientFile.open(path, passphrase, random=os.urandom, tables=TABLES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "client.db"


@pytest.fixture
def file(path: Path) -> Iterator[ClientFile]:
    with closing(opened(path)) as file:
        yield file


@pytest.fixture
def fruit(file: ClientFile) -> Table:
    return file.table("fruit")


def tampered(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()


def test_what_is_put_is_there_after_opening_again(path: Path) -> None:
    with closing(opened(path)) as file, file.transaction():
        file.table("fruit").put(b"apple", b"red", group=b"trees", sort=-3)
    with closing(opened(path)) as file:
        assert file.table("fruit").get(b"apple") == b"red"
        assert file.table("fruit").rows() == [Row(b"apple", b"trees", -3, b"red")]
        assert file.table("colours").get(b"apple") is None


def test_put_replaces_value_group_and_sort(file: ClientFile, fruit: Table) -> None:
    with file.transaction():
        fruit.put(b"apple", b"green", group=b"a", sort=1)
        fruit.put(b"apple", b"red", group=b"a", sort=1)
        assert fruit.rows() == [Row(b"apple", b"a", 1, b"red")]
        fruit.put(b"apple", b"ripe", group=b"b", sort=2)
    assert fruit.rows(b"a") == []
    assert fruit.rows(b"b") == [Row(b"apple", b"b", 2, b"ripe")]


def test_rows_come_by_sort_and_groups_apart(file: ClientFile, fruit: Table) -> None:
    with file.transaction():
        for number in (5, 1, 4, 2, 3):
            fruit.put(bytes([number]), b"", group=b"odd" if number % 2 else b"even", sort=number)
        file.table("colours").put(b"x", b"", group=b"odd", sort=99)
    assert [row.sort for row in fruit.rows()] == [1, 2, 3, 4, 5]
    assert [row.sort for row in fruit.rows(b"odd")] == [1, 3, 5]
    assert [row.sort for row in fruit.rows(b"odd", limit=2)] == [1, 3]
    assert [row.sort for row in fruit.rows(limit=1)] == [1]
    assert (fruit.count(), fruit.count(b"even"), fruit.count(b"none")) == (5, 2, 0)
    assert (fruit.exists(), fruit.exists(b"even"), fruit.exists(b"none")) == (True, True, False)
    assert (fruit.min_sort(), fruit.max_sort()) == (1, 5)
    assert (fruit.min_sort(b"even"), fruit.max_sort(b"even")) == (2, 4)
    assert fruit.max_sort(b"none") is None


def test_deletions(file: ClientFile, fruit: Table) -> None:
    with file.transaction():
        for number in range(6):
            fruit.put(bytes([number]), b"", group=bytes([number % 2]), sort=number)
        fruit.delete(b"\x00")
        fruit.delete(b"no such key")
        assert fruit.delete_below(4, b"\x01") == 2
        assert [row.sort for row in fruit.rows()] == [2, 4, 5]
        assert fruit.delete_below(4) == 1
        fruit.delete_group(b"\x01")
    assert [row.sort for row in fruit.rows()] == [4]


def test_an_exception_takes_everything_back(file: ClientFile, fruit: Table) -> None:
    with file.transaction():
        fruit.put(b"a", b"1")

    def fails() -> None:
        with file.transaction():
            fruit.put(b"a", b"2")
            fruit.put(b"b", b"2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert [(row.key, row.value) for row in fruit.rows()] == [(b"a", b"1")]
    with file.transaction():
        fruit.put(b"a", b"3")
    assert fruit.get(b"a") == b"3"


@pytest.mark.parametrize(
    "write",
    [
        lambda table: table.put(b"a", b""),
        lambda table: table.delete(b"a"),
        lambda table: table.delete_group(b""),
        lambda table: table.delete_below(1),
    ],
)
def test_writing_needs_a_transaction(fruit: Table, write: Callable[[Table], object]) -> None:
    with pytest.raises(RuntimeError, match="outside"):
        write(fruit)


def test_transactions_do_not_nest(file: ClientFile) -> None:
    with pytest.raises(RuntimeError, match="inside"), file.transaction(), file.transaction():
        pass


def test_a_failing_commit_is_a_file_error_and_changes_nothing(file: ClientFile, fruit: Table) -> None:
    with file.transaction():
        fruit.put(b"small", b"1")
    pages = file._database.execute("PRAGMA page_count")[0][0]
    file._database.execute(f"PRAGMA max_page_count = {pages + 1}")

    def fill() -> None:
        with file.transaction():
            fruit.put(b"small", b"2")
            fruit.put(b"large", bytes(100_000))

    with pytest.raises(FileError, match="full"):
        fill()
    assert [(row.key, row.value) for row in fruit.rows()] == [(b"small", b"1")]


def test_using_a_closed_file_is_a_file_error(path: Path) -> None:
    file = opened(path)
    file.close()
    file.close()
    with pytest.raises(FileError):
        file.table("fruit").get(b"a")


def test_an_unknown_table_is_a_key_error(file: ClientFile) -> None:
    with pytest.raises(KeyError):
        file.table("unknown")


def test_wrong_passphrase(path: Path) -> None:
    opened(path).close()
    with pytest.raises(WrongPassphrase):
        opened(path, "Secret")
    opened(path).close()


def test_a_text_counts_as_its_normal_form(path: Path) -> None:
    opened(path, "Zo\u00eb").close()
    opened(path, "Zoe\u0308").close()
    opened(path, "Zo\u00eb".encode()).close()


def test_change_passphrase(path: Path) -> None:
    with closing(opened(path)) as file:
        with file.transaction():
            file.table("fruit").put(b"a", b"1")
        file.change_passphrase("other")
    with pytest.raises(WrongPassphrase):
        opened(path)
    with closing(opened(path, "other")) as file:
        assert file.table("fruit").get(b"a") == b"1"


@pytest.mark.usefixtures("file")
def test_a_second_opening_in_this_process_is_refused(path: Path) -> None:
    with pytest.raises(AlreadyOpen, match="in use"):
        opened(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
@pytest.mark.usefixtures("file")
def test_another_name_of_the_file_is_the_same_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "hard.db").hardlink_to(path)
    with pytest.raises(AlreadyOpen):
        opened(tmp_path / "link.db")
    with pytest.raises(AlreadyOpen, match="another program"):
        opened(tmp_path / "hard.db")


_HOLD = """
import os, sys
from restante import passphrase
from restante.file import ClientFile
passphrase.OPERATIONS, passphrase.MEMORY = 1, 8192
file = ClientFile.open(sys.argv[1], "secret", random=os.urandom, tables=("fruit", "colours"))
with file.transaction():
    file.table("fruit").put(b"a", b"committed")
transaction = file.transaction()
transaction.__enter__()
for number in range(2000):
    file.table("fruit").put(b"%d" % number, bytes(1000))
file.table("fruit").put(b"a", b"uncommitted")
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_and_killed_leaves_the_last_commit(path: Path) -> None:
    with subprocess.Popen(  # noqa: S603 -- our own interpreter
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(AlreadyOpen):
            opened(path)
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    with closing(opened(path)) as file:
        assert [(row.key, row.value) for row in file.table("fruit").rows()] == [(b"a", b"committed")]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cell SET value = (SELECT value FROM cell AS o WHERE o.sort = 2) WHERE sort = 1 AND tab = 0",
        "UPDATE cell SET value = (SELECT value FROM cell AS o WHERE o.tab = 1) WHERE sort = 1 AND tab = 0",
        "UPDATE cell SET sort = 7 WHERE sort = 1 AND tab = 0",
        "UPDATE cell SET grp = (SELECT grp FROM cell AS o WHERE o.sort = 2 AND o.tab = 0) WHERE sort = 1 AND tab = 0",
        "UPDATE cell SET value = x'00' WHERE sort = 1 AND tab = 0",
        "UPDATE cell SET value = CAST(substr(value, 1, length(value) - 1) || x'00' AS BLOB) WHERE sort = 1 AND tab = 0",
    ],
)
def test_changed_and_exchanged_cells_are_damage_and_never_absent(path: Path, change: str) -> None:
    with closing(opened(path)) as file, file.transaction():
        file.table("fruit").put(b"a", b"11", group=b"x", sort=1)
        file.table("fruit").put(b"b", b"22", group=b"y", sort=2)
        file.table("colours").put(b"a", b"33", group=b"x", sort=1)
    tampered(path, change)
    with closing(opened(path)) as file:
        with pytest.raises(FileDamaged):
            file.table("fruit").get(b"a")
        with pytest.raises(FileDamaged):
            file.table("fruit").rows()
        assert file.table("fruit").get(b"b") == b"22"


def test_exchanged_keys_are_damage(path: Path) -> None:
    with closing(opened(path)) as file, file.transaction():
        file.table("fruit").put(b"a", b"1")
    tampered(path, "UPDATE cell SET tab = 1")
    with closing(opened(path)) as file, pytest.raises(FileDamaged):
        file.table("colours").rows()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("PRAGMA user_version = 2", "newer release"),
        ("PRAGMA application_id = 0", "not a client's file"),
        ("DELETE FROM header", "no header"),
        ("UPDATE header SET salt = x'00'", "header"),
        ("UPDATE header SET operations = 1000000", "header"),
        ("UPDATE header SET memory = 1 << 40", "header"),
        ("UPDATE header SET memory = 0", "header"),
        ("DROP TABLE header", "cannot be used"),
    ],
)
def test_a_file_that_this_version_did_not_write_is_refused(path: Path, change: str, text: str) -> None:
    opened(path).close()
    tampered(path, change)
    before = path.read_bytes()
    with pytest.raises(FileError, match=text):
        opened(path)
    assert path.read_bytes() == before


def test_guessing_the_passphrase_of_a_new_file_is_dear(
    path: Path, passphrase_cost: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    operations, memory = passphrase_cost
    monkeypatch.setattr(passphrases, "OPERATIONS", operations)
    monkeypatch.setattr(passphrases, "MEMORY", memory)
    opened(path).close()
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT operations, memory FROM header").fetchall() == [(3, 64 * 1024 * 1024)]


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to look at " * 100])
def test_an_empty_or_foreign_file_is_damage_and_never_a_new_one(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileDamaged):
        opened(path)


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE theirs(x); PRAGMA user_version = 1;")
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(FileDamaged, match="not a client's file"):
        opened(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644


def test_damaged_pages_are_damage(path: Path) -> None:
    with closing(opened(path)) as file, file.transaction():
        for number in range(100):
            file.table("fruit").put(bytes([number]), bytes(500))
    data = bytearray(path.read_bytes())
    data[2 * 4096 :] = os.urandom(len(data) - 2 * 4096)
    path.write_bytes(data)

    def read_all() -> None:
        with closing(opened(path)) as file:
            for number in range(100):
                file.table("fruit").get(bytes([number]))

    with pytest.raises(FileDamaged):
        read_all()


def test_a_wal_without_its_file_is_not_taken_for_a_new_one(path: Path) -> None:
    path.with_name("client.db-wal").write_bytes(b"left behind")
    with pytest.raises(FileDamaged, match="missing"):
        opened(path)
    assert not path.exists()


def test_a_crash_while_making_the_file_is_made_up_for(path: Path) -> None:
    path.with_name("client.db.new").write_bytes(b"half")
    opened(path).close()
    opened(path).close()


def test_a_folder_that_is_not_there_or_a_folder_as_file_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        opened(tmp_path / "none" / "client.db")
    (tmp_path / "folder").mkdir(0o755)
    with pytest.raises(FileError, match="not a file"):
        opened(tmp_path / "folder")
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(sys.platform == "win32", reason="modes of another system")
def test_files_are_the_owners_only(file: ClientFile, fruit: Table, tmp_path: Path) -> None:
    with file.transaction():
        fruit.put(b"a", b"1")
    names = {entry.name: entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()}
    assert names == {"client.db": 0o600, "client.db-wal": 0o600, "client.db.lock": 0o600}


def test_no_plaintext_in_any_byte_on_disk(path: Path, tmp_path: Path) -> None:
    canary = b"canary-7b1e"
    with closing(opened(path, canary)) as file:
        with file.transaction():
            file.table("fruit").put(canary, canary * 3, group=canary)
        assert file.table("fruit").get(canary) == canary * 3
        on_disk = b"".join(entry.read_bytes() for entry in tmp_path.iterdir())
    on_disk += path.read_bytes()
    assert canary not in on_disk
    assert canary.hex().encode() not in on_disk


def test_checkpoint_leaves_nothing_deleted_behind(file: ClientFile, fruit: Table, tmp_path: Path) -> None:
    with file.transaction():
        fruit.put(b"a", b"1")
    box = file._database.execute("SELECT value FROM cell")[0][0]
    with file.transaction():
        fruit.delete(b"a")
    assert box in (tmp_path / "client.db-wal").read_bytes()
    file.checkpoint()
    assert (tmp_path / "client.db-wal").stat().st_size == 0
    assert box not in (tmp_path / "client.db").read_bytes()


def test_no_secret_in_a_repr(fruit: Table, file: ClientFile) -> None:
    with file.transaction():
        fruit.put(b"a", b"value-canary")
    assert "canary" not in repr(fruit.rows())
    assert "box" not in repr(passphrases.lock("canary", bytes(32), os.urandom))


_KEYS = st.sampled_from([b"", b"a", b"b", b"ab"])
_GROUPS = st.sampled_from([b"", b"a", b"bc"])
_SORTS = st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1])
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "group", "below"]), _KEYS, _GROUPS, _SORTS, st.binary(max_size=9)
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transactions=st.lists(st.tuples(_STEPS, st.booleans()), max_size=4))
def test_a_table_is_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    transactions: list[tuple[list[tuple[str, bytes, bytes, int, bytes]], bool]],
) -> None:
    path = tmp_path_factory.mktemp("file") / "client.db"
    model: dict[bytes, Row] = {}

    def apply(file: ClientFile, steps: list[tuple[str, bytes, bytes, int, bytes]], *, fail: bool) -> dict[bytes, Row]:
        wanted, table = dict(model), file.table("fruit")
        with file.transaction():
            for kind, key, group, sort, value in steps:
                if kind == "put":
                    table.put(key, value, group=group, sort=sort)
                    wanted[key] = Row(key, group, sort, value)
                elif kind == "delete":
                    table.delete(key)
                    wanted.pop(key, None)
                elif kind == "group":
                    table.delete_group(group)
                    wanted = {k: row for k, row in wanted.items() if row.group != group}
                else:
                    table.delete_below(sort)
                    wanted = {k: row for k, row in wanted.items() if row.sort >= sort}
            if fail:
                raise ZeroDivisionError
        return wanted

    for steps, fail in transactions:
        with closing(opened(path)) as file:
            try:
                model = apply(file, steps, fail=fail)
            except ZeroDivisionError:
                assert fail
            rows = file.table("fruit").rows()
            assert {row.key: row for row in rows} == model
            assert [row.sort for row in rows] == sorted(row.sort for row in model.values())
            for group in (b"", b"a", b"bc"):
                assert file.table("fruit").count(group) == sum(row.group == group for row in model.values())
