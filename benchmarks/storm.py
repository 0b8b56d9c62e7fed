"""A reconnect storm: all mailboxes of a relay come back, as many at a time as this process has threads."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from benchmarks.people import Mailbox, Socket, subscribe

from benchmarks import machine

THREADS: Final = 256


def measure(url: str, count: int, pids: list[int]) -> dict[str, Any]:
    """Create mailboxes, cut all connections, and bring all back; one is back when its subscription is answered."""
    mailboxes = [Mailbox.make(number) for number in range(count)]

    def create(mailbox: Mailbox) -> None:
        mailbox.create(url).close()

    def come_back(mailbox: Mailbox) -> tuple[Socket, float]:
        begun = time.perf_counter()
        peer = mailbox.open(url)
        subscribe(peer)
        return peer, time.perf_counter() - begun

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(create, mailboxes))
        start, own, server = time.perf_counter(), time.process_time(), machine.cpu_seconds(pids)
        back = list(threads.map(come_back, mailboxes))
        seconds = time.perf_counter() - start
    for peer, _ in back:
        peer.close()
    waits = sorted(wait for _, wait in back)
    return {
        "seconds": round(seconds, 2),
        "connections_per_second": round(count / seconds),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 1),
        "server_us": round((machine.cpu_seconds(pids) - server) * 1e6 / count, 1),
        "client_share": round((time.process_time() - own) / seconds, 2),
    }
