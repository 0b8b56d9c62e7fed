"""Deposits: contents of this client, and whatever else is ready, on their way to the relay.

Their bytes are in the file before they leave, and stay there until the answer is (``engine.outbox``).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from restante.engine.outbox import Answer, Job
from restante.errors import Closed, Refused
from restante.links import LATER, RETRY_SECONDS, Connection, Disconnected
from restante.lists import AddressLists
from restante_protocol import frames, limits
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

IN_FLIGHT: Final = 64  # deposits under way at once
LIFETIME: Final = limits.MAX_LIFETIME


class Outbox:
    """What a client sends, and who waits for it."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Nothing is sent yet."""
        self._engine = engine
        self._driver = driver
        self._submissions: list[tuple[str, str | bytes, bytes | None, asyncio.Future[bytes]]] = []
        self._submitting: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._busy: set[bytes] = set()  # until their answers are in the file
        self._answers: list[Answer] = []
        self._waiters: dict[bytes, asyncio.Future[None]] = {}
        self._lists: AddressLists | None = None

    # Into the file.

    async def submit(self, conversation: str, data: str | bytes, reply: bytes | None) -> bytes:
        """Store a content to be sent, in the order of the calls; return its content id.

        Raises:
            NotAMember, MessageTooLarge: it is not sent.
            Closed: it was not stored, or is not known to be.
        """
        submitted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._submissions.append((conversation, data, reply, submitted))
        if self._submitting is None or self._submitting.done():
            self._submitting = asyncio.ensure_future(self._submit())
        return await asyncio.shield(submitted)

    async def _submit(self) -> None:
        """Store what concurrent calls want to send, in one transaction."""
        while self._submissions:
            batch, self._submissions = self._submissions, []
            try:
                results = await self._driver.run(self._engine.submit, [item[:3] for item in batch])
            except BaseException as error:
                for *_, submitted in batch:
                    if not submitted.done():
                        submitted.set_exception(error if isinstance(error, Exception) else Closed("closed"))
                if not isinstance(error, Exception):
                    raise
                continue
            for (*_, submitted), result in zip(batch, results, strict=True):
                if isinstance(result, bytes):
                    submitted.set_result(result)
                else:
                    submitted.set_exception(result)
            self.wake()

    # To the relay.

    def wake(self) -> None:
        """There is something to deposit."""
        self._wake.set()

    async def deposit_forever(self) -> None:
        """Deposit what can leave, whenever there is something."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            connection = await self._driver.sender()
            if self._answers:
                await self._settle()
            room = IN_FLIGHT - len(self._busy)
            if room <= 0:
                continue
            for job in await self._driver.run(self._engine.jobs, frozenset(self._busy), room):
                self._busy.add(job.key)
                self._driver.spawn(partial(self._deposit, connection, job))

    async def _deposit(self, connection: Connection, job: Job) -> None:
        """Make a deposit. It stays among the busy until its answer is in the file, or it has failed."""
        try:
            answer = await self._answer_to(connection, job)
        except BaseException:
            self._busy.discard(job.key)
            raise
        if answer is None:
            self._busy.discard(job.key)
        else:
            self._answers.append(answer)
        self._wake.set()

    async def _answer_to(self, connection: Connection, job: Job) -> Answer | None:
        """Deposit; None if it is to be tried again, or was given up."""
        try:
            await self._driver.parcels.upload(job.blobs)
            answer = await self.request(connection, job)
        except Disconnected:
            await asyncio.sleep(0)
        except Refused as error:
            if error.code == Code.CONFLICT and job.fence is not None:
                await self._driver.commits.follow(job.fence)  # another has the fence of this one: is the group forked?
                return Answer(job.key, ())
            if error.code in LATER or error.code == Code.NOT_FOUND:  # the list that it was to go to was refused
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await self._driver.do(self._engine.rejected, job.key)
        else:
            return Answer(job.key, answer.failed)
        return None

    async def _settle(self) -> None:
        answers, self._answers = self._answers, []
        await self._driver.do(self._engine.answered, answers)
        for answer in answers:
            waiter = self._waiters.pop(answer.key, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            self._busy.discard(answer.key)

    async def request(self, connection: Connection, job: Job) -> frames.Deposited:
        """Deposit once, and count how that went if it is counted. Raises Disconnected, Refused."""
        diagnostics = self._driver.diagnostics
        begun = asyncio.get_running_loop().time()
        try:
            answer = await self._request(connection, job)
        except (Disconnected, Refused):
            if diagnostics.counts is not None:
                diagnostics.counts.failures += 1
            raise
        if diagnostics.counts is not None:
            diagnostics.counts.accepted(asyncio.get_running_loop().time() - begun)
        return answer

    async def _request(self, connection: Connection, job: Job) -> frames.Deposited:
        if self._lists is None or self._lists.connection is not connection:
            self._lists = AddressLists(connection)
        to = await self._lists.name(job.addresses)
        begun = asyncio.get_running_loop().time()
        answer = await connection.request(
            lambda request: frames.Deposit(request, job.message_id, to, job.body, LIFETIME, job.fence, 0)
        )
        if not isinstance(answer, frames.Deposited):
            raise Disconnected
        self._driver.expect_own_copy(begun)
        return answer

    # Who waits.

    async def deposited(self, keys: Sequence[bytes]) -> None:
        """Wait until these deposits are accepted (or were before). Raises what ended the driver."""
        for key in keys:
            self._driver.check()
            waiter = self._waiters.setdefault(key, asyncio.get_running_loop().create_future())
            if not await self._driver.run(self._engine.is_queued, key):
                self._waiters.pop(key, None)
                continue
            await asyncio.shield(waiter)

    def fail(self, error: BaseException) -> None:
        """Nothing is sent any more: whoever waits hears why."""
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # whoever awaits it sees it; nobody may
