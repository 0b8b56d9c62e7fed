"""What this client keeps at the relay: addresses, prekeys and invites, made here first and registered by chores.

A chore is one request to the relay. The engine lists what is due, the shell sends it, and the engine marks it done:
cut at any point, it is listed again, and the relay takes every one of them twice without harm.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from restante.account import LeafData, capabilities, certify, credential, leaf_extensions
from restante.engine import records
from restante.engine.state import SUITE, State
from restante.invites import Invite, Manifest, ManifestDevice, seal_prekey
from restante_crypto import primitives, proofs, sealing
from restante_crypto.mls import KeyPackageBundle, Lifetime, create_key_package
from restante_protocol import frames, ids, limits

PREKEYS_KEPT: Final = 50  # one-time packages at the relay
PREKEYS_LOW: Final = limits.PREKEYS_LOW_MARK
SPARE_ADDRESSES: Final = 2  # for leaves that rotate
INVITE_CAP: Final = 1000  # entries through one manifest's address
KEY_PACKAGE_SECONDS: Final = 90 * 86_400
LAST_RESORT_SECONDS: Final = 7 * 86_400  # then a new last-resort package
MANIFEST_SECONDS: Final = 90 * 86_400
MANIFEST_RENEWAL: Final = 30 * 86_400  # renewed when less than this is left
REVOKE_AFTER: Final = 7 * 86_400  # late messages still reach a replaced address
USED_SECONDS: Final = 120 * 86_400  # how long a used KeyPackage is remembered
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

    def spare_address(self) -> bytes | None:
        """Return a registered address that nobody knows yet, or None while there is none."""
        for row in self._tables.addresses.rows(_purpose(records.PURPOSE_SPARE)):
            record = records.Address.unpack(row.value)
            if record.registered:
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

    def pool(self) -> records.Pool:
        """Return our side of the prekey pool."""
        stored = self._tables.account.get(b"pool")
        return records.Pool.unpack(stored) if stored else records.Pool()

    def uploaded(self) -> int:
        """Return the highest number that the relay has confirmed."""
        waiting = [row.sort for row in self._tables.prekeys.rows(_uploaded(uploaded=False))]
        return min([number - 1 for number in waiting if number <= self.pool().made], default=self.pool().made)

    def set_pool(self, **changes: object) -> None:
        """Change fields of the pool's record."""
        self.touched = True
        self._tables.account.put(b"pool", msgspec.structs.replace(self.pool(), **changes).pack())

    def new_key_package(self, address: bytes) -> KeyPackageBundle:
        """Make a KeyPackage whose leaf carries this address."""
        state = self._state
        now = state.now()
        return create_key_package(
            SUITE,
            signer=state.signer,
            credential=credential(state.me),
            capabilities=capabilities((SUITE,)),
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

    def keep_bundle(self, bundle: KeyPackageBundle, number: int, address: bytes, *, upload: bool = True) -> bytes:
        """Store the private halves; return the tag by which a Welcome for them is known."""
        tag = sealing.welcome_tag(bundle.key_package.init_key)
        record = records.Prekey(SUITE, number, bundle.to_bytes(), address, uploaded=not upload)
        group = _uploaded(uploaded=not upload)
        self._tables.prekeys.put(tag, record.pack(), group=group, sort=number or self._state.clock())
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
        pool = self.pool()
        self._tables.used_prekeys.put(tag, welcome_digest, sort=self._state.now())
        if record.number:
            self._tables.prekeys.delete(tag)
            self.set_pool(used=max(pool.used, record.number))

    def used_by(self, tag: bytes) -> bytes | None:
        """Return the digest of the Welcome that used this KeyPackage, if one did."""
        return self._tables.used_prekeys.get(tag)

    def _replenish(self) -> None:
        pool = self.pool()
        waiting = sum(
            1 for row in self._tables.prekeys.rows(_uploaded(uploaded=False)) if records.Prekey.unpack(row.value).number
        )
        if not pool.replace and pool.left + waiting >= PREKEYS_LOW and pool.made:
            missing = 0
        else:
            missing = PREKEYS_KEPT - pool.left - waiting
        for number in range(pool.made + 1, pool.made + 1 + max(0, missing)):
            address = self.new_address(records.PURPOSE_PREKEY)
            self.keep_bundle(self.new_key_package(address), number, address)
        if missing > 0:
            self.set_pool(made=pool.made + missing)
        now = self._state.now()
        if now - pool.last_resort_at >= LAST_RESORT_SECONDS:
            address = self.new_address(records.PURPOSE_PREKEY)
            bundle = self.new_key_package(address)
            for tag in self._last_resorts()[:-1]:  # the last one may still be in somebody's hand
                self._tables.prekeys.delete(tag)
            self.keep_bundle(bundle, 0, address)
            self.set_pool(last_resort_at=now)

    def _last_resorts(self) -> list[bytes]:
        rows = [row for row in self._tables.prekeys.rows() if records.Prekey.unpack(row.value).number == 0]
        return [row.key for row in sorted(rows, key=lambda row: row.sort)]

    # What the relay lost.

    def register_again(self) -> None:
        """The relay may hold nothing of this client: every address, prekey and invite becomes a chore."""
        for row in self._tables.addresses.rows():
            self._change_address(row.key, registered=False)
        for row in self._tables.invites.rows():
            record = records.InviteSlot.unpack(row.value)
            self._tables.invites.put(row.key, msgspec.structs.replace(record, stored=False).pack())
        for tag in self._last_resorts()[-1:]:
            self._set_uploaded(tag, uploaded=False)
        self.set_pool(left=0, used=self.pool().made)

    def discard_prekeys(self, at_relay: int) -> None:
        """This file is older than the relay's pool: forget every private half and start above the relay's number."""
        for row in self._tables.prekeys.rows():
            record = records.Prekey.unpack(row.value)
            self._tables.prekeys.delete(row.key)
            self._change_address(record.address, revoke_at=self._state.now())
        pool = self.pool()
        self.set_pool(
            made=max(pool.made, at_relay), used=max(pool.made, at_relay), left=0, replace=True, last_resort_at=0
        )

    # Invites.

    def new_invite(self) -> str:
        """Make an invite; it can be used once its slot and address are registered."""
        state = self._state
        write_seed, nonce = state.random(32), state.random(ids.ID_NONCE_BYTES)
        slot = proofs.slot_id(state.random(1)[0] % ids.BUCKETS, primitives.ed25519_public(write_seed), nonce)
        record = records.InviteSlot(write_seed, nonce, state.random(32), self.new_address(records.PURPOSE_INVITE))
        self._tables.invites.put(slot, record.pack())
        self.touched = True
        return self._invite(slot, record).text()

    def _invite(self, slot: bytes, record: records.InviteSlot) -> Invite:
        account = self._state.account
        return Invite(
            relay_url=account.relay_url,
            relay_key=account.relay_key,
            slot=slot,
            key=record.key,
            account=self._state.me,
        )

    def slot_frame(self, slot: bytes, stored_version: int, request: int) -> frames.SlotPut:
        """Return the request that writes an invite's manifest over this version of the slot (0: none)."""
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
                    pools=((SUITE, record.claim_address),),
                ),
            ),
        )
        body = manifest.seal(self._invite(slot, record), state.identity, state.random)
        write_key = primitives.ed25519_public(record.write_seed)
        version, lifetime = stored_version + 1, limits.MAX_SLOT_LIFETIME
        signed = proofs.slot_put_message(state.account.relay_key, slot, version, lifetime, body)
        return frames.SlotPut(
            request=request,
            slot=slot,
            write_key=write_key,
            nonce=record.nonce,
            version=version,
            lifetime=lifetime,
            body=body,
            signature=primitives.ed25519_sign(record.write_seed, signed),
        )

    # Chores.

    def chores(self) -> list[Chore]:
        """Make what is missing and list what the relay does not know yet: addresses before what names them."""
        self.touched = False
        self._replenish()
        for _ in range(self._tables.addresses.count(_purpose(records.PURPOSE_SPARE)), SPARE_ADDRESSES):
            self.new_address(records.PURPOSE_SPARE)
        return [*self._address_chores(), *self._prekey_chores(), *self._invite_chores()]

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

    def _prekey_chores(self) -> list[Chore]:
        pool = self.pool()
        last_resort = b""
        numbered: list[tuple[int, bytes]] = []
        for row in self._tables.prekeys.rows(_uploaded(uploaded=False)):
            record = records.Prekey.unpack(row.value)
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
                suite=SUITE,
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
            if not record.stored or record.expires - now < MANIFEST_RENEWAL:
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
                )
                self._tables.invites.put(chore.slot, changed.pack())

    def _prekeys_uploaded(self, chore: PutPrekeys) -> None:
        last = chore.first + len(chore.packages) - 1
        for row in self._tables.prekeys.rows(_uploaded(uploaded=False)):
            record = records.Prekey.unpack(row.value)
            sent = record.number == 0 if chore.last_resort else False
            if sent or chore.first <= record.number <= last:
                self._set_uploaded(row.key, uploaded=True)
        pool = self.pool()
        left = len(chore.packages) if chore.replace else pool.left + len(chore.packages)
        self.set_pool(left=left, replace=False)

    def _set_uploaded(self, tag: bytes, *, uploaded: bool) -> None:
        record = records.Prekey.unpack(self._tables.prekeys.get(tag) or b"")
        changed = msgspec.structs.replace(record, uploaded=uploaded)
        sort = record.number or self._state.clock()
        self._tables.prekeys.put(tag, changed.pack(), group=_uploaded(uploaded=uploaded), sort=sort)

    def prune(self) -> None:
        """Forget used KeyPackages after USED_SECONDS."""
        self._tables.used_prekeys.delete_below(self._state.now() - USED_SECONDS)


def _purpose(purpose: int) -> bytes:
    return bytes((purpose,))


def _uploaded(*, uploaded: bool) -> bytes:
    return b"\x01" if uploaded else b"\x00"


def _spec(address: bytes, record: records.Address) -> frames.AddressSpec:
    if record.purpose in {records.PURPOSE_INVITE, records.PURPOSE_PREKEY}:
        return frames.AddressSpec(address, record.nonce, INVITE_CAP, frames.KIND_INVITE)
    return frames.AddressSpec(address, record.nonce, limits.ADDRESS_ENTRIES, frames.KIND_CONVERSATION)
