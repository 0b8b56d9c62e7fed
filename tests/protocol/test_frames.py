from collections.abc import Callable

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_protocol import frames, limits
from restante_protocol.errors import Code, RemoteError
from support import wire


@given(wire.client_frames)
def test_a_client_frame_survives_the_wire(frame: frames.ClientFrame) -> None:
    assert frames.decode_client_frame(frames.encode(frame)) == frame


@given(wire.relay_frames)
def test_a_relay_frame_survives_the_wire(frame: frames.RelayFrame) -> None:
    assert frames.decode_relay_frame(frames.encode(frame)) == frame


@given(wire.client_frames | wire.relay_frames)
def test_the_bytes_are_those_of_another_codec(frame: frames.ClientFrame | frames.RelayFrame) -> None:
    assert msgpack.packb(msgpack.unpackb(frames.encode(frame))) == frames.encode(frame)
    assert msgpack.unpackb(frames.encode(frame)) == msgpack.unpackb(
        msgpack.packb(msgspec.to_builtins(frame, builtin_types=(bytes,)))
    )


def test_a_frame_is_an_array_that_begins_with_its_number() -> None:
    assert msgpack.unpackb(frames.encode(frames.ListDrop(7, 9))) == [18, 7, 9]
    assert frames.decode_client_frame(msgpack.packb([18, 7, 9])) == frames.ListDrop(7, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [0],
        [99, 1],
        [18, 1],  # a field too few
        [18, 1, 2, 3],  # a field too many
        [18, 1.0, 2],
        [18, True, 2],
        [18, "1", 2],
        [18, None, 2],
        [18.0, 1, 2],
        ["18", 1, 2],
        [66, 1],  # the relay's
        [20, 1, "f" * 32],  # str for bytes
        [20, 1, bytearray(b"f" * 32).hex()],
        [17, 1, 1, [b"a", 1]],
        [38, 1, 3, 1, [], b"", 1],  # a number for a bool
        {"request": 1},
        18,
        None,
    ],
    ids=repr,
)
def test_what_is_no_frame_is_malformed(wrong: object) -> None:
    with pytest.raises(RemoteError) as caught:
        frames.decode_client_frame(msgpack.packb(wrong))
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xc1",  # never used
        frames.encode(frames.Status(1)) + b"\x00",  # something after the array
        frames.encode(frames.Status(1))[:-1],
        b"\x93\x11\x01\xdd\xff\xff\xff\xff",  # four thousand million elements announced
        b"\x93\x14\x01\xc6\xff\xff\xff\xff",  # as many bytes
        b"\xdd\xff\xff\xff\xff\x11",
        b"\x91" * 100_000,  # deeper than any stack
        b"\x93\x14\x01" + b"\x91" * 90_000,
    ],
    ids=lambda data: data[:8].hex() or "empty",
)
def test_broken_bytes_are_malformed(wrong: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        frames.decode_client_frame(wrong)
    assert caught.value.code is Code.MALFORMED


def test_text_that_is_not_utf_8_is_malformed() -> None:
    with pytest.raises(RemoteError) as caught:
        frames.decode_relay_frame(b"\x94\x41\x01\x02\xa2\xff\xfe")
    assert caught.value.code is Code.MALFORMED


@pytest.mark.parametrize("decode", [frames.decode_client_frame, frames.decode_relay_frame])
def test_a_frame_above_the_limit_is_too_large(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(RemoteError) as caught:
        decode(bytes(limits.MAX_FRAME_BYTES + 1))
    assert caught.value.code is Code.TOO_LARGE


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    for decode in (frames.decode_client_frame, frames.decode_relay_frame):
        try:
            decode(data)
        except RemoteError as error:
            assert error.code is Code.MALFORMED  # noqa: PT017 -- most are, some are frames


@pytest.mark.parametrize("first", [0, 1, 2**32 - 1, 2**32, limits.MAX_SEQUENCE])
@pytest.mark.parametrize("count", [1, 127, 128, 2**32 - 1])
def test_a_run_has_the_bytes_of_any_frame(first: int, count: int) -> None:
    assert frames.encode_run(first, count) == frames.encode(frames.Run(first, count))


@pytest.mark.parametrize("request_number", [1, 127, 128, 2**32 - 1])
@pytest.mark.parametrize("count", [1, 15, 16, 64])
def test_an_answer_to_a_claim_is_put_together_from_prekeys_that_are_encoded(request_number: int, count: int) -> None:
    prekeys = [frames.ClaimedPrekey(0, number, b"package" * number) for number in range(count)]
    encoded = [frames.encode_prekey(each.code, each.number, each.package) for each in prekeys]
    pieces = frames.encode_claimed(request_number, encoded)
    assert b"".join(pieces) == frames.encode(frames.Claimed(request_number, prekeys))


def test_frames_are_values() -> None:
    frame = frames.Status(1)
    with pytest.raises(AttributeError):
        frame.request = 2  # type: ignore[misc]
    assert frame == frames.Status(1)


def test_the_largest_deposit_fits_a_frame() -> None:
    addresses = [b"\x01" * 24] * limits.MAX_DEPOSIT_ADDRESSES
    body = bytes(limits.MAX_LARGE_BODY_BYTES)
    deposit = frames.Deposit(2**32 - 1, bytes(16), addresses, body, limits.MAX_LIFETIME, bytes(32), frames.FLAG_LARGE)
    assert len(frames.encode(deposit)) <= limits.MAX_FRAME_BYTES
    lists = frames.ListPut(2**32 - 1, 2**32 - 1, [b"\x01" * 24] * limits.MAX_LIST_ADDRESSES)
    assert len(frames.encode(lists)) <= limits.MAX_FRAME_BYTES
    prekeys = [bytes(limits.MAX_PREKEY_BYTES)] * limits.MAX_PREKEY_BATCH
    put = frames.PrekeysPut(2**32 - 1, 3, 1, prekeys, bytes(limits.MAX_PREKEY_BYTES), replace=True)
    assert len(frames.encode(put)) <= limits.MAX_FRAME_BYTES


def test_the_largest_answers_fit_a_frame() -> None:
    package = frames.ClaimedPrekey(0, limits.MAX_SEQUENCE, bytes(limits.MAX_PREKEY_BYTES))
    claimed = frames.Claimed(2**32 - 1, [package] * limits.MAX_CLAIM_ADDRESSES)
    assert len(frames.encode(claimed)) <= limits.MAX_FRAME_BYTES
    entry = frames.Entry(bytes(16), bytes(limits.MAX_LARGE_BODY_BYTES), bytes(32))
    assert len(frames.encode(entry)) <= limits.MAX_FRAME_BYTES
    failed = [(index, 40) for index in range(limits.MAX_LIST_ADDRESSES)]
    assert len(frames.encode(frames.Deposited(2**32 - 1, failed))) <= limits.MAX_FRAME_BYTES
