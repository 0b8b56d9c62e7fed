"""Oblivious pseudorandom functions: RFC 9497 with ristretto255-SHA512, in the modes OPRF and VOPRF.

Who has an input learns the function's value at it and nothing else; who has the key learns nothing at all. ::

    client                                    server
    blind(input) ──── blinded element ──────▶ blind_evaluate, and in the mode VOPRF a proof that it was this key
    finalize ◀──────── evaluated element ────

In the mode VOPRF several inputs have one proof. Elements and scalars have 32 bytes, outputs 64. The mode POPRF is not
here. An input that hashes to the identity, a seed whose key is zero and a blind of zero, which nobody can find, raise
``primitives.GroupError``. Needs the extra ``directory``, or raises ``primitives.GroupUnavailable``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from restante_crypto import primitives
from restante_crypto.primitives import Random

ELEMENT_BYTES: Final = primitives.RISTRETTO255_BYTES
PROOF_BYTES: Final = 2 * primitives.RISTRETTO255_BYTES  # challenge and response
OUTPUT_BYTES: Final = 64
SEED_BYTES: Final = 32
MAX_INPUT_BYTES: Final = 2**16 - 1  # section 1.2
_HASH: Final = "sha512"
_HASH_BLOCK_BYTES: Final = 128
_UNIFORM: Final = primitives.RISTRETTO255_UNIFORM_BYTES  # Ns + 32, as long as one SHA-512
_SCALAR: Final = primitives.RISTRETTO255_BYTES


class OPRFError(Exception):
    """Base of what the other side can cause.

    ::

        OPRFError
        ├── DeserializeError   not an element: the other side does not follow the RFC
        └── VerifyError        the proof does not fit: another key was used than the public one
    """


class DeserializeError(OPRFError):
    """These bytes are no element, or the identity (section 2.1)."""


class VerifyError(OPRFError):
    """The evaluation was not made with the private half of this public key (section 2.2.2)."""


class Mode(IntEnum):
    """Section 3.1."""

    OPRF = 0
    VOPRF = 1


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The server's key, for one mode alone."""

    mode: Mode
    public: bytes
    _private: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Blinded:
    """An input on its way: what the client keeps, and ``element``, which it sends."""

    mode: Mode
    input: bytes
    blind: bytes
    element: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """What a server says in the mode VOPRF: evaluated elements in the order asked, and one proof (64 bytes) of all."""

    elements: tuple[bytes, ...]
    proof: bytes


def derive_key_pair(mode: Mode, seed: bytes, info: bytes) -> KeyPair:
    """Return the key pair of a seed (32 random bytes) and a public purpose, at most 65,535 bytes (section 3.2.1)."""
    private = _hash_to_scalar(mode, seed + _sized(info) + b"\x00", b"DeriveKeyPair")
    return KeyPair(mode, primitives.ristretto255_multiply_base(private), private)


def blind(mode: Mode, data: bytes, random: Random) -> Blinded:
    """Hide an input of at most 65,535 bytes (sections 3.3.1 and 3.3.2)."""
    scalar = _random_scalar(random)
    return Blinded(mode, data, scalar, primitives.ristretto255_multiply(scalar, _hash_to_group(mode, data)))


def blind_evaluate(keys: KeyPair, element: bytes) -> bytes:
    """Return the evaluated element, without a proof (section 3.3.1). Raises DeserializeError."""
    return primitives.ristretto255_multiply(keys._private, _element(element))  # noqa: SLF001 -- ours


def blind_evaluate_verifiably(keys: KeyPair, elements: Sequence[bytes], random: Random) -> Evaluation:
    """Return 1 to 65,535 evaluated elements and the proof (section 3.3.2). Raises DeserializeError."""
    evaluated = tuple(blind_evaluate(keys, element) for element in elements)
    private = keys._private  # noqa: SLF001 -- ours
    composite = _sum(_weights(keys.public, elements, evaluated), elements)
    product = primitives.ristretto255_multiply(private, composite)
    scalar = _random_scalar(random)
    challenge = _challenge(
        keys.public,
        composite,
        product,
        primitives.ristretto255_multiply_base(scalar),
        primitives.ristretto255_multiply(scalar, composite),
    )
    response = primitives.ristretto255_subtract_scalars(
        scalar, primitives.ristretto255_multiply_scalars(challenge, private)
    )
    return Evaluation(evaluated, challenge + response)


def finalize(blinded: Blinded, evaluated: bytes) -> bytes:
    """Return the function's value at the input: 64 bytes (section 3.3.1). Raises DeserializeError."""
    unblinded = primitives.ristretto255_multiply(primitives.ristretto255_invert(blinded.blind), _element(evaluated))
    return _output(blinded.input, unblinded)


def finalize_verified(public: bytes, blinded: Sequence[Blinded], evaluation: Evaluation) -> list[bytes]:
    """Return the values at the inputs, 64 bytes each, if the proof fits the public key (section 3.3.2).

    Raises:
        DeserializeError: the key or one of the evaluated is no element.
        VerifyError: another key was used, or other inputs, or too few or too many came back.
    """
    if len(evaluation.elements) != len(blinded) or len(evaluation.proof) != PROOF_BYTES:
        raise VerifyError("lengths")
    elements = [each.element for each in blinded]
    evaluated = [_element(each) for each in evaluation.elements]
    _verify(_element(public), elements, evaluated, evaluation.proof)
    return [finalize(each, element) for each, element in zip(blinded, evaluated, strict=True)]


def evaluate(keys: KeyPair, data: bytes) -> bytes:
    """Return the function's value at an input that the server itself knows (sections 3.3.1 and 3.3.2)."""
    element = primitives.ristretto255_multiply(keys._private, _hash_to_group(keys.mode, data))  # noqa: SLF001 -- ours
    return _output(data, element)


def _output(data: bytes, element: bytes) -> bytes:
    return primitives.hash_bytes(_HASH, _sized(data) + _sized(element) + b"Finalize")


# The proof that two pairs have the same logarithm (section 2.2).


def _verify(public: bytes, elements: Sequence[bytes], evaluated: Sequence[bytes], proof: bytes) -> None:
    weights = _weights(public, elements, evaluated)
    try:
        challenge, response = (primitives.ristretto255_scalar(part) for part in (proof[:_SCALAR], proof[_SCALAR:]))
        composite, product = _sum(weights, elements), _sum(weights, evaluated)
        first = primitives.ristretto255_add(
            primitives.ristretto255_multiply_base(response), primitives.ristretto255_multiply(challenge, public)
        )
        second = primitives.ristretto255_add(
            primitives.ristretto255_multiply(response, composite), primitives.ristretto255_multiply(challenge, product)
        )
    except primitives.GroupError:
        raise VerifyError("proof") from None
    if not primitives.equal(challenge, _challenge(public, composite, product, first, second)):
        raise VerifyError("proof")


def _challenge(public: bytes, *elements: bytes) -> bytes:
    transcript = b"".join(_sized(element) for element in (public, *elements))
    return _hash_to_scalar(Mode.VOPRF, transcript + b"Challenge")


def _weights(public: bytes, elements: Sequence[bytes], evaluated: Sequence[bytes]) -> list[bytes]:
    """Return what each pair counts in the composites (section 2.2.1)."""
    seed_dst = b"Seed-" + _context(Mode.VOPRF)
    seed = _sized(primitives.hash_bytes(_HASH, _sized(public) + _sized(seed_dst)))
    return [
        _hash_to_scalar(Mode.VOPRF, b"".join((seed, index.to_bytes(2, "big"), _sized(one), _sized(two), b"Composite")))
        for index, (one, two) in enumerate(zip(elements, evaluated, strict=True))
    ]


def _sum(weights: Sequence[bytes], elements: Sequence[bytes]) -> bytes:
    first, *others = (
        primitives.ristretto255_multiply(weight, element) for weight, element in zip(weights, elements, strict=True)
    )
    for other in others:
        first = primitives.ristretto255_add(first, other)
    return first


# Hashing (section 4.1, and RFC 9380 section 5.3.1).


def _context(mode: Mode) -> bytes:
    return b"OPRFV1-" + bytes((mode,)) + b"-ristretto255-SHA512"


def _hash_to_group(mode: Mode, data: bytes) -> bytes:
    return primitives.ristretto255_from_hash(_expand(data, b"HashToGroup-" + _context(mode)))


def _hash_to_scalar(mode: Mode, data: bytes, purpose: bytes = b"HashToScalar-") -> bytes:
    return primitives.ristretto255_reduce(_expand(data, purpose + _context(mode)))


def _expand(message: bytes, purpose: bytes) -> bytes:
    """Return expand_message_xmd for 64 bytes, one SHA-512, so that there is one block."""
    dst = purpose + bytes((len(purpose),))
    first = primitives.hash_bytes(
        _HASH, b"".join((bytes(_HASH_BLOCK_BYTES), message, _UNIFORM.to_bytes(2, "big"), b"\x00", dst))
    )
    return primitives.hash_bytes(_HASH, first + b"\x01" + dst)


def _random_scalar(random: Random) -> bytes:
    return primitives.ristretto255_reduce(random(_UNIFORM))


def _element(data: bytes) -> bytes:
    try:
        return primitives.ristretto255_element(data)
    except primitives.GroupError:
        raise DeserializeError("element") from None


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
