"""Pushes over the wire, on each store: to whom, when, how often, and what is kept for it."""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_SLOT_LIFETIME
from restante_server import logs, processors, purposes
from restante_server.app import Relay
from restante_server.config import PUSH_MOST_REST, PushPace
from restante_server.identity import Identity
from restante_server.metrics import OUTCOMES
from restante_server.processors import WakeUp
from restante_server.purposes import Purpose
from restante_server.push_key import PushKey
from restante_server.services import budgets
from restante_server.services import push as module
from restante_server.stores import backup as backups
from restante_server.stores.contract import StoreUnavailable
from support.directories import before_putting
from support.push_service import PushService, grant, push_service, verified, wake_at
from support.relay import Owner, Peer, relay_in_process
from support.stores import MovedClock

SOON = PushPace(0.0, 0.0, 0)
ONCE = PushPace(0.0, 0.0, 3600)
NEVER = PushPace(3600.0, 3600.0, 0)  # but at the relay's end


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    async with push_service() as running:
        yield running


def settings(service: PushService, pace: PushPace = SOON, **others: Any) -> dict[str, Any]:  # noqa: ANN401 -- of a relay
    more = {"processors": (service.declaration,), "push_private": True, "push_pace": pace}
    return {"purposes": ("push",), **more, **others}


async def sleeper(relay: Relay, service: PushService, owner: Owner | None = None, name: str = "device") -> bytes:
    """Somebody who is to be woken, and has gone; return an address of theirs."""
    owner = owner or Owner()
    async with await Peer.own(relay.url, owner) as peer:
        await wake_at(peer, service, service.endpoint(name))
        return await peer.add_address(owner.address())


async def deposit(relay: Relay, *addresses: bytes, flags: int = 0) -> None:
    async with await Peer.connect(relay.url) as sender:
        assert (await sender.deposit(list(addresses), flags=flags)).failed == []


async def put(peer: Peer, endpoint: str) -> Any:  # noqa: ANN401 -- an answer
    return await peer.ask(lambda n: frames.PushPut(n, endpoint))


async def endpoint_of(peer: Peer) -> str:
    answer = await peer.ask(frames.PushGet)
    assert isinstance(answer, frames.Push)
    return answer.endpoint


async def exported(peer: Peer) -> dict[str, bytes | int]:
    """What the owner is told of push."""
    held: dict[str, bytes | int] = {}
    after, more = b"", True
    while more:
        part = await peer.ask(lambda n: frames.Export(n, after))  # noqa: B023 -- asked at once
        held |= {each.name: each.value for each in part.held if each.name.startswith("push.")}
        after, more = part.after, bool(part.after)
    return held


def slot_of(folder: Path, owner: Owner, what: str = "endpoint") -> bytes:
    return PushKey.of(Identity.open(folder)).slot(what, owner.mailbox)


# Endpoints.


async def test_an_endpoint_is_put_changed_told_and_deleted(
    tmp_path: Path, any_store: dict[str, Any], service: PushService
) -> None:
    owner = Owner()
    async with (
        relay_in_process(tmp_path, **settings(service), **any_store) as relay,
        await Peer.own(relay.url, owner) as peer,
        await Peer.own(relay.url, Owner(bucket=100)) as other,
    ):
        assert (await put(peer, service.endpoint("one"))).code == Code.NO_CONSENT
        await grant(peer, service)
        assert await endpoint_of(peer) == ""
        for name in ("one", "two"):
            assert isinstance(await put(peer, service.endpoint(name)), frames.Done)
            assert await endpoint_of(peer) == service.endpoint(name)
        assert await endpoint_of(other) == "", "everybody has their own"
        assert await exported(peer) == {"push.endpoint": service.endpoint("two").encode(), "push.rest": 0}
        assert await exported(other) == {}
        for _ in range(2):
            assert isinstance(await peer.ask(frames.PushDelete), frames.Done)
        assert await endpoint_of(peer) == ""
        assert await relay.store.get_slot(slot_of(tmp_path, owner)) is None


async def test_only_endpoints_at_declared_services_are_taken(tmp_path: Path, service: PushService) -> None:
    declared = "push=Example Push;Iceland;agreement;push.example.net 10.0.0.1"
    chosen = settings(service, processors=(declared,), push_private=False)
    async with relay_in_process(tmp_path, **chosen) as relay, await Peer.own(relay.url, Owner()) as peer:
        version = purposes.version(Purpose.PUSH, [processors.parse(declared)])
        await peer.ask(lambda n: frames.ConsentPut(n, "push", version))
        for endpoint, code in (
            ("https://elsewhere.net/a", Code.NOT_FOUND),
            ("https://push.example.net:8443/a", Code.NOT_FOUND),
            ("http://push.example.net/a", Code.LIMIT),
            ("https://10.0.0.1/a", Code.LIMIT),
            ("no URL", Code.LIMIT),
            ("https://push.example.net/é", Code.LIMIT),
        ):
            assert (await put(peer, endpoint)).code == code, endpoint
        assert isinstance(await put(peer, "https://push.example.net/a"), frames.Done)


async def test_a_relay_that_does_not_offer_it_takes_none_and_erases_what_it_had(
    tmp_path: Path, service: PushService
) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service, owner)
    async with relay_in_process(tmp_path) as relay:
        await deposit(relay, address)
        async with await Peer.own(relay.url, owner) as peer:
            assert (await put(peer, service.endpoint("device"))).code == Code.NO_CONSENT
            await peer.ask(lambda n: frames.ConsentPut(n, "push", b""))
            assert await endpoint_of(peer) == ""
    assert service.pushes == []


@pytest.mark.database_file
async def test_a_withdrawal_erases_the_endpoint_and_an_older_backup_does_not_bring_it_back(
    tmp_path: Path, service: PushService
) -> None:
    folder, owner = tmp_path / "relay", Owner()
    slots = [slot_of(folder, owner, what) for what in ("endpoint", "rest")]

    def holding(place: Path) -> set[bytes]:
        data = b"".join(path.read_bytes() for path in place.rglob("relay.db*") if path.is_file())
        assert b"/wake/device" not in data, "it is sealed"
        return {slot for slot in slots if slot in data}

    async with relay_in_process(folder, **settings(service, ONCE)) as relay:
        await deposit(relay, await sleeper(relay, service, owner))
        await service.until(1)
        await asyncio.to_thread(backups.backup, folder / "relay.db", tmp_path / "older")
        assert holding(tmp_path / "older") == set(slots)
        async with await Peer.own(relay.url, owner) as peer:
            assert isinstance(await peer.ask(lambda n: frames.ConsentPut(n, "push", b"")), frames.Done)
            assert holding(folder) == set()
            await grant(peer, service)
            await put(peer, service.endpoint("device"))
            assert isinstance(await peer.ask(frames.MailboxDelete), frames.Erased)
        assert holding(folder) == set()
    backups.restore(tmp_path / "older", folder / "relay.db", force=True)
    async with relay_in_process(folder, **settings(service, ONCE)) as relay:
        assert await relay.store.get_slot(slots[0]) is None
    assert len(service.pushes) == 1


async def test_what_is_put_while_the_consent_is_withdrawn_elsewhere_does_not_stay(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service)) as relay, await Peer.own(relay.url, owner) as peer:
        await grant(peer, service)
        slot = slot_of(tmp_path, owner)

        async def withdraw() -> None:
            await relay.store.delete_slot(Identity.open(tmp_path).consent(owner.mailbox, "push"))

        before_putting(monkeypatch, relay.store, slot, withdraw)
        assert (await put(peer, service.endpoint("device"))).code == Code.NO_CONSENT
        assert await relay.store.get_slot(slot) is None


async def test_an_endpoint_lapses_unless_it_is_put_again(tmp_path: Path, service: PushService) -> None:
    clock = MovedClock()
    async with (
        relay_in_process(tmp_path, clock=clock, **settings(service)) as relay,
        await Peer.own(relay.url, Owner()) as peer,
    ):
        for _ in range(2):
            await wake_at(peer, service, service.endpoint("device"))
            clock.advance(MAX_SLOT_LIFETIME - 1)
        assert await endpoint_of(peer) == service.endpoint("device")
        clock.advance(1)
        assert await endpoint_of(peer) == ""


async def test_two_that_put_at_once_both_are_answered(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service)) as relay, await Peer.own(relay.url, owner) as peer:
        await grant(peer, service)
        slot = slot_of(tmp_path, owner)

        async def faster() -> None:
            await relay.store.put_slot(slot, 1, 3600, b"sealed under another relay's key".ljust(1100))
            assert await relay.push._endpoint(owner.mailbox) == ""

        before_putting(monkeypatch, relay.store, slot, faster)
        assert isinstance(await put(peer, service.endpoint("device")), frames.Done)
        assert await endpoint_of(peer) == service.endpoint("device")


# Who is woken, and when.


async def test_one_push_whatever_comes_and_after_a_restart(
    tmp_path: Path, any_store: dict[str, Any], service: PushService
) -> None:
    async with relay_in_process(tmp_path, **settings(service, ONCE), **any_store) as relay:
        address = await sleeper(relay, service)
    async with relay_in_process(tmp_path, **settings(service, ONCE), **any_store) as relay:
        await deposit(relay, address)
        await service.until(1)
        for _ in range(3):
            await deposit(relay, address)
    async with relay_in_process(tmp_path, **settings(service, ONCE), **any_store) as relay:
        await deposit(relay, address)
    assert len(service.pushes) == 1


async def test_who_rests_is_woken_again_afterwards(tmp_path: Path, service: PushService) -> None:
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service)
        for count in (1, 2):
            await deposit(relay, address)
            await service.until(count)


async def test_who_is_connected_is_not_woken_nor_for_what_is_not_stored(
    tmp_path: Path, any_store: dict[str, Any], service: PushService
) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service), **any_store) as relay:
        address = await sleeper(relay, service, owner)
        async with await Peer.own(relay.url, owner) as peer:
            await peer.subscribe()
            await deposit(relay, address)
        await deposit(relay, address, flags=frames.FLAG_EPHEMERAL)
    assert service.pushes == []


async def test_who_has_connected_meanwhile_is_not_woken(tmp_path: Path, service: PushService) -> None:
    """One is there when the push is due, the other has taken everything and gone."""
    here, gone = Owner(), Owner()
    async with relay_in_process(tmp_path, **settings(service, NEVER)) as relay:
        await deposit(relay, await sleeper(relay, service, here), await sleeper(relay, service, gone))
        async with await Peer.own(relay.url, gone) as peer:
            await peer.subscribe()
            (entry,) = await peer.entries(1)
            await peer.acknowledge(entry.sequence)
            await peer.ask(frames.Status)
        async with await Peer.own(relay.url, here) as peer:
            await peer.subscribe()
            await _pushes(relay, here)
        await deposit(relay, await sleeper(relay, service, name="third"))
    assert [push.path for push in service.pushes] == ["/wake/third"], "as the relay ends, what waits is sent"


async def _pushes(relay: Relay, owner: Owner) -> None:
    """Have what is due for one mailbox sent now."""
    await relay.push._push(owner.mailbox, relay.push._waiting.pop(owner.mailbox))


async def test_whoever_does_not_want_it_any_more_is_not_woken(tmp_path: Path, service: PushService) -> None:
    """Without consent to what is offered now an endpoint that is still there is not used."""
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service, owner)
    other = service.declaration.replace("Example Push", "Other Push")
    async with relay_in_process(tmp_path, **settings(service, processors=(other,))) as relay:
        await deposit(relay, address)
    assert service.pushes == []


async def test_who_has_no_endpoint_rests_until_there_is_one(tmp_path: Path, service: PushService) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service, ONCE)) as relay:
        async with await Peer.own(relay.url, owner) as peer:
            await grant(peer, service)
            address = await peer.add_address(owner.address())
        await deposit(relay, address)
        await relay.push.finish(20)
        assert owner.mailbox in relay.push._resting
        async with await Peer.own(relay.url, owner) as peer:
            await put(peer, service.endpoint("device"))
        await deposit(relay, address)
        await service.until(1)


@pytest.fixture(params=["redis", "cluster"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A store of its own, for several nodes."""
    return f"{request.getfixturevalue(f'{request.param}_url')}?prefix=test-{os.urandom(8).hex()}"


async def test_two_nodes_send_one_push_and_none_while_either_serves_the_mailbox(
    tmp_path: Path, shared_url: str, service: PushService
) -> None:
    owner = Owner()
    shared = settings(service, ONCE, redis=shared_url)
    async with (
        relay_in_process(tmp_path / "first", **shared) as first,
        relay_in_process(tmp_path / "second", **shared) as second,
    ):
        address = await sleeper(first, service, owner)
        async with await Peer.own(first.url, owner) as peer:
            await peer.subscribe()
            await deposit(second, address)
            assert await first.store.is_served(owner.mailbox)
            assert await second.store.is_served(owner.mailbox)
            await second.push.finish(20)
            assert second.push._resting[owner.mailbox] - asyncio.get_running_loop().time() <= module.SERVED_REST
        assert service.pushes == []
        other = await sleeper(second, service, name="other")
        await asyncio.gather(deposit(first, other), deposit(second, other))
        await service.until(1)
    assert [push.path for push in service.pushes] == ["/wake/other"]


async def test_a_node_that_is_gone_serves_nobody(tmp_path: Path, shared_url: str) -> None:
    """It was killed, and its mailboxes are still marked as its own."""
    owner = Owner()
    async with relay_in_process(tmp_path / "first", redis=shared_url) as first:
        async with relay_in_process(tmp_path / "second", redis=shared_url) as second:
            released = asyncio.Event()

            async def kept(*_: object) -> None:
                released.set()

            peer = await Peer.own(second.url, owner)
            await peer.subscribe()
            assert await first.store.is_served(owner.mailbox)
            with pytest.MonkeyPatch.context() as killed:
                killed.setattr(second.store, "release", kept)
                await peer.close()
                await released.wait()
            assert await first.store.is_served(owner.mailbox)
        assert not await first.store.is_served(owner.mailbox)


# What push services answer.


async def test_an_endpoint_that_is_gone_is_erased(tmp_path: Path, service: PushService) -> None:
    owner = Owner()
    service.answers = [410]
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service, owner)
        await deposit(relay, address)
        async with await Peer.own(relay.url, owner) as peer, asyncio.timeout(20):
            while await endpoint_of(peer):
                await asyncio.sleep(0)
        await deposit(relay, address)
    assert len(service.pushes) == 1


async def test_a_new_endpoint_outlives_the_end_of_the_one_before(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service, owner, name="before")
        push = relay.push
        assert push._service is not None
        send = push._service.send

        async def gone(message: WakeUp) -> module.Answer:
            async with await Peer.own(relay.url, owner) as peer:
                await put(peer, service.endpoint("after"))
            await send(message)
            return module.Answer(module.Outcome.GONE)

        monkeypatch.setattr(push, "_service", module.Service(gone, push._service.takes, push._service.is_declared))
        await deposit(relay, address)
        await service.until(1)
        await push.finish(20)
        async with await Peer.own(relay.url, owner) as peer:
            assert await endpoint_of(peer) == service.endpoint("after")


async def test_a_service_that_does_not_answer_is_tried_again_and_one_that_refuses_is_not(
    tmp_path: Path, service: PushService
) -> None:
    service.answers = [503, 429, 201, 403]
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service)
        await deposit(relay, address)
        await service.until(3)
        await deposit(relay, address)
        await service.until(4)
        await relay.push.finish(20)
        counted = {o: relay.metrics.pushes.labels(o)._value.get() for o in OUTCOMES}
    assert counted == {"taken": 1, "gone": 0, "later": 1, "busy": 1, "refused": 1}
    assert len(service.pushes) == 4


async def test_a_stranger_s_endpoint_that_takes_no_more_keeps_nobody_else_asleep(
    tmp_path: Path, service: PushService
) -> None:
    service.answers = [429, 201]
    async with relay_in_process(tmp_path, **settings(service, ONCE)) as relay:
        await deposit(relay, await sleeper(relay, service, name="stranger"))
        await service.until(1)
        await deposit(relay, await sleeper(relay, service, name="other"))
        await service.until(2)
    assert [push.path for push in service.pushes] == ["/wake/stranger", "/wake/other"]


@pytest.mark.parametrize(("field", "seconds"), [("1200", 1200), ("7200", PUSH_MOST_REST)])
async def test_a_device_whose_service_asks_for_time_gets_it_at_every_node(
    tmp_path: Path, shared_url: str, service: PushService, field: str, seconds: int
) -> None:
    service.answers, service.retry_after = [429], field
    owner, clock = Owner(), MovedClock()
    shared = settings(service, redis=shared_url)
    async with (
        relay_in_process(tmp_path / "first", clock=clock, **shared) as first,
        relay_in_process(tmp_path / "second", clock=clock, **shared) as second,
    ):
        address = await sleeper(first, service, owner)
        await deposit(first, address)
        slot = slot_of(tmp_path / "first", owner, "rest")
        async with asyncio.timeout(20):
            while await budgets.full_at(first.store, slot) <= clock():
                await asyncio.sleep(0)
        assert await budgets.full_at(second.store, slot) == clock() + 1000 * seconds
        for node in (first, second):
            await deposit(node, address)
            await node.push.finish(20)
        await deposit(second, await sleeper(second, service, name="other"))
        await service.until(2)
        clock.advance(seconds)
        await deposit(second, address)
        pushes = await service.until(3)  # more may come: the rest of these tests is short
    assert [push.path for push in pushes] == ["/wake/device", "/wake/other", "/wake/device"]


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_service_that_asks_for_time_gets_it(tmp_path: Path, service: PushService, form: str) -> None:
    clock = MovedClock()
    at = datetime.fromtimestamp(clock() // 1000 + 1800, UTC)
    service.answers, service.retry_after = [503], "1800" if form == "seconds" else format_datetime(at, usegmt=True)
    async with relay_in_process(tmp_path, clock=clock, **settings(service)) as relay:
        now = asyncio.get_running_loop().time()
        await deposit(relay, await sleeper(relay, service))
        await service.until(1)
        (origin,) = relay.push._origins.values()
        while not origin.failures:
            await asyncio.sleep(0)
        assert 1800 <= origin.rests_until - now < 1800 + 60
        await deposit(relay, await sleeper(relay, service, name="other"))
    assert [push.path for push in service.pushes] == ["/wake/device"]


async def test_it_is_given_up_after_some_tries(tmp_path: Path, service: PushService) -> None:
    service.answers = [500] * 20
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        await deposit(relay, await sleeper(relay, service))
        await service.until(module.TRIES)
    assert len(service.pushes) == module.TRIES


async def test_a_service_that_does_not_answer_is_left_alone_for_longer_each_time(
    tmp_path: Path, service: PushService
) -> None:
    service.answers = [500] * 20
    async with relay_in_process(tmp_path, **settings(service, ONCE)) as relay:
        await deposit(relay, await sleeper(relay, service, name="first"))
        await service.until(1)
        await deposit(relay, await sleeper(relay, service, name="second"))
        push, now = relay.push, asyncio.get_running_loop().time()
        (origin,) = push._origins.values()
        for _ in range(20):
            push._heard(origin, module.Answer(module.Outcome.LATER))
        assert origin.rests_until - now <= PUSH_MOST_REST + 1
        push._heard(origin, module.Answer(module.Outcome.TAKEN))
        assert origin.failures == 0
    assert [push.path for push in service.pushes] == ["/wake/first"]


async def test_a_service_that_hangs_holds_up_neither_deposits_nor_the_relays_end(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante_server.app.SHUTDOWN_GRACE", 0.0)
    service.silent = True
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service)
        await deposit(relay, address)
        await service.until(1)
        await deposit(relay, address)
        (hanging, *_) = relay.push._pushing
    assert hanging.cancelled()


async def test_a_store_that_does_not_answer_is_asked_again_and_a_bug_is_logged(
    tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    logs.configure(shown)
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service)
        failures: list[Exception] = [StoreUnavailable(), RuntimeError("secret")]
        status = relay.store.status

        async def failing(mailbox: bytes) -> Any:  # noqa: ANN401 -- as the store answers
            if failures:
                raise failures.pop(0)
            return await status(mailbox)

        monkeypatch.setattr(relay.store, "status", failing)
        await deposit(relay, address)
        async with asyncio.timeout(20):
            while failures:
                await asyncio.sleep(0)
        await deposit(relay, address)
        await service.until(1)
    entries = [json.loads(line) for line in shown.getvalue().splitlines()]
    assert [(each["event"], each["error"]) for each in entries] == [("push failed", "RuntimeError")]
    assert "secret" not in shown.getvalue()


async def test_a_token_is_the_same_for_all_endpoints_until_it_is_renewed(tmp_path: Path, service: PushService) -> None:
    clock = MovedClock()
    async with relay_in_process(tmp_path, clock=clock, **settings(service)) as relay:
        addresses = [await sleeper(relay, service, name=name) for name in ("one", "two")]
        await deposit(relay, *addresses)
        one, two = await service.until(2)
        assert one.headers["Authorization"] == two.headers["Authorization"]
        clock.advance(module.TOKEN_SECONDS // 2)
        await deposit(relay, addresses[0])
        (*_, three) = await service.until(3)
        _, before, _ = verified(one.headers["Authorization"])
        _, after, _ = verified(three.headers["Authorization"])
        assert after["exp"] - before["exp"] == module.TOKEN_SECONDS // 2
        assert after["exp"] - clock() // 1000 == module.TOKEN_SECONDS


async def test_memory_is_bounded(tmp_path: Path, service: PushService, monkeypatch: pytest.MonkeyPatch) -> None:
    async with relay_in_process(tmp_path, **settings(service, NEVER)) as relay:
        push = relay.push
        monkeypatch.setattr(module, "PUSH_WAITING", 2)
        push.missed([bytes((number,)) * 24 for number in range(5)])
        assert len(push._waiting) == 2
        monkeypatch.setattr(module, "SERVICES", 2)
        push._origins = {str(number): module._Origin(rests_until=1e9 * (number == 0)) for number in range(5)}
        push._resting = {b"rests": 1e9, b"does not": 0.0}
        push.trim()
        assert (list(push._origins), list(push._resting)) == (["0"], [b"rests"])
        push._waiting.clear()


async def test_the_key_is_published_and_the_same_for_all_nodes(tmp_path: Path, service: PushService) -> None:
    async with relay_in_process(tmp_path, **settings(service)) as relay:
        address = await sleeper(relay, service)
        await deposit(relay, address)
        (push,) = await service.until(1)
    _, _, key = verified(push.headers["Authorization"])
    assert key == PushKey.of(Identity.open(tmp_path))._vapid.public
