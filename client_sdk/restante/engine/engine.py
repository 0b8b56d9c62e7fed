"""The engine: what a client knows and decides, without network and without waiting.

All of it runs in one worker thread, and each call of the shell is one transaction of the client's file: what it returns
has happened, and bytes that leave are in the file before. The shell calls, sends what comes out, and calls again.

A part that has its matter for itself is a public attribute, and the shell calls it directly. Here are the calls that
concern several parts (``inbox``, ``commits``, ``recovery`` and others), and the order in which these have their turns.
Longer than 600 lines because conversations are what all those parts have in common: there are many such calls, and most
are short.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from restante import content
from restante.account import (
    account_id,
    account_key,
)
from restante.blobs import BlobKeys, BlobReference
from restante.engine import records
from restante.engine.bulletin import Bulletin
from restante.engine.chores import Chores
from restante.engine.claims import Claims
from restante.engine.commits import Commits
from restante.engine.consents import Consents
from restante.engine.conversations import Conversations, View
from restante.engine.directory import Contact, Directory
from restante.engine.inbox import Entry, Inbox
from restante.engine.mailroom import Mailroom
from restante.engine.outbox import Answer, Job, Outbox
from restante.engine.parcels import Delete, Fetch, Parcels, Upload
from restante.engine.profiles import Profiles
from restante.engine.push import Push
from restante.engine.recovery import Recovery
from restante.engine.state import State
from restante.engine.usage import Usage
from restante.errors import (
    MAX_CONTENT_BYTES,
    ConversationError,
    FileError,
    MessageTooLarge,
    NotAMember,
    RelayChanged,
)
from restante.file import ClientFile
from restante_crypto import primitives, proofs
from restante_crypto.mls import (
    KeyPackage,
    Remove,
)
from restante_protocol import frames, ids

_ERASED: Final = b"erased"  # in the account's table


@dataclass(frozen=True, slots=True)
class Due:
    """What there is to do after a call: the shell wakes the task for it.

    Attributes:
        deposits: contents or ready deposits wait.
        commits: conversations with something to commit.
        chores: something may have to be registered at the relay.
        events: the application has something to read.
        held: entries wait that nothing opens, or this file is to follow what others have committed.
        parcels: a blob is to be fetched or deleted.
        wait: seconds until something delayed is due (``ripen``), or None.
    """

    deposits: bool
    commits: tuple[bytes, ...]
    chores: bool
    events: bool
    held: bool
    parcels: bool
    wait: float | None


class Engine:
    """One account's state and rules over its file.

    Attributes:
        bulletin: what the operator has told.
        chores: what the relay is to be told.
        claims: what others' invites lead to.
        consents: what is granted of the relay's optional purposes.
        directory: this account's entries in the relay's directory.
        events: what the application is to be told.
        profiles: this account's profile, and those of its contacts.
        push: where this device is woken.
        usage: what is counted for diagnostics.
    """

    def __init__(
        self, file: ClientFile, relay_url: str, *, random: primitives.Random, clock: Callable[[], int]
    ) -> None:
        """Load what the file holds; a new file becomes a new account."""
        self._file = file
        self._state = State(file, relay_url, random=random, clock=clock)
        self._tables = self._state.tables
        self.events = self._state.events
        self._conversations = Conversations(self._state)
        self._mailroom = Mailroom(self._state)
        self._outbox = Outbox(self._state, self._conversations)
        self._parcels = Parcels(self._state)
        self._commits = Commits(self._state, self._conversations, self._mailroom, self._outbox, self._parcels)
        self._recovery = Recovery(
            self._state, self._conversations, self._mailroom, self._outbox, self._commits, self._parcels
        )
        self.profiles = Profiles(self._state, self._conversations, self._outbox)
        self.consents = Consents(self._state)
        self.directory = Directory(self._state, self._mailroom)
        self.push = Push(self._state)
        self.chores = Chores(self._state, self._mailroom, self.profiles, self.consents, self.directory, self.push)
        self.bulletin = Bulletin(self._state, self.consents)
        self.usage = Usage(self._state, self.consents)
        self.claims = Claims(self._state, self._conversations)
        self._inbox = Inbox(
            self._state,
            self._conversations,
            self._mailroom,
            self._outbox,
            self._commits,
            self._recovery,
            self.profiles,
            self._parcels,
        )
        if self._conversations.lost:
            with self._state.transaction():
                self._recovery.damaged()

    @classmethod
    def open(
        cls,
        path: Path,
        passphrase: str | bytes,
        relay_url: str,
        *,
        random: primitives.Random,
        clock: Callable[[], int],
    ) -> Self:
        """Open or create the client's file.

        Raises:
            WrongPassphrase, AlreadyOpen, FileDamaged: see ``restante.errors``.
        """
        file = ClientFile.open(path, passphrase, random=random, tables=records.TABLES)
        try:
            return cls(file, relay_url, random=random, clock=clock)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def account_id(self) -> str:
        """The account's id."""
        return self._state.my_id

    def views(self) -> dict[str, View]:
        """Return what the application sees of the conversations. May be read from any thread."""
        return self._conversations.views

    # The relay.

    @property
    def relay_key(self) -> bytes | None:
        """The relay's pinned key, or None before the first connection."""
        return self._state.account.relay_key or None

    def pin_relay(self, relay_key: bytes) -> None:
        """Remember the relay's key at the first connection. Raises RelayChanged for another one later."""
        account = self._state.account
        if account.relay_key and account.relay_key != relay_key:
            raise RelayChanged("the relay has another key than the one this file knows")
        if not account.relay_key:
            with self._state.transaction():
                self._state.set_account(msgspec.structs.replace(account, relay_key=relay_key))

    def open_frame(self, request: int, client_nonce: bytes, relay_nonce: bytes) -> frames.Open:
        """Return the proof for this connection."""
        state = self._state
        signed = proofs.open_message(state.account.relay_key, state.mailbox, client_nonce, relay_nonce)
        return frames.Open(
            request=request,
            mailbox=state.mailbox,
            receive_key=state.receive_key,
            id_nonce=state.account.mailbox_nonce,
            signature=primitives.ed25519_sign(state.account.receive_seed, signed),
        )

    @property
    def receipt(self) -> bytes:
        """The relay's admission receipt, empty before the first registration."""
        return self._state.account.receipt

    def registered(self, receipt: bytes) -> None:
        """The relay has created the mailbox: everything of it is to be registered."""
        with self._state.transaction():
            self._state.set_account(msgspec.structs.replace(self._state.account, receipt=receipt))
            self.chores.register_again()

    def subscribe_frame(self, request: int) -> frames.Subscribe:
        """Return the subscription to ask for."""
        position = self._state.position
        return frames.Subscribe(
            request=request,
            incarnation=position.incarnation,
            seen=position.cursor,
            pools=self._mailroom.pools(),
        )

    def subscribed(self, answer: frames.Subscribed) -> None:
        """Compare what the relay says with the file: either of them may be older than it should."""
        with self._state.transaction():
            position = self._state.position
            self._mailroom.counted(answer.pools)
            if position.incarnation and position.incarnation != answer.incarnation:
                self._state.set_position(records.Position(answer.incarnation, 0, self._state.now()))
                self.chores.register_again()
                self._recovery.new_incarnation()
                self._mailroom.counted(answer.pools)
            elif not position.incarnation:
                self._state.set_position(records.Position(answer.incarnation, 0))
                if answer.acknowledged:
                    self._roll_back(answer)
            elif answer.acknowledged > position.cursor:
                self._roll_back(answer)

    def _roll_back(self, answer: frames.Subscribed) -> None:
        self._state.set_position(msgspec.structs.replace(self._state.position, cursor=answer.acknowledged))
        self._recovery.rolled_back(answer.pools)

    def position(self) -> records.Position:
        """Return how far the mailbox is processed."""
        return self._state.position

    def prekeys_low(self, suite: int, left: int) -> None:
        """The relay's pool of a suite runs low."""
        with self._state.transaction():
            self._mailroom.set_pool(suite, left=left)

    def address_spent(self, address: bytes) -> None:
        """So much was claimed through an address that it gives no one-time packages for now."""
        with self._state.transaction():
            invite = self._mailroom.invite_with(address)
            if invite:
                self._state.events.emit(records.OverusedEvent(invite))

    def drained(self, sequence: int) -> None:
        """The backlog up to this sequence has been processed."""
        position = self._state.position
        if sequence > position.cursor:
            with self._state.transaction():
                self._state.set_position(msgspec.structs.replace(position, cursor=sequence))

    def receive(self, entries: Sequence[Entry]) -> None:
        """Process entries of the mailbox, in order; afterwards they may be acknowledged up to the last."""
        try:
            self._receive(entries)
        except FileError:  # nothing was processed, and nothing is acknowledged
            raise
        except Exception:  # noqa: BLE001 -- our defect: one entry must not stop the mailbox
            if len(entries) == 1:
                with self._state.transaction():
                    self._state.fail("an error in this client", "report it: this is a defect, and no data of yours")
                    self._advance(entries[0])
                return
            for entry in entries:
                self.receive([entry])
        self._conversations.checkpoint()

    def _receive(self, entries: Sequence[Entry]) -> None:
        with self._state.transaction():
            for entry in entries:
                before = self._conversations.epoch_changed
                self._conversations.epoch_changed = False
                self._inbox.process(entry)
                if self._conversations.epoch_changed:
                    self._inbox.retry_held()
                self._conversations.epoch_changed |= before
                self._advance(entry)

    def _advance(self, entry: Entry) -> None:
        if entry.sequence > self._state.position.cursor:
            self._state.set_position(msgspec.structs.replace(self._state.position, cursor=entry.sequence))

    def due(self) -> Due:
        """Say what there is to do."""
        now = self._state.clock()
        times = (self._commits.next_intent_at(), self._outbox.next_at(), self._parcels.next_at())
        later = [at for at in times if at is not None and at > now]
        later += [
            max(at, now) for at in (self._recovery.next_at(), self._recovery.answering.next_at()) if at is not None
        ]
        return Due(
            deposits=self._outbox.has_jobs(),
            commits=(*self._commits.wanted(), *self._recovery.staged()),
            chores=self.chores.touched,
            events=self.events.are_waiting(),
            held=self._tables.held.exists() or bool(self._recovery.following() or self._recovery.disputed),
            parcels=self._parcels.has_work(),
            wait=(min(later) - now) / 1000 if later else None,
        )

    def ripen(self) -> None:
        """Do what has waited for its time: answer members who ask, and choose among answers."""
        with self._state.transaction():
            self._recovery.answering.answer()
            self._recovery.ask()

    # Erasing.

    @property
    def mailbox(self) -> bytes:
        """The mailbox's id."""
        return self._state.mailbox

    @property
    def erased(self) -> bool:
        """This account was erased at its relay, or is being: it is not registered again."""
        return self._tables.account.get(_ERASED) is not None

    def begin_erasure(self) -> None:
        """From now on nothing is registered."""
        with self._state.transaction():
            self._tables.account.put(_ERASED, b"\x01")

    # Contacts.

    def contacts(self) -> list[Contact]:
        """Return all accounts that are known."""
        return [
            Contact(account_id(each), self.directory.found_by(each), self._state.is_verified(each))
            for each in self._state.contacts()
        ]

    def verify(self, account: str) -> None:
        """Safety numbers were compared. Raises ValueError for what is no account id."""
        with self._state.transaction():
            self._state.verify(account_key(account))

    # Invites.

    def forget_invite(self, slot: bytes) -> None:
        """The slot of an invite is deleted."""
        with self._state.transaction():
            self._mailroom.forget_invite(slot)

    def slot_deletion(self, slot: bytes) -> frames.SlotDelete:
        """Return the request, numbered 0, that deletes the slot of an invite."""
        return self._mailroom.slot_deletion(slot)

    def new_invite(self) -> str:
        """Make an invite. It works once the chores that it causes are done."""
        with self._state.transaction():
            return self._mailroom.new_invite()

    # Conversations.

    def create(self, title: str | None, packages: Sequence[KeyPackage]) -> tuple[str, list[bytes]]:
        """Create a conversation of this account and want the others added; return its id and the intents."""
        with self._state.transaction():
            address = self._mailroom.spare_address()
            if address is None:
                raise ConversationError("no address is registered yet")
            suite = packages[0].suite if packages else self._state.suites[0]
            conversation = self._conversations.create(title, suite, self._mailroom.leaf(address))
            self._mailroom.use_address(address, conversation.id)
            return conversation.id.hex(), [self._commits.want_added(conversation, package) for package in packages]

    def add(self, conversation_id: str, packages: Sequence[KeyPackage]) -> list[bytes]:
        """Want these devices added; return the intents."""
        conversation = self._conversations.member(conversation_id)
        with self._state.transaction():
            return [self._commits.want_added(conversation, package) for package in packages]

    def remove(self, conversation_id: str, account: str) -> bytes:
        """Want an account removed; return the intent. Raises NotAMember."""
        conversation = self._conversations.member(conversation_id)
        if account not in conversation.view().members:
            raise NotAMember("this account is not in the conversation")
        if account == self.account_id:
            raise ConversationError("nobody removes themselves: leave the conversation")
        with self._state.transaction():
            return self._commits.want(conversation, records.Intent(records.INTENT_REMOVE, account=account_key(account)))

    def update_keys(self, conversation_id: str) -> bytes:
        """Want a Commit that heals; return the intent."""
        conversation = self._conversations.member(conversation_id)
        with self._state.transaction():
            return self._commits.want(conversation, records.Intent(records.INTENT_UPDATE))

    def leave(self, conversation_id: str) -> bytes | None:
        """Tell the members to remove this account; return the deposit's key (None if nobody else is there)."""
        conversation = self._conversations.active(conversation_id)
        state = self._state
        with state.transaction():
            group = conversation.group
            if conversation.ended:
                raise ConversationError("the conversation is going on to a better cipher suite: try again")
            key = None
            if group is not None and len(group.members) > 1 and not conversation.state.resync:
                proposed = group.propose(Remove(group.own_index), random=state.random)
                self._conversations.save_group(conversation, proposed.group)
                body = self._outbox.seal(conversation, proposed.message)
                others = [address for address in conversation.addresses() if address != conversation.state.address]
                key = self._outbox.ready(records.Ready(state.random(ids.MESSAGE_ID_BYTES), others, body))
            self._mailroom.retire_address(conversation.state.address, at_once=True)
            self._conversations.close(conversation)
        self._conversations.checkpoint()
        return key

    def accept(self, conversation_id: str) -> None:
        """Take up a conversation that a stranger started."""
        conversation = self._conversations.get(bytes.fromhex(conversation_id))
        if conversation is None or conversation.state.accepted:
            return
        with self._state.transaction():
            self._outbox.accept(conversation)
            self.profiles.share()

    def is_wanted(self, intent_id: bytes) -> bool:
        """Say whether an intent is still open: not in a winning Commit, not found needless, not dropped."""
        return self._commits.is_wanted(intent_id)

    def refusal_of(self, intent_ids: Sequence[bytes]) -> int | None:
        """Return the code with which the relay has refused a Commit of these intents, if it has."""
        codes = [self._commits.refused.pop(intent, None) for intent in intent_ids]
        return next((code for code in codes if code is not None), None)

    def welcomes_of(self, intent_ids: Sequence[bytes]) -> list[bytes]:
        """Return the keys of the Welcomes, still undelivered, of the Commit that fulfilled these intents."""
        keys = {key for intent in intent_ids for key in self._commits.welcomes.pop(intent, [])}
        return [key for key in keys if self._tables.deposits.get(key) is not None]

    # Sending.

    def submit(self, messages: Sequence[tuple[str, str | bytes, bytes | None]]) -> list[bytes | Exception]:
        """Queue contents in this order: (conversation id, text or bytes, content id replied to); return content ids."""
        results: list[bytes | Exception] = []
        with self._state.transaction():
            for conversation_id, data, in_reply_to in messages:
                body = data.encode() if isinstance(data, str) else bytes(data)
                kind = content.TEXT if isinstance(data, str) else content.BYTES
                if len(body) > MAX_CONTENT_BYTES:
                    results.append(MessageTooLarge(f"{len(body)} bytes; at most {MAX_CONTENT_BYTES}"))
                    continue
                try:
                    conversation = self._conversations.active(conversation_id)
                except NotAMember as error:
                    results.append(error)
                    continue
                results.append(self._outbox.submit(conversation, kind, body, in_reply_to))
        return results

    def message_id(self, conversation_id: str, content_id: bytes) -> str:
        """Return what Receipt.id and Message.id say for a content of this account."""
        return content.message_id(bytes.fromhex(conversation_id), self._state.me, content_id)

    def was_dropped(self, content_id: bytes) -> bool:
        """Say whether a content was given up because this account is no longer in its conversation."""
        return content_id in self._conversations.dropped

    def is_queued(self, key: bytes) -> bool:
        """Say whether a content or ready deposit still waits."""
        return self._outbox.is_queued(key)

    def jobs(self, busy: Collection[bytes], room: int) -> list[Job]:
        """Return deposits that can leave now, their bytes stored."""
        with self._state.transaction():
            return self._outbox.jobs(busy, room)

    def answered(self, answers: Sequence[Answer]) -> None:
        """The relay has accepted these deposits."""
        with self._state.transaction():
            self._outbox.answered(answers)

    def rejected(self, key: bytes) -> None:
        """The relay will never take this deposit: give it up."""
        with self._state.transaction():
            self._outbox.give_up(key)
            self._state.fail("the relay refused a deposit", "ask its operator: its limits are lower than usual")

    # Commits.

    def prepare_commit(self, conversation_id: bytes) -> Job | None:
        """Return the Commit to deposit under its fence, or None if nothing is wanted (any more)."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            return None
        with self._state.transaction():
            return self._recovery.prepare(conversation) or self._commits.prepare(conversation)

    def commit_won(self, conversation_id: bytes, message_id: bytes, failed: Sequence[tuple[int, int]]) -> None:
        """The relay has accepted our Commit. ``failed`` indexes learn of it by fetching their fence."""
        del failed  # gone: nobody is there; full: that member asks the fence when something does not open
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            return
        with self._state.transaction():
            if self._recovery.won(conversation, message_id) or self._commits.won(conversation, message_id):
                self._inbox.retry_held()
            self.profiles.share()
        self._conversations.checkpoint()

    def commit_refused(self, conversation_id: bytes, code: int) -> None:
        """The relay will never take our Commit, or a blob that goes with it: give up what it was for."""
        conversation = self._conversations.get(conversation_id)
        if conversation is not None:
            with self._state.transaction():
                if self._recovery.prepare(conversation) is not None:
                    self._recovery.refused(conversation)
                else:
                    self._commits.give_up(conversation, code)

    def fence_winner(self, fence: bytes, message_id: bytes, body: bytes) -> None:
        """The relay says who won this fence: process it as if it had been delivered."""
        with self._state.transaction():
            if self._recovery.lost(fence, message_id):
                self._inbox.retry_held()
            elif (waiting := self._conversations.fences.get(fence)) is not None:
                self._inbox.process(Entry(0, message_id, body, fence))
                self._inbox.retry_held()
                conversation = self._conversations.get(waiting)
                if conversation is not None and conversation.group is not None and conversation.fence == fence:
                    self._recovery.stuck(conversation)
            else:
                self._recovery.judged(fence, body)
        self._conversations.checkpoint()

    def place(self, conversation_id: bytes) -> int:
        """Return our place among the members of a conversation."""
        conversation = self._conversations.get(conversation_id)
        return self._commits.place(conversation) if conversation and conversation.group else 0

    def suspect_fences(self) -> list[bytes]:
        """Return the fences to ask the relay for: held entries may be of an epoch whose Commit never came.

        An old file asks as well; once nobody has won any of them it has caught up (``caught_up``).
        """
        asked = self._recovery.following()
        if self._tables.held.exists():
            asked = [fence for fence, key in self._conversations.fences.items() if not self._is_awaited(key)]
        return [*asked, *self._recovery.disputed]

    def _is_awaited(self, key: bytes) -> bool:
        conversation = self._conversations.get(key)
        return conversation is not None and conversation.state.awaited

    def caught_up(self) -> bool:
        """Nobody has won the fences that were asked for; say whether an old file has waited for that."""
        self._recovery.disputed.clear()
        if not self._recovery.following():
            return False
        with self._state.transaction():
            self._recovery.caught_up()
        return True

    # Resync.

    def resync(self, conversation_id: str) -> None:
        """Let this device in again, whatever its state of the conversation is. Raises NotAMember."""
        with self._state.transaction():
            self._recovery.resync(self._conversations.active(conversation_id))
            self._recovery.ask()

    def is_resyncing(self, conversation_id: str) -> bool:
        """Say whether this device waits to be let in again."""
        conversation = self._conversations.get(bytes.fromhex(conversation_id))
        return conversation is not None and conversation.state.resync

    # Blobs.

    def parcels(self) -> list[Fetch | Delete]:
        """Return the blobs to fetch and to delete now; what a fetch may cost is paid."""
        with self._state.transaction():
            return self._parcels.work()

    def has_processed(self, sequence: int) -> bool:
        """Say whether everything up to a sequence is processed, and the blobs that it needs have been asked for."""
        return self._state.position.cursor >= sequence and not self._parcels.is_fetching()

    def upload(self, blob: bytes) -> Upload | None:
        """Return what to upload before a deposit that names this blob; None if it is at the relay."""
        return self._parcels.upload(blob)

    def uploaded(self, blob: bytes) -> None:
        """The relay has this blob."""
        with self._state.transaction():
            self._parcels.uploaded(blob)

    def deleted(self, blob: bytes) -> None:
        """The relay does not have this blob any more."""
        with self._state.transaction():
            self._parcels.forget([blob])

    def fetched(self, reference: BlobReference, sealed: bytes) -> None:
        """A blob is here whose digest is the one that was named: process what waited for it."""
        with self._state.transaction():
            self._inbox.fetched(reference, sealed)
            self._inbox.retry_held()
        self._conversations.checkpoint()

    def not_fetched(self, fetch: Fetch, received: int, lost: bool) -> None:
        """Of a blob only ``received`` bytes came; ``lost``: the relay does not have it, or has another."""
        with self._state.transaction():
            self._inbox.not_fetched(fetch, received, lost=lost)

    def blobs(self) -> list[tuple[BlobKeys, int]]:
        """Return the keys of all blobs at the relay that this client has uploaded, and when they expire."""
        return [(keys, record.expires) for keys, record in self._parcels.own()]

    # Upkeep.

    def upkeep(self) -> None:
        """What time brings: keys to delete, groups to heal, entries to give up, requests to repeat."""
        with self._state.transaction():
            self._conversations.prune()
            self._mailroom.prune()
            self._outbox.prune()
            self._recovery.answering.prune()
            self._parcels.prune()
            self._recovery.answering.answer()
            self._recovery.ask()
            self._commits.heal()
            self._inbox.give_up_held()
            self.profiles.share()
            self.chores.renew()
        self._conversations.epoch_changed = False
        self._file.checkpoint()
