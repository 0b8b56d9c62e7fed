"""A relay without room, seen by its clients: it takes nothing more, and gives and deletes as before."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from support.plain_client import Answer, BlobOwner, PlainBlobs
from support.relay import Owner, Peer, relay_in_process


async def fill(sender: Peer, address: bytes, most: int) -> int:
    """Deposit until the relay says FULL; return how many it took."""
    for taken in range(most):
        answer = await sender.deposit([address], os.urandom(20_000))
        if isinstance(answer, frames.Error):
            assert answer.code == Code.FULL
            return taken
    raise AssertionError("never full")


async def test_the_operator_s_limit(tmp_path: Path) -> None:
    owner = Owner()
    async with (
        relay_in_process(tmp_path, max_store_bytes=400_000) as relay,
        await Peer.own(relay.url, owner) as receiver,
        await Peer.connect(relay.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        taken = await fill(sender, address, 20)
        assert taken > 3
        await receiver.subscribe()
        for _ in range(taken):
            (entry,) = await receiver.entries(1)
            await receiver.acknowledge(entry.sequence)
        while isinstance(await sender.deposit([address], bytes(20_000)), frames.Error):
            pass  # until the acknowledgement is written
        assert relay.metrics.refusals.labels("full")._value.get() > 0
        assert not relay.store.failed.is_set()


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10**12
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    owner = Owner()
    async with (
        relay_in_process(tmp_path) as relay,
        await Peer.own(relay.url, owner) as receiver,
        await Peer.connect(relay.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        blobs, kept = PlainBlobs(relay.url, sender.welcome.relay_key), BlobOwner()
        assert await blobs.put(kept, b"kept") == Answer(201)
        await sender.deposit([address], b"kept")
        free = 1_000_000
        assert await fill(sender, address, 1) == 0
        assert await blobs.put(BlobOwner(), b"more") == Answer(507, code=26)
        assert await blobs.get(kept.blob) == Answer(200, b"kept")
        await receiver.subscribe()
        (entry,) = await receiver.entries(1)
        await receiver.acknowledge(entry.sequence)
        assert await blobs.delete(kept) == Answer(204)
        free = 10**12
        assert isinstance(await sender.deposit([address], b"again"), frames.Deposited)
