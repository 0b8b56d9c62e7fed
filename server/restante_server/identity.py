"""The relay's own key: clients pin it, and it signs challenges and admission receipts. PROTOCOL.md section 4."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from restante_crypto import primitives, proofs
from restante_protocol import ids
from restante_server.stores.backup import KEY_NAME, tombstone_id
from restante_server.stores.contract import StoreRefused
from restante_server.stores.sqlite_schema import write_durably

_SEED_BYTES = 32
_CONSENT = b"restante consent"
_DERIVED = b"restante derived"
_LEDGER = b"restante ledger"
_SUBJECT = b"restante subject"


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 key pair."""

    public: bytes
    _seed: bytes = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the key beside the store, or make one. Raises StoreRefused if the file is no key."""
        path = folder / KEY_NAME
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(path, os.urandom(_SEED_BYTES))
        return cls._read(path)

    @classmethod
    async def share(cls, folder: Path, share_key: Callable[[bytes], Awaitable[bytes]]) -> Self:
        """Have the key that all relays over one store have; a copy is kept in the folder, should the store be lost.

        Args:
            folder: where the copy is.
            share_key: gives the store this key unless it has one, and returns the one that it has.

        Raises:
            StoreRefused: the folder has another key than the store, or no key.
        """
        path = folder / KEY_NAME
        exists = await asyncio.to_thread(path.exists)
        seed = (await asyncio.to_thread(path.read_bytes)) if exists else os.urandom(_SEED_BYTES)
        shared = await share_key(seed)
        if exists and shared != seed:
            raise StoreRefused(f"{path} is not the key of this store: remove it, if this relay is to take the store's")
        if not exists:
            await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
            await asyncio.to_thread(write_durably, path, shared)
        return await asyncio.to_thread(cls._read, path)

    @classmethod
    def _read(cls, path: Path) -> Self:
        seed = path.read_bytes()
        if len(seed) != _SEED_BYTES:
            raise StoreRefused(f"{KEY_NAME} is not a key of {_SEED_BYTES} bytes")
        return cls.of(seed)

    @classmethod
    def of(cls, seed: bytes) -> Self:
        """Return the key pair of a seed of 32 bytes."""
        return cls(primitives.ed25519_public(seed), seed)

    def welcome(self, client_nonce: bytes, relay_nonce: bytes) -> bytes:
        """Sign a Welcome over both nonces (32 bytes each)."""
        return primitives.ed25519_sign(self._seed, proofs.welcome_message(self.public, client_nonce, relay_nonce))

    def receipt(self, mailbox: bytes) -> bytes:
        """Sign an admission receipt: 64 bytes that admit this mailbox again after a loss."""
        return primitives.ed25519_sign(self._seed, proofs.admission_message(mailbox))

    def tombstone(self, identifier: bytes) -> bytes:
        """Return the id of the slot that keeps what is erased from coming back: see ``stores.backup``."""
        return tombstone_id(self._seed, identifier)

    def derived(self, what: str) -> bytes:
        """Return a secret of 32 bytes that all relays of this key have, and nobody who has another such secret."""
        key = primitives.blake2b(self._seed, size=32, person=_DERIVED)
        return primitives.blake2b(what.encode("ascii"), size=32, person=_DERIVED, key=key)

    def consent(self, mailbox: bytes, purpose: str) -> bytes:
        """Return the id of the slot that keeps a mailbox's consent: a hash keyed by the relay's key, in its bucket."""
        key = primitives.blake2b(self._seed, size=32, person=_CONSENT)
        hashed = primitives.blake2b(mailbox + purpose.encode("ascii"), size=ids.ID_BYTES - 1, person=_CONSENT, key=key)
        return mailbox[:1] + hashed

    def erased(self, mailbox: bytes, erased_at: int) -> bytes:
        """Sign that a mailbox was erased: 64 bytes."""
        return primitives.ed25519_sign(self._seed, proofs.erased_message(mailbox, erased_at))

    def publish(self, slot: bytes, version: int, content: bytes) -> bytes:
        """Sign what is published in a slot: 64 bytes."""
        return primitives.ed25519_sign(self._seed, proofs.public_message(slot, version, content))

    def sign(self, message: bytes) -> bytes:
        """Sign what ``proofs`` made: 64 bytes."""
        return primitives.ed25519_sign(self._seed, message)

    def subject(self, mailbox: bytes) -> bytes:
        """Return what stands for a mailbox in the log of disclosures: 32 bytes, a hash keyed by the relay's key."""
        return primitives.blake2b(mailbox, size=32, person=_SUBJECT, key=self._ledger_key())

    def ledger_slot(self, number: int) -> bytes:
        """Return the id of the slot of an entry of that log, which nobody else knows."""
        return b"\x00" + primitives.blake2b(number.to_bytes(8, "big"), size=23, person=_LEDGER, key=self._ledger_key())

    def _ledger_key(self) -> bytes:
        return primitives.blake2b(self._seed, size=32, person=_LEDGER)

    def admits(self, mailbox: bytes, receipt: bytes) -> bool:
        """Say whether this is a receipt for the mailbox; False for any other bytes."""
        return primitives.ed25519_verify(self.public, proofs.admission_message(mailbox), receipt)
