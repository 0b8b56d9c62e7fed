"""A device that comes back to a long backlog: messages per second at the SDK, decrypted and written to its file.

The SDK runs in this process, so its share of the core says how much of it is the client.
"""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from restante import Client, ContactRequest, Message

PASSPHRASE: Final = "benchmark"  # noqa: S105 -- of files that live for a minute
PATIENCE_SECONDS: Final = 600
IN_FLIGHT: Final = 32


async def _drain(url: str, folder: Path, count: int, pids: list[int]) -> dict[str, Any]:
    alice_file, bob_file = folder / "alice.db", folder / "bob.db"
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with Client.open(alice_file, relay=url, passphrase=PASSPHRASE) as alice:
            async with Client.open(bob_file, relay=url, passphrase=PASSPHRASE) as bob:
                room = await alice.start_conversation([await bob.invite()])
                await room.send("first")
                async for event in bob.events():
                    if isinstance(event, ContactRequest):
                        await event.accept()
                    elif isinstance(event, Message):
                        break
            sent = time.perf_counter()
            for start in range(0, count, IN_FLIGHT):
                numbers = range(start, min(count, start + IN_FLIGHT))
                await asyncio.gather(*(room.send(f"message {number}") for number in numbers))
            sent = time.perf_counter() - sent
        begun, own, server = time.perf_counter(), time.process_time(), machine.cpu_seconds(pids)
        seen = 0
        async with Client.open(bob_file, relay=url, passphrase=PASSPHRASE) as bob:
            async for event in bob.events():
                seen += isinstance(event, Message)
                if seen == count:
                    break
        drained, own = time.perf_counter() - begun, time.process_time() - own
    return {
        "sent_per_second": round(count / sent),
        "drained_per_second": round(count / drained),
        "client_us": round(own * 1e6 / count, 1),
        "server_us": round((machine.cpu_seconds(pids) - server) * 1e6 / count, 1),
        "client_share": round(own / drained, 2),
    }


def measure(url: str, folder: Path, count: int, pids: list[int]) -> dict[str, Any]:
    """Send so many messages to a device that is away, and let it come back."""
    return asyncio.run(_drain(url, folder, count, pids))
