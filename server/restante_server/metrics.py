"""What the relay counts. A label is a role, a type of frame or a code: never anything that names somebody."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from restante_protocol import frames
from restante_protocol.errors import Code

ROLES: Final = {frames.ROLE_SENDER: "sender", frames.ROLE_RECEIVER: "receiver"}
OUTCOMES: Final = ("taken", "gone", "later", "busy", "refused")  # of pushes: ``services.push.Outcome``
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Requests(Collector):
    """Frames of clients by kind: counted for each of them, so without the library's lock."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: dict[str, int] = {}

    def inc(self, kind: str, count: int = 1) -> None:
        """Count so many."""
        self._counts[kind] = self._counts.get(kind, 0) + count

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        family = CounterMetricFamily("restante_requests", "Frames of clients", labels=["kind"])
        for kind, count in self._counts.items():
            family.add_metric([kind], count)
        return [family]


class Durations(Collector):
    """From a deposit's receipt to its answer: counted for each of them, so without the library's lock."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        bounds = [*map(str, map(float, _SECONDS)), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family = HistogramMetricFamily("restante_deposit_seconds", "From a deposit's receipt to its answer")
        family.add_metric([], buckets, self._sum)
        return [family]


class Metrics:
    """All metrics of one relay, in a registry of their own."""

    def __init__(self) -> None:
        """Register them, so that zeros are shown from the start."""
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.connections = Gauge("restante_connections", "Open connections", ["role"], registry=registry)
        self.overloads = Counter(
            "restante_connections_refused", "Connections refused because the relay was overloaded", registry=registry
        )
        self.requests = Requests()
        registry.register(self.requests)
        self.refusals = Counter("restante_refusals", "Errors sent", ["code"], registry=registry)
        self.deposits = Counter("restante_deposits", "Deposits committed", registry=registry)
        self.deposited = Counter(
            "restante_entries_committed", "Entries committed, one per recipient", registry=registry
        )
        self.live = Counter("restante_entries_live", "Entries sent straight from the commit", registry=registry)
        self.read = Counter("restante_entries_read", "Entries sent from the store", registry=registry)
        self.commit = Durations()
        registry.register(self.commit)
        self.buffered = Gauge(
            "restante_buffered_bytes",
            "Requests in work, and what peers have not read or not sent to the end",
            registry=registry,
        )
        self.pushes = Counter("restante_pushes", "Pushes, by what push services said", ["outcome"], registry=registry)
        for outcome in OUTCOMES:
            self.pushes.labels(outcome)
        self.entries = Gauge("restante_entries", "Entries waiting", registry=registry)
        self.mailboxes = Gauge("restante_mailboxes", "Mailboxes", registry=registry)
        self.size = Gauge("restante_bytes", "Body bytes waiting, once per recipient", registry=registry)
        self.blobs = Gauge("restante_blobs", "Blobs", registry=registry)
        self.blob_size = Gauge("restante_blobs_bytes", "Bytes of all blobs", registry=registry)
        self.disk_free = Gauge("restante_disk_free_bytes", "Room on the disk of the embedded store", registry=registry)
        for role in ROLES.values():
            self.connections.labels(role)
        for code in Code:
            self.refusals.labels(code.name.lower())
