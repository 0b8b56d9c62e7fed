"""What claims need: mailboxes with one-time packages, addresses that lead there, and the requests that name them.

An address gives few one-time packages at a time, so there are as many addresses as the packages need. Each job has
fresh ones.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from benchmarks.load import Job, address_targets
from benchmarks.people import CONNECT_SECONDS, Mailbox, Socket
from benchmarks.points import HTTP, Point

from restante_crypto import proofs
from restante_protocol import frames, ids, limits

SUITE: Final = 3
MAILBOXES: Final = 200  # at least; more where they have to hold more
LEAST_SUPPLY: Final = 20_000  # keys that are ready for a window
MOST_SUPPLY: Final = 400_000  # keys: a window's at 670,000 a second
SENDERS: Final = 8  # clients, each with the point's depth: requests of one WebSocket, or connections of HTTP
PER_ADDRESS: Final = 16  # keys claimed through one


@dataclass(slots=True)
class Pools:
    """The mailboxes of a relay that are claimed from.

    Attributes:
        url: the relay's.
    """

    url: str
    _mailboxes: list[Mailbox] = field(default_factory=list)
    _addresses: list[list[bytes]] = field(default_factory=list)
    _uploaded: int = 0

    @contextmanager
    def job(self, point: Point, pids: Sequence[int], supply: int) -> Iterator[Job]:
        """Upload about so many keys, and connect senders."""
        while len(self._mailboxes) < max(MAILBOXES, -(-supply // limits.MAILBOX_PREKEYS)):
            mailbox = Mailbox.make(len(self._mailboxes))
            mailbox.create(self.url).close()
            self._mailboxes.append(mailbox)
            self._addresses.append([])
        each = supply // len(self._mailboxes)
        self._addresses = [
            self._renew(mailbox, each, point.size, old)
            for mailbox, old in zip(self._mailboxes, self._addresses, strict=True)
        ]
        self._uploaded += each
        with ExitStack() as stack:
            over_http = point.over == HTTP
            senders = []
            for _ in range(SENDERS * (point.inflight if over_http else 1)):
                sender = _connect(self.url) if over_http else Socket(self.url, frames.ROLE_SENDER)
                stack.callback(sender.close)
                senders.append(sender.fileno())
            yield Job(
                peer="http" if over_http else "restante",
                senders=senders,
                targets=list(self._targets(point)),
                pids=pids,
                inflight=SENDERS * point.inflight,
                claims=point.keys,
                suite=SUITE,
            )

    def _renew(self, mailbox: Mailbox, count: int, size: int, old: Sequence[bytes]) -> list[bytes]:
        """Replace a mailbox' packages and addresses."""
        peer = mailbox.open(self.url)
        if old:
            peer.ask(frames.AddressRevoke(2, list(old)))
        nonces = [os.urandom(ids.ID_NONCE_BYTES) for _ in range(-(-count // PER_ADDRESS))]
        fresh: list[bytes] = [proofs.address_id(mailbox.bucket, mailbox.key, nonce) for nonce in nonces]
        specs = [
            frames.AddressSpec(address, nonce, 1, frames.KIND_INVITE)
            for address, nonce in zip(fresh, nonces, strict=True)
        ]
        peer.ask(frames.AddressPut(3, specs))
        first = 1 + self._uploaded
        for start in range(0, count, limits.MAX_PREKEY_BATCH):
            packages = [os.urandom(size) for _ in range(min(limits.MAX_PREKEY_BATCH, count - start))]
            last_resort = packages[0] if start == 0 else b""
            peer.ask(frames.PrekeysPut(5, SUITE, first + start, packages, last_resort, start == 0))
        peer.close()
        return fresh

    def _targets(self, point: Point) -> Iterator[bytes]:
        """Yield lists of addresses as a Claim has them, or whole requests; neighbours are of different mailboxes."""
        addresses = [address for row in zip(*self._addresses, strict=True) for address in row]
        keys = point.keys
        for at in range(0, len(addresses) - keys + 1, keys):
            chosen = addresses[at : at + keys]
            if point.over == HTTP:
                body = frames.encode(frames.Claim(1, SUITE, chosen))
                head = f"POST /v1/claims HTTP/1.1\r\nHost: relay\r\nContent-Length: {len(body)}\r\n\r\n"
                yield head.encode() + body
            else:
                yield from address_targets([chosen])


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    peer = socket.create_connection((parts.hostname, parts.port), timeout=CONNECT_SECONDS)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer
