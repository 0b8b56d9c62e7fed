"""Where the record of a handle or number is, and what opens it: OPRF, then Argon2id. PROTOCOL.md section 6.15.

::

    output = VOPRF(the relay's key for this kind, the name)        64 bytes; the relay learns nothing
    secret = Argon2id(output)                                      what a guess costs who has stolen that key as well
    place (24 bytes) ‖ key (32 bytes) = HKDF-Expand(secret)

Without the relay's key every name fits every record equally well, so a stolen store cannot be tried with a dictionary.
Whoever runs the relay has the key, and can try all names at the price of one Argon2id each.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from restante_crypto import oprf, primitives
from restante_protocol import ids

SEED_BYTES: Final = oprf.SEED_BYTES
_SALT: Final = b"restante entries"  # 16 bytes; the output is different for every relay
_INFO: Final = b"restante 1 directory "
_KEY_BYTES: Final = 32


class Kind(IntEnum):
    """What people are found by, as the wire says it."""

    HANDLE = 0
    NUMBER = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id's parameters: passes, and bytes of memory."""

    operations: int
    memory: int


COST: Final = Cost(operations=3, memory=64 * 1024 * 1024)  # some 80 ms of one core, and little enough for a phone


@dataclass(frozen=True, slots=True)
class Entry:
    """A record's place at the relay, and the key that seals it."""

    place: ids.SlotId
    key: bytes = field(repr=False)


def key_pair(seed: bytes, kind: Kind) -> oprf.KeyPair:
    """Return the relay's key for one kind, of the 32 bytes of its file: who may evaluate one may not the other."""
    return oprf.derive_key_pair(oprf.Mode.VOPRF, seed, b"restante " + kind.name.lower().encode())


def entry(kind: Kind, output: bytes, cost: Cost | None = None) -> Entry:
    """Return what an output (64 bytes) stands for. ``cost`` is for tests: everybody else has to use COST."""
    cost = cost or COST
    secret = primitives.argon2id(output, _SALT, operations=cost.operations, memory=cost.memory)
    info = _INFO + kind.name.lower().encode()
    derived = primitives.hkdf_expand("sha256", secret, info, 1 + ids.ID_BYTES + _KEY_BYTES)
    bucket = int.from_bytes(derived[:2], "big") % ids.BUCKETS
    place = ids.SlotId(bytes((bucket,)) + derived[2 : 1 + ids.ID_BYTES])
    return Entry(place, derived[1 + ids.ID_BYTES :])
