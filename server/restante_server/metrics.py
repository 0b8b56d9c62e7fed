"""The relay's counters. A label is a role, a kind of request or a code: never anything that names somebody."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """All metrics of one relay, in a registry of their own."""

    def __init__(self) -> None:
        """Register them."""
        self.registry = CollectorRegistry()
        self.connections = Gauge("restante_connections", "Open connections", ["role"], registry=self.registry)
        self.requests = Counter("restante_requests", "Requests answered", ["kind"], registry=self.registry)
        self.refusals = Counter("restante_refusals", "Errors sent", ["code"], registry=self.registry)
        self.deliveries = Counter("restante_deliveries", "Entries sent to subscribers", registry=self.registry)
        self.entries = Gauge("restante_entries", "Entries waiting", registry=self.registry)
        self.mailboxes = Gauge("restante_mailboxes", "Mailboxes", registry=self.registry)
        self.size = Gauge("restante_bytes", "Body bytes waiting, once per recipient", registry=self.registry)
