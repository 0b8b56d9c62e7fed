import sys
from dataclasses import replace
from random import Random

import pytest

from restante_crypto import oprf, primitives
from restante_crypto.oprf import DeserializeError, Evaluation, Mode, VerifyError

ORDER = (2**252 + 27742317777372353535851937790883648493).to_bytes(32, "little")
IDENTITY = bytes(32)
NO_ELEMENTS = {
    "identity": IDENTITY,
    "negative": b"\x01" + bytes(31),
    "above the field": b"\xff" * 32,
    "short": bytes(31),
    "long": primitives.ristretto255_multiply_base(b"\x01" + bytes(31)) + b"\x00",
    "empty": b"",
}
random = Random(1).randbytes
KEYS = oprf.derive_key_pair(Mode.VOPRF, bytes(range(32)), b"tests")


def asked(count: int = 2) -> tuple[list[oprf.Blinded], Evaluation]:
    blinded = [oprf.blind(Mode.VOPRF, b"input %d" % each, random) for each in range(count)]
    return blinded, oprf.blind_evaluate_verifiably(KEYS, [each.element for each in blinded], random)


def test_a_blinded_input_is_another_element_each_time_and_has_the_same_value() -> None:
    one, other = (oprf.blind(Mode.OPRF, b"input", random) for _ in range(2))
    keys = oprf.derive_key_pair(Mode.OPRF, bytes(32), b"")
    assert one.element != other.element
    assert (
        oprf.finalize(one, oprf.blind_evaluate(keys, one.element))
        == oprf.finalize(other, oprf.blind_evaluate(keys, other.element))
        == oprf.evaluate(keys, b"input")
    )


def test_values_differ_by_input_key_purpose_and_mode() -> None:
    values = {
        oprf.evaluate(oprf.derive_key_pair(mode, seed, info), data)
        for mode in Mode
        for seed in (bytes(32), bytes(31) + b"\x01")
        for info in (b"one", b"two")
        for data in (b"", b"\x00")
    }
    assert len(values) == 16
    assert {len(each) for each in values} == {oprf.OUTPUT_BYTES}


@pytest.mark.parametrize("bad", NO_ELEMENTS.values(), ids=NO_ELEMENTS)
def test_what_is_no_element_is_refused_on_both_sides(bad: bytes) -> None:
    blinded, evaluation = asked()
    with pytest.raises(DeserializeError):
        oprf.blind_evaluate(KEYS, bad)
    with pytest.raises(DeserializeError):
        oprf.blind_evaluate_verifiably(KEYS, [blinded[0].element, bad], random)
    with pytest.raises(DeserializeError):
        oprf.finalize(blinded[0], bad)
    with pytest.raises(DeserializeError):
        oprf.finalize_verified(KEYS.public, blinded, replace(evaluation, elements=(evaluation.elements[0], bad)))
    with pytest.raises(DeserializeError):
        oprf.finalize_verified(bad, blinded, evaluation)


def test_another_key_than_the_public_one_is_noticed() -> None:
    blinded, _ = asked()
    other = oprf.derive_key_pair(Mode.VOPRF, bytes(32), b"tests")
    evaluation = oprf.blind_evaluate_verifiably(other, [each.element for each in blinded], random)
    with pytest.raises(VerifyError):
        oprf.finalize_verified(KEYS.public, blinded, evaluation)


def test_one_element_under_another_key_in_a_batch_is_noticed() -> None:
    blinded, evaluation = asked(3)
    other = oprf.blind_evaluate(oprf.derive_key_pair(Mode.VOPRF, bytes(32), b"tests"), blinded[1].element)
    elements = (evaluation.elements[0], other, evaluation.elements[2])
    with pytest.raises(VerifyError):
        oprf.finalize_verified(KEYS.public, blinded, replace(evaluation, elements=elements))


def test_a_batch_keeps_its_order_and_its_length() -> None:
    blinded, evaluation = asked(2)
    with pytest.raises(VerifyError):
        oprf.finalize_verified(KEYS.public, blinded, replace(evaluation, elements=evaluation.elements[::-1]))
    with pytest.raises(VerifyError):
        oprf.finalize_verified(KEYS.public, blinded[:1], evaluation)
    with pytest.raises(VerifyError):
        oprf.finalize_verified(KEYS.public, blinded, replace(evaluation, elements=evaluation.elements[:1]))


def test_every_changed_byte_of_a_proof_is_noticed() -> None:
    blinded, evaluation = asked()
    for place in range(oprf.PROOF_BYTES):
        proof = bytearray(evaluation.proof)
        proof[place] ^= 1
        with pytest.raises(VerifyError):
            oprf.finalize_verified(KEYS.public, blinded, replace(evaluation, proof=bytes(proof)))


@pytest.mark.parametrize("proof", [b"", bytes(63), bytes(64), ORDER + bytes(32), bytes(32) + ORDER, b"\xff" * 64])
def test_what_is_no_proof_is_refused(proof: bytes) -> None:
    blinded, evaluation = asked()
    with pytest.raises(VerifyError):
        oprf.finalize_verified(KEYS.public, blinded, replace(evaluation, proof=proof))


def test_secrets_have_no_repr() -> None:
    blinded, evaluation = asked(1)
    shown = repr((KEYS, blinded, evaluation))
    assert repr(KEYS._private) not in shown
    assert "input" not in shown


def test_the_group_refuses_zero_and_the_identity() -> None:
    one = b"\x01" + bytes(31)
    generator = primitives.ristretto255_multiply_base(one)
    with pytest.raises(primitives.GroupError):
        primitives.ristretto255_multiply_base(bytes(32))
    for scalar, element in ((bytes(32), generator), (one, IDENTITY)):
        with pytest.raises(primitives.GroupError):
            primitives.ristretto255_multiply(scalar, element)
    for scalar in (ORDER, bytes(31)):
        with pytest.raises(primitives.GroupError):
            primitives.ristretto255_scalar(scalar)
    assert primitives.ristretto255_scalar(one) == one


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert primitives.has_ristretto255()
    monkeypatch.setitem(sys.modules, "rbcl", None)
    assert not primitives.has_ristretto255()
    with pytest.raises(primitives.GroupUnavailable, match=r"restante\[directory\]"):
        oprf.derive_key_pair(Mode.OPRF, bytes(32), b"")
