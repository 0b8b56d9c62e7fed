"""What the relay holds of an account, brought home, and the proof that it was erased. PROTOCOL.md section 6.13."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from restante import blobs
from restante.driver import ERASED, Driver
from restante.engine.records import DisclosedEvent
from restante.errors import Refused, RelayError
from restante.links import RETRIED, Backoff, Disconnected, numbered
from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.engine.engine import Engine

__all__ = ["Erasure", "Export"]

FORMAT: Final = 1
KINDS: Final = (
    "mailbox",
    "address",
    "pool",
    "prekey",
    "payload",
    "slot",
    "blob",
    "consent",
    "handle",
    "number",
    "push",
    "disclosure",
)
_SCHEMA: Final = "export.schema.json"  # beside this file
_NAME: Final = re.compile("[a-z_]+")
_TEXTS: Final = frozenset({"purpose", "entry", "endpoint"})
_LONG: Final = frozenset({"package", "last_resort", "body", "record"})  # become files


@dataclass(frozen=True, slots=True)
class Export:
    """All that the relay holds of this account.

    Attributes:
        document: JSON data, as ``schema()`` describes every field of it: ``format``, which is its version, whose it
            is, and ``held``: by kind a list of objects. Bytes are hexadecimal, or ``{"file": name}`` where they are
            long.
        files: what those name.
    """

    document: Mapping[str, Any]
    files: Mapping[str, bytes] = field(repr=False)

    def write(self, folder: Path) -> None:
        """Write it into a new folder: ``export.json``, what describes it, and the files. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        (folder / _SCHEMA).write_text(_schema_text())
        (folder / "export.json").write_text(json.dumps(self.document, indent=2) + "\n")


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that describes every field of an export's document."""
    described: dict[str, Any] = json.loads(_schema_text())
    return described


def _schema_text() -> str:
    return resources.files("restante").joinpath(_SCHEMA).read_text("utf-8")


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


async def export(engine: "Engine", driver: Driver, now: int) -> Export:
    """Ask the relay for all that it holds of this account. ``now``: Unix seconds.

    The mailbox's owner is told of the mailbox, consents and records. Which slots and blobs are this account's, the
    client alone knows, and asks for each without credential.

    Raises:
        Closed: the account was erased.
        RelayError: the relay refuses, or answers something else.
    """
    document = _Document()
    await _mailbox(driver, document)
    await _slots(engine, driver, document)
    for keys, expires in await driver.run(engine.blobs):
        sealed = await driver.parcels.stored(keys.blob)
        if sealed is not None:
            digest = blobs.digest_of(sealed)
            document.row("blob", keys.blob, id=keys.blob, expires=expires, size=len(sealed), digest=digest, body=sealed)
    return Export(
        {
            "format": FORMAT,
            "relay": driver.url,
            "relay_key": (engine.relay_key or b"").hex(),
            "exported": datetime.fromtimestamp(now, UTC).isoformat(),
            "held": {kind: list(rows.values()) for kind, rows in document.kinds.items()},
        },
        document.files,
    )


async def _mailbox(driver: Driver, document: "_Document") -> None:
    after, more = b"", True
    while more:
        part = await driver.ask_as_owner(partial(frames.Export, after=after))
        if not isinstance(part, frames.Exported):
            raise RelayError("no answer to an export")
        for each in part.held:
            kind, _, name = each.name.partition(".")
            document.put(kind, each.key, name, each.value)
        after, more = part.after, bool(part.after)


async def _slots(engine: "Engine", driver: Driver, document: "_Document") -> None:
    for kind, slot, expires in await driver.run(engine.chores.slots):
        try:
            stored = await driver.ask(partial(frames.SlotGet, slot=slot))
        except Refused as error:
            if error.code != Code.NOT_FOUND:
                raise
            continue
        if isinstance(stored, frames.Slot):
            version, body = stored.version, stored.body
            document.row("slot", slot, kind=kind, id=slot, version=version, expires=expires, body=body)


async def disclosures(engine: "Engine", driver: Driver, now: int) -> list[DisclosedEvent]:
    """Return what the relay's operator has handed to others of this account. ``now``: Unix seconds.

    Raises:
        Closed: the account was erased.
        RelayError: the relay refuses, or its key has not signed what it answers.
    """
    found = []
    for each in (await export(engine, driver, now)).document["held"]["disclosure"]:
        try:
            entry, signature = each["entry"].encode(), bytes.fromhex(each["signature"])
            found.append(await driver.run(engine.bulletin.read_disclosure, entry, signature))
        except (ValueError, KeyError) as error:
            raise RelayError(f"the relay's disclosures: {error}") from None
    return found


async def erase(engine: "Engine", driver: Driver) -> Erasure:
    """Stop the driver for good, and erase all that the relay holds of this account. Raises Refused."""
    await driver.run(engine.begin_erasure)
    await driver.stop(ERASED)
    backoff = Backoff(driver.jitter)
    while True:
        try:
            answer = await _erase(engine, driver)
            break
        except (Disconnected, aiohttp.ClientError, OSError, TimeoutError):
            pass
        except Refused as error:
            if error.code not in RETRIED:
                raise
        await asyncio.sleep(backoff.next())
    return Erasure(
        mailbox=engine.mailbox,
        erased_at=datetime.fromtimestamp(answer.erased_at, UTC),
        relay_key=engine.relay_key or b"",
        signature=answer.receipt,
    )


async def _erase(engine: "Engine", driver: Driver) -> frames.Erased:
    """What the client alone knows to be this account's, without credential; then the mailbox, as its owner."""
    sender = await driver.connect(frames.ROLE_SENDER)
    try:
        for deletion in await driver.run(engine.chores.slot_deletions):
            await sender.request(partial(numbered, deletion))
        await driver.parcels.erase()
    finally:
        await sender.close()
    receiver = await driver.connect(frames.ROLE_RECEIVER)
    try:
        await driver.prove(receiver)
        answer = await receiver.request(frames.MailboxDelete)
    finally:
        await receiver.close()
    if not isinstance(answer, frames.Erased):
        raise Disconnected
    return answer


class _Document:
    """What was told so far, as JSON data and files."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[bytes, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.files: dict[str, bytes] = {}

    def row(self, kind: str, key: bytes, /, **values: bytes | int | str) -> None:
        for name, value in values.items():
            self.put(kind, key, name, value)

    def put(self, kind: str, key: bytes, name: str, value: bytes | int | str) -> None:
        """Add one value. Raises RelayError for a name that is none: it becomes part of a file's."""
        if not (_NAME.fullmatch(kind) and _NAME.fullmatch(name)):
            raise RelayError("the relay tells of something without a name")
        shown: Any = value
        if isinstance(value, bytes):
            if name in _TEXTS:
                shown = value.decode(errors="replace")
            elif value and name in _LONG:
                file = f"{kind}-{key.hex()}-{name}.bin"
                self.files[file], shown = value, {"file": file}
            else:
                shown = value.hex()
        self.kinds.setdefault(kind, {}).setdefault(key, {})[name] = shown
