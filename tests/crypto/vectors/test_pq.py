"""The published vectors of X-Wing and of HPKE over it, where the folder is there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import hpke
from restante_crypto.kems import XWing
from restante_crypto.suites import SUITES

H = bytes.fromhex
HKDF_SHA256 = 1
CHACHA20_POLY1305 = 3


def cases(config: pytest.Config, name: str) -> list[dict[str, Any]]:
    given: Path | None = config.getoption("--mls-vectors")
    folder = given.parent if given is not None else Path(__file__).resolve().parents[4] / "shared"
    path = folder / "pq-test-vectors" / name
    if not path.exists():
        pytest.skip(f"no {name} beside the folder of vectors")
    read: list[dict[str, Any]] = json.loads(path.read_text())
    return read


def test_x_wing(request: pytest.FixtureRequest) -> None:
    for case in cases(request.config, "xwing-kem.json"):
        assert XWing().public_key(H(case["sk"])) == H(case["pk"])
        assert XWing().decapsulate(H(case["ct"]), H(case["sk"])) == H(case["ss"])


def test_hpke_over_x_wing(request: pytest.FixtureRequest) -> None:
    """The case with HKDF; the other one has a one-stage KDF, which no suite of ours uses."""
    done = 0
    for case in cases(request.config, "hpke-pq.json"):
        if (case["kem_id"], case["kdf_id"], case["aead_id"]) != (0x647A, HKDF_SHA256, CHACHA20_POLY1305):
            continue
        suite = replace(SUITES[3], kem=XWing())
        private, public = suite.kem.derive_key_pair(H(case["ikmR"]))
        assert (private, public) == (H(case["skRm"]), H(case["pkRm"]))
        assert suite.kem.decapsulate(H(case["enc"]), private) == H(case["shared_secret"])
        info = hpke.info_context(suite, H(case["info"]))
        context = hpke.setup_receiver(suite, H(case["enc"]), private, info)
        assert (context.key, context.base_nonce) == (H(case["key"]), H(case["base_nonce"]))
        assert context.exporter_secret == H(case["exporter_secret"])
        for sequence, sealed in enumerate(case["encryptions"]):
            assert context.open(H(sealed["aad"]), H(sealed["ct"]), sequence) == H(sealed["pt"])
        for exported in case["exports"]:
            assert context.export(H(exported["exporter_context"]), exported["L"]) == H(exported["exported_value"])
        done += 1
    assert done == 1
