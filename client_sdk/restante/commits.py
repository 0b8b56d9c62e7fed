"""Commits on their way: each under a fence that is won once, and one conversation does not wait for another.

What a Commit holds, and what its loser does, is the engine's (``engine.commits``).
"""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from restante.errors import Refused
from restante.links import LATER, RETRY_SECONDS, Disconnected
from restante_protocol import frames
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

SPREAD: Final = 0.02  # seconds by place, after a lost fence
SUSPICION_SECONDS: Final = 0.3  # held entries wait so long before their fences are asked for


class Commits:
    """The Commits of a client, with a task per conversation while there is something to commit."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Nothing is committed yet."""
        self._engine = engine
        self._driver = driver
        self._under_way: set[bytes] = set()  # conversations
        self._suspecting = False

    def wake(self, conversations: Collection[bytes]) -> None:
        """There is something to commit in these conversations."""
        for conversation in conversations:
            if conversation not in self._under_way:
                self._under_way.add(conversation)
                task = self._driver.spawn(partial(self._commit, conversation))
                task.add_done_callback(partial(self._ended, conversation))

    def _ended(self, conversation: bytes, _task: "asyncio.Task[None]") -> None:
        self._under_way.discard(conversation)

    async def _commit(self, conversation: bytes) -> None:
        engine, driver = self._engine, self._driver
        while True:
            connection = await driver.sender()
            job = await driver.run(engine.prepare_commit, conversation)
            if job is None or job.fence is None:
                driver.progressed()
                return
            try:
                await driver.parcels.upload(job.blobs)
                answer = await driver.outbox.request(connection, job)
            except Disconnected:
                await asyncio.sleep(0)
                continue
            except Refused as error:
                if error.code == Code.CONFLICT:
                    await self.follow(job.fence)
                    place = await driver.run(engine.place, conversation)
                    await asyncio.sleep(SPREAD * place * driver.jitter.random())
                elif error.code in LATER:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await driver.do(engine.commit_refused, conversation, error.code)
                continue
            await driver.do(engine.commit_won, conversation, job.message_id, answer.failed)

    async def follow(self, fence: bytes) -> bool:
        """Fetch and process who won a fence; False if nobody has."""
        try:
            winner = await self._driver.ask(lambda request: frames.FenceGet(request, fence))
        except Refused:
            return False
        if not isinstance(winner, frames.Fence):
            return False
        await self._driver.do(self._engine.fence_winner, fence, winner.message_id, winner.body)
        return True

    def suspect(self) -> None:
        """Something does not open, or this file is old: Commits may have passed it by."""
        if not self._suspecting:
            self._suspecting = True
            self._driver.spawn(self._ask_fences)

    async def _ask_fences(self) -> None:
        """Ask who won the fences, a little later: what opens it may be on its way."""
        await asyncio.sleep(SUSPICION_SECONDS)
        self._suspecting = False
        followed = True
        while followed:
            followed = False
            for fence in await self._driver.run(self._engine.suspect_fences):
                followed |= await self.follow(fence)
        if await self._driver.run(self._engine.caught_up):
            await self._driver.look()

    async def committed(self, intents: Sequence[bytes]) -> None:
        """Wait until a winning Commit has these intents and the relay holds its Welcomes.

        Raises:
            Refused: the relay will never take such a Commit, or what goes with it; the intents are dropped.
        """
        engine, driver = self._engine, self._driver

        async def done() -> bool:
            return not await driver.run(lambda: any(engine.is_wanted(intent) for intent in intents))

        await driver.look()
        await driver.until(done)
        code = await driver.run(engine.refusal_of, intents)
        if code is not None:
            raise Refused(code, "the relay takes no handshake of this size, or no blobs: ask its operator")
        await driver.outbox.deposited(await driver.run(engine.welcomes_of, intents))
