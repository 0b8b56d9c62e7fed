"""Deposits, entries and fences in the embedded store: plain functions of the database, run by the writer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw
from restante_protocol import frames, limits
from restante_protocol.errors import Code

from restante_server.stores.contract import Accepted, Delivery, Deposit, FenceLost, StoredEntry, Winner

Digest = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one mailbox may hold; see ``restante_protocol.limits`` for the reasons."""

    entries: int = limits.MAILBOX_ENTRIES
    size: int = limits.MAILBOX_BYTES
    large_size: int = limits.MAILBOX_LARGE_BYTES
    addresses: int = limits.MAILBOX_ADDRESSES
    prekeys: int = limits.MAILBOX_PREKEYS

    @property
    def invite_entries(self) -> int:
        """Entries that came through invites."""
        return self.entries // limits.INVITE_SHARE


_TARGET = """
SELECT a.n, a.cap, a.kind, a.entries, m.n, m.id, m.last, m.entries, m.size, m.large_size, m.invite_entries
FROM address AS a JOIN mailbox AS m ON m.n = a.mailbox WHERE a.id = ?
"""


def pack_failed(failed: Sequence[tuple[int, Code]]) -> bytes:
    """Return an outcome as bytes: index and code, four bytes each."""
    return b"".join(index.to_bytes(4, "big") + int(code).to_bytes(4, "big") for index, code in failed)


def unpack_failed(data: bytes) -> tuple[tuple[int, Code], ...]:
    """Return what ``pack_failed`` packed."""
    numbers = [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]
    return tuple((index, Code(code)) for index, code in zip(numbers[::2], numbers[1::2], strict=True))


def deposit(
    db: apsw.Connection, deliveries: list[Delivery], item: Deposit, quotas: Quotas, now_ms: int, digest: Digest
) -> Accepted | FenceLost:
    """Store a deposit. See ``contract.Store.deposit``."""
    known = db.execute("SELECT failed FROM deduplication WHERE digest=?", (item.digest,)).get
    if known is not None:
        return Accepted(unpack_failed(known))
    body_digest = b""
    if item.fence is not None:
        body_digest = digest(item.body)
        winner = db.execute("SELECT message_id, digest FROM fence WHERE tag=?", (item.fence,)).fetchone()
        if winner is not None:
            return Accepted(()) if winner == (item.message_id, body_digest) else FenceLost()
    now = now_ms // 1000
    payload = 1 + (db.execute("SELECT max(n) FROM payload").get or 0)
    recipients: list[tuple[bytes, int]] = []
    failed: list[tuple[int, Code]] = []
    size = len(item.body)
    for index, address in enumerate(item.addresses):
        target = db.execute(_TARGET, (address,)).fetchone()
        if target is None:
            failed.append((index, Code.GONE))
            continue
        a, cap, kind, address_entries, m, mailbox, last, entries, used, large, invites = target
        invite = int(kind == frames.KIND_INVITE)
        if (
            address_entries >= cap
            or entries >= quotas.entries
            or used + size > quotas.size
            or (item.large and large + size > quotas.large_size)
            or (invite and invites >= quotas.invite_entries)
        ):
            failed.append((index, Code.FULL))
            continue
        sequence = max(last + 1, now_ms << limits.SEQUENCE_TIME_SHIFT)
        db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (m, sequence, payload, a, invite))
        db.execute(
            "UPDATE mailbox SET last=?, entries=entries+1, size=size+?, large_size=large_size+?,"
            " invite_entries=invite_entries+? WHERE n=?",
            (sequence, size, size if item.large else 0, invite, m),
        )
        db.execute("UPDATE address SET entries=entries+1 WHERE n=?", (a,))
        recipients.append((mailbox, sequence))
    refs = len(recipients) + (item.fence is not None)
    if refs:
        db.execute(
            "INSERT INTO payload VALUES (?, ?, ?, ?, ?, ?, ?)",
            (payload, item.message_id, item.fence, now + item.lifetime, refs, int(item.large), item.body),
        )
    if item.fence is not None:
        db.execute(
            "INSERT INTO fence VALUES (?, ?, ?, ?, ?)",
            (item.fence, item.message_id, body_digest, payload, now + limits.FENCE_LIFETIME),
        )
    db.execute(
        "INSERT INTO deduplication VALUES (?, ?, ?)",
        (item.digest, pack_failed(failed), now + limits.DEDUPLICATION_LIFETIME),
    )
    if recipients:
        deliveries.append(Delivery(item.message_id, item.body, item.fence, recipients))
    return Accepted(tuple(failed))


def drop_entries(db: apsw.Connection, rows: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Delete entries given as rows of their table, with what they count for."""
    for mailbox, sequence, payload, address, invite in rows:
        db.execute("DELETE FROM entry WHERE mailbox=? AND sequence=?", (mailbox, sequence))
        sql = "UPDATE payload SET refs=refs-1 WHERE n=? RETURNING length(body), large, refs"
        ((size, large, refs),) = db.execute(sql, (payload,)).fetchall()
        if refs == 0:
            db.execute("DELETE FROM payload WHERE n=?", (payload,))
        db.execute("UPDATE address SET entries=entries-1 WHERE n=?", (address,))
        db.execute(
            "UPDATE mailbox SET entries=entries-1, size=size-?, large_size=large_size-?,"
            " invite_entries=invite_entries-? WHERE n=?",
            (size, size if large else 0, invite, mailbox),
        )


def release_payload(db: apsw.Connection, payload: int) -> None:
    """Take back one reference that is no entry: a fence's."""
    refs = db.execute("UPDATE payload SET refs=refs-1 WHERE n=? RETURNING refs", (payload,)).get
    if refs == 0:
        db.execute("DELETE FROM payload WHERE n=?", (payload,))


def read(db: apsw.Connection, mailbox: bytes, after: int, entries: int, size: int, now: int) -> list[StoredEntry]:
    """Return entries. See ``contract.Store.read``."""
    found: list[StoredEntry] = []
    total = 0
    rows = db.execute(
        "SELECT e.sequence, p.message_id, p.body, p.fence FROM entry AS e JOIN payload AS p ON p.n = e.payload"
        " WHERE e.mailbox = (SELECT n FROM mailbox WHERE id=?) AND e.sequence > ? AND p.expires > ?"
        " ORDER BY e.sequence LIMIT ?",
        (mailbox, after, now, entries),
    )
    for sequence, message_id, body, fence in rows:
        total += len(body)
        if found and total > size:
            break
        found.append(StoredEntry(sequence, message_id, body, fence))
    rows.close(True)
    return found


def winner(db: apsw.Connection, tag: bytes) -> Winner | None:
    """Return who won a fence."""
    row = db.execute(
        "SELECT f.message_id, f.digest, p.body FROM fence AS f JOIN payload AS p ON p.n = f.payload WHERE f.tag=?",
        (tag,),
    ).fetchone()
    return Winner(*row) if row is not None else None
