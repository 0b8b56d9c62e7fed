"""A conversation as an application holds it: a handle; what it shows is always current."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from restante.account import account_id
from restante.claims import claim
from restante.errors import ConversationError, NotAMember, Queued

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.conversations import View
    from restante.engine.engine import Engine

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

    _engine: "Engine" = field(repr=False)
    _driver: "Driver" = field(repr=False)
    id: str

    @property
    def _view(self) -> "View":
        return self._engine.views()[self.id]

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
        await self._driver.do(self._engine.accept, self.id)

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
        self._driver.check()
        content_id = await self._driver.outbox.submit(self.id, data, in_reply_to)
        message_id = self._engine.message_id(self.id, content_id)
        try:
            async with asyncio.timeout(timeout):
                await self._driver.outbox.deposited([content_id])
        except TimeoutError:
            raise Queued(message_id) from None
        if not self.active and await self._driver.run(self._engine.was_dropped, content_id):
            raise NotAMember("this account is no longer in the conversation")
        return Receipt(message_id)

    async def add(self, invite: str) -> None:
        """Add the account that gave this invite; it reads what is sent from now on.

        Raises:
            InviteError: the invite is malformed, expired, revoked, forged, or of another relay.
            NotAMember: this account is no longer in the conversation.
            Refused: the relay takes no handshake of the size that this group has; nobody was added.
        """
        packages = await claim(self._engine, self._driver, [invite], self.id)
        await self._committed(await self._driver.do(self._engine.add, self.id, packages))
        if account_id(packages[0].leaf_node.credential.identity) not in self._view.members:
            raise ConversationError("the conversation was repaired meanwhile: add the account again")

    async def remove(self, account_id: str) -> None:
        """Remove an account; it reads nothing that members send once they know. Raises NotAMember."""
        await self._committed([await self._driver.do(self._engine.remove, self.id, account_id)])
        if account_id in self._view.members:
            raise ConversationError("the conversation was repaired meanwhile: remove the account again")

    async def leave(self) -> None:
        """Leave; returns once the relay holds the farewell, on which the other members remove this account."""
        key = await self._driver.do(self._engine.leave, self.id)
        if key is not None:
            await self._driver.outbox.deposited([key])

    async def update_keys(self) -> None:
        """Commit fresh keys: whoever copied this device's keys before can read no further."""
        await self._committed([await self._driver.do(self._engine.update_keys, self.id)])

    async def resync(self) -> None:
        """Let this device in again with fresh keys, if its state of the conversation does not fit the others' any more.

        That happens by itself where it is noticed: after a fork, in an older copy of the file, and if the stored state
        is damaged. Returns once the device is in again, which needs one other member who is online. What is sent
        meanwhile waits; messages that were on their way to the old state may be lost.

        Raises:
            NotAMember: this account is no longer in the conversation, or nobody can let it in again.
        """
        await self._driver.do(self._engine.resync, self.id)

        async def done() -> bool:
            return not await self._driver.run(self._engine.is_resyncing, self.id)

        await self._driver.until(done)
        if not self.active:
            raise NotAMember("nobody can let this account in again")

    async def _committed(self, intents: Sequence[bytes]) -> None:
        """Wait for the Commit that has these intents. Raises NotAMember, Refused."""
        await self._driver.commits.committed(intents)
        if not self.active:
            raise NotAMember("this account is no longer in the conversation")
