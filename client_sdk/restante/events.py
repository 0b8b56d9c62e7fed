"""What happens to a client, as values: what ``client.events()`` yields and ``client.on`` handlers get.

An event is handled when the next one is requested, when its handler returns, when its ``accept`` or ``reply`` returns,
or when the client closes without an exception. Until then it is in the client's file, and comes again with the same id
after a crash. ``Replaced`` and ``ConnectionChanged`` are about this process alone and are not kept.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restante.conversation import Conversation, Receipt

__all__ = [
    "Announcement",
    "ConnectionChanged",
    "ContactRequest",
    "DecryptFailed",
    "DeviceAdded",
    "DeviceChanged",
    "Disclosed",
    "EntryLost",
    "Event",
    "InviteOverused",
    "MemberAdded",
    "MemberRemoved",
    "Message",
    "MessagesMissing",
    "ProfileChanged",
    "PurposeChanged",
    "PushLost",
    "Replaced",
    "StateRolledBack",
    "SuiteChanged",
]


async def _nothing() -> None:
    """The default of an event that is not kept in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        id: names this event; the same after a crash.
    """

    id: str
    _handled: Callable[[], Awaitable[None]] = field(default=_nothing, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Event):
    """A message arrived, once, in its sender's order.

    Attributes:
        conversation: where.
        sender: the sender's account id.
        text: the text, or None if bytes were sent.
        data: the bytes; of a text its UTF-8.
        sent_at: the sender's clock, UTC.
    """

    __match_args__ = ("id", "conversation", "sender", "text", "data", "sent_at")

    conversation: "Conversation"
    sender: str
    text: str | None = field(repr=False)
    data: bytes = field(repr=False)
    sent_at: datetime
    _content_id: bytes = field(default=b"", repr=False, compare=False)

    async def reply(self, data: str | bytes, *, timeout: float | None = None) -> "Receipt":  # noqa: ASYNC109 -- the API
        """Send an answer into the conversation; this event is then handled. As ``Conversation.send``."""
        receipt = await self.conversation._send(data, timeout, in_reply_to=self._content_id)  # noqa: SLF001 -- our own
        await self._handled()
        return receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactRequest(Event):
    """A stranger started a conversation; its messages follow once it is accepted.

    Attributes:
        sender: the stranger's account id.
        conversation: what was started.
    """

    __match_args__ = ("sender", "conversation")

    sender: str
    conversation: "Conversation"
    _accept: Callable[[], Awaitable[None]] = field(default=_nothing, repr=False, compare=False)

    async def accept(self) -> None:
        """Take the conversation up; its sender is a contact from now on."""
        await self._accept()
        await self._handled()

    async def decline(self) -> None:
        """Leave the conversation without a word about what was in it."""
        await self.conversation.leave()
        await self._handled()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAdded(Event):
    """An account joined; for one's own account: a contact added this one.

    Attributes:
        conversation: where.
        member: who joined.
        by: who added them; empty if this device was lost at that time, and was let in again since.
    """

    __match_args__ = ("conversation", "member", "by")

    conversation: "Conversation"
    member: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAdded(Event):
    """An account that was known already uses a device, that is a key, that was not seen before.

    Attributes:
        conversation: where it was seen.
        account: whose it is.
        advice: what helps.
    """

    __match_args__ = ("conversation", "account")

    conversation: "Conversation"
    account: str
    advice: str = "ask its owner by another way whether the device is theirs; if not, their identity key was stolen"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChanged(Event):
    """A device of a member is gone while others of the account stay, or has fresh keys because it lost its old ones.

    Attributes:
        conversation: where it was seen.
        account: whose it is.
        change: "removed", or "rejoined": its file was old or damaged, or somebody has copied its keys.
        advice: what helps.
    """

    __match_args__ = ("conversation", "account", "change")

    conversation: "Conversation"
    account: str
    change: str
    advice: str = "if its owner knows nothing of it, somebody else has its keys: they should remove the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRemoved(Event):
    """An account left or was removed; for one's own account the conversation ends here.

    Attributes:
        conversation: where.
        member: who is gone.
        by: whose Commit it was; empty if this device was lost at that time, and was let in again since.
    """

    __match_args__ = ("conversation", "member", "by")

    conversation: "Conversation"
    member: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptFailed(Event):
    """Something arrived that could not be opened or used.

    Attributes:
        cause: what failed.
        advice: what helps.
        conversation: where, if that is known.
    """

    __match_args__ = ("cause", "advice")

    cause: str
    advice: str
    conversation: "Conversation | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesMissing(Event):
    """A sender's numbering shows that messages did not arrive. They may still come late.

    Attributes:
        conversation: where.
        sender: whose messages.
        count: how many.
        advice: what helps.
    """

    __match_args__ = ("conversation", "sender", "count")

    conversation: "Conversation"
    sender: str
    count: int
    advice: str = "the relay lost them or holds them back: ask the sender to send them again"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRolledBack(Event):
    """This client's file is an older copy: its keys were used since. Nothing is sent with them.

    Attributes:
        advice: what happens now.
    """

    advice: str = (
        "this device lets itself into every conversation again; messages that were read after the copy was made "
        "are not in it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteOverused(Event):
    """So many conversations were begun with one invite that, for a time, it only gives the key that all share.

    Attributes:
        invite: its text.
        advice: what helps.
    """

    __match_args__ = ("invite",)

    invite: str = field(repr=False)
    advice: str = "make an invite for each person: somebody may be trying to use up the keys behind this one"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteChanged(Event):
    """A conversation goes on with a better cipher suite, because all its devices have it by now.

    Attributes:
        conversation: the same as before: its id, members and messages stay.
        suite: the new suite's name, as ``conversation.suite``.
    """

    __match_args__ = ("id", "conversation", "suite")

    conversation: "Conversation"
    suite: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChanged(Event):
    """A contact has a profile now, or changed it: ``client.profile(account)`` reads it.

    Attributes:
        conversation: where they told.
        account: whose it is.
    """

    __match_args__ = ("account",)

    conversation: "Conversation"
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLost(Event):
    """This device is not woken any more, though its owner did not clear that: subscribe anew, and ``set_push`` again.

    Its push service ended the subscription, or the relay does not send to that service any more.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLost(Event):
    """This account is not found by its handle or number any more, though its owner did not withdraw it.

    A number belongs to who verified it last; a handle that the relay lost may have been taken by another.

    Attributes:
        purpose: "handle" or "number".
    """

    __match_args__ = ("purpose",)

    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeChanged(Event):
    """An optional purpose that was granted says something else now, or is not offered any more: it is off.

    ``client.purposes()`` says what it is now; it stays off until ``client.consent`` grants it again.

    Attributes:
        purpose: its name.
    """

    __match_args__ = ("purpose",)

    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement(Event):
    """The relay's operator tells everybody something: the same text for all, public, signed by the relay's pinned key.

    It is no correspondence: it has no sender and no conversation, it is not encrypted, and nobody can answer it.

    Attributes:
        kind: "policy", "transfer" (to another operator), "incident", "service", "news" (only if that purpose is
            granted), or one of a later version.
        number: of the announcement.
        announced_at: the relay's clock, UTC.
        texts: by language tag, at least one.
    """

    __match_args__ = ("kind", "texts")

    kind: str
    number: int
    announced_at: datetime
    texts: Mapping[str, str]

    def text(self, language: str = "en") -> str:
        """Return the text in this language, or else in the first there is."""
        return self.texts.get(language) or next(iter(self.texts.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed(Event):
    """The relay's operator has handed data of this mailbox to others, and tells so; signed by the relay's pinned key.

    Where the law forbids to tell for a time, this comes when that has passed.

    Attributes:
        ground: on which legal ground: PROTOCOL.md section 6.16.
        to: who received it.
        reason: the operator's words for it.
        fields: what was handed out, by its names in docs/data.md.
        number: of the entry in the relay's log of disclosures.
        disclosed_at: the relay's clock, UTC.
    """

    __match_args__ = ("ground", "to")

    ground: str
    to: str
    reason: str
    fields: tuple[str, ...]
    number: int
    disclosed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced(Event):
    """Another connection took over this mailbox; this client no longer connects by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionChanged(Event):
    """The connection to the relay was lost, or is there again.

    Attributes:
        connected: whether the client is connected now.
    """

    connected: bool
