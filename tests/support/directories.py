"""Somebody who uses a relay's directory in frames, and relays that have one."""

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import directory, oprf, primitives, proofs
from restante_crypto.directory import Cost, Entry, Kind
from restante_protocol import frames, limits
from restante_server import purposes
from restante_server.processors import Processor
from restante_server.purposes import Purpose
from restante_server.stores.contract import Store
from support.relay import Peer

CHEAP = Cost(operations=1, memory=8192)
"""Argon2id for tests: a relay or client that uses it finds nobody who does not."""
OFFERED: dict[str, Any] = {"purposes": ("handle", "number"), "sms": "console"}
NUMBERS = ["+447911123456", "+447911123457", "+4915112345678", "+8613800138000"]


async def consent(peer: Peer, purpose: Purpose, *named: Processor) -> None:
    """Grant a purpose, whose text names these processors."""
    answer = await peer.ask(lambda n: frames.ConsentPut(n, purpose, purposes.version(purpose, named)))
    assert isinstance(answer, frames.Done), answer


async def withdraw(peer: Peer, purpose: Purpose) -> None:
    assert isinstance(await peer.ask(lambda n: frames.ConsentPut(n, purpose, b"")), frames.Done)


def public(folder: Path, kind: Kind) -> bytes:
    """The key that a relay over this folder publishes."""
    return directory.key_pair((folder / "oprf.key").read_bytes(), kind).public


async def find(peer: Peer, folder: Path, kind: Kind, name: str) -> Entry | frames.Error:
    """Have a name evaluated, verified."""
    blinded = oprf.blind(oprf.Mode.VOPRF, name.encode(), os.urandom)
    answer = await peer.ask(lambda n: frames.Evaluate(n, kind, [blinded.element]))
    if isinstance(answer, frames.Error):
        return answer
    evaluation = oprf.Evaluation(tuple(answer.elements), answer.proof)
    (output,) = oprf.finalize_verified(public(folder, kind), [blinded], evaluation)
    return directory.entry(kind, output)


def sealed(entry: Entry, text: bytes) -> bytes:
    """A record as clients make them."""
    nonce = os.urandom(24)
    plain = (text + b"\x80").ljust(limits.DIRECTORY_RECORD_BYTES - 40, b"\x00")
    return nonce + primitives.xchacha_seal(entry.key, nonce, plain, entry.place)


def opened(entry: Entry, record: bytes) -> bytes | None:
    """What is in a record, if this entry's key opens it."""
    try:
        plain = primitives.xchacha_open(entry.key, record[:24], record[24:], entry.place)
    except primitives.AuthenticationError:
        return None
    return plain.rstrip(b"\x00")[:-1]


async def put_handle(peer: Peer, folder: Path, handle: str, text: bytes = b"invite") -> Any:  # noqa: ANN401 -- an answer
    entry = await find(peer, folder, Kind.HANDLE, handle)
    assert isinstance(entry, Entry)
    return await peer.ask(lambda n: frames.HandlePut(n, entry.place, sealed(entry, text)))


async def read_handle(sender: Peer, entry: Entry) -> bytes | None:
    """What is at a handle's place, for anybody."""
    slot = await sender.ask(lambda n: frames.SlotGet(n, proofs.handle_slot_id(entry.place)))
    return opened(entry, slot.body[-limits.DIRECTORY_RECORD_BYTES :]) if isinstance(slot, frames.Slot) else None


class Phones:
    """Telephones: what ``sms`` told them."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def code(self, number: str) -> str:
        """The last code that was sent to a number."""
        codes: list[str] = re.findall(rf"text message to {re.escape(number)}: (\d{{6}}) ", self._read())
        return codes[-1]


async def verify(peer: Peer, phones: Phones, number: str) -> Any:  # noqa: ANN401 -- an answer
    answer = await peer.ask(lambda n: frames.NumberClaim(n, number))
    if isinstance(answer, frames.Error):
        return answer
    code = phones.code(number)
    return await peer.ask(lambda n: frames.NumberConfirm(n, number, code))


async def put_number(peer: Peer, folder: Path, number: str, text: bytes = b"invite") -> Any:  # noqa: ANN401 -- an answer
    entry = await find(peer, folder, Kind.NUMBER, number)
    assert isinstance(entry, Entry), entry
    return await peer.ask(lambda n: frames.NumberPut(n, sealed(entry, text)))


async def bucket(peer: Peer, number: int) -> list[frames.DirectoryRecord]:
    """All records of a bucket, page by page."""
    records: list[frames.DirectoryRecord] = []
    while True:
        after = records[-1].place if records else b""
        answer = await peer.ask(lambda n: frames.NumbersGet(n, number, after))  # noqa: B023 -- asked at once
        assert isinstance(answer, frames.Numbers), answer
        records += answer.records
        if not answer.more:
            return records


async def read_number(peer: Peer, entry: Entry) -> bytes | None:
    """What is at a number's place, for who may look."""
    records = {each.place: each.record for each in await bucket(peer, entry.place[0])}
    return opened(entry, records[entry.place]) if entry.place in records else None


def before_putting(
    monkeypatch: pytest.MonkeyPatch, store: Store, slot: bytes, happens: Callable[[], Awaitable[None]]
) -> None:
    """Let something happen, once, right before a slot is written."""
    put, happened = store.put_slot, False

    async def late(asked: bytes, *arguments: Any) -> bool:  # noqa: ANN401 -- as the store takes them
        nonlocal happened
        if asked == slot and not happened:
            happened = True
            await happens()
        return await put(asked, *arguments)

    monkeypatch.setattr(store, "put_slot", late)
