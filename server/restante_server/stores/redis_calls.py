"""What is asked of a bucket: each is part of a script call that ``redis_shard`` makes for all of one tick."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, Protocol

from restante_server.stores import redis_pools
from restante_server.stores.contract import Deposit, Outcome, forward
from restante_server.stores.redis_link import Reply

COST_BYTES: Final = 1024  # so many of a body count as one more

Request = tuple[int, Sequence[bytes]]
"""A claim's suite and addresses."""

Package = bytes | Exception | None
"""What an LPOP came to: the Exception is ``hiredis.ReplyError``."""

Popped = tuple[list[Package], int]
"""What LPOPs came to, and whether that holds: HOLDS, REVOKED or RENEWED."""

HOLDS: Final = 0
REVOKED: Final = 1  # an address may be no more: ask before its package is issued
RENEWED: Final = 2  # the store has another history: nothing is issued

Complete = Callable[[Request, Sequence[bytes], list[Package], int], Coroutine[Any, Any, Any]]
_first: Final[Callable[[Any], int]] = itemgetter(0)


class Call:
    """One operation on one bucket.

    Attributes:
        bucket: that it is about.
        script: that does it.
        arguments: after the head.
        cost: what it counts against MAX_COST.
        deadline: loop time after which it is not tried again.
        outcome: gets the reply.
    """

    __slots__ = ("arguments", "bucket", "cost", "deadline", "outcome", "script")

    def __init__(
        self,
        bucket: int,
        script: str,
        arguments: Sequence[bytes | int | str],
        cost: int = 1,
    ) -> None:
        self.bucket = bucket
        self.script = script
        self.arguments = arguments
        self.cost = cost
        self.deadline = 0.0
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the reply."""
        return self.outcome.__await__()

    def succeed(self, reply: Reply) -> None:
        """Take the reply."""
        if not self.outcome.done():
            self.outcome.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Take an error."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class MappedCall(Call):
    """One whose outcome gets what ``answer`` makes of the reply."""

    __slots__ = ("_answer",)

    def __init__(
        self,
        bucket: int,
        script: str,
        arguments: Sequence[bytes | int | str],
        cost: int,
        answer: Callable[[Reply], Any],
    ) -> None:
        super().__init__(bucket, script, arguments, cost)
        self._answer = answer

    def succeed(self, reply: Reply) -> None:
        """Take the reply."""
        super().succeed(self._answer(reply))


class NotCountedError(Exception):
    """What was popped was not counted: as if nothing had been."""


class KnownClaims(Call):
    """Claims from pools that were looked up before: those of one bucket and one tick of the event loop.

    They are plain LPOPs, and then a script that counts them and says whether what is known still holds.

    Attributes:
        known: the epoch and revocations that the pools go with.
        pops: the commands, as they are sent.
        open: more may be added.
    """

    __slots__ = ("_complete", "_parts", "known", "open", "pops")

    def __init__(self, bucket: int, known: bytes, complete: Complete) -> None:
        """``complete``: makes of a whole request's packages what the store returns, if there is more to be done."""
        self.bucket = bucket
        self.script = "popped"
        self.cost = 0
        self.deadline = 0.0
        self.known = known
        self.pops: list[bytes] = []
        self.open = True
        self._complete = complete
        self._parts: list[tuple[list[bytes], Outcome, Request | None]] = []

    def add(self, pops: list[bytes], outcome: Outcome, whole: Request | None) -> None:
        """Add pools.

        Args:
            pops: of their packages, as they are sent.
            outcome: gets what the store returns, if they are all that a request asks for; else ``Popped``.
            whole: that request.
        """
        self.pops += pops
        self.cost += len(pops)
        self._parts.append((pops, outcome, whole))

    def close(self) -> None:
        """Take no more."""
        self.open = False

    def succeed(self, reply: Popped) -> None:
        """Take what was popped."""
        packages, state = reply
        if state == RENEWED:
            packages = [None] * len(packages)
        done = state == HOLDS and _are_plain(packages)
        start = 0
        for pops, outcome, whole in self._end():
            found = packages[start : start + len(pops)]
            start += len(pops)
            if outcome.done():
                continue
            if whole is not None and (done or (state == HOLDS and _are_plain(found))):
                outcome.set_result((found, ()))
            else:
                self._go_on(pops, (found, state), outcome, whole)

    def fail(self, error: Exception) -> None:
        """Take an error: what was popped is issued to nobody."""
        for pops, outcome, whole in self._end():
            if outcome.done():
                continue
            if isinstance(error, NotCountedError):
                self._go_on(pops, ([None] * len(pops), RENEWED), outcome, whole)
            else:
                outcome.set_exception(error)

    def _end(self) -> list[tuple[list[bytes], Outcome, Request | None]]:
        """Give up who is to be told: nothing of them stays."""
        self.open = False
        parts, self._parts = self._parts, []
        return parts

    def _go_on(self, pops: list[bytes], popped: Popped, outcome: Outcome, whole: Request | None) -> None:
        if whole is not None:
            asyncio.ensure_future(self._complete(whole, pops, *popped)).add_done_callback(partial(forward, outcome))
        else:
            outcome.set_result(popped)


def _are_plain(packages: list[Package]) -> bool:
    """Say whether there is one for each, and no pool runs low."""
    try:
        return redis_pools.LOW[0] not in bytes(map(_first, packages))
    except TypeError:  # nothing, or an error
        return False


class Part(Call):
    """The part of a deposit that concerns one bucket; its outcome goes to the deposit.

    Attributes:
        fan: the deposit.
        header: see the script ``deposit``, but for list and fence.
        addresses: 24 bytes each.
    """

    __slots__ = ("addresses", "fan", "header")

    def __init__(self, fan: "Fan", bucket: int, header: bytes, addresses: bytes) -> None:
        self.bucket = bucket
        self.script = "deposit"
        self.cost = 1 + len(fan.item.body) // COST_BYTES
        self.deadline = 0.0
        self.fan = fan
        self.header = header
        self.addresses = addresses

    def succeed(self, reply: Reply) -> None:
        """Give the deposit what failed."""
        self.fan.take(self.bucket, reply)

    def fail(self, error: Exception) -> None:
        """Fail the deposit."""
        self.fan.fail(error)


class Fan(Protocol):
    """A deposit whose parts are under way.

    Attributes:
        item: the deposit.
        number: ascending, in the order in which they are asked for.
    """

    item: Deposit
    number: int

    def take(self, bucket: int, failed: bytes) -> None:
        """One bucket has stored it."""
        ...

    def fail(self, error: Exception) -> None:
        """One bucket has not."""
        ...
