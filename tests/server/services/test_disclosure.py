"""Handing data to others: logged first, only what is declared, and the owner is told. Over each kind of store."""

import ast
import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import restante_server
from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_server import disclosures, inventory
from restante_server.app import Relay
from restante_server.grounds import GROUNDS, Ground
from restante_server.identity import Identity
from restante_server.services.bulletin import LIFETIME
from restante_server.services.disclosure import (
    FIELDS,
    MAX_BAR,
    Discloser,
    NotDisclosed,
    Request,
    new_id,
)
from restante_server.services.hub import Hub
from restante_server.services.ledger import HEAD, NO_HASH, ChainBroken, Entry, Ledger, hash_of
from restante_server.stores.contract import Store
from support.people import person
from support.relay import Owner, Peer, relay_in_process
from support.stores import DAY, MovedClock
from support.waiting import until

FOLDER = Path(restante_server.__file__).parent
START_RELAY = Callable[..., AbstractAsyncContextManager[Relay]]


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> START_RELAY:
    """Start relays over one store."""
    settings: dict[str, Any] = {}
    if request.param != "sqlite":
        url = request.getfixturevalue("redis_url" if request.param == "redis" else "cluster_url")
        settings["redis"] = f"{url}?prefix=test-{os.urandom(8).hex()}"

    @asynccontextmanager
    async def run(**more: Any) -> AsyncIterator[Relay]:  # noqa: ANN401 -- settings
        async with relay_in_process(tmp_path / "relay", **settings, **more) as relay:
            yield relay

    return run


def asking(of: bytes, **changes: Any) -> Request:  # noqa: ANN401 -- fields
    request = Request(new_id(), Ground.LEGAL_DUTY, of, ("mailbox.id", "address.cap"), "A court", "file 1")
    return replace(request, **changes)


async def answer_to(folder: Path, request: Request) -> dict[str, Any]:
    """Leave a request for the relay that runs, and return its answer."""
    path = await asyncio.to_thread(disclosures.leave, folder / "relay.db", request)
    await until(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content: dict[str, Any] = json.loads(path.read_bytes())
    assert disclosures.refusal(path) == content.get("refused")
    path.unlink()
    return content


async def test_exactly_the_fields_are_handed_out_and_the_owner_is_told(start: START_RELAY, tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with start() as relay, person(tmp_path, "alice", relay.url) as alice:
        await alice.client.invite()
        await alice.client.drained()
        mailbox = alice.client._engine.mailbox
        content = await answer_to(folder, asking(mailbox))
        assert content["held"]["mailbox"] == [{"id": mailbox.hex()}]
        assert {name for row in content["held"]["address"] for name in row} == {"cap"}
        assert set(content["held"]) == {"mailbox", "address"}
        assert (content["number"], content["ground"], content["to"]) == (1, "legal-duty", "A court")
        await alice.until(lambda: len(alice.disclosed) == 1)
        told = alice.disclosed[0]
        assert (told.ground, told.to, told.reason, told.number) == ("legal-duty", "A court", "file 1", 1)
        assert told.fields == ("address.cap", "mailbox.id")
    async with start() as relay, person(tmp_path, "alice", relay.url) as alice:
        await answer_to(folder, asking(mailbox, ground=Ground.CONSENT, to="Another"))
        await alice.until(lambda: len(alice.disclosed) == 1)
        assert alice.disclosed[0].number == 2, "the first was told before"
        async with aiohttp.ClientSession() as http:
            async with http.get(relay.url + "/transparency.json") as response:
                shown = json.loads(await response.text())
            assert (shown["count"], shown["grounds"]) == (2, {"legal-duty": 1, "consent": 1})
            key = primitives.ed25519_public((folder / "relay.key").read_bytes())
            assert shown["slot"] == proofs.public_slot_id(key, HEAD).hex()
            for language in ("en", "zh"):
                async with http.get(f"{relay.url}/transparency?lang={language}") as response:
                    page = await response.text()
                    assert "Set-Cookie" not in response.headers
                async with http.get(f"{relay.url}/transparency.txt?lang={language}") as response:
                    text = await response.text()
                assert all(GROUNDS[ground][language] in page for ground in Ground)
                assert shown["head"] in page
                assert f"{GROUNDS[Ground.CONSENT][language]}: 1" in text
                assert "A court" not in page + text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fields": ("mailbox.id", "prekey.package")}, r"not declared for disclosure: prekey\.package"),
        ({"fields": ("mailbox.ip",)}, "not declared"),
        ({"fields": ()}, "no field"),
        ({"to": ""}, "1 to 1024"),
        ({"reason": "x" * 1025}, "1 to 1024"),
        ({"mailbox": b""}, "24 bytes"),
        ({"mailbox": bytes(24)}, "no such mailbox"),
        ({"barred_until": 2**40}, "bar ends"),
    ],
)
async def test_what_is_refused_is_not_logged(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path) as relay:
        async with await Peer.own(relay.url, owner):
            pass
        with pytest.raises(NotDisclosed, match=why):
            await discloser(relay.store, tmp_path).disclose(asking(owner.mailbox, **changes))
        ledger = Ledger(relay.store, Identity.open(tmp_path), MovedClock())
        await ledger.refresh()
        assert ledger.entries == []
        if "barred_until" not in changes and changes.get("mailbox") != bytes(24):
            with pytest.raises(NotDisclosed, match=why):
                disclosures.leave(tmp_path / "relay.db", asking(owner.mailbox, **changes))


def discloser(store: Store, folder: Path, clock: MovedClock | None = None) -> Discloser:
    identity, clock = Identity.open(folder), clock or MovedClock()
    return Discloser(store, identity, Ledger(store, identity, clock), Hub(frames.encode, None), clock)  # type: ignore[arg-type]  # counts nothing


async def test_the_running_relay_says_why_and_drops_what_is_no_letter(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path):
        (tmp_path / "relay.db.disclose-0").write_bytes(b"no letter")
        answer = await answer_to(tmp_path, asking(bytes(24)))
        assert answer == {"refused": "there is no such mailbox"}
        assert not (tmp_path / "relay.db.disclose-0").exists()


async def test_who_may_not_be_told_is_told_later(tmp_path: Path) -> None:
    clock, owner = MovedClock(), Owner()
    until = clock() // 1000 + DAY
    async with relay_in_process(tmp_path, clock=clock) as relay:
        async with await Peer.own(relay.url, owner) as peer:
            await peer.subscribe()
            await answer_to(tmp_path, asking(owner.mailbox, barred_until=until))
            await peer.ask(frames.Status)
            assert not any(isinstance(each, frames.Disclosed) for each in peer.pushed)
        async with await Peer.own(relay.url, owner) as peer:
            await peer.subscribe()
            await peer.ask(frames.Status)
            assert not any(isinstance(each, frames.Disclosed) for each in peer.pushed)
            clock.advance(DAY)
            await answer_to(tmp_path, asking(owner.mailbox, fields=("mailbox.last",)))
            told = [await disclosed(peer) for _ in range(2)]
            assert [entry.number for entry in told] == [1, 2]
        async with await Peer.own(relay.url, owner) as peer:
            await peer.subscribe()
            assert [(await disclosed(peer)).number for _ in range(2)] == [1, 2]


async def disclosed(peer: Peer) -> Entry:
    """Return the next notice's entry; its signature was checked."""
    import msgspec  # noqa: PLC0415 -- here alone

    while not isinstance(frame := await peer.next(), frames.Disclosed):
        pass
    return msgspec.json.decode(frame.entry, type=Entry)


async def test_a_notice_is_signed_for_this_mailbox(tmp_path: Path) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, owner) as peer:
        await peer.subscribe()
        await answer_to(tmp_path, asking(owner.mailbox))
        while not isinstance(frame := await peer.next(), frames.Disclosed):
            pass
        key = peer.welcome.relay_key
        assert primitives.ed25519_verify(key, proofs.disclosed_message(owner.mailbox, frame.entry), frame.signature)
        assert owner.mailbox.hex().encode() not in frame.entry


async def test_others_are_not_told(tmp_path: Path) -> None:
    one, other = Owner(), Owner()
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, other) as peer:
        await peer.subscribe()
        async with await Peer.own(relay.url, one):
            await answer_to(tmp_path, asking(one.mailbox))
        await peer.ask(frames.Status)
        assert not any(isinstance(each, frames.Disclosed) for each in peer.pushed)


# The log.


@dataclass
class Log:
    """A log of three disclosures, of two relays over one store."""

    store: Store
    identity: Identity
    clock: MovedClock

    def ledger(self) -> Ledger:
        return Ledger(self.store, self.identity, self.clock)

    def draft(self, number: int) -> Entry:
        fields = ["mailbox.id"]
        return Entry(0, f"{number:032x}", 1, "consent", "A", "b", fields, bytes(32).hex(), 0, "")

    async def slot(self, number: int, body: bytes) -> None:
        slot = self.identity.ledger_slot(number)
        await self.store.delete_slot(slot)
        assert await self.store.put_slot(slot, 1, DAY, body)


@pytest.fixture
async def log(start: START_RELAY, tmp_path: Path) -> AsyncIterator[Log]:
    async with start() as relay:
        log = Log(relay.store, Identity.open(tmp_path / "relay"), MovedClock())
        one, two = log.ledger(), log.ledger()
        await one.append(log.draft(1))
        await two.append(log.draft(2))
        await one.append(log.draft(3))
        yield log


async def test_relays_append_in_turn_and_the_same_request_once(log: Log) -> None:
    ledger = log.ledger()
    await ledger.refresh()
    assert [entry.number for entry in ledger.entries] == [1, 2, 3]
    assert ledger.entries[0].previous == NO_HASH
    assert (await ledger.append(log.draft(2))).number == 2
    await asyncio.gather(*(log.ledger().append(log.draft(number)) for number in range(10, 16)))
    await ledger.refresh()
    assert sorted(entry.id for entry in ledger.entries[3:]) == [f"{number:032x}" for number in range(10, 16)]
    await ledger.keep()


async def test_an_entry_that_was_begun_is_completed(log: Log) -> None:
    import msgspec  # noqa: PLC0415 -- here alone

    ledger = log.ledger()
    await ledger.refresh()
    begun = msgspec.structs.replace(log.draft(4), number=4, previous=ledger._head())
    await log.store.put_slot(log.identity.ledger_slot(4), 1, LIFETIME, msgspec.json.encode(begun))
    assert (await ledger.append(log.draft(5))).number == 5
    assert ledger.entries[3].id == begun.id


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_an_entry_that_is_changed_or_missing_is_noticed(log: Log, number: int) -> None:
    known = log.ledger()
    await known.refresh()
    stored = await log.store.get_slot(log.identity.ledger_slot(number))
    assert stored is not None
    await log.slot(number, stored.body.replace(b'"to":"A"', b'"to":"B"'))
    for ledger in (log.ledger(), known):
        with pytest.raises(ChainBroken):
            await ledger.keep()
    for wrong in (b"{}", b'{"number":9}'):
        await log.slot(number, wrong)
        with pytest.raises(ChainBroken, match=f"entry {number} is none"):
            await log.ledger().refresh()
    await log.store.delete_slot(log.identity.ledger_slot(number))
    with pytest.raises(ChainBroken, match="missing"):
        await log.ledger().append(log.draft(9))
    await log.slot(number, stored.body)
    await known.keep()


async def test_a_head_that_is_changed_or_set_back_is_noticed(log: Log) -> None:
    known = log.ledger()
    await known.refresh()
    slot = proofs.public_slot_id(log.identity.public, HEAD)
    head = await log.store.get_slot(slot)
    assert head is not None
    await log.store.put_slot(slot, head.version + 1, DAY, bytes(64) + head.body[64:])
    with pytest.raises(ChainBroken, match="another key"):
        await log.ledger().refresh()
    content = json.loads(head.body[64:])
    for change in ({"count": 2}, {"head": hash_of(b"another")}, {"grounds": {"contract": 3}}):
        body = json.dumps({**content, **change}).encode()
        await log.store.delete_slot(slot)
        await log.store.put_slot(slot, 1, DAY, log.identity.publish(slot, 1, body) + body)
        with pytest.raises(ChainBroken):
            await log.ledger().refresh()
        with pytest.raises(ChainBroken):
            await known.refresh()


async def test_nothing_is_handed_out_once_the_log_was_tampered_with(tmp_path: Path) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, owner):
        assert "refused" not in await answer_to(tmp_path, asking(owner.mailbox))
        slot = Identity.open(tmp_path).ledger_slot(1)
        await relay.store.delete_slot(slot)
    async with relay_in_process(tmp_path):  # it starts, and says so in its log
        answer = await answer_to(tmp_path, asking(owner.mailbox))
        assert "tampered" in answer["refused"]


async def test_an_id_is_for_one_request(tmp_path: Path) -> None:
    owner, other = Owner(), Owner()
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, owner), await Peer.own(relay.url, other):
        made = discloser(relay.store, tmp_path)
        first = asking(owner.mailbox)
        assert await made.disclose(first) == await made.disclose(first)
        with pytest.raises(NotDisclosed, match="another request"):
            await made.disclose(replace(first, mailbox=other.mailbox))


async def test_an_entry_has_its_bounds(log: Log) -> None:
    import msgspec  # noqa: PLC0415 -- here alone

    draft = msgspec.structs.replace(log.draft(1), id="f" * 32, reason="x" * 9000)
    with pytest.raises(ValueError, match="not taken"):
        await log.ledger().append(draft)
    assert "A" not in repr(draft)[1:]
    assert MAX_BAR > DAY


# No other way.


def users(name: str) -> set[str]:
    """Return the modules that use an attribute of this name."""
    return {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == name
    }


def test_no_other_code_hands_data_out() -> None:
    """The owner's own export, the disclosure, backup and migration: nothing else asks a store for what it holds."""
    parts = "services/directory.py"  # puts together what the receiver asks for
    assert users("holdings") == {"services/receiver.py", "services/disclosure.py", parts}
    assert users("records") == {"stores/migration.py"}
    assert users("disclose") == {"disclosures.py"}
    assert users("backup") == {"__main__.py", "stores/backup.py"}


def test_what_may_be_disclosed_is_declared() -> None:
    assert set(GROUNDS) == set(Ground)
    assert {name.partition(".")[0] for name in FIELDS} == {"mailbox", "address", "payload"}
    assert {item.name for item in inventory.ITEMS if item.exported} > FIELDS
