"""When the state of this file, of another member or of the relay is not what it was.

**Resync**: a member whose state is beyond use lets itself in again by an external Commit. It asks under the outer key
of the last epoch that it knows (members keep those 90 days; the seal's nonce is random, so even an old file may use
it), signed by its leaf's key, with an HPKE key made for this request. The others answer (``engine.answering``) with a
GroupInfo, the fence and the outer key of their epoch. The Commit removes the old leaf, and has the resumption PSK of
the common epoch where all members hold it. Lost fence: ask again. ::

    asked ─ answers ─▶ (all others, or GATHER_MILLISECONDS) ─▶ staged ─ fence won ─▶ in again
      ▲                      │ no line has most of them           │ fence lost
      └── RESYNC_AGAIN ──────┴────────────────────────────────────┘

An answer counts only if a leaf signed it that is in the group as this file knows it, and if it has the epoch
authenticator of the common epoch; answers of one group agree in the authenticators of later epochs, too. So somebody
who was removed is not heard once this file knows of it, and is outvoted if it does not.

**Rolled back file**: the relay has had an acknowledgement, or holds a message of ours, that this file does not know.
Nothing is sent in any epoch it holds. It follows what the others have committed since, as far as the relay still has
it: then it knows who is a member. Every conversation is resynced and the prekeys are made anew.

**Damaged group**: its cell fails its seal, or is not what was stored. A roster beside it tells whom to ask.

**Rolled back relay**: a new incarnation. Everything is registered again, winning Commits take their fences again, and
what was accepted lately is deposited again; ids make that harmless.

**Fork**: two Commits won one fence, which only a relay that lost its memory allows. It shows when both arrive, or when
a winner is deposited again and another one has the fence. The winner that the relay has now is right, because everybody
can ask for it; members on the other branch resync, and hear nobody who is on it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from restante.account import authenticate, capabilities, conversation_data, credential, leaf_extensions
from restante.blobs import BlobReference
from restante.engine import records
from restante.engine.answering import Answering
from restante.engine.commits import Commits
from restante.engine.conversations import Conversation, Conversations, identity, leaf_account, leaf_data
from restante.engine.mailroom import Mailroom
from restante.engine.moves import is_better
from restante.engine.outbox import Job, Outbox
from restante.engine.parcels import Parcels
from restante.engine.state import State
from restante.packed import check
from restante.resync import ResyncAnswer, ResyncRequest
from restante_crypto import sealing
from restante_crypto.mls import Group, MLSError, PreSharedKeyID, resumption_psk_id
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES
from restante_protocol import frames, ids

RESYNC_AGAIN: Final = 60  # seconds until an unanswered request is repeated with a fresh key; twice as many each time
RESYNC_AGAIN_MOST: Final = 3600
ASKED_AT_ONCE: Final = 5  # requests in a row that a lost fence may cause without waiting
GATHER_MILLISECONDS: Final = 2000  # after the first answer: three members answer within 600
KEYS_KEPT: Final = 4  # of the latest requests: an answer may be late


class Recovery:
    """What is done about it; ``answering`` does it for other members."""

    def __init__(
        self,
        state: State,
        conversations: Conversations,
        mailroom: Mailroom,
        outbox: Outbox,
        commits: Commits,
        parcels: Parcels,
    ) -> None:
        """Nothing is read until something is wrong."""
        self._state = state
        self._tables = state.tables
        self._conversations = conversations
        self._mailroom = mailroom
        self._outbox = outbox
        self._commits = commits
        self._parcels = parcels
        self.disputed: set[bytes] = set()  # fences that two Commits have won
        self.answering = Answering(state, conversations, outbox, parcels)

    # What is noticed.

    def rolled_back(self, at_relay: Sequence[frames.PoolCount] = ()) -> None:
        """This file is older than what was done with it. ``at_relay``: the prekey pools that the relay has."""
        self._state.events.emit(records.RolledBackEvent())
        self._mailroom.discard_prekeys(at_relay)
        self._tables.deposits.delete_group(b"")
        for conversation in self._conversations.all():
            if conversation.state.active:
                self._freeze(conversation, catching_up=conversation.group is not None)

    def damaged(self) -> None:
        """Resync the conversations whose groups could not be read."""
        for conversation_id in sorted(self._conversations.lost):
            conversation = self._conversations.get(conversation_id)
            if conversation is not None:
                self.request(conversation, "the stored state of this conversation is damaged")

    def request(self, conversation: Conversation, cause: str, epoch: int = -1) -> None:
        """Our state of this conversation is beyond use; ``epoch``: the last one that the others have too."""
        if conversation.state.resync:
            self.stop_following(conversation)
            return
        self._state.fail(cause, "nothing to do: this device lets itself in again", conversation.id)
        self._freeze(conversation, epoch)

    def resync(self, conversation: Conversation) -> None:
        """The application wants it."""
        if conversation.state.resync:
            self.stop_following(conversation)
            self._conversations.update(conversation, resync_at=0, resync_count=0)
        elif self._others(conversation):
            self._freeze(conversation)

    def judged(self, fence: bytes, body: bytes) -> None:
        """The relay says who won a fence of an epoch that is over; if that is not the winner that we know, resync."""
        self.disputed.discard(fence)
        for row in self._tables.winners.rows():
            conversation = self._conversations.get(row.group)
            if row.key == fence and conversation is not None and records.WinningCommit.unpack(row.value).body != body:
                self.request(conversation, "the group was forked by a relay that lost its memory", row.sort)

    def _freeze(self, conversation: Conversation, epoch: int = -1, *, catching_up: bool = False) -> None:
        self._commits.drop(conversation, lost=False)
        self._tables.intents.delete_group(conversation.id)
        self._forget_requests(conversation)
        self._conversations.update(
            conversation,
            resync=True,
            awaited=False,
            catching_up=catching_up,
            resync_at=0,
            resync_count=0,
            resync_epoch=epoch,
        )
        if not catching_up:
            self._conversations.fences.pop(conversation.fence, None)

    def _forget_requests(self, conversation: Conversation) -> None:
        for table in (self._tables.resync_keys, self._tables.resync_answers):
            table.delete_group(conversation.id)
        self._tables.rejoins.delete(conversation.id)

    # Following what an old file has missed.

    def following(self) -> list[bytes]:
        """Return the fences of conversations that are only old."""
        return [each.fence for each in self._conversations.all() if each.state.catching_up and not each.state.awaited]

    def stuck(self, conversation: Conversation) -> None:
        """A Commit won the fence that an old file waits for, and is not followed, unless its blob is under way."""
        if not conversation.state.awaited:
            self.stop_following(conversation)

    def stop_following(self, conversation: Conversation) -> None:
        """There is no more to follow, or this file cannot follow it."""
        if conversation.state.catching_up:
            self._conversations.fences.pop(conversation.fence, None)
            self._conversations.update(conversation, catching_up=False)

    def caught_up(self) -> None:
        """Nobody has won the fences that this file waits for: ask."""
        for conversation in self._conversations.all():
            self.stuck(conversation)
        self.ask()

    # Asking.

    def ask(self) -> None:
        """Send the requests that are due, and look at the answers."""
        now = self._state.now()
        for conversation in self._conversations.all():
            state = conversation.state
            if state.resync and not state.catching_up:
                if self._is_asking(conversation) and now >= state.resync_at + _wait(state):
                    self._ask(conversation)
                self._choose(conversation)

    def _others(self, conversation: Conversation) -> list[records.RosterMember]:
        members = self._conversations.roster(conversation).members
        return [member for member in members if member.signature_key != self._state.signer.public]

    def _ask(self, conversation: Conversation) -> None:
        state = self._state
        others = self._others(conversation)
        epochs = self._conversations.epochs(conversation)
        number = conversation.state.resync_epoch if conversation.state.resync_epoch >= 0 else max(epochs, default=-1)
        if not others or number not in epochs:
            state.fail("nobody can let this device in again", "ask a member to add it", conversation.id)
            self._conversations.close(conversation)
            return
        address = conversation.state.resync_address or self._mailroom.spare_address()
        if address is None:
            return
        self._mailroom.use_address(address, conversation.id)
        tag, common = epochs[number]
        private, public = SUITES[common.suite].kem.derive_key_pair(state.random(32))
        branch = epochs[number + 1][1].authenticator if number + 1 in epochs else b""
        request = ResyncRequest(
            conversation=conversation.id,
            epoch=number,
            authenticator=common.authenticator,
            branch=branch,
            public=public,
            address=address,
            signature_key=state.signer.public,
        ).sign(state.signer)
        key = records.ResyncKey(
            conversation.id, bytes(private), request.digest(), number, common.authenticator, branch, common.suite
        )
        for row in self._tables.resync_keys.rows(conversation.id)[: 1 - KEYS_KEPT]:
            self._tables.resync_keys.delete(row.key)
        sort = conversation.state.resync_count
        self._tables.resync_keys.put(sealing.welcome_tag(public), key.pack(), group=conversation.id, sort=sort)
        body = self._outbox.seal(conversation, request.message(), tag, common.key)
        to = [member.address for member in others]
        self._outbox.ready(records.Ready(state.random(ids.MESSAGE_ID_BYTES), to, body))
        self._conversations.update(
            conversation,
            resync_address=address,
            resync_at=state.now(),
            resync_count=conversation.state.resync_count + 1,
        )

    # Answers.

    def answered(self, tag: bytes, body: bytes, fetched: Mapping[bytes, bytes | None]) -> BlobReference | None:
        """A body with the tag of a request of ours came; return the blob that it has to wait for, if any.

        Args:
            tag: of the request.
            body: of the answer.
            fetched: contents by blob id (None: it is not what it was said to be), as far as they are here.
        """
        key = records.ResyncKey.unpack(self._tables.resync_keys.get(tag) or b"")
        conversation = self._conversations.get(key.conversation)
        if conversation is None or not conversation.state.resync:
            return None
        try:
            plain = sealing.open_answer(key.suite, key.private, body)
            answer = ResyncAnswer.decode(plain)
            _check(answer, key, [member.signature_key for member in self._others(conversation)])
        except (sealing.SealError, ValueError):
            self._state.fail("an answer to this device that fails its checks", "nothing to do", conversation.id)
            return None
        if isinstance(answer.tree, BlobReference):
            if answer.tree.blob not in fetched:
                return answer.tree if self._is_first(tag + answer.signature_key, answer.tree) else None
            answer = msgspec.structs.replace(answer, tree=fetched[answer.tree.blob] or b"")
        self._tables.resync_answers.put(
            conversation.id + answer.signature_key, answer.encode(), group=conversation.id, sort=self._state.clock()
        )
        self._choose(conversation)
        return None

    def _is_first(self, answerer: bytes, tree: BlobReference) -> bool:
        """Say whether it is the first tree that this member answers this request with: no other is fetched."""
        known = self._tables.seen.get(answerer)
        if known is None:
            self._tables.seen.put(answerer, tree.encode(), sort=self._state.now())
        return known in {None, tree.encode()}

    def next_at(self) -> int | None:
        """Return the Unix millisecond at which somebody is to be asked, or answers are to be compared, or None."""
        first = self._tables.resync_answers.min_sort()
        times = [first + GATHER_MILLISECONDS] if first is not None else []
        for conversation in self._conversations.all():
            state = conversation.state
            if self._is_asking(conversation) and (state.resync_address or self._mailroom.spare_address()):
                times.append(1000 * (state.resync_at + _wait(state)))
        return min(times, default=None)

    def _is_asking(self, conversation: Conversation) -> bool:
        """Say whether we ask, now and then, to be let in again: there is no answer that we act on."""
        state = conversation.state
        return state.resync and not state.catching_up and self._tables.rejoins.get(conversation.id) is None

    def _choose(self, conversation: Conversation) -> None:
        rows = self._tables.resync_answers.rows(conversation.id)
        if not rows or self._tables.rejoins.get(conversation.id) is not None:
            return
        waited = self._state.clock() - rows[0].sort
        if len(rows) < len(self._others(conversation)) and waited < GATHER_MILLISECONDS:
            return
        self._tables.resync_answers.delete_group(conversation.id)
        answer = most_agreed([ResyncAnswer.decode(row.value) for row in rows])
        if answer is None:
            cause, advice = "members let this device in to different groups", "ask them which one is theirs"
            self._state.fail(cause, advice, conversation.id)
            return
        try:
            self._stage(conversation, answer)
        except (MLSError, ValueError):
            self._state.fail("an answer to this device that leads nowhere", "nothing to do", conversation.id)

    def _stage(self, conversation: Conversation, answer: ResyncAnswer) -> None:
        """Stage the external Commit. Raises MLSError, ValueError: the answer is not what it should be."""
        state = self._state
        address, common = conversation.state.resync_address, answer.history[0][0]
        suite, epochs = self._conversations.roster(conversation).suite, self._conversations.epochs(conversation)
        psks = self._conversations.resumption_psks(conversation) if answer.resumption and common in epochs else {}
        joined = Group.join_externally(
            answer.group_info,
            signer=state.signer,
            credential=credential(state.me),
            capabilities=capabilities(state.suites),
            authenticate=authenticate,
            random=state.random,
            leaf_extensions=leaf_extensions(self._mailroom.leaf(address)),
            ratchet_tree=answer.tree if isinstance(answer.tree, bytes) else b"",
            replaces=answer.replaces,
            psk_ids=[_psk_id(epochs[common][1], state.random)] if psks else [],
            psks=psks,
        )
        group = joined.group
        members = [member.leaf for member in group.members]
        conversation_id, before = identity(group)
        check(conversation_id == conversation.id, "another group")
        check(group.suite == suite or is_better(group.suite, suite), "a suite that is not better")
        check(before + group.epoch == answer.epoch + 1, "another epoch")
        check(any(leaf.signature_key == answer.signature_key for leaf in members), "whoever answers is no member")
        conversation_data(group.extensions, state.account.relay_key)
        body, blobs = self._commits.commit_body(conversation, joined.message, group, answer.tag, answer.key)
        rejoin = records.Rejoin(
            fence=answer.fence,
            message_id=state.random(ids.MESSAGE_ID_BYTES),
            body=body,
            addresses=[leaf_data(leaf).address for leaf in members],
            group=group.epoch_state(),
            messages=group.message_state(),
            address=address,
            epoch=common,
            blobs=blobs,
        )
        self._tables.rejoins.put(conversation.id, rejoin.pack())

    # The external Commit.

    def staged(self) -> list[bytes]:
        """Return the conversations whose external Commit is to be deposited."""
        return [row.key for row in self._tables.rejoins.rows()]

    def prepare(self, conversation: Conversation) -> Job | None:
        """Return the external Commit to deposit, if one is staged."""
        stored = self._tables.rejoins.get(conversation.id)
        if stored is None:
            return None
        rejoin = records.Rejoin.unpack(stored)
        return Job(
            conversation.id, rejoin.message_id, rejoin.addresses, rejoin.body, fence=rejoin.fence, blobs=rejoin.blobs
        )

    def won(self, conversation: Conversation, message_id: bytes) -> bool:
        """Our external Commit has won its fence: go on in its epoch. False if it is not staged (any more)."""
        stored = self._tables.rejoins.get(conversation.id)
        if stored is None or records.Rejoin.unpack(stored).message_id != message_id:
            return False
        rejoin, old = records.Rejoin.unpack(stored), conversation.state
        before = {member.account for member in self._conversations.roster(conversation).members}
        group = Group.restore(rejoin.group, rejoin.messages)
        self._conversations.forget_epochs(conversation, above=rejoin.epoch)
        self._forget_requests(conversation)
        self._mailroom.retire_address(old.address)
        self._mailroom.use_address(rejoin.address, conversation.id)
        fresh = self._conversations.add(
            group,
            msgspec.structs.replace(
                old,
                address=rejoin.address,
                resync=False,
                resync_address=b"",
                resync_epoch=-1,
                fence_number=0,
                fence_previous=b"",
                number=0,
                previous=b"",
                epoch_base=0,
                rotate=False,
                late_keys_at=0,
                late_keys=(),
                sent_since_heal=0,
                healed_at=self._state.now(),
                youngest=identity(group)[1] + group.epoch,
            ),
        )
        winner = records.WinningCommit(rejoin.fence, rejoin.message_id, rejoin.body, *rejoin.blobs)
        self._tables.winners.put(rejoin.fence, winner.pack(), group=conversation.id, sort=fresh.epoch - 1)
        self._outbox.renumber(fresh)
        self._tables.numbers.delete_group(conversation.id)
        for member in group.members:
            self._state.meet(leaf_account(member.leaf), member.leaf.signature_key, conversation.id)
        self._announce(fresh, before, {leaf_account(member.leaf) for member in group.members})
        return True

    def _announce(self, conversation: Conversation, before: set[bytes], after: set[bytes]) -> None:
        """Queue who came and went while this device was lost; it cannot know by whom."""
        hold = b"" if conversation.state.accepted else conversation.id
        for account in sorted(before - after):
            self._state.events.emit(records.RemovedEvent(conversation.id, account, b""), hold=hold)
        for account in sorted(after - before):
            self._state.events.emit(records.AddedEvent(conversation.id, account, b""), hold=hold)

    def lost(self, fence: bytes, message_id: bytes) -> bool:
        """Say whether a staged external Commit of ours waited for this fence; if another Commit won it, ask again."""
        for row in self._tables.rejoins.rows():
            conversation = self._conversations.get(row.key)
            rejoin = records.Rejoin.unpack(row.value)
            if rejoin.fence == fence and conversation is not None:
                if not self.won(conversation, message_id):
                    self._give_up(conversation)
                return True
        return False

    def refused(self, conversation: Conversation) -> None:
        """The relay will never take our external Commit."""
        self._drop(conversation)
        self._state.fail("the relay refused to let this device in again", "wait: it asks again", conversation.id)

    def _drop(self, conversation: Conversation) -> None:
        stored = self._tables.rejoins.get(conversation.id)
        if stored is not None:
            self._tables.rejoins.delete(conversation.id)
            self._parcels.drop(records.Rejoin.unpack(stored).blobs)

    def _give_up(self, conversation: Conversation) -> None:
        self._drop(conversation)
        if conversation.state.resync_count < ASKED_AT_ONCE:
            self._ask(conversation)

    # The relay.

    def new_incarnation(self) -> None:
        """The relay lost, or may have lost, what it held; chores register the rest again."""
        self._parcels.register_again()
        for conversation in self._conversations.all():
            if conversation.usable:
                for row in self._tables.winners.rows(conversation.id):
                    winner = records.WinningCommit.unpack(row.value)
                    self._outbox.ready(
                        records.Ready(
                            winner.message_id,
                            conversation.addresses(),
                            winner.body,
                            fence=winner.fence,
                            blobs=(winner.blob,) if winner.blob else (),
                        )
                    )
        self._outbox.redeposit()


def most_agreed(answers: Sequence[ResyncAnswer]) -> ResyncAnswer | None:
    """Return the youngest of those answers that most agree with; None if there are as many for another group."""
    votes = [(sum(answer.agrees(other) for other in answers), answer.epoch) for answer in answers]
    most, _ = max(votes)
    leading = [answer for answer, (count, _) in zip(answers, votes, strict=True) if count == most]
    best = max(leading, key=lambda answer: answer.epoch)
    return best if all(best.agrees(other) for other in leading) else None


def _check(answer: ResyncAnswer, key: records.ResyncKey, members: Sequence[bytes]) -> None:
    """Check an answer to the request with this key; ``members``: whose answers count. Raises ValueError."""
    check(answer.request == key.digest, "an answer to another request")
    check(answer.signature_key in members, "an answer of somebody who is no member")
    check(answer.verify(), "signature")
    check(answer.history[0] == (key.epoch, key.authenticator), "an older epoch, or another group")
    if key.branch:
        check(answer.epoch > key.epoch, "an answer from before the fork")
        check((key.epoch + 1, key.branch) not in answer.history, "an answer from the branch that was left")


def _psk_id(epoch: records.Epoch, random: Random) -> PreSharedKeyID:
    return resumption_psk_id(epoch.suite, epoch.group_id, epoch.group_epoch, random)


def _wait(state: records.ConversationState) -> int:
    """Return how many seconds after the last request the next one is due."""
    return min(RESYNC_AGAIN_MOST, RESYNC_AGAIN << (state.resync_count - 1)) if state.resync_count else 0
