"""Claims of prekeys, without any credential: over the WebSocket and over HTTP alike."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

from restante_protocol import frames
from restante_server.services.relay import Relay
from restante_server.stores.contract import GONE, Claimed, Issued, Outcome, StoreError, forward


def begin(relay: Relay, frame: frames.Claim, outcome: Outcome) -> None:
    """Take one prekey for each address, and tell what came of it. The store commits the claims of one tick together."""
    spent = relay.claim_budgets.take(frame.addresses, relay.clock())
    if spent:
        task = asyncio.ensure_future(_claim_and_tell(relay, frame, spent))
        task.add_done_callback(partial(forward, outcome))
    else:
        relay.store.begin_claim(frame.suite, frame.addresses, outcome)


def issued(relay: Relay, frame: frames.Claim, taken: Issued) -> Sequence[Claimed]:
    """Return what a claim is answered with, and tell the owners of pools that ran low."""
    prekeys, lows = taken
    if lows:
        relay.hub.announce_low(lows)
    if GONE in prekeys:
        for address, prekey in zip(frame.addresses, prekeys, strict=True):
            if prekey == GONE:
                relay.claim_budgets.forget(address)
    return prekeys


async def _claim_and_tell(relay: Relay, frame: frames.Claim, spent: Sequence[int]) -> Issued:
    answers, lows = await relay.store.claim(frame.suite, frame.addresses, spent)
    addresses = [frame.addresses[position] for position in spent if answers[position] != GONE]
    for address in relay.claim_budgets.news(addresses):
        with contextlib.suppress(StoreError):  # the claim stands
            mailbox = await relay.store.mark_spent(address)
            if mailbox is not None:
                relay.hub.announce_spent(mailbox, address)
    return answers, lows
