"""What somebody reads who has a client's files and its passphrase: also what was deleted and still stands somewhere.

Every box that was ever sealed is recorded as it is made. One whose first bytes stand anywhere in the file or its WAL,
in a page, a freed page or an old frame, counts as readable whole: the nonce and the start of a stream cipher are enough
to begin with, and it is better to see too much here than too little.
"""

import contextlib
from pathlib import Path

import pytest

from restante import file
from restante_crypto import sealing
from restante_crypto.mls import Application, Group, LeafNode, MLSError, PastEpoch
from restante_crypto.primitives import Random

_SEEN_BYTES = 48  # nonce and 24 bytes of ciphertext


class Witness:
    """Records what is sealed for files, from its start on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._sealed: dict[bytes, bytes] = {}

        def seal(key: bytes, plaintext: bytes, associated_data: bytes, random: Random) -> bytes:
            box = sealing.seal(key, plaintext, associated_data, random)
            self._sealed[box[:_SEEN_BYTES]] = plaintext
            return box

        class Sealing:
            SealError = sealing.SealError
            open_sealed = staticmethod(sealing.open_sealed)

        setattr(Sealing, "seal", staticmethod(seal))  # noqa: B010 -- the function is this object's own
        patch.setattr(file, "sealing", Sealing)

    def readable(self, path: Path) -> list[bytes]:
        """Return the content of every cell, deleted ones as well, that stands in the file or beside it."""
        on_disk = b"".join(each.read_bytes() for each in sorted(path.parent.glob(path.name + "*")))
        return [plain for start, plain in self._sealed.items() if start in on_disk]


def values(cells: list[bytes]) -> list[bytes]:
    """Return the values of cells, whose content is: length, key, length, group, value."""
    found = []
    for cell in cells:
        key_end = 4 + int.from_bytes(cell[:4], "big")
        found.append(cell[key_end + 4 + int.from_bytes(cell[key_end : key_end + 4], "big") :])
    return found


def _anybody(_new: LeafNode, _old: LeafNode | None) -> None:
    """The thief takes every credential."""


def opened(cells: list[bytes], message: bytes) -> bytes | None:
    """Try every stored state, of any age, on an MLSMessage; return what it says, or None if none opens it."""
    found = values(cells)
    for epoch in found:
        for restore in (Group.restore, PastEpoch.restore):
            for messages in found:
                with contextlib.suppress(MLSError):
                    state = restore(epoch, messages)
                    if isinstance(state, Group):
                        result = state.process(message, authenticate=_anybody)
                        return result.data if isinstance(result, Application) else b"a proposal or Commit"
                    return state.unprotect(message).data
    return None
