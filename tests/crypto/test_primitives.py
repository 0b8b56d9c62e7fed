"""Primitives against published values, and what they refuse."""

import os

import pytest

from restante_crypto import primitives


def test_hashes_and_key_derivation() -> None:
    assert primitives.sha256(b"abc").hex().startswith("ba7816bf8f01cfea")
    assert primitives.hash_bytes("sha512", b"abc").hex().startswith("ddaf35a193617aba")
    assert len(primitives.blake2b(b"x", size=23, person=b"person")) == 23
    assert primitives.blake2b(b"x", size=16, key=b"k") != primitives.blake2b(b"x", size=16)
    # RFC 5869, test case 1
    prk = primitives.hkdf_extract("sha256", bytes(range(13)), b"\x0b" * 22)
    assert prk.hex().startswith("077709362c2e32df")
    okm = primitives.hkdf_expand("sha256", prk, bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    assert len(primitives.argon2id(b"p", bytes(16), operations=1, memory=8192 * 8)) == 32
    assert primitives.equal(b"a", b"a")
    assert not primitives.equal(b"a", b"b")
    assert len(primitives.hmac("sha256", b"k", b"m")) == 32


def test_ed25519_refuses_what_anybody_could_forge() -> None:
    seed = os.urandom(32)
    public = primitives.ed25519_public(seed)
    signature = primitives.ed25519_sign(seed, b"m")
    assert primitives.ed25519_verify(public, b"m", signature)
    assert not primitives.ed25519_verify(public, b"n", signature)
    assert not primitives.ed25519_verify(public[:-1], b"m", signature)
    assert not primitives.ed25519_verify(public, b"m", signature[:-1])
    identity = b"\x01" + bytes(31)
    assert not primitives.ed25519_verify(identity, b"m", identity + bytes(32))


def test_x25519_refuses_keys_of_small_order() -> None:
    mine, theirs = os.urandom(32), os.urandom(32)
    shared = primitives.x25519(mine, primitives.x25519_public(theirs))
    assert shared == primitives.x25519(theirs, primitives.x25519_public(mine))
    for wrong in (bytes(32), b"\x01" + bytes(31), b"short"):
        with pytest.raises(primitives.KeyExchangeError):
            primitives.x25519(mine, wrong)
    with pytest.raises(primitives.KeyExchangeError):
        primitives.x25519_public(b"short")


@pytest.mark.parametrize(("name", "size"), [("AES-128-GCM", 16), ("ChaCha20-Poly1305", 32)])
def test_aeads(name: str, size: int) -> None:
    key, nonce = os.urandom(size), os.urandom(12)
    sealed = primitives.aead_seal(name, key, nonce, b"text", b"data")
    assert primitives.aead_open(name, key, nonce, sealed, b"data") == b"text"
    for wrong in (sealed[:-1], b"", sealed[:-1] + bytes((sealed[-1] ^ 1,))):
        with pytest.raises(primitives.AuthenticationError):
            primitives.aead_open(name, key, nonce, wrong, b"data")


def test_xchacha() -> None:
    key, nonce = os.urandom(32), os.urandom(24)
    sealed = primitives.xchacha_seal(key, nonce, b"text", b"data")
    assert primitives.xchacha_open(key, nonce, sealed, b"data") == b"text"
    for wrong in (b"", sealed[:-1], sealed + b"x"):
        with pytest.raises(primitives.AuthenticationError):
            primitives.xchacha_open(key, nonce, wrong, b"data")


def test_p256_signs_as_rfc_6979_says() -> None:
    """Appendix A.2.5, with SHA-256."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    key = primitives.P256Key((private - 1 + order - 1).to_bytes(primitives.P256_UNIFORM_BYTES, "big"))
    assert key.public.hex() == (
        "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    )
    assert key.sign(b"sample").hex() == (
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )
    assert "sign" not in repr(key)
