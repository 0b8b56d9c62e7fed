"""Deposits, entries and fences in the embedded store: functions of the database and the index, run by the writer."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import apsw

from restante_crypto import proofs
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.stores.contract import Accepted, Delivery, Deposit, FenceLost, StoredEntry, Winner
from restante_server.stores.quotas import Quotas
from restante_server.stores.sqlite_index import Index, Mailbox, pack, unpack
from restante_server.stores.sqlite_writer import Batch


def deposit(batch: Batch, index: Index, item: Deposit, quotas: Quotas, now_ms: int) -> Accepted | FenceLost:
    """Store a deposit. See ``contract.Store.deposit``."""
    db = batch.db
    known = db.execute("SELECT failed FROM deduplication WHERE digest=?", (item.digest,)).get
    if known is not None:
        return Accepted(_unpack_failed(known))
    body_digest = b""
    if item.fence is not None:
        body_digest = proofs.body_digest(item.body)
        won = db.execute("SELECT message_id, digest FROM fence WHERE tag=?", (item.fence,)).fetchone()
        if won is not None:
            return Accepted(()) if won == (item.message_id, body_digest) else FenceLost()
    payload = index.new_payload()
    touched: list[Mailbox] = []
    batch.undo.append(partial(index.take_back, touched, payload))
    size = len(item.body)
    marked_size = -size if item.large else size
    least = now_ms << limits.SEQUENCE_TIME_SHIFT
    failed: list[tuple[int, Code]] = []
    recipients: list[tuple[bytes, int]] = []
    packed: list[int] = []
    for position, identifier in enumerate(item.addresses):
        address = index.address(db, identifier, batch.undo)
        if address is None:
            failed.append((position, Code.GONE))
            continue
        mailbox = address.mailbox
        invite = address.kind == frames.KIND_INVITE
        if (
            index.waiting.get(address.n, 0) >= address.cap
            or mailbox.entries >= quotas.entries
            or mailbox.size + size > quotas.size
            or (item.large and mailbox.large_size + size > quotas.large_size)
            or (invite and mailbox.invites >= quotas.invite_entries)
        ):
            failed.append((position, Code.FULL))
            continue
        sequence = max(mailbox.last + 1, least)
        origin = address.n * 2 + invite
        index.append(mailbox, sequence, payload, origin, marked_size)
        touched.append(mailbox)
        packed += (mailbox.n, origin, sequence)
        recipients.append((mailbox.id, sequence))
    if recipients:
        index.references[payload] = len(recipients)
        batch.deliveries.append(Delivery(item.message_id, item.body, item.fence, recipients))
    elif item.fence is None:
        return Accepted(tuple(failed))
    _write(db, index, item, payload, pack(packed), body_digest, _pack_failed(failed), now_ms // 1000)
    return Accepted(tuple(failed))


def _write(
    db: apsw.Connection,
    index: Index,
    item: Deposit,
    payload: int,
    recipients: bytes,
    body_digest: bytes,
    failed: bytes,
    now: int,
) -> None:
    expires = now + item.lifetime
    if item.fence is not None:
        kept_until = now + limits.FENCE_LIFETIME
        db.execute(
            "INSERT INTO fence VALUES (?, ?, ?, ?, ?)",
            (item.fence, item.message_id, body_digest, payload, kept_until),
        )
        if recipients:
            index.fenced.add(payload)
        else:
            expires = kept_until
    db.execute(
        "INSERT INTO payload VALUES (?, ?, ?, ?, ?, ?, ?)",
        (payload, item.message_id, item.fence, expires, int(item.large), recipients, item.body),
    )
    db.execute("INSERT INTO deduplication VALUES (?, ?, ?)", (item.digest, failed, now + limits.DEDUPLICATION_LIFETIME))


def sweep(batch: Batch, index: Index, now: int, limit: int) -> bool:
    """Drop payloads, with their entries, and fences that have expired: at most ``limit``; say if there may be more."""
    db = batch.db
    rows: list[Any] = db.execute(
        "SELECT n, recipients, fence FROM payload WHERE expires<=? LIMIT ?", (now, limit)
    ).fetchall()
    for payload, recipients, tag in rows:
        if recipients:
            index.expire(payload, recipients)  # needs no undo: it would be found again
        else:
            db.execute("DELETE FROM payload WHERE n=?", (payload,))
            db.execute("DELETE FROM fence WHERE tag=?", (tag,))
    index.save(db, batch.undo)  # so that these are not found again
    return len(rows) == limit


def fetch(db: apsw.Connection, planned: Sequence[tuple[int, int]], now: int) -> list[StoredEntry]:
    """Return the entries at (sequence, payload) that are committed, not expired, and not acknowledged meanwhile."""
    found: list[StoredEntry] = []
    for sequence, payload in planned:
        row = db.execute(
            "SELECT message_id, body, fence FROM payload WHERE n=? AND expires>?", (payload, now)
        ).fetchone()
        if row is not None:
            found.append(StoredEntry(sequence, *row))
    return found


def winner(db: apsw.Connection, tag: bytes) -> Winner | None:
    """Return who won a fence."""
    row = db.execute(
        "SELECT f.message_id, f.digest, p.body FROM fence AS f JOIN payload AS p ON p.n = f.payload WHERE f.tag=?",
        (tag,),
    ).fetchone()
    return Winner(*row) if row is not None else None


def _pack_failed(failed: Sequence[tuple[int, Code]]) -> bytes:
    return pack([number for index, code in failed for number in (index, code)])


def _unpack_failed(data: bytes) -> tuple[tuple[int, Code], ...]:
    numbers = iter(unpack(data))
    return tuple((index, Code(code)) for index, code in zip(numbers, numbers, strict=True))
