"""A proxy before a relay that keeps all bytes of each connection: what somebody on the way would have without TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Recorded:
    """One connection: what the client sent and what the relay answered."""

    sent: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


@dataclass
class Recorder:
    """The proxy's URL, and every connection through it."""

    url: str = ""
    connections: list[Recorded] = field(default_factory=list)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            kept += data
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def recorded(url: str) -> AsyncIterator[Recorder]:
    """Record what goes to the relay of this URL."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    recorder = Recorder()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = Recorded()
        recorder.connections.append(kept)
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back, kept.sent), _copy(there, writer, kept.answered))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    recorder.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield recorder
    finally:
        server.close()
