"""What this client keeps at the relay: addresses, prekeys and invites, made here first and registered by chores.

A chore is one request to the relay. The engine lists what is due, the shell sends it, and the engine marks it done:
cut at any point, it is listed again, and the relay takes every one of them twice without harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from restante.account import LeafData, capabilities, certify, credential, leaf_extensions
from restante.engine import records
from restante.engine.state import State
from restante.invites import Invite, Manifest, ManifestDevice, seal_prekey
from restante.slots import SlotKeys
from restante_crypto import proofs, sealing
from restante_crypto.mls import KeyPackageBundle, Lifetime, create_key_package
from restante_protocol import frames, ids, limits

PREKEYS_KEPT: Final = 50  # one-time packages of the preferred suite at the relay
OTHER_PREKEYS_KEPT: Final = 25  # of each other suite: only for who offers nothing better
PREKEYS_LOW: Final = limits.PREKEYS_LOW_MARK
SPARE_ADDRESSES: Final = 2  # for leaves that rotate
INVITE_CAP: Final = 1000  # entries through one manifest's address
KEY_PACKAGE_SECONDS: Final = 90 * 86_400
LAST_RESORT_SECONDS: Final = 7 * 86_400  # then a new last-resort package
MANIFEST_SECONDS: Final = 90 * 86_400
MANIFEST_RENEWAL: Final = 30 * 86_400  # renewed when less than this is left
REVOKE_AFTER: Final = 7 * 86_400  # late messages still reach a replaced address
USED_SECONDS: Final = 120 * 86_400  # how long a used KeyPackage is remembered
_FIRST_SUITE: Final = 0x0003  # the only one once: its pool has no number in its name
OFFERED: Final = -1  # the number of a KeyPackage that is in no pool
_OFFERS: Final = b"offers"
_KEY_PACKAGE_SKEW: Final = 86_400  # clocks differ


@dataclass(frozen=True, slots=True, repr=False)
class PutAddresses:
    """Register these addresses (on the receiving connection)."""

    addresses: list[frames.AddressSpec]


@dataclass(frozen=True, slots=True, repr=False)
class RevokeAddresses:
    """Revoke these addresses (receiving connection)."""

    addresses: list[bytes]


@dataclass(frozen=True, slots=True, repr=False)
class PutPrekeys:
    """Upload packages (receiving connection)."""

    suite: int
    first: int
    packages: list[bytes]
    last_resort: bytes
    replace: bool


@dataclass(frozen=True, slots=True, repr=False)
class PutSlot:
    """Write an invite's manifest (anonymous connection): get the slot's version, then ``Mailroom.slot_frame``."""

    slot: bytes


Chore = PutAddresses | RevokeAddresses | PutPrekeys | PutSlot


class Mailroom:
    """Addresses, prekeys and invites of this device."""

    def __init__(self, state: State) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._tables = state.tables
        self.touched = True  # whether there may be chores

    # Addresses.

    def new_address(self, purpose: int, conversation: bytes = b"") -> bytes:
        """Make an address; a chore registers it."""
        account = self._state.account
        nonce = self._state.random(ids.ID_NONCE_BYTES)
        address = proofs.address_id(account.bucket, self._state.receive_key, nonce)
        self._put_address(address, records.Address(nonce, purpose, conversation))
        return address

    def spare_address(self, besides: bytes = b"") -> bytes | None:
        """Return a registered address that nobody knows yet, another one than ``besides``; None while there is none."""
        for row in self._tables.addresses.rows(_purpose(records.PURPOSE_SPARE)):
            record = records.Address.unpack(row.value)
            if record.registered and row.key != besides:
                return row.key
        return None

    def use_address(self, address: bytes, conversation: bytes) -> None:
        """The address now stands in our leaf of this conversation."""
        self._change_address(
            address, purpose=records.PURPOSE_CONVERSATION, conversation=conversation, registered=False, revoke_at=0
        )

    def retire_address(self, address: bytes, *, at_once: bool = False) -> None:
        """Revoke the address after REVOKE_AFTER, or now. A last-resort package's address is shared and stays."""
        if self._is_last_resort(address):
            return
        now = self._state.now()
        self._change_address(address, revoke_at=now if at_once else now + REVOKE_AFTER)

    def _is_last_resort(self, address: bytes) -> bool:
        return any(
            record.number == 0 and record.address == address
            for record in (records.Prekey.unpack(row.value) for row in self._tables.prekeys.rows())
        )

    def _put_address(self, address: bytes, record: records.Address) -> None:
        self.touched = True
        self._tables.addresses.put(address, record.pack(), group=_purpose(record.purpose))

    def _change_address(self, address: bytes, **changes: object) -> None:
        stored = self._tables.addresses.get(address)
        if stored is not None:
            self._put_address(address, msgspec.structs.replace(records.Address.unpack(stored), **changes))

    # Prekeys.

    def pool(self, suite: int) -> records.Pool:
        """Return our side of a suite's prekey pool."""
        stored = self._tables.account.get(_pool_key(suite))
        return records.Pool.unpack(stored) if stored else records.Pool()

    def pools(self) -> list[frames.PoolState]:
        """Return what the relay is told of our pools: highest numbers that it has confirmed, and seen used."""
        return [frames.PoolState(suite, self._confirmed(suite), self.pool(suite).used) for suite in self._state.suites]

    def _confirmed(self, suite: int) -> int:
        made = self.pool(suite).made
        return min([record.number - 1 for _, record in self._waiting(suite) if record.number > 0], default=made)

    def _waiting(self, suite: int) -> list[tuple[bytes, records.Prekey]]:
        """Return (tag, package) of what the relay has not confirmed."""
        waiting = self._tables.prekeys.rows(_uploaded(uploaded=False))
        found = ((row.key, records.Prekey.unpack(row.value)) for row in waiting)
        return [(tag, record) for tag, record in found if record.suite == suite]

    def set_pool(self, suite: int, **changes: object) -> None:
        """Change fields of a pool's record."""
        self.touched = True
        self._tables.account.put(_pool_key(suite), msgspec.structs.replace(self.pool(suite), **changes).pack())

    def counted(self, pools: Sequence[frames.PoolCount]) -> None:
        """The relay says how many packages are left."""
        left = {pool.suite: pool.left for pool in pools}
        for suite in self._state.suites:
            self.set_pool(suite, left=left.get(suite, 0))

    def new_key_package(self, address: bytes, suite: int) -> KeyPackageBundle:
        """Make a KeyPackage whose leaf carries this address."""
        state = self._state
        now = state.now()
        return create_key_package(
            suite,
            signer=state.signer,
            credential=credential(state.me),
            capabilities=capabilities(state.suites),
            lifetime=Lifetime(now - _KEY_PACKAGE_SKEW, now + KEY_PACKAGE_SECONDS),
            leaf_extensions=leaf_extensions(self.leaf(address)),
            random=state.random,
        )

    def leaf(self, address: bytes) -> LeafData:
        """Return what our leaf says beside MLS, with this address."""
        state = self._state
        return LeafData(
            certificate=certify(state.identity, state.signer.public),
            address=address,
            relay_url=state.account.relay_url,
            relay_key=state.account.relay_key,
        )

    def keep_bundle(self, bundle: KeyPackageBundle, number: int, address: bytes) -> None:
        """Store the private halves under the tag by which a Welcome for them is known."""
        tag = sealing.welcome_tag(bundle.key_package.init_key)
        record = records.Prekey(bundle.key_package.suite, number, bundle.to_bytes(), address)
        group = _uploaded(uploaded=False)
        self._tables.prekeys.put(tag, record.pack(), group=group, sort=number or self._state.clock())

    def keep_offer(self, bundle: KeyPackageBundle, address: bytes) -> bytes:
        """Store the private halves of a KeyPackage that goes into a leaf, not to the relay; return its tag."""
        tag = sealing.welcome_tag(bundle.key_package.init_key)
        record = records.Prekey(bundle.key_package.suite, OFFERED, bundle.to_bytes(), address, uploaded=True)
        self._tables.prekeys.put(tag, record.pack(), group=_OFFERS, sort=self._state.now())
        return tag

    def bundle(self, tag: bytes) -> records.Prekey | None:
        """Return the KeyPackage that a Welcome with this tag is for."""
        stored = self._tables.prekeys.get(tag)
        return records.Prekey.unpack(stored) if stored else None

    def use_bundle(self, tag: bytes, welcome_digest: bytes) -> None:
        """A Welcome took it: a one-time package is deleted, and a second Welcome for it will be noticed."""
        record = self.bundle(tag)
        if record is None:
            return
        pool = self.pool(record.suite)
        self._tables.used_prekeys.put(tag, welcome_digest, sort=self._state.now())
        if record.number:
            self._tables.prekeys.delete(tag)
            self.set_pool(record.suite, used=max(pool.used, record.number))

    def used_by(self, tag: bytes) -> bytes | None:
        """Return the digest of the Welcome that used this KeyPackage, if one did."""
        return self._tables.used_prekeys.get(tag)

    def _replenish(self, suite: int, kept: int) -> None:
        pool = self.pool(suite)
        waiting = sum(1 for _, record in self._waiting(suite) if record.number)
        if not pool.replace and pool.left + waiting >= PREKEYS_LOW and pool.made:
            missing = 0
        else:
            missing = kept - pool.left - waiting
        for number in range(pool.made + 1, pool.made + 1 + max(0, missing)):
            address = self.new_address(records.PURPOSE_PREKEY)
            self.keep_bundle(self.new_key_package(address, suite), number, address)
        if missing > 0:
            self.set_pool(suite, made=pool.made + missing)
        now = self._state.now()
        if now - pool.last_resort_at >= LAST_RESORT_SECONDS:
            address = self.new_address(records.PURPOSE_PREKEY)
            bundle = self.new_key_package(address, suite)
            for tag in self._last_resorts(suite)[:-1]:  # the last one may still be in somebody's hand
                self._tables.prekeys.delete(tag)
            self.keep_bundle(bundle, 0, address)
            self.set_pool(suite, last_resort_at=now)

    def _last_resorts(self, suite: int) -> list[bytes]:
        rows = [(row, records.Prekey.unpack(row.value)) for row in self._tables.prekeys.rows()]
        found = [row for row, record in rows if record.number == 0 and record.suite == suite]
        return [row.key for row in sorted(found, key=lambda row: row.sort)]

    # What the relay lost.

    def register_again(self) -> None:
        """The relay may hold nothing of this client: every address, prekey and invite becomes a chore."""
        for row in self._tables.addresses.rows():
            self._change_address(row.key, registered=False)
        for row in self._tables.invites.rows():
            record = records.InviteSlot.unpack(row.value)
            self._tables.invites.put(row.key, msgspec.structs.replace(record, stored=False).pack())
        for suite in self._state.suites:
            for tag in self._last_resorts(suite)[-1:]:
                self._set_uploaded(tag, uploaded=False)
            self.set_pool(suite, left=0, used=self.pool(suite).made)

    def discard_prekeys(self, at_relay: Sequence[frames.PoolCount]) -> None:
        """This file is older than the relay's pools: forget every private half and start above the relay's numbers."""
        for row in self._tables.prekeys.rows():
            record = records.Prekey.unpack(row.value)
            self._tables.prekeys.delete(row.key)
            self._change_address(record.address, revoke_at=self._state.now())
        numbers = {pool.suite: pool.uploaded for pool in at_relay}
        for suite in self._state.suites:
            above = max(self.pool(suite).made, numbers.get(suite, 0))
            self.set_pool(suite, made=above, used=above, left=0, replace=True, last_resort_at=0)

    # Invites.

    def new_invite(self) -> str:
        """Make an invite; it can be used once its slot and address are registered."""
        state = self._state
        keys = SlotKeys.make(state.random)
        key, address = state.random(32), self.new_address(records.PURPOSE_INVITE)
        record = records.InviteSlot(keys.write_seed, keys.nonce, key, address)
        self._tables.invites.put(keys.slot, record.pack())
        self.touched = True
        return self._invite(keys.slot, record).text()

    def _invite(self, slot: bytes, record: records.InviteSlot) -> Invite:
        account = self._state.account
        return Invite(
            relay_url=account.relay_url,
            relay_key=account.relay_key,
            slot=slot,
            key=record.key,
            account=self._state.me,
        )

    def invite_with(self, address: bytes) -> str:
        """Return the text of the invite whose claims go through this address, or nothing."""
        for row in self._tables.invites.rows():
            record = records.InviteSlot.unpack(row.value)
            if record.claim_address == address:
                return self._invite(row.key, record).text()
        return ""

    def slot_frame(self, slot: bytes, stored_version: int) -> frames.SlotPut:
        """Return the request, numbered 0, that writes an invite's manifest over this version of the slot (0: none)."""
        state = self._state
        record = records.InviteSlot.unpack(self._tables.invites.get(slot) or b"")
        manifest = Manifest(
            version=record.manifest_version + 1,
            account=state.me,
            expires=state.now() + MANIFEST_SECONDS,
            devices=(
                ManifestDevice(
                    signature_key=state.signer.public,
                    certificate=certify(state.identity, state.signer.public),
                    prekey_key=state.account.prekey_key,
                    pools=tuple((suite, record.claim_address) for suite in state.suites),
                ),
            ),
        )
        body = manifest.seal(self._invite(slot, record), state.identity, state.random)
        keys = _slot_keys(slot, record)
        return keys.put(state.account.relay_key, stored_version + 1, limits.MAX_SLOT_LIFETIME, body)

    def slots(self) -> list[bytes]:
        """Return the slots of all invites."""
        return [row.key for row in self._tables.invites.rows()]

    def expiries(self) -> list[tuple[bytes, int]]:
        """Return the same, each with when the relay drops it (Unix seconds; 0: it is not put yet)."""
        found = ((row.key, records.InviteSlot.unpack(row.value).expires) for row in self._tables.invites.rows())
        longer = limits.MAX_SLOT_LIFETIME - MANIFEST_SECONDS  # than the manifest in it
        return [(slot, expires + longer if expires else 0) for slot, expires in found]

    def slot_deletion(self, slot: bytes) -> frames.SlotDelete:
        """Return the request, numbered 0, that deletes a slot."""
        record = records.InviteSlot.unpack(self._tables.invites.get(slot) or b"")
        return _slot_keys(slot, record).delete(self._state.account.relay_key)

    def forget_invite(self, slot: bytes) -> None:
        """An invite's slot is deleted: nobody is to use its address any more."""
        stored = self._tables.invites.get(slot)
        if stored is not None:
            self._tables.invites.delete(slot)
            self.retire_address(records.InviteSlot.unpack(stored).claim_address)

    # Chores.

    def chores(self) -> list[Chore]:
        """Make what is missing and list what the relay does not know yet: addresses before what names them."""
        self.touched = False
        for suite in self._state.suites:
            self._replenish(suite, PREKEYS_KEPT if suite == self._state.suites[0] else OTHER_PREKEYS_KEPT)
        for _ in range(self._tables.addresses.count(_purpose(records.PURPOSE_SPARE)), SPARE_ADDRESSES):
            self.new_address(records.PURPOSE_SPARE)
        prekeys = [chore for suite in self._state.suites for chore in self._prekey_chores(suite)]
        return [*self._address_chores(), *prekeys, *self._invite_chores()]

    def _address_chores(self) -> list[Chore]:
        now = self._state.now()
        put: list[frames.AddressSpec] = []
        revoke: list[bytes] = []
        for row in self._tables.addresses.rows():
            record = records.Address.unpack(row.value)
            if record.revoke_at and record.revoke_at <= now:
                revoke.append(row.key)
            elif not record.registered:
                put.append(_spec(row.key, record))
        size = limits.MAX_ADDRESS_BATCH
        chores: list[Chore] = [PutAddresses(put[i : i + size]) for i in range(0, len(put), size)]
        chores += [RevokeAddresses(revoke[i : i + size]) for i in range(0, len(revoke), size)]
        return chores

    def _prekey_chores(self, suite: int) -> list[Chore]:
        pool = self.pool(suite)
        last_resort = b""
        numbered: list[tuple[int, bytes]] = []
        for _, record in self._waiting(suite):
            package = KeyPackageBundle.from_bytes(record.bundle).key_package.encode()
            sealed = seal_prekey(self._state.account.prekey_key, package, self._state.random)
            if record.number:
                numbered.append((record.number, sealed))
            else:
                last_resort = sealed
        if not numbered and not last_resort:
            return []
        numbered.sort()
        numbered = numbered[: limits.MAX_PREKEY_BATCH]
        return [
            PutPrekeys(
                suite=suite,
                first=numbered[0][0] if numbered else pool.made + 1,
                packages=[package for _, package in numbered],
                last_resort=last_resort,
                replace=pool.replace,
            )
        ]

    def _invite_chores(self) -> list[Chore]:
        now = self._state.now()
        due: list[Chore] = []
        for row in self._tables.invites.rows():
            record = records.InviteSlot.unpack(row.value)
            offered = record.suites == self._state.suites
            if not record.stored or not offered or record.expires - now < MANIFEST_RENEWAL:
                due.append(PutSlot(row.key))
        return due

    def done(self, chore: Chore) -> None:
        """The relay has confirmed the chore."""
        match chore:
            case PutAddresses():
                for spec in chore.addresses:
                    self._change_address(spec.address, registered=True)
            case RevokeAddresses():
                for address in chore.addresses:
                    self._tables.addresses.delete(address)
            case PutPrekeys():
                self._prekeys_uploaded(chore)
            case PutSlot():
                record = records.InviteSlot.unpack(self._tables.invites.get(chore.slot) or b"")
                changed = msgspec.structs.replace(
                    record,
                    stored=True,
                    manifest_version=record.manifest_version + 1,
                    expires=self._state.now() + MANIFEST_SECONDS,
                    suites=self._state.suites,
                )
                self._tables.invites.put(chore.slot, changed.pack())

    def _prekeys_uploaded(self, chore: PutPrekeys) -> None:
        last = chore.first + len(chore.packages) - 1
        for tag, record in self._waiting(chore.suite):
            sent = record.number == 0 if chore.last_resort else False
            if sent or chore.first <= record.number <= last:
                self._set_uploaded(tag, uploaded=True)
        pool = self.pool(chore.suite)
        left = len(chore.packages) if chore.replace else pool.left + len(chore.packages)
        self.set_pool(chore.suite, left=left, replace=False)

    def _set_uploaded(self, tag: bytes, *, uploaded: bool) -> None:
        record = records.Prekey.unpack(self._tables.prekeys.get(tag) or b"")
        changed = msgspec.structs.replace(record, uploaded=uploaded)
        sort = record.number or self._state.clock()
        self._tables.prekeys.put(tag, changed.pack(), group=_uploaded(uploaded=uploaded), sort=sort)

    def prune(self) -> None:
        """Forget used KeyPackages after USED_SECONDS, and offers that were not taken up before their end."""
        self._tables.prekeys.delete_below(self._state.now() - KEY_PACKAGE_SECONDS, _OFFERS)
        self._tables.used_prekeys.delete_below(self._state.now() - USED_SECONDS)


def _pool_key(suite: int) -> bytes:
    return b"pool" if suite == _FIRST_SUITE else b"pool" + suite.to_bytes(2, "big")


def _purpose(purpose: int) -> bytes:
    return bytes((purpose,))


def _uploaded(*, uploaded: bool) -> bytes:
    return b"\x01" if uploaded else b"\x00"


def _slot_keys(slot: bytes, record: records.InviteSlot) -> SlotKeys:
    return SlotKeys(record.write_seed, record.nonce, bucket=slot[0])


def _spec(address: bytes, record: records.Address) -> frames.AddressSpec:
    if record.purpose in {records.PURPOSE_INVITE, records.PURPOSE_PREKEY}:
        return frames.AddressSpec(address, record.nonce, INVITE_CAP, frames.KIND_INVITE)
    return frames.AddressSpec(address, record.nonce, limits.ADDRESS_ENTRIES, frames.KIND_CONVERSATION)
