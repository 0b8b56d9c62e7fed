"""What every store of the relay does: the contract that one conformance suite checks.

A store knows ids, bytes and numbers. Every method that changes something returns only when the change survives what
``level`` promises, and changes all or nothing. Calls take effect in the order in which they were made, except that
acknowledgements may overtake. Deliveries are announced to the listener in the order of their sequences, after the
commit and before the deposit returns. Any method raises StoreUnavailable, and one that stores something StoreFull.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

from restante_protocol import frames
from restante_protocol.errors import Code

DIGEST_BYTES: Final = 16  # of a deposit's digest, as it is kept: enough to know it again
SPENT_KEPT: Final = 16  # spent addresses of one mailbox, until its owner is told

Level = Literal["power", "failover", "process"]


class StoreError(Exception):
    """Base of what a store raises.

    ::

        StoreError
        ├── StoreUnavailable   did not answer, or shut down: whether it happened is unknown, retry the same
        ├── StoreFull          no room on the disk or below the operator's limit: nothing happened
        └── StoreRefused       cannot be opened: locked, newer, damaged; the text says what to do
    """


class StoreUnavailable(StoreError):  # noqa: N818 -- a state, as in the protocol's code
    """The store did not answer, or is shut down."""


class StoreFull(StoreError):  # noqa: N818 -- the same
    """The disk, or the operator's limit, has no room; reading and acknowledging go on."""


class StoreRefused(StoreError):  # noqa: N818 -- the same
    """The store cannot be opened: another process holds it, a newer version wrote it, or it is damaged."""


class Outcome(Protocol):
    """Who is told how an operation went, once: an asyncio future, or something that needs no turn of the loop."""

    def done(self) -> bool:
        """Nobody has to be told any more."""
        ...

    def set_result(self, result: Any, /) -> None:  # noqa: ANN401 -- of whatever was asked for
        """It went well."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """It did not."""
        ...


def forward(outcome: Outcome, done: "asyncio.Future[Any]") -> None:
    """Tell how a task went."""
    if outcome.done():
        return
    try:
        result = done.result()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- whatever it was
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


class Value(msgspec.Struct, frozen=True):
    """A value of which there is one for each message: made in a tenth of a dataclass's time. Its repr shows nothing."""

    def __repr__(self) -> str:
        """Name the type."""
        return f"{type(self).__name__}()"


class Deposit(Value, frozen=True):
    """One deposit, its lists resolved and its limits checked.

    Attributes:
        message_id: 16 bytes.
        addresses: 1 to 16,384 ids.
        body: the ciphertext.
        lifetime: seconds.
        fence: 32 bytes or None.
        large: drawn from the cap for large bodies.
        digest: ``proofs.deposit_digest``: the deposit is known again by it for 24 h.
    """

    message_id: bytes
    addresses: Sequence[bytes]
    body: bytes
    lifetime: int
    fence: bytes | None
    large: bool
    digest: bytes


class Accepted(Value, frozen=True):
    """The deposit stands for every address but the failed: pairs (index, Code.GONE or Code.FULL)."""

    failed: tuple[tuple[int, Code], ...]


@dataclass(frozen=True, slots=True)
class FenceLost:
    """Another deposit won the fence; nothing was stored."""


class StoredEntry(Value, frozen=True):
    """One entry of a mailbox's queue."""

    sequence: int
    message_id: bytes
    body: bytes
    fence: bytes | None


class Delivery(Value, frozen=True):
    """Committed entries and where they went.

    Attributes:
        entries: triples (message id, body, fence or None).
        recipients: triples (mailbox id, sequence of the first entry, how many of the entries the mailbox took); the
            sequences of the others follow on one another.
    """

    entries: Sequence[tuple[bytes, bytes, bytes | None]]
    recipients: Sequence[tuple[bytes, int, int]]


@dataclass(frozen=True, slots=True, repr=False)
class Winner:
    """Who won a fence: message id, BLAKE2b-256 of the body, body."""

    message_id: bytes
    digest: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Pool:
    """A prekey pool: suite, highest number accepted, highest issued, one-time packages left, last resort there."""

    suite: int
    uploaded: int
    issued: int
    left: int
    last_resort: bool


@dataclass(frozen=True, slots=True)
class SeenPool:
    """What the owner knows of a pool: suite, highest number uploaded, highest number seen used."""

    suite: int
    uploaded: int
    used: int


@dataclass(frozen=True, slots=True, repr=False)
class Subscription:
    """The answer to a subscription: see ``frames.Subscribed``; ``last_sequence`` bounds the backlog.

    ``spent``: addresses that were marked as spent since the subscription before.
    """

    incarnation: bytes
    owner_token: bytes
    acknowledged: int
    last_sequence: int
    pools: tuple[Pool, ...]
    spent: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Status:
    """Last sequence given, entries and body bytes waiting, pools."""

    sequence: int
    entries: int
    size: int
    pools: tuple[Pool, ...]


@dataclass(frozen=True, slots=True, repr=False)
class AddressSpec:
    """An address to register: id, cap in entries, frames.KIND_*."""

    address: bytes
    cap: int
    kind: int


@dataclass(frozen=True, slots=True, repr=False)
class PoolLow:
    """A claim took the pool below the low mark."""

    mailbox: bytes
    suite: int
    left: int


@dataclass(frozen=True, slots=True, repr=False)
class StoredSlot:
    """A slot's version and body."""

    version: int
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Holding:
    """One value that the store holds of a mailbox: the inventory's name for it, in which row, and the value."""

    name: str
    key: bytes
    value: bytes | int


@dataclass(frozen=True, slots=True)
class Totals:
    """What metrics show: counts and bytes of the whole store, nothing per mailbox."""

    mailboxes: int
    entries: int
    size: int


Claimed = bytes
"""One claim's outcome: a ClaimedPrekey, encoded as its requester gets it."""

GONE: Final[Claimed] = frames.encode_prekey(Code.GONE, 0, b"")
EMPTY: Final[Claimed] = frames.encode_prekey(Code.EMPTY, 0, b"")

Issued = tuple[Sequence[Claimed], Sequence[PoolLow]]
"""What a claim came to: the outcome for each address, and the pools that ran low."""

Listener = Callable[[Sequence[Delivery]], None]


class Watcher(Protocol):
    """Who is told, in the event loop, of what other processes over the same store did."""

    def wake(self, mailbox: bytes) -> None:
        """Entries wait that the listener was not told of: the mailbox's subscription has to read them."""
        ...

    def announce_told(self, deliveries: Sequence[Delivery]) -> None:
        """Another process committed these, for mailboxes that are, or were just now, subscribed to here."""
        ...

    def remind(self, mailbox: bytes, sequence: int) -> None:
        """The store knows of acknowledgements up to here and has later entries: tell it again what it has lost."""
        ...

    def replace(self, mailbox: bytes, owner_token: bytes) -> None:
        """The subscription of this token has lost the mailbox to a newer one in another process."""
        ...

    def lose(self, mailbox: bytes) -> None:
        """The store has another history than when the mailbox was subscribed to: that has to begin anew."""
        ...

    def announce_deleted(self, mailbox: bytes, but: None) -> None:
        """The mailbox was deleted."""
        ...

    def announce_low(self, lows: Sequence[PoolLow]) -> None:
        """Pools run low."""
        ...

    def announce_spent(self, mailbox: bytes, address: bytes) -> None:
        """An address of the mailbox is spent."""
        ...

    def announce_ephemeral(self, mailboxes: Sequence[bytes | None], message_id: bytes, body: bytes) -> None:
        """An entry that is not stored goes to those of the mailboxes that are subscribed to here."""
        ...


class Store(Protocol):
    """A store, open. Ids and sizes were checked by the caller; existence, quotas and versions are checked here."""

    @property
    def level(self) -> Level:
        """What "accepted" survives."""
        ...

    @property
    def failed(self) -> asyncio.Event:
        """Set once the store can never again be used: the relay has to stop."""
        ...

    @property
    def reachable(self) -> bool:
        """False while no server of a store on others is known to answer: another process may reach them."""
        ...

    def listen(self, listener: Listener) -> None:
        """Set who is told of deliveries, in the event loop, in the order of the commits."""
        ...

    def watch(self, watcher: Watcher) -> None:
        """Set who is told of what other processes did. A store of one process tells nothing."""
        ...

    async def close(self) -> None:
        """Commit what is pending and close. Calls that come later raise StoreUnavailable."""
        ...

    async def create_mailbox(self, mailbox: bytes, receive_key: bytes, code_hash: bytes | None) -> bytes | None:
        """Create the mailbox unless it exists; return its incarnation.

        If ``code_hash`` is given and the mailbox does not exist, the invite code of this hash is used up in the same
        transaction, for good; None is returned if there is no such code.
        """
        ...

    async def has_mailbox(self, mailbox: bytes) -> bool:
        """Say whether the mailbox exists."""
        ...

    async def delete_mailbox(self, mailbox: bytes) -> None:
        """Delete the mailbox, its addresses, entries and prekeys, if it exists."""
        ...

    async def subscribe(
        self, mailbox: bytes, incarnation: bytes, seen: int, pools: Sequence[SeenPool]
    ) -> Subscription | None:
        """Make the caller the mailbox's owner; None if there is no such mailbox.

        A new incarnation is taken if the one presented (unless empty) differs from the store's, if the store's last
        sequence is below ``seen``, if a pool is behind ``uploaded`` or ``used``, or if the mailbox was written under
        another epoch of the store. Then sequences go on above both, and the one-time prekeys are discarded.
        """
        ...

    async def release(self, mailbox: bytes, owner_token: bytes) -> None:
        """Forget the owner if it still is this one."""
        ...

    async def is_served(self, mailbox: bytes) -> bool:
        """Say whether a subscription has the mailbox, in this process or in another that is running."""
        ...

    def acknowledge(
        self, mailbox: bytes, owner_token: bytes, incarnation: bytes, sequence: int, exceptions: Sequence[int]
    ) -> "bool | asyncio.Future[bool]":
        """Delete every entry up to ``sequence`` but the exceptions. False if token or incarnation is stale.

        The answer is given at once where it is known at once.

        The one change that a crash may undo: entries acknowledged shortly before may come again.
        """
        ...

    async def read(self, mailbox: bytes, after: int, entries: int, size: int) -> Sequence[StoredEntry]:
        """Return unexpired entries with sequences above ``after``, ascending: at most ``entries``, and at most
        ``size`` bytes of bodies but at least one entry if there is any.
        """  # noqa: D205 -- one sentence
        ...

    async def status(self, mailbox: bytes) -> Status | None:
        """Return the mailbox's status; None if there is no such mailbox."""
        ...

    async def put_addresses(self, mailbox: bytes, addresses: Sequence[AddressSpec]) -> Code | None:
        """Register addresses, or change their cap and kind, all or none.

        NO_MAILBOX, or LIMIT above the mailbox's number of addresses. Those of another mailbox are left as they are.
        """
        ...

    async def revoke_addresses(self, mailbox: bytes, addresses: Sequence[bytes]) -> None:
        """Revoke those of the addresses that are this mailbox's."""
        ...

    async def put_prekeys(
        self, mailbox: bytes, suite: int, first: int, packages: Sequence[bytes], last_resort: bytes, *, replace: bool
    ) -> Code | None:
        """Append packages numbered from ``first``, skipping numbers not above the highest accepted.

        NO_MAILBOX, or LIMIT above MAILBOX_PREKEYS packages or MAX_SUITES pools (nothing is changed then).
        """
        ...

    def claim(self, suite: int, addresses: Sequence[bytes], spent: Collection[int] = ()) -> Awaitable[Issued]:
        """Take the lowest-numbered package of each address's pool, or its last resort. A number is issued once.

        ``spent``: positions of addresses that get the last resort alone.
        """
        ...

    def begin_claim(self, suite: int, addresses: Sequence[bytes], outcome: Outcome) -> None:
        """The same, with none of them spent, for whoever is told as soon as it is done."""
        ...

    async def mark_spent(self, address: bytes) -> bytes | None:
        """Keep for the next subscription that this address is spent; return its mailbox, or None.

        At most SPENT_KEPT of one mailbox are kept. Other processes are told at once.
        """
        ...

    async def resolve(self, addresses: Sequence[bytes]) -> Sequence[bytes | None]:
        """Return the mailbox behind each address: for ephemeral deposits, which are not stored."""
        ...

    async def pass_on(self, addresses: Sequence[bytes], message_id: bytes, body: bytes) -> Sequence[bytes | None]:
        """Resolve the addresses of an ephemeral deposit, and hand it to the other processes that have subscribers."""
        ...

    def deposit(self, deposit: Deposit) -> Awaitable[Accepted | FenceLost]:
        """Store a deposit for every address that can take it.

        A deposit that was stored for at least one address is known again by its digest, and answered as before.
        A fence is won even if no address can take the deposit; the winner's retry is Accepted.
        """
        ...

    def begin_deposit(self, deposit: Deposit, outcome: Outcome) -> None:
        """The same, for whoever is told as soon as it is done."""
        ...

    async def winner(self, fence: bytes) -> Winner | None:
        """Return who won the fence, if anybody did, for FENCE_LIFETIME and until the next sweep."""
        ...

    async def get_slot(self, slot: bytes) -> StoredSlot | None:
        """Return the slot unless it is absent or expired."""
        ...

    async def put_slot(self, slot: bytes, version: int, lifetime: int, body: bytes) -> bool:
        """Write the slot if its version is ``version`` - 1 (absent: 0). Writing the stored version and body again
        is True as well: a retry. False on any other version.
        """  # noqa: D205 -- one paragraph
        ...

    async def delete_slot(self, slot: bytes) -> None:
        """Delete the slot, if it exists."""
        ...

    async def add_codes(self, hashes: Sequence[bytes], lifetime: int) -> None:
        """Add hashes of invite codes, valid for ``lifetime`` seconds.

        One that is known already stays as it is, used up or not: a used one is kept until it would be void.
        """
        ...

    async def holdings(self, mailbox: bytes, after: bytes) -> tuple[Sequence[Holding], bytes]:
        """Return the next part of all that is held of the mailbox, and the cursor to go on with: empty at the end.

        ``after`` is empty, or the cursor of the part before (at most 32 bytes). A part has at most 1 MiB and may be
        empty. What changes meanwhile may be in it or not.
        """
        ...

    async def find(self, wanted: Callable[[bytes], bool]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return the ids of the mailboxes, and of the slots, that are wanted. Looks at all: rarely to be called."""
        ...

    async def scrub(self) -> None:
        """Leave no byte of what was deleted before this call in the store's files, nor in copies made after it."""
        ...

    async def sweep(self) -> None:
        """Drop what has expired."""
        ...

    async def totals(self) -> Totals:
        """Return counts for the metrics."""
        ...


async def overwrite(store: Store, slot: bytes, lifetime: int, body: bytes) -> None:
    """Put a slot of the relay's own, whatever is in it: whoever puts last has it."""
    while True:
        stored = await store.get_slot(slot)
        if await store.put_slot(slot, (stored.version if stored is not None else 0) + 1, lifetime, body):
            return
