"""What goes out: contents in the order of the calls, and deposits whose bytes are final.

A content is encrypted when it is about to leave, and its bytes are in the file before: a retry sends the same bytes. If
the epoch moved before the relay accepted them, it is encrypted anew under its content id, by which receivers know it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from restante import content
from restante.engine import records
from restante.engine.conversations import Conversation, Conversations
from restante.engine.state import State
from restante_crypto import proofs, sealing
from restante_protocol import ids
from restante_protocol.errors import Code

SENT_SECONDS: Final = 32 * 86_400  # an own copy comes back within the longest lifetime
RETRY_FULL_SECONDS: Final = 86_400  # how long a full mailbox is tried again
RETRY_FULL_FIRST: Final = 5
RETURN_SECONDS: Final = 7 * 86_400  # after a relay lost its store, its clients come back one by one
KEEP_READY_SECONDS: Final = 14 * 86_400
REDEPOSIT_SECONDS: Final = 48 * 3600  # what a relay that was rolled back is given again
REDEPOSIT_COUNT: Final = 1000

BASE_EXTENSION: Final = "restante.base"
"""Content extension: the device's last number before the epoch, so that a joiner notices what it missed since."""


@dataclass(frozen=True, slots=True, repr=False)
class Job:
    """One deposit to make, once ``blobs`` are at the relay.

    ``key`` names it in the answer; ``content`` says that a send waits for it.
    """

    key: bytes
    message_id: bytes
    addresses: list[bytes]
    body: bytes
    fence: bytes | None = None
    content: bool = False
    blobs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """How a job ended: the indexes that were GONE or FULL."""

    key: bytes
    failed: Sequence[tuple[int, int]]


class Outbox:
    """Contents and ready deposits."""

    def __init__(self, state: State, conversations: Conversations) -> None:
        """Continue the order where the file ends."""
        self._state = state
        self._tables = state.tables
        self._conversations = conversations
        self._order = (state.tables.outbox.max_sort() or 0) + 1

    def submit(
        self,
        conversation: Conversation,
        content_type: str,
        body: bytes,
        in_reply_to: bytes | None,
        *,
        disposition: int = content.RENDER,
    ) -> bytes:
        """Queue a content; return its content id (16 bytes)."""
        content_id = self._state.random(ids.MESSAGE_ID_BYTES)
        record = records.Outgoing(
            content_id, content_type, body, self._state.clock(), in_reply_to, disposition=disposition
        )
        self._tables.outbox.put(content_id, record.pack(), group=conversation.id, sort=self._order)
        self._order += 1
        if not conversation.state.accepted:
            self.accept(conversation)
        return content_id

    def accept(self, conversation: Conversation) -> None:
        """The application takes up a conversation that a stranger started: what was held follows."""
        self._conversations.update(conversation, accepted=True)
        self._state.add_contact(conversation.state.inviter)
        self._state.events.release(conversation.id)

    def jobs(self, busy: Collection[bytes], room: int) -> list[Job]:
        """Return up to ``room`` deposits that can leave now, contents encrypted and stored; ``busy`` are under way."""
        now = self._state.clock()
        jobs: list[Job] = []
        for row in self._tables.deposits.rows(limit=room + len(busy)):
            ready = records.Ready.unpack(row.value)
            if ready.expires * 1000 <= now:
                self._tables.deposits.delete(row.key)
            elif row.key not in busy and row.sort <= now and len(jobs) < room:
                jobs.append(Job(row.key, ready.message_id, ready.addresses, ready.body, ready.fence, blobs=ready.blobs))
        for conversation in self._conversations.all():
            if len(jobs) >= room:
                break
            if conversation.usable and self._tables.outbox.exists(conversation.id):
                jobs.extend(self._contents(conversation, busy, room - len(jobs)))
        return jobs

    def _contents(self, conversation: Conversation, busy: Collection[bytes], room: int) -> list[Job]:
        jobs: list[Job] = []
        for row in self._tables.outbox.rows(conversation.id, limit=room + len(busy)):
            if row.key not in busy and len(jobs) < room:
                record = self._sealed(conversation, records.Outgoing.unpack(row.value), row.sort)
                jobs.append(Job(row.key, record.message_id, record.addresses, record.sealed, content=True))
        return jobs

    def _sealed(self, conversation: Conversation, record: records.Outgoing, order: int) -> records.Outgoing:
        group = conversation.current
        if record.epoch == conversation.epoch:
            return record
        state = conversation.state
        if record.number == 0:
            record = msgspec.structs.replace(record, number=state.number + 1, previous=state.previous)
        value = content.Content(
            content_id=record.content_id,
            number=record.number,
            previous=record.previous or None,
            sent_at=record.sent_at,
            in_reply_to=record.in_reply_to,
            disposition=record.disposition,
            content_type=record.content_type,
            body=record.body,
            extensions={BASE_EXTENSION: min(state.epoch_base, record.number - 1).to_bytes(8, "big")},
        )
        protected = group.protect(value.encode(), random=self._state.random)
        body = self.seal(conversation, protected.message)
        record = msgspec.structs.replace(
            record,
            epoch=conversation.epoch,
            message_id=self._state.random(ids.MESSAGE_ID_BYTES),
            sealed=body,
            addresses=conversation.addresses(),
        )
        self._conversations.save_group(conversation, protected.group)
        if record.number > state.number:
            self._conversations.update(
                conversation,
                number=record.number,
                previous=record.content_id,
                sent_since_heal=state.sent_since_heal + 1,
            )
        self._tables.outbox.put(record.content_id, record.pack(), group=conversation.id, sort=order)
        return record

    def seal(self, conversation: Conversation, message: bytes, tag: bytes = b"", key: bytes = b"") -> bytes:
        """Return the body of our message in the current epoch, or under the tag and outer key of another.

        It is remembered as ours: its copy in our own mailbox is no news; an unknown one tells that this file is old.
        """
        body = sealing.seal_body(tag or conversation.tag, key or conversation.key, message, self._state.random)
        self._tables.sent.put(proofs.body_digest(body), conversation.id, sort=self._state.now())
        return body

    def is_ours(self, digest: bytes) -> bool:
        """Say whether this client made the body with this digest."""
        return self._tables.sent.get(digest) is not None

    def ready(self, ready: records.Ready) -> bytes:
        """Queue a deposit whose bytes are final, sorted by when it is due; return its key."""
        key = self._state.random(16)
        if not ready.expires:
            ready = msgspec.structs.replace(ready, expires=self._state.now() + KEEP_READY_SECONDS)
        due = max(self._state.clock(), ready.not_before * 1000)
        self._tables.deposits.put(key, ready.pack(), sort=due)
        return key

    def is_queued(self, key: bytes) -> bool:
        """Say whether a content or ready deposit still waits."""
        return self._tables.outbox.get(key) is not None or self._tables.deposits.get(key) is not None

    def give_up(self, key: bytes) -> None:
        """Forget a content or ready deposit."""
        self._tables.outbox.delete(key)
        self._tables.deposits.delete(key)

    def answered(self, answers: Sequence[Answer]) -> None:
        """The relay has accepted these: forget them, but try mailboxes that are full again for a day.

        The same for those that are gone, while the relay's clients may still be registering again after a loss.
        """
        now = self._state.now()
        retried = {Code.FULL}
        if now < self._state.position.renewed + RETURN_SECONDS:
            retried.add(Code.GONE)
        for answer in answers:
            outgoing = self._tables.outbox.get(answer.key)
            stored = self._tables.deposits.get(answer.key)
            if outgoing is not None:
                record = records.Outgoing.unpack(outgoing)
                self._tables.outbox.delete(answer.key)
                ready = records.Ready(
                    record.message_id, record.addresses, record.sealed, expires=now + RETRY_FULL_SECONDS
                )
                wait = RETRY_FULL_FIRST
            elif stored is not None:
                ready = records.Ready.unpack(stored)
                self._tables.deposits.delete(answer.key)
                wait = max(RETRY_FULL_FIRST, min(3600, 2 * (now - ready.not_before) if ready.not_before else 0))
            else:
                continue
            self._tables.recent.put(answer.key, ready.pack(), sort=now)
            again = [ready.addresses[index] for index, code in answer.failed if code in retried]
            if again:
                self.ready(msgspec.structs.replace(ready, addresses=again, fence=None, not_before=now + wait))

    def has_jobs(self) -> bool:
        """Say whether anything may be due."""
        return self._tables.outbox.exists() or self._tables.deposits.exists()

    def next_at(self) -> int | None:
        """Return the Unix millisecond of the earliest deposit that waits for its time, or None."""
        first = self._tables.deposits.min_sort()
        return first if first is not None and first > self._state.clock() else None

    def renumber(self, conversation: Conversation) -> None:
        """After joining again the numbering starts anew, also for what still waits."""
        for row in self._tables.outbox.rows(conversation.id):
            record = msgspec.structs.replace(records.Outgoing.unpack(row.value), number=0, previous=b"", epoch=-1)
            self._tables.outbox.put(row.key, record.pack(), group=conversation.id, sort=row.sort)

    def redeposit(self) -> None:
        """The relay may have lost what it accepted lately: give it again; it and the receivers know it by its ids."""
        for row in self._tables.recent.rows():
            ready = records.Ready.unpack(row.value)
            self._tables.recent.delete(row.key)
            self.ready(msgspec.structs.replace(ready, fence=None, not_before=0, expires=0))

    def prune(self) -> None:
        """Forget what was sent long ago."""
        now = self._state.now()
        self._tables.sent.delete_below(now - SENT_SECONDS)
        self._tables.recent.delete_below(now - REDEPOSIT_SECONDS)
        surplus = self._tables.recent.count() - REDEPOSIT_COUNT
        if surplus > 0:
            for row in self._tables.recent.rows(limit=surplus):
                self._tables.recent.delete(row.key)
