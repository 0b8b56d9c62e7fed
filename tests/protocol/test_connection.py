from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_protocol import frames, limits
from restante_protocol.connection import (
    ALLOWED,
    ANSWERS,
    ClientConnection,
    NumberedEntry,
    RelayConnection,
    RequestError,
    State,
)
from restante_protocol.errors import Code, LocalError, RemoteError
from support import wire

NONCE = bytes(32)
WELCOME = frames.Welcome(frames.VERSION, bytes(32), bytes(32), bytes(64), 0, "power")
OPEN = frames.Open(1, b"\x01" * 24, bytes(32), bytes(16), bytes(64))
SUBSCRIBE = frames.Subscribe(2, b"", 0, [])
SUBSCRIBED = frames.Subscribed(2, bytes(16), bytes(8), 0, [])
ACK = frames.Ack(bytes(8), bytes(16), 1, [])
DEPOSIT = frames.Deposit(1, bytes(16), 7, b"body", 60, None, 0)
ENTRY = frames.Entry(bytes(16), b"body", None)
GOING_AWAY = frames.Error(0, Code.GOING_AWAY, "")

ANSWER_KINDS = {frames.Error, *ANSWERS.values()}
ROLE_OF = {State.SENDER: frames.ROLE_SENDER}


def a_pair(state: State) -> tuple[ClientConnection, RelayConnection]:
    """Return both sides in this state."""
    client, relay = ClientConnection(ROLE_OF.get(state, frames.ROLE_RECEIVER)), RelayConnection()
    if state is State.EXPECT_HELLO:
        return client, relay
    relay.receive(client.hello(NONCE))
    if state is State.EXPECT_WELCOME:
        return client, relay
    client.receive(relay.send(WELCOME))
    if state is State.CLOSED:
        client.receive(relay.send(GOING_AWAY))
    if state in {State.SENDER, State.RECEIVER, State.CLOSED}:
        return client, relay
    relay.receive(client.send(OPEN))
    relay.proved()
    client.receive(relay.send(frames.Done(1)))
    if state is State.PROVED:
        return client, relay
    relay.receive(client.send(SUBSCRIBE))
    client.receive(relay.send(SUBSCRIBED))
    return client, relay


@pytest.mark.parametrize("state", State)
def test_both_sides_agree_on_the_state(state: State) -> None:
    client, relay = a_pair(state)
    assert client.state is relay.state is state


@pytest.mark.parametrize("state", State)
@given(frame=wire.client_frames)
def test_a_client_sends_what_its_state_allows(state: State, frame: frames.ClientFrame) -> None:
    client, relay = a_pair(state)
    if type(frame) in ALLOWED[state]:
        assert relay.receive(client.send(frame)) == frame
        return
    with pytest.raises(LocalError):
        client.send(frame)
    data = frames.encode(frame)
    with pytest.raises(RemoteError) as caught:
        relay.receive(data)
    too_long = state is State.EXPECT_HELLO and len(data) > limits.MAX_UNPROVED_FRAME_BYTES
    assert caught.value.code is (Code.TOO_LARGE if too_long else Code.UNEXPECTED)


@pytest.mark.parametrize("state", State)
@given(frame=wire.relay_frames)
def test_a_relay_sends_what_its_state_allows(state: State, frame: frames.RelayFrame) -> None:
    client, relay = a_pair(state)
    if isinstance(frame, frames.Entry):
        with pytest.raises(RemoteError):
            client.receive(frames.encode(frame))
        return
    if (state is State.EXPECT_WELCOME and isinstance(frame, frames.Welcome)) or (
        state is State.SUBSCRIBED
        and isinstance(frame, frames.Run | frames.Drained | frames.PrekeysLow | frames.Disclosed)
    ):
        assert client.receive(relay.send(frame)) == frame
        return
    with pytest.raises(LocalError):
        relay.send(frame)
    with pytest.raises(RemoteError):
        client.receive(frames.encode(frame))


def test_the_roles_are_apart() -> None:
    assert not ALLOWED[State.SENDER] & (ALLOWED[State.RECEIVER] | ALLOWED[State.PROVED] | ALLOWED[State.SUBSCRIBED])


def test_everything_but_hello_and_ack_has_an_answer() -> None:
    assert ANSWERS.keys() == frozenset().union(*ALLOWED.values()) - {frames.Hello, frames.Ack}


# Hello and Welcome.


def test_no_version_in_common() -> None:
    relay = RelayConnection()
    with pytest.raises(RemoteError) as caught:
        relay.receive(frames.encode(frames.Hello([2, 3], 0, NONCE)))
    assert caught.value.code is Code.VERSION
    assert relay.state is State.EXPECT_HELLO


def test_a_version_that_nobody_asked_for() -> None:
    client, _ = a_pair(State.EXPECT_WELCOME)
    with pytest.raises(RemoteError):
        client.receive(frames.encode(frames.Welcome(2, bytes(32), bytes(32), bytes(64), 0, "power")))


def test_a_long_first_frame_is_not_even_decoded() -> None:
    with pytest.raises(RemoteError) as caught:
        RelayConnection().receive(bytes(limits.MAX_UNPROVED_FRAME_BYTES + 1))
    assert caught.value.code is Code.TOO_LARGE


def test_hello_is_kept_until_the_welcome_and_that_for_good() -> None:
    client, relay = ClientConnection(frames.ROLE_SENDER), RelayConnection()
    relay.receive(client.hello(NONCE))
    kept = [relay.hello]
    client.receive(relay.send(WELCOME))
    kept.append(relay.hello)
    assert kept == [frames.Hello([frames.VERSION], frames.ROLE_SENDER, NONCE), None]
    assert client.welcome == WELCOME


# Requests.


def test_a_limit_fails_the_request_alone() -> None:
    client, relay = a_pair(State.SENDER)
    with pytest.raises(RequestError) as caught:
        relay.receive(client.send(frames.Deposit(9, bytes(16), 7, b"", 60, None, 0)))
    assert (caught.value.request, caught.value.code, caught.value.detail) == (9, Code.LIMIT, "body")
    error = frames.Error(9, Code.LIMIT, "body")
    assert client.receive(frames.encode(error)) == error
    assert relay.receive(client.send(frames.ListDrop(9, 7))) == frames.ListDrop(9, 7)


def test_a_wrong_length_fails_the_connection() -> None:
    _, relay = a_pair(State.SENDER)
    with pytest.raises(RemoteError) as caught:
        relay.receive(frames.encode(frames.FenceGet(1, b"")))
    assert caught.value.code is Code.MALFORMED
    assert not isinstance(caught.value, RequestError)


def test_a_limit_without_a_request_number_is_malformed() -> None:
    _, relay = a_pair(State.SENDER)
    with pytest.raises(RemoteError) as caught:
        relay.receive(frames.encode(frames.Deposit(0, bytes(16), 7, b"", 60, None, 0)))
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize("second", [frames.ListDrop(1, 7), frames.Deposit(1, bytes(16), 7, b"", 60, None, 0)])
def test_a_number_in_flight_is_not_used_again(second: frames.ClientFrame) -> None:
    client, relay = a_pair(State.SENDER)
    relay.receive(client.send(DEPOSIT))
    with pytest.raises(LocalError):
        client.send(second)
    with pytest.raises(RemoteError) as caught:
        relay.receive(frames.encode(second))
    assert caught.value.code is Code.UNEXPECTED
    client.receive(relay.send(frames.Deposited(1, [])))
    assert relay.receive(client.send(frames.ListDrop(1, 7))) == frames.ListDrop(1, 7)


def test_numbers_count_up_around_those_in_flight() -> None:
    client, _ = a_pair(State.SENDER)
    client._next_request = 2**32 - 2
    assert client.next_request() == 2**32 - 1
    client.send(DEPOSIT)
    assert client.next_request() == 2
    assert client.next_request() == 3


@pytest.mark.parametrize("asked", ANSWERS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_an_answer_is_of_the_kind_that_was_asked_for(asked: type, data: st.DataObject) -> None:
    state = next(state for state in State if asked in ALLOWED[state])
    request = data.draw(wire.FRAMES[asked])
    answer: Any = wire.renumbered(data.draw(wire.any_of(*ANSWER_KINDS)), request.request)
    client, relay = a_pair(state)
    relay.receive(client.send(request))
    right: Any = frames.Error | ANSWERS[asked]
    if isinstance(answer, right):
        assert client.receive(relay.send(answer)) == answer
        with pytest.raises(LocalError):
            relay.send(answer)
        with pytest.raises(RemoteError):
            client.receive(frames.encode(answer))
    else:
        with pytest.raises(LocalError):
            relay.send(answer)
        with pytest.raises(RemoteError):
            client.receive(frames.encode(answer))


def test_prekeys_are_sent_as_they_are_encoded_and_once() -> None:
    client, relay = a_pair(State.SENDER)
    prekey = frames.ClaimedPrekey(0, 7, b"package")
    encoded = [frames.encode_prekey(0, 7, b"package")]
    with pytest.raises(LocalError):
        relay.send_claimed(1, encoded)
    relay.receive(client.send(frames.Claim(1, 3, [bytes(24)])))
    relay.receive(client.send(frames.ListDrop(2, 7)))
    assert client.receive(b"".join(relay.send_claimed(1, encoded))) == frames.Claimed(1, [prekey])
    for request in (1, 2):
        with pytest.raises(LocalError):
            relay.send_claimed(request, encoded)
    relay.send(frames.Error(0, Code.GOING_AWAY, ""))
    with pytest.raises(LocalError):
        relay.send_claimed(2, encoded)


# Proofs.


@pytest.mark.parametrize(
    ("code", "state"), [(Code.NO_MAILBOX, State.PROVED), (Code.UNAUTHORIZED, State.RECEIVER)], ids=str
)
def test_a_mailbox_that_does_not_exist_is_proved_all_the_same(code: Code, state: State) -> None:
    client, relay = a_pair(State.RECEIVER)
    relay.receive(client.send(OPEN))
    if state is State.PROVED:
        relay.proved()
    client.receive(relay.send(frames.Error(1, code, "")))
    assert client.state is relay.state is state


@pytest.mark.parametrize("state", [state for state in State if state is not State.RECEIVER])
def test_only_a_receiver_proves(state: State) -> None:
    _, relay = a_pair(state)
    with pytest.raises(LocalError):
        relay.proved()


def test_a_refused_subscription_is_none() -> None:
    client, relay = a_pair(State.PROVED)
    relay.receive(client.send(SUBSCRIBE))
    client.receive(relay.send(frames.Error(2, Code.NO_MAILBOX, "")))
    assert client.state is relay.state is State.PROVED


# Runs.


def receive(client: ClientConnection, *sent: frames.RelayFrame) -> list[Any]:
    return [client.receive(frames.encode(frame)) for frame in sent]


def test_entries_are_numbered() -> None:
    client, _ = a_pair(State.SUBSCRIBED)
    run, *entries = receive(client, frames.Run(5, 2), ENTRY, ENTRY)
    assert run == frames.Run(5, 2)
    assert [each.sequence for each in entries] == [5, 6]
    assert all(each.entry == ENTRY for each in entries)
    assert receive(client, frames.Drained(6)) == [frames.Drained(6)]


def test_an_ephemeral_entry_has_the_sequence_0() -> None:
    client, _ = a_pair(State.SUBSCRIBED)
    receive(client, frames.Run(5, 1), ENTRY)
    _, entry = receive(client, frames.Run(0, 1), ENTRY)
    assert entry.sequence == 0
    _, entry = receive(client, frames.Run(6, 1), ENTRY)
    assert entry.sequence == 6


def test_an_entry_shows_nothing_of_itself() -> None:
    assert "body" not in repr(NumberedEntry(1, ENTRY))


@pytest.mark.parametrize("between", [frames.Drained(6), frames.Run(9, 1), frames.Error(0, Code.REPLACED, "")])
def test_a_run_is_not_interrupted(between: frames.RelayFrame) -> None:
    client, _ = a_pair(State.SUBSCRIBED)
    receive(client, frames.Run(5, 2), ENTRY)
    with pytest.raises(RemoteError) as caught:
        receive(client, between)
    assert caught.value.code is Code.UNEXPECTED


@pytest.mark.parametrize("first", [4, 5, 6])
def test_sequences_do_not_go_back(first: int) -> None:
    client, _ = a_pair(State.SUBSCRIBED)
    receive(client, frames.Run(5, 2), ENTRY, ENTRY)
    with pytest.raises(RemoteError) as caught:
        receive(client, frames.Run(first, 1))
    assert caught.value.code is Code.UNEXPECTED


# The end.


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_a_fatal_error_is_the_last_frame_in_any_state(state: State) -> None:
    client, relay = a_pair(state)
    assert client.receive(relay.send(GOING_AWAY)) == GOING_AWAY
    assert client.state is relay.state is State.CLOSED
    with pytest.raises(LocalError):
        relay.send(GOING_AWAY)
    with pytest.raises(RemoteError):
        client.receive(frames.encode(GOING_AWAY))


def test_an_answer_comes_too_late_after_the_end() -> None:
    client, relay = a_pair(State.SENDER)
    relay.receive(client.send(DEPOSIT))
    client.receive(relay.send(GOING_AWAY))
    with pytest.raises(LocalError):
        relay.send(frames.Deposited(1, []))
    with pytest.raises(RemoteError):
        client.receive(frames.encode(frames.Deposited(1, [])))


# Whatever comes.


@pytest.mark.parametrize("state", State)
@given(data=st.binary(max_size=100))
def test_random_bytes_raise_nothing_but_the_peers_errors(state: State, data: bytes) -> None:
    for side in a_pair(state):
        try:
            side.receive(data)
        except RemoteError as error:
            assert error.detail  # noqa: PT017 -- some bytes are frames


@pytest.mark.parametrize("state", [State.SENDER, State.PROVED, State.SUBSCRIBED])
@given(wire.client_frames | wire.relay_frames, st.integers(0, 2000), st.integers(1, 255), st.integers(0, 30))
def test_mutated_frames_raise_nothing_but_the_peers_errors(
    state: State, frame: frames.ClientFrame, position: int, change: int, cut: int
) -> None:
    data = bytearray(frames.encode(frame))
    data[position % len(data)] ^= change
    for side in a_pair(state):
        for mutated in (bytes(data), bytes(data[: len(data) - cut])):
            try:
                side.receive(mutated)
            except RemoteError as error:
                assert error.code in {Code.MALFORMED, Code.UNEXPECTED, Code.LIMIT}  # noqa: PT017 -- some are frames


@pytest.mark.parametrize("state", [State.SENDER, State.SUBSCRIBED])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=5),
        max_leaves=12,
    ),
    number=st.sampled_from([*range(1, 2), *range(16, 24), *range(32, 41), *range(64, 78)]),
)
def test_arrays_of_anything_raise_nothing_but_the_peers_errors(state: State, value: object, number: int) -> None:
    frame = [number, *(value if isinstance(value, list) else [value])]
    for side in a_pair(state):
        try:
            side.receive(msgpack.packb(frame))
        except RemoteError as error:
            assert error.code in {Code.MALFORMED, Code.UNEXPECTED, Code.LIMIT}  # noqa: PT017 -- some are frames
