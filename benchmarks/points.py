"""What is measured: points, the short list of ``make bench`` and the matrix of ``make bench-full``."""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["fan-out", "spread", "one-to-one", "claims", "idle", "waiting", "storm", "drain"]

SQLITE: Final = "sqlite"
REDIS_EVERYSEC: Final = "redis-everysec"
REDIS_ALWAYS: Final = "redis-always"
STORES: Final = (SQLITE, REDIS_EVERYSEC, REDIS_ALWAYS)

CROWD: Final = 1000  # connections of spread and one-to-one
SMALL_PACKAGE: Final = 300  # bytes
LARGE_PACKAGE: Final = 2700  # bytes: a KeyPackage with X-Wing's keys
ONE_BY_ONE: Final = 1  # an acknowledgement for each entry
PER_READ: Final = 0  # one for all that a read brought
EVERY_16: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One row.

    Attributes:
        kind: what happens.
        store: one of STORES.
        recipients: of one deposit.
        inflight: deposits or claims at once.
        ack: entries per acknowledgement, 0: one per read.
        size: bytes of a body, or of a package.
        keys: addresses of one claim.
        count: connections, entries or messages, for the kinds that have neither windows nor recipients.
        load: share of the highest rate at which deposits come; 0: as fast as they are accepted.
    """

    kind: Kind
    store: str = SQLITE
    recipients: int = 100
    inflight: int = 64
    ack: int = ONE_BY_ONE
    size: int = 256
    keys: int = 0
    count: int = 0
    load: float = 0

    @property
    def name(self) -> str:
        """What the row is called."""
        words = [self.kind, self.store]
        if self.count:
            words.append(f"{self.count:,}")
        elif self.kind == "claims":
            words.append(f"{self.keys} a request, {self.size} B, depth {self.inflight}")
        else:
            shown = f"N={self.recipients} " if self.kind != "one-to-one" else ""
            ack = {ONE_BY_ONE: "ack each", PER_READ: "ack per read"}.get(self.ack, f"ack every {self.ack}")
            words.append(f"{shown}W={self.inflight}, {self.size} B, {ack}")
        if self.load:
            words.append(f"open loop at {self.load:.0%}")
        return ", ".join(words)

    @property
    def place(self) -> tuple[str, str]:
        """Points of one place share a relay and its connections."""
        return self.store, self.kind


def _short(store: str) -> list[Point]:
    return [
        *(Point(kind="fan-out", store=store, inflight=w, ack=a) for w in (8, 64) for a in (ONE_BY_ONE, EVERY_16)),
        Point(kind="fan-out", store=store, load=0.5),
        *(Point(kind="spread", store=store, inflight=w) for w in (8, 64)),
        *(Point(kind="one-to-one", store=store, recipients=1, inflight=w) for w in (8, 64)),
        *(Point(kind="claims", store=store, size=SMALL_PACKAGE, inflight=8, keys=keys) for keys in (5, 20)),
    ]


SHORT: Final[tuple[Point, ...]] = (
    *_short(SQLITE),
    Point(kind="fan-out", recipients=1000),
    Point(kind="idle", count=10_000),
    Point(kind="waiting", count=200_000),
    Point(kind="storm", count=1000),
    Point(kind="drain", count=1000),
    *_short(REDIS_EVERYSEC),
    *_short(REDIS_ALWAYS),
)


def _full(store: str) -> list[Point]:
    points: list[Point] = []
    for recipients in (1, 10, 100, 1000):
        for inflight in (1, 8, 64):
            for size in (256, 1024, 16_384):
                points += [
                    Point(kind="fan-out", store=store, recipients=recipients, inflight=inflight, size=size, ack=ack)
                    for ack in (ONE_BY_ONE, EVERY_16, PER_READ)
                ]
    points += [Point(kind="fan-out", store=store, load=load) for load in (0.25, 0.5, 0.75)]
    for inflight in (1, 8, 64):
        for size in (256, 1024, 16_384):
            for ack in (ONE_BY_ONE, PER_READ):
                points += [
                    Point(kind="spread", store=store, inflight=inflight, size=size, ack=ack),
                    Point(kind="one-to-one", store=store, recipients=1, inflight=inflight, size=size, ack=ack),
                ]
    points += [
        Point(kind="claims", store=store, size=size, inflight=inflight, keys=keys)
        for size in (SMALL_PACKAGE, LARGE_PACKAGE)
        for keys in (1, 5, 20)
        for inflight in (1, 8)
    ]
    points += [
        Point(kind="idle", store=store, count=10_000),
        Point(kind="waiting", store=store, count=1_000_000),
        Point(kind="storm", store=store, count=5000),
        Point(kind="drain", store=store, count=10_000),
    ]
    return points


FULL: Final[tuple[Point, ...]] = tuple(
    sorted((point for store in STORES for point in _full(store)), key=lambda point: point.place)
)
