"""The client: what an application embeds.

Longer than 600 lines because it is the public surface, and half of it says what each call promises; what is behind it
is in the engine and the driver.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from restante import content, events, names
from restante.account import account_id
from restante.conversation import Conversation, Receipt
from restante.directory import Directory
from restante.driver import Agree, Driver
from restante.engine import records
from restante.engine.conversations import View
from restante.engine.directory import Contact, Found
from restante.engine.engine import Engine
from restante.engine.profiles import Profile
from restante.errors import ConversationError, InviteError, NotAMember, Queued, Refused, RelayError
from restante.events import Announcement, Event
from restante.invites import Invite, Manifest
from restante.links import numbered, open_session
from restante.publications import Official, Policy, Purpose, Transparency
from restante.push import Push
from restante.safety import SafetyNumber, safety_number
from restante.yourdata import Erasure, Export, erase, export
from restante_crypto.directory import Kind
from restante_crypto.mls import KeyPackage
from restante_protocol import frames
from restante_protocol.diagnostics import CHANNELS
from restante_protocol.errors import Code

__all__ = ["Client"]

_log = logging.getLogger("restante")
_GONE: Final = "the invite was revoked, or its account is gone"
E = TypeVar("E", bound=Event)
Handler = Callable[[Any], Awaitable[None] | None]


class Client:
    """An account on one device, connected to its relay. Open it with ``Client.open``."""

    def __init__(self, engine: Engine, driver: Driver) -> None:
        """Take over what ``open`` made."""
        self._engine = engine
        self._driver = driver
        self._directory = Directory(engine, driver)
        self._push = Push(engine, driver)
        self._changes = 0  # how often something has changed that ``_next`` looks at
        self._waiting: list[asyncio.Future[None]] = []  # for the next change: the loop and the handlers
        self._in_hand: Event | None = None
        self._skipped: set[int] = set()
        self._passing: list[Event] = []
        self._handlers: dict[type[Event], Handler] = {}
        self._dispatcher: asyncio.Task[None] | None = None
        self._iterating = False
        driver.changed = self._change
        driver.connection_changed = self._connection_changed
        driver.replaced = lambda: self._pass(events.Replaced(id=os.urandom(8).hex()))

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
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)
        if handled and self._in_hand is not None:
            await self._in_hand._handled()  # noqa: SLF001 -- our own
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
        return [Conversation(self, view.id) for view in tuple(self._engine.views().values()) if view.active]

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
        return [
            _announcement(each, id=f"announcement {each.number}")
            for each in await self._driver.bulletin.announcements()
        ]

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
        found = []
        for each in (await self.export_data()).document["held"]["disclosure"]:
            try:
                entry, signature = each["entry"].encode(), bytes.fromhex(each["signature"])
                record = await self._driver.run(self._engine.read_disclosure, entry, signature)
            except (ValueError, KeyError) as error:
                raise RelayError(f"the relay's disclosures: {error}") from None
            found.append(_disclosed(record, id=f"disclosure {record.number}"))
        return found

    # What is optional.

    async def purposes(self) -> list[Purpose]:
        """Return what the relay offers beyond the service itself, and which of it is granted.

        Everything is off until it is granted. A purpose that says something else than when it was granted, or is not
        offered any more, is off too, and ``PurposeChanged`` tells so once.

        Raises:
            RelayError: the policy is not signed by the relay's pinned key.
        """
        offered = await self._driver.bulletin.purposes()
        granted = await self._driver.run(self._engine.granted)
        return [replace(each, granted=granted.get(each.name) == each.version) for each in offered.values()]

    async def consent(self, purpose: str) -> None:
        """Grant a purpose as it is offered now; the relay is told only if it holds data of this account for it.

        Raises:
            RelayError: the relay does not offer it.
        """
        offered = (await self._driver.bulletin.purposes()).get(purpose)
        if offered is None:
            raise RelayError("the relay does not offer this purpose")
        await self._driver.run(self._engine.grant, purpose, offered.version)
        await self._driver.chores.settled()
        await self._driver.diagnostics.look()
        if (await self._driver.run(self._engine.granted)).get(purpose) != offered.version:
            raise RelayError("the relay does not offer this purpose")

    async def withdraw(self, purpose: str) -> None:
        """Withdraw a purpose, granted or not: it is off at once.

        Returns once no file of the relay's store holds what was stored for it. Interrupted, it goes on when the client
        is connected again.
        """
        await self._driver.run(self._engine.withdraw, purpose)
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
        own = await self._driver.run(self._engine.own_entry, Kind.HANDLE)
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
        own = await self._driver.run(self._engine.own_entry, Kind.NUMBER)
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
        await self._driver.run(self._engine.set_profile, nickname, avatar)
        await self._driver.chores.settled()
        await self._driver.look()

    async def delete_profile(self) -> None:
        """Delete this account's profile at the relay; a new one will be at another place, under another key."""
        deletion = await self._driver.run(self._engine.profile_deletion)
        if deletion is not None:
            await self._driver.ask(partial(numbered, deletion))
            await self._driver.run(self._engine.forget_profile)

    async def profile(self, account: str) -> Profile | None:
        """Return the profile of a contact, or this account's own; None if there is none to see.

        Raises:
            ValueError: not an account id.
        """
        if account == self.account_id:
            return await self._driver.run(self._engine.own_profile)
        link = await self._driver.run(self._engine.profile_link, account)
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
        return await self._driver.run(self._engine.read_profile, account, link, slot.body)

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
        packages = await self._packages([invites] if isinstance(invites, str) else invites)
        await self._driver.chores.settled()
        conversation, intents = await self._driver.do(self._engine.create, title, packages)
        try:
            await self._committed(conversation, intents)
        except Refused:
            await self._leave(conversation)
            raise
        return Conversation(self, conversation)

    async def _packages(self, invites: Sequence[str], conversation: str | None = None) -> list[KeyPackage]:
        if not invites:
            raise InviteError("no invite")
        await self._driver.sender()  # the relay's key is known from here on
        found = [await self._manifest(text) for text in invites]
        manifests = [manifest for _, manifest in found]
        suite = await self._driver.run(self._engine.choose_suite, manifests, conversation)
        return [package for invite, manifest in found for package in await self._claim(invite, manifest, suite)]

    async def _manifest(self, text: str) -> tuple[Invite, Manifest]:
        engine, driver = self._engine, self._driver
        invite = engine.read_invite(text)
        try:
            slot = await driver.ask(lambda request: frames.SlotGet(request, invite.slot))
        except Refused as error:
            raise (InviteError(_GONE) if error.code == Code.NOT_FOUND else error) from None
        if not isinstance(slot, frames.Slot):
            raise InviteError(_GONE)
        return invite, await driver.run(engine.read_manifest, invite, slot.body)

    async def _claim(self, invite: Invite, manifest: Manifest, suite: int) -> list[KeyPackage]:
        engine, driver = self._engine, self._driver
        packages = []
        for device in manifest.devices:
            address = dict(device.pools)[suite]
            claimed = await driver.ask(partial(_claim_frame, suite, address))
            if not isinstance(claimed, frames.Claimed) or len(claimed.prekeys) != 1:
                raise InviteError(_GONE)
            prekey = claimed.prekeys[0]
            if prekey.code == Code.EMPTY:
                raise InviteError("the account has no KeyPackage at the relay: it has to connect first")
            if prekey.code:
                raise InviteError(_GONE)
            packages.append(await driver.run(engine.read_prekey, invite, device, suite, prekey.package))
        return packages

    # What conversations do.

    def _view(self, conversation: str) -> View:
        return self._engine.views()[conversation]

    async def _send(self, conversation: str, data: str | bytes, timeout: float | None, reply: bytes | None) -> Receipt:  # noqa: ASYNC109 -- the API
        self._driver.check()
        content_id = await self._driver.outbox.submit(conversation, data, reply)
        message_id = self._engine.message_id(conversation, content_id)
        try:
            async with asyncio.timeout(timeout):
                await self._driver.outbox.deposited([content_id])
        except TimeoutError:
            raise Queued(message_id) from None
        if not self._view(conversation).active and await self._driver.run(self._engine.was_dropped, content_id):
            raise NotAMember("this account is no longer in the conversation")
        return Receipt(message_id)

    async def _committed(self, conversation: str, intents: Sequence[bytes]) -> None:
        await self._driver.commits.committed(intents)
        if not self._view(conversation).active:
            raise NotAMember("this account is no longer in the conversation")

    async def _accept(self, conversation: str) -> None:
        await self._driver.do(self._engine.accept, conversation)

    async def _add(self, conversation: str, invite: str) -> None:
        packages = await self._packages([invite], conversation)
        await self._committed(conversation, await self._driver.do(self._engine.add, conversation, packages))
        account = account_id(packages[0].leaf_node.credential.identity)
        if account not in self._view(conversation).members:
            raise ConversationError("the conversation was repaired meanwhile: add the account again")

    async def _remove(self, conversation: str, account: str) -> None:
        intent = await self._driver.do(self._engine.remove, conversation, account)
        await self._committed(conversation, [intent])
        if account in self._view(conversation).members:
            raise ConversationError("the conversation was repaired meanwhile: remove the account again")

    async def _update_keys(self, conversation: str) -> None:
        await self._committed(conversation, [await self._driver.do(self._engine.update_keys, conversation)])

    async def _resync(self, conversation: str) -> None:
        await self._driver.do(self._engine.resync, conversation)

        async def done() -> bool:
            return not await self._driver.run(self._engine.is_resyncing, conversation)

        await self._driver.until(done)
        if not self._view(conversation).active:
            raise NotAMember("nobody can let this account in again")

    async def _leave(self, conversation: str) -> None:
        key = await self._driver.do(self._engine.leave, conversation)
        if key is not None:
            await self._driver.outbox.deposited([key])

    # Events.

    async def events(self) -> AsyncIterator[Event]:
        """Yield what happens, one at a time; asking for the next says that the last one is handled.

        Events for which there is a handler (see ``on``) are not yielded. Ends when the client is closed or replaced.
        """
        if self._iterating:
            raise RuntimeError("another loop reads this client's events")
        self._iterating = True
        try:
            while True:
                if self._in_hand is not None:
                    await self._in_hand._handled()  # noqa: SLF001 -- our own
                event = await self._next(lambda kind: kind not in self._handlers)
                if event is None:
                    return
                self._in_hand = event
                yield event
        finally:
            self._iterating = False

    def on(self, kind: type[E]) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]:
        """Decorate a function or coroutine function: it is called with every event of this type, one at a time."""

        def register(handler: Callable[[E], Any]) -> Callable[[E], Any]:
            self._handlers[kind] = handler
            if self._dispatcher is None:
                self._dispatcher = asyncio.ensure_future(self._dispatch())
            self._change()
            return handler

        return register

    async def _dispatch(self) -> None:
        while (event := await self._next(lambda kind: kind in self._handlers)) is not None:
            try:
                result = self._handlers[type(event)](event)
                if inspect.isawaitable(result):
                    await result
            except Exception:  # noqa: BLE001 -- the application's defect: the event comes again when the client is opened again
                _log.exception("a handler failed")
            else:
                await event._handled()  # noqa: SLF001 -- our own

    async def _next(self, wanted: Callable[[type[Event]], bool]) -> Event | None:
        while True:
            before = self._changes
            for event in self._passing:
                if wanted(type(event)):
                    self._passing.remove(event)
                    return event
            found = await self._driver.run(self._engine.next_event, frozenset(self._skipped), partial(_fits, wanted))
            if found is not None:
                number, record = found
                self._skipped.add(number)
                return self._event(number, record)
            if self._driver.ended:
                return None
            if self._changes == before:
                self._waiting.append(change := asyncio.get_running_loop().create_future())
                await change

    def _change(self) -> None:
        """There may be another event: everybody who waits looks again."""
        self._changes += 1
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def _pass(self, event: Event) -> None:
        """An event that is not kept: only the latest of its type waits."""
        self._passing = [other for other in self._passing if type(other) is not type(event)]
        self._passing.append(event)
        self._change()

    def _connection_changed(self, connected: bool) -> None:
        self._pass(events.ConnectionChanged(id=os.urandom(8).hex(), connected=connected))

    async def _mark(self, number: int) -> None:
        await self._driver.run(self._engine.handled, number)
        self._skipped.discard(number)

    def _event(self, number: int, record: records.StoredEvent) -> Event:  # noqa: C901, PLR0912 -- one arm per event
        fields: dict[str, Any] = {"id": f"{number:016x}", "_handled": partial(self._mark, number)}
        if isinstance(record, records.AnnouncedEvent):
            return _announcement(record, **fields)
        if isinstance(record, records.EntryLostEvent):
            return events.EntryLost(purpose=record.purpose, **fields)
        if isinstance(record, records.PurposeEvent):
            return events.PurposeChanged(purpose=record.purpose, **fields)
        if isinstance(record, records.DisclosedEvent):
            return _disclosed(record, **fields)
        if not isinstance(record, records.RolledBackEvent | records.OverusedEvent | records.PushLostEvent):
            fields["conversation"] = conversation = Conversation(self, record.conversation.hex())
        match record:
            case records.MessageEvent():
                fields["id"] = content.message_id(record.conversation, record.sender, record.content_id)
                fields |= {
                    "sender": account_id(record.sender),
                    "text": record.body.decode(errors="replace") if record.content_type == content.TEXT else None,
                    "data": record.body,
                    "sent_at": datetime.fromtimestamp(record.sent_at / 1000, UTC),
                    "_content_id": record.content_id,
                }
            case records.RequestEvent():
                fields |= {"sender": account_id(record.sender), "_accept": conversation.accept}
            case records.AddedEvent() | records.RemovedEvent():
                fields |= {"member": account_id(record.member), "by": account_id(record.by)}
            case records.DeviceEvent() | records.ProfileEvent():
                fields["account"] = account_id(record.account)
            case records.DeviceChangedEvent():
                fields |= {"account": account_id(record.account), "change": record.change}
            case records.FailedEvent():
                fields |= {"cause": record.cause, "advice": record.advice}
                if conversation.id not in self._engine.views():
                    fields["conversation"] = None
            case records.MissingEvent():
                fields |= {"sender": account_id(record.sender), "count": record.count}
            case records.SuiteEvent():
                fields["suite"] = record.suite
            case records.OverusedEvent():
                fields["invite"] = record.invite
        return _KINDS[type(record)](**fields)


_KINDS: Final[dict[type[records.StoredEvent], type[Event]]] = {
    records.MessageEvent: events.Message,
    records.RequestEvent: events.ContactRequest,
    records.AddedEvent: events.MemberAdded,
    records.RemovedEvent: events.MemberRemoved,
    records.FailedEvent: events.DecryptFailed,
    records.MissingEvent: events.MessagesMissing,
    records.DeviceEvent: events.DeviceAdded,
    records.DeviceChangedEvent: events.DeviceChanged,
    records.RolledBackEvent: events.StateRolledBack,
    records.AnnouncedEvent: events.Announcement,
    records.OverusedEvent: events.InviteOverused,
    records.ProfileEvent: events.ProfileChanged,
    records.SuiteEvent: events.SuiteChanged,
    records.PurposeEvent: events.PurposeChanged,
    records.DisclosedEvent: events.Disclosed,
    records.EntryLostEvent: events.EntryLost,
    records.PushLostEvent: events.PushLost,
}


def _fits(wanted: Callable[[type[Event]], bool], record: records.StoredEvent) -> bool:
    return wanted(_KINDS[type(record)])


def _announcement(record: records.AnnouncedEvent, **fields: Any) -> Announcement:  # noqa: ANN401 -- the event's own
    announced_at = datetime.fromtimestamp(record.at / 1000, UTC)
    return Announcement(kind=record.kind, number=record.number, announced_at=announced_at, texts=record.texts, **fields)


def _disclosed(record: records.DisclosedEvent, **fields: Any) -> events.Disclosed:  # noqa: ANN401 -- the event's own
    return events.Disclosed(
        ground=record.ground,
        to=record.to,
        reason=record.reason,
        fields=tuple(record.fields),
        number=record.number,
        disclosed_at=datetime.fromtimestamp(record.at, UTC),
        **fields,
    )


def _claim_frame(suite: int, address: bytes, request: int) -> frames.Claim:
    return frames.Claim(request, suite, [address])
