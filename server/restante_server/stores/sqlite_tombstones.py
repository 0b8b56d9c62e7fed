"""What was erased is erased from an older copy of the database, too, before that takes the store's place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import apsw

from restante_server.config import TOMBSTONE_LIFETIME
from restante_server.stores.sqlite_holdings import rewrite_file
from restante_server.stores.sqlite_log import pack_recipients, unpack_recipients
from restante_server.stores.sqlite_schema import BUSY_MILLISECONDS, transaction
from restante_server.stores.tombstones import TIME_BYTES, Journal

Rows = Mapping[bytes, tuple[bytes, int, int, bytes]]
"""Tombstones as rows of the table of slots, by id."""


def apply(copy: Path, newer: Rows, tombstone: Callable[[bytes], bytes]) -> None:
    """Erase from a copy what these tombstones say was erased since it was made.

    ``tombstone`` returns the id of the slot that is an id's tombstone. The tombstones themselves go into the copy.
    """
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


def listed(journal: Journal, made: int) -> Rows:
    """Return the tombstones in the list beside a store, made from ``made`` on (Unix seconds). Raises OSError."""
    return {
        each: (each, 1, at + TOMBSTONE_LIFETIME, at.to_bytes(TIME_BYTES, "big"))
        for each, at in journal.read().items()
        if at >= made
    }


def stored(store: Path, made: int) -> Rows:
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
