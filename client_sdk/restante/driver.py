"""The driver: it moves bytes between the engine and the relay, and wakes whoever waits.

Here are the two connections and the engine's thread; what goes over them is in ``outbox``, ``commits``, ``parcels``,
``chores``, ``bulletin`` and ``diagnostics``. All of it are loops that can be cut anywhere. Nothing is sent before the
mailbox's backlog has been processed on the current connection ("drain first"): an old copy of the file notices there
that it is old.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp

from restante.bulletin import Bulletin
from restante.chores import Chores
from restante.commits import Commits
from restante.diagnostics import Diagnostics
from restante.engine.engine import Due, Engine
from restante.engine.inbox import Entry
from restante.errors import Closed, NotAdmitted, PolicyDeclined, Refused, RestanteError
from restante.links import RETRIED, RETRY_SECONDS, Backoff, Connection, Disconnected, numbered
from restante.outbox import Outbox
from restante.parcels import Parcels
from restante.publications import Policy
from restante_crypto.primitives import Random
from restante_protocol import frames
from restante_protocol.connection import NumberedEntry
from restante_protocol.diagnostics import CHANNELS
from restante_protocol.errors import Code

_log = logging.getLogger("restante")

UPKEEP_SECONDS: Final = 30
LOOK_SECONDS: Final = 1.0  # a condition is looked at so often even if nothing seems to have happened
ERASED: Final = "the account was erased at its relay"

T = TypeVar("T")
Agree = Callable[[Policy | None], Awaitable[bool]]
"""Asked with the relay's policy, if it has one, before a mailbox is created there."""


class Driver:
    """Runs an engine against its relay.

    Attributes:
        url: the relay's.
        jitter: spreads load over time, and keeps no secret.
        bulletin, chores, commits, diagnostics, outbox, parcels: what goes over the connections.
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
        self.url = url
        self.jitter = random.Random(int.from_bytes(random_bytes(8), "big"))  # noqa: S311 -- spreads load, no secret
        self._engine = engine
        self._executor = executor
        self._session = session
        self._random = random_bytes
        self._admission = admission
        self._agree = agree
        self.changed: Callable[[], None] = lambda: None
        self.connection_changed: Callable[[bool], None] = lambda _connected: None
        self.replaced: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._receiver: Connection | None = None
        self._sender: Connection | None = None
        self._owner: frames.Subscribed | None = None
        self._drained = asyncio.Event()
        self._sending = asyncio.Event()
        self._progress = asyncio.Event()  # set once, at the next progress; then another one waits
        self._upkeep_wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.bulletin = Bulletin(engine, self)
        self.chores = Chores(engine, self)
        self.commits = Commits(engine, self)
        self.diagnostics = Diagnostics(engine, self, channel)
        self.outbox = Outbox(engine, self)
        self.parcels = Parcels(engine, self, session)

    # Life.

    def start(self) -> None:
        """Start the tasks, unless the account was erased."""
        if self._engine.erased:
            self._fail(Closed(ERASED))
            return
        for loop in (
            self._receive_forever,
            self._send_forever,
            self.outbox.deposit_forever,
            self.chores.do_forever,
            self.parcels.move_forever,
            self._upkeep_forever,
            self.bulletin.look_forever,
            self.diagnostics.look_forever,
        ):
            self.spawn(loop)

    async def stop(self, reason: str = "the client is closed") -> None:
        """End all tasks; what waits gets Closed."""
        self._fail(Closed(reason))
        if self._timer:
            self._timer.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (self._receiver, self._sender):
            if connection is not None:
                await connection.close()

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run the function in a task until it ends or the driver is stopped; an error in it ends the driver."""
        task = asyncio.ensure_future(self._guarded(function))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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
        self.outbox.fail(self._failure)
        self._drained.set()
        self._sending.set()
        self.progressed()
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
            self.outbox.wake()
        self.commits.wake(due.commits)
        if due.chores:
            self.chores.wake()
        if due.parcels:
            self.parcels.wake()
        if due.wait is not None:
            if self._timer:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(due.wait, self._tick)
        if due.held:
            self.commits.suspect()
        if due.events:
            self.changed()
        self.progressed()

    def _tick(self) -> None:
        self._timer = None
        self.spawn(self._ripen)

    async def _ripen(self) -> None:
        await self.do(self._engine.ripen)

    async def look(self) -> None:
        """See what there is to do."""
        self._wake(await self.run(self._engine.due))

    def progressed(self) -> None:
        """Something has happened: whoever waits for a condition (``until``) looks at it."""
        self._progress.set()
        self._progress = asyncio.Event()

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds; it is looked at after each step of the client. Raises as ``check``."""
        while True:
            progress = self._progress  # what happens during the look sets it
            self.check()
            if await condition():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await progress.wait()

    # Receiving.

    async def _receive_forever(self) -> None:
        backoff = Backoff(self.jitter)
        seen = False
        while True:
            try:
                connection = await self.connect(frames.ROLE_RECEIVER)
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
                if error.code not in RETRIED:
                    raise
            await asyncio.sleep(backoff.next())

    async def connect(self, role: int) -> Connection:
        """Open a connection, and pin the relay's key with the first. Raises as ``Connection.connect``."""
        connection = await Connection.connect(
            self._session, self.url, role, random=self._random, relay_key=self._engine.relay_key
        )
        try:
            await self.run(self._engine.pin_relay, connection.relay_key)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def prove(self, connection: Connection) -> bool:
        """Prove the mailbox on a receiver's connection; say whether there is one yet."""
        engine = self._engine
        try:
            await connection.request(
                lambda request: engine.open_frame(request, connection.client_nonce, connection.relay_nonce)
            )
        except Refused as error:
            if error.code != Code.NO_MAILBOX:
                raise
            return False
        return True

    async def _subscribe(self, connection: Connection) -> None:
        engine = self._engine
        if not await self.prove(connection):
            await self._register(connection)
        wanted = await self.run(engine.subscribe_frame, 0)
        answer = await connection.request(partial(numbered, wanted))
        if not isinstance(answer, frames.Subscribed):
            raise Disconnected
        self._owner = answer
        await self.do(engine.subscribed, answer)

    async def _register(self, connection: Connection) -> None:
        if self._agree is not None and not self._engine.receipt and not await self._agree(await self.bulletin.policy()):
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
                        self.chores.wake()
                        self.outbox.wake()
                        await self.look()
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
                    await self.do(self._engine.bulletin.disclosed, push.entry, push.signature)
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
            receiver = await self.receiver()
            try:
                status = await receiver.request(frames.Status)
            except Disconnected:
                continue
            if isinstance(status, frames.MailboxStatus):
                break
        # In one call: between two the client may close.
        await self.until(partial(self.run, self._engine.has_processed, status.sequence))

    async def receiver(self) -> Connection:
        """Return the mailbox's connection, once the mailbox is drained."""
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
            receiver = await self.receiver()
            try:
                return await receiver.request(build)
            except Disconnected:
                await asyncio.sleep(0)

    # The anonymous connection.

    async def _send_forever(self) -> None:
        backoff = Backoff(self.jitter)
        while True:
            try:
                connection = await self.connect(frames.ROLE_SENDER)
                try:
                    self._sender = connection
                    self._sending.set()
                    self.outbox.wake()
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

    async def sender(self, *, drained: bool = True) -> Connection:
        """Return the anonymous connection; unless it is said otherwise, once the mailbox is drained."""
        while True:
            self.check()
            if drained:
                await self._drained.wait()
            await self._sending.wait()
            self.check()
            if self._sender is not None and (self._receiver is not None or not drained):
                return self._sender
            await asyncio.sleep(0)

    async def ask(self, build: Callable[[int], frames.ClientFrame], *, drained: bool = True) -> frames.RelayFrame:
        """Ask over the anonymous connection (``sender``), again after each loss of it. Raises Refused."""
        while True:
            connection = await self.sender(drained=drained)
            try:
                return await connection.request(build)
            except Disconnected:
                await asyncio.sleep(0)
            except Refused as error:
                if error.code != Code.UNAVAILABLE:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    def expect_own_copy(self, since: float) -> None:
        """This device's own copy of a deposit should come, sent at this loop time: see ``Connection.expect``."""
        if self._receiver is not None:
            self._receiver.expect(since)  # it may hang on another relay than the sender

    # Upkeep.

    async def _upkeep_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPKEEP_SECONDS):
                    await self._upkeep_wake.wait()
            self._upkeep_wake.clear()
            await self.do(self._engine.upkeep)
