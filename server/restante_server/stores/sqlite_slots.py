"""Slots and invite codes in the embedded store, and the sweep of what is not a payload."""

from collections.abc import Sequence

import apsw

from restante_server.stores.contract import StoredSlot


def get(db: apsw.Connection, slot: bytes, now: int) -> StoredSlot | None:
    """See ``contract.Store.get_slot``."""
    row = db.execute("SELECT version, body FROM slot WHERE id=? AND expires>?", (slot, now)).fetchone()
    return StoredSlot(*row) if row is not None else None


def put(db: apsw.Connection, slot: bytes, version: int, lifetime: int, body: bytes, now: int) -> bool:
    """See ``contract.Store.put_slot``."""
    stored = get(db, slot, now)
    if stored != StoredSlot(version, body) and (stored.version if stored else 0) != version - 1:
        return False
    db.execute("REPLACE INTO slot VALUES (?, ?, ?, ?)", (slot, version, now + lifetime, body))
    return True


def delete(db: apsw.Connection, slot: bytes) -> None:
    """See ``contract.Store.delete_slot``."""
    db.execute("DELETE FROM slot WHERE id=?", (slot,))


def add_codes(db: apsw.Connection, hashes: Sequence[bytes], expires: int) -> None:
    """See ``contract.Store.add_codes``."""
    db.executemany("INSERT OR IGNORE INTO code VALUES (?, ?, 0)", [(code, expires) for code in hashes])


def sweep(db: apsw.Connection, now: int, limit: int) -> bool:
    """Drop at most ``limit`` expired rows of each kind; say if there may be more."""
    more = False
    for table, key in (("slot", "id"), ("code", "hash")):
        db.execute(
            f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE expires<=? LIMIT ?)",  # noqa: S608 -- names of our own
            (now, limit),
        )
        more |= db.changes() == limit
    return more
