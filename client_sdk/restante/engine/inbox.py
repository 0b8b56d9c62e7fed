"""What comes in: entries of the mailbox, each opened, checked and stored before it is acknowledged.

::

    entry ─ our own bytes ───────────────▶ our pending Commit has won, or nothing
          ─ tag of an epoch we know ─────▶ content │ Commit │ wish to leave │ request to be let in again
                                           Commit in a blob: waits for it, then as here again
          ─ tag of a KeyPackage of ours ─▶ Welcome; its tree in a blob: waits for it
          ─ tag of a request of ours ────▶ answer, with which we let ourselves in again
          ─ fence that we wait for ──────▶ invalid for everybody: the next fence of this epoch
          ─ anything else ───────────────▶ held, and tried again after each epoch change, for 7 days
"""

from dataclasses import dataclass
from typing import Final

from restante import blobs, content
from restante.account import authenticate, conversation_data
from restante.blobs import BlobReference
from restante.engine import records
from restante.engine.commits import Commits
from restante.engine.conversations import TAG_BYTES, Conversation, Conversations, identity, leaf_account
from restante.engine.mailroom import Mailroom
from restante.engine.outbox import BASE_EXTENSION, Outbox
from restante.engine.parcels import Fetch, Parcels
from restante.engine.profiles import Profiles
from restante.engine.recovery import Recovery
from restante.engine.state import State
from restante.handshakes import COMMIT, Admission, CommitReference, epoch_keys, is_reference
from restante.resync import is_request
from restante_crypto import primitives, proofs, sealing
from restante_crypto.blobs import BlobError
from restante_crypto.mls import (
    Application,
    CommitProcessed,
    GenerationUsed,
    Group,
    Joined,
    KeyPackageBundle,
    LeafNode,
    MLSError,
    OwnMessage,
    Policy,
    ProposalReceived,
    Remove,
)
from restante_protocol import limits

HELD_SECONDS: Final = 7 * 86_400
HELD_ENTRIES: Final = 500  # then the oldest is given up
SEEN_SECONDS: Final = 32 * 86_400  # content ids are remembered longer than a relay keeps an entry
MISSING_REPORTED: Final = 1_000_000  # a larger gap is a broken peer; reported as this many
COMMIT_PATIENCE: Final = 60  # seconds that the relay may not have a Commit's blob: its members may bring it again
MAX_WELCOME_BYTES: Final = 16 * 1024  # of one that waits for its tree: in the hybrid suite they have 4 kB
LEAVE_DELAY: Final = 400  # milliseconds by place: one member commits, the others see it


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """One entry of the mailbox. Sequence 0: fetched from its fence, not from the mailbox."""

    sequence: int
    message_id: bytes
    body: bytes
    fence: bytes | None


class Inbox:
    """Processes entries. Every method runs inside a transaction of the caller."""

    def __init__(
        self,
        state: State,
        conversations: Conversations,
        mailroom: Mailroom,
        outbox: Outbox,
        commits: Commits,
        recovery: Recovery,
        profiles: Profiles,
        parcels: Parcels,
    ) -> None:
        """Nothing is read until an entry comes."""
        self._state = state
        self._tables = state.tables
        self._conversations = conversations
        self._mailroom = mailroom
        self._outbox = outbox
        self._commits = commits
        self._recovery = recovery
        self._answering = recovery.answering
        self._profiles = profiles
        self._parcels = parcels
        self._moves = commits.moves
        self._fetched: dict[bytes, bytes | None] = {}  # contents by blob id while their entries are processed

    def process(self, entry: Entry) -> None:
        """Process one entry; whatever its bytes are, it is dealt with."""
        if not self._open(entry):
            self._hold(entry)

    def retry_held(self) -> None:
        """An epoch changed: try what no key opened before, until nothing more opens."""
        progress = True
        while progress:
            progress = False
            for row in self._tables.held.rows():
                held = records.Held.unpack(row.value)
                if self._open(Entry(0, held.message_id, held.body, held.fence)):
                    self._tables.held.delete(row.key)
                    progress = True

    def fetched(self, reference: BlobReference, sealed: bytes) -> None:
        """A blob is here, and is the one that was named: process what waits for it."""
        waiting = self._parcels.arrived(reference)
        try:
            content = blobs.opened(reference, sealed)
        except BlobError:
            content = None
        self._fetched[reference.blob] = content
        try:
            for held in waiting:
                self._take(Entry(0, held.message_id, held.body, held.fence))
        finally:
            del self._fetched[reference.blob]

    def not_fetched(self, fetch: Fetch, received: int, *, lost: bool) -> None:
        """A blob did not come, of which ``received`` bytes did.

        ``lost``: the relay says that it does not have it, or has given another.

        A Commit and the answer to a request are waited for COMMIT_PATIENCE, a Welcome HELD_SECONDS: who added us may
        bring its tree again.
        """
        self._parcels.settle(fetch, received)
        for held, seconds in self._parcels.failed(fetch.reference, lost=lost):
            tag = held.body[:TAG_BYTES]
            stored = self._tables.epochs.get(tag)
            is_welcome = stored is None and self._mailroom.bundle(tag) is not None
            if seconds < (HELD_SECONDS if is_welcome else COMMIT_PATIENCE):
                continue
            self._parcels.give_up(held, fetch.reference.blob)
            if stored is not None:
                conversation = self._conversations.get(records.Epoch.unpack(stored).conversation)
                if conversation is not None and conversation.state.awaited:
                    self._recovery.request(conversation, "a Commit that the relay does not have any more")
            elif is_welcome:
                self._state.fail("a Welcome whose tree the relay does not have", "ask to be removed and added again")
            elif self._tables.resync_keys.get(tag) is not None:
                self._state.fail(
                    "an answer whose tree the relay does not have", "nothing to do: this device asks again"
                )

    def give_up_held(self) -> None:
        """Report what stayed closed for HELD_SECONDS."""
        oldest = self._state.now() - HELD_SECONDS
        for row in self._tables.held.rows():
            if row.sort < oldest:
                self._tables.held.delete(row.key)
                self._state.fail("no key opens it", "ask the sender to send it again")
        for _ in range(self._parcels.give_up_trees(oldest)):
            self._state.fail("a Welcome whose tree was too much to download", "whoever wrote should invite again")
        for table in (self._tables.seen, self._tables.opened):
            table.delete_below(self._state.now() - SEEN_SECONDS)

    def _hold(self, entry: Entry) -> None:
        if len(entry.body) > limits.MAX_BODY_BYTES:  # no client of this kind sends such: somebody fills the file
            self._state.fail("no key opens it", "nothing to do: it is too large for a message")
            return
        held = records.Held(entry.message_id, entry.body, entry.fence, self._state.now())
        key = primitives.blake2b(entry.message_id + entry.body, size=16)
        self._tables.held.put(key, held.pack(), sort=held.received_at)
        if self._tables.held.count() > HELD_ENTRIES:
            oldest = self._tables.held.rows(limit=1)[0]
            self._tables.held.delete(oldest.key)
            self._state.fail("no key opens it", "ask the sender to send it again")

    def _open(self, entry: Entry) -> bool:
        """Return False if nothing known opens the entry (yet)."""
        digest = proofs.body_digest(entry.body)
        key = digest + (entry.fence or b"")
        if self._outbox.is_ours(digest):
            self._own(entry)
        elif self._tables.opened.get(key) is None:  # else a replay, or a relay that lost an acknowledgement
            if not self._take(entry):
                return False
            self._tables.opened.put(key, b"", sort=self._state.now())
        return True

    def _take(self, entry: Entry) -> bool:
        tag = entry.body[:TAG_BYTES]
        stored = self._tables.epochs.get(tag)
        if stored is not None:
            epoch = records.Epoch.unpack(stored)
            conversation = self._conversations.get(epoch.conversation)
            if conversation is None or conversation.group is None:
                return True  # we have left
            self._in_epoch(entry, epoch, conversation)
            return True
        if self._mailroom.bundle(tag) is not None:
            self._welcome(entry, tag)
            return True
        if self._tables.resync_keys.get(tag) is not None:
            awaited = self._recovery.answered(tag, entry.body, self._fetched)
            if awaited is not None:
                self._wait(entry, awaited)
            return True
        if (used_by := self._mailroom.used_by(tag)) is not None:
            if used_by != primitives.sha256(entry.body):
                self._state.fail("a one-time KeyPackage was used twice", "whoever wrote should ask for a new invite")
            return True
        return self._void_winner(entry)

    def _own(self, entry: Entry) -> None:
        stored = self._tables.commits.rows()
        for row in stored:
            pending = records.PendingCommit.unpack(row.value)
            conversation = self._conversations.get(row.key)
            if (
                conversation is not None
                and pending.message_id == entry.message_id
                and entry.fence == pending.fence == conversation.fence
                and pending.body == entry.body
            ):
                self._commits.won(conversation, entry.message_id)
                return
        if entry.fence is not None and self._recovery.lost(entry.fence, entry.message_id):
            return
        if entry.fence is not None:  # our bytes won, but we had given them up
            self._winner_that_was_ours(entry)

    def _winner_that_was_ours(self, entry: Entry) -> None:
        waiting = self._conversations.fences.get(entry.fence or b"")
        conversation = self._conversations.get(waiting) if waiting else None
        if conversation is not None:
            self._recovery.request(conversation, "a Commit of this client won after it was given up")

    def _void_winner(self, entry: Entry) -> bool:
        waiting = self._conversations.fences.get(entry.fence) if entry.fence else None
        conversation = self._conversations.get(waiting) if waiting else None
        if conversation is None:
            return False
        self._commits.drop(conversation)
        self._conversations.advance_fence(conversation, entry.body)
        self._state.fail("the winner of a fence is not sealed", "nothing to do: the group goes on", conversation.id)
        return True

    def _in_epoch(  # noqa: C901, PLR0912 -- one arm per verdict
        self, entry: Entry, epoch: records.Epoch, conversation: Conversation
    ) -> None:
        is_current = epoch.epoch == conversation.epoch
        is_winner = entry.fence is not None and is_current and entry.fence == conversation.fence
        try:
            message = sealing.open_body(epoch.key, entry.body)
        except sealing.SealError:
            if is_winner:
                self._void_winner(entry)
            else:
                self._state.fail("the outer seal fails", "nothing to do: it was not from a member", conversation.id)
            return
        if is_reference(message) and entry.fence is not None:
            if not is_winner:
                self._late_winner(entry)
                return
            fetched = self._commit_of(entry, message, conversation)
            if fetched is None:
                return
            message = fetched
        try:
            if is_request(message):
                self._answering.requested(message, epoch, conversation)
            elif is_current:
                self._current(entry, message, conversation, is_winner=is_winner)
            else:
                self._late(entry, message, conversation, epoch.epoch)
        except OwnMessage:
            if conversation.state.resync:
                self._recovery.stop_following(conversation)
            elif is_current:
                self._recovery.rolled_back()
        except GenerationUsed:
            pass  # a replay: it was read before
        except MLSError as error:
            if is_winner and error.common:
                self._commits.drop(conversation)
                self._conversations.advance_fence(conversation, entry.body)
                self._state.fail("an invalid Commit won", "nothing to do: the group goes on", conversation.id)
            elif is_winner:
                self._recovery.request(conversation, "a Commit that others can process")
            else:
                self._state.fail("a message fails its checks", "ask its sender to send it again", conversation.id)

    def _commit_of(self, entry: Entry, message: bytes, conversation: Conversation) -> bytes | None:
        """Return the winning Commit that the body says the place of; None if it is not here yet, or void."""
        try:
            reference = CommitReference.decode(message).commit
        except ValueError:
            self._void_winner(entry)
            return None
        if reference.blob not in self._fetched:
            self._wait(entry, reference)
            self._conversations.update(conversation, awaited=True)
            return None
        self._conversations.update(conversation, awaited=False)
        found = self._fetched[reference.blob]
        if found is None:  # everybody has the same bytes
            self._void_winner(entry)
        return found

    def _wait(self, entry: Entry, reference: BlobReference) -> None:
        self._parcels.wait(reference, records.Held(entry.message_id, entry.body, entry.fence, self._state.now()))

    def _wait_for_tree(self, entry: Entry, reference: BlobReference, account: bytes) -> None:
        """Wait for the tree of a Welcome for which this account vouches, or none (empty)."""
        held = records.Held(entry.message_id, entry.body, None, self._state.now())
        if len(entry.body) > MAX_WELCOME_BYTES:
            self._state.fail("a Welcome that fails its checks", "whoever wrote should invite again")
        elif self._parcels.wait_for_tree(reference, held, account):
            self._state.fail("a Welcome that others have crowded out", "whoever wrote should invite again")

    def _current(self, entry: Entry, message: bytes, conversation: Conversation, *, is_winner: bool) -> None:
        group = conversation.current
        if group.reinit is not None:
            self._begun_again(entry, message, conversation, is_winner=is_winner)
            return
        result = group.process(
            message,
            authenticate=authenticate,
            psks=self._conversations.resumption_psks(conversation),
            policy=Policy(
                resyncs=True,
                reinit=True,
                psk_epochs=range(max(0, conversation.state.youngest - conversation.before), group.epoch + 1),
            ),
        )
        match result:
            case Application():
                leaf = group.member(result.sender)
                self._conversations.save_group(conversation, result.group)
                if leaf is not None:
                    self._content(result.data, conversation, leaf.leaf)
            case ProposalReceived():
                # a wish, which becomes an intent: no Commit of ours refers to it
                self._conversations.save_group(conversation, result.group.discard_proposals())
                self._proposal(result, conversation, group)
            case CommitProcessed() if is_winner:
                self._committed(entry, result, conversation, group)
            case CommitProcessed():
                self._state.fail("a Commit without its fence", "nothing to do: it was not applied", conversation.id)

    def _begun_again(self, entry: Entry, message: bytes, conversation: Conversation, *, is_winner: bool) -> None:
        """The group has ended: what wins its fence is the Welcome of the one that continues it."""
        if not is_winner:
            self._state.fail("a message in a group that has ended", "nothing to do", conversation.id)
            return
        group, address = self._moves.join(conversation, message)
        self._commits.drop(conversation)
        winner = records.WinningCommit(conversation.fence, entry.message_id, entry.body, self._keep_commit(group))
        self._conversations.install(conversation, group, winner)
        self._commits.moved(self._conversations.get(conversation.id) or conversation, address)

    def _committed(self, entry: Entry, result: CommitProcessed, conversation: Conversation, before: Group) -> None:
        committer = result.added[0] if result.external and result.added else before.member(result.committer)
        by = leaf_account(committer.leaf) if committer else b""
        if result.group is not None and result.group.reinit is not None:
            self._moves.check(conversation, result.group.reinit)
        self._commits.drop(conversation)
        if (
            result.group is None and result.external
        ):  # our device has let itself in again, and this is not its newest file
            self._recovery.request(conversation, "a newer copy of this file is in use")
            return
        if result.group is None:
            hold = b"" if conversation.state.accepted else conversation.id
            self._state.events.emit(records.RemovedEvent(conversation.id, self._state.me, by), hold=hold)
            self._mailroom.retire_address(conversation.state.address, at_once=True)
            self._conversations.close(conversation)
            return
        winner = records.WinningCommit(
            conversation.fence, entry.message_id, entry.body, self._keep_commit(result.group)
        )
        self._conversations.install(conversation, result.group, winner, rejoined=result.external)
        for member in result.added if result.external else ():
            self._tables.numbers.delete(conversation.id + member.leaf.signature_key)
            self._answering.came_back(conversation, member.leaf.signature_key)
            hold = b"" if conversation.state.accepted else conversation.id
            self._state.events.emit(records.DeviceChangedEvent(conversation.id, by, "rejoined"), hold=hold)
        fresh = self._conversations.get(conversation.id) or conversation
        self._commits.announce(fresh, before, result.group, by)
        self._commits.move(fresh)

    def _keep_commit(self, group: Group) -> bytes:
        """Keep the Commit that led to this epoch if it came in a blob, for a relay that loses it; return its id."""
        if not self._fetched:
            return b""
        keys = epoch_keys(group, COMMIT)
        content = self._fetched.get(keys.blob)
        if content is None:  # its committer has put it elsewhere
            return b""
        return self._parcels.keep(keys, content, uploaded=True).blob

    def _late(self, entry: Entry, message: bytes, conversation: Conversation, epoch: int) -> None:
        if entry.fence is not None:
            self._late_winner(entry)
            return
        past = self._conversations.past(conversation.id, epoch)
        if past is None:
            self._state.fail("it came later than its keys are kept", "ask its sender again", conversation.id)
            return
        result = past.unprotect(message)
        self._conversations.save_past(conversation.id, epoch, result.epoch_keys)
        sender = past.member(result.sender)
        if sender is None:
            return
        if result.data is not None:
            self._content(result.data, conversation, sender.leaf)
        else:
            self._leave_wish(result.proposal, result.sender, sender.leaf.signature_key, conversation)

    def _late_winner(self, entry: Entry) -> None:
        known = self._tables.winners.get(entry.fence or b"")
        if known is not None and records.WinningCommit.unpack(known).body != entry.body:
            self._recovery.disputed.add(entry.fence or b"")

    def _proposal(self, result: ProposalReceived, conversation: Conversation, group: Group) -> None:
        sender = group.member(result.sender)
        if sender is not None:
            self._leave_wish(result.proposal, result.sender, sender.leaf.signature_key, conversation)

    def _leave_wish(self, proposal: object, sender: int, signature_key: bytes, conversation: Conversation) -> None:
        if isinstance(proposal, Remove) and proposal.removed == sender:
            delay = LEAVE_DELAY * self._commits.place(conversation)
            intent = records.Intent(
                records.INTENT_LEAVE, signature_key=signature_key, not_before=self._state.clock() + delay
            )
            self._commits.want(conversation, intent)
        else:
            self._state.fail("a proposal that is not taken", "nothing to do", conversation.id)

    def _content(self, data: bytes, conversation: Conversation, leaf: LeafNode) -> None:
        account, device = leaf_account(leaf), leaf.signature_key
        try:
            value = content.Content.decode(data)
        except ValueError:
            self._state.fail("a content that cannot be read", "its sender's app may be newer", conversation.id)
            return
        seen = conversation.id + account + value.content_id
        if self._tables.seen.get(seen) is not None:
            return
        self._tables.seen.put(seen, b"\x01", sort=self._state.now())
        hold = b"" if conversation.state.accepted else conversation.id
        self._number(conversation, account, device, value, hold)
        if value.disposition == content.RENDER:
            event = records.MessageEvent(
                conversation=conversation.id,
                sender=account,
                content_id=value.content_id,
                content_type=value.content_type,
                body=value.body,
                sent_at=value.sent_at,
            )
            self._state.events.emit(event, hold=hold)
        elif value.disposition == content.PROFILE:
            self._profiles.received(conversation, account, value.body, hold=hold)

    def _number(
        self, conversation: Conversation, account: bytes, device: bytes, value: content.Content, hold: bytes
    ) -> None:
        key = conversation.id + device
        stored = self._tables.numbers.get(key)
        if stored is not None:
            last = records.Numbers.unpack(stored).last
        else:
            last = int.from_bytes(value.extensions.get(BASE_EXTENSION, b""), "big")
        if value.number > last + 1:
            count = min(value.number - last - 1, MISSING_REPORTED)
            self._state.events.emit(records.MissingEvent(conversation.id, account, count), hold=hold)
        if value.number > last:
            self._tables.numbers.put(key, records.Numbers(value.number).pack(), group=conversation.id)

    def _welcome(self, entry: Entry, tag: bytes) -> None:
        prekey = self._mailroom.bundle(tag)
        if prekey is None:
            return
        state = self._state
        try:
            joined = self._join(entry, prekey)
            if joined is None:
                return
            data = conversation_data(joined.group.extensions, state.account.relay_key)
        except (sealing.SealError, MLSError, ValueError):
            state.fail("a Welcome that fails its checks", "whoever wrote should invite again")
            return
        group = joined.group
        conversation_id, earlier = identity(group)
        old = self._conversations.get(conversation_id)
        if old is not None and old.state.active:
            state.fail("a Welcome to a conversation that exists", "nothing to do: it was not followed", conversation_id)
            return
        if prekey.number == 0 and state.tables.seen.get(tag + primitives.sha256(entry.body)) is not None:
            return
        state.tables.seen.put(tag + primitives.sha256(entry.body), b"\x01", sort=state.now())
        self._mailroom.use_bundle(tag, primitives.sha256(entry.body))
        self._mailroom.use_address(prekey.address, conversation_id)
        signer = group.member(joined.sender)
        inviter = leaf_account(signer.leaf) if signer else b""
        accepted = state.is_contact(inviter)
        conversation = self._conversations.add(
            group,
            records.ConversationState(
                title=data.title,
                inviter=inviter,
                address=prekey.address,
                accepted=accepted,
                rotate=prekey.number == 0,
                healed_at=state.now(),
                youngest=earlier + group.epoch,
            ),
        )
        if accepted:
            state.events.emit(records.AddedEvent(conversation_id, state.me, inviter))
        else:
            state.events.emit(records.RequestEvent(conversation_id, inviter))
        for member in group.members:
            hold = b"" if accepted else conversation_id
            state.meet(leaf_account(member.leaf), member.leaf.signature_key, conversation_id, hold=hold)
        if prekey.number == 0:
            self._commits.want(conversation, records.Intent(records.INTENT_UPDATE))

    def _join(self, entry: Entry, prekey: records.Prekey) -> Joined | None:
        """Open a Welcome; None if the tree is not here yet. Raises SealError, MLSError, ValueError."""
        bundle = KeyPackageBundle.from_bytes(prekey.bundle)
        admission = Admission.decode(sealing.open_welcome(prekey.suite, bundle.init_private, entry.body))
        tree = admission.tree
        if isinstance(tree, BlobReference):
            if tree.blob not in self._fetched:
                self._wait_for_tree(entry, tree, admission.vouching(bundle.key_package.init_key))
                return None
            tree = self._fetched[tree.blob] or b""
        return Group.join(
            admission.message, bundle, signer=self._state.signer, authenticate=authenticate, ratchet_tree=tree
        )
