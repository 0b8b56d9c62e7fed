"""The driver: it moves bytes between the engine and the relay, and wakes whoever waits.

Five tasks, each a loop that can be cut anywhere: receive, keep the anonymous connection, deposit, do chores, keep up.
Commits have a task per conversation while there is something to commit. Nothing is sent before the mailbox's backlog
has been processed on the current connection ("drain first"): an old copy of the file notices there that it is old.

Longer than 600 lines because its loops share two connections and what wakes whom; apart they would share all of it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from restante import blobs, diagnostics, publications
from restante.directory import Directory
from restante.engine.consents import PutConsent
from restante.engine.directory import DropEntry, PutEntry
from restante.engine.engine import Due, Engine
from restante.engine.inbox import Entry
from restante.engine.mailroom import Chore, PutAddresses, PutPrekeys, PutSlot, RevokeAddresses
from restante.engine.outbox import Answer, Job
from restante.engine.parcels import LIFETIME as BLOB_LIFETIME
from restante.engine.parcels import Delete, Fetch
from restante.engine.push import LookPush
from restante.engine.records import AnnouncedEvent
from restante.engine.usage import Counts
from restante.errors import Closed, NotAdmitted, PolicyDeclined, Refused, RelayError, RestanteError
from restante.links import Backoff, Connection, Disconnected
from restante.lists import AddressLists
from restante.publications import Official, Policy, Purpose, Transparency
from restante.push import Push
from restante_crypto.blobs import BlobError
from restante_crypto.primitives import Random
from restante_protocol import frames, limits
from restante_protocol.connection import NumberedEntry
from restante_protocol.diagnostics import CHANNELS
from restante_protocol.errors import Code

_log = logging.getLogger("restante")

IN_FLIGHT: Final = 64  # deposits under way at once
UPKEEP_SECONDS: Final = 30
ANNOUNCEMENT_SECONDS: Final = 3600  # on average, between looks at what the operator announces
DIAGNOSE_SECONDS: Final = 3600  # on average, between looks at whether a report is due
DIAGNOSTICS: Final = "diagnostics"  # a purpose
LOOK_SECONDS: Final = 1.0  # a condition is looked at so often even if nothing seems to have happened
LIFETIME: Final = limits.MAX_LIFETIME
COMMIT_SPREAD: Final = 0.02  # seconds by place, after a lost fence
RETRY_SECONDS: Final = 0.5  # after a relay that is full or unavailable
SUSPICION_SECONDS: Final = 0.3  # held entries wait so long before their fences are asked for

_ERASED: Final = "the account was erased at its relay"
_RETRIED = frozenset({Code.UNAVAILABLE, Code.FULL, Code.STALE})
_LATER = _RETRIED | {Code.TIMEOUT, Code.OVERLOADED, Code.GOING_AWAY}  # of a transfer
T = TypeVar("T")
Agree = Callable[[Policy | None], Awaitable[bool]]
"""Asked with the relay's policy, if it has one, before a mailbox is created there."""


class Driver:
    """Runs an engine against its relay.

    Attributes:
        changed: called in the event loop when the application may have something to read.
        connection_changed: called with True or False after the first connection.
        replaced: called when another connection took the mailbox.
    """

    def __init__(
        self,
        engine: Engine,
        executor: ThreadPoolExecutor,
        session: aiohttp.ClientSession,
        url: str,
        *,
        random_bytes: Random,
        admission: bytes,
        agree: Agree | None = None,
        channel: str = CHANNELS[0],
    ) -> None:
        """Nothing runs until ``start``."""
        self._engine = engine
        self._executor = executor
        self._session = session
        self._url = url
        self._random = random_bytes
        self._admission = admission
        self._agree = agree
        self._channel = channel
        self._counts: Counts | None = None  # only while diagnostics are granted
        self.changed: Callable[[], None] = lambda: None
        self.connection_changed: Callable[[bool], None] = lambda _connected: None
        self.replaced: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._committing: dict[bytes, asyncio.Task[None]] = {}
        self._receiver: Connection | None = None
        self._sender: Connection | None = None
        self._owner: frames.Subscribed | None = None
        self._drained = asyncio.Event()
        self._sending = asyncio.Event()
        self._progress = asyncio.Condition()
        self._deposit_wake = asyncio.Event()
        self._chores_wake = asyncio.Event()
        self._chores_lock = asyncio.Lock()
        self._upkeep_wake = asyncio.Event()
        self._parcels_wake = asyncio.Event()
        self._parcels_lock = asyncio.Lock()
        self._waiters: dict[bytes, asyncio.Future[None]] = {}
        self._busy: dict[bytes, asyncio.Task[None]] = {}
        self._answers: list[Answer] = []
        self._timer: asyncio.TimerHandle | None = None
        self._suspicion: asyncio.TimerHandle | None = None
        self._lists: AddressLists | None = None
        self._failure: BaseException | None = None
        self._jitter = random.Random(int.from_bytes(random_bytes(8), "big"))  # noqa: S311 -- spreads load, no secret

    # Life.

    def start(self) -> None:
        """Start the tasks, unless the account was erased."""
        if self._engine.erased:
            self._fail(Closed(_ERASED))
            return
        for loop in (self._receive_forever, self._send_forever, self._deposit_forever, self._chores_forever):
            self._spawn(loop)
        self._spawn(self._parcels_forever)
        self._spawn(self._upkeep_forever)
        self._spawn(self._announcements_forever)
        self._spawn(self._diagnose_forever)

    async def stop(self, reason: str = "the client is closed") -> None:
        """End all tasks; what waits gets Closed."""
        self._fail(Closed(reason))
        if self._timer:
            self._timer.cancel()
        if self._suspicion:
            self._suspicion.cancel()
        tasks = [*self._tasks, *self._committing.values(), *self._busy.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (self._receiver, self._sender):
            if connection is not None:
                await connection.close()

    def _spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.ensure_future(self._guarded(function))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call the function in the task: cancelled before it began, none is left that was never awaited."""
        try:
            await function()
        except RestanteError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 -- our defect: whoever waits shall hear of it
            _log.exception("a task of the client ended")
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(self._failure)
                waiter.exception()  # whoever awaits it sees it; nobody may
        self._drained.set()
        self._sending.set()
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.changed()

    @property
    def ended(self) -> bool:
        """Whether this driver has stopped, for whatever reason."""
        return self._failure is not None

    def check(self) -> None:
        """Raise what ended this driver, if anything did."""
        if self._failure is not None:
            raise self._failure

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call the engine in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    async def do(self, function: Callable[..., T], *args: object) -> T:
        """Call the engine, then wake whoever has something to do."""

        def call() -> tuple[T, Due]:
            return function(*args), self._engine.due()

        result, due = await self.run(call)
        self._wake(due)
        return result

    def _wake(self, due: Due) -> None:
        if due.deposits:
            self._deposit_wake.set()
        for conversation in due.commits:
            if conversation not in self._committing:
                task = asyncio.ensure_future(self._guarded(partial(self._commit, conversation)))
                self._committing[conversation] = task
                task.add_done_callback(partial(_forget, self._committing, conversation))
        if due.chores:
            self._chores_wake.set()
        if due.parcels:
            self._parcels_wake.set()
        if due.wait is not None:
            if self._timer:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(due.wait, self._tick)
        if due.held and self._suspicion is None:
            self._suspicion = asyncio.get_running_loop().call_later(SUSPICION_SECONDS, self._suspect)
        if due.events:
            self.changed()
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tick(self) -> None:
        self._timer = None
        self._spawn(self._ripen)

    async def _ripen(self) -> None:
        await self.do(self._engine.ripen)

    async def look(self) -> None:
        """See what there is to do."""
        await self._look()

    async def _look(self) -> None:
        self._wake(await self.run(self._engine.due))

    async def _notify(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds; it is looked at after each step of the client."""
        while True:
            self.check()
            if await condition():
                return
            async with self._progress:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._progress.wait()

    # Receiving.

    async def _receive_forever(self) -> None:
        backoff = Backoff(self._jitter)
        seen = False
        while True:
            try:
                connection = await self._connect(frames.ROLE_RECEIVER)
                try:
                    await self._subscribe(connection)
                    self._receiver = connection
                    if seen:
                        self.connection_changed(True)
                    seen = True
                    backoff.reset()
                    if await self._read(connection):
                        return
                finally:
                    self._receiver = None
                    self._drained.clear()
                    await connection.close()
                    if seen:
                        self.connection_changed(False)
            except (Disconnected, aiohttp.ClientError, OSError, TimeoutError):
                pass
            except Refused as error:
                if error.code not in _RETRIED:
                    raise
            await asyncio.sleep(backoff.next())

    async def _connect(self, role: int) -> Connection:
        connection = await Connection.connect(
            self._session, self._url, role, random=self._random, relay_key=self._engine.relay_key
        )
        try:
            await self.run(self._engine.pin_relay, connection.relay_key)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _subscribe(self, connection: Connection) -> None:
        engine = self._engine
        try:
            await connection.request(
                lambda request: engine.open_frame(request, connection.client_nonce, connection.relay_nonce)
            )
        except Refused as error:
            if error.code != Code.NO_MAILBOX:
                raise
            await self._register(connection)
        wanted = await self.run(engine.subscribe_frame, 0)
        answer = await connection.request(lambda request: msgspec.structs.replace(wanted, request=request))
        if not isinstance(answer, frames.Subscribed):
            raise Disconnected
        self._owner = answer
        await self.do(engine.subscribed, answer)

    async def _register(self, connection: Connection) -> None:
        if self._agree is not None and not self._engine.receipt and not await self._agree(await self.policy()):
            raise PolicyDeclined("the relay's privacy policy was not agreed to")
        admission = self._engine.receipt or self._admission
        try:
            answer = await connection.request(lambda request: frames.Create(request, admission))
        except Refused as error:
            if error.code == Code.NOT_ADMITTED:
                raise NotAdmitted("the relay takes no new mailbox without a valid invite code") from error
            raise
        if not isinstance(answer, frames.Created):
            raise Disconnected
        await self.run(self._engine.registered, answer.receipt)

    async def _read(self, connection: Connection) -> bool:
        """Process what comes; True if another connection took the mailbox."""
        while True:
            entries: list[Entry] = []
            for push in await connection.next_batch():
                match push:
                    case NumberedEntry(sequence=sequence, entry=entry):
                        entries.append(Entry(sequence, entry.message_id, entry.body, entry.fence))
                    case frames.Drained():
                        await self._take(connection, entries)
                        entries = []
                        await self.do(self._engine.drained, push.sequence)
                        self._drained.set()
                        self._upkeep_wake.set()
                        self._chores_wake.set()
                        self._deposit_wake.set()
                        await self._look()
                    case frames.PrekeysLow() | frames.AddressSpent() | frames.Disclosed():
                        await self._hear(push)
                    case frames.Error(code=Code.REPLACED):
                        self.replaced()
                        self._fail(Closed("another connection took this mailbox"))
                        return True
                    case frames.Error():
                        raise Disconnected
            await self._take(connection, entries)

    async def _hear(self, push: frames.PrekeysLow | frames.AddressSpent | frames.Disclosed) -> None:
        """Process what the relay has to say to this mailbox's owner."""
        match push:
            case frames.PrekeysLow():
                await self.do(self._engine.prekeys_low, push.suite, push.left)
            case frames.AddressSpent():
                await self.do(self._engine.address_spent, push.address)
            case frames.Disclosed():
                try:
                    await self.do(self._engine.disclosed, push.entry, push.signature)
                except ValueError as error:
                    _log.warning("a disclosure that is none: %s", error)

    async def _take(self, connection: Connection, entries: Sequence[Entry]) -> None:
        if not entries or self._owner is None:
            return
        await self.do(self._engine.receive, entries)
        position = await self.run(self._engine.position)
        connection.send(frames.Ack(self._owner.owner_token, self._owner.incarnation, position.cursor, []))

    async def drained(self) -> None:
        """Wait until all that the relay holds now has been processed."""
        while True:
            receiver = await self._ready_receiver()
            try:
                status = await receiver.request(frames.Status)
            except Disconnected:
                continue
            if isinstance(status, frames.MailboxStatus):
                break

        async def reached() -> bool:
            reached = (await self.run(self._engine.position)).cursor >= status.sequence
            return reached and not await self.run(self._engine.is_fetching)

        await self.until(reached)

    async def _ready_receiver(self) -> Connection:
        while True:
            self.check()
            await self._drained.wait()
            self.check()
            if self._receiver is not None:
                return self._receiver
            await asyncio.sleep(0)

    async def ask_as_owner(self, build: Callable[[int], frames.ClientFrame]) -> frames.RelayFrame:
        """Ask on the mailbox's connection, again after each loss of it. Raises Refused."""
        while True:
            receiver = await self._ready_receiver()
            try:
                return await receiver.request(build)
            except Disconnected:
                await asyncio.sleep(0)

    # The anonymous connection.

    async def _send_forever(self) -> None:
        backoff = Backoff(self._jitter)
        while True:
            try:
                connection = await self._connect(frames.ROLE_SENDER)
                try:
                    self._sender = connection
                    self._sending.set()
                    self._deposit_wake.set()
                    backoff.reset()
                    while True:
                        await connection.next_batch()
                finally:
                    self._sender = None
                    self._sending.clear()
                    if self._receiver is not None:
                        self._receiver.suspect()  # it may hang on the same relay
                    await connection.close()
            except (Disconnected, aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(backoff.next())

    async def sender(self) -> Connection:
        """Return the anonymous connection, once the mailbox is drained."""
        while True:
            self.check()
            await self._drained.wait()
            await self._sending.wait()
            self.check()
            if self._sender is not None and self._receiver is not None:
                return self._sender
            await asyncio.sleep(0)

    async def ask(self, build: Callable[[int], frames.ClientFrame]) -> frames.RelayFrame:
        """Ask over the anonymous connection, again after each loss of it. Raises Refused."""
        while True:
            connection = await self.sender()
            try:
                return await connection.request(build)
            except Disconnected:
                await asyncio.sleep(0)
            except Refused as error:
                if error.code != Code.UNAVAILABLE:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def delete_slot(self, slot: bytes) -> None:
        """Delete an invite's slot, and forget the invite."""
        deletion = await self.run(self._engine.slot_deletion, slot)
        await self.ask(partial(_numbered, deletion))
        await self.run(self._engine.forget_invite, slot)

    # What the operator publishes: read before there is a mailbox, too.

    async def published(self, name: str) -> bytes | None:
        """Return a publication's content, or None. Raises RelayError if the relay's key has not signed it."""
        while True:
            self.check()
            await self._sending.wait()
            self.check()
            connection = self._sender
            if connection is None:
                await asyncio.sleep(0)
                continue
            slot = publications.slot_of(connection.relay_key, name)
            try:
                answer = await connection.request(partial(frames.SlotGet, slot=slot))
            except Disconnected:
                await asyncio.sleep(0)
                continue
            except Refused as error:
                if error.code == Code.NOT_FOUND:
                    return None
                if error.code != Code.UNAVAILABLE:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not isinstance(answer, frames.Slot):
                raise Disconnected
            try:
                return publications.opened(connection.relay_key, name, answer.version, answer.body)
            except ValueError as error:
                raise RelayError(f"the relay's {name}: {error}") from None

    async def policy(self, number: int | None = None) -> Policy | None:
        """Return the relay's policy, or None if it has none of this number. Raises RelayError."""
        content = await self.published(publications.POLICY)
        try:
            listed = publications.read_listed(content or b"[]")
            found = listed[-1:] if number is None else [each for each in listed if each.number == number]
            text = await self.published(publications.policy_name(found[0].number)) if found else None
            return publications.read_policy(found[0], text) if text is not None else None
        except ValueError as error:
            raise RelayError(f"the relay's policy: {error}") from None

    async def announcements(self) -> list[AnnouncedEvent]:
        """Return what is announced and may be shown, after queueing what is new. Raises RelayError."""
        content = await self.published(publications.ANNOUNCEMENTS)
        try:
            published = publications.read_announcements(content or b"[]")
        except ValueError as error:
            raise RelayError(f"the relay's announcements: {error}") from None
        await self.do(self._engine.announced, published)
        return await self.run(self._engine.shown, published)

    async def official(self) -> list[Official]:
        """Return whom of the operator's people one can write to. Raises RelayError."""
        content = await self.published(publications.OFFICIAL)
        try:
            return publications.read_official(content or b"[]")
        except ValueError as error:
            raise RelayError(f"the relay's official invites: {error}") from None

    async def transparency(self) -> Transparency | None:
        """Return how often data was handed to others; None if the relay does not say. Raises RelayError."""
        content = await self.published(publications.TRANSPARENCY)
        try:
            return publications.read_transparency(content) if content is not None else None
        except ValueError as error:
            raise RelayError(f"the relay's disclosures: {error}") from None

    async def purposes(self) -> Mapping[str, Purpose]:
        """Return what the relay's policy offers, by name; what was granted otherwise is off now. Raises RelayError."""
        policy = await self.policy()
        offered: Mapping[str, Purpose] = policy.purposes if policy is not None else {}
        await self.do(self._engine.offered, {name: each.version for name, each in offered.items()})
        return offered

    async def _announcements_forever(self) -> None:
        """Look at the start and now and then, at times of no meaning: an announcement can wait, and tells nothing."""
        while True:
            try:
                await self.purposes()  # first: what is not granted any more is not shown
                await self.announcements()
            except RelayError as error:
                _log.warning("announcements that are none: %s", error)
            await asyncio.sleep(ANNOUNCEMENT_SECONDS * (0.5 + self._jitter.random()))

    # Diagnostics.

    async def diagnose(self) -> None:
        """Keep what was counted, if that is granted, and send what is due; if not, nothing is counted any more."""
        counts, self._counts = self._counts or Counts(), None
        if DIAGNOSTICS in await self.run(self._engine.granted):
            self._counts = Counts()
        report = await self.run(self._engine.diagnose, counts, self._channel)
        if report is not None:
            await diagnostics.send(self._url, *report)

    async def _diagnose_forever(self) -> None:
        while True:
            await self.diagnose()
            await asyncio.sleep(DIAGNOSE_SECONDS * (0.5 + self._jitter.random()))

    # What the relay holds, and erasing it.

    @property
    def url(self) -> str:
        """The relay's."""
        return self._url

    async def stored_blob(self, blob: bytes) -> bytes | None:
        """Return what the relay has under a blob's id, sealed as it is; None if there is none. Raises Refused."""
        while True:
            self.check()
            try:
                return await blobs.stored(self._session, self._url, blob)
            except Disconnected:
                await asyncio.sleep(RETRY_SECONDS)
            except Refused as error:
                if error.code == Code.NOT_FOUND:
                    return None
                if error.code not in _LATER:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def erase(self) -> frames.Erased:
        """Stop everything, erase what the relay holds, and return its receipt. Raises Refused."""
        await self.run(self._engine.begin_erasure)
        await self.stop(_ERASED)
        backoff = Backoff(self._jitter)
        while True:
            try:
                return await self._erase()
            except (Disconnected, aiohttp.ClientError, OSError, TimeoutError):
                pass
            except Refused as error:
                if error.code not in _RETRIED:
                    raise
            await asyncio.sleep(backoff.next())

    async def _erase(self) -> frames.Erased:
        engine = self._engine
        sender = await self._connect(frames.ROLE_SENDER)
        try:
            for deletion in await self.run(engine.slot_deletions):
                await sender.request(partial(_numbered, deletion))
            for keys, _ in await self.run(engine.blobs):
                await blobs.delete(self._session, self._url, sender.relay_key, keys)
        finally:
            await sender.close()
        receiver = await self._connect(frames.ROLE_RECEIVER)
        try:
            try:
                await receiver.request(
                    lambda request: engine.open_frame(request, receiver.client_nonce, receiver.relay_nonce)
                )
            except Refused as error:
                if error.code != Code.NO_MAILBOX:
                    raise
            answer = await receiver.request(frames.MailboxDelete)
        finally:
            await receiver.close()
        if not isinstance(answer, frames.Erased):
            raise Disconnected
        return answer

    # Depositing.

    async def _deposit_forever(self) -> None:
        while True:
            await self._deposit_wake.wait()
            self._deposit_wake.clear()
            connection = await self.sender()
            if self._answers:
                await self._settle()
            room = IN_FLIGHT - len(self._busy)
            if room <= 0:
                continue
            for job in await self.run(self._engine.jobs, frozenset(self._busy), room):
                task = asyncio.ensure_future(self._guarded(partial(self._deposit, connection, job)))
                self._busy[job.key] = task

    async def _deposit(self, connection: Connection, job: Job) -> None:
        """Make a deposit. It stays among the busy until its answer is in the file, or it has failed."""
        try:
            answer = await self._answer_to(connection, job)
        except BaseException:
            self._busy.pop(job.key, None)
            raise
        if answer is None:
            self._busy.pop(job.key, None)
        else:
            self._answers.append(answer)
        self._deposit_wake.set()

    async def _answer_to(self, connection: Connection, job: Job) -> Answer | None:
        """Deposit; None if it is to be tried again, or was given up."""
        try:
            await self._upload(job.blobs)
            answer = await self._request_deposit(connection, job)
        except Disconnected:
            await asyncio.sleep(0)
        except Refused as error:
            if error.code == Code.CONFLICT and job.fence is not None:
                await self._follow(job.fence)  # another Commit has the fence of this one: is the group forked?
                return Answer(job.key, ())
            if error.code in _LATER or error.code == Code.NOT_FOUND:  # the list that it was to go to was refused
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await self.do(self._engine.rejected, job.key)
        else:
            return Answer(job.key, answer.failed)
        return None

    async def _settle(self) -> None:
        answers, self._answers = self._answers, []
        await self.do(self._engine.answered, answers)
        for answer in answers:
            waiter = self._waiters.pop(answer.key, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            self._busy.pop(answer.key, None)

    async def _request_deposit(self, connection: Connection, job: Job) -> frames.Deposited:
        """Deposit, and count how that went if it is counted."""
        begun = asyncio.get_running_loop().time()
        try:
            answer = await self._deposited_by(connection, job)
        except (Disconnected, Refused):
            if self._counts is not None:
                self._counts.failures += 1
            raise
        if self._counts is not None:
            self._counts.accepted(asyncio.get_running_loop().time() - begun)
        return answer

    async def _deposited_by(self, connection: Connection, job: Job) -> frames.Deposited:
        if self._lists is None or self._lists.connection is not connection:
            self._lists = AddressLists(connection)
        to = await self._lists.name(job.addresses)
        begun = asyncio.get_running_loop().time()
        answer = await connection.request(
            lambda request: frames.Deposit(request, job.message_id, to, job.body, LIFETIME, job.fence, 0)
        )
        if not isinstance(answer, frames.Deposited):
            raise Disconnected
        if self._receiver is not None:
            self._receiver.expect(begun)  # this device's own copy; it may hang on another relay than the sender
        return answer

    def waiter(self, key: bytes) -> asyncio.Future[None]:
        """Return what is done when this deposit is accepted."""
        self.check()
        return self._waiters.setdefault(key, asyncio.get_running_loop().create_future())

    async def deposited(self, keys: Sequence[bytes]) -> None:
        """Wait until these deposits are accepted (or were before)."""
        for key in keys:
            waiter = self.waiter(key)
            if not await self.run(self._engine.is_queued, key):
                self._waiters.pop(key, None)
                continue
            await asyncio.shield(waiter)

    def wake_deposits(self) -> None:
        """There is something to deposit."""
        self._deposit_wake.set()

    # Committing.

    async def _commit(self, conversation: bytes) -> None:
        lost = 0
        while True:
            connection = await self.sender()
            job = await self.run(self._engine.prepare_commit, conversation)
            if job is None or job.fence is None:
                await self._notify()
                return
            try:
                await self._upload(job.blobs)
                answer = await self._request_deposit(connection, job)
            except Disconnected:
                await asyncio.sleep(0)
                continue
            except Refused as error:
                if error.code == Code.CONFLICT:
                    lost += 1
                    await self._follow(job.fence)
                    place = await self.run(self._engine.place, conversation)
                    await asyncio.sleep(COMMIT_SPREAD * place * self._jitter.random())
                elif error.code in _LATER:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await self.do(self._engine.commit_refused, conversation, error.code)
                continue
            await self.do(self._engine.commit_won, conversation, job.message_id, answer.failed)

    async def _follow(self, fence: bytes) -> bool:
        """Fetch and process who won a fence; False if nobody has."""
        try:
            winner = await self.ask(lambda request: frames.FenceGet(request, fence))
        except Refused:
            return False
        if not isinstance(winner, frames.Fence):
            return False
        await self.do(self._engine.fence_winner, fence, winner.message_id, winner.body)
        return True

    def _suspect(self) -> None:
        self._suspicion = None
        self._spawn(self._ask_fences)

    async def _ask_fences(self) -> None:
        """Something does not open, or this file is old: Commits may have passed it by. Ask who won their fences."""
        followed = True
        while followed:
            followed = False
            for fence in await self.run(self._engine.suspect_fences):
                followed |= await self._follow(fence)
        if await self.run(self._engine.caught_up):
            await self._look()

    async def committed(self, intents: Sequence[bytes]) -> None:
        """Wait until a winning Commit has these intents and the relay holds its Welcomes.

        Raises:
            Refused: the relay will never take such a Commit, or what goes with it; the intents are dropped.
        """

        async def done() -> bool:
            return not await self.run(lambda: any(self._engine.is_wanted(intent) for intent in intents))

        await self._look()
        await self.until(done)
        code = await self.run(self._engine.refusal_of, intents)
        if code is not None:
            raise Refused(code, "the relay takes no handshake of this size, or no blobs: ask its operator")
        await self.deposited(await self.run(self._engine.welcomes_of, intents))

    # Blobs: over HTTP, without credential.

    async def _upload(self, needed: Sequence[bytes]) -> None:
        """Bring blobs to the relay that a deposit needs there. Raises Disconnected, Refused."""
        for blob in needed:
            async with self._parcels_lock:
                upload = await self.run(self._engine.upload, blob)
                if upload is None:
                    continue
                relay_key = self._engine.relay_key or b""
                try:
                    await blobs.upload(self._session, self._url, relay_key, upload.keys, upload.content, BLOB_LIFETIME)
                except Disconnected:
                    await asyncio.sleep(RETRY_SECONDS)  # the socket may be well
                    raise
                await self.run(self._engine.uploaded, blob)

    async def _parcels_forever(self) -> None:
        while True:
            await self._parcels_wake.wait()
            self._parcels_wake.clear()
            await self.sender()
            for work in await self.run(self._engine.parcels):
                match work:
                    case Fetch():
                        await self._fetch(work)
                    case Delete():
                        await self._delete_blob(work)
            await self._look()

    async def _fetch(self, work: Fetch) -> None:
        reference = work.reference
        try:
            sealed = await blobs.fetch(self._session, self._url, reference)
        except Disconnected:
            await self.do(self._engine.not_fetched, reference.blob, False)
        except BlobError:
            await self.do(self._engine.not_fetched, reference.blob, True)
        except Refused as error:
            await self.do(self._engine.not_fetched, reference.blob, error.code not in _LATER)
        else:
            await self.do(self._engine.fetched, reference, sealed)

    async def _delete_blob(self, work: Delete) -> None:
        try:
            async with self._parcels_lock:
                await blobs.delete(self._session, self._url, self._engine.relay_key or b"", work.keys)
        except (Disconnected, Refused):
            await asyncio.sleep(RETRY_SECONDS)
            return
        await self.run(self._engine.deleted, work.keys.blob)

    # Chores.

    async def _chores_forever(self) -> None:
        while True:
            await self._chores_wake.wait()
            self._chores_wake.clear()
            await self.settled()

    async def settled(self) -> None:
        """Do all chores that are due now."""
        while True:
            receiver = await self._ready_receiver()
            async with self._chores_lock:
                try:
                    chores = await self.run(self._engine.chores)
                    if not chores:
                        return
                    for chore in chores:
                        if await self._chore(receiver, chore):
                            await self.run(self._engine.chore_done, chore)
                except Disconnected:
                    await asyncio.sleep(0)
                except Refused as error:
                    if error.code not in _RETRIED and error.code != Code.CONFLICT:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)

    async def _chore(self, receiver: Connection, chore: Chore | PutConsent | PutEntry | DropEntry | LookPush) -> bool:
        """Do it; False if the engine knows its end already."""
        match chore:
            case PutAddresses(addresses=specs):
                await receiver.request(lambda request: frames.AddressPut(request, specs))
            case RevokeAddresses(addresses=addresses):
                await receiver.request(lambda request: frames.AddressRevoke(request, addresses))
            case PutPrekeys():
                await receiver.request(
                    lambda request: frames.PrekeysPut(
                        request, chore.suite, chore.first, chore.packages, chore.last_resort, chore.replace
                    )
                )
            case PutSlot(slot=slot):
                await self._put_slot(slot)
            case PutConsent():
                return await self._put_consent(receiver, chore)
            case PutEntry(kind=kind):
                await Directory(self._engine, self).put_again(kind)
                return False
            case DropEntry(kind=kind):
                await Directory(self._engine, self).drop(kind)
                return False
            case LookPush():
                await Push(self._engine, self).look()
                return False
        return True

    async def _put_consent(self, receiver: Connection, chore: PutConsent) -> bool:
        try:
            await receiver.request(partial(frames.ConsentPut, purpose=chore.purpose, version=chore.version))
        except Refused as error:
            if error.code not in {Code.NOT_FOUND, Code.CONFLICT}:
                raise
            await self.do(self._engine.consent_refused, chore)
            return False
        return True

    async def _put_slot(self, slot: bytes) -> None:
        version = 0
        try:
            stored = await self.ask(lambda request: frames.SlotGet(request, slot))
            if isinstance(stored, frames.Slot):
                version = stored.version
        except Refused as error:
            if error.code != Code.NOT_FOUND:
                raise
        frame = await self.run(self._engine.slot_frame, slot, version, 0)
        await self.ask(lambda request: msgspec.structs.replace(frame, request=request))

    # Upkeep.

    async def _upkeep_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPKEEP_SECONDS):
                    await self._upkeep_wake.wait()
            self._upkeep_wake.clear()
            await self.do(self._engine.upkeep)


def _numbered(frame: frames.SlotDelete, request: int) -> frames.SlotDelete:
    return msgspec.structs.replace(frame, request=request)


def _forget(tasks: dict[bytes, asyncio.Task[None]], key: bytes, task: asyncio.Task[None]) -> None:
    if tasks.get(key) is task:
        del tasks[key]
