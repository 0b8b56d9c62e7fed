"""Key encapsulation: what both sides share, what others computed, and what is refused."""

import os

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from restante_crypto import primitives
from restante_crypto.kems import DhKemX25519, Kem, XWing
from restante_crypto.primitives import KeyExchangeError, PostQuantumUnavailable

KEMS = (DhKemX25519(), XWing(), XWing(labeled=False))


@pytest.mark.parametrize("kem", KEMS)
def test_both_sides_share_a_secret(kem: Kem) -> None:
    private, public = kem.derive_key_pair(os.urandom(32))
    assert kem.public_key(private) == public
    secret, encapsulation = kem.encapsulate(public, os.urandom)
    assert kem.decapsulate(encapsulation, private) == secret
    # a stored private key is plain bytes, without what it expands to
    assert kem.decapsulate(encapsulation, bytes(bytearray(private))) == secret
    assert kem.encapsulate(public, os.urandom)[0] != secret


@pytest.mark.parametrize("kem", KEMS)
def test_a_key_pair_derives_from_its_material_alone(kem: Kem) -> None:
    assert kem.derive_key_pair(b"m" * 32) == kem.derive_key_pair(b"m" * 32)
    assert kem.derive_key_pair(b"m" * 32) != kem.derive_key_pair(b"n" * 32)


def test_the_draft_and_the_older_draft_derive_differently() -> None:
    assert XWing().derive_key_pair(bytes(32)) != XWing(labeled=False).derive_key_pair(bytes(32))


def test_x_wing_key_generation_of_the_draft() -> None:
    private = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    digest = primitives.sha256(XWing().public_key(private)).hex()
    assert digest == "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb"


@pytest.mark.parametrize("kem", KEMS)
def test_what_is_no_key_is_refused(kem: Kem) -> None:
    private, public = kem.derive_key_pair(os.urandom(32))
    _, encapsulation = kem.encapsulate(public, os.urandom)
    with pytest.raises(KeyExchangeError):
        kem.public_key(private[:-1])
    for wrong in (b"", public[:-1], public + b"x", public[:-32] + bytes(32)):
        with pytest.raises(KeyExchangeError):
            kem.encapsulate(wrong, os.urandom)
    for wrong in (b"", encapsulation[:-1], encapsulation + b"x", encapsulation[:-32] + bytes(32)):
        with pytest.raises(KeyExchangeError):
            kem.decapsulate(wrong, private)


def test_an_ml_kem_key_out_of_range_is_refused() -> None:
    _, public = XWing().derive_key_pair(os.urandom(32))
    with pytest.raises(KeyExchangeError):
        XWing().encapsulate(b"\xff" * 1184 + public[1184:], os.urandom)


P = 2**255 - 19
SMALL_ORDER = (0, 1, 325606250916557431795983626356110631294008115727848805560023387167927233504, P - 1, P, P + 1)


@pytest.mark.parametrize("kem", KEMS)
def test_a_public_key_is_told_from_what_is_none(kem: Kem) -> None:
    for _ in range(20):
        _, public = kem.derive_key_pair(os.urandom(32))
        assert kem.is_public_key(public)
    for wrong in (b"", public[:-1], public + b"x"):
        assert not kem.is_public_key(wrong)
    for number in SMALL_ORDER:
        for highest in (0, 1 << 255):
            wrong = public[:-32] + (number | highest).to_bytes(32, "little")
            assert not kem.is_public_key(wrong)
            with pytest.raises(KeyExchangeError):
                kem.encapsulate(wrong, os.urandom)


@pytest.mark.parametrize(
    ("coefficients", "fits"),
    [
        (b"\x00\x0d\x00", True),  # 3328, 0
        (b"\x01\x0d\x00", False),  # 3329, 0
        (b"\x00\x00\xd0", True),  # 0, 3328
        (b"\x00\x10\xd0", False),  # 0, 3329
        (b"\x00\x0e\x00", False),
        (b"\x00\x00\xd1", False),
    ],
)
def test_coefficients_of_ml_kem_are_below_its_modulus(coefficients: bytes, fits: bool) -> None:
    _, public = XWing().derive_key_pair(os.urandom(32))
    changed = coefficients + public[3:]
    assert XWing().is_public_key(changed) == fits
    if not fits:
        with pytest.raises(KeyExchangeError):
            XWing().encapsulate(changed, os.urandom)


def test_another_ciphertext_gives_another_secret() -> None:
    kem = XWing()
    private, public = kem.derive_key_pair(os.urandom(32))
    secret, encapsulation = kem.encapsulate(public, os.urandom)
    changed = bytes((encapsulation[0] ^ 1,)) + encapsulation[1:]
    assert kem.decapsulate(changed, private) != secret


def test_a_platform_without_ml_kem_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        @staticmethod
        def from_seed_bytes(_: bytes) -> None:
            raise UnsupportedAlgorithm("no")

        from_public_bytes = from_seed_bytes

    assert primitives.has_ml_kem_768()
    monkeypatch.setattr(primitives, "MLKEM768PrivateKey", Without)
    monkeypatch.setattr(primitives, "MLKEM768PublicKey", Without)
    assert not primitives.has_ml_kem_768()
    with pytest.raises(PostQuantumUnavailable, match="OpenSSL"):
        XWing().derive_key_pair(bytes(32))
    with pytest.raises(PostQuantumUnavailable):
        primitives.ml_kem_768_encapsulate(bytes(1184))
