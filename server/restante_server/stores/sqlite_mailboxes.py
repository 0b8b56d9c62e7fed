"""Mailboxes, addresses and subscriptions in the embedded store: functions run by the writer."""

from collections.abc import Callable, Sequence
from typing import Any

from restante_protocol import ids
from restante_protocol.errors import Code
from restante_server.stores.contract import SPENT_KEPT, AddressSpec, SeenPool, Status, Subscription
from restante_server.stores.sqlite_index import Index
from restante_server.stores.sqlite_prekeys import discard, pools_of
from restante_server.stores.sqlite_writer import Batch

Random = Callable[[int], bytes]


def create(
    batch: Batch, mailbox: bytes, receive_key: bytes, code_hash: bytes | None, *, epoch: bytes, random: Random, now: int
) -> bytes | None:
    """See ``contract.Store.create_mailbox``."""
    db = batch.db
    known = db.execute("SELECT incarnation FROM mailbox WHERE id=?", (mailbox,)).get
    if known is not None:
        return bytes(known)
    if code_hash is not None:
        db.execute("UPDATE code SET used=1 WHERE hash=? AND expires>? AND NOT used", (code_hash, now))
        if not db.changes():
            return None
    incarnation = random(ids.INCARNATION_BYTES)
    db.execute(
        "INSERT INTO mailbox (id, receive_key, incarnation, epoch) VALUES (?, ?, ?, ?)",
        (mailbox, receive_key, incarnation, epoch),
    )
    return incarnation


def delete(batch: Batch, index: Index, identifier: bytes) -> None:
    """See ``contract.Store.delete_mailbox``."""
    mailbox = index.mailbox(batch.db, identifier, batch.undo)
    if mailbox is None:
        return
    index.delete(mailbox, batch.undo, batch.done)
    index.supplies.settle(batch.db, mailbox.n, batch.undo)
    addresses: list[Any] = batch.db.execute("DELETE FROM address WHERE mailbox=? RETURNING id", (mailbox.n,)).fetchall()
    for (address,) in addresses:
        index.addresses.pop(address, None)
    for table in ("pool", "prekey"):
        batch.db.execute(f"DELETE FROM {table} WHERE mailbox=?", (mailbox.n,))  # noqa: S608 -- names of our own
    batch.db.execute("DELETE FROM mailbox WHERE n=?", (mailbox.n,))


def subscribe(
    batch: Batch,
    index: Index,
    identifier: bytes,
    incarnation: bytes,
    seen: int,
    pools: Sequence[SeenPool],
    *,
    epoch: bytes,
    random: Random,
) -> Subscription | None:
    """See ``contract.Store.subscribe``."""
    mailbox = index.mailbox(batch.db, identifier, batch.undo)
    if mailbox is None:
        return None
    before = mailbox.incarnation, mailbox.last, mailbox.acknowledged
    owner = index.owners.get(identifier)

    def restore() -> None:
        mailbox.incarnation, mailbox.last, mailbox.acknowledged = before
        index.owners.pop(identifier, None)
        if owner is not None:
            index.owners[identifier] = owner

    held = {pool.suite: pool for pool in pools_of(batch.db, index, mailbox.n)}
    behind = any(
        pool.uploaded > held[pool.suite].uploaded or pool.used > held[pool.suite].issued
        if pool.suite in held
        else pool.uploaded or pool.used
        for pool in pools
    )
    written_under = batch.db.execute("SELECT epoch FROM mailbox WHERE n=?", (mailbox.n,)).get
    batch.undo.append(restore)
    if (incarnation and incarnation != mailbox.incarnation) or seen > mailbox.last or behind or written_under != epoch:
        mailbox.incarnation, mailbox.last, mailbox.acknowledged = (
            random(ids.INCARNATION_BYTES),
            max(mailbox.last, seen),
            0,
        )
        batch.db.execute(
            "UPDATE mailbox SET incarnation=?, epoch=?, last=?, acknowledged=0 WHERE n=?",
            (mailbox.incarnation, epoch, mailbox.last, mailbox.n),
        )
        discard(batch, index, mailbox.n, pools)
    spent = batch.db.execute("SELECT spent FROM mailbox WHERE n=?", (mailbox.n,)).get
    if spent:
        batch.db.execute("UPDATE mailbox SET spent=x'' WHERE n=?", (mailbox.n,))
    token = index.owners[identifier] = random(ids.OWNER_TOKEN_BYTES)
    return Subscription(
        mailbox.incarnation,
        token,
        mailbox.acknowledged,
        mailbox.last,
        pools_of(batch.db, index, mailbox.n),
        tuple(spent[place : place + ids.ID_BYTES] for place in range(0, len(spent), ids.ID_BYTES)),
    )


def mark_spent(batch: Batch, index: Index, identifier: bytes) -> bytes | None:
    """See ``contract.Store.mark_spent``."""
    address = index.address(batch.db, identifier, batch.undo)
    if address is None:
        return None
    n = address.mailbox.n
    spent = batch.db.execute("SELECT spent FROM mailbox WHERE n=?", (n,)).get
    known = {spent[place : place + ids.ID_BYTES] for place in range(0, len(spent), ids.ID_BYTES)}
    if identifier not in known and len(known) < SPENT_KEPT:
        batch.db.execute("UPDATE mailbox SET spent=? WHERE n=?", (spent + identifier, n))
    return address.mailbox.id


def acknowledge(
    batch: Batch,
    index: Index,
    identifier: bytes,
    owner_token: bytes,
    incarnation: bytes,
    sequence: int,
    exceptions: Sequence[int],
) -> bool:
    """See ``contract.Store.acknowledge``. Changes memory alone: the index is saved later."""
    if index.owners.get(identifier) != owner_token:
        return False
    mailbox = index.mailbox(batch.db, identifier, batch.undo)
    if mailbox is None or mailbox.incarnation != incarnation:
        return False
    index.acknowledge(mailbox, sequence, frozenset(exceptions))
    return True


def status(batch: Batch, index: Index, identifier: bytes) -> Status | None:
    """See ``contract.Store.status``."""
    mailbox = index.mailbox(batch.db, identifier, batch.undo)
    if mailbox is None:
        return None
    return Status(mailbox.last, mailbox.entries, mailbox.size, pools_of(batch.db, index, mailbox.n))


def put_addresses(
    batch: Batch, index: Index, identifier: bytes, addresses: Sequence[AddressSpec], quota: int
) -> Code | None:
    """See ``contract.Store.put_addresses``."""
    db = batch.db
    mailbox = index.mailbox(db, identifier, batch.undo)
    if mailbox is None:
        return Code.NO_MAILBOX
    count = db.execute("SELECT addresses FROM mailbox WHERE n=?", (mailbox.n,)).get
    fresh = {
        spec.address
        for spec in addresses
        if db.execute("SELECT 1 FROM address WHERE id=?", (spec.address,)).get is None
    }
    if count + len(fresh) > quota:
        return Code.LIMIT
    for spec in addresses:
        db.execute(
            "INSERT INTO address (id, mailbox, cap, kind) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET cap=excluded.cap, kind=excluded.kind WHERE mailbox=excluded.mailbox",
            (spec.address, mailbox.n, spec.cap, spec.kind),
        )
        index.addresses.pop(spec.address, None)
    db.execute("UPDATE mailbox SET addresses=? WHERE n=?", (count + len(fresh), mailbox.n))
    return None


def revoke_addresses(batch: Batch, index: Index, identifier: bytes, addresses: Sequence[bytes]) -> None:
    """See ``contract.Store.revoke_addresses``."""
    mailbox = index.mailbox(batch.db, identifier, batch.undo)
    if mailbox is None:
        return
    revoked = 0
    for address in addresses:
        batch.db.execute("DELETE FROM address WHERE id=? AND mailbox=?", (address, mailbox.n))
        revoked += batch.db.changes()
        index.addresses.pop(address, None)
    batch.db.execute("UPDATE mailbox SET addresses=addresses-? WHERE n=?", (revoked, mailbox.n))
