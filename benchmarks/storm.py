"""A reconnect storm: all mailboxes of a relay come back in the same moment.

The load generator has the sockets (loadgen/storm.c); the keys are here, so each Welcome comes by here to be signed.
"""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from struct import Struct
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.people import PATH, Mailbox

from restante_crypto import primitives, proofs
from restante_protocol import frames, ids

THREADS: Final = 32  # that make mailboxes
UPGRADE: Final = (
    f"GET {PATH} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
SUBSCRIBE: Final = frames.encode(frames.Subscribe(2, b"", 0, []))
_RECORD: Final = Struct("=II")  # number of a client, length of the frame that follows
_READ: Final = 1 << 16


def _opened(mailbox: Mailbox, nonce: bytes, welcome: bytes) -> bytes:
    """Return the Open that answers a Welcome."""
    frame = frames.decode_relay_frame(welcome)
    if not isinstance(frame, frames.Welcome):
        raise TypeError("no Welcome")
    message = proofs.open_message(frame.relay_key, mailbox.mailbox, nonce, frame.nonce)
    signature = primitives.ed25519_sign(mailbox.seed, message)
    return frames.encode(frames.Open(1, mailbox.mailbox, mailbox.key, mailbox.nonce, signature))


def _sign(near: socket.socket, mailboxes: list[Mailbox], nonces: list[bytes]) -> None:
    """Answer Welcomes until the generator is done."""
    came = bytearray()
    while data := near.recv(_READ):
        came += data
        answers = bytearray()
        at = 0
        while len(came) - at >= _RECORD.size:
            number, size = _RECORD.unpack_from(came, at)
            start = at + _RECORD.size
            if len(came) < start + size:
                break
            signed = _opened(mailboxes[number], nonces[number], bytes(came[start : start + size]))
            answers += _RECORD.pack(number, len(signed)) + signed
            at = start + size
        del came[:at]
        near.sendall(answers)


def measure(program: Path, url: str, count: int, pids: list[int]) -> dict[str, Any]:
    """Create mailboxes, cut all connections, and bring all back; one is back when its subscription is answered."""
    mailboxes = [Mailbox.make(number) for number in range(count)]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda mailbox: mailbox.create(url).close(), mailboxes))
    nonces = [os.urandom(ids.CHALLENGE_BYTES) for _ in mailboxes]
    near, far = socket.socketpair()
    lines = [f"port {urlsplit(url).port}", *(f"pid {pid}" for pid in pids)]
    lines += [f"upgrade {UPGRADE.hex()}", f"subscribe {SUBSCRIBE.hex()}", f"signer {far.fileno()}"]
    hellos = [frames.encode(frames.Hello([frames.VERSION], frames.ROLE_RECEIVER, nonce)) for nonce in nonces]
    lines += [f"client {hello.hex()}" for hello in hellos]
    with (
        near,
        subprocess.Popen(  # noqa: S603 -- our program
            [program, "storm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            pass_fds=[far.fileno()],
        ) as process,
    ):
        far.close()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.close()
        own = time.process_time()
        _sign(near, mailboxes, nonces)
        own = time.process_time() - own
        text = process.stdout.read()
    if process.returncode:
        raise RuntimeError("the generator gave up")
    seen: dict[str, Any] = json.loads(text)
    return {
        "seconds": round(seen["seconds"], 2),
        "connections_per_second": round(count / seen["seconds"]),
        "asked_within_ms": seen["asked_ms"],
        "p50_ms": seen["p50_ms"],
        "p99_ms": seen["p99_ms"],
        "server_us": seen["server_us"],
        "client_share": round((own + seen["own_seconds"]) / seen["seconds"], 2),
        "failures": seen["failures"],
    }
