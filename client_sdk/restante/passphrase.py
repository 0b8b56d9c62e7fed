"""How a passphrase opens the client's file: a random data key, sealed under Argon2id of the passphrase.

The parameters stand beside the box and are its associated data. Lowering them makes no key: it only makes a wrong one.
"""

import unicodedata
from dataclasses import dataclass, field
from typing import Final

from restante.errors import FileDamaged, WrongPassphrase
from restante_crypto import primitives, sealing
from restante_crypto.primitives import Random

KEY_BYTES: Final = 32

# About 100 ms on a small machine of 2024; stored in each file, so that they can grow.
OPERATIONS: Final = 3
MEMORY: Final = 64 * 1024 * 1024

_SALT_BYTES: Final = 16
_MAX_OPERATIONS: Final = 64  # who asks for more only wants to stop us
_MIN_MEMORY: Final = 8192  # Argon2's own
_MAX_MEMORY: Final = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lock:
    """A sealed data key: salt (16 bytes), Argon2id operations and memory in bytes, and the box."""

    salt: bytes
    operations: int
    memory: int
    box: bytes = field(repr=False)

    def open(self, passphrase: str | bytes) -> bytes:
        """Return the data key (32 bytes). Raises WrongPassphrase, or FileDamaged for parameters nobody wrote."""
        allowed = 1 <= self.operations <= _MAX_OPERATIONS and _MIN_MEMORY <= self.memory <= _MAX_MEMORY
        if len(self.salt) != _SALT_BYTES or not allowed:
            raise FileDamaged("the file's header holds what no version of this library wrote")
        try:
            return sealing.open_sealed(self._key(passphrase), self.box, self._context())
        except sealing.SealError:
            raise WrongPassphrase("the passphrase does not open the file") from None

    def _key(self, passphrase: str | bytes) -> bytes:
        text = passphrase
        data = text if isinstance(text, bytes) else unicodedata.normalize("NFC", text).encode()
        return primitives.argon2id(data, self.salt, operations=self.operations, memory=self.memory)

    def _context(self) -> bytes:
        return b"restante file" + self.salt + self.operations.to_bytes(8, "big") + self.memory.to_bytes(8, "big")


def lock(passphrase: str | bytes, data_key: bytes, random: Random) -> Lock:
    """Seal a data key (32 bytes) under a passphrase; a text counts as its NFC form in UTF-8."""
    empty = Lock(random(_SALT_BYTES), OPERATIONS, MEMORY, b"")
    box = sealing.seal(empty._key(passphrase), data_key, empty._context(), random)  # noqa: SLF001 -- our own
    return Lock(empty.salt, empty.operations, empty.memory, box)
