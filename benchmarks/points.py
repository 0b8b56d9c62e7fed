"""What is measured: points, the short list of ``make bench``, the matrix of ``make bench-full``, and what peers do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

Kind = Literal["fan-out", "spread", "one-to-one", "claims", "idle", "waiting", "storm", "drain"]

# Systems: relays of this project by their stores, and others.
SQLITE: Final = "sqlite"
REDIS_EVERYSEC: Final = "redis everysec"
REDIS_ALWAYS: Final = "redis always"
STORES: Final = (SQLITE, REDIS_EVERYSEC, REDIS_ALWAYS)
CLUSTER: Final = "redis cluster, failover"  # two relays over three masters with a replica each
WORKERS: Final = {f"redis everysec, --workers {count}": count for count in (1, 2, 4)}
TWO_WORKERS: Final = "redis everysec, --workers 2"
RELAYS: Final = (*STORES, CLUSTER, *WORKERS)
JETSTREAM: Final = "JetStream"
JETSTREAM_SYNC: Final = "JetStream, sync always"
MOSQUITTO: Final = "Mosquitto"
PUBSUB: Final = "Redis pub/sub"
EJABBERD: Final = "ejabberd MUC"
SYNAPSE: Final = "Synapse"
LPOP: Final = "Redis LPOP"
PEERS: Final = (JETSTREAM, JETSTREAM_SYNC, MOSQUITTO, PUBSUB, EJABBERD, SYNAPSE, LPOP)

CROWD: Final = 1000  # connections of spread and one-to-one
SMALL_PACKAGE: Final = 300  # bytes
LARGE_PACKAGE: Final = 2700  # bytes: a KeyPackage with X-Wing's keys
ONE_BY_ONE: Final = 1  # an acknowledgement for each entry
PER_READ: Final = 0  # one for all that a read brought
EVERY_16: Final = 16
HTTP: Final = "HTTP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row.

    Attributes:
        kind: what happens.
        system: what is measured, one of RELAYS or PEERS.
        recipients: of one deposit.
        inflight: deposits or claims at once.
        ack: entries per acknowledgement, 0: one per read.
        size: bytes of a body, or of a package.
        keys: addresses of one claim.
        over: how claims travel: HTTP, or "" for the system's own way.
        count: connections, entries or messages, for the kinds that have neither windows nor recipients.
        load: share of the highest rate at which deposits come; 0: as fast as they are accepted.
        varied: entries that wait were deposited to another list each time.
    """

    kind: Kind
    system: str = SQLITE
    recipients: int = 100
    inflight: int = 64
    ack: int = ONE_BY_ONE
    size: int = 256
    keys: int = 0
    over: str = ""
    count: int = 0
    load: float = 0
    varied: bool = False

    @property
    def job(self) -> str:
        """What the row is called apart from its system: rows of one job can be compared."""
        words: list[str] = [self.kind]
        if self.count:
            words.append(f"{self.count:,}")
        elif self.kind == "claims":
            depth = f"8 clients of depth {self.inflight}" if self.system in RELAYS else f"{self.inflight} in flight"
            words.append(f"{self.keys} a request, {self.size} B, {depth}")
        else:
            shown = f"N={self.recipients} " if self.kind != "one-to-one" else ""
            words.append(f"{shown}W={self.inflight}, {self.size} B, {self.ack_style}")
        if self.varied:
            words.append("varied lists")
        if self.over:
            words.append(f"over {self.over}")
        if self.load:
            words.append(f"open loop at {self.load:.0%}")
        return ", ".join(words)

    @property
    def ack_style(self) -> str:
        """How often is acknowledged, in words."""
        return {ONE_BY_ONE: "ack each", PER_READ: "ack per read"}.get(self.ack, f"ack every {self.ack}")

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.system}: {self.job}"

    @property
    def place(self) -> tuple[str, str]:
        """Points of one place share a server and its connections; the one with what waits ends it."""
        return self.system, f"{self.kind} varied" if self.varied else self.kind


def of(systems: Sequence[str], points: Sequence[Point]) -> list[Point]:
    """Return these points for each system."""
    return [replace(point, system=system) for system in systems for point in points]


def fan_outs(acks: Sequence[int]) -> list[Point]:
    """Return the main job, closed loop."""
    return [Point(kind="fan-out", inflight=w, ack=ack) for w in (8, 64) for ack in acks]


_CROWDS: Final = (
    *(Point(kind="spread", inflight=w) for w in (8, 64)),
    *(Point(kind="one-to-one", recipients=1, inflight=w) for w in (8, 64)),
)
_CLAIMS: Final = tuple(Point(kind="claims", size=SMALL_PACKAGE, inflight=8, keys=keys) for keys in (5, 20))
_POSTS: Final = tuple(replace(claim, over=HTTP) for claim in _CLAIMS)
_HALF: Final = Point(kind="fan-out", load=0.5)

SHORT: Final[tuple[Point, ...]] = (
    *fan_outs((ONE_BY_ONE, EVERY_16)),
    Point(kind="fan-out", recipients=1000),
    _HALF,
    *_CROWDS,
    *_CLAIMS,
    Point(kind="idle", count=10_000),
    Point(kind="waiting", count=200_000),
    Point(kind="waiting", count=200_000, varied=True),
    Point(kind="storm", count=5000),
    Point(kind="drain", count=1000),
    *of((REDIS_EVERYSEC, REDIS_ALWAYS), [*fan_outs((ONE_BY_ONE, EVERY_16)), *_CROWDS, *_CLAIMS]),
    *of((REDIS_EVERYSEC,), _POSTS[1:]),
    *of((CLUSTER, TWO_WORKERS), [Point(kind="fan-out")]),
)

_SIZES: Final = (256, 1024, 16_384)
_FAN_OUTS: Final = tuple(
    Point(kind="fan-out", recipients=n, inflight=w, size=size, ack=ack)
    for n in (1, 10, 100, 1000)
    for w in (1, 8, 64)
    for size in _SIZES
    for ack in (ONE_BY_ONE, EVERY_16, PER_READ)
)
_WHOLE: Final = (
    *_FAN_OUTS,
    *(Point(kind="fan-out", load=load) for load in (0.25, 0.5, 0.75)),
    *(Point(kind="spread", recipients=n, inflight=w) for n in (10, 1000) for w in (8, 64)),
    *(
        Point(kind="spread", inflight=w, size=size, ack=ack)
        for w in (1, 8, 64)
        for size in _SIZES
        for ack in (ONE_BY_ONE, EVERY_16)
    ),
    *(
        Point(kind="one-to-one", recipients=1, inflight=w, size=size, ack=ack)
        for w in (1, 8, 64)
        for size in _SIZES
        for ack in (ONE_BY_ONE, EVERY_16)
    ),
    *(
        Point(kind="claims", size=size, inflight=w, keys=keys, over=over)
        for size in (SMALL_PACKAGE, LARGE_PACKAGE)
        for keys in (1, 5, 20)
        for w in (1, 8)
        for over in ("", HTTP)
    ),
    Point(kind="idle", count=10_000),
    *(Point(kind="waiting", count=1_000_000, varied=varied) for varied in (False, True)),
    Point(kind="storm", count=5000),
    Point(kind="drain", count=10_000),
)
MATRIX: Final = of((*STORES, CLUSTER), _FAN_OUTS)
FULL: Final = (
    *of((*STORES, CLUSTER), _WHOLE),
    *of(tuple(WORKERS), [*fan_outs((ONE_BY_ONE, EVERY_16)), *_CROWDS, *_CLAIMS, Point(kind="storm", count=5000)]),
)

POPS: Final = Point(kind="claims", system=LPOP, size=SMALL_PACKAGE, inflight=64, keys=20)

# The same jobs for all; the rate of the open loop is half of what JetStream reached in the same turn.
COMPARED: Final[tuple[Point, ...]] = (
    *of((JETSTREAM, JETSTREAM_SYNC), [*fan_outs((ONE_BY_ONE, EVERY_16)), _HALF, *_CROWDS]),
    *of(STORES, [*fan_outs((ONE_BY_ONE, EVERY_16)), _HALF, *_CROWDS]),
    *of((MOSQUITTO, PUBSUB), [*fan_outs((ONE_BY_ONE,)), _HALF, *_CROWDS]),
    *of((EJABBERD,), fan_outs((ONE_BY_ONE,))),
    *of(STORES, [*_CLAIMS, *_POSTS]),
    POPS,
    *of((SYNAPSE,), [replace(claim, keys=keys) for claim in _CLAIMS[:1] for keys in (1, 20)]),
    *of(STORES, [Point(kind="fan-out", recipients=1000)]),
    *of((*STORES, JETSTREAM, MOSQUITTO, PUBSUB), [Point(kind="idle", count=10_000)]),
    *of((SQLITE, REDIS_EVERYSEC), [Point(kind="waiting", count=1_000_000)]),
)
