"""Handles over the wire, on each store."""

from pathlib import Path
from typing import Any

import pytest

from restante_crypto import proofs
from restante_crypto.directory import Entry, Kind
from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_server.purposes import Purpose
from restante_server.services import budgets, handles
from restante_server.services.budgets import KEPT, Budgets, Pace
from support.directories import OFFERED, before_putting, consent, find, put_handle, read_handle, sealed, withdraw
from support.relay import Owner, Peer, relay_in_process
from support.stores import MovedClock

pytestmark = pytest.mark.usefixtures("cheap")


async def granted(url: str, owner: Owner) -> Peer:
    peer = await Peer.own(url, owner)
    await consent(peer, Purpose.HANDLE)
    return peer


def entry_of(found: Entry | frames.Error) -> Entry:
    assert isinstance(found, Entry), found
    return found


async def test_who_knows_the_exact_handle_finds_its_record(tmp_path: Path, any_store: dict[str, Any]) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner()) as alice,
        await granted(relay.url, Owner(100)) as bob,
        await Peer.connect(relay.url) as sender,
    ):
        assert isinstance(await put_handle(alice, tmp_path, "alice", b"an invite"), frames.Done)
        found = entry_of(await find(bob, tmp_path, Kind.HANDLE, "alice"))
        assert await read_handle(sender, found) == b"an invite"
        for other in ("alicf", "alic", "alice ", "Alice"):
            assert await read_handle(sender, entry_of(await find(bob, tmp_path, Kind.HANDLE, other))) is None


async def test_the_first_has_it_and_may_change_it_and_nobody_else(tmp_path: Path, any_store: dict[str, Any]) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner()) as alice,
        await granted(relay.url, Owner(100)) as bob,
        await Peer.connect(relay.url) as sender,
    ):
        assert isinstance(await put_handle(alice, tmp_path, "alice"), frames.Done)
        assert (await put_handle(bob, tmp_path, "alice", b"forged")).code == Code.CONFLICT
        assert isinstance(await put_handle(bob, tmp_path, "bob"), frames.Done)
        assert (await put_handle(bob, tmp_path, "alice", b"forged")).code == Code.CONFLICT
        found = {name: entry_of(await find(bob, tmp_path, Kind.HANDLE, name)) for name in ("alice", "bob", "alix")}
        assert isinstance(await put_handle(alice, tmp_path, "alice", b"changed"), frames.Done)
        assert await read_handle(sender, found["alice"]) == b"changed"
        assert isinstance(await put_handle(alice, tmp_path, "alix", b"moved"), frames.Done)
        assert await read_handle(sender, found["alice"]) is None, "one has one"
        assert await read_handle(sender, found["alix"]) == b"moved"
        assert await read_handle(sender, found["bob"]) == b"invite"
        assert isinstance(await put_handle(bob, tmp_path, "alice", b"free again"), frames.Done)
        assert await read_handle(sender, found["alice"]) == b"free again"


@pytest.mark.parametrize("how", ["delete", "withdraw", "erase"])
async def test_it_is_erased(tmp_path: Path, any_store: dict[str, Any], how: str) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED, **any_store) as relay,
        await granted(relay.url, Owner(100)) as bob,
        await Peer.connect(relay.url) as sender,
    ):
        async with await granted(relay.url, Owner()) as alice:
            await put_handle(alice, tmp_path, "alice")
            found = entry_of(await find(bob, tmp_path, Kind.HANDLE, "alice"))
            assert await read_handle(sender, found) == b"invite"
            if how == "withdraw":
                await withdraw(alice, Purpose.HANDLE)
                assert (await put_handle_at(alice, found)).code == Code.NO_CONSENT
            else:
                assert not isinstance(
                    await alice.ask(frames.HandleDelete if how == "delete" else frames.MailboxDelete), frames.Error
                )
        assert await read_handle(sender, found) is None
        assert isinstance(await put_handle(bob, tmp_path, "alice"), frames.Done)


async def put_handle_at(peer: Peer, entry: Entry) -> Any:  # noqa: ANN401 -- an answer
    return await peer.ask(lambda n: frames.HandlePut(n, entry.place, sealed(entry, b"invite")))


@pytest.mark.parametrize("how", ["withdraw", "delete"])
async def test_erasing_while_it_is_put_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    owner = Owner()
    async with (
        relay_in_process(tmp_path, **OFFERED) as relay,
        await granted(relay.url, owner) as alice,
        await granted(relay.url, owner) as elsewhere,
    ):
        entry = entry_of(await find(alice, tmp_path, Kind.HANDLE, "alice"))

        async def erase() -> None:
            if how == "withdraw":
                await withdraw(elsewhere, Purpose.HANDLE)
            else:
                await elsewhere.ask(frames.HandleDelete)

        before_putting(monkeypatch, relay.store, proofs.handle_slot_id(entry.place), erase)
        assert isinstance(await put_handle_at(alice, entry), frames.Error) == (how == "withdraw")
        assert await relay.store.get_slot(proofs.handle_slot_id(entry.place)) is None


async def test_of_two_at_once_one_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        relay_in_process(tmp_path, **OFFERED) as relay,
        await granted(relay.url, Owner()) as alice,
        await granted(relay.url, Owner(100)) as bob,
        await Peer.connect(relay.url) as sender,
    ):
        entry = entry_of(await find(alice, tmp_path, Kind.HANDLE, "alice"))

        async def faster() -> None:
            assert isinstance(await put_handle(bob, tmp_path, "alice", b"bob's"), frames.Done)

        before_putting(monkeypatch, relay.store, proofs.handle_slot_id(entry.place), faster)
        assert (await put_handle_at(alice, entry)).code == Code.CONFLICT
        assert await read_handle(sender, entry) == b"bob's"
        assert isinstance(await alice.ask(frames.HandleDelete), frames.Done)
        assert await read_handle(sender, entry) == b"bob's"


async def test_without_consent_nothing_is_done(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, **OFFERED) as relay, await Peer.own(relay.url, Owner()) as peer:
        for kind in Kind:
            assert (await find(peer, tmp_path, kind, "alice")).code == Code.NO_CONSENT  # type: ignore[union-attr]
        assert (await put_handle_at(peer, Entry(place=bytes(24), key=bytes(32)))).code == Code.NO_CONSENT  # type: ignore[arg-type]
    async with relay_in_process(tmp_path / "without") as relay, await Peer.own(relay.url, Owner()) as peer:
        assert (await peer.ask(frames.HandleDelete)).code == Code.NO_CONSENT
        assert not (tmp_path / "without" / "oprf.key").exists()


async def test_guessing_beyond_the_budget_is_refused_and_the_budget_comes_back(tmp_path: Path) -> None:
    clock = MovedClock()
    owner = Owner()
    async with relay_in_process(tmp_path, clock=clock, **OFFERED) as relay:
        async with await granted(relay.url, owner) as peer:
            for number in range(limits.HANDLE_EVALUATIONS):
                entry_of(await find(peer, tmp_path, Kind.HANDLE, f"guess {number}"))
            refused = await find(peer, tmp_path, Kind.HANDLE, "one more")
            assert isinstance(refused, frames.Error)
            assert refused.code == Code.BUDGET
        async with await granted(relay.url, owner) as again:
            assert (await find(again, tmp_path, Kind.HANDLE, "again")).code == Code.BUDGET  # type: ignore[union-attr]
            assert (await put_handle_at(again, Entry(place=bytes(24), key=bytes(32)))).code == Code.BUDGET  # type: ignore[arg-type]
            clock.advance(limits.HANDLE_EVALUATION_SECONDS)
            entry_of(await find(again, tmp_path, Kind.HANDLE, "later"))
            assert (await find(again, tmp_path, Kind.HANDLE, "again")).code == Code.BUDGET  # type: ignore[union-attr]
        async with await granted(relay.url, Owner(100)) as other:
            entry_of(await find(other, tmp_path, Kind.HANDLE, "another's budget"))


async def test_all_mailboxes_together_have_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "HANDLE_EVALUATIONS", 3)
    async with relay_in_process(tmp_path, clock=MovedClock(), **OFFERED) as relay:
        for bucket in range(3):
            async with await granted(relay.url, Owner(bucket)) as peer:
                entry_of(await find(peer, tmp_path, Kind.HANDLE, "guess"))
        async with await granted(relay.url, Owner(9)) as peer:
            assert (await find(peer, tmp_path, Kind.HANDLE, "guess")).code == Code.BUDGET  # type: ignore[union-attr]


async def test_what_is_no_element_is_refused(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, **OFFERED) as relay, await granted(relay.url, Owner()) as peer:
        for element in (bytes(32), b"\xff" * 32):
            answer = await peer.ask(lambda n, e=element: frames.Evaluate(n, Kind.HANDLE, [e]))
            assert answer.code == Code.LIMIT


async def test_it_lapses_unless_it_is_renewed(tmp_path: Path) -> None:
    clock = MovedClock()
    async with (
        relay_in_process(tmp_path, clock=clock, **OFFERED) as relay,
        await granted(relay.url, Owner()) as alice,
        await Peer.connect(relay.url) as sender,
    ):
        entry = entry_of(await find(alice, tmp_path, Kind.HANDLE, "alice"))
        for _ in range(2):
            await consent(alice, Purpose.HANDLE)
            assert isinstance(await put_handle_at(alice, entry), frames.Done)
            clock.advance(limits.MAX_SLOT_LIFETIME - 10)
            assert await read_handle(sender, entry) == b"invite"
        clock.advance(20)
        assert await read_handle(sender, entry) is None


def test_budgets_fill_again_and_the_oldest_are_forgotten() -> None:
    made = Budgets(Pace(units=2, seconds=10))
    assert [made.take(b"one", 0) for _ in range(3)] == [True, True, False]
    assert made.take(b"two", 0, 2)
    assert not made.take(b"three", 0, 3)
    assert [made.take(b"one", 10_000) for _ in range(2)] == [True, False]
    made.trim(15_000)
    assert made._full_at.keys() == {b"one", b"two"}
    made.trim(20_000)
    assert made._full_at.keys() == {b"one"}
    assert budgets.KEPT == KEPT


def test_budgets_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "KEPT", 4)
    made = Budgets(Pace(units=2, seconds=10))
    for name in range(5):
        assert made.take(bytes([name]), 0)
    assert list(made._full_at) == [b"\x03", b"\x04"]
