"""Sealing: what covers messages on the way, invites' manifests, prekeys, and the cells of a client's file.

The outer seal hides from the relay what MLS shows: group id, epoch number, content type and length. ::

    body         = epoch tag (8) ‖ nonce (24) ‖ XChaCha20-Poly1305(outer key, padded MLSMessage; tag)
    Welcome body = tag of the init key (8) ‖ encapsulation and ciphertext of EncryptWithLabel(padded Welcome)
    answer body  = the same towards an HPKE key that a resync request names, under another label
    box          = nonce (24) ‖ XChaCha20-Poly1305(key, plaintext; associated data)

A random 192-bit nonce does not repeat, so one key may seal any number of boxes.
"""

from typing import Final

from restante_crypto import hpke, padding, primitives
from restante_crypto.mls import labels
from restante_crypto.primitives import Random
from restante_crypto.suites import SUITES

TAG_BYTES: Final = 8
_NONCE: Final = primitives.XCHACHA_NONCE_BYTES
_WELCOME_LABEL: Final = b"restante welcome"
_ANSWER_LABEL: Final = b"restante resync answer"
_TAG_PERSON: Final = b"restante init"


class SealError(Exception):
    """The seal does not fit its key, or what is under it is not padded."""


def seal(key: bytes, plaintext: bytes, associated_data: bytes, random: Random) -> bytes:
    """Return a box under a 32-byte key: 40 bytes longer than the plaintext."""
    nonce = random(_NONCE)
    return nonce + primitives.xchacha_seal(key, nonce, plaintext, associated_data)


def open_sealed(key: bytes, box: bytes, associated_data: bytes) -> bytes:
    """Return the plaintext of a box. Raises SealError."""
    if len(box) < _NONCE:
        raise SealError("too short")
    try:
        return primitives.xchacha_open(key, box[:_NONCE], box[_NONCE:], associated_data)
    except primitives.AuthenticationError:
        raise SealError("seal") from None


def seal_body(tag: bytes, key: bytes, message: bytes, random: Random) -> bytes:
    """Return the body of an MLSMessage under an epoch's tag (8 bytes) and outer key (32 bytes)."""
    return tag + seal(key, padding.pad(message), tag, random)


def open_body(key: bytes, body: bytes) -> bytes:
    """Return the MLSMessage in a body. Raises SealError."""
    return _unpad(open_sealed(key, body[TAG_BYTES:], body[:TAG_BYTES]))


def welcome_tag(init_key: bytes) -> bytes:
    """Return the 8 bytes by which a client finds the KeyPackage that a Welcome is for; nobody else can."""
    return primitives.blake2b(init_key, size=TAG_BYTES, person=_TAG_PERSON)


def seal_welcome(suite: int, init_key: bytes, welcome: bytes, random: Random) -> bytes:
    """Return the body of a Welcome towards a KeyPackage's init key. Raises SealError for a key that is none."""
    return _seal_to(suite, init_key, _WELCOME_LABEL, welcome, random)


def open_welcome(suite: int, init_private: bytes, body: bytes) -> bytes:
    """Return the Welcome in a body. Raises SealError."""
    return _open_from(suite, init_private, _WELCOME_LABEL, body)


def seal_answer(suite: int, public: bytes, answer: bytes, random: Random) -> bytes:
    """Return the body of an answer towards an HPKE key. Raises SealError for a key that is none."""
    return _seal_to(suite, public, _ANSWER_LABEL, answer, random)


def open_answer(suite: int, private: bytes, body: bytes) -> bytes:
    """Return the answer in a body. Raises SealError."""
    return _open_from(suite, private, _ANSWER_LABEL, body)


def _seal_to(suite: int, public: bytes, label: bytes, message: bytes, random: Random) -> bytes:
    try:
        encapsulation, ciphertext = labels.encrypt_with_label(
            SUITES[suite], public, label, b"", padding.pad(message), random
        )
    except hpke.HpkeError:
        raise SealError("public key") from None
    return welcome_tag(public) + len(encapsulation).to_bytes(2, "big") + encapsulation + ciphertext


def _open_from(suite: int, private: bytes, label: bytes, body: bytes) -> bytes:
    start = TAG_BYTES + 2
    end = start + int.from_bytes(body[TAG_BYTES:start], "big")
    try:
        padded = labels.decrypt_with_label(SUITES[suite], private, label, b"", body[start:end], body[end:])
    except hpke.HpkeError:
        raise SealError("not for this key") from None
    return _unpad(padded)


def _unpad(padded: bytes) -> bytes:
    try:
        return padding.unpad(padded)
    except padding.PaddingError:
        raise SealError("padding") from None
