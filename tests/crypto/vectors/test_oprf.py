"""The vectors of RFC 9497, appendix A.1."""

import json
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import oprf, primitives
from restante_crypto.oprf import Mode

SUITES = json.loads(Path(__file__).with_name("oprf.json").read_text(encoding="utf-8"))["suites"]
H = bytes.fromhex
CASES = [
    pytest.param(suite, vector, id=f"{Mode(suite['mode']).name}-{number}")
    for suite in SUITES
    for number, vector in enumerate(suite["vectors"], 1)
]


def drawn(scalar: str) -> primitives.Random:
    """Randomness that reduces to this scalar."""
    return lambda length: H(scalar) + bytes(length - 32)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: Mode(suite["mode"]).name)
def test_derive_key_pair(suite: dict[str, Any]) -> None:
    keys = oprf.derive_key_pair(Mode(suite["mode"]), H(suite["seed"]), H(suite["key_info"]))
    assert keys._private.hex() == suite["private"]
    assert keys.public.hex() == suite.get("public", keys.public.hex())


@pytest.mark.parametrize(("suite", "vector"), CASES)
def test_protocol(suite: dict[str, Any], vector: dict[str, Any]) -> None:
    mode = Mode(suite["mode"])
    keys = oprf.derive_key_pair(mode, H(suite["seed"]), H(suite["key_info"]))
    inputs = [H(each) for each in vector["input"]]
    blinded = [oprf.blind(mode, each, drawn(scalar)) for each, scalar in zip(inputs, vector["blind"], strict=True)]
    assert [each.element.hex() for each in blinded] == vector["blinded"]
    if mode is Mode.VOPRF:
        evaluation = oprf.blind_evaluate_verifiably(keys, [each.element for each in blinded], drawn(vector["r"]))
        assert evaluation.proof.hex() == vector["proof"]
        assert [each.hex() for each in evaluation.elements] == vector["evaluated"]
        outputs = oprf.finalize_verified(keys.public, blinded, evaluation)
    else:
        evaluated = [oprf.blind_evaluate(keys, each.element) for each in blinded]
        assert [each.hex() for each in evaluated] == vector["evaluated"]
        outputs = [oprf.finalize(one, other) for one, other in zip(blinded, evaluated, strict=True)]
    assert [each.hex() for each in outputs] == vector["output"]
    assert [oprf.evaluate(keys, each) for each in inputs] == outputs
