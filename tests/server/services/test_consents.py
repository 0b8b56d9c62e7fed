"""Consents over the wire, on each store: off until granted, in the version offered, and gone when withdrawn."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_SLOT_LIFETIME
from restante_server import purposes
from restante_server.app import Relay
from restante_server.errors import Refused
from restante_server.identity import Identity
from restante_server.purposes import Purpose
from restante_server.services.consents import Consents
from restante_server.services.erasure import Eraser
from restante_server.stores import backup as backups
from restante_server.stores.tombstones import Journal
from support.relay import Owner, Peer, relay_in_process
from support.stores import MovedClock

HANDLE = purposes.version(Purpose.HANDLE)
OFFERED = ("handle", "push", "news")


def over(relay: Relay, folder: Path, offered: tuple[Purpose, ...] = (Purpose.HANDLE,)) -> Consents:
    """The service over a running relay's store."""
    identity, clock = Identity.open(folder), MovedClock()
    return Consents(relay.store, identity, Eraser(relay.store, identity, clock, Journal(folder)), offered, clock)


async def put(peer: Peer, purpose: str, version: bytes) -> Any:  # noqa: ANN401 -- an answer
    return await peer.ask(lambda n: frames.ConsentPut(n, purpose, version))


async def granted(peer: Peer) -> list[tuple[str, bytes]]:
    answer = await peer.ask(frames.ConsentGet)
    return [(each.purpose, each.version) for each in answer.consents]


async def test_off_until_granted_and_withdrawn_again(tmp_path: Path, any_store: dict[str, Any]) -> None:
    owner, other = Owner(), Owner(bucket=100)
    async with relay_in_process(tmp_path, purposes=OFFERED, **any_store) as relay:
        consents = over(relay, tmp_path)
        async with await Peer.own(relay.url, owner) as peer, await Peer.own(relay.url, other) as beside:
            assert await granted(peer) == []
            with pytest.raises(Refused) as caught:
                await consents.require(owner.mailbox, Purpose.HANDLE)
            assert caught.value.code == Code.NO_CONSENT
            for _ in range(2):
                assert isinstance(await put(peer, "handle", HANDLE), frames.Done)
            assert await granted(peer) == [("handle", HANDLE)]
            await consents.require(owner.mailbox, Purpose.HANDLE)
            for mailbox, purpose in ((other.mailbox, Purpose.HANDLE), (owner.mailbox, Purpose.PUSH)):
                with pytest.raises(Refused):
                    await consents.require(mailbox, purpose)
            assert await granted(beside) == []
            for _ in range(2):
                assert isinstance(await put(peer, "handle", b""), frames.Done)
            assert await granted(peer) == []
            with pytest.raises(Refused):
                await consents.require(owner.mailbox, Purpose.HANDLE)


@pytest.mark.parametrize(
    ("purpose", "version", "code"),
    [
        ("number", purposes.version(Purpose.NUMBER), Code.NOT_FOUND),
        ("news", purposes.version(Purpose.NEWS), Code.NOT_FOUND),
        ("other", bytes(8), Code.NOT_FOUND),
        ("handle", bytes(8), Code.CONFLICT),
    ],
    ids=["not offered", "the client's own", "unknown", "another version"],
)
async def test_only_what_is_offered_is_granted(tmp_path: Path, purpose: str, version: bytes, code: Code) -> None:
    async with relay_in_process(tmp_path, purposes=OFFERED) as relay, await Peer.own(relay.url, Owner()) as peer:
        assert (await put(peer, purpose, version)).code == code
        assert await granted(peer) == []
        assert isinstance(await put(peer, purpose, b""), frames.Done), "who has nothing to withdraw has withdrawn"


async def test_without_a_mailbox_nothing_is_granted(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, purposes=OFFERED) as relay:
        peer = await Peer.own(relay.url, Owner(), create=False)
        async with peer:
            assert (await put(peer, "handle", HANDLE)).code == Code.NO_MAILBOX


async def test_what_says_something_else_now_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, purposes=OFFERED) as relay, await Peer.own(relay.url, owner) as peer:
        await put(peer, "handle", HANDLE)
        monkeypatch.setattr(purposes, "version", lambda *_: b"changed!")
        with pytest.raises(Refused):
            await over(relay, tmp_path).require(owner.mailbox, Purpose.HANDLE)
        with pytest.raises(Refused):
            await over(relay, tmp_path, ()).require(owner.mailbox, Purpose.HANDLE)


@pytest.mark.database_file
async def test_a_withdrawal_erases_what_is_held_and_an_older_backup_does_not_bring_it_back(tmp_path: Path) -> None:
    folder, owner = tmp_path / "relay", Owner()
    slot = Identity.open(folder).consent(owner.mailbox, "handle")
    erased: list[bytes] = []

    async def erase(mailbox: bytes) -> None:
        erased.append(mailbox)

    async with relay_in_process(folder, purposes=OFFERED) as relay:
        async with await Peer.own(relay.url, owner) as peer:
            await put(peer, "handle", HANDLE)
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "older")
        consents = over(relay, folder)
        consents.on_withdrawal(Purpose.HANDLE, erase)
        await consents.withdraw(owner.mailbox, "handle")
        assert erased == [owner.mailbox]
        assert holding(folder, slot) == set()
        assert holding(tmp_path / "older", slot) == {"relay.db"}, "the search finds"
        await consents.erase(owner.mailbox)
        assert erased == [owner.mailbox] * 2, "the mailbox is erased"
    backups.restore(tmp_path / "older", folder / "relay.db", force=True)
    assert holding(folder, slot) == set()


def holding(folder: Path, needle: bytes) -> set[str]:
    """Return the names of the files that hold these bytes."""
    return {path.name for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()}


async def test_the_mailboxs_end_is_the_consents(tmp_path: Path, any_store: dict[str, Any]) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, purposes=OFFERED, **any_store) as relay:
        slot = Identity.open(tmp_path).consent(owner.mailbox, "handle")
        async with await Peer.own(relay.url, owner) as peer:
            await put(peer, "handle", HANDLE)
            assert await relay.store.get_slot(slot) is not None
            exported = [each for each in await export(peer) if each.name.startswith("consent.")]
            assert {(each.name, each.value) for each in exported} > {
                ("consent.purpose", b"handle"),
                ("consent.version", HANDLE),
            }
            assert isinstance(await peer.ask(frames.MailboxDelete), frames.Erased)
        assert await relay.store.get_slot(slot) is None


async def export(peer: Peer) -> list[frames.Held]:
    held: list[frames.Held] = []
    after = b""
    while True:
        part = await peer.ask(lambda n, after=after: frames.Export(n, after))
        held += part.held
        after = part.after
        if not after:
            return held


async def test_a_consent_lapses_unless_it_is_put_again(tmp_path: Path) -> None:
    owner, clock = Owner(), MovedClock()
    async with (
        relay_in_process(tmp_path, purposes=OFFERED, clock=clock) as relay,
        await Peer.own(relay.url, owner) as peer,
    ):
        for _ in range(2):
            await put(peer, "handle", HANDLE)
            clock.advance(MAX_SLOT_LIFETIME - 1)
        assert await granted(peer) == [("handle", HANDLE)]
        clock.advance(1)
        assert await granted(peer) == []


async def test_a_store_without_the_key_says_nothing_about_who_granted_what(tmp_path: Path) -> None:
    owner = Owner()
    one, other = Identity.open(tmp_path / "one"), Identity.open(tmp_path / "other")
    ids = {each.consent(owner.mailbox, purpose) for each in (one, other) for purpose in Purpose}
    assert len(ids) == 2 * len(Purpose)
    assert {len(each) for each in ids} == {24}
    assert {each[0] for each in ids} == {owner.bucket}
