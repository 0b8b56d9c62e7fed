"""What all connections of a relay share."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from restante_protocol import frames
from restante_server.clock import Clock, system_clock
from restante_server.config import PROCESS_LIST_ADDRESSES, SLOT_CREATIONS, SLOT_CREATIONS_PER_SECOND
from restante_server.identity import Identity
from restante_server.metrics import Metrics
from restante_server.services.allowance import Allowance, Rate
from restante_server.services.claim_budgets import ClaimBudgets
from restante_server.services.consents import Consents
from restante_server.services.directory import Directory
from restante_server.services.erasure import Eraser
from restante_server.services.hub import Hub
from restante_server.services.ledger import Ledger
from restante_server.services.push import Push
from restante_server.services.subscription import Wrap
from restante_server.stores.contract import Store

ADMISSIONS: Final = {"open": frames.ADMISSION_OPEN, "invite": frames.ADMISSION_CODE, "closed": frames.ADMISSION_CLOSED}
"""The settings of admission, as the wire says them."""


class Meter(Protocol):
    """Counts what connections of ``restante bench`` do."""

    def deposit(self) -> None:
        """Count a deposit. Raises Refused."""
        ...

    def create(self, mailbox: bytes) -> None:
        """Count a mailbox. Raises Refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The store, the hub, the key and the limits of one relay.

    Attributes:
        store: open; ``hub`` listens to it.
        hub: who is connected.
        identity: the relay's key.
        admission: who may create mailboxes: a key of ADMISSIONS.
        wrap: makes a frame a message of the transport.
        metrics: counters.
        eraser: what erases for good.
        consents: what mailboxes have granted.
        directory: who is found by a handle or number, if that is offered, or was.
        push: what wakes devices, if that is offered, or erases what is left of it.
        ledger: the log of disclosures.
        list_addresses: addresses behind the list handles of all connections.
        slot_creations: new slots, which need no credential.
        claim_budgets: what each address still gives.
        clock: Unix milliseconds.
        meter: what counts deposits and new mailboxes, or None.
    """

    store: Store
    hub: Hub
    identity: Identity
    admission: str
    wrap: Wrap
    metrics: Metrics
    eraser: Eraser
    consents: Consents
    directory: Directory | None
    push: Push
    ledger: Ledger
    list_addresses: Allowance = field(default_factory=lambda: Allowance(PROCESS_LIST_ADDRESSES))
    slot_creations: Rate = field(default_factory=lambda: Rate(SLOT_CREATIONS, SLOT_CREATIONS_PER_SECOND))
    claim_budgets: ClaimBudgets = field(default_factory=ClaimBudgets)
    clock: Clock = system_clock
    meter: Meter | None = None
