"""Commits: what is wanted, what is staged, and which fence it must win.

An *intent* is one change that somebody asked for; it stays in the file until a winning Commit has it. A *pending
commit* is all intents of a conversation staged on the current epoch; it applies only when the relay says that it has
won the epoch's fence. The loser applies the winner and stages what is left anew.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from restante import handshakes
from restante.account import capabilities
from restante.engine import records
from restante.engine.conversations import Conversation, Conversations, is_joined_again, leaf_account, leaf_data
from restante.engine.mailroom import Mailroom
from restante.engine.moves import Moves
from restante.engine.outbox import Job, Outbox
from restante.engine.parcels import Parcels
from restante.engine.state import State
from restante.file import Row
from restante.handshakes import COMMIT, Admission, CommitReference, epoch_keys
from restante_crypto import sealing
from restante_crypto.mls import Add, Group, KeyPackage, Member, MLSError, Proposal, Remove, StagedCommit
from restante_protocol import ids

HEAL_MESSAGES: Final = 500  # own messages in an epoch
HEAL_SECONDS: Final = 7 * 86_400
HEAL_SPREAD: Final = 60  # seconds for each member of the group: about one Commit a minute
WARM_SPREAD: Final = 15  # the same after joining: until then every Commit costs one ciphertext more for each joiner
SPREAD_MOST: Final = 86_400


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """Proposals for one Commit, the intents they fulfil, and those that need nothing any more."""

    proposals: list[Proposal]
    joiners: list[KeyPackage]
    intents: list[bytes]
    done: list[bytes]


class Commits:
    """Intents and pending commits of all conversations."""

    def __init__(
        self, state: State, conversations: Conversations, mailroom: Mailroom, outbox: Outbox, parcels: Parcels
    ) -> None:
        """Continue the order of intents where the file ends."""
        self._state = state
        self._tables = state.tables
        self._conversations = conversations
        self._mailroom = mailroom
        self._outbox = outbox
        self._parcels = parcels
        self.moves = Moves(state, conversations, mailroom)
        self._order = (state.tables.intents.max_sort() or 0) + 1
        self.welcomes: dict[bytes, list[bytes]] = {}
        self.refused: dict[bytes, int] = {}

    def want(self, conversation: Conversation, intent: records.Intent) -> bytes:
        """Queue an intent; return its id."""
        intent_id = self._state.random(16)
        self._tables.intents.put(intent_id, intent.pack(), group=conversation.id, sort=self._order)
        self._order += 1
        return intent_id

    def want_added(self, conversation: Conversation, package: KeyPackage) -> bytes:
        """Queue that a device is added, and know its account from now on; return the intent's id."""
        account = leaf_account(package.leaf_node)
        self._state.add_contact(account)
        intent = records.Intent(
            records.INTENT_ADD,
            account=account,
            signature_key=package.leaf_node.signature_key,
            key_package=package.encode(),
        )
        return self.want(conversation, intent)

    def wanted(self) -> list[bytes]:
        """Return the conversations with something to commit now."""
        now = self._state.clock()
        found = {row.group for row in self._tables.commits.rows()}
        begun = set(found)
        for row in self._tables.intents.rows():
            intent = records.Intent.unpack(row.value)
            if intent.not_before <= now:
                (begun if intent.kind == records.INTENT_BEGIN else found).add(row.group)
        return [
            key
            for key in found | begun
            if (known := self._conversations.get(key)) is not None
            and (known.usable if key in found and not known.ended else known.ended and key in begun)
        ]

    def next_intent_at(self) -> int | None:
        """Return the Unix millisecond at which the next delayed intent is due, or None."""
        now = self._state.clock()
        times = (records.Intent.unpack(row.value).not_before for row in self._tables.intents.rows())
        return min((at for at in times if at > now), default=None)

    def is_wanted(self, intent_id: bytes) -> bool:
        """Say whether the intent is still open."""
        return self._tables.intents.get(intent_id) is not None

    def prepare(self, conversation: Conversation) -> Job | None:
        """Return the Commit to deposit, staged and stored, or None if nothing is wanted."""
        if not (conversation.usable or conversation.ended):
            return None
        stored = self._tables.commits.get(conversation.id)
        if stored is not None:
            pending = records.PendingCommit.unpack(stored)
            if pending.epoch == conversation.epoch and pending.fence == conversation.fence:
                return _job(conversation, pending)
            self.drop(conversation)
        if conversation.ended:
            return self._begin(conversation)
        plan = self._plan(conversation, self._tables.intents.rows(conversation.id))
        for intent in plan.done:
            self._tables.intents.delete(intent)
        if not plan.intents:
            return None
        try:
            pending = self._stage(conversation, plan)
        except MLSError:
            self._drop_impossible(conversation, plan)
            return self.prepare(conversation)
        self._tables.commits.put(conversation.id, pending.pack(), group=conversation.id)
        return _job(conversation, pending)

    def _begin(self, conversation: Conversation) -> Job | None:
        """Return the Welcome of the group that continues an ended one, to deposit like a Commit; None if not now."""
        rows = self._tables.intents.rows(conversation.id)
        due = [key for key, _ in self._due(rows, {records.INTENT_BEGIN})]
        if not due:
            return None
        try:
            staged, address = self.moves.begin(conversation)
        except (MLSError, ValueError):
            for intent_id in due:
                self._tables.intents.delete(intent_id)
            self._state.fail("a move that this device cannot begin", "nothing to do: others can", conversation.id)
            return None
        body, blobs = self.commit_body(conversation, staged.welcome or b"", staged.group)
        pending = records.PendingCommit(
            epoch=conversation.epoch,
            fence=conversation.fence,
            message_id=self._state.random(ids.MESSAGE_ID_BYTES),
            body=body,
            addresses=conversation.addresses(),
            group=staged.group.epoch_state(),
            messages=staged.group.message_state(),
            welcomes=[],
            intents=due,
            address=address,
            blobs=blobs,
            reference=blobs[0] if blobs else b"",
        )
        self._tables.commits.put(conversation.id, pending.pack(), group=conversation.id)
        return _job(conversation, pending)

    def move(self, conversation: Conversation, *, at_once: bool = False) -> None:
        """Want what brings the conversation nearer to a better suite, if there is one; ``at_once``: it is our turn."""
        found = self.moves.next(conversation, self.place(conversation)) if conversation.group is not None else None
        if found is None:
            return
        kind, delay = found
        wanted = [records.Intent.unpack(row.value).kind for row in self._tables.intents.rows(conversation.id)]
        if kind not in wanted:
            due = self._state.clock() + (0 if at_once else delay)
            self.want(conversation, records.Intent(kind, not_before=due))

    def moved(self, conversation: Conversation, address: bytes) -> None:
        """The conversation goes on in another group, where we have this address."""
        self._mailroom.retire_address(conversation.state.address)
        self._mailroom.use_address(address, conversation.id)
        now = self._state.now()
        self._conversations.update(
            conversation, address=address, rotate=False, offer=b"", sent_since_heal=0, healed_at=now
        )
        for row in self._tables.intents.rows(conversation.id):
            if records.Intent.unpack(row.value).kind in {records.INTENT_BEGIN, records.INTENT_REINIT}:
                self._tables.intents.delete(row.key)
        hold = b"" if conversation.state.accepted else conversation.id
        suite = conversation.current.keys.suite.name
        self._state.events.emit(records.SuiteEvent(conversation.id, suite), hold=hold)

    def _drop_impossible(self, conversation: Conversation, plan: Plan) -> None:
        """Some intent breaks a rule of the group (a KeyPackage may lack a capability): drop it, keep the others."""
        dropped = 0
        for row in self._tables.intents.rows(conversation.id):
            if row.key in plan.intents:
                alone = self._plan(conversation, [row])
                try:
                    self._parcels.forget(self._stage(conversation, alone).blobs)
                except MLSError:
                    self._tables.intents.delete(row.key)
                    dropped += 1
        if not dropped:  # each is possible alone: the first of them now, whatever the others become
            for intent in plan.intents[1:]:
                self._tables.intents.delete(intent)
        self._state.fail(
            "a change that the group cannot take", "ask the other account for a new invite", conversation.id
        )

    def give_up(self, conversation: Conversation, code: int) -> None:
        """The relay will never take the pending commit, and says so with this code: drop it and its intents."""
        stored = self._tables.commits.get(conversation.id)
        if stored is not None:
            for intent in records.PendingCommit.unpack(stored).intents:
                self._tables.intents.delete(intent)
                self.refused[intent] = code
            self.drop(conversation)
            advice = "add fewer members at once, or ask the relay's operator"
            self._state.fail("a change that the relay does not take", advice, conversation.id)

    def _plan(self, conversation: Conversation, rows: Sequence[Row]) -> Plan:
        group = conversation.current
        members = {member.index: member for member in group.members}
        plan = Plan([], [], [], [])
        removed: set[int] = set()
        added: set[bytes] = set()
        for key, intent in self._due(rows, records.INTENTS_OF_MEMBERS):
            leaves = [m for m in members.values() if _concerns(m, intent) and m.index != group.own_index]
            package = KeyPackage.parse(intent.key_package) if intent.key_package else None
            stays = [m for m in leaves if m.index not in removed]
            if intent.kind == records.INTENT_UPDATE:
                plan.intents.append(key)
                continue
            if intent.kind == records.INTENT_ADD and (stays or intent.signature_key in added):
                plan.done.append(key)
                continue
            if intent.kind in {records.INTENT_REMOVE, records.INTENT_LEAVE} and not leaves:
                plan.done.append(key)
                continue
            if intent.kind != records.INTENT_ADD:
                plan.proposals.extend(Remove(member.index) for member in stays)
                removed.update(member.index for member in stays)
            if package is not None:
                plan.proposals.append(Add(package))
                plan.joiners.append(package)
                added.add(intent.signature_key)
            plan.intents.append(key)
        if not plan.intents:  # a ReInit stands alone
            self._plan_move(conversation, plan, [key for key, _ in self._due(rows, {records.INTENT_REINIT})])
        return plan

    def _due(self, rows: Sequence[Row], kinds: Collection[int]) -> list[tuple[bytes, records.Intent]]:
        now = self._state.clock()
        intents = [(row.key, records.Intent.unpack(row.value)) for row in rows]
        return [(key, intent) for key, intent in intents if intent.kind in kinds and intent.not_before <= now]

    def _plan_move(self, conversation: Conversation, plan: Plan, moves: Sequence[bytes]) -> None:
        reinit = self.moves.proposal(conversation) if moves else None
        if reinit is None:
            plan.done.extend(moves)
        else:
            plan.proposals.append(reinit)
            plan.intents.extend(moves)

    def _stage(self, conversation: Conversation, plan: Plan) -> records.PendingCommit:
        group = conversation.current
        state = self._state
        rotate = conversation.state.rotate or any(isinstance(proposal, Remove) for proposal in plan.proposals)
        address = self._mailroom.spare_address() if rotate else None
        extensions, speaks_up = self.moves.leaf(conversation, address)
        staged = group.commit(
            plan.proposals,
            random=state.random,
            tree_in_welcome=False,
            leaf_extensions=extensions,
            leaf_capabilities=capabilities(state.suites) if speaks_up else None,
            now=state.now(),
        )
        self._conversations.save_group(conversation, staged.current)
        body, commit_blobs = self.commit_body(conversation, staged.message, staged.group)
        welcomes, tree_blobs = self._welcomes(staged, plan.joiners)
        return records.PendingCommit(
            epoch=conversation.epoch,
            fence=conversation.fence,
            message_id=state.random(ids.MESSAGE_ID_BYTES),
            body=body,
            addresses=conversation.addresses(),
            group=staged.group.epoch_state(),
            messages=staged.group.message_state(),
            welcomes=welcomes,
            intents=plan.intents,
            address=address or b"",
            blobs=(*commit_blobs, *tree_blobs),
            reference=commit_blobs[0] if commit_blobs else b"",
        )

    def commit_body(
        self, conversation: Conversation, message: bytes, following: Group, tag: bytes = b"", key: bytes = b""
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """Return what goes under the fence, and the blob that the Commit is in if it is too large for that.

        It is sealed in the current epoch, or under the tag and outer key of another.
        """
        body = self._outbox.seal(conversation, message, tag, key)
        if len(body) <= handshakes.COMMIT_INLINE_BYTES:
            return body, ()
        reference = self._parcels.keep(epoch_keys(following, COMMIT), message)
        return self._outbox.seal(conversation, CommitReference(commit=reference).encode(), tag, key), (reference.blob,)

    def _welcomes(
        self, staged: StagedCommit, joiners: Sequence[KeyPackage]
    ) -> tuple[list[records.Ready], tuple[bytes, ...]]:
        """Return a deposit for each joiner, and the blob that the tree is in if it is too large to go along."""
        if not joiners:
            return [], ()
        state, suite = self._state, staged.group.suite
        reference = self._parcels.tree_reference(staged.group)
        blobs = (reference.blob,) if reference is not None else ()
        tree = reference or staged.group.ratchet_tree
        welcomes = []
        for package, welcome in zip(joiners, staged.welcomes, strict=True):
            admission = Admission(message=welcome, tree=tree)
            if reference is not None:
                admission = admission.vouch(package.init_key, state.identity, state.signer)
            welcomes.append(
                records.Ready(
                    state.random(ids.MESSAGE_ID_BYTES),
                    [leaf_data(package.leaf_node).address],
                    sealing.seal_welcome(suite, package.init_key, admission.encode(), state.random),
                    blobs=blobs,
                )
            )
        return welcomes, blobs

    def won(self, conversation: Conversation, message_id: bytes) -> bool:
        """Our pending commit has won its fence: go to its epoch. False if it is not pending (any more)."""
        stored = self._tables.commits.get(conversation.id)
        if stored is None:
            return False
        pending = records.PendingCommit.unpack(stored)
        if pending.message_id != message_id or pending.epoch != conversation.epoch:
            return False
        before, ended = conversation.current, conversation.ended
        group = Group.restore(pending.group, pending.messages)
        self._tables.commits.delete(conversation.id)
        self._conversations.install(
            conversation,
            group,
            records.WinningCommit(pending.fence, pending.message_id, pending.body, pending.reference),
        )
        fresh = self._conversations.get(conversation.id) or conversation
        if ended:
            self.moved(fresh, pending.address)
            return True
        if pending.address:
            self._mailroom.retire_address(fresh.state.address)
            self._mailroom.use_address(pending.address, conversation.id)
        self._conversations.update(
            fresh,
            address=pending.address or fresh.state.address,
            rotate=fresh.state.rotate and not pending.address,
            sent_since_heal=0,
            healed_at=self._state.now(),
        )
        keys = [self._outbox.ready(ready) for ready in pending.welcomes]
        for intent in pending.intents:
            self.welcomes[intent] = keys
        self.announce(fresh, before, group, self._state.me, self._asked(pending.intents))
        for intent in pending.intents:
            self._tables.intents.delete(intent)
        self.move(fresh, at_once=fresh.ended)
        return True

    def _asked(self, intents: Sequence[bytes]) -> set[bytes]:
        stored = [records.Intent.unpack(data) for key in intents if (data := self._tables.intents.get(key))]
        return {intent.account for intent in stored if intent.kind in {records.INTENT_ADD, records.INTENT_REMOVE}}

    def drop(self, conversation: Conversation, *, lost: bool = True) -> None:
        """Another Commit has won: ours is void, its intents stay. ``lost`` is False where ours may have won."""
        stored = self._tables.commits.get(conversation.id)
        if stored is not None:
            self._tables.commits.delete(conversation.id)
            if lost:
                self._parcels.drop(records.PendingCommit.unpack(stored).blobs)

    def announce(
        self, conversation: Conversation, before: Group, after: Group, by: bytes, asked: Collection[bytes] = ()
    ) -> None:
        """Queue what changed for the application, and react to removals and joined-again devices.

        Args:
            conversation: in its new epoch.
            before: the group of the epoch before.
            after: the group now.
            by: the committer's account.
            asked: accounts whose adding or removal the application asked for itself: no news.
        """
        hold = b"" if conversation.state.accepted else conversation.id
        old = {member.leaf.signature_key: member for member in before.members}
        new = {member.leaf.signature_key: member for member in after.members}
        old_accounts = {leaf_account(member.leaf) for member in old.values()}
        new_accounts = {leaf_account(member.leaf) for member in new.values()}
        leaving = self._leaving(conversation, old)
        for account in old_accounts - new_accounts:
            if account not in asked:
                who = account if account in leaving else by
                self._state.events.emit(records.RemovedEvent(conversation.id, account, who), hold=hold)
        for account in new_accounts - old_accounts:
            if account not in asked:
                self._state.events.emit(records.AddedEvent(conversation.id, account, by), hold=hold)
        for key in new.keys() - old.keys():
            self._state.meet(leaf_account(new[key].leaf), key, conversation.id, hold=hold)
        for key, member in old.items():
            if key not in new or is_joined_again(new[key], member):
                self._tables.numbers.delete(conversation.id + key)
        for account in {leaf_account(old[key].leaf) for key in old.keys() - new.keys()} & new_accounts:
            self._state.events.emit(records.DeviceChangedEvent(conversation.id, account, "removed"), hold=hold)
        if old_accounts - new_accounts:
            self._conversations.update(conversation, rotate=conversation.state.rotate or by != self._state.me)

    def _leaving(self, conversation: Conversation, members: Mapping[bytes, Member]) -> set[bytes]:
        """Return the accounts that said they leave; those wishes are fulfilled when they are gone."""
        accounts = set()
        for row in self._tables.intents.rows(conversation.id):
            intent = records.Intent.unpack(row.value)
            if intent.kind == records.INTENT_LEAVE and intent.signature_key in members:
                accounts.add(leaf_account(members[intent.signature_key].leaf))
        return accounts

    def heal(self) -> None:
        """Want an update where many messages or much time have passed, or where a joiner's path is cold.

        Not at once: each member chooses a moment within a time that grows with the group, and looks again whether the
        reason still holds.
        """
        state, now = self._state, self._state.now()
        for conversation in self._conversations.all():
            heal_at = conversation.state.heal_at
            spread = self._spread(conversation) if conversation.usable and conversation.state.accepted else 0
            if not spread:
                heal_at = 0
            elif not heal_at:
                heal_at = now + 1 + int.from_bytes(state.random(8), "big") % spread
            elif now >= heal_at and not self._tables.intents.count(conversation.id):
                self.want(conversation, records.Intent(records.INTENT_UPDATE))
                heal_at = 0
            if heal_at != conversation.state.heal_at:
                self._conversations.update(conversation, heal_at=heal_at)
            self.move(conversation)

    def _spread(self, conversation: Conversation) -> int:
        """Return over how many seconds the members who have this reason to commit are to spread; 0: there is none."""
        state, group = conversation.state, conversation.current
        size = len(group.members)
        if state.sent_since_heal >= HEAL_MESSAGES or self._state.now() - state.healed_at >= HEAL_SECONDS:
            return min(SPREAD_MOST, HEAL_SPREAD * size)
        own = group.member(group.own_index)
        if own is not None and own.leaf.is_from_key_package and not group.has_warm_path:
            return min(SPREAD_MOST, WARM_SPREAD * size)
        return 0

    def place(self, conversation: Conversation) -> int:
        """Return our place among the members, from 0: who commits first when all have the same reason."""
        group = conversation.current
        return sum(1 for member in group.members if member.index < group.own_index)


def _concerns(member: Member, intent: records.Intent) -> bool:
    if intent.signature_key:
        return member.leaf.signature_key == intent.signature_key
    return leaf_account(member.leaf) == intent.account


def _job(conversation: Conversation, pending: records.PendingCommit) -> Job:
    return Job(
        conversation.id,
        pending.message_id,
        pending.addresses,
        pending.body,
        pending.fence,
        blobs=pending.blobs,
    )
