"""Claims of prekeys, without any credential: over the WebSocket and over HTTP alike."""

import contextlib
from collections.abc import Sequence

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.services.relay import Relay
from restante_server.stores.contract import StoreError


async def claim(relay: Relay, frame: frames.Claim) -> frames.Claimed:
    """Take one prekey for each address. The store commits the claims of one tick together."""
    budgets, addresses = relay.claim_budgets, frame.addresses
    spent = budgets.take(addresses, relay.clock())
    claimed, lows = await relay.store.claim(frame.suite, addresses, spent)
    if lows:
        relay.hub.announce_low(lows)
    for address, each in zip(addresses, claimed, strict=True):
        if each.code == Code.GONE:
            budgets.forget(address)
    if spent:
        await _tell(relay, [addresses[position] for position in spent if claimed[position].code != Code.GONE])
    return frames.Claimed(
        frame.request, [frames.ClaimedPrekey(each.code or 0, each.number, each.package) for each in claimed]
    )


async def _tell(relay: Relay, addresses: Sequence[bytes]) -> None:
    for address in relay.claim_budgets.news(addresses):
        with contextlib.suppress(StoreError):  # the claim stands
            mailbox = await relay.store.mark_spent(address)
            if mailbox is not None:
                relay.hub.announce_spent(mailbox, address)
