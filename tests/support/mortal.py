"""A relay that dies and comes back at the same address: what clients have to live with."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from support import disk
from support import relay as relays

START_SECONDS = 60


class MortalRelay:
    """A relay in a process of its own, which keeps its port over restarts."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.store = folder / "relay.db"
        self.port = 0
        self.url = ""
        self.log = folder.with_name(folder.name + ".log")
        self.options = options
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str) -> str:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "restante_server",
                "serve",
                "--listen",
                f"127.0.0.1:{self.port}",
                *relays.store_options(self.store),
                *self.options,
                *options,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await self._process.stdout.readline()).decode().split()
        assert line[0] == "ready", line
        self.url = line[1]
        self.port = int(self.url.rpartition(":")[2])
        return line[2]

    @property
    def started(self) -> bool:
        return self._process is not None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def everything(self, backup: Path) -> dict[str, bytes]:
        """Back it up into this folder; return all that is on the relay's side: store, blobs, backup, log."""
        if relays.shared_store:
            await asyncio.to_thread(disk.back_up, self.folder, backup)
        else:
            command = (sys.executable, "-m", "restante_server", "backup", backup, "--store", f"sqlite:{self.store}")
            process = await asyncio.create_subprocess_exec(*command)
            assert await process.wait() == 0
        return {**disk.files(*disk.places(self.folder), backup), self.log.as_posix(): self.log.read_bytes()}

    async def stop(self) -> int:
        """SIGTERM; return the exit status."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(START_SECONDS):
            return await self._process.wait()


@contextlib.asynccontextmanager
async def mortal_relay(folder: Path, *options: str) -> AsyncIterator[MortalRelay]:
    """A relay in a process of its own."""
    relay = MortalRelay(folder, *options)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
