"""Clients with small pools of KeyPackages, which cost them most of their first second."""

import pytest

from restante.engine import mailroom
from restante_protocol import limits

KEPT, OTHER, LOW = 8, 6, 5  # instead of 50, 25 and 20


@pytest.fixture(autouse=True)
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold fewer KeyPackages in the clients of this process, and make more at a lower mark, as its relays do."""
    monkeypatch.setattr(mailroom, "PREKEYS_KEPT", KEPT)
    monkeypatch.setattr(mailroom, "OTHER_PREKEYS_KEPT", OTHER)
    monkeypatch.setattr(mailroom, "PREKEYS_LOW", LOW)
    monkeypatch.setattr(limits, "PREKEYS_LOW_MARK", LOW)
