"""Requests to disclose, on their way from ``restante disclose`` to a relay, and what it hands out, on the way back.

The answer is a file beside the store, mode 0600, for the operator to hand on and to delete.
"""

import asyncio
import json
from pathlib import Path
from typing import Final

import msgspec
import structlog

from restante_server import letters, policy
from restante_server.grounds import Ground
from restante_server.services.disclosure import Discloser, NotDisclosed, Request
from restante_server.stores.sqlite_schema import write_durably

_LETTER: Final = "disclose"
_log = structlog.get_logger("disclosure")
REFUSED: Final = "refused"  # the answer's only key, if nothing is handed out


class _Letter(msgspec.Struct, frozen=True):
    id: bytes
    ground: Ground
    mailbox: bytes
    fields: list[str]
    to: str
    reason: str
    barred_until: int


def leave(store: Path, request: Request) -> Path:
    """Leave a request for the relay of this store; return the file in which the answer will be.

    Raises:
        NotDisclosed: it would be refused.
        OSError: the file cannot be written.
    """
    request.check()
    letter = _Letter(
        request.id,
        request.ground,
        request.mailbox,
        list(request.fields),
        request.to,
        request.reason,
        request.barred_until,
    )
    letters.leave(store, _LETTER, msgspec.msgpack.encode(letter))
    return _answer(store, request.id)


def _answer(store: Path, identifier: bytes) -> Path:
    return store.with_name(f"{store.name}.disclosed-{identifier.hex()}")


def refusal(answer: Path) -> str | None:
    """Return why nothing was handed out; None if something was."""
    text: str | None = json.loads(answer.read_bytes()).get(REFUSED)
    return text


async def collect(store: Path, discloser: Discloser) -> None:
    """Answer what waits beside the store; after a crash once more, logged once."""
    for path, data in await asyncio.to_thread(letters.find, store, _LETTER):
        try:
            letter = msgspec.msgpack.decode(data, type=_Letter)
        except msgspec.DecodeError:
            _log.warning("a letter that is none")
            await asyncio.to_thread(path.unlink, missing_ok=True)
            continue
        request = Request(
            letter.id, letter.ground, letter.mailbox, letter.fields, letter.to, letter.reason, letter.barred_until
        )
        try:
            content = await discloser.disclose(request)
        except NotDisclosed as error:
            content = {REFUSED: str(error)}
        await asyncio.to_thread(write_durably, _answer(store, request.id), policy.encode(content) + b"\n")
        await asyncio.to_thread(path.unlink, missing_ok=True)
