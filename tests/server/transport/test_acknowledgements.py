import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_protocol import frames, limits
from restante_server.transport.acknowledgements import beginning, scan
from restante_server.transport.rfc6455 import TEXT
from support.websockets import frame

TOKEN, INCARNATION = b"t" * 8, b"i" * 16
START = beginning(TOKEN, INCARNATION)
SEQUENCES = st.integers(0, limits.MAX_SEQUENCE) | st.sampled_from([0, 127, 128, 255, 256, 65_535, 65_536, 1 << 32])


def ack(
    sequence: int, exceptions: tuple[int, ...] = (), token: bytes = TOKEN, incarnation: bytes = INCARNATION
) -> bytes:
    return frames.encode(frames.Ack(token, incarnation, sequence, list(exceptions)))


@given(st.lists(SEQUENCES, max_size=20), st.binary(min_size=4, max_size=4), st.binary(max_size=60))
def test_all_at_the_start_are_taken_at_once(sequences: list[int], mask: bytes, rest: bytes) -> None:
    data = b"".join(frame(ack(each), mask=mask) for each in sequences)
    assert scan(data, START) == (len(data), len(sequences), max(sequences, default=0))
    taken, count, highest = scan(data + rest, START)
    assert (taken, count, highest) >= (len(data), len(sequences), max(sequences, default=0))


UNUSUAL = {
    "exceptions": frame(ack(9, (3,))),
    "another token": frame(ack(9, token=b"u" * 8)),
    "another incarnation": frame(ack(9, incarnation=b"j" * 16)),
    "a text": frame(ack(9), TEXT),
    "a fragment": frame(ack(9), final=False),
    "not masked": frame(ack(9), mask=None),
    "a length in two bytes": frame(ack(9), length_bytes=2),
    "another frame": frame(frames.encode(frames.Status(1))),
    "only a beginning": frame(ack(9))[:-1],
    "hardly a header": frame(ack(9))[:5],
    "beyond the last sequence": frame(START + msgpack.packb(2**63) + b"\x90"),
    "a negative number": frame(START + b"\xff\x90"),
    "a number in too few bytes": frame(START + b"\xcd\x01\x90"),
    "a number and something more": frame(START + b"\x01\x02\x90"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left(name: str) -> None:
    usual = frame(ack(7)) + frame(ack(300))
    assert scan(UNUSUAL[name], START) == (0, 0, 0)
    assert scan(usual + UNUSUAL[name] + usual, START) == (len(usual), 2, 300)


def test_a_sequence_in_a_longer_form() -> None:
    data = frame(START + b"\xcf" + (5).to_bytes(8, "big") + b"\x90")
    assert scan(data, START) == (len(data), 1, 5)
