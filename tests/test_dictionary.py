"""A copy of the store without the directory's secret, and a dictionary of a million numbers and a million handles.

Whoever has store, backup and relay key, but not ``oprf.key``, has nothing to try a name with: the first test hashes all
names without a secret, and under the relay's key, and looks for each anywhere in the files. The second goes the true
way, OPRF and (cheap) Argon2id: under the right key the one true name fits its record, under any other key none of the
dictionary does. ``--dictionary 1000000`` tries all of it there, at 0.2 ms a name. With the real Argon2id, some 80 ms, a
million names are a day of one core, for whoever has the secret as well.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from restante_crypto import directory, oprf, primitives, proofs
from restante_crypto.directory import Kind
from restante_protocol import limits
from restante_server.oprf_key import MARK_BYTES, OprfKey
from restante_server.purposes import Purpose
from support import disk
from support.directories import OFFERED, Phones, consent, opened, put_handle, put_number, verify
from support.relay import Owner, Peer, relay_in_process

MILLION = 1_000_000
NUMBER, HANDLE = "+447911123456", "user654321"
SEEN = 8  # bytes of a hash: no other begins like it by chance


def names(kind: Kind, count: int = MILLION) -> Iterator[bytes]:
    """The dictionary, the true name among the first thousand and where it is."""
    yield (NUMBER if kind is Kind.NUMBER else HANDLE).encode()
    for number in range(count):
        yield b"+44791%d" % (MILLION + number) if kind is Kind.NUMBER else b"user%d" % number


@dataclass
class Stolen:
    """What a thief has, and what he lacks."""

    folder: Path
    slots: dict[bytes, bytes]
    relay_key: bytes
    secret: bytes


@pytest.fixture
async def stolen(tmp_path: Path, cheap: None, phones: Phones) -> Stolen:
    """A backup of a relay whose directory has one handle and one number."""
    folder = tmp_path / "relay"
    async with relay_in_process(folder, **OFFERED) as relay, await Peer.own(relay.url, Owner()) as peer:
        for purpose in (Purpose.HANDLE, Purpose.NUMBER):
            await consent(peer, purpose)
        await put_handle(peer, folder, HANDLE)
        await verify(peer, phones, NUMBER)
        await put_number(peer, folder, NUMBER)
        await asyncio.to_thread(disk.back_up, folder, tmp_path / "stolen")
        slots = await asyncio.to_thread(disk.slots, folder)
    return Stolen(tmp_path / "stolen", slots, (folder / "relay.key").read_bytes(), (folder / "oprf.key").read_bytes())


@pytest.mark.database_file
def test_nothing_in_the_copy_can_be_made_from_a_name(stolen: Stolen) -> None:
    files = [path.read_bytes() for path in stolen.folder.rglob("*") if path.is_file()]
    assert not any(stolen.secret in data for data in files)
    there = {data[at : at + SEEN] for data in files for at in range(len(data) - SEEN + 1)}
    key = primitives.blake2b(stolen.relay_key, size=32, person=b"restante names")
    sha256, blake2b = hashlib.sha256, hashlib.blake2b
    assert sha256(stolen.relay_key).digest()[:SEEN] not in there
    for kind in Kind:
        for name in names(kind):
            hashed = sha256(name).digest()[:SEEN]
            keyed = blake2b(name, digest_size=23, person=b"restante names", key=key).digest()[:SEEN]
            assert hashed not in there, name
            assert keyed not in there, name


def test_only_the_secret_tells_a_name_from_the_others(stolen: Stolen, request: pytest.FixtureRequest) -> None:
    count = int(request.config.getoption("--dictionary"))
    slots = stolen.slots
    assert matches(stolen.secret, slots, 100) == {HANDLE.encode(), NUMBER.encode()}, "who has it can try all names"
    assert matches(os.urandom(32), slots, count) == set()
    assert matches(stolen.relay_key, slots, 100) == set()


def matches(secret: bytes, slots: dict[bytes, bytes], count: int) -> set[bytes]:
    """Return the names of the dictionary that fit a record of the store, if this is the secret."""
    key, found = OprfKey(secret), set()
    for kind in Kind:
        pair = key.pair(kind)
        for name in names(kind, count):
            entry = directory.entry(kind, oprf.evaluate(pair, name))
            if kind is Kind.HANDLE:
                body = slots.get(proofs.handle_slot_id(entry.place), b"")[MARK_BYTES:]
            else:
                body = slots.get(key.slot("record", entry.place, entry.place[0]), b"")
            if len(body) == limits.DIRECTORY_RECORD_BYTES and opened(entry, body) == b"invite":
                found.add(name)
    return found
