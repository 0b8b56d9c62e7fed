"""What all parts of the engine share: the file's tables, the account's keys, the clock, and the queue of events."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from restante.account import Identity, account_id
from restante.engine import records
from restante.engine.events import Events
from restante.file import ClientFile, Table
from restante_crypto import primitives, proofs
from restante_crypto.mls import SignatureKeyPair
from restante_crypto.suites import XWING
from restante_protocol import ids

REFUSED_SECONDS: Final = 3600  # until what the relay refuses for now is tried again
_ACCOUNT: Final = b"account"
_POSITION: Final = b"position"
_KNOWN: Final = b"\x01"
_VERIFIED: Final = b"verified"  # then an account, in the contacts' table
_CLASSICAL: Final = 0x0003
"""X25519, ChaCha20-Poly1305, SHA-256, Ed25519: for whoever offers nothing better."""


@dataclass(frozen=True, slots=True, repr=False)
class Tables:
    """The file's tables; the attribute names are those of records.TABLES."""

    account: Table
    addresses: Table
    prekeys: Table
    used_prekeys: Table
    invites: Table
    contacts: Table
    conversations: Table
    groups: Table
    messages: Table
    past_groups: Table
    past_messages: Table
    epochs: Table
    outbox: Table
    deposits: Table
    commits: Table
    intents: Table
    winners: Table
    sent: Table
    seen: Table
    numbers: Table
    held: Table
    events: Table
    resyncs: Table
    recent: Table
    opened: Table
    devices: Table
    blobs: Table
    awaited: Table
    rosters: Table
    resync_keys: Table
    resync_answers: Table
    rejoins: Table
    downloads: Table


class State:
    """The file, opened. Everything that changes it does so inside ``transaction``.

    Attributes:
        tables: the file's tables.
        events: what the application is to be told.
        random: n -> n random bytes.
        identity: the account's identity key.
        signer: the device's signature key pair.
        mailbox: the mailbox's id.
        suites: the cipher suites that we offer, the preferred one first.
    """

    def __init__(
        self, file: ClientFile, relay_url: str, *, random: primitives.Random, clock: Callable[[], int]
    ) -> None:
        """Read the account, or make one. ``clock`` returns Unix milliseconds."""
        self.file = file
        self.tables = Tables(*(file.table(name) for name in records.TABLES))
        self.random = random
        self.clock = clock
        self.forgetters: list[Callable[[], None]] = []
        self.after_commit: list[Callable[[], None]] = []
        self.events = Events(self.tables.events, self.transaction)
        stored = self.tables.account.get(_ACCOUNT)
        if stored is None:
            self.account = records.Account(
                identity_seed=random(32),
                device_seed=random(32),
                receive_seed=random(32),
                bucket=ids.bucket_from(random(ids.BUCKET_ENTROPY_BYTES)),
                mailbox_nonce=random(ids.ID_NONCE_BYTES),
                prekey_key=random(32),
                relay_url=relay_url,
            )
            with self.transaction():
                self._put_account()
        else:
            self.account = records.Account.unpack(stored)
            if self.account.relay_url != relay_url:
                with self.transaction():
                    self.set_account(msgspec.structs.replace(self.account, relay_url=relay_url))
        self.suites = (XWING, _CLASSICAL) if primitives.has_ml_kem_768() else (_CLASSICAL,)
        self.identity = Identity(self.account.identity_seed)
        self.signer = SignatureKeyPair(primitives.ed25519_public(self.account.device_seed), self.account.device_seed)
        self.receive_key = primitives.ed25519_public(self.account.receive_seed)
        self.mailbox = proofs.mailbox_id(self.account.bucket, self.receive_key, self.account.mailbox_nonce)
        self.forgetters += [self._read_position, self.events.load]
        self._read_position()

    @property
    def me(self) -> bytes:
        """The account's public key."""
        return self.identity.public

    @property
    def my_id(self) -> str:
        """The account's id as applications see it."""
        return account_id(self.identity.public)

    def now(self) -> int:
        """Return Unix seconds."""
        return self.clock() // 1000

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Change the file all or nothing; on failure what is cached in memory is forgotten too."""
        try:
            with self.file.transaction():
                yield
        except BaseException:
            self.after_commit.clear()
            for forget in self.forgetters:
                forget()
            raise
        actions, self.after_commit[:] = tuple(self.after_commit), ()
        for action in actions:
            action()

    def set_account(self, account: records.Account) -> None:
        """Replace the account's record."""
        self.account = account
        self._put_account()

    def _put_account(self) -> None:
        self.tables.account.put(_ACCOUNT, self.account.pack())

    def _read_position(self) -> None:
        stored = self.tables.account.get(_POSITION)
        self.position = records.Position.unpack(stored) if stored else records.Position()

    def set_position(self, position: records.Position) -> None:
        """Replace how far the mailbox is processed."""
        self.position = position
        self.tables.account.put(_POSITION, position.pack())

    def meet(self, account: bytes, device: bytes, conversation: bytes, *, hold: bytes = b"") -> None:
        """Know a device by its signature key; another one of an account that is known already is an event."""
        if self.tables.devices.get(device) is not None:
            return
        if self.tables.devices.exists(account):
            self.events.emit(records.DeviceEvent(conversation, account), hold=hold)
        self.tables.devices.put(device, b"\x01", group=account)

    def fail(self, cause: str, advice: str, conversation: bytes = b"") -> None:
        """Queue a DecryptFailed."""
        self.events.emit(records.FailedEvent(conversation=conversation, cause=cause, advice=advice))

    def is_contact(self, account: bytes) -> bool:
        """Say whether the account is known: invited or accepted."""
        return self.tables.contacts.get(account) is not None

    def add_contact(self, account: bytes) -> None:
        """Know the account from now on."""
        self.tables.contacts.put(account, _KNOWN)

    def contacts(self) -> list[bytes]:
        """Return all accounts that are known."""
        rows = self.tables.contacts.rows()
        return sorted(row.key for row in rows if row.value == _KNOWN and len(row.key) == ids.KEY_BYTES)

    def verify(self, account: bytes) -> None:
        """Safety numbers were compared."""
        self.tables.contacts.put(_VERIFIED + account, _KNOWN)

    def is_verified(self, account: bytes) -> bool:
        """Say whether safety numbers were compared."""
        return self.tables.contacts.get(_VERIFIED + account) is not None
