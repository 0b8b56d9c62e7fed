"""A conversation as an application holds it: a handle; what it shows is always current."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restante.client import Client
    from restante.engine.conversations import View

__all__ = ["Conversation", "Receipt"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The relay holds the message durably, for every member but those whose mailboxes are gone or full.

    Attributes:
        id: the message's id, as every receiver's ``Message.id``.
    """

    id: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of two people or a thousand: one MLS group.

    Attributes:
        id: names the conversation, the same for all members.
    """

    _client: "Client" = field(repr=False)
    id: str

    @property
    def _view(self) -> "View":
        return self._client._view(self.id)  # noqa: SLF001 -- our own

    @property
    def title(self) -> str | None:
        """The title that it was started with."""
        return self._view.title

    @property
    def members(self) -> list[str]:
        """The members' account ids, this account's included; empty once this account is no longer in it."""
        return list(self._view.members)

    @property
    def epoch(self) -> int:
        """The MLS epoch: how many Commits there were."""
        return self._view.epoch

    @property
    def epoch_authenticator(self) -> bytes:
        """32 bytes that all members of this epoch share: equal for two members if nobody stands between them."""
        return self._view.epoch_authenticator

    @property
    def suite(self) -> str:
        """The cipher suite's name; one with MLKEM768X25519 in it keeps messages secret from later quantum computers.

        Empty once this account is no longer in the conversation.
        """
        return self._view.suite

    @property
    def active(self) -> bool:
        """Whether this account is in the conversation."""
        return self._view.active

    @property
    def accepted(self) -> bool:
        """Whether the conversation was accepted; sending into it accepts it."""
        return self._view.accepted

    async def accept(self) -> None:
        """Take up a conversation that a stranger began; its messages follow. Without effect if it was accepted."""
        await self._client._accept(self.id)  # noqa: SLF001 -- our own

    async def send(self, data: str | bytes, *, timeout: float | None = None) -> Receipt:  # noqa: ASYNC109 -- the API
        """Send a text or bytes; return once the relay holds it durably. Offline it waits.

        Concurrent calls keep their order.

        Args:
            data: at most 64 KiB; a text is counted in UTF-8.
            timeout: seconds; None waits as long as it takes.

        Raises:
            Queued: after ``timeout``; the message stays in the outbox and goes out by itself.
            MessageTooLarge: above 64 KiB.
            NotAMember: this account is no longer in the conversation.
            Closed: the client is closed; what was queued goes out when it is opened again.
        """
        return await self._send(data, timeout)

    async def _send(self, data: str | bytes, timeout: float | None, in_reply_to: bytes | None = None) -> Receipt:  # noqa: ASYNC109
        return await self._client._send(self.id, data, timeout, in_reply_to)  # noqa: SLF001 -- our own

    async def add(self, invite: str) -> None:
        """Add the account that gave this invite; it reads what is sent from now on.

        Raises:
            InviteError: the invite is malformed, expired, revoked, forged, or of another relay.
            NotAMember: this account is no longer in the conversation.
            Refused: the relay takes no handshake of the size that this group has; nobody was added.
        """
        await self._client._add(self.id, invite)  # noqa: SLF001 -- our own

    async def remove(self, account_id: str) -> None:
        """Remove an account; it reads nothing that members send once they know. Raises NotAMember."""
        await self._client._remove(self.id, account_id)  # noqa: SLF001 -- our own

    async def leave(self) -> None:
        """Leave; returns once the relay holds the farewell, on which the other members remove this account."""
        await self._client._leave(self.id)  # noqa: SLF001 -- our own

    async def update_keys(self) -> None:
        """Commit fresh keys: whoever copied this device's keys before can read no further."""
        await self._client._update_keys(self.id)  # noqa: SLF001 -- our own

    async def resync(self) -> None:
        """Let this device in again with fresh keys, if its state of the conversation does not fit the others' any more.

        That happens by itself where it is noticed: after a fork, in an older copy of the file, and if the stored state
        is damaged. Returns once the device is in again, which needs one other member who is online. What is sent
        meanwhile waits; messages that were on their way to the old state may be lost.

        Raises:
            NotAMember: this account is no longer in the conversation, or nobody can let it in again.
        """
        await self._client._resync(self.id)  # noqa: SLF001 -- our own
