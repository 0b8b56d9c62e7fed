import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_protocol import frames, limits
from restante_server.transport.acknowledgements import beginning, scan
from restante_server.transport.rfc6455 import TEXT
from support.websockets import frame

TOKEN, INCARNATION = b"t" * 8, b"i" * 16
START = beginning(TOKEN, INCARNATION)
SEQUENCES = st.integers(1 << 32, limits.MAX_SEQUENCE)
FIRST, SECOND = 7 << 40, 9 << 40


def ack(
    sequence: int, exceptions: tuple[int, ...] = (), token: bytes = TOKEN, incarnation: bytes = INCARNATION
) -> bytes:
    return frames.encode(frames.Ack(token, incarnation, sequence, list(exceptions)))


@given(st.lists(SEQUENCES, max_size=20), st.binary(min_size=4, max_size=4), st.binary(max_size=60))
def test_all_at_the_start_are_taken_at_once(sequences: list[int], mask: bytes, rest: bytes) -> None:
    data = b"".join(frame(ack(each), mask=mask) for each in sequences)
    assert scan(data, 0, START) == (len(data), len(sequences), max(sequences, default=0))
    taken, count, highest = scan(b"before" + data + rest, 6, START)
    assert (taken - 6, count, highest) >= (len(data), len(sequences), max(sequences, default=0))


UNUSUAL = {
    "exceptions": frame(ack(SECOND, (3,))),
    "another token": frame(ack(SECOND, token=b"u" * 8)),
    "another incarnation": frame(ack(SECOND, incarnation=b"j" * 16)),
    "a text": frame(ack(SECOND), TEXT),
    "a fragment": frame(ack(SECOND), final=False),
    "not masked": frame(ack(SECOND), mask=None),
    "a length in two bytes": frame(ack(SECOND), length_bytes=2),
    "another frame": frame(frames.encode(frames.Status(1))),
    "only a beginning": frame(ack(SECOND))[:-1],
    "hardly a header": frame(ack(SECOND))[:5],
    "beyond the last sequence": frame(START + (1 << 63).to_bytes(8, "big") + b"\x90"),
    "a sequence in fewer bytes": frame(ack(1 << 31)),
    "a sequence in one byte": frame(ack(5)),
    "something else at the end": frame(START + SECOND.to_bytes(8, "big") + b"\x91"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left(name: str) -> None:
    usual = frame(ack(SECOND)) + frame(ack(FIRST))
    assert scan(UNUSUAL[name], 0, START) == (0, 0, 0)
    assert scan(bytearray(usual + UNUSUAL[name] + usual), 0, START) == (len(usual), 2, SECOND)
