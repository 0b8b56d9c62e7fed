"""Connections for the load generator: WebSocket handshake, Hello, proof and subscription on plain blocking sockets.

What is measured happens in the compiled generator; here each socket is brought to the point where it starts.
"""

import base64
import os
import socket
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from restante_crypto import primitives, proofs
from restante_protocol import frames, ids, limits
from restante_protocol.connection import ClientConnection, NumberedEntry
from restante_protocol.errors import Code

PATH: Final = "/v1/socket"
CONNECT_SECONDS: Final = 30
BUFFER_BYTES: Final = 1 << 16
PING: Final = b"\x89\x00"  # a relay's: without payload
PONG: Final = b"\x8a\x80\x00\x00\x00\x00"


class Refused(Exception):  # noqa: N818 -- the outcome of a request
    """The relay answered with an Error.

    Attributes:
        code: restante_protocol.errors.Code.
    """

    def __init__(self, code: int, detail: str) -> None:
        """Take both from the frame."""
        super().__init__(f"{code} {detail}")
        self.code = code


class Socket:
    """One connection to a relay, one request at a time.

    Attributes:
        nonce: the client's, of the handshake.
        welcome: the relay's answer to Hello.
    """

    def __init__(self, url: str, role: int) -> None:
        """Connect and say Hello."""
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=CONNECT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise ConnectionError(head.split(b"\r\n", 1)[0].decode(errors="replace"))
        self._connection = ClientConnection(role)
        self.nonce = os.urandom(ids.CHALLENGE_BYTES)
        self._send(self._connection.hello(self.nonce))
        self._take()
        if self._connection.welcome is None:
            raise ConnectionError("no Welcome")
        self.welcome = self._connection.welcome

    def fileno(self) -> int:
        """Return the descriptor, for the generator to inherit."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this process' end."""
        self._socket.close()

    def ask(self, frame: frames.ClientFrame) -> frames.RelayFrame:
        """Return the answer to a request; entries and other news on the way are skipped."""
        self._send(self._connection.send(frame))
        while True:
            answer = self._take()
            if isinstance(answer, frames.Error):
                raise Refused(answer.code, answer.detail)
            if getattr(answer, "request", None) == getattr(frame, "request", 0):
                return answer

    def answer_pings(self) -> None:
        """Answer the pings that have come, on a connection to which nothing else is sent meanwhile."""
        self._socket.sendall(self._receive().count(PING) * PONG)

    def skip_backlog(self) -> None:
        """Read up to the Drained that follows a subscription."""
        while not isinstance(self._take(), frames.Drained):
            pass

    def _receive(self) -> bytes:
        data = self._socket.recv(BUFFER_BYTES)
        if not data:
            raise ConnectionError("the relay closed the connection")
        return data

    def _send(self, payload: bytes) -> None:
        """Send one masked binary message (RFC 6455 section 5)."""
        length = len(payload)
        if length < 126:
            head = bytes((0x82, 0x80 | length))
        elif length < 1 << 16:
            head = b"\x82\xfe" + length.to_bytes(2, "big")
        else:
            head = b"\x82\xff" + length.to_bytes(8, "big")
        mask = os.urandom(4)
        stream = (mask * (length // 4 + 1))[:length]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(length, "big")
        self._socket.sendall(head + mask + masked)

    def _take(self) -> frames.RelayFrame:
        answer = self._connection.receive(self._message())
        return answer.entry if isinstance(answer, NumberedEntry) else answer

    def _message(self) -> bytes:
        while True:
            buffer = self._buffer
            if len(buffer) >= 2:
                extra = {126: 2, 127: 8}.get(buffer[1], 0)
                size = int.from_bytes(buffer[2 : 2 + extra], "big") if extra else buffer[1]
                if len(buffer) >= 2 + extra + size:
                    self._buffer = buffer[2 + extra + size :]
                    return buffer[2 + extra : 2 + extra + size]
            self._buffer += self._receive()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox with one address.

    Attributes:
        address: its deposit address.
    """

    seed: bytes
    key: bytes
    nonce: bytes
    bucket: int
    mailbox: bytes
    address: bytes

    @classmethod
    def make(cls, number: int) -> Self:
        """Make the keys of a mailbox; buckets go round by the number."""
        seed, nonce, bucket = os.urandom(32), os.urandom(ids.ID_NONCE_BYTES), number % ids.BUCKETS
        key = primitives.ed25519_public(seed)
        mailbox = proofs.mailbox_id(bucket, key, nonce)
        return cls(seed, key, nonce, bucket, mailbox, proofs.address_id(bucket, key, nonce))

    def open(self, url: str) -> Socket:
        """Connect and prove the mailbox."""
        peer = Socket(url, frames.ROLE_RECEIVER)
        message = proofs.open_message(peer.welcome.relay_key, self.mailbox, peer.nonce, peer.welcome.nonce)
        signature = primitives.ed25519_sign(self.seed, message)
        try:
            peer.ask(frames.Open(1, self.mailbox, self.key, self.nonce, signature))
        except Refused as refused:
            if refused.code != Code.NO_MAILBOX:
                raise
        return peer

    def create(self, url: str) -> Socket:
        """Create the mailbox and its address; return the connection."""
        peer = self.open(url)
        peer.ask(frames.Create(2, b""))
        spec = frames.AddressSpec(self.address, self.nonce, limits.ADDRESS_ENTRIES, frames.KIND_CONVERSATION)
        peer.ask(frames.AddressPut(3, [spec]))
        return peer


def subscribe(peer: Socket) -> bytes:
    """Subscribe; return what an acknowledgement begins with, up to its sequence."""
    answer = peer.ask(frames.Subscribe(4, b"", 0, []))
    if not isinstance(answer, frames.Subscribed):
        raise TypeError("no Subscribed")
    peer.skip_backlog()
    whole = frames.encode(frames.Ack(answer.owner_token, answer.incarnation, 0, []))
    return whole[:-2]  # without the sequence 0 and the empty list
