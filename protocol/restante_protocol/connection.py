"""Both sides of a connection, without I/O: bytes in, frames out; frames in, bytes out. PROTOCOL.md section 6.

The rules in words. A connection starts with Hello from the client; nothing else is allowed before, and it may be
1 KiB long. The relay answers Welcome. A *sender* then makes anonymous requests. A *receiver* proves its mailbox first
(Open), creates it if it does not exist, may manage it, and subscribes once; acknowledgements come after that. Neither
may do what the other does: a person's mailbox and what that person sends never meet on one connection.

States of the relay's side, and what takes it from one to the next::

    EXPECT_HELLO ── Hello received ──▶ EXPECT_WELCOME ── Welcome sent ──▶ SENDER
                                                                     └──▶ RECEIVER ── Open proved ──▶ PROVED
                                                             PROVED ── Subscribed sent ──▶ SUBSCRIBED
    any ── fatal Error sent or received ──▶ CLOSED

The client's side follows what it sends and receives, and checks that each answer is one that its request can have, that
each Run is followed by exactly its entries, and that sequences only rise.

What is not here: whether a proof is true, quotas, windows and timeouts, which need keys, a store or a clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from restante_protocol import checks, frames, limits
from restante_protocol.errors import FATAL_CODES, Code, LocalError, RemoteError


class State(Enum):
    """Where a connection is."""

    EXPECT_HELLO = auto()
    EXPECT_WELCOME = auto()
    SENDER = auto()
    RECEIVER = auto()
    PROVED = auto()
    SUBSCRIBED = auto()
    CLOSED = auto()


_SENDER_REQUESTS: Final = frozenset(
    {
        frames.Deposit,
        frames.ListPut,
        frames.ListDrop,
        frames.Claim,
        frames.FenceGet,
        frames.SlotGet,
        frames.SlotPut,
        frames.SlotDelete,
    }
)
_OWNER_REQUESTS: Final = frozenset(
    {
        frames.Create,
        frames.AddressPut,
        frames.AddressRevoke,
        frames.PrekeysPut,
        frames.Status,
        frames.MailboxDelete,
        frames.Export,
        frames.ConsentPut,
        frames.ConsentGet,
        frames.Evaluate,
        frames.HandlePut,
        frames.HandleDelete,
        frames.NumberClaim,
        frames.NumberConfirm,
        frames.NumberPut,
        frames.NumberDelete,
        frames.NumbersGet,
        frames.PushPut,
        frames.PushDelete,
        frames.PushGet,
    }
)

ALLOWED: Final[dict[State, frozenset[type]]] = {
    State.EXPECT_HELLO: frozenset({frames.Hello}),
    State.EXPECT_WELCOME: frozenset(),
    State.SENDER: _SENDER_REQUESTS,
    State.RECEIVER: frozenset({frames.Open}),
    State.PROVED: _OWNER_REQUESTS | {frames.Subscribe},
    State.SUBSCRIBED: _OWNER_REQUESTS | {frames.Ack},
    State.CLOSED: frozenset(),
}
"""Which frames a client may send in which state."""

ANSWERS: Final[dict[type, type]] = {
    frames.Deposit: frames.Deposited,
    frames.ListPut: frames.Done,
    frames.ListDrop: frames.Done,
    frames.Claim: frames.Claimed,
    frames.FenceGet: frames.Fence,
    frames.SlotGet: frames.Slot,
    frames.SlotPut: frames.Done,
    frames.SlotDelete: frames.Done,
    frames.Open: frames.Done,
    frames.Create: frames.Created,
    frames.Subscribe: frames.Subscribed,
    frames.AddressPut: frames.Done,
    frames.AddressRevoke: frames.Done,
    frames.PrekeysPut: frames.Done,
    frames.Status: frames.MailboxStatus,
    frames.MailboxDelete: frames.Erased,
    frames.Export: frames.Exported,
    frames.ConsentPut: frames.Done,
    frames.ConsentGet: frames.Consents,
    frames.Evaluate: frames.Evaluated,
    frames.HandlePut: frames.Done,
    frames.HandleDelete: frames.Done,
    frames.NumberClaim: frames.Done,
    frames.NumberConfirm: frames.Done,
    frames.NumberPut: frames.Done,
    frames.NumberDelete: frames.Done,
    frames.NumbersGet: frames.Numbers,
    frames.PushPut: frames.Done,
    frames.PushDelete: frames.Done,
    frames.PushGet: frames.Push,
}
"""The answer to each request, unless it is an Error."""

_PUSHES: Final = frozenset(
    {frames.Run, frames.Entry, frames.Drained, frames.PrekeysLow, frames.AddressSpent, frames.Disclosed}
)


class RequestError(RemoteError):
    """A request is beyond a limit: it fails alone, and the connection goes on.

    It never was in flight, so its answer goes past ``RelayConnection.send``: ``frames.encode(frames.Error(...))``.

    Attributes:
        request: its number.
    """

    def __init__(self, request: int, code: Code, detail: str) -> None:
        """Keep the request's number for the answer."""
        super().__init__(code, detail)
        self.request = request


class RelayConnection:
    """The relay's side.

    Attributes:
        state: where it is.
        hello: the client's Hello, from its receipt to the Welcome.
        in_flight: the requests that have no answer yet, by number, with their frame's type.
    """

    __slots__ = ("_allowed", "hello", "in_flight", "state")

    def __init__(self) -> None:
        """Wait for Hello."""
        self.hello: frames.Hello | None = None
        self.in_flight: dict[int, type] = {}
        self._enter(State.EXPECT_HELLO)

    def _enter(self, state: State) -> None:
        self.state = state
        self._allowed = ALLOWED[state]

    def receive(self, data: bytes) -> frames.ClientFrame:
        """Take one message of the client.

        Raises:
            RequestError: a limit; answer Error(error.request, ...) and go on.
            RemoteError: anything else; send Error(0, ...) and close.
        """
        if self.state is State.EXPECT_HELLO and len(data) > limits.MAX_UNPROVED_FRAME_BYTES:
            raise RemoteError(Code.TOO_LARGE, "first frame")
        frame = frames.decode_client_frame(data)
        if type(frame) not in self._allowed:
            raise RemoteError(Code.UNEXPECTED, "frame in this state")
        request: int = getattr(frame, "request", 0)
        if request in self.in_flight:
            raise RemoteError(Code.UNEXPECTED, "request number in flight")
        try:
            checks.check(frame)
        except RemoteError as error:
            if error.code in FATAL_CODES:
                raise
            raise RequestError(request, error.code, error.detail) from None
        if request:
            self.in_flight[request] = type(frame)
        elif isinstance(frame, frames.Hello):
            if frames.VERSION not in frame.versions:
                raise RemoteError(Code.VERSION, "version")
            self.hello = frame
            self._enter(State.EXPECT_WELCOME)
        return frame

    def proved(self) -> None:
        """Note that the client has proved its mailbox. Raises LocalError but in the state RECEIVER."""
        if self.state is not State.RECEIVER:
            raise LocalError(Code.UNEXPECTED, "proof in this state")
        self._enter(State.PROVED)

    def send(self, frame: frames.RelayFrame) -> bytes:
        """Return the bytes of a frame for the client.

        Raises:
            LocalError: it does not fit the state or answers nothing.
        """
        kind = type(frame)
        if kind in _PUSHES:
            if self.state is not State.SUBSCRIBED:
                raise LocalError(Code.UNEXPECTED, "push in this state")
        elif isinstance(frame, frames.Welcome):
            if self.state is not State.EXPECT_WELCOME or self.hello is None:
                raise LocalError(Code.UNEXPECTED, "Welcome in this state")
            self._enter(State.SENDER if self.hello.role == frames.ROLE_SENDER else State.RECEIVER)
            self.hello = None
        elif self.state is State.CLOSED:
            raise LocalError(Code.UNEXPECTED, "closed")
        elif isinstance(frame, frames.Error) and frame.request == 0:
            self._enter(State.CLOSED)
        else:
            self._answer(getattr(frame, "request", 0), kind)
        return frames.encode(frame)

    def send_claimed(self, request: int, prekeys: Sequence[bytes]) -> list[bytes]:
        """Return the pieces of a Claimed, as ``frames.encode_claimed`` does. Raises LocalError as ``send`` does."""
        if self.state is not State.SENDER:
            raise LocalError(Code.UNEXPECTED, "answer in this state")
        self._answer(request, frames.Claimed)
        return frames.encode_claimed(request, prekeys)

    def _answer(self, request: int, kind: type) -> None:
        asked = self.in_flight.get(request)
        if asked is None or not (kind is frames.Error or kind is ANSWERS[asked]):
            raise LocalError(Code.UNEXPECTED, "answer to nothing")
        del self.in_flight[request]
        if kind is frames.Subscribed:
            self._enter(State.SUBSCRIBED)


@dataclass(frozen=True, slots=True, repr=False)
class NumberedEntry:
    """An entry and its sequence: 0 for one that is ephemeral and not acknowledged."""

    sequence: int
    entry: frames.Entry


Received = frames.RelayFrame | NumberedEntry


class ClientConnection:
    """The client's side.

    Attributes:
        state: where it is.
        role: frames.ROLE_*.
        welcome: the relay's Welcome, once received.
    """

    __slots__ = ("_expected", "_last", "_next_request", "_run_left", "_run_next", "role", "state", "welcome")

    def __init__(self, role: int) -> None:
        """Begin a connection in this role."""
        self.role = role
        self.state = State.EXPECT_HELLO
        self.welcome: frames.Welcome | None = None
        self._expected: dict[int, type] = {}
        self._next_request = 0
        self._run_left = 0
        self._run_next = 0
        self._last = 0  # the highest sequence of the runs so far

    def hello(self, nonce: bytes) -> bytes:
        """Return the first message; nonce: 32 random bytes."""
        return self.send(frames.Hello([frames.VERSION], self.role, nonce))

    def next_request(self) -> int:
        """Return a request number that is not in flight."""
        while True:
            self._next_request = self._next_request % (2**32 - 1) + 1
            if self._next_request not in self._expected:
                return self._next_request

    def send(self, frame: frames.ClientFrame) -> bytes:
        """Return the bytes of a frame for the relay. Raises LocalError if this state does not allow it."""
        if type(frame) not in ALLOWED[self.state]:
            raise LocalError(Code.UNEXPECTED, "frame in this state")
        request: int = getattr(frame, "request", 0)
        if request:
            if request in self._expected:
                raise LocalError(Code.UNEXPECTED, "request number in flight")
            self._expected[request] = type(frame)
        elif isinstance(frame, frames.Hello):
            self.state = State.EXPECT_WELCOME
        return frames.encode(frame)

    def receive(self, data: bytes) -> Received:
        """Take one message of the relay.

        Raises:
            RemoteError: it is no frame, answers nothing, or breaks a run; close the connection.
        """
        frame = frames.decode_relay_frame(data)
        checks.check_relay_frame(frame)
        if self._run_left:
            if not isinstance(frame, frames.Entry):
                raise RemoteError(Code.UNEXPECTED, "run cut short")
            sequence = self._run_next
            self._run_left -= 1
            self._run_next = sequence + 1
            return NumberedEntry(sequence, frame)
        if self.state is State.CLOSED:
            raise RemoteError(Code.UNEXPECTED, "frame after the last")
        match frame:
            case frames.Welcome():
                if self.state is not State.EXPECT_WELCOME or frame.version != frames.VERSION:
                    raise RemoteError(Code.UNEXPECTED, "Welcome")
                self.welcome = frame
                self.state = State.SENDER if self.role == frames.ROLE_SENDER else State.RECEIVER
            case frames.Error(request=0):
                self.state = State.CLOSED
            case _ if type(frame) in _PUSHES:
                self._pushed(frame)
            case _:
                self._answered(frame)
        return frame

    def _pushed(self, frame: frames.RelayFrame) -> None:
        if self.state is not State.SUBSCRIBED or isinstance(frame, frames.Entry):
            raise RemoteError(Code.UNEXPECTED, "push in this state")
        if isinstance(frame, frames.Run):
            if 0 < frame.first_sequence <= self._last:
                raise RemoteError(Code.UNEXPECTED, "sequence goes backwards")
            self._run_left, self._run_next = frame.count, frame.first_sequence
            self._last = max(self._last, frame.first_sequence + frame.count - 1)

    def _answered(self, frame: frames.RelayFrame) -> None:
        request: int = getattr(frame, "request", 0)
        kind = self._expected.pop(request, None)
        is_error = isinstance(frame, frames.Error)
        if kind is None or not (is_error or type(frame) is ANSWERS[kind]):
            raise RemoteError(Code.UNEXPECTED, "answer")
        if kind is frames.Open and (not is_error or getattr(frame, "code", 0) == Code.NO_MAILBOX):
            self.state = State.PROVED
        elif kind is frames.Subscribe and not is_error:
            self.state = State.SUBSCRIBED
