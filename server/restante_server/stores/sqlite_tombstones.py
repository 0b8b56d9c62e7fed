"""What was erased is erased from an older copy of the database, too, before that takes the store's place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from restante_server.stores.sqlite_holdings import rewrite_file
from restante_server.stores.sqlite_log import pack_recipients, unpack_recipients
from restante_server.stores.sqlite_schema import BUSY_MILLISECONDS, transaction


def apply(copy: Path, store: Path, tombstone: Callable[[bytes], bytes], made: int) -> None:
    """Erase from a copy, made at this time (Unix seconds), what the store's tombstones say was erased since.

    ``tombstone`` returns the id of the slot that is an id's tombstone. The tombstones themselves go into the copy.
    """
    newer = _tombstones(store, made)
    if not newer:
        return
    db = apsw.Connection(str(copy))
    try:
        with transaction(db):
            mailboxes: list[Any] = db.execute("SELECT n, id FROM mailbox").fetchall()
            gone = {n for n, identifier in mailboxes if tombstone(identifier) in newer}
            for n in gone:
                for table, column in (
                    ("mailbox", "n"),
                    ("address", "mailbox"),
                    ("pool", "mailbox"),
                    ("prekey", "mailbox"),
                ):
                    db.execute(f"DELETE FROM {table} WHERE {column}=?", (n,))  # noqa: S608 -- names of our own
            _drop_entries(db, gone)
            slots: list[Any] = db.execute("SELECT id FROM slot").fetchall()
            for (slot,) in slots:
                if tombstone(slot) in newer:
                    db.execute("DELETE FROM slot WHERE id=?", (slot,))
            db.executemany("REPLACE INTO slot VALUES (?, ?, ?, ?)", newer.values())
    finally:
        db.close()
    rewrite_file(copy)


def _tombstones(store: Path, made: int) -> dict[bytes, tuple[bytes, int, int, bytes]]:
    """Return the slots whose bodies are times from ``made`` on, by id: tombstones, and nothing else matches a hash."""
    db = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READWRITE)  # its log may have to be read
    try:
        db.set_busy_timeout(BUSY_MILLISECONDS)
        rows: list[Any] = db.execute("SELECT id, version, expires, body FROM slot WHERE length(body)=8").fetchall()
    finally:
        db.close()
    return {row[0]: row for row in rows if int.from_bytes(row[3], "big") >= made}


def _drop_entries(db: apsw.Connection, gone: set[int]) -> None:
    groups: list[Any] = db.execute(
        "SELECT n, members, recipients, fence IS NULL FROM payload WHERE members > 0 AND recipients!=x''"
    ).fetchall()
    for lead, members, recipients, unfenced in groups:
        waiting = list(unpack_recipients(recipients, members))
        left = [each for each in waiting if each.mailbox not in gone]
        if len(left) == len(waiting):
            continue
        if not left and unfenced:
            db.execute("DELETE FROM payload WHERE n BETWEEN ? AND ?", (lead, lead + members - 1))
        else:
            db.execute("UPDATE payload SET recipients=? WHERE n=?", (pack_recipients(left, members), lead))
