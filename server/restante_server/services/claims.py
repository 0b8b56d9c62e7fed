"""Claims of prekeys, without any credential: over the WebSocket and over HTTP alike."""

import contextlib
from collections.abc import Sequence
from typing import cast

from msgspec import Raw

from restante_protocol import frames
from restante_server.services.relay import Relay
from restante_server.stores.contract import GONE, StoreError


async def claim(relay: Relay, frame: frames.Claim) -> frames.Claimed:
    """Take one prekey for each address. The store commits the claims of one tick together."""
    budgets, addresses = relay.claim_budgets, frame.addresses
    spent = budgets.take(addresses, relay.clock())
    claimed, lows = await relay.store.claim(frame.suite, addresses, spent)
    if lows:
        relay.hub.announce_low(lows)
    if GONE in claimed:
        for address, each in zip(addresses, claimed, strict=True):
            if each == GONE:
                budgets.forget(address)
    if spent:
        await _tell(relay, [addresses[position] for position in spent if claimed[position] != GONE])
    return frames.Claimed(frame.request, cast("list[frames.ClaimedPrekey]", [Raw(each) for each in claimed]))


async def _tell(relay: Relay, addresses: Sequence[bytes]) -> None:
    for address in relay.claim_budgets.news(addresses):
        with contextlib.suppress(StoreError):  # the claim stands
            mailbox = await relay.store.mark_spent(address)
            if mailbox is not None:
                relay.hub.announce_spent(mailbox, address)
