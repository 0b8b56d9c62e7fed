"""What the relay counts. A label is a role, a type of frame or a code: never anything that names somebody."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from restante_protocol import frames
from restante_protocol.errors import Code

ROLES: Final = {frames.ROLE_SENDER: "sender", frames.ROLE_RECEIVER: "receiver"}
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


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
        self.requests = Counter("restante_requests", "Frames of clients", ["kind"], registry=registry)
        self.refusals = Counter("restante_refusals", "Errors sent", ["code"], registry=registry)
        self.deposits = Counter("restante_deposits", "Deposits committed", registry=registry)
        self.deposited = Counter(
            "restante_entries_committed", "Entries committed, one per recipient", registry=registry
        )
        self.live = Counter("restante_entries_live", "Entries sent straight from the commit", registry=registry)
        self.read = Counter("restante_entries_read", "Entries sent from the store", registry=registry)
        self.commit = Histogram(
            "restante_deposit_seconds", "From a deposit's receipt to its answer", buckets=_SECONDS, registry=registry
        )
        self.buffered = Gauge(
            "restante_buffered_bytes", "Requests in work and bytes that peers have not read", registry=registry
        )
        self.entries = Gauge("restante_entries", "Entries waiting", registry=registry)
        self.mailboxes = Gauge("restante_mailboxes", "Mailboxes", registry=registry)
        self.size = Gauge("restante_bytes", "Body bytes waiting, once per recipient", registry=registry)
        self.blobs = Gauge("restante_blobs", "Blobs", registry=registry)
        self.blob_size = Gauge("restante_blobs_bytes", "Bytes of all blobs", registry=registry)
        self.disk_free = Gauge("restante_disk_free_bytes", "Room on the disk of the embedded store", registry=registry)
        self._frames: dict[type, Counter] = {}
        for role in ROLES.values():
            self.connections.labels(role)
        for code in Code:
            self.refusals.labels(code.name.lower())

    def frame(self, kind: type, count: int = 1) -> None:
        """Count a client's frames of this type."""
        counter = self._frames.get(kind)
        if counter is None:
            counter = self._frames[kind] = self.requests.labels(kind.__name__)
        counter.inc(count)
