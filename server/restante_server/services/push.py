"""Waking devices whose client is not connected, through push services. PROTOCOL.md section 6.18.

An endpoint is a slot of the relay, sealed, under a keyed hash of its mailbox. What has come for mailboxes that nobody
is subscribed to is told by the hub after the commit: that costs one set operation. Everything else happens some seconds
later, apart from deposits: the endpoint is looked up, and if there is one, its owner still wants it, something waits
and nobody has connected meanwhile, one push is sent. Then the mailbox rests. Of several nodes the first to take the
rest, which is a slot too, sends; so there is one push, whichever nodes were deposited at.

What is not here: the request itself (``webpush``), and any certainty. A push that is lost is made good by the next
entry, and a node that is killed forgets those that wait for their time.
"""

import asyncio
import contextlib
import heapq
import itertools
import math
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from restante_crypto import primitives
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.clock import Clock
from restante_server.config import PUSH_CONNECTIONS, PUSH_MOST_REST, PUSH_WAITING, PushPace
from restante_server.endpoints import Endpoint
from restante_server.errors import Refused
from restante_server.metrics import Metrics
from restante_server.processors import WakeUp
from restante_server.purposes import Purpose
from restante_server.push_key import PushKey
from restante_server.services import budgets
from restante_server.services.budgets import Pace
from restante_server.services.bulletin import Bulletin
from restante_server.services.consents import Consents
from restante_server.services.erasure import Eraser
from restante_server.stores.contract import Holding, Store, StoreError, overwrite

PUBLICATION: Final = "push"
TRIES: Final = 6  # of one push; what comes later is told again anyway
_MOST_DOUBLINGS: Final = 16  # of the rest: beyond PUSH_MOST_REST whatever that is
SERVED_REST: Final = 10.0  # seconds until a mailbox that another node served is looked at again, at most
TOKEN_SECONDS: Final = 12 * 3600  # that a token is valid for: half of what RFC 8292 allows
SERVICES: Final = 1000  # origins that are remembered: where a declared host stands for all names below it
LAST: Final = 10_000  # pushes that are sent as a relay ends: more take too long
_random = secrets.SystemRandom()
_log = structlog.get_logger("push")


class Outcome(StrEnum):
    """What became of a push."""

    TAKEN = "taken"
    GONE = "gone"  # the endpoint is not there any more
    LATER = "later"  # the service does not answer
    BUSY = "busy"  # it does, but takes no more for this endpoint now: whose it is alone has to wait
    REFUSED = "refused"  # as it is it is never taken


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a push, and how many seconds the service wants to be left alone: 0 if it does not say."""

    outcome: Outcome
    after: float = 0.0


Send = Callable[[WakeUp], Awaitable[Answer]]
"""Sends a push through the gateway."""


@dataclass(frozen=True, slots=True)
class Service:
    """What sends pushes, and for whom.

    Attributes:
        send: sends one.
        takes: says whether an endpoint is of the form, and at an address, that pushes are sent to.
        is_declared: says whether it is at a push service that the policy names.
        subject: of the tokens: whoever answers for the relay, as a URI, or nothing.
    """

    send: Send
    takes: Callable[[Endpoint], bool]
    is_declared: Callable[[Endpoint], bool]
    subject: str = ""


@dataclass(slots=True)
class _Origin:
    """A push service: when it is asked again, how often it did not answer, and the token for it."""

    rests_until: float = 0.0
    failures: int = 0
    token: str = ""
    renew_at: int = 0


class Push:
    """The endpoints of one store, and this node's pushes to them."""

    def __init__(
        self,
        store: Store,
        key: PushKey,
        eraser: Eraser,
        consents: Consents,
        clock: Clock,
        metrics: Metrics,
        service: Service | None,
        pace: PushPace,
    ) -> None:
        """Take an open store. From now on withdrawing the purpose erases what is here; ``service`` is None if push is
        not offered.
        """  # noqa: D205 -- one sentence
        self._store = store
        self._key = key
        self._eraser = eraser
        self._consents = consents
        self._clock = clock
        self._metrics = metrics
        self._service = service
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, bytes]] = []  # a heap
        self._count = itertools.count()  # of what was ever put into it
        self._waiting: dict[bytes, int] = {}  # what is in it, and how often it was tried
        self._resting: dict[bytes, float] = {}
        self._origins: dict[str, _Origin] = {}
        self._sooner = asyncio.Event()
        self._room = asyncio.Semaphore(PUSH_CONNECTIONS)
        self._pushing: set[asyncio.Task[None]] = set()
        consents.on_withdrawal(Purpose.PUSH, self.erase)

    @property
    def offered(self) -> bool:
        """Endpoints are taken, and pushes sent."""
        return self._service is not None

    async def publish(self, published: Bulletin) -> None:
        """Publish the relay's key for push services, or refresh it."""
        content = {"vapid": self._key.public}
        while True:
            version, before = await published.read(PUBLICATION)
            if await published.write(PUBLICATION, version + (before != content), content):
                return

    # Endpoints.

    async def put(self, mailbox: bytes, frame: frames.PushPut) -> frames.Done:
        """Answer PushPut. Raises Refused."""
        async with self._consents.storing(mailbox, Purpose.PUSH):
            endpoint = self._checked(frame.endpoint)
            slot = self._slot(mailbox)
            await overwrite(self._store, slot, limits.MAX_SLOT_LIFETIME, self._key.seal(slot, endpoint.text))
            self._resting.pop(mailbox, None)  # without an endpoint it was not woken
        return frames.Done(frame.request)

    def _checked(self, text: str) -> Endpoint:
        """Return an endpoint that pushes may be sent to. Raises Refused."""
        service = self._service
        try:
            endpoint = Endpoint.parse(text)
        except ValueError:
            raise Refused(Code.LIMIT, "endpoint") from None
        if service is None or not service.is_declared(endpoint):
            raise Refused(Code.NOT_FOUND, "push service")
        if not service.takes(endpoint):
            raise Refused(Code.LIMIT, "endpoint")
        return endpoint

    async def delete(self, mailbox: bytes, frame: frames.PushDelete) -> frames.Done:
        """Answer PushDelete."""
        await self.erase(mailbox)
        return frames.Done(frame.request)

    async def get(self, mailbox: bytes, frame: frames.PushGet) -> frames.Push:
        """Answer PushGet."""
        return frames.Push(frame.request, await self._endpoint(mailbox))

    async def erase(self, mailbox: bytes) -> None:
        """Erase what is here of a mailbox; the caller scrubs."""
        await self._eraser.erase_slot(self._slot(mailbox))
        await self._store.delete_slot(self._rest_slot(mailbox))
        self._waiting.pop(mailbox, None)
        self._resting.pop(mailbox, None)

    async def holdings(self, mailbox: bytes) -> list[Holding]:
        """Return what there is of a mailbox, for its owner."""
        endpoint = await self._endpoint(mailbox)
        if not endpoint:
            return []
        rest = await budgets.full_at(self._store, self._rest_slot(mailbox))
        return [Holding("push.endpoint", b"", endpoint.encode()), Holding("push.rest", b"", rest)]

    def _slot(self, mailbox: bytes) -> bytes:
        return self._key.slot("endpoint", mailbox)

    def _rest_slot(self, mailbox: bytes) -> bytes:
        return self._key.slot("rest", mailbox)

    async def _endpoint(self, mailbox: bytes) -> str:
        """Return the mailbox's endpoint, or nothing: it has none, or one that was sealed by another relay's key."""
        slot = self._slot(mailbox)
        stored = await self._store.get_slot(slot)
        with contextlib.suppress(primitives.AuthenticationError):
            return self._key.open_sealed(slot, stored.body) if stored is not None else ""
        return ""

    # When.

    def missed(self, mailboxes: Iterable[bytes]) -> None:
        """Something was committed for these, and nobody here is subscribed to them: the hub's, after each commit."""
        now = self._loop.time()
        for mailbox in set(mailboxes).difference(self._waiting):
            self._schedule(mailbox, max(now, self._resting.get(mailbox, 0.0)), 0)

    def _schedule(self, mailbox: bytes, at: float, tries: int) -> None:
        if len(self._waiting) >= PUSH_WAITING:
            return
        due = at + _random.uniform(self._pace.least_delay, self._pace.most_delay)
        self._waiting[mailbox] = tries
        heapq.heappush(self._due, (due, next(self._count), mailbox))
        if self._due[0][2] == mailbox:
            self._sooner.set()

    def _again(self, mailbox: bytes, at: float, tries: int) -> None:
        if tries + 1 < TRIES and mailbox not in self._waiting:
            self._schedule(mailbox, at, tries + 1)

    def trim(self) -> None:
        """Forget who does not rest any more, and services that nothing is known of."""
        now = self._loop.time()
        self._resting = {mailbox: until for mailbox, until in self._resting.items() if until > now}
        if len(self._origins) > SERVICES:
            self._origins = {name: each for name, each in self._origins.items() if each.rests_until > now}

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            self._sooner.clear()
            wait = self._due[0][0] - self._loop.time() if self._due else None
            if wait is None or wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._sooner.wait()
                continue
            _, _, mailbox = heapq.heappop(self._due)
            if mailbox in self._waiting:
                async with self._room:  # until there is some: the task takes it
                    pass
                self._begin(mailbox, self._waiting.pop(mailbox, TRIES))

    def _begin(self, mailbox: bytes, tries: int) -> None:
        task = self._loop.create_task(self._push(mailbox, tries))
        self._pushing.add(task)
        task.add_done_callback(self._pushing.discard)

    async def finish(self, seconds: float) -> None:
        """Send now what waits for its time, and be done after so many seconds: this node ends."""
        for mailbox in itertools.islice(self._waiting, LAST):
            self._begin(mailbox, TRIES)
        self._waiting.clear()
        if self._pushing:
            _, late = await asyncio.wait(self._pushing, timeout=seconds)
            for task in late:
                task.cancel()

    # How.

    async def _push(self, mailbox: bytes, tries: int) -> None:
        async with self._room:
            try:
                await self._try(mailbox, tries)
            except StoreError:
                self._again(mailbox, self._loop.time() + self._pace.rest, tries)
            except Exception as error:  # noqa: BLE001 -- our bug: it must not end in silence
                _log.error("push failed", error=type(error).__name__)

    async def _try(self, mailbox: bytes, tries: int) -> None:
        self._resting[mailbox] = rests_until = self._loop.time() + self._pace.rest
        endpoint = await self._endpoint(mailbox)
        service = self._service
        if not endpoint or service is None or not await self._is_wanted(mailbox):
            return
        name = Endpoint.parse(endpoint).origin
        origin = self._origins.setdefault(name, _Origin())
        if origin.rests_until > self._loop.time():
            self._again(mailbox, origin.rests_until, tries)
            return
        pace = Pace(1, self._pace.rest)
        if not await budgets.take(self._store, self._clock, self._rest_slot(mailbox), pace):
            self._again(mailbox, rests_until, tries)  # another node was faster, maybe before what has come here
            return
        answer = await service.send(WakeUp(endpoint, self._token(name, origin, service.subject)))
        outcome = answer.outcome
        self._metrics.pushes.labels(outcome).inc()
        self._heard(origin, answer)
        if outcome is Outcome.BUSY:
            rests_until = max(rests_until, await self._rest(mailbox, min(PUSH_MOST_REST, answer.after)))
        if outcome in {Outcome.LATER, Outcome.BUSY}:
            self._again(mailbox, max(rests_until, origin.rests_until), tries)
        elif outcome is Outcome.GONE and await self._endpoint(mailbox) == endpoint:
            await self._eraser.erase_slot(self._slot(mailbox))

    async def _rest(self, mailbox: bytes, seconds: float) -> float:
        """Wake nobody of a mailbox for so long, at any node; return the loop time when that is over."""
        if seconds > self._pace.rest:
            await budgets.empty(self._store, self._clock, self._rest_slot(mailbox), math.ceil(seconds))
            self._resting[mailbox] = self._loop.time() + seconds
        return self._resting.get(mailbox, 0.0)

    async def _is_wanted(self, mailbox: bytes) -> bool:
        """Say whether something waits that nobody is there for, and its owner has agreed to what is offered now."""
        try:
            await self._consents.require(mailbox, Purpose.PUSH)
        except Refused:
            return False
        if await self._store.is_served(mailbox):
            self._resting[mailbox] = self._loop.time() + min(self._pace.rest, SERVED_REST)
            return False
        status = await self._store.status(mailbox)
        return status is not None and status.entries > 0

    def _heard(self, origin: _Origin, answer: Answer) -> None:
        """Leave a service that does not answer alone, for longer each time, and at least as long as it asks for."""
        if answer.outcome is not Outcome.LATER:
            origin.failures = 0
            return
        rest = max(self._pace.rest * 2.0**origin.failures, answer.after)
        origin.rests_until = self._loop.time() + min(PUSH_MOST_REST, rest)
        origin.failures = min(origin.failures + 1, _MOST_DOUBLINGS)

    def _token(self, name: str, origin: _Origin, subject: str) -> str:
        """Return a token for a service: the same for all its endpoints, and renewed before it ends."""
        now = self._clock() // 1000
        if now >= origin.renew_at:
            origin.token = self._key.authorization(name, now + TOKEN_SECONDS, subject)
            origin.renew_at = now + TOKEN_SECONDS // 2
        return origin.token
