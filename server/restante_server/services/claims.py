"""Claims of prekeys, without any credential: over the WebSocket and over HTTP alike."""

from restante_protocol import frames
from restante_server.services.relay import Relay


async def claim(relay: Relay, frame: frames.Claim) -> frames.Claimed:
    """Take one prekey for each address. The store commits the claims of one tick together."""
    claimed, lows = await relay.store.claim(frame.suite, frame.addresses)
    if lows:
        relay.hub.announce_low(lows)
    return frames.Claimed(
        frame.request, [frames.ClaimedPrekey(each.code or 0, each.number, each.package) for each in claimed]
    )
