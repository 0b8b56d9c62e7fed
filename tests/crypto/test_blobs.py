"""Blobs: what is sealed in chunks opens whole and in ranges, and nothing else does."""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_crypto import primitives
from restante_crypto.blobs import (
    CHUNK_BYTES,
    MINIMUM,
    BlobError,
    BlobSecret,
    Decoder,
    Encoder,
    padded_length,
    sealed_length,
    span,
)

KEY = bytes(range(32))
BOX = CHUNK_BYTES + 16
LENGTHS = [
    0,
    1,
    MINIMUM - 1,
    MINIMUM,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    3 * CHUNK_BYTES,
    1_000_000,
]


def content(length: int) -> bytes:
    return (b"0123456789abcdef!" * (length // 17 + 1))[:length]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def seal(data: bytes, size: int = 50_000, key: bytes = KEY) -> tuple[bytes, BlobSecret]:
    encoder = Encoder(key)
    sealed = b"".join(encoder.update(piece) for piece in pieces(data, size))
    rest, secret = encoder.finish()
    return sealed + rest, secret


def unseal(secret: BlobSecret, sealed: bytes, size: int = 50_000) -> bytes:
    decoder = Decoder(secret)
    data = b"".join([decoder.update(piece) for piece in pieces(sealed, size)])
    decoder.finish()
    return data


def boxes(sealed: bytes) -> list[bytes]:
    return list(pieces(sealed, BOX))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_content_comes_back_whatever_the_pieces(length: int) -> None:
    data = content(length)
    sealed, secret = seal(data)
    assert len(sealed) == sealed_length(length)
    assert secret == BlobSecret(KEY, primitives.blake2b(sealed, size=32), length)
    assert seal(data, 65_536 * 3 + 1) == (sealed, secret), "a second pass seals the same bytes"
    for size in (65_537, 1_000_000_000):
        assert unseal(secret, sealed, size) == data


@given(st.binary(max_size=200), st.integers(1, 7))
def test_small_contents_in_small_pieces(data: bytes, size: int) -> None:
    sealed, secret = seal(data, size)
    assert len(sealed) == MINIMUM + 16
    assert unseal(secret, sealed, 1000) == data


@given(st.data())
def test_ranges(draw: st.DataObject) -> None:
    length = draw.draw(st.sampled_from(LENGTHS[1:]))
    start = draw.draw(st.integers(0, length - 1))
    stop = draw.draw(st.integers(start + 1, length))
    data = content(length)
    sealed, secret = seal(data)
    where = span(length, start, stop)
    decoder = Decoder(secret, start, stop)
    opened = b"".join([decoder.update(piece) for piece in pieces(sealed[where.start : where.stop], 30_000)])
    decoder.finish()
    assert opened == data[start:stop]
    assert where.stop - where.start < stop - start + 2 * CHUNK_BYTES + 64 * (1 + where.stop // BOX), (
        "no more than needed"
    )


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 5), (6, 5), (0, 11)])
def test_what_is_no_range(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="range"):
        span(10, start, stop)


def test_few_lengths_remain_visible() -> None:
    assert len({sealed_length(length) for length in range(0, 10_000_000, 997)}) < 300
    assert all(padded_length(length) <= max(MINIMUM, 1.13 * length) for length in range(1, 10_000_000, 9973))


def _without_the_last(sealed: bytes) -> bytes:
    return b"".join(boxes(sealed)[:-1])


def _swapped(sealed: bytes) -> bytes:
    first, second, *rest = boxes(sealed)
    return b"".join((second, first, *rest))


def _repeated(sealed: bytes) -> bytes:
    first, _, *rest = boxes(sealed)
    return b"".join((first, first, *rest))


def _from_another(sealed: bytes) -> bytes:
    other, _ = seal(bytes(3 * CHUNK_BYTES), key=bytes(32))
    return b"".join((boxes(sealed)[0], boxes(other)[1], *boxes(sealed)[2:]))


def _flipped(sealed: bytes) -> bytes:
    return sealed[:100_000] + bytes((sealed[100_000] ^ 1,)) + sealed[100_001:]


@pytest.mark.parametrize(
    ("forge", "match"),
    [
        (_without_the_last, "too short"),
        (lambda sealed: sealed[:-1], "too short"),
        (lambda _: b"", "too short"),
        (lambda sealed: sealed + b"x", "too long"),
        (_swapped, "chunk"),
        (_repeated, "chunk"),
        (_from_another, "chunk"),
        (_flipped, "chunk"),
        (lambda sealed: bytes(len(sealed)), "chunk"),
    ],
)
def test_forgeries(forge: Callable[[bytes], bytes], match: str) -> None:
    sealed, secret = seal(content(3 * CHUNK_BYTES))
    with pytest.raises(BlobError, match=match):
        unseal(secret, forge(sealed))


def test_the_last_chunk_is_marked_as_the_last() -> None:
    """A blob cut at a chunk does not pass for a shorter one, nor a whole one for a part of a longer one."""
    sealed, secret = seal(content(2 * CHUNK_BYTES))
    shorter = BlobSecret(KEY, primitives.blake2b(sealed[:BOX], size=32), CHUNK_BYTES - 1)
    with pytest.raises(BlobError, match="chunk"):
        unseal(shorter, sealed[:BOX])
    longer = BlobSecret(KEY, secret.digest, 4 * CHUNK_BYTES)
    decoder = Decoder(longer, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1)
    with pytest.raises(BlobError, match="chunk"):
        decoder.update(boxes(sealed)[2].ljust(BOX, b"\x00"))


def test_a_range_given_in_another_place_does_not_open() -> None:
    sealed, secret = seal(content(4 * CHUNK_BYTES))
    decoder = Decoder(secret, CHUNK_BYTES, 2 * CHUNK_BYTES)
    with pytest.raises(BlobError, match="chunk"):
        decoder.update(boxes(sealed)[2])


def test_a_blob_is_bound_to_its_digest() -> None:
    sealed, secret = seal(content(5000))
    with pytest.raises(BlobError, match="digest"):
        unseal(BlobSecret(KEY, bytes(32), secret.length), sealed)


@pytest.mark.parametrize("length", [CHUNK_BYTES - 2, CHUNK_BYTES - 1, 3 * CHUNK_BYTES - 1])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_noticed(length: int, change: int) -> None:
    sealed, secret = seal(content(length))
    wrong = BlobSecret(KEY, secret.digest, length + change)
    with pytest.raises(BlobError):
        unseal(wrong, sealed)


def test_padding_is_zeros() -> None:
    data = content(10) + b"\x80" + bytes(100) + b"hidden"
    sealed, secret = seal(data)
    with pytest.raises(BlobError, match="padding"):
        unseal(BlobSecret(KEY, secret.digest, 10), sealed)


def test_a_secret_shows_no_key() -> None:
    _, secret = seal(b"", key=os.urandom(32))
    assert repr(secret) == "BlobSecret(length=0)"
