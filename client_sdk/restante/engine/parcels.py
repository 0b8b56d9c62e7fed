"""Parcels: blobs that this client has made or keeps for its groups, and those that an entry of its mailbox waits for.

A blob's keys and content are in the file before its first byte leaves; a deposit names the blobs that have to be at the
relay before it. What lost is deleted there, what won expires. An entry whose blob is not here is kept and acknowledged;
the blob is fetched over HTTP without credential, and then the entry is processed with the content at hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from restante import handshakes
from restante.blobs import BlobKeys, BlobReference
from restante.engine import records
from restante.engine.budget import STRANGERS, Budget
from restante.engine.state import State
from restante.handshakes import TREE, epoch_keys
from restante_crypto.blobs import sealed_length
from restante_crypto.mls import Group
from restante_protocol import limits

LIFETIME: Final = limits.MAX_BLOB_LIFETIME
RETRY_FIRST: Final = 1  # seconds until a blob is asked for again, then twice as long, up to
RETRY_LAST: Final = 60
WELCOMES_WAITING: Final = 64  # for their trees, of one payer: with bodies of 16 KiB, 1 MiB of the file
_KEPT: Final = b""
_VOID: Final = b"void"


@dataclass(frozen=True, slots=True, repr=False)
class Upload:
    """A blob to bring to the relay."""

    keys: BlobKeys
    content: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Fetch:
    """A blob to fetch, and whose budget has paid for it (None: nobody's)."""

    reference: BlobReference
    payer: bytes | None


@dataclass(frozen=True, slots=True, repr=False)
class Delete:
    """A blob that nobody needs: to delete at the relay."""

    keys: BlobKeys


class Parcels:
    """The blobs. Every change runs inside a transaction."""

    def __init__(self, state: State) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._tables = state.tables
        self._budget = Budget(state)
        self._under_way: dict[bytes, bytes] = {}  # payers of the trees that are being fetched, by reference
        self._touched = True  # whether there may be work

    # Ours.

    def keep(self, keys: BlobKeys, content: bytes, *, uploaded: bool = False) -> BlobReference:
        """Keep a content, to be uploaded or (if it is at the relay) for when the relay has lost it."""
        blob = keys.blob
        if self._blob(blob) is None:
            expires = self._state.now() + LIFETIME
            self._put(blob, records.Blob(keys.encode(), content, expires, uploaded=uploaded, own=not uploaded))
        return keys.reference(content)

    def tree_reference(self, group: Group) -> BlobReference | None:
        """Return where the group's tree is (or will be: name it in the deposit); None: it is small and goes along."""
        tree = group.ratchet_tree
        return None if len(tree) <= handshakes.TREE_INLINE_BYTES else self.keep(epoch_keys(group, TREE), tree)

    def upload(self, blob: bytes) -> Upload | None:
        """Return what to upload; None if the blob is at the relay, or nobody needs it any more."""
        record = self._blob(blob)
        if record is None or record.uploaded:
            return None
        return Upload(BlobKeys.decode(record.keys), record.content)

    def uploaded(self, blob: bytes) -> None:
        """The relay has it; what was dropped meanwhile stays to be deleted."""
        record = self._blob(blob)
        if record is not None and not record.uploaded:
            expires = self._state.now() + LIFETIME  # at the latest: the relay counts from when it was stored
            self._put(blob, msgspec.structs.replace(record, expires=expires, uploaded=True, own=True))

    def drop(self, blobs: Iterable[bytes]) -> None:
        """Nobody needs these: delete them at the relay, wherever their upload has come to."""
        for blob in blobs:
            record = self._blob(blob)
            if record is not None:
                self._touched = True
                void = msgspec.structs.replace(record, content=b"", uploaded=True)
                self._put(blob, void, group=_VOID)

    def forget(self, blobs: Iterable[bytes]) -> None:
        """The relay does not have these (any more)."""
        for blob in blobs:
            self._tables.blobs.delete(blob)

    def own(self) -> list[tuple[BlobKeys, records.Blob]]:
        """Return what this client has uploaded, or may have."""
        found = [records.Blob.unpack(row.value) for row in self._tables.blobs.rows()]
        return [(BlobKeys.decode(record.keys), record) for record in found if record.own]

    def register_again(self) -> None:
        """The relay may have lost every blob: deposits that name them bring them again."""
        for row in self._tables.blobs.rows(_KEPT):
            record = records.Blob.unpack(row.value)
            self._put(row.key, msgspec.structs.replace(record, uploaded=False))

    def prune(self) -> None:
        """Forget what the relay has dropped by itself."""
        self._tables.blobs.delete_below(self._state.now())
        self._budget.prune()

    def _blob(self, blob: bytes) -> records.Blob | None:
        stored = self._tables.blobs.get(blob)
        return records.Blob.unpack(stored) if stored else None

    def _put(self, blob: bytes, record: records.Blob, *, group: bytes = _KEPT) -> None:
        self._tables.blobs.put(blob, record.pack(), group=group, sort=record.expires)

    # What is waited for.

    def wait(self, reference: BlobReference, entry: records.Held) -> None:
        """Process this entry again once the blob is here."""
        record = records.Awaited(reference.encode(), entry, due=self._state.clock())
        self._tables.awaited.put(entry.message_id + reference.blob, record.pack(), group=reference.blob)
        self._touched = True

    def wait_for_tree(self, reference: BlobReference, entry: records.Held, account: bytes) -> bool:
        """The same for a Welcome, which this account vouches for, or nobody. True: there were too many, and one went.

        It is the one of the same payer whose tree is largest: it would be fetched last.
        """
        due = self._state.clock()
        record = records.Awaited(reference.encode(), entry, due=due, welcome=True, account=account)
        self._tables.awaited.put(entry.message_id + reference.blob, record.pack(), group=reference.blob)
        self._touched = True
        payer = self._payer(record)
        alike = [each for each in self._awaited() if each.welcome and self._payer(each) == payer]
        if len(alike) <= WELCOMES_WAITING:
            return False
        largest = max(alike, key=_cost)
        self.give_up(largest.entry, BlobReference.decode(largest.reference).blob)
        return True

    def give_up_trees(self, before: int) -> int:
        """Forget the Welcomes that have waited since before this Unix second; return how many."""
        late = [record for record in self._awaited() if record.welcome and record.entry.received_at < before]
        for record in late:
            self.give_up(record.entry, BlobReference.decode(record.reference).blob)
        return len(late)

    def settle(self, fetch: Fetch, received: int) -> None:
        """Of a blob no more than these bytes came."""
        self._under_way.pop(fetch.reference.encode(), None)
        if fetch.payer is not None:
            self._budget.give_back(fetch.payer, max(0, sealed_length(fetch.reference.length) - received))

    def arrived(self, reference: BlobReference) -> list[records.Held]:
        """The blob is here: return the entries that have waited for just this; who names another key of it waits on."""
        self._under_way.pop(reference.encode(), None)
        found = self._waiting(reference)
        for key, _ in found:
            self._tables.awaited.delete(key)
        return [record.entry for _, record in found]

    def failed(self, reference: BlobReference, *, lost: bool) -> list[tuple[records.Held, int]]:
        """The blob did not come; ``lost``: the relay does not have it. Return who waits, and for how many seconds."""
        now = self._state.clock()
        found = []
        for key, record in self._waiting(reference):
            wait = min(RETRY_LAST, RETRY_FIRST << min(record.tries, 10))
            lost_at = record.lost_at or (now if lost else 0)
            changed = msgspec.structs.replace(record, tries=record.tries + 1, due=now + 1000 * wait, lost_at=lost_at)
            self._tables.awaited.put(key, changed.pack(), group=reference.blob)
            if lost:
                found.append((record.entry, (now - lost_at) // 1000))
        return found

    def _waiting(self, reference: BlobReference) -> list[tuple[bytes, records.Awaited]]:
        rows = self._tables.awaited.rows(reference.blob)
        found = [(row.key, records.Awaited.unpack(row.value)) for row in rows]
        return [(key, record) for key, record in found if record.reference == reference.encode()]

    def give_up(self, entry: records.Held, blob: bytes) -> None:
        """This entry waits no longer."""
        self._tables.awaited.delete(entry.message_id + blob)

    # What there is to do.

    def work(self) -> list[Fetch | Delete]:
        """Return what is to be done now, each blob once. A tree for a Welcome is paid for, and comes alone.

        First come those who have something from members, then those who are known, then the smallest. A tree from a
        stranger may take its time: what else there is to fetch is not to wait for it.
        """
        awaited = self._awaited()
        due = self._due(awaited)
        free = {record.reference: None for record in due if not record.welcome}
        fetches = [Fetch(BlobReference.decode(reference), None) for reference in free]
        if due and not fetches:
            record = min(due, key=lambda each: (self._payer(each) == STRANGERS, _cost(each)))
            payer = self._payer(record)
            self._budget.take(payer, _cost(record))
            self._under_way[record.reference] = payer
            fetches = [Fetch(BlobReference.decode(record.reference), payer)]
        void = [records.Blob.unpack(row.value) for row in self._tables.blobs.rows(_VOID)]
        self._touched = bool(awaited or void)
        return [*fetches, *(Delete(BlobKeys.decode(record.keys)) for record in void)]

    def has_work(self) -> bool:
        """Say whether there may be any now."""
        return self._touched and (self._tables.blobs.exists(_VOID) or bool(self._due(self._awaited())))

    def next_at(self) -> int | None:
        """Return the Unix millisecond of the next try, or None."""
        if not self._touched:
            return None
        return min((self._ready_at(record) for record in self._awaited() if self._may_go(record)), default=None)

    def is_fetching(self) -> bool:
        """Say whether anything is awaited that was not asked for yet, though it could be, or is under way."""
        untried = [record for record in self._awaited() if not record.tries]
        return any(record.reference in self._under_way for record in untried) or bool(self._due(untried))

    def _due(self, awaited: list[records.Awaited]) -> list[records.Awaited]:
        now = self._state.clock()
        return [record for record in awaited if self._may_go(record) and self._ready_at(record) <= now]

    def _may_go(self, record: records.Awaited) -> bool:
        """Say whether it could be fetched beside what is under way: each once, and one for strangers."""
        if not record.welcome:
            return True
        is_last = self._payer(record) == STRANGERS and STRANGERS in self._under_way.values()
        return record.reference not in self._under_way and not is_last

    def _ready_at(self, record: records.Awaited) -> int:
        if not record.welcome:
            return record.due
        return max(record.due, self._budget.ready_at(self._payer(record), _cost(record)))

    def _payer(self, record: records.Awaited) -> bytes:
        """Return whose budget a Welcome's tree is fetched from."""
        known = record.account == self._state.me or self._state.is_contact(record.account)
        return record.account if known else STRANGERS

    def _awaited(self) -> list[records.Awaited]:
        return [records.Awaited.unpack(row.value) for row in self._tables.awaited.rows()]


def _cost(record: records.Awaited) -> int:
    """Return what it costs to fetch: bytes."""
    return sealed_length(BlobReference.decode(record.reference).length)
