"""Group commit on one master: what was asked for in one tick of the event loop goes out as one pipeline.

While a pipeline is under way the next calls queue, so batches grow with the load. Calls of one bucket take effect in
their order, except that acknowledgements, claims and deposits of one batch are each one script call, in this order:
what is acknowledged was delivered before, so an acknowledgement can only take less this way.
"""

import asyncio
import operator
import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import hiredis
import structlog

from restante_protocol import ids
from restante_server.stores.contract import StoreFull, StoreUnavailable
from restante_server.stores.redis_address import Host
from restante_server.stores.redis_calls import Call, Fan, KnownClaims, NotCountedError, Part
from restante_server.stores.redis_link import Link, LinkLost, Reply, pack
from restante_server.stores.redis_pools import FIELD_BYTES
from restante_server.stores.redis_scripts import SCRIPTS, Script, bucket_keys

MAX_COST: Final = 4096  # recipients, claims and calls per pipeline: a script holds its server for some milliseconds
WAIT_MILLISECONDS: Final = 1000  # for the replicas
_RANK: Final = {"acknowledge": 0, "claim": 1, "popped": 1, "deposit": 2}
_AGAIN: Final = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "NOSCRIPT", "EPOCH")
"""Errors after which a script has done nothing, and which another try may not meet."""

_log = structlog.get_logger("redis")


@dataclass(frozen=True, slots=True, repr=False)
class Group:
    """Deposits that are stored together.

    Attributes:
        fans: the deposits, in their order.
        recipients: mailbox, sequence of the first, how many.
    """

    fans: tuple["Fan", ...]
    recipients: list[tuple[bytes, int, int]]


@dataclass(frozen=True, slots=True, repr=False)
class Committed:
    """What one script call stored.

    Attributes:
        bucket: in which.
        groups: what is new. Those that share a mailbox are in its order.
        before: each mailbox and its last sequence before.
        elsewhere: (node 8, mailbox 24) of each mailbox that another node serves.
    """

    bucket: int
    groups: list[Group]
    before: list[tuple[bytes, int]]
    elsewhere: bytes


class Surroundings(Protocol):
    """What a shard asks of those who made it."""

    prefix: str
    epochs: list[bytes]
    versions: list[int]

    def host_of(self, bucket: int) -> Host | None:
        """Return the master of a bucket."""
        ...

    def submit(self, call: Call) -> None:
        """Route a call anew."""
        ...

    def trouble(self) -> None:
        """Something is not as it was: look at all masters again."""
        ...

    def head(self, script: str) -> tuple[bytes | int | str, ...]:
        """Return the arguments that all calls of a batched script share."""
        ...

    def deposited(self, done: list[Committed], *, in_order: bool) -> None:
        """Deposits are committed: tell the listener, before they return."""
        ...


_BEFORE: Final = struct.Struct(">24sQ")
_FAILED: Final = struct.Struct(">HB")
_PLACE: Final = struct.Struct(">H")
_members: Final = operator.itemgetter(1)  # packed: they sort by the place of the first


def _committed(bucket: int, calls: Sequence[Call], reply: list[Any]) -> Committed:
    """Return what a call of the script ``deposit`` stored."""
    stored, indexes, packed, elsewhere, _ = reply[len(calls) :]
    before = list(_BEFORE.iter_unpack(packed))
    groups = []
    for number, members, firsts, failed in sorted(zip(*[iter(stored)] * 4, strict=True), key=_members):
        queues: Sequence[int] = struct.unpack(f">{len(indexes[number]) // 2}H", indexes[number])
        if failed:
            without = {position for position, _ in _FAILED.iter_unpack(failed)}
            queues = [queue for position, queue in enumerate(queues) if position not in without]
        fans = tuple(call.fan for (place,) in _PLACE.iter_unpack(members) if isinstance(call := calls[place], Part))
        sequences = struct.unpack(f">{len(firsts) // 8}Q", firsts)
        recipients = [(before[queue][0], first, len(fans)) for queue, first in zip(queues, sequences, strict=True)]
        groups.append(Group(fans, recipients))
    return Committed(bucket, groups, before, elsewhere)


class _Command:
    """One script call and the calls that it serves."""

    __slots__ = ("bucket", "calls", "lists", "script")

    def __init__(self, bucket: int, script: Script) -> None:
        self.bucket = bucket
        self.script = script
        self.calls: list[Call] = []
        self.lists: dict[bytes, int] = {}  # of addresses, of all deposits, by the text

    def add(self, call: Call) -> int:
        """Take a call; return what it costs. Deposits to a list that is already there cost little."""
        self.calls.append(call)
        if not isinstance(call, Part) or call.addresses in self.lists:
            return call.cost
        self.lists[call.addresses] = len(self.lists)
        return call.cost + len(call.addresses) // ids.ID_BYTES

    @property
    def replies(self) -> int:
        """How many come to it."""
        return 1 + sum(len(call.pops) for call in self.calls if isinstance(call, KnownClaims))

    def pack(self, around: Surroundings) -> tuple[Any, ...] | bytes:
        """Return EVALSHA and its arguments, and what has to be done before."""
        keys = bucket_keys(around.prefix, self.bucket)
        head = around.head(self.script.name) if self.script.name in _RANK else ()
        pops: list[bytes] = []
        arguments: list[bytes | int | str] = []
        if self.script.name == "deposit":
            arguments = [len(self.lists), *self.lists]
        for call in self.calls:
            if isinstance(call, Part):
                item = call.fan.item
                place = _PLACE.pack(self.lists[call.addresses])
                arguments += (call.header + place + (item.fence or b""), item.body)
            elif isinstance(call, KnownClaims):
                call.close()
                pops += call.pops
                arguments.append(call.known)
            else:
                arguments += call.arguments
        command = ("EVALSHA", self.script.sha, len(keys), *keys, around.epochs[self.bucket], *head, *arguments)
        return b"".join((*pops, pack(command))) if pops else command

    def version(self, reply: Any) -> int:  # noqa: ANN401 -- of whatever script
        """Return the bucket's version after the call; 0 if the reply does not say."""
        if self.script.name not in _RANK:
            return 0
        return int(reply[0] if self.script.name == "popped" else reply[-1])

    def results(self, popped: list[Reply], reply: Any) -> Iterator[tuple[Call, Any]]:  # noqa: ANN401 -- of whatever script
        """Return each call's part of the reply; popped: what came before it."""
        if self.script.name not in _RANK:
            yield self.calls[0], reply
            return
        if self.script.name == "claim":
            yield from self._claimed(reply)
        elif self.script.name == "popped":
            position = 0
            for call in self.calls:
                yield call, (popped[position : position + call.cost], reply[1])
                position += call.cost
        else:
            yield from zip(self.calls, reply, strict=False)

    def _claimed(self, reply: list[Any]) -> Iterator[tuple[Call, Any]]:
        """Return each call's answers, fields, what ran low (the first call has all of it), and the revocations."""
        fields, low, revocations = reply[-2]
        position = 0
        for call in self.calls:
            end = position + call.cost
            yield call, (reply[position:end], fields[FIELD_BYTES * position : FIELD_BYTES * end], low, revocations)
            position, low = end, b""


class Shard:
    """The pipeline to one master.

    Attributes:
        host: the master.
        link: the connection, once there is one.
        notices: the connection on which this node hears from others.
        begun: the buckets that have been looked at over this connection.
        subscribed: the channels on which it hears.
        heard: set whenever something comes there.
        replicas: how many have to confirm what is written.
        ready: calls go out.
        since: loop time since when a pipeline is under way; 0 if none is.
    """

    def __init__(self, around: Surroundings, host: Host) -> None:
        """Begin unconnected."""
        self.host = host
        self.link: Link | None = None
        self.notices: Link | None = None
        self.begun: set[int] = set()
        self.subscribed: set[bytes] = set()
        self.heard = asyncio.Event()
        self.replicas = 0
        self.ready = False
        self.since = 0.0
        self.connecting: asyncio.Task[None] | None = None
        self._around = around
        self._unconfirmed: defaultdict[int, int] = defaultdict(int)  # versions that were told, by bucket
        self._pending: deque[Call] = deque()
        self._out: list[tuple[Any, ...]] = []
        self._scheduled = False
        self._settled = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def submit(self, call: Call) -> None:
        """Queue a call."""
        self._pending.append(call)
        self.schedule()

    def publish(self, channel: bytes, message: bytes) -> None:
        """Tell another node, with the next pipeline; not while the master is out of reach."""
        if not self.ready:
            return
        self._out.append(("SPUBLISH", channel, message))
        self.schedule()

    def forget(self) -> None:
        """The connection is another: nothing of the last one holds, and the store may have another history."""
        self.begun.clear()
        self._unconfirmed.clear()
        self._out.clear()

    def schedule(self) -> None:
        """Send what is pending at the end of this tick."""
        if self.ready and not self._scheduled and not self.since and (self._pending or self._out):
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def settled(self) -> None:
        """Wait until nothing waits or is under way."""
        while self._pending or self.since:
            self._settled.clear()
            await self._settled.wait()

    def take_pending(self) -> list[Call]:
        """Give up everything that has not been sent."""
        calls = list(self._pending)
        self._pending.clear()
        return calls

    def expire(self, now: float) -> None:
        """Give up calls whose time is over."""
        for call in [call for call in self._pending if call.deadline < now]:
            self._pending.remove(call)
            call.fail(StoreUnavailable())

    def close(self) -> None:
        """Drop the connections; calls that are under way are tried again elsewhere."""
        self.ready = False
        for link in (self.link, self.notices):
            if link is not None:
                link.close()

    def _flush(self) -> None:
        self._scheduled = False
        if not self.ready or self.since or self.link is None:
            return
        commands = self._assemble()
        out, self._out = self._out, []
        if not commands and not out:
            return
        packed = out + [command.pack(self._around) for command in commands]
        waits = self.replicas if any(command.script.promises for command in commands) else 0
        if waits:
            packed.append(("WAIT", waits, WAIT_MILLISECONDS))
        self.since = self._loop.time()
        count = len(out) + sum(command.replies for command in commands) + bool(waits)
        future = self.link.call(packed, count)
        future.add_done_callback(lambda done: self._finish(done, commands, len(out), waits))

    def _assemble(self) -> list[_Command]:
        """Take what may go out now, and make commands of it."""
        around, commands = self._around, []
        open_batches: dict[int, dict[str, _Command]] = {}
        order: dict[int, list[_Command]] = {}
        later: list[Call] = []
        cost = 0
        while self._pending and cost < MAX_COST:
            call = self._pending.popleft()
            bucket = call.bucket
            if around.host_of(bucket) != self.host:
                around.submit(call)
                continue
            if bucket not in self.begun:
                later.append(call)
                continue
            script = SCRIPTS[call.script]
            queue = order.setdefault(bucket, [])
            if call.script in _RANK:
                batches = open_batches.setdefault(bucket, {})
                command = batches.get(call.script)
                if command is None:
                    command = batches[call.script] = _Command(bucket, script)
                    place = len(queue)
                    while (
                        place
                        and queue[place - 1] in batches.values()
                        and (_RANK[queue[place - 1].script.name] > _RANK[call.script])
                    ):
                        place -= 1
                    queue.insert(place, command)
            else:
                open_batches.pop(bucket, None)
                command = _Command(bucket, script)
                queue.append(command)
            cost += command.add(call)
        if later:
            self._pending.extendleft(reversed(later))
            around.trouble()
        for queue in order.values():
            commands += queue
        return commands

    def _finish(self, done: "asyncio.Future[list[Reply]]", commands: list[_Command], skip: int, waits: int) -> None:
        self.since = 0.0
        self._settled.set()
        try:
            replies = done.result()
        except LinkLost:
            self._again([call for command in commands for call in command.calls])
        else:
            self._distribute(replies, commands, skip, waits)

    def _distribute(self, replies: list[Reply], commands: list[_Command], skip: int, waits: int) -> None:
        short = bool(waits) and (not isinstance(replies[-1], int) or replies[-1] < waits)
        again: list[Call] = []
        outcomes: list[tuple[Call, Any]] = []
        committed: list[Committed] = []
        end = skip
        for command in commands:
            start, end = end, end + command.replies
            *popped, reply = replies[start:end]
            if isinstance(reply, hiredis.ReplyError):
                self._refused(command, str(reply), again)
            elif short and command.script.promises:
                for call in command.calls:
                    call.fail(StoreUnavailable("too few replicas"))
            else:
                self._unconfirmed[command.bucket] = max(self._unconfirmed[command.bucket], command.version(reply))
                outcomes += command.results(popped, reply)
                if command.script.name == "deposit":
                    committed.append(_committed(command.bucket, command.calls, reply))
        if short:
            _log.warning("replicas did not confirm")
            self._around.trouble()
        self._learn(confirmed=not short and (bool(waits) or not self.replicas))
        if committed:
            self._around.deposited(committed, in_order=not again)
        for call, result in outcomes:
            call.succeed(result)
        if again:
            self._again(again)
        self.schedule()

    def _learn(self, *, confirmed: bool) -> None:
        """Remember versions once replicas have all that was written over this connection.

        One that is promoted without what nobody waited for would else be taken for one that is behind.
        """
        if not confirmed:
            return
        versions = self._around.versions
        for bucket, version in self._unconfirmed.items():
            versions[bucket] = max(versions[bucket], version)
        self._unconfirmed.clear()

    def _refused(self, command: _Command, error: str, again: list[Call]) -> None:
        if error.startswith("OOM"):
            failure: Exception = StoreFull()
        elif error.startswith(_AGAIN) or "non local key" in error:
            if error.startswith("EPOCH"):
                self.begun.discard(command.bucket)
            elif error.startswith("NOSCRIPT"):
                self.begun.clear()
            if command.script.name != "popped":
                again += command.calls
                return
            failure = NotCountedError()
        else:
            _log.error("a script failed", where=command.script.name, error=error.partition(" ")[0])
            failure = StoreUnavailable()
        for call in command.calls:
            call.fail(failure)

    def _again(self, calls: list[Call]) -> None:
        """Queue calls before all others, unless their time is over."""
        now = self._loop.time()
        for call in reversed(calls):
            if call.deadline < now:
                call.fail(StoreUnavailable())
            else:
                self._pending.appendleft(call)
        self.ready = False
        self._around.trouble()
