"""Other members' resyncs: who may ask, who answers, and with what.

A request is answered if it is signed by the key of a leaf of the *current* group and names an epoch, with its epoch
authenticator, whose outer key is still here. Members answer in the order of their leaves: the first FIRST_ANSWERS
soon, because the asker compares them, the others later and only while the asker's Commit has not come. A request is
answered once, and a device ANSWERS_PER_HOUR times. A member on the branch of a fork that the asker has left is silent.
"""

from typing import Final

from restante.engine import records
from restante.engine.conversations import OUTER_KEY_SECONDS, Conversation, Conversations
from restante.engine.outbox import Outbox
from restante.engine.parcels import Parcels
from restante.engine.state import State
from restante.packed import check
from restante.resync import HISTORY, ResyncAnswer, ResyncRequest, read_request
from restante_crypto import primitives, sealing
from restante_crypto.mls import Member
from restante_crypto.suites import SUITES
from restante_protocol import ids

FIRST_ANSWERS: Final = 3  # so many may be on their way at once
ANSWER_DELAY: Final = 300  # milliseconds by place
LATER_DELAY: Final = 5000  # milliseconds more for all others: the asker's Commit should have come by then
ANSWERS_PER_HOUR: Final = 8  # to one device: it asks 7 times in its first hour
RESUMPTION_SECONDS: Final = 60 * 86_400  # after an epoch's end: well before the first member has forgotten its PSK

_WAITING: Final = b"waiting"
_DONE: Final = b"done"
_COUNTED: Final = b"counted"
_HOUR: Final = 3600


class Answering:
    """Requests of other members, from their arrival to the answer."""

    def __init__(self, state: State, conversations: Conversations, outbox: Outbox, parcels: Parcels) -> None:
        """Nothing is read until somebody asks."""
        self._state = state
        self._tables = state.tables
        self._conversations = conversations
        self._outbox = outbox
        self._parcels = parcels

    def requested(self, message: bytes, epoch: records.Epoch, conversation: Conversation) -> None:
        """A request came under the outer key of this epoch."""
        state = self._state
        try:
            request = read_request(message)
            asker = _member(conversation, request)
            if asker is None or asker.index == conversation.current.own_index:
                return  # removed, a stranger, or an older copy of our own file
            _check(request, epoch, conversation)
        except ValueError:
            state.fail("a request to be let in again that fails its checks", "nothing to do", conversation.id)
            return
        digest = request.digest()
        if self._tables.resyncs.get(digest) is None and self._counts(conversation, request):
            due = state.clock() + _delay(conversation)
            asked = records.Asked(conversation.id, request.encode())
            self._tables.resyncs.put(digest, asked.pack(), group=_WAITING, sort=due)

    def _counts(self, conversation: Conversation, request: ResyncRequest) -> bool:
        """Count a request of this device; False if there were too many within the hour."""
        key, now = conversation.id + request.signature_key, self._state.now()
        stored = self._tables.resyncs.get(key)
        times = [at for at in records.Answered.unpack(stored).times if at > now - _HOUR] if stored else []
        if len(times) >= ANSWERS_PER_HOUR:
            return False
        self._tables.resyncs.put(key, records.Answered([*times, now]).pack(), group=_COUNTED, sort=now)
        return True

    def next_at(self) -> int | None:
        """Return the Unix millisecond at which the next answer is due, or None."""
        return self._tables.resyncs.min_sort(_WAITING)

    def answer(self) -> None:
        """Answer what is due."""
        for row in self._tables.resyncs.rows(_WAITING):
            if row.sort > self._state.clock():
                break
            asked = records.Asked.unpack(row.value)
            done = records.Asked(asked.conversation)
            self._tables.resyncs.put(row.key, done.pack(), group=_DONE, sort=self._state.now())
            conversation = self._conversations.get(asked.conversation)
            if conversation is not None and conversation.usable:
                self._answer(ResyncRequest.decode(asked.request), conversation)

    def _answer(self, request: ResyncRequest, conversation: Conversation) -> None:
        state, group = self._state, conversation.current
        asker, epochs = _member(conversation, request), self._conversations.epochs(conversation)
        common, after = epochs.get(request.epoch), epochs.get(request.epoch + 1)
        on_their_branch = bool(request.branch) and (after is None or after[1].authenticator == request.branch)
        if asker is None or common is None or on_their_branch:
            return
        told = {request.epoch, request.epoch + 1, *sorted(epochs)[-HISTORY:]}
        ended = common[1].ended
        reference = self._parcels.tree_reference(group)
        answer = ResyncAnswer(
            request=request.digest(),
            history=[
                (n, epoch.authenticator) for n, (_, epoch) in sorted(epochs.items()) if n in told and n >= request.epoch
            ],
            fence=conversation.fence,
            tag=conversation.tag,
            key=conversation.key,
            replaces=asker.index,
            resumption=request.epoch >= conversation.state.youngest
            and (not ended or state.now() - ended < RESUMPTION_SECONDS),
            group_info=group.group_info(with_tree=False),
            tree=reference or group.ratchet_tree,
            signature_key=state.signer.public,
        )
        plain = answer.sign(state.signer).encode()
        body = sealing.seal_answer(common[1].suite, request.public, plain, state.random)
        self._outbox.ready(
            records.Ready(
                state.random(ids.MESSAGE_ID_BYTES),
                [request.address],
                body,
                blobs=() if reference is None else (reference.blob,),
            )
        )

    def came_back(self, conversation: Conversation, signature_key: bytes) -> None:
        """A device has let itself in again: what waits for it is answered."""
        for row in self._tables.resyncs.rows(_WAITING):
            asked = records.Asked.unpack(row.value)
            if (
                asked.conversation == conversation.id
                and ResyncRequest.decode(asked.request).signature_key == signature_key
            ):
                done = records.Asked(asked.conversation)
                self._tables.resyncs.put(row.key, done.pack(), group=_DONE, sort=self._state.now())

    def prune(self) -> None:
        """Forget answered requests once nothing opens them any more."""
        now = self._state.now()
        self._tables.resyncs.delete_below(now - OUTER_KEY_SECONDS - _HOUR, _DONE)
        self._tables.resyncs.delete_below(now - _HOUR, _COUNTED)


def _member(conversation: Conversation, request: ResyncRequest) -> Member | None:
    members = conversation.current.members
    return next((each for each in members if each.leaf.signature_key == request.signature_key), None)


def _check(request: ResyncRequest, epoch: records.Epoch, conversation: Conversation) -> None:
    """Check a member's request. Raises ValueError."""
    check(request.conversation == conversation.id and request.epoch == epoch.epoch, "another conversation or epoch")
    check(primitives.equal(request.authenticator, epoch.authenticator), "epoch authenticator")
    check(SUITES[epoch.suite].kem.is_public_key(request.public), "public key")
    check(request.verify(), "signature")


def _delay(conversation: Conversation) -> int:
    """Return the milliseconds that this member waits, by its place among the leaves."""
    group = conversation.current
    place = sum(1 for member in group.members if member.index < group.own_index)
    return ANSWER_DELAY * place + (LATER_DELAY if place >= FIRST_ANSWERS else 0)
