"""Prekey pools in the embedded store: functions run by the writer. A package is deleted as it is issued."""

from collections.abc import Collection, Sequence
from typing import Any

import apsw

from restante_protocol import limits
from restante_protocol.errors import Code
from restante_server.stores.contract import Claimed, Pool, PoolLow, SeenPool
from restante_server.stores.sqlite_index import Index
from restante_server.stores.sqlite_writer import Batch


def pools_of(db: apsw.Connection, mailbox: int) -> tuple[Pool, ...]:
    """Return a mailbox's pools, by suite."""
    rows: list[Any] = db.execute(
        "SELECT suite, uploaded, issued, left, last_resort != x'' FROM pool WHERE mailbox=? ORDER BY suite",
        (mailbox,),
    ).fetchall()
    return tuple(Pool(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows)


def discard(db: apsw.Connection, mailbox: int, pools: Sequence[SeenPool]) -> None:
    """Drop a mailbox's one-time packages, and go on above the numbers that its owner knows."""
    db.execute("DELETE FROM prekey WHERE mailbox=?", (mailbox,))
    db.execute("UPDATE pool SET left=0 WHERE mailbox=?", (mailbox,))
    for pool in pools:
        known = max(pool.uploaded, pool.used)
        if known:
            db.execute(
                "INSERT INTO pool VALUES (?, ?, ?, ?, 0, x'') ON CONFLICT DO UPDATE SET"
                " uploaded=max(uploaded, excluded.uploaded), issued=max(issued, excluded.issued)",
                (mailbox, pool.suite, known, pool.used),
            )


def put(  # noqa: PLR0913 -- the request's fields
    batch: Batch,
    index: Index,
    identifier: bytes,
    suite: int,
    first: int,
    packages: Sequence[bytes],
    last_resort: bytes,
    *,
    replace: bool,
    quota: int,
) -> Code | None:
    """See ``contract.Store.put_prekeys``."""
    db = batch.db
    mailbox = index.mailbox(db, identifier, batch.undo)
    if mailbox is None:
        return Code.NO_MAILBOX
    pools = {pool.suite: pool for pool in pools_of(db, mailbox.n)}
    if suite not in pools and len(pools) == limits.MAX_SUITES:
        return Code.LIMIT
    pool = pools.get(suite, Pool(suite, 0, 0, 0, last_resort=False))
    skip = max(0, pool.uploaded + 1 - first)
    fresh = packages[skip:]
    left = len(fresh) + (0 if replace else pool.left)
    if left > quota:
        return Code.LIMIT
    if replace:
        db.execute("DELETE FROM prekey WHERE mailbox=? AND suite=?", (mailbox.n, suite))
    db.executemany(
        "INSERT INTO prekey VALUES (?, ?, ?, ?)",
        [(mailbox.n, suite, number, package) for number, package in enumerate(fresh, first + skip)],
    )
    uploaded = first + len(packages) - 1 if fresh else pool.uploaded
    db.execute(
        "INSERT INTO pool VALUES (?, ?, ?, 0, ?, ?) ON CONFLICT DO UPDATE SET uploaded=excluded.uploaded,"
        " left=excluded.left, last_resort=iif(excluded.last_resort != x'', excluded.last_resort, last_resort)",
        (mailbox.n, suite, uploaded, left, last_resort),
    )
    return None


def claim(
    batch: Batch, index: Index, suite: int, addresses: Sequence[bytes], spent: Collection[int]
) -> tuple[Sequence[Claimed], Sequence[PoolLow]]:
    """See ``contract.Store.claim``."""
    low: list[PoolLow] = []
    return [
        _claim(batch, index, suite, address, low, one_time=position not in spent)
        for position, address in enumerate(addresses)
    ], low


def _claim(batch: Batch, index: Index, suite: int, identifier: bytes, low: list[PoolLow], *, one_time: bool) -> Claimed:
    db = batch.db
    address = index.address(db, identifier, batch.undo)
    if address is None:
        return Claimed(Code.GONE, 0, b"")
    mailbox = address.mailbox
    prekey: Any = None
    if one_time:
        prekey = db.execute(
            "SELECT number, package FROM prekey WHERE mailbox=? AND suite=? ORDER BY number LIMIT 1",
            (mailbox.n, suite),
        ).fetchone()
    if prekey is None:
        last_resort = db.execute("SELECT last_resort FROM pool WHERE mailbox=? AND suite=?", (mailbox.n, suite)).get
        return Claimed(None, 0, last_resort) if last_resort else Claimed(Code.EMPTY, 0, b"")
    number, package = prekey
    db.execute("DELETE FROM prekey WHERE mailbox=? AND suite=? AND number=?", (mailbox.n, suite, number))
    left = db.execute(
        "UPDATE pool SET issued=?, left=left-1 WHERE mailbox=? AND suite=? RETURNING left",
        (number, mailbox.n, suite),
    ).get
    if left == limits.PREKEYS_LOW_MARK - 1:
        low.append(PoolLow(mailbox.id, suite, left))
    return Claimed(None, number, package)
