"""A mailbox that is served here while three nodes deposit for it, whose messages are delayed, overtaken and lost."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from restante_protocol import ids
from restante_protocol.errors import Code
from restante_server.metrics import Metrics
from restante_server.services.hub import Hub
from restante_server.services.subscription import Subscription
from restante_server.stores import contract
from restante_server.stores.contract import Deposit, Listener, StoredEntry
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_notices import Notices
from restante_server.stores.redis_shard import Committed, Group
from support.stores import mailbox

NODES = 3  # number 0 serves the mailbox
HERE = b"here ..."
MAILBOX = mailbox(1)
TOKEN = b"token .."
FIRST = 1000
LENGTH = 4  # bytes, before each message


class Sink:
    """A connection that takes everything."""

    congested = False

    async def writable(self) -> None:
        """It always is."""

    def wake(self) -> None:
        """It is emptied after each step."""

    def send(self, frame: object) -> None:
        """Not looked at."""

    def fail(self, code: Code, detail: str) -> None:
        raise AssertionError(code, detail)


@dataclass
class Store:
    """What is committed; a read sees what is there when it begins, and returns when it is let go."""

    entries: dict[int, bytes] = field(default_factory=dict)
    reads: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def read(self, mailbox: bytes, after: int, entries: int, size: int) -> Sequence[StoredEntry]:
        assert size
        found = [StoredEntry(number, mailbox[:16], body, None) for number, body in sorted(self.entries.items())]
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reads.append(gate)
        await gate
        return [each for each in found if each.sequence > after][:entries]

    def acknowledge(
        self, mailbox: bytes, owner_token: bytes, incarnation: bytes, sequence: int, exceptions: Sequence[int]
    ) -> bool:
        assert mailbox + owner_token + incarnation
        assert not exceptions
        for number in [number for number in self.entries if number <= sequence]:
            del self.entries[number]
        return True


def with_length(message: bytes) -> bytes:
    """Return a message as it is written here."""
    return len(message).to_bytes(LENGTH, "big") + message


def entries_of(data: bytes) -> list[tuple[int, bytes]]:
    """Return sequences and bodies of what was written."""
    found, place, sequence = [], 0, 0
    while place < len(data):
        end = place + LENGTH + int.from_bytes(data[place : place + LENGTH], "big")
        frame = msgspec.msgpack.decode(data[place + LENGTH : end])
        place = end
        if isinstance(frame[1], int):  # a run: its first sequence
            sequence = frame[1]
        else:
            found.append((sequence, frame[2]))
            sequence += 1
    return found


class Fan:
    """A deposit: its number and what is stored of it."""

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.item = Deposit(bytes(ids.MESSAGE_ID_BYTES), (), body, 0, None, False, b"")


def node_of(notices: Notices, listener: Listener, publish: Callable[[bytes], None]) -> RedisStore:
    """Return a node without Redis: only what it does once something is committed."""
    store = RedisStore.__new__(RedisStore)
    masters: Any = SimpleNamespace(publish=lambda _bucket, _node, message: publish(message))
    store._notices, store._listener, store._masters = notices, listener, masters
    return store


class Scene:
    """The serving node, and what is on its way to it."""

    def __init__(self) -> None:
        self.store = Store()
        self.notices = Notices()
        self.metrics = Metrics()
        self.hub = Hub(with_length, self.metrics)
        self.notices.watch(self.hub)
        listeners: list[Listener] = [self.hub.announce, *[lambda _deliveries: None] * (NODES - 1)]
        self.nodes = [
            node_of(Notices() if number else self.notices, listener, partial(self.publish, number))
            for number, listener in enumerate(listeners)
        ]
        self.last = 0
        self.numbers = itertools.count(FIRST)
        self.on_the_way: list[deque[Callable[[], None]]] = [deque() for _ in range(NODES)]
        self.committed: list[tuple[int, bytes]] = []
        self.written: list[tuple[int, bytes]] = []
        self.subscribe()

    def subscribe(self) -> None:
        """The client connects: what it has not acknowledged comes again."""
        owner = contract.Subscription(bytes(16), TOKEN, 0, self.last, (), ())
        store: Any = self.store
        self.subscription = Subscription(MAILBOX, owner, Sink(), store, with_length, self.metrics)
        self.notices.own(MAILBOX, TOKEN, self.last)
        self.hub.add(self.subscription)
        self.subscription.start()
        self.committed, self.written = sorted(self.store.entries.items()), []

    async def reconnect(self) -> None:
        """The connection ends, and another begins: its subscription is answered after what this node has committed."""
        await self.hub.remove(self.subscription)
        while self.on_the_way[0]:
            self.arrive(0, lost=False)
        self.store.reads.clear()
        self.subscribe()

    def commit(self, node: int, calls: list[tuple[int, bool, int]]) -> None:
        """A node stores entries by script calls of one pipeline: how many, whether another stores one before, its rank.

        Those of a lower rank were asked for before: they are tried again.
        """
        done = []
        for count, after_another, rank in calls:
            if after_another:
                self.commit((node + 1) % NODES, [(1, False, 0)])
            first = next(self.numbers)
            bodies = [b"%d" % number for number in (first, *itertools.islice(self.numbers, count - 1))]
            self.committed += enumerate(bodies, first)
            self.store.entries.update(enumerate(bodies, first))
            fans: tuple[Any, ...] = tuple(Fan(rank * FIRST**2 + first, body) for body in bodies)
            group = Group(fans, [(MAILBOX, first, count)])
            done.append(Committed(0, [group], [(MAILBOX, self.last)], HERE + MAILBOX if node else b""))
            self.last = first + count - 1
        if node:
            self.nodes[node].deposited(done, in_order=True)
        else:
            self.on_the_way[0].append(lambda: self.nodes[0].deposited(done, in_order=True))

    def publish(self, node: int, message: bytes) -> None:
        """A node tells the serving one of what it has committed."""
        self.on_the_way[node].append(lambda: self.notices.heard(message))

    def arrive(self, node: int, *, lost: bool) -> None:
        """The next message of a node arrives, or is lost; the serving node's own answers are not."""
        if self.on_the_way[node]:
            arrives = self.on_the_way[node].popleft()
            if not lost or node == 0:
                arrives()

    def look(self) -> None:
        """The serving node looks at the store."""
        self.notices.looked(MAILBOX, bytes(8) + TOKEN + 2 * self.last.to_bytes(8, "big"))

    async def settle(self) -> None:
        """Let everybody go on who can, and take what is written."""
        for _ in range(6):
            await asyncio.sleep(0)
        self.written += entries_of(b"".join(self.subscription.take(now=True)))

    async def end(self) -> None:
        """Let everything arrive and be read and acknowledged."""
        for node in range(NODES):
            while self.on_the_way[node]:
                self.arrive(node, lost=False)
        self.look()
        await self.settle()
        while self.store.reads:
            self.store.reads.popleft().set_result(None)
            self.acknowledge()
            await self.settle()

    def acknowledge(self) -> None:
        """The client acknowledges all that it has."""
        if self.written:
            self.subscription.acknowledge(self.written[-1][0])


CALLS = st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 1)), min_size=1, max_size=2)
STEPS = st.one_of(
    st.tuples(st.just("commit"), st.integers(0, NODES - 1), CALLS),
    st.tuples(st.just("arrive"), st.integers(0, NODES - 1), st.sampled_from([False, False, False, True])),
    st.tuples(st.just("read")),
    *(st.tuples(st.just(name)) for name in ("look", "wake", "acknowledge", "reconnect")),
)
ONE = ("commit", 1, [(1, False, 0)])
COMES = ("arrive", 1, False)
WAKE, READ = ("wake",), ("read",)


async def play(steps: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    await scene.settle()
    for name, *arguments in steps:
        if name == "commit":
            scene.commit(*arguments)
        elif name == "arrive":
            scene.arrive(arguments[0], lost=arguments[1])
        elif name == "read":
            if scene.store.reads:
                scene.store.reads.popleft().set_result(None)
        elif name == "look":
            scene.look()
        elif name == "wake":
            scene.hub.wake(MAILBOX)
        elif name == "acknowledge":
            scene.acknowledge()
        else:
            await scene.reconnect()
        await scene.settle()
    await scene.end()
    assert scene.written == scene.committed, "each entry once, in order, and none missing"
    assert scene.subscription.live
    await scene.subscription.close()


@settings(max_examples=500)
@given(st.lists(STEPS, max_size=40))
@example([ONE, COMES, WAKE, READ, READ, ONE, COMES, READ, ONE, COMES])
@example([READ, ("commit", 1, [(1, False, 1), (1, False, 0)]), COMES])
@example([ONE, WAKE, READ, READ, ("acknowledge",), READ, ("reconnect",), READ, COMES])
def test_however_messages_of_nodes_arrive_each_entry_is_sent_once_and_in_order(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(steps))
