"""The directory's secret: where it is, where it is not, and that all relays over one store have the same."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import primitives, proofs
from restante_crypto.directory import Kind
from restante_protocol import frames
from restante_server.config import SettingError
from restante_server.identity import Identity
from restante_server.oprf_key import OprfKey
from restante_server.purposes import Purpose
from restante_server.services.bulletin import Bulletin
from restante_server.services.directory import PUBLICATION
from restante_server.stores.contract import StoreRefused
from support import disk
from support.directories import OFFERED, consent, find, put_handle, read_handle
from support.relay import Owner, Peer, relay_in_process
from support.stores import MovedClock


def test_it_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "oprf.key"
    made = OprfKey.open(path, make=True)
    assert OprfKey.open(path, make=True) == OprfKey.open(path, make=False) == made
    assert [each.name for each in path.parent.iterdir()] == ["oprf.key"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().hex() not in repr(made)
    path.write_bytes(b"short")
    with pytest.raises(StoreRefused, match="not a key"):
        OprfKey.open(path, make=True)
    with pytest.raises(StoreRefused, match="--new-oprf-key"):
        OprfKey.open(tmp_path / "other", make=False)


def test_of_two_processes_that_make_it_both_have_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "oprf.key"
    other = os.urandom(32)
    link = os.link

    def late(source: Path, target: Path) -> None:
        path.write_bytes(other)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert OprfKey.open(path, make=True) == OprfKey(other)
    assert [each.name for each in tmp_path.iterdir()] == ["oprf.key"]


def test_what_is_under_it_opens_under_no_other() -> None:
    one, other = OprfKey(bytes(32)), OprfKey(bytes(31) + b"\x01")
    slot = one.slot("entry", b"mailbox", 5)
    assert slot != other.slot("entry", b"mailbox", 5) != one.slot("holder", b"mailbox", 5)
    assert one.open_sealed(slot, one.seal(slot, b"text")) == b"text"
    for key, where in ((other, slot), (one, one.slot("entry", b"another", 5))):
        with pytest.raises(primitives.AuthenticationError):
            key.open_sealed(where, one.seal(slot, b"text"))
    assert one.mark("a", b"bc", b"d") != one.mark("a", b"b", b"cd")
    assert one.decoy_record(slot) == one.decoy_record(slot) != other.decoy_record(slot)
    assert one.public().keys() == {"handle", "number"}
    assert one.pair(Kind.HANDLE).public != one.pair(Kind.NUMBER).public


async def test_it_is_neither_in_the_store_nor_in_a_backup(tmp_path: Path, cheap: None) -> None:
    folder = tmp_path / "relay"
    async with relay_in_process(folder, **OFFERED) as relay, await Peer.own(relay.url, Owner()) as alice:
        await consent(alice, Purpose.HANDLE)
        await put_handle(alice, folder, "alice")
        await asyncio.to_thread(disk.back_up, folder, tmp_path / "backup")
        seed = (folder / "oprf.key").read_bytes()
        files = disk.files(*disk.places(folder), tmp_path / "backup")
        assert [name for name, data in files.items() if seed in data] == [str(folder / "oprf.key")]


async def test_a_relay_with_another_key_or_none_does_not_start(tmp_path: Path, any_store: dict[str, Any]) -> None:
    path = tmp_path / "oprf.key"
    async with relay_in_process(tmp_path, **OFFERED, **any_store):
        pass
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(StoreRefused, match="is not there"):
        async with relay_in_process(tmp_path, **OFFERED, **any_store):
            pass
    assert not path.exists()
    path.write_bytes(os.urandom(32))
    with pytest.raises(StoreRefused, match="another key"):
        async with relay_in_process(tmp_path, **OFFERED, **any_store):
            pass
    path.write_bytes(kept)
    async with relay_in_process(tmp_path, **OFFERED, **any_store) as relay:
        _, published = await Bulletin(relay.store, Identity.open(tmp_path), MovedClock()).read(PUBLICATION)
        assert published == OprfKey(kept).public()


async def test_a_lost_key_is_an_empty_directory(tmp_path: Path, any_store: dict[str, Any], cheap: None) -> None:
    owner = Owner()
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await Peer.own(relay.url, owner) as alice,
    ):
        await consent(alice, Purpose.HANDLE)
        await put_handle(alice, tmp_path, "alice")
    (tmp_path / "oprf.key").unlink()
    for new in (True, False):
        async with (
            relay_in_process(tmp_path, new_oprf_key=new, **OFFERED, **any_store) as relay,
            await Peer.own(relay.url, owner) as alice,
            await Peer.connect(relay.url) as sender,
        ):
            entry = await find(alice, tmp_path, Kind.HANDLE, "alice")
            assert not isinstance(entry, frames.Error)
            assert await read_handle(sender, entry) == (None if new else b"again")
            assert isinstance(await put_handle(alice, tmp_path, "alice", b"again"), frames.Done)


async def test_what_was_offered_is_erased_with_its_mailbox_all_the_same(tmp_path: Path, cheap: None) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **OFFERED) as relay, await Peer.own(relay.url, owner) as alice:
        await consent(alice, Purpose.HANDLE)
        await put_handle(alice, tmp_path, "alice")
        entry = await find(alice, tmp_path, Kind.HANDLE, "alice")
        assert not isinstance(entry, frames.Error)
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, owner) as alice:
        assert (await find(alice, tmp_path, Kind.HANDLE, "alice")).code  # type: ignore[union-attr]
        assert await relay.store.get_slot(proofs.handle_slot_id(entry.place)) is not None
        await alice.ask(frames.MailboxDelete)
        assert await relay.store.get_slot(proofs.handle_slot_id(entry.place)) is None


async def test_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rbcl", None)
    with pytest.raises(SettingError, match="directory"):
        async with relay_in_process(tmp_path, purposes=("handle",)):
            pass
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingError, match="phone"):
        async with relay_in_process(tmp_path, purposes=("number",), sms="console"):
            pass
    async with relay_in_process(tmp_path, purposes=("handle",)):
        pass
