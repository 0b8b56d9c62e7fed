"""The client: what an application embeds.

Two thirds of this file say what each call promises; what is behind the calls is in modules of their own.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from restante import events, names
from restante.claims import claim
from restante.conversation import Conversation
from restante.directory import Directory
from restante.driver import Agree, Driver
from restante.engine.directory import Contact, Found
from restante.engine.engine import Engine
from restante.engine.profiles import Profile
from restante.errors import Refused, RelayError
from restante.events import Announcement, Event
from restante.feed import Feed
from restante.links import numbered, open_session
from restante.publications import Official, Policy, Purpose, Transparency
from restante.push import Push
from restante.recorded import as_announcement, as_disclosed
from restante.safety import SafetyNumber, safety_number
from restante.yourdata import Erasure, Export, disclosures, erase, export
from restante_crypto.directory import Kind
from restante_protocol import frames
from restante_protocol.diagnostics import CHANNELS
from restante_protocol.errors import Code

__all__ = ["Client"]

E = TypeVar("E", bound=Event)


class Client:
    """An account on one device, connected to its relay. Open it with ``Client.open``."""

    def __init__(self, engine: Engine, driver: Driver) -> None:
        """Take over what ``open`` made."""
        self._engine = engine
        self._driver = driver
        self._directory = Directory(engine, driver)
        self._push = Push(engine, driver)
        self._feed = Feed(engine, driver)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        relay: str,
        passphrase: str | bytes,
        admission: str = "",
        agree: Agree | None = None,
        channel: str = CHANNELS[0],
    ) -> AsyncIterator["Client"]:
        """Open a client's file, or create it with a new account, and connect in the background.

        Args:
            path: the file; keep it, it is the account.
            relay: the relay's URL, http(s)://HOST:PORT.
            passphrase: opens the file.
            admission: an invite code, for a relay that asks new accounts for one.
            agree: an async function that is given the relay's ``Policy`` (or None) before the mailbox is created
                there, and returns whether to go on; if not, the client ends with PolicyDeclined.
            channel: where the app came from, one of ``CHANNELS``; told to nobody unless diagnostics are granted.

        Yields:
            The client; it works until the block ends.

        Raises:
            WrongPassphrase: the passphrase does not open the file.
            AlreadyOpen: another process, or another Client in this one, holds it.
            FileDamaged: it is no client's file, or a newer version wrote it.
            ValueError: there is no such channel.
        """
        if channel not in CHANNELS:
            raise ValueError(f"a channel is {', '.join(CHANNELS)}")
        executor = ThreadPoolExecutor(1, thread_name_prefix="restante-engine")
        loop = asyncio.get_running_loop()
        try:
            engine = await loop.run_in_executor(
                executor,
                partial(
                    Engine.open, Path(path), passphrase, relay, random=os.urandom, clock=lambda: int(time.time() * 1000)
                ),
            )
            try:
                async with open_session() as session:
                    driver = Driver(
                        engine,
                        executor,
                        session,
                        relay,
                        random_bytes=os.urandom,
                        admission=admission.encode(),
                        agree=agree,
                        channel=channel,
                    )
                    client = cls(engine, driver)
                    driver.start()
                    try:
                        yield client
                    except BaseException:
                        await client._close(handled=False)
                        raise
                    await client._close(handled=True)
            finally:
                await loop.run_in_executor(executor, engine.close)
        finally:
            executor.shutdown()

    async def _close(self, *, handled: bool) -> None:
        await self._feed.close(handled=handled)
        await self._driver.stop()

    # The account.

    @property
    def account_id(self) -> str:
        """This account's id: its public key, 52 characters."""
        return self._engine.account_id

    async def invite(self) -> str:
        """Make an invite (``restante:…``) to give to somebody by another way; valid 90 days, renewed while used.

        Raises:
            RelayError: the relay refuses this client.
        """
        await self._driver.sender()  # the invite names the relay's key
        text = await self._driver.run(self._engine.new_invite)
        await self._driver.chores.settled()
        return text

    def safety_number(self, account: str) -> SafetyNumber:
        """Return what to compare with another account's owner, by eye or by camera.

        Raises:
            ValueError: this is no account id.
        """
        return safety_number(self.account_id, account)

    def conversations(self) -> list[Conversation]:
        """Return the conversations that this account is in, those not accepted yet included."""
        views = tuple(self._engine.views().values())
        return [Conversation(self._engine, self._driver, view.id) for view in views if view.active]

    async def policy(self, number: int | None = None) -> Policy | None:
        """Return the relay's privacy policy, the newest or that of a number; None if there is none.

        It is there before a mailbox is, and reading it tells the relay nothing about who reads.

        Raises:
            RelayError: it is not signed by the relay's pinned key.
        """
        return await self._driver.bulletin.policy(number)

    async def announcements(self) -> list[Announcement]:
        """Return what the relay's operator has announced to everybody, oldest first; what is new is an event, too.

        Announcements of the kind "news" are among it only if the purpose "news" is granted.

        Raises:
            RelayError: it is not signed by the relay's pinned key.
        """
        announced = await self._driver.bulletin.announcements()
        return [as_announcement(each, id=f"announcement {each.number}") for each in announced]

    async def official(self) -> list[Official]:
        """Return whom of the operator's people one can write to, for support and activities.

        ``start_conversation`` with such an invite is a conversation like any other: what is said in it reaches the
        members' devices and nothing else.

        Raises:
            RelayError: the list is not signed by the relay's pinned key.
        """
        return await self._driver.bulletin.official()

    async def transparency(self) -> Transparency | None:
        """Return how often the relay's operator has handed data of anybody to others; None if the relay does not say.

        What concerns this account is the event ``Disclosed``, and ``disclosures``.

        Raises:
            RelayError: it is not signed by the relay's pinned key.
        """
        return await self._driver.bulletin.transparency()

    async def disclosures(self) -> list[events.Disclosed]:
        """Return what the relay's operator has handed to others of this account, as far as the law allows to tell it.

        Raises:
            RelayError: it is not signed by the relay's pinned key.
        """
        found = await disclosures(self._engine, self._driver, int(time.time()))
        return [as_disclosed(each, id=f"disclosure {each.number}") for each in found]

    # What is optional.

    async def purposes(self) -> list[Purpose]:
        """Return what the relay offers beyond the service itself, and which of it is granted.

        Everything is off until it is granted. A purpose that says something else than when it was granted, or is not
        offered any more, is off too, and ``PurposeChanged`` tells so once.

        Raises:
            RelayError: the policy is not signed by the relay's pinned key.
        """
        offered = await self._driver.bulletin.purposes()
        granted = await self._driver.run(self._engine.consents.granted)
        return [replace(each, granted=granted.get(each.name) == each.version) for each in offered.values()]

    async def consent(self, purpose: str) -> None:
        """Grant a purpose as it is offered now; the relay is told only if it holds data of this account for it.

        Raises:
            RelayError: the relay does not offer it.
        """
        offered = (await self._driver.bulletin.purposes()).get(purpose)
        if offered is None:
            raise RelayError("the relay does not offer this purpose")
        await self._driver.run(self._engine.consents.grant, purpose, offered.version)
        await self._driver.chores.settled()
        await self._driver.diagnostics.look()
        if (await self._driver.run(self._engine.consents.granted)).get(purpose) != offered.version:
            raise RelayError("the relay does not offer this purpose")

    async def withdraw(self, purpose: str) -> None:
        """Withdraw a purpose, granted or not: it is off at once.

        Returns once no file of the relay's store holds what was stored for it. Interrupted, it goes on when the client
        is connected again.
        """
        await self._driver.run(self._engine.consents.withdraw, purpose)
        await self._driver.diagnostics.look()  # nothing is counted any more
        await self._driver.chores.settled()

    # The directory.

    async def set_handle(self, handle: str) -> None:
        """Be found by a handle from now on, instead of the one before; needs the purpose "handle".

        Args:
            handle: 3 to 32 letters and digits of any script, with single ``.``, ``_``, ``-`` between them. How it is
                written in upper and lower case does not matter.

        Raises:
            ValueError: it is no handle.
            HandleTaken: another account has it.
            ConsentNeeded: the purpose is not granted.
            RelayError: the relay has no directory, or refuses.
        """
        await self._directory.set(Kind.HANDLE, names.handle(handle))

    async def clear_handle(self) -> None:
        """Be found by no handle; who found it before can start no conversation with it any more."""
        await self._directory.clear(Kind.HANDLE)

    async def handle(self) -> str | None:
        """Return this account's handle, as others' spellings of it become; None if it has none."""
        own = await self._driver.run(self._engine.directory.own, Kind.HANDLE)
        return own.name if own is not None else None

    async def find_handle(self, handle: str) -> Found | None:
        """Return who has exactly this handle, or None; needs the purpose "handle". The relay does not learn for whom.

        Raises:
            ValueError, ConsentNeeded, RelayError: as set_handle; Refused with the code BUDGET after too many.
        """
        return await self._directory.find_handle(handle)

    async def verify_number(self, number: str, *, region: str | None = None) -> None:
        """Have a code sent to a mobile number, to be found by it; needs the purpose "number".

        Args:
            number: as people write it.
            region: its country, such as "DE", if it is written without + and country code.

        Raises:
            ValueError: this is no number.
            ConsentNeeded: the purpose is not granted: the relay does not see the number.
            Refused: LIMIT, it is no mobile number; BUDGET, too many codes were sent; UNAVAILABLE, it was not sent.
        """
        await self._directory.verify(number, region)

    async def confirm_number(self, number: str, code: str, *, region: str | None = None) -> None:
        """Say the code that came, and be found by this number from now on, instead of the one before.

        Raises:
            Refused: UNAUTHORIZED, it is another code; NOT_FOUND, none waits, or too many were tried.
        """
        await self._directory.confirm(number, code, region)

    async def clear_number(self) -> None:
        """Be found by no number; the relay forgets that one was verified."""
        await self._directory.clear(Kind.NUMBER)

    async def number(self) -> str | None:
        """Return the number that this account is found by; None if there is none."""
        own = await self._driver.run(self._engine.directory.own, Kind.NUMBER)
        return own.name if own is not None else None

    async def find_numbers(self, numbers: Sequence[str], *, region: str | None = None) -> dict[str, Found]:
        """Return who has verified these numbers, by number as E.164 writes it; needs a verified number of one's own.

        The relay learns how many are looked for, and in which of 240 buckets. Each takes a tenth of a second.

        Raises:
            ValueError: one of them is no number.
            ConsentNeeded: the purpose "number" is not granted.
            Refused: UNAUTHORIZED, no number is verified here; BUDGET, too many were looked for.
        """
        return await self._directory.find_numbers(numbers, region)

    # Push.

    async def push_key(self) -> str:
        """Return the relay's VAPID key, in base64url, that a subscription at a push service is made for.

        Raises:
            RelayError: the relay does not offer push.
        """
        return await self._push.key()

    async def set_push(self, endpoint: str) -> None:
        """Have this device woken through a push service while the client is closed; needs the purpose "push".

        It replaces the endpoint before. A push is empty: on one, open the client and see what has arrived.

        Args:
            endpoint: the https URL of the subscription.

        Raises:
            ConsentNeeded: the purpose is not granted: the relay does not see the endpoint.
            Refused: LIMIT, it is no such URL; NOT_FOUND, the relay's policy does not name this push service.
        """
        await self._push.set(endpoint)

    async def clear_push(self) -> None:
        """Have this device woken no more; the relay erases the endpoint."""
        await self._push.clear()

    async def push(self) -> str | None:
        """Return where this device is woken, as the relay has it now; None if nowhere.

        The client asks once a day by itself; ``PushLost`` says that the endpoint is gone.
        """
        return await self._push.look()

    # Contacts.

    async def contacts(self) -> list[Contact]:
        """Return the accounts that are known: invited, or accepted."""
        return await self._driver.run(self._engine.contacts)

    async def confirm_safety_number(self, account: str, code: str) -> bool:
        """Keep that this account is who its owner says, if this is the safety number that they show; say whether it is.

        Args:
            account: the account's id.
            code: what its owner's QR code says, or the digits that they show.

        Raises:
            ValueError: this is no account id.
        """
        matches = self.safety_number(account).matches(code)
        if matches:
            await self._driver.run(self._engine.verify, account)
        return matches

    # Profiles.

    async def set_profile(self, nickname: str, avatar: bytes = b"") -> None:
        """Set what contacts see of this account; return once the relay holds it, encrypted and padded.

        It is told in every conversation whose other members are all contacts, and to nobody else.

        Args:
            nickname: at most 256 bytes of UTF-8.
            avatar: at most 48 KiB.

        Raises:
            ValueError: something is too long.
        """
        await self._driver.run(self._engine.profiles.set, nickname, avatar)
        await self._driver.chores.settled()
        await self._driver.look()

    async def delete_profile(self) -> None:
        """Delete this account's profile at the relay; a new one will be at another place, under another key."""
        deletion = await self._driver.run(self._engine.profiles.slot_deletion)
        if deletion is not None:
            await self._driver.ask(partial(numbered, deletion))
            await self._driver.run(self._engine.profiles.forget)

    async def profile(self, account: str) -> Profile | None:
        """Return the profile of a contact, or this account's own; None if there is none to see.

        Raises:
            ValueError: not an account id.
        """
        if account == self.account_id:
            return await self._driver.run(self._engine.profiles.mine)
        link = await self._driver.run(self._engine.profiles.link, account)
        if link is None:
            return None
        try:
            slot = await self._driver.ask(partial(frames.SlotGet, slot=link.slot))
        except Refused as error:
            if error.code == Code.NOT_FOUND:
                return None
            raise
        if not isinstance(slot, frames.Slot):
            return None
        return await self._driver.run(self._engine.profiles.read, account, link, slot.body)

    # Your data.

    async def export_data(self) -> Export:
        """Return all that the relay holds of this account: mailbox, messages, slots, blobs, consents, directory.

        Raises:
            Closed: the account was erased.
        """
        return await export(self._engine, self._driver, int(time.time()))

    async def erase(self) -> Erasure:
        """Erase all that the relay holds of this account, for good, and end this client.

        Returns once no file of the relay's store holds any of it, nor will any backup made later; the backups that
        were made before lose it when they are restored. Messages that other people hold are theirs and stay. Nothing
        is registered from this file again. After an interruption call it again.

        Raises:
            Refused: the relay cannot do it now.
        """
        return await erase(self._engine, self._driver)

    async def drained(self) -> None:
        """Return once all that the relay holds for this client now has been processed."""
        await self._driver.drained()

    async def start_conversation(self, invites: str | Sequence[str], *, title: str | None = None) -> Conversation:
        """Start a conversation with those who gave these invites; return once the relay holds their Welcomes.

        Args:
            invites: one or many.
            title: at most 256 bytes of UTF-8; members see it, the relay does not.

        Raises:
            InviteError: an invite is malformed, expired, revoked, forged, or of another relay.
            Refused: the relay takes no handshake of this size; there is no conversation.
        """
        packages = await claim(self._engine, self._driver, [invites] if isinstance(invites, str) else invites)
        await self._driver.chores.settled()
        conversation_id, intents = await self._driver.do(self._engine.create, title, packages)
        conversation = Conversation(self._engine, self._driver, conversation_id)
        try:
            await conversation._committed(intents)  # noqa: SLF001 -- our own
        except Refused:
            await conversation.leave()
            raise
        return conversation

    # Events.

    def events(self) -> AsyncIterator[Event]:
        """Yield what happens, one at a time; asking for the next says that the last one is handled.

        Events for which there is a handler (see ``on``) are not yielded. Ends when the client is closed or replaced.
        """
        return self._feed.events()

    def on(self, kind: type[E]) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]:
        """Decorate a function or coroutine function: it is called with every event of this type, one at a time."""

        def register(handler: Callable[[E], Any]) -> Callable[[E], Any]:
            self._feed.handle(kind, handler)
            return handler

        return register
