"""Prekey pools in the embedded store: functions run by the writer."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import apsw

from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.stores.contract import EMPTY, GONE, Claimed, Issued, Pool, PoolLow, SeenPool
from restante_server.stores.sqlite_index import Index
from restante_server.stores.sqlite_writer import Batch

if TYPE_CHECKING:
    from restante_server.stores.sqlite_supplies import Taken


def pools_of(db: apsw.Connection, index: Index, mailbox: int) -> tuple[Pool, ...]:
    """Return a mailbox's pools, by suite."""
    rows: list[Any] = db.execute(
        "SELECT suite, uploaded, issued, left, last_resort != x'' FROM pool WHERE mailbox=? ORDER BY suite",
        (mailbox,),
    ).fetchall()
    counts = index.supplies.counts
    return tuple(
        Pool(suite, uploaded, *counts(mailbox, suite, issued, left), bool(last_resort))
        for suite, uploaded, issued, left, last_resort in rows
    )


def discard(batch: Batch, index: Index, mailbox: int, pools: Sequence[SeenPool]) -> None:
    """Drop a mailbox's one-time packages, and go on above the numbers that its owner knows."""
    db = batch.db
    index.supplies.settle(db, mailbox, batch.undo)
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
    index.supplies.settle(db, mailbox.n, batch.undo)
    pools = {pool.suite: pool for pool in pools_of(db, index, mailbox.n)}
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


def claim(batch: Batch, index: Index, suite: int, addresses: Sequence[bytes], spent: Collection[int]) -> Issued:
    """See ``contract.Store.claim``."""
    db, known, supplies = batch.db, index.addresses, index.supplies
    taken: Taken = []
    claimed: list[Claimed] = []
    low: list[PoolLow] = []
    for position, identifier in enumerate(addresses):
        address = known.get(identifier) or index.address(db, identifier, batch.undo)
        if address is None:
            claimed.append(GONE)
            continue
        mailbox = address.mailbox
        supply = supplies.find(db, mailbox.n, suite)
        if supply is None:
            claimed.append(EMPTY)
        elif supply.left and not (spent and position in spent):
            claimed.append(supplies.take(db, supply, taken))
            if supply.left == limits.PREKEYS_LOW_MARK - 1:
                low.append(PoolLow(mailbox.id, suite, supply.left))
        else:
            last_resort = db.execute("SELECT last_resort FROM pool WHERE mailbox=? AND suite=?", (mailbox.n, suite)).get
            claimed.append(frames.encode_prekey(0, 0, last_resort) if last_resort else EMPTY)
    if taken:
        batch.undo.append(partial(supplies.give_back, taken))
        supplies.log(db, taken)
    return claimed, low
