"""Both sides of a connection against each other, through random schedules."""

from collections import deque
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from restante_protocol import frames
from restante_protocol.connection import ALLOWED, ANSWERS, ClientConnection, NumberedEntry, RelayConnection, State
from restante_protocol.errors import Code, LocalError
from support import wire

WELCOME = frames.Welcome(frames.VERSION, bytes(32), bytes(32), bytes(64), 0, "power")
OPEN = frames.Open(1, b"\x01" * 24, bytes(32), bytes(16), bytes(64))
SUBSCRIBE = frames.Subscribe(1, b"", 0, [])
SUBSCRIBED = frames.Subscribed(1, bytes(16), bytes(8), 0, [])
OWNER = ALLOWED[State.PROVED] & ALLOWED[State.SUBSCRIBED]


class Conversation(RuleBasedStateMachine):
    """Messages travel in order, each way, and may take any time; the model is what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.to_relay: deque[bytes] = deque()
        self.to_client: deque[bytes] = deque()
        self.waiting: list[frames.ClientFrame] = []  # the relay has them and owes an answer
        self.asked: set[int] = set()  # the client waits for these
        self.sent: list[tuple[int, frames.Entry]] = []
        self.got: list[tuple[int, frames.Entry]] = []
        self.last = 0

    @initialize(role=st.sampled_from([frames.ROLE_SENDER, frames.ROLE_RECEIVER]), data=st.data())
    def hello(self, role: int, data: st.DataObject) -> None:
        self.client, self.relay = ClientConnection(role), RelayConnection()
        self.to_relay.append(self.client.hello(bytes(32)))
        if role == frames.ROLE_RECEIVER and data.draw(st.booleans()):
            self.begin_subscribed()

    def begin_subscribed(self) -> None:
        """Go where most of a receiver's life is; otherwise few schedules come so far."""
        for frame in (None, OPEN, SUBSCRIBE):
            if frame is not None:
                self.ask(frame)
            self.relay_receives()
            for request in self.waiting:
                self.answer(request, SUBSCRIBED if isinstance(request, frames.Subscribe) else frames.Done(1))
            self.waiting.clear()
            self.client_receives()

    def answer(self, request: Any, answer: Any) -> None:  # noqa: ANN401 -- whichever frames they are
        refused = isinstance(answer, frames.Error)
        if isinstance(request, frames.Open) and (not refused or answer.code == Code.NO_MAILBOX):
            self.relay.proved()
        self.to_client.append(self.relay.send(wire.renumbered(answer, request.request)))

    def ask(self, frame: frames.ClientFrame) -> None:
        number = self.client.next_request()
        self.to_relay.append(self.client.send(wire.renumbered(frame, number)))
        self.asked.add(number)

    @precondition(lambda self: self.client.state is State.SENDER)
    @rule(frame=wire.any_of(*ALLOWED[State.SENDER]))
    def send(self, frame: frames.ClientFrame) -> None:
        self.ask(frame)

    @precondition(lambda self: self.client.state is State.RECEIVER and not self.asked)
    @rule(frame=wire.FRAMES[frames.Open])
    def prove(self, frame: frames.ClientFrame) -> None:
        self.ask(frame)

    @precondition(lambda self: self.client.state in {State.PROVED, State.SUBSCRIBED})
    @rule(frame=wire.any_of(*OWNER))
    def manage(self, frame: frames.ClientFrame) -> None:
        self.ask(frame)

    @precondition(lambda self: self.client.state is State.PROVED and not self.asked)
    @rule(frame=wire.FRAMES[frames.Subscribe])
    def subscribe(self, frame: frames.ClientFrame) -> None:
        self.ask(frame)

    @precondition(lambda self: self.client.state is State.SUBSCRIBED)
    @rule(frame=wire.FRAMES[frames.Ack])
    def acknowledge(self, frame: frames.ClientFrame) -> None:
        self.to_relay.append(self.client.send(frame))

    @precondition(lambda self: self.to_relay and self.relay.state is not State.CLOSED)
    @rule()
    def relay_receives(self) -> None:
        frame = self.relay.receive(self.to_relay.popleft())
        if isinstance(frame, frames.Hello):
            self.to_client.append(self.relay.send(WELCOME))
        elif not isinstance(frame, frames.Ack):
            self.waiting.append(frame)

    @precondition(lambda self: self.waiting and self.relay.state is not State.CLOSED)
    @rule(data=st.data(), refuse=st.booleans())
    def relay_answers(self, data: st.DataObject, refuse: bool) -> None:
        request: Any = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(request)
        self.answer(request, data.draw(wire.FRAMES[frames.Error if refuse else ANSWERS[type(request)]]))

    @precondition(lambda self: self.relay.state is State.SUBSCRIBED)
    @rule(entries=st.lists(wire.FRAMES[frames.Entry], min_size=1, max_size=3), jump=st.integers(1, 1000))
    def relay_delivers(self, entries: list[frames.Entry], jump: int) -> None:
        first = self.last + jump
        self.to_client.append(self.relay.send(frames.Run(first, len(entries))))
        self.to_client.extend(self.relay.send(entry) for entry in entries)
        self.sent += enumerate(entries, first)
        self.last = self.sent[-1][0]

    @precondition(lambda self: self.relay.state is State.SUBSCRIBED)
    @rule(entry=wire.FRAMES[frames.Entry])
    def relay_delivers_at_once(self, entry: frames.Entry) -> None:
        self.to_client.extend((self.relay.send(frames.Run(0, 1)), self.relay.send(entry)))
        self.sent.append((0, entry))

    @precondition(lambda self: self.relay.state is State.SUBSCRIBED)
    @rule(
        frame=st.builds(frames.Drained, wire.sequences) | st.builds(frames.PrekeysLow, wire.suites, st.integers(0, 20))
    )
    def relay_pushes(self, frame: frames.RelayFrame) -> None:
        self.to_client.append(self.relay.send(frame))

    @precondition(lambda self: self.relay.state is not State.CLOSED and len(self.sent) > 5)
    @rule()
    def relay_closes(self) -> None:
        self.to_client.append(self.relay.send(frames.Error(0, Code.GOING_AWAY, "")))

    @precondition(lambda self: self.client.state is State.CLOSED)
    @rule(frame=wire.FRAMES[frames.ListDrop] | wire.FRAMES[frames.Status] | wire.FRAMES[frames.Ack])
    def nothing_follows(self, frame: frames.ClientFrame) -> None:
        with pytest.raises(LocalError):
            self.client.send(frame)

    @precondition(lambda self: self.to_client)
    @rule()
    def client_receives(self) -> None:
        frame: Any = self.client.receive(self.to_client.popleft())
        if isinstance(frame, NumberedEntry):
            self.got.append((frame.sequence, frame.entry))
        else:
            self.asked.discard(getattr(frame, "request", 0))

    @invariant()
    def what_arrives_is_what_was_sent(self) -> None:
        assert self.got == self.sent[: len(self.got)]

    @invariant()
    def both_agree_once_nothing_travels(self) -> None:
        if not self.to_relay and not self.to_client:
            assert self.client.state is self.relay.state
            assert self.got == self.sent
            assert self.relay.state is State.CLOSED or self.asked == set(self.relay.in_flight)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(stateful_step_count=80, max_examples=40)
