"""Requests and answers as values: signatures, lengths, and when answers agree."""

from typing import Any

import msgspec
import pytest

from restante.blobs import BlobReference
from restante.handshakes import MAX_HANDSHAKE_BYTES
from restante.resync import HISTORY, KIND, ResyncAnswer, ResyncRequest, is_request, read_request
from restante_crypto import primitives
from restante_crypto.mls import SignatureKeyPair

SEED = b"s" * 32
SIGNER = SignatureKeyPair(primitives.ed25519_public(SEED), SEED)
OTHER = SignatureKeyPair(primitives.ed25519_public(b"t" * 32), b"t" * 32)


def request(**changes: Any) -> ResyncRequest:  # noqa: ANN401 -- wrong values are wanted too
    fields: dict[str, Any] = {
        "conversation": b"c" * 16,
        "epoch": 5,
        "authenticator": b"a" * 32,
        "public": b"p" * 32,
        "address": bytes(24),
        "signature_key": SIGNER.public,
    } | changes
    return ResyncRequest(**fields)


def answer(**changes: Any) -> ResyncAnswer:  # noqa: ANN401 -- the same
    fields: dict[str, Any] = {
        "request": b"r" * 32,
        "history": [(5, b"a" * 32), (6, b"b" * 32)],
        "fence": b"f" * 32,
        "tag": b"t" * 8,
        "key": b"k" * 32,
        "replaces": 1,
        "resumption": True,
        "group_info": b"group info",
        "tree": b"tree",
        "signature_key": SIGNER.public,
    } | changes
    return ResyncAnswer(**fields)


def test_a_request_is_read_again() -> None:
    signed = request(branch=b"b" * 32).sign(SIGNER)
    assert is_request(signed.message())
    assert read_request(signed.message()) == signed
    assert signed.verify()
    assert signed.digest() != request().sign(SIGNER).digest()


@pytest.mark.parametrize("message", [b"", b"\x00\x01\x00\x02", KIND, KIND + b"\x91\x01", KIND + b"\xff" * 60])
def test_what_is_no_request(message: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        read_request(message)


@pytest.mark.parametrize(
    "change",
    [
        {"conversation": b"d" * 16},
        {"epoch": 6},
        {"authenticator": b"b" * 32},
        {"branch": b"b"},
        {"public": b"q" * 32},
        {"address": b"\x01" * 24},
        {"signature_key": OTHER.public},
    ],
)
def test_a_request_is_signed_whole(change: dict[str, Any]) -> None:
    assert not msgspec.structs.replace(request().sign(SIGNER), **change).verify()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"conversation": b""},
        {"epoch": -1},
        {"epoch": 2**63},
        {"authenticator": b""},
        {"branch": bytes(65)},
        {"public": b""},
        {"public": bytes(4097)},
        {"address": bytes(23)},
        {"signature_key": bytes(31)},
        {"signature": bytes(63)},
    ],
)
def test_lengths_of_a_request(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        request(**change)


def test_an_answer_is_read_again() -> None:
    signed = answer().sign(SIGNER)
    assert ResyncAnswer.decode(signed.encode()) == signed
    assert signed.verify()
    assert signed.epoch == 6


@pytest.mark.parametrize(
    "change",
    [
        {"request": b"q" * 32},
        {"history": [(5, b"a" * 32)]},
        {"fence": b"e" * 32},
        {"tag": b"u" * 8},
        {"key": b"l" * 32},
        {"replaces": 2},
        {"resumption": False},
        {"group_info": b"another"},
        {"tree": b"another"},
        {"signature_key": OTHER.public},
    ],
)
def test_an_answer_is_signed_whole(change: dict[str, Any]) -> None:
    assert not msgspec.structs.replace(answer().sign(SIGNER), **change).verify()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"request": bytes(31)},
        {"history": []},
        {"history": [(number, b"a") for number in range(HISTORY + 3)]},
        {"history": [(-1, b"a")]},
        {"history": [(2**63, b"a")]},
        {"history": [(6, b"a"), (5, b"b")]},
        {"history": [(5, b"a"), (5, b"b")]},
        {"history": [(5, b"")]},
        {"fence": bytes(31)},
        {"tag": bytes(7)},
        {"key": bytes(31)},
        {"replaces": -1},
        {"tree": BlobReference(bytes(24), bytes(32), bytes(32), MAX_HANDSHAKE_BYTES + 1)},
        {"signature_key": bytes(31)},
        {"signature": bytes(65)},
    ],
)
def test_lengths_of_an_answer(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        answer(**change)


def test_answers_of_one_group_agree_whatever_their_epochs() -> None:
    older, younger = answer(), answer(history=[(5, b"a" * 32), (6, b"b" * 32), (7, b"c" * 32)])
    assert older.agrees(younger)
    assert younger.agrees(older)
    assert older.agrees(older)
    for history in ([(5, b"a" * 32), (6, b"x" * 32), (7, b"c" * 32)], [(5, b"a" * 32), (7, b"c" * 32)]):
        assert not answer(history=history).agrees(older)
        assert not older.agrees(answer(history=history))
