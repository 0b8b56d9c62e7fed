"""What the relay holds of an account, brought home, and the proof that it was erased. PROTOCOL.md section 6.13."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from restante_crypto import primitives, proofs
from restante_protocol import frames

__all__ = ["Erasure", "Export"]

FORMAT: Final = 1
_IN_LINE: Final = 64  # bytes; longer values become files


@dataclass(frozen=True, slots=True)
class Export:
    """All that the relay holds of this account.

    Attributes:
        document: JSON data: ``format``, ``relay``, ``relay_key``, ``exported`` (ISO time), and ``held``: by kind
            (``mailbox``, ``address``, ``pool``, ``prekey``, ``payload``, ``slot``) a list of objects, whose fields are
            those of docs/data.md. Bytes are hexadecimal, or ``{"file": name}`` where they are long.
        files: what those name.
    """

    document: Mapping[str, Any]
    files: Mapping[str, bytes] = field(repr=False)

    def write(self, folder: Path) -> None:
        """Write it into a new folder: ``export.json`` and the files. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        (folder / "export.json").write_text(json.dumps(self.document, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class Erasure:
    """The relay's word that an account's mailbox is erased.

    Attributes:
        mailbox: the mailbox's id.
        erased_at: by the relay's clock, UTC.
        relay_key: whose word.
        signature: over mailbox and time.
    """

    mailbox: bytes
    erased_at: datetime
    relay_key: bytes
    signature: bytes

    def verify(self) -> bool:
        """Say whether the relay's key has signed it."""
        message = proofs.erased_message(self.mailbox, int(self.erased_at.timestamp()))
        return primitives.ed25519_verify(self.relay_key, message, self.signature)


def export_of(
    relay: str,
    relay_key: bytes,
    now: int,
    held: Iterable[frames.Held],
    slots: Iterable[tuple[bytes, frames.Slot]],
) -> Export:
    """Return an export of what the relay told. ``now``: Unix seconds."""
    files: dict[str, bytes] = {}
    kinds: dict[str, dict[bytes, dict[str, Any]]] = {}

    def put(kind: str, key: bytes, name: str, value: bytes | int) -> None:
        shown: Any = value
        if isinstance(value, bytes):
            shown = value.hex()
            if len(value) > _IN_LINE:
                file = f"{kind}-{key.hex()}-{name}.bin"
                files[file], shown = value, {"file": file}
        kinds.setdefault(kind, {}).setdefault(key, {})[name] = shown

    for each in held:
        kind, _, name = each.name.partition(".")
        put(kind, each.key, name, each.value)
    for slot, frame in slots:
        put("slot", slot, "id", slot)
        put("slot", slot, "version", frame.version)
        put("slot", slot, "body", frame.body)
    document = {
        "format": FORMAT,
        "relay": relay,
        "relay_key": relay_key.hex(),
        "exported": datetime.fromtimestamp(now, UTC).isoformat(),
        "held": {kind: list(rows.values()) for kind, rows in kinds.items()},
    }
    return Export(document, files)
