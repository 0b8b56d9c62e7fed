"""Several relay processes on one machine, over one Redis: they share an address, and the system spreads clients.

Each is a relay like any other. This process only starts them, says once that all are ready, and ends them together; one
that dies ends all, so that whoever supervises this one starts everything anew. Worker n, from 0, serves health and
metrics at the port of ``--ops-listen`` plus n.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence

from restante_server.config import SettingError, Settings


async def supervise(settings: Settings, count: int, arguments: Sequence[str]) -> int:
    """Run workers until SIGTERM or SIGINT; return the exit status.

    Args:
        settings: of each.
        count: how many.
        arguments: of this command, ``serve`` first.

    Raises:
        SettingError: the store is for one process, or the system cannot share a port.
        OSError: the address cannot be bound.
    """
    if not settings.redis:
        raise SettingError("several workers need a Redis store: a database file is for one process")
    if not hasattr(socket, "SO_REUSEPORT"):
        raise SettingError("this system cannot share a port among processes")
    host, port = settings.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as reserved:  # bound but not listening: it only keeps the port
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port))
        return await _run(settings, count, arguments, reserved.getsockname()[1])


async def _run(settings: Settings, count: int, arguments: Sequence[str], port: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    workers: list[asyncio.subprocess.Process] = []
    stopping = asyncio.create_task(stop.wait())
    ready = b""
    try:
        for number in range(count):  # one after the other: the first makes what is not yet there
            worker = await _start(settings, number, arguments, port)
            workers.append(worker)
            if worker.stdout is None:
                raise RuntimeError("a pipe")
            line = asyncio.create_task(worker.stdout.readline())
            await asyncio.wait([line, stopping], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                line.cancel()
                break
            ready = line.result()
            if not ready:
                return 1
        else:
            sys.stdout.write(ready.decode())
            sys.stdout.flush()
            ends = [asyncio.create_task(worker.wait()) for worker in workers]
            await asyncio.wait([stopping, *ends], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        statuses = await _end(workers)
    return 0 if stop.is_set() and not any(statuses) else 1


async def _start(settings: Settings, number: int, arguments: Sequence[str], port: int) -> asyncio.subprocess.Process:
    host, _ = settings.listen
    shown = f"[{host}]" if ":" in host else host
    own = ["--workers=1", "--shared-port", f"--listen={shown}:{port}"]
    if settings.ops_listen is not None:
        ops_host, ops_port = settings.ops_listen
        ops_shown = f"[{ops_host}]" if ":" in ops_host else ops_host
        own.append(f"--ops-listen={ops_shown}:{ops_port + number if ops_port else 0}")
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "restante_server", *arguments, *own, stdout=asyncio.subprocess.PIPE
    )


async def _end(workers: Sequence[asyncio.subprocess.Process]) -> list[int]:
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            worker.terminate()
    return [await worker.wait() for worker in workers]
