"""When the state of this file, of another member or of the relay is not what it was.

**Resync**: a member whose state is beyond use asks to be removed and added again. The request is a fresh KeyPackage,
signed by the device's key and sealed under the outer key of the last epoch it knows (members keep those 90 days; the
seal's nonce is random, so even an old file may use it). Whoever commits first removes the old leaf and adds the new
one. A KeyPackage is answered once.

**Rolled back file**: the relay has had an acknowledgement, or holds a message of ours, that this file does not know.
Nothing is sent in any epoch it holds; every conversation is resynced and the prekeys are made anew.

**Rolled back relay**: a new incarnation. Everything is registered again, winning Commits take their fences again, and
what was accepted lately is deposited again; ids make that harmless.

**Fork**: two Commits won one fence, which only a relay that lost its memory allows. The branch whose winner has the
smaller digest is right; members on the other one resync.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from restante.account import authenticate
from restante.engine import records
from restante.engine.commits import Commits
from restante.engine.conversations import Conversation, Conversations, leaf_account, leaf_data
from restante.engine.mailroom import Mailroom
from restante.engine.outbox import Outbox
from restante.engine.parcels import Parcels
from restante.engine.state import State
from restante_crypto import proofs
from restante_crypto.mls import Group, KeyPackage, MLSError, key_package_message, validate_key_package
from restante_protocol import frames, ids

RESYNC_AGAIN: Final = 60  # seconds until an unanswered request is repeated with a fresh KeyPackage
RESYNC_DELAY: Final = 300  # milliseconds by place: one member answers, the others see it
RESYNC_REMEMBERED: Final = 120 * 86_400  # longer than a KeyPackage lives


class Recovery:
    """Resyncs of this client and of others."""

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

    # This client.

    def rolled_back(self, at_relay: Sequence[frames.PoolCount] = ()) -> None:
        """This file is older than what was done with it. ``at_relay``: the prekey pools that the relay has."""
        self._state.emit(records.RolledBackEvent())
        self._mailroom.discard_prekeys(at_relay)
        self._tables.deposits.delete_group(b"")
        for conversation in self._conversations.all():
            if conversation.group is not None and conversation.state.active:
                self._freeze(conversation)

    def request(self, conversation: Conversation, cause: str, epoch: int = -1) -> None:
        """Our state of this conversation is beyond use; ``epoch``: the last one that the others have too."""
        if conversation.state.resync:
            return
        self._state.fail(cause, "nothing to do: this device asks to be added again", conversation.id)
        self._freeze(conversation, epoch)

    def _freeze(self, conversation: Conversation, epoch: int = -1) -> None:
        self._commits.drop(conversation, lost=False)
        self._tables.intents.delete_group(conversation.id)
        self._conversations.update(conversation, resync=True, awaited=False, resync_at=0, resync_epoch=epoch)
        self._conversations.fences.pop(conversation.fence, None)

    def ask(self) -> None:
        """Send the requests that are due."""
        now = self._state.now()
        for conversation in self._conversations.all():
            if conversation.state.resync and now - conversation.state.resync_at >= RESYNC_AGAIN:
                self._ask(conversation, now)

    def _ask(self, conversation: Conversation, now: int) -> None:
        if len(conversation.current.members) == 1:
            self._conversations.close(conversation)
            return
        address = self._mailroom.spare_address()
        if address is None:
            return
        bundle = self._mailroom.new_key_package(address, conversation.current.suite)
        self._mailroom.use_address(address, conversation.id)
        tag = self._mailroom.keep_bundle(bundle, -1, address, upload=False)
        message = key_package_message(bundle.key_package)
        body = self._outbox.seal(conversation, message, *self._shared_key(conversation))
        own = conversation.state.address
        self._outbox.ready(
            records.Ready(
                self._state.random(ids.MESSAGE_ID_BYTES),
                [address for address in conversation.addresses() if address != own],
                body,
            )
        )
        self._conversations.update(conversation, resync_tag=tag, resync_at=now)

    def _shared_key(self, conversation: Conversation) -> tuple[bytes, bytes]:
        """Return tag and outer key of the epoch under which the others can open our request."""
        for row in self._tables.epochs.rows(conversation.id):
            epoch = records.Epoch.unpack(row.value)
            if epoch.epoch == conversation.state.resync_epoch:
                return row.key, epoch.key
        return conversation.tag, conversation.key

    def removed_for_resync(self, conversation: Conversation) -> None:
        """The Commit that removes our old leaf adds the new one: wait for its Welcome."""
        self._conversations.update(conversation, resync_at=self._state.now())

    def joined_again(self, old: Conversation, group: Group, address: bytes) -> None:
        """The Welcome to our request: this conversation goes on in the group's current epoch."""
        stored = self._tables.outbox.rows(old.id)
        self._mailroom.retire_address(old.state.address)
        conversation = self._conversations.add(
            group,
            msgspec.structs.replace(
                old.state,
                address=address,
                resync=False,
                resync_tag=b"",
                resync_epoch=-1,
                fence_number=0,
                fence_previous=b"",
                number=0,
                previous=b"",
                epoch_base=0,
                healed_at=self._state.now(),
            ),
        )
        if stored:
            self._outbox.renumber(conversation)
        self._tables.numbers.delete_group(conversation.id)

    # Other members.

    def requested(self, package: KeyPackage, conversation: Conversation) -> None:
        """A member asks to be added again."""
        state = self._state
        group = conversation.current
        try:
            validate_key_package(package, group.suite, now=state.now())
            authenticate(package.leaf_node, None)
            leaf_data(package.leaf_node)
        except (MLSError, ValueError):
            state.fail("a request to be added again that fails its checks", "nothing to do", conversation.id)
            return
        leaf = package.leaf_node
        known = [
            member
            for member in group.members
            if member.leaf.signature_key == leaf.signature_key and leaf_account(member.leaf) == leaf_account(leaf)
        ]
        reference = proofs.body_digest(package.encode())
        if not known or known[0].index == group.own_index or self._tables.resyncs.get(reference) is not None:
            return
        self._tables.resyncs.put(reference, b"\x01", sort=state.now())
        delay = RESYNC_DELAY * self._commits.place(conversation)
        self._commits.want(
            conversation,
            records.Intent(
                records.INTENT_RESYNC,
                account=leaf_account(leaf),
                signature_key=leaf.signature_key,
                key_package=package.encode(),
                not_before=state.clock() + delay,
            ),
        )

    def forked(self, conversation: Conversation, epoch: int, ours: bytes, theirs: bytes) -> None:
        """Two Commits won the same fence of an epoch; if ours is not the one that stays, ask to be added again."""
        if proofs.body_digest(theirs) < proofs.body_digest(ours):
            self.request(conversation, "the group was forked by a relay that lost its memory", epoch)

    # The relay.

    def new_incarnation(self) -> None:
        """The relay lost, or may have lost, what it held."""
        self._mailroom.register_again()
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

    def prune(self) -> None:
        """Forget answered requests after their KeyPackages have expired."""
        self._tables.resyncs.delete_below(self._state.now() - RESYNC_REMEMBERED)
