"""The conversations of this client: their MLS groups, epochs and outer keys, loaded from and saved to the file.

An epoch lives three times as long as it must, and no longer: its group until the next epoch; what reads its late
messages for PAST_EPOCHS epochs and at most PAST_SECONDS; its outer key (which opens no content) for OUTER_KEY_SECONDS,
so that a member whose state is lost can still ask to let itself in again. With the outer key stay the epoch's
authenticator and resumption PSK, which open nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from restante.account import (
    CONVERSATION_EXTENSION,
    LEAF_EXTENSION,
    ConversationData,
    LeafData,
    account_id,
    capabilities,
    credential,
    leaf_extensions,
)
from restante.engine import records
from restante.engine.state import State
from restante.errors import ConversationError, FileDamaged, NotAMember
from restante_crypto import primitives
from restante_crypto.mls import Extension, Group, LeafNode, Member, PastEpoch, StateError

GROUP_ID_BYTES: Final = 16
PAST_EPOCHS: Final = 5
PAST_SECONDS: Final = 86_400
LATE_SECONDS: Final = PAST_SECONDS // 2
"""How old the keys of skipped messages of the current epoch become at least, and half of what they become at most."""
OUTER_KEY_SECONDS: Final = 90 * 86_400  # after the epoch's end
WINNERS_KEPT: Final = 64

_TAG_LABEL: Final = b"restante outer tag"
_KEY_LABEL: Final = b"restante outer key"
_FENCE_LABEL: Final = b"restante fence"
TAG_BYTES: Final = 8
_KEY_BYTES: Final = 32
_NOT_OVER: Final = 2**62  # sorts an epoch that has no end yet behind all others


@dataclass(frozen=True, slots=True)
class View:
    """What the application sees of a conversation; replaced whole."""

    id: str
    title: str | None
    members: tuple[str, ...]
    epoch: int
    epoch_authenticator: bytes
    suite: str
    active: bool
    accepted: bool


def leaf_account(leaf: LeafNode) -> bytes:
    """Return the account of a leaf whose credential was checked."""
    return leaf.credential.identity


def is_joined_again(member: Member, known: Member) -> bool:
    """Say whether this leaf came by an Add, and is not the one that was there before."""
    return member.leaf.is_from_key_package and member.leaf.encryption_key != known.leaf.encryption_key


def leaf_data(leaf: LeafNode) -> LeafData:
    """Return the SDK's part of a leaf that was checked."""
    extension = leaf.extension(LEAF_EXTENSION)
    if extension is None:
        raise ValueError("a leaf without our extension")
    return LeafData.decode(extension)


def identity(group: Group) -> tuple[bytes, int]:
    """Return the id of the conversation that a group is, and how many epochs its earlier groups had."""
    data = _data(group)
    return (data.conversation or group.group_id, data.before) if data is not None else (group.group_id, 0)


def _data(group: Group) -> ConversationData | None:
    found = (each.data for each in group.extensions if each.type == CONVERSATION_EXTENSION)
    return next((ConversationData.decode(data) for data in found), None)


class Conversation:
    """One conversation in memory. ``group`` is None once this account is not in it, or while its state is lost."""

    __slots__ = ("_addresses", "before", "fence", "group", "id", "key", "state", "tag")

    def __init__(self, conversation_id: bytes, state: records.ConversationState, group: Group | None) -> None:
        """Derive what the epoch gives: tag, outer key, current fence."""
        self.id = conversation_id
        self.state = state
        self.group = group
        self.before = identity(group)[1] if group else 0
        self._addresses: list[bytes] | None = None
        self.tag = group.export(_TAG_LABEL, b"", TAG_BYTES) if group else b""
        self.key = group.export(_KEY_LABEL, b"", _KEY_BYTES) if group else b""
        self.fence = self.fence_tag(state.fence_number, state.fence_previous) if group else b""

    def fence_tag(self, number: int, previous: bytes) -> bytes:
        """Return fence k of this epoch; previous: SHA-256 of winner k - 1, empty for k = 0."""
        return self.current.export(_FENCE_LABEL, number.to_bytes(4, "big") + previous, 32)

    @property
    def current(self) -> Group:
        """The group of the current epoch. Only for active conversations."""
        if self.group is None:
            raise ValueError("not a member of this conversation")
        return self.group

    @property
    def epoch(self) -> int:
        """The number of the current epoch, counted through all groups that the conversation had."""
        return self.before + self.current.epoch

    @property
    def data(self) -> ConversationData:
        """What the GroupContext says of it. Raises ValueError for a group that is none of ours."""
        data = _data(self.current)
        if data is None:
            raise ValueError("not one of our conversations")
        return data

    @property
    def ended(self) -> bool:
        """Whether its group has ended and waits for the one that continues it."""
        return self.group is not None and self.group.reinit is not None and self._in_step

    @property
    def usable(self) -> bool:
        """Whether something may be sent in the current epoch."""
        return self.group is not None and self.group.reinit is None and self._in_step

    @property
    def _in_step(self) -> bool:
        return self.state.active and not (self.state.resync or self.state.awaited)

    def addresses(self) -> list[bytes]:
        """Return the deposit address of every leaf, ours included."""
        if self._addresses is None:
            self._addresses = [leaf_data(member.leaf).address for member in self.current.members]
        return self._addresses

    def view(self, members: Iterable[bytes] = ()) -> View:
        """Return what the application sees; ``members``: their accounts, if the group is lost."""
        if self.group is not None:
            members = (leaf_account(member.leaf) for member in self.group.members)
        return View(
            id=self.id.hex(),
            title=self.state.title,
            members=tuple(dict.fromkeys(account_id(member) for member in members)),
            epoch=self.epoch if self.group else 0,
            epoch_authenticator=self.group.epoch_authenticator if self.group else b"",
            suite=self.group.keys.suite.name if self.group else "",
            active=self.state.active,
            accepted=self.state.accepted,
        )


class ResumptionPSKs(Mapping[bytes, bytes]):
    """A conversation's resumption PSKs by group id ‖ epoch, as MLS asks for them."""

    def __init__(self, conversations: "Conversations", conversation: Conversation) -> None:
        """Nothing is read before one is asked for: few Commits have a PSK."""
        self._conversations = conversations
        self._conversation = conversation

    def _read(self) -> dict[bytes, bytes]:
        epochs = self._conversations.epochs(self._conversation)
        return {
            epoch.group_id + epoch.group_epoch.to_bytes(8, "big"): epoch.resumption_psk for _, epoch in epochs.values()
        }

    def __getitem__(self, key: bytes) -> bytes:
        """Return one. Raises KeyError."""
        return self._read()[key]

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the keys."""
        return iter(self._read())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._read())


class Conversations:
    """All conversations, cached; the file is the truth."""

    def __init__(self, state: State) -> None:
        """Load what the file holds."""
        self._state = state
        self._tables = state.tables
        self._cache: dict[bytes, Conversation] = {}
        self.fences: dict[bytes, bytes] = {}
        self.views: dict[str, View] = {}
        self.epoch_changed = False
        self.dropped: set[bytes] = set()
        self.lost: set[bytes] = set()
        state.forgetters.append(self.load)
        self.load()

    def load(self) -> None:
        """Read everything anew."""
        self._cache = {}
        self.fences = {}
        self.lost = set()
        views = {}
        for row in self._tables.conversations.rows():
            stored = records.ConversationState.unpack(row.value)
            conversation = Conversation(row.key, stored, self._load_group(row.key) if stored.active else None)
            self._cache[row.key] = conversation
            if conversation.group is None:
                self.lost.update({row.key} if stored.active else ())
            elif stored.catching_up or not stored.resync:
                self.fences[conversation.fence] = row.key
            views[conversation.id.hex()] = self._view(conversation)
        self.views = views

    def _load_group(self, conversation_id: bytes) -> Group | None:
        """Return the stored group; None if it is damaged, which is reported and leads to a resync."""
        try:
            group_state = self._tables.groups.get(conversation_id)
            message_state = self._tables.messages.get(conversation_id)
            return Group.restore(group_state or b"", message_state or b"")
        except (FileDamaged, StateError):
            return None

    def get(self, conversation_id: bytes) -> Conversation | None:
        """Return the conversation, or None."""
        return self._cache.get(conversation_id)

    def all(self) -> list[Conversation]:
        """Return every conversation."""
        return list(self._cache.values())

    def active(self, conversation_id: str) -> Conversation:
        """Return a conversation by the id that an application has. Raises NotAMember."""
        conversation = self.get(bytes.fromhex(conversation_id))
        if conversation is None or not conversation.state.active:
            raise NotAMember("this account is not in the conversation (any more)")
        return conversation

    def member(self, conversation_id: str) -> Conversation:
        """Return the same, if its group is here. Raises NotAMember, ConversationError."""
        conversation = self.active(conversation_id)
        if conversation.group is None:
            raise ConversationError("this device's state was damaged: wait until it has let itself in again")
        return conversation

    def update(self, conversation: Conversation, **changes: object) -> None:
        """Change fields of the conversation's state."""
        self._put_state(conversation, msgspec.structs.replace(conversation.state, **changes))

    def advance_fence(self, conversation: Conversation, winner_body: bytes) -> None:
        """The winner of the current fence is invalid for everybody: go to the next one of this epoch."""
        self.fences.pop(conversation.fence, None)
        previous = primitives.sha256(winner_body)
        number = conversation.state.fence_number + 1
        self.update(conversation, fence_number=number, fence_previous=previous)
        conversation.fence = conversation.fence_tag(number, previous)
        self.fences[conversation.fence] = conversation.id

    def save_group(self, conversation: Conversation, group: Group) -> None:
        """Replace the group within its epoch: only what changes per message is written."""
        conversation.group = group
        self._tables.messages.put(conversation.id, group.message_state())

    def create(self, title: str | None, suite: int, leaf: LeafData) -> Conversation:
        """Begin a conversation of this account alone; ``leaf``: what its leaf says beside MLS."""
        state = self._state
        data = ConversationData(
            relay_url=state.account.relay_url,
            relay_key=state.account.relay_key,
            title=title,
            created=state.now(),
        )
        group = Group.create(
            suite,
            state.random(GROUP_ID_BYTES),
            signer=state.signer,
            credential=credential(state.me),
            capabilities=capabilities(state.suites),
            leaf_extensions=leaf_extensions(leaf),
            extensions=(Extension(CONVERSATION_EXTENSION, data.encode()),),
            random=state.random,
        )
        record = records.ConversationState(title=title, inviter=state.me, address=leaf.address, healed_at=state.now())
        conversation = self.add(group, record)
        state.meet(state.me, state.signer.public, conversation.id)
        return conversation

    def add(self, group: Group, state: records.ConversationState) -> Conversation:
        """Store a new conversation, or one that was joined again, in its current epoch."""
        conversation_id, _ = identity(group)
        old = self._cache.get(conversation_id)
        if old is not None:
            self._end_epochs(old)
        if old is not None and old.group is not None:
            self.fences.pop(old.fence, None)
            self._archive(old)
        conversation = Conversation(conversation_id, state, group)
        self._cache[conversation_id] = conversation
        self._put_epoch(conversation)
        self._put_state(conversation, state)
        return conversation

    def install(
        self, conversation: Conversation, group: Group, winner: records.WinningCommit, *, rejoined: bool = False
    ) -> None:
        """Go to the next epoch, whose Commit won its fence; ``rejoined``: it let a member in again."""
        before = {member.leaf.signature_key: member for member in conversation.current.members}
        came = rejoined or any(
            (known := before.get(member.leaf.signature_key)) is None or is_joined_again(member, known)
            for member in group.members
        )
        self._end_epochs(conversation)
        self._archive(conversation)
        self._tables.winners.put(winner.fence, winner.pack(), group=conversation.id, sort=conversation.epoch)
        self._tables.winners.delete_below(conversation.epoch - WINNERS_KEPT + 1, conversation.id)
        self.fences.pop(conversation.fence, None)
        state = msgspec.structs.replace(
            conversation.state,
            fence_number=0,
            fence_previous=b"",
            epoch_base=conversation.state.number,
            awaited=False,
            late_keys_at=0,
            late_keys=(),
            youngest=sum((identity(group)[1], group.epoch)) if came else conversation.state.youngest,
        )
        fresh = Conversation(conversation.id, state, group)
        self._cache[conversation.id] = fresh
        self._put_epoch(fresh)
        self._put_state(fresh, state)

    def close(self, conversation: Conversation) -> None:
        """This account is no longer in the conversation: forget its keys, keep that it was."""
        self.fences.pop(conversation.fence, None)
        self._end_epochs(conversation)
        for table in (self._tables.past_groups, self._tables.past_messages, self._tables.winners):
            table.delete_group(conversation.id)
        self.dropped.update(row.key for row in self._tables.outbox.rows(conversation.id))
        for table in (
            self._tables.outbox,
            self._tables.intents,
            self._tables.commits,
            self._tables.resync_keys,
            self._tables.resync_answers,
        ):
            table.delete_group(conversation.id)
        self._tables.rejoins.delete(conversation.id)
        self._tables.rosters.delete(conversation.id)
        self._tables.groups.delete(conversation.id)
        self._tables.messages.delete(conversation.id)
        closed = Conversation(
            conversation.id,
            msgspec.structs.replace(conversation.state, active=False, resync=False, catching_up=False),
            None,
        )
        self._cache[conversation.id] = closed
        self._put_state(closed, closed.state)
        self.epoch_changed = True

    def roster(self, conversation: Conversation) -> records.Roster:
        """Return whom there is to ask; the file keeps it apart from the group."""
        return records.Roster.unpack(self._tables.rosters.get(conversation.id) or records.Roster(0, []).pack())

    def _view(self, conversation: Conversation) -> View:
        if conversation.group is None and conversation.state.active:
            return conversation.view(member.account for member in self.roster(conversation).members)
        return conversation.view()

    def epochs(self, conversation: Conversation) -> dict[int, tuple[bytes, records.Epoch]]:
        """Return tag and record of all epochs whose outer keys are still here, by number."""
        rows = [(row.key, records.Epoch.unpack(row.value)) for row in self._tables.epochs.rows(conversation.id)]
        return {epoch.epoch: (tag, epoch) for tag, epoch in rows}

    def forget_epochs(self, conversation: Conversation, above: int) -> None:
        """Forget the epochs of a branch that is not continued."""
        for number, (tag, _) in self.epochs(conversation).items():
            if number > above:
                self._tables.epochs.delete(tag)

    def resumption_psks(self, conversation: Conversation) -> "ResumptionPSKs":
        """Return the resumption PSKs of this conversation's epochs, read when one is wanted."""
        return ResumptionPSKs(self, conversation)

    def past(self, conversation_id: bytes, epoch: int) -> PastEpoch | None:
        """Return what reads late messages of a past epoch, if it is still kept."""
        key = conversation_id + epoch.to_bytes(8, "big")
        group_state = self._tables.past_groups.get(key)
        message_state = self._tables.past_messages.get(key)
        if group_state is None or message_state is None:
            return None
        return PastEpoch.restore(group_state, message_state)

    def save_past(self, conversation_id: bytes, epoch: int, past: PastEpoch) -> None:
        """Replace a past epoch after a late message."""
        key = conversation_id + epoch.to_bytes(8, "big")
        self._tables.past_messages.put(key, past.message_state(), group=conversation_id)

    def checkpoint(self) -> None:
        """If an epoch is over, see to it that nothing of it survives in the WAL. Not inside a transaction."""
        if self.epoch_changed:
            self.epoch_changed = False
            self._state.file.checkpoint()

    def prune(self) -> None:
        """Delete what has reached its age."""
        now = self._state.now()
        for row in self._tables.past_groups.rows():
            if row.sort < now - PAST_SECONDS:
                self._tables.past_groups.delete(row.key)
                self._tables.past_messages.delete(row.key)
                self.epoch_changed = True
        self._tables.epochs.delete_below(now - OUTER_KEY_SECONDS)
        for conversation in self.all():
            if conversation.group is not None:
                self._forget_late_keys(conversation, conversation.group)

    def _forget_late_keys(self, conversation: Conversation, group: Group) -> None:
        """Forget keys that were skipped, and wait for late messages: at most twice LATE_SECONDS old.

        Every LATE_SECONDS those go that were there the last time, and those that are there now are noted.
        """
        now, state = self._state.now(), conversation.state
        if not state.late_keys_at:
            if noted := group.late_keys():
                self.update(conversation, late_keys_at=now, late_keys=noted)
        elif now - state.late_keys_at >= LATE_SECONDS:
            group = group.forget_late_keys(state.late_keys)
            self.save_group(conversation, group)
            left = group.late_keys()
            self.update(conversation, late_keys_at=now if left else 0, late_keys=left)

    def _end_epochs(self, conversation: Conversation) -> None:
        """The current epoch is over: from now on its outer key has an age."""
        now = self._state.now()
        for tag, epoch in self.epochs(conversation).values():
            if not epoch.ended and (conversation.group is None or tag == conversation.tag):
                ended = msgspec.structs.replace(epoch, ended=now)
                self._tables.epochs.put(tag, ended.pack(), group=conversation.id, sort=now)

    def _archive(self, conversation: Conversation) -> None:
        past = conversation.current.archive()
        key = conversation.id + conversation.epoch.to_bytes(8, "big")
        self._tables.past_groups.put(key, past.epoch_state(), group=conversation.id, sort=self._state.now())
        self._tables.past_messages.put(key, past.message_state(), group=conversation.id)
        rows = sorted(self._tables.past_groups.rows(conversation.id), key=lambda row: row.key)
        for row in rows[:-PAST_EPOCHS]:
            self._tables.past_groups.delete(row.key)
            self._tables.past_messages.delete(row.key)

    def _put_epoch(self, conversation: Conversation) -> None:
        group = conversation.current
        self._tables.groups.put(conversation.id, group.epoch_state())
        self._tables.messages.put(conversation.id, group.message_state())
        self._tables.epochs.put(
            conversation.tag,
            records.Epoch(
                conversation.id,
                conversation.epoch,
                conversation.key,
                group.epoch_authenticator,
                group.resumption_psk,
                group.group_id,
                group.epoch,
                group.suite,
            ).pack(),
            group=conversation.id,
            sort=_NOT_OVER,
        )
        members = [
            records.RosterMember(member.leaf.signature_key, leaf_account(member.leaf), leaf_data(member.leaf).address)
            for member in group.members
        ]
        self._tables.rosters.put(conversation.id, records.Roster(group.suite, members).pack())
        self.fences[conversation.fence] = conversation.id
        self.epoch_changed = True

    def _put_state(self, conversation: Conversation, state: records.ConversationState) -> None:
        conversation.state = state
        self._tables.conversations.put(conversation.id, state.pack())
        view = self._view(conversation)
        self._state.after_commit.append(lambda: self.views.__setitem__(view.id, view))
