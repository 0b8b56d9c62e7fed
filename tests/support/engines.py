"""Engines against each other over a relay that is a few dictionaries, with a clock that moves by hand.

What reaches whom, when and how often is the test's to say: this is what a hostile relay does.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from restante.account import Identity, LeafData, capabilities, certify, credential, leaf_extensions
from restante.engine import records
from restante.engine.consents import PutConsent
from restante.engine.conversations import Conversation
from restante.engine.directory import DropEntry, PutEntry
from restante.engine.engine import Engine
from restante.engine.inbox import Entry
from restante.engine.mailroom import PutPrekeys, PutSlot
from restante.engine.outbox import Answer, Job
from restante.engine.parcels import Delete
from restante.engine.push import LookPush
from restante.invites import Invite, Manifest
from restante_crypto import primitives, proofs
from restante_crypto.blobs import Encoder
from restante_crypto.mls import KeyPackage, Lifetime, SignatureKeyPair, create_key_package
from restante_protocol import frames

RELAY_KEY = bytes(32)


def stranger(suite: int, relay_key: bytes = RELAY_KEY, now: int = 1_800_000_000) -> KeyPackage:
    """A KeyPackage of somebody who has no engine and never reads anything."""
    seed = os.urandom(32)
    identity, device = Identity(os.urandom(32)), SignatureKeyPair(primitives.ed25519_public(seed), seed)
    leaf = LeafData(
        certificate=certify(identity, device.public),
        address=proofs.address_id(1, device.public, os.urandom(16)),
        relay_url="http://relay",
        relay_key=relay_key,
    )
    return create_key_package(
        suite,
        signer=device,
        credential=credential(identity.public),
        capabilities=capabilities((suite,)),
        lifetime=Lifetime(now - 86_400, now + 86_400),
        leaf_extensions=leaf_extensions(leaf),
        random=os.urandom,
    ).key_package


class Clock:
    """Unix milliseconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def pass_seconds(self, seconds: int) -> None:
        self.now += seconds * 1000


@dataclass
class Post:
    """The relay: who owns an address, who won a fence, what was claimed."""

    owners: dict[bytes, "Member"] = field(default_factory=dict)
    fences: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    slots: dict[bytes, bytes] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    uploads: int = 0

    def deposit(self, job: Job) -> bool:
        """Deliver a job; False if its fence was lost."""
        if job.fence is not None:
            won = self.fences.setdefault(job.fence, (job.message_id, job.body))
            if won != (job.message_id, job.body):
                return False
        for address in job.addresses:
            if address in self.owners:
                self.owners[address].arrive(job.message_id, job.body, job.fence)
        return True


class Member:
    """An engine and its mailbox.

    Attributes:
        waiting: entries that the relay has for it.
        events: what it has told the application, oldest first.
    """

    def __init__(self, post: Post, folder: Path, name: str, clock: Clock, *, device_of: "Member | None" = None) -> None:
        self.post = post
        self.clock = clock
        self.path = folder / f"{name}.db"
        self.waiting: list[Entry] = []
        self.prekeys: dict[int, list[bytes]] = {}
        self.last_resort: dict[int, bytes] = {}
        self.engine = self._open()
        if device_of is not None:
            self._become(device_of)
        self.engine.pin_relay(RELAY_KEY)
        self.engine.subscribed(frames.Subscribed(1, b"i" * 16, b"t" * 8, 0, []))
        self.sequence = 0
        self.do_chores()

    def _open(self) -> Engine:
        return Engine.open(self.path, b"passphrase", "http://relay", random=os.urandom, clock=self.clock)

    def _become(self, other: "Member") -> None:
        """Be another device of the same account."""
        state = self.engine._state
        with state.transaction():
            seed = other.engine._state.account.identity_seed
            state.set_account(msgspec.structs.replace(state.account, identity_seed=seed))
        self.reopen()

    def reopen(self) -> None:
        self.engine.close()
        self.engine = self._open()

    def arrive(self, message_id: bytes, body: bytes, fence: bytes | None) -> Entry:
        self.sequence += 1
        entry = Entry(self.sequence, message_id, body, fence)
        self.waiting.append(entry)
        return entry

    def read(self) -> None:
        """Process what waits, and fetch what that needs."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            self.engine.receive(waiting)
        self.do_parcels()

    def do_parcels(self) -> None:
        """Fetch and delete blobs."""
        while works := self.engine.parcels():
            for work in works:
                if isinstance(work, Delete):
                    self.post.blobs.pop(work.keys.blob, None)
                    self.engine.deleted(work.keys.blob)
                elif (sealed := self.post.blobs.get(work.reference.blob)) is not None:
                    self.engine.fetched(work.reference, sealed)
                else:
                    self.engine.not_fetched(work, 0, lost=True)

    def deposit(self, job: Job) -> bool:
        """Bring the blobs of a job to the relay, then deposit it; False if its fence was lost."""
        for blob in job.blobs:
            if (upload := self.engine.upload(blob)) is not None:
                encoder = Encoder(upload.keys.key)
                self.post.blobs[blob] = encoder.update(upload.content) + encoder.finish()[0]
                self.post.uploads += 1
                self.engine.uploaded(blob)
        return self.post.deposit(job)

    def follow(self) -> None:
        """Ask who won the fences that this member waits for, as long as somebody has."""
        followed = True
        while followed:
            followed = False
            for fence in self.engine.suspect_fences():
                if fence in self.post.fences:
                    self.engine.fence_winner(fence, *self.post.fences[fence])
                    followed = True
        self.engine.caught_up()

    def do_chores(self) -> None:
        for chore in self.engine.chores.due():
            match chore:
                case PutPrekeys():
                    self.prekeys.setdefault(chore.suite, []).extend(chore.packages)
                    if chore.last_resort:
                        self.last_resort[chore.suite] = chore.last_resort
                case PutSlot(slot=slot):
                    self.post.slots[slot] = self.engine.chores.slot_frame(slot, 0).body
                case PutConsent():
                    pass  # this relay has no purposes
                case _:
                    for spec in chore.addresses:
                        if isinstance(spec, frames.AddressSpec):
                            self.post.owners[spec.address] = self
                        else:
                            self.post.owners.pop(spec, None)
            assert not isinstance(chore, PutEntry | DropEntry | LookPush), "neither here"
            self.engine.chores.done(chore)

    def invite(self) -> str:
        text = self.engine.new_invite()
        self.do_chores()
        return text

    def claim(self, text: str, owner: "Member", *, last_resort: bool = False) -> KeyPackage:
        """Take a KeyPackage of the owner by an invite."""
        invite: Invite = self.engine.claims.read_invite(text)
        manifest: Manifest = self.engine.claims.read_manifest(invite, self.post.slots[invite.slot])
        suite = self.engine.claims.choose_suite([manifest])
        empty = last_resort or not owner.prekeys.get(suite)
        package = owner.last_resort[suite] if empty else owner.prekeys[suite].pop(0)
        return self.engine.claims.read_prekey(invite, manifest.devices[0], suite, package)

    def commit(self, conversation: str) -> bool:
        """Deposit what is to be committed; False if another Commit won, or nothing is wanted any more."""
        job = self.engine.prepare_commit(bytes.fromhex(conversation))
        if job is None:
            return False
        if not self.deposit(job):
            assert job.fence is not None
            self.engine.fence_winner(job.fence, *self.post.fences[job.fence])
            return False
        self.engine.commit_won(bytes.fromhex(conversation), job.message_id, [])
        return True

    def send_all(self, spoil: Callable[[Job], list[tuple[int, int]]] = lambda _job: []) -> list[Job]:
        """Deposit everything that can leave."""
        jobs = self.engine.jobs(frozenset(), 100)
        for job in jobs:
            if not self.deposit(job):
                assert job.fence is not None
                self.engine.fence_winner(job.fence, *self.post.fences[job.fence])
        self.engine.answered([Answer(job.key, spoil(job)) for job in jobs])
        return jobs

    def say(self, conversation: str, text: str) -> list[Job]:
        (result,) = self.engine.submit([(conversation, text, None)])
        assert isinstance(result, bytes)
        return self.send_all()

    def events(self) -> list[records.StoredEvent]:
        """Take what the application would be told."""
        found = []
        while (event := self.engine.events.next((), lambda _event: True)) is not None:
            found.append(event[1])
            self.engine.events.handled(event[0])
        return found

    def texts(self) -> list[str]:
        return [event.body.decode() for event in self.events() if isinstance(event, records.MessageEvent)]

    def causes(self) -> list[str]:
        return [event.cause for event in self.events() if isinstance(event, records.FailedEvent)]


class World:
    """Members who know each other.

    Attributes:
        room: the id of the conversation of all members.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self.clock = Clock()
        self.post = Post()
        self.members = [Member(self.post, folder, name, self.clock) for name in names]
        first, *others = self.members
        packages = [first.claim(other.invite(), other) for other in others]
        self.room, _ = first.engine.create(None, packages)
        first.do_chores()
        assert first.commit(self.room)
        first.send_all()
        for other in others:
            other.read()
            other.engine.accept(self.room)
            other.events()
            other.do_chores()
        first.read()

    def close(self) -> None:
        for member in self.members:
            member.engine.close()

    def settle(self) -> None:
        """Let everything that is wanted happen, and be seen by all."""
        rounds = 20
        for number in range(rounds + 2):
            for member in self.members:
                member.engine.upkeep()
                member.do_chores()
                member.read()
                member.follow()
                member.engine.ripen()
                member.send_all()
                for conversation in member.engine.due().commits if number < rounds else ():
                    member.commit(conversation.hex())
                member.do_chores()
            self.clock.pass_seconds(1)

    def view(self, member: Member) -> tuple[int, bytes]:
        view = member.engine.views()[self.room]
        return view.epoch, view.epoch_authenticator

    @property
    def agreed(self) -> bool:
        return len({self.view(member) for member in self.members}) == 1


def conversation(world: World, member: Member) -> Conversation:
    """What a member's file has of the conversation of all."""
    found = member.engine._conversations.get(bytes.fromhex(world.room))
    assert found is not None
    return found
