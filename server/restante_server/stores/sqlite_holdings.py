"""All that the embedded store holds of one mailbox, in parts; and what leaves no byte of what was deleted.

A part's cursor is a section (one byte: the mailbox, its addresses, pools, prekeys, entries) and the last row of it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from restante_server.stores.contract import Holding, StoreFull
from restante_server.stores.sqlite_schema import connect

PART_ROWS: Final = 128  # of addresses or prekeys in one part: half a megabyte of packages
VACUUM_FACTOR: Final = 2  # of the database's size that has to be free: the new database, and the log of its change
_BUSY: Final = "the log is being read"

_ADDRESSES: Final = "SELECT id, n, cap, kind FROM address WHERE mailbox=? AND id>? ORDER BY id LIMIT ?"
_POOLS: Final = "SELECT suite, uploaded, issued, left, last_resort FROM pool WHERE mailbox=? ORDER BY suite"
_PREKEYS: Final = (
    "SELECT suite, number, package FROM prekey WHERE mailbox=? AND (suite, number)>(?, ?)"
    " ORDER BY suite, number LIMIT ?"
)


def _row(table: str, key: bytes, **values: bytes | int) -> list[Holding]:
    return [Holding(f"{table}.{name}", key, value) for name, value in values.items()]


def own(db: apsw.Connection, identifier: bytes) -> tuple[int, list[Holding]] | None:
    """Return a mailbox's number and its own row, or None."""
    row: Any = db.execute(
        "SELECT n, id, receive_key, incarnation, epoch, last, acknowledged, cursor, kept, addresses, spent"
        " FROM mailbox WHERE id=?",
        (identifier,),
    ).fetchone()
    if row is None:
        return None
    names = (
        "n",
        "id",
        "receive_key",
        "incarnation",
        "epoch",
        "last",
        "acknowledged",
        "cursor",
        "kept",
        "addresses",
        "spent",
    )
    return row[0], _row("mailbox", b"", **dict(zip(names, row, strict=True)))


def addresses(db: apsw.Connection, n: int, after: bytes) -> tuple[list[Holding], bytes]:
    """Return the addresses after this id, and the last one's id: empty at the end."""
    rows: list[Any] = db.execute(_ADDRESSES, (n, after, PART_ROWS)).fetchall()
    found = [
        each
        for identifier, number, cap, kind in rows
        for each in _row("address", identifier, n=number, id=identifier, mailbox=n, cap=cap, kind=kind)
    ]
    return found, rows[-1][0] if len(rows) == PART_ROWS else b""


def pools(db: apsw.Connection, n: int) -> list[Holding]:
    """Return all pools."""
    rows: list[Any] = db.execute(_POOLS, (n,)).fetchall()
    return [
        each
        for suite, uploaded, issued, left, last in rows
        for each in _row(
            "pool",
            suite.to_bytes(2, "big"),
            mailbox=n,
            suite=suite,
            uploaded=uploaded,
            issued=issued,
            left=left,
            last_resort=last,
        )
    ]


def prekeys(db: apsw.Connection, n: int, after: bytes) -> tuple[list[Holding], bytes]:
    """Return the packages after this place (suite 2 bytes, number 8), and the last one's: empty at the end."""
    suite, number = int.from_bytes(after[:2], "big"), int.from_bytes(after[2:], "big")
    rows: list[Any] = db.execute(_PREKEYS, (n, suite, number, PART_ROWS)).fetchall()
    places = [each[0].to_bytes(2, "big") + each[1].to_bytes(8, "big") for each in rows]
    found = [
        each
        for place, (of, at, package) in zip(places, rows, strict=True)
        for each in _row("prekey", place, mailbox=n, suite=of, number=at, package=package)
    ]
    return found, places[-1] if len(rows) == PART_ROWS else b""


def entries(db: apsw.Connection, n: int, planned: Sequence[tuple[int, int]]) -> list[Holding]:
    """Return the entries at (sequence, payload); of others who wait for the same payload nothing."""
    found: list[Holding] = []
    for sequence, payload in planned:
        row: Any = db.execute(
            "SELECT message_id, fence, expires, large, members, body FROM payload WHERE n=?", (payload,)
        ).fetchone()
        if row is not None:
            message_id, fence, expires, large, members, body = row
            found += _row(
                "payload",
                sequence.to_bytes(8, "big"),
                n=payload,
                message_id=message_id,
                fence=fence or b"",
                expires=expires,
                large=large,
                members=members,
                recipients=n,
                body=body,
            )
    return found


def part(
    db: apsw.Connection, mailbox: bytes, after: bytes, waiting: Sequence[tuple[int, int]]
) -> tuple[Sequence[Holding], bytes]:
    """Return the part after this cursor, and the next cursor; ``waiting``: the next entries, in their section."""
    found = own(db, mailbox)
    if found is None:
        return [], b""
    n, row = found
    section, place = after[:1], after[1:]
    if section == b"":
        return row, b"\x01"
    if section == b"\x01":
        rows, last = addresses(db, n, place)
        return rows, b"\x01" + last if last else b"\x02"
    if section == b"\x02":
        return pools(db, n), b"\x03"
    if section == b"\x03":
        rows, last = prekeys(db, n, place)
        return rows, b"\x03" + last if last else b"\x04"
    return entries(db, n, waiting), b"\x04" + waiting[-1][0].to_bytes(8, "big") if waiting else b""


def rewrite(db: apsw.Connection) -> None:
    """Write the database anew without anything that was deleted, and empty its log. Not inside a transaction.

    Raises:
        StoreFull: there is no room for it; nothing is lost.
    """
    path = Path(db.filename)
    size = db.execute("PRAGMA page_count").get * db.execute("PRAGMA page_size").get
    if shutil.disk_usage(path.parent).free < VACUUM_FACTOR * size:
        raise StoreFull
    db.execute("VACUUM")
    busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # type: ignore[misc]  # one row
    if busy:
        raise apsw.BusyError(_BUSY)


def rewrite_file(path: Path) -> None:
    """The same for a database that is not in use, in one file without a log."""
    db = connect(path, None)
    try:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("VACUUM")
    finally:
        db.close()
