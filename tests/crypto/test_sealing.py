"""Seals: who has the key opens them, and nobody changes them."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_crypto import hpke, padding, sealing
from restante_crypto.mls import labels
from restante_crypto.suites import SUITES

KEY, TAG = os.urandom(32), b"8 bytes."


@given(st.binary(max_size=2000), st.binary(max_size=20))
def test_boxes(data: bytes, associated: bytes) -> None:
    box = sealing.seal(KEY, data, associated, os.urandom)
    assert len(box) == len(data) + 40
    assert sealing.open_sealed(KEY, box, associated) == data
    with pytest.raises(sealing.SealError):
        sealing.open_sealed(KEY, box, associated + b"x")
    with pytest.raises(sealing.SealError):
        sealing.open_sealed(bytes(32), box, associated)


@given(st.binary(max_size=2000))
def test_bodies_hide_lengths(message: bytes) -> None:
    body = sealing.seal_body(TAG, KEY, message, os.urandom)
    assert body[:8] == TAG
    assert len(body) == 48 + padding.padded_length(len(message) + 1)
    assert sealing.open_body(KEY, body) == message


@given(st.binary(max_size=400))
def test_bytes_that_are_no_body(data: bytes) -> None:
    with pytest.raises(sealing.SealError):
        sealing.open_body(KEY, data)
    with pytest.raises(sealing.SealError):
        sealing.open_welcome(3, os.urandom(32), data)


def test_a_body_without_padding() -> None:
    with pytest.raises(sealing.SealError):
        sealing.open_body(KEY, TAG + sealing.seal(KEY, b"not padded", TAG, os.urandom))


def test_welcomes_are_for_their_init_key() -> None:
    private, public = SUITES[3].kem.derive_key_pair(os.urandom(32))
    body = sealing.seal_welcome(3, public, b"welcome", os.urandom)
    assert body[:8] == sealing.welcome_tag(public)
    assert sealing.open_welcome(3, private, body) == b"welcome"
    with pytest.raises(sealing.SealError):
        sealing.open_welcome(3, os.urandom(32), body)
    with pytest.raises(sealing.SealError):
        sealing.seal_welcome(3, bytes(32), b"welcome", os.urandom)


def test_answers_are_for_their_key_and_no_welcomes() -> None:
    private, public = SUITES[3].kem.derive_key_pair(os.urandom(32))
    body = sealing.seal_answer(3, public, b"answer", os.urandom)
    assert body[:8] == sealing.welcome_tag(public)
    assert sealing.open_answer(3, private, body) == b"answer"
    for other in (sealing.seal_welcome(3, public, b"welcome", os.urandom), body[:-1], b""):
        with pytest.raises(sealing.SealError):
            sealing.open_answer(3, private, other)
    with pytest.raises(sealing.SealError):
        sealing.seal_answer(3, bytes(32), b"answer", os.urandom)


def test_a_welcome_without_padding() -> None:
    private, public = SUITES[3].kem.derive_key_pair(os.urandom(32))
    sealed = labels.encrypt_with_label(SUITES[3], public, b"restante welcome", b"", b"bare", os.urandom)
    body = bytes(8) + len(sealed[0]).to_bytes(2, "big") + sealed[0] + sealed[1]
    with pytest.raises(sealing.SealError):
        sealing.open_welcome(3, private, body)
    assert issubclass(hpke.HpkeError, Exception)
