"""A client's connection to a relay, as far as the command line needs one: ``doctor`` and ``bench``."""

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self, TypeVar

import aiohttp

from restante_crypto import primitives, proofs
from restante_protocol import frames, ids
from restante_protocol.connection import ClientConnection
from restante_protocol.errors import Code

_Answer = TypeVar("_Answer")


class Failed(Exception):  # noqa: N818 -- an outcome, with its text for the operator
    """The relay answers, but not as it should.

    Attributes:
        code: of the Error that it answered with, or None.
    """

    def __init__(self, text: str, code: Code | None = None) -> None:
        super().__init__(text)
        self.code = code


class Link:
    """One connection, in either role.

    Attributes:
        nonce: the client's, of the handshake.
        socket: below it.
        connection: the state of the protocol.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, role: int) -> None:
        self.nonce = os.urandom(ids.CHALLENGE_BYTES)
        self.socket = socket
        self.connection = ClientConnection(role)

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, stack: AsyncExitStack, url: str, role: int) -> Self:
        """Connect to the whole URL of a socket until the stack unwinds, say Hello and verify Welcome. Raises Failed."""
        link = cls(await stack.enter_async_context(session.ws_connect(url, max_msg_size=0)), role)
        await link.socket.send_bytes(link.connection.hello(link.nonce))
        await link.receive()
        welcome = link.welcome
        if not primitives.ed25519_verify(
            welcome.relay_key, proofs.welcome_message(welcome.relay_key, link.nonce, welcome.nonce), welcome.signature
        ):
            raise Failed("what answers there is no relay")
        return link

    @property
    def welcome(self) -> frames.Welcome:
        """The relay's."""
        if self.connection.welcome is None:
            raise Failed("what answers there is no relay")
        return self.connection.welcome

    async def receive(self) -> object:
        """Return what comes next."""
        return self.connection.receive(await self.socket.receive_bytes())

    async def ask(self, build: Callable[[int], frames.ClientFrame], kind: type[_Answer]) -> _Answer:
        """Send a request and return its answer, which has to be of the kind. Raises Failed."""
        number = self.connection.next_request()
        await self.socket.send_bytes(self.connection.send(build(number)))
        while getattr(answer := await self.receive(), "request", None) != number:
            pass
        if isinstance(answer, frames.Error) and kind is not frames.Error:
            code = Code(answer.code)
            raise Failed(f"the relay refuses: {code.name.lower()}", code)
        if not isinstance(answer, kind):
            raise Failed("another answer came than was asked for")
        return answer

    async def make_mailbox(self, bucket: int) -> tuple[bytes, bytes, bytes]:
        """Prove and create a new mailbox; return its id, key and nonce. Raises Failed."""
        seed, nonce = os.urandom(32), os.urandom(ids.ID_NONCE_BYTES)
        key = primitives.ed25519_public(seed)
        mailbox = proofs.mailbox_id(bucket, key, nonce)
        signed = proofs.open_message(self.welcome.relay_key, mailbox, self.nonce, self.welcome.nonce)
        signature = primitives.ed25519_sign(seed, signed)
        await self.ask(lambda n: frames.Open(n, mailbox, key, nonce, signature), frames.Error)  # there is none yet
        await self.ask(lambda n: frames.Create(n, b""), frames.Created)
        return mailbox, key, nonce

    async def listen(self, bucket: int, key: bytes, nonce: bytes, cap: int) -> tuple[bytes, frames.Subscribed]:
        """Add an address of so many entries to the mailbox, and subscribe; return both. Raises Failed."""
        address: bytes = proofs.address_id(bucket, key, nonce)
        spec = frames.AddressSpec(address, nonce, cap, frames.KIND_CONVERSATION)
        await self.ask(lambda n: frames.AddressPut(n, [spec]), frames.Done)
        return address, await self.ask(lambda n: frames.Subscribe(n, b"", 0, []), frames.Subscribed)
