import asyncio
import os
from pathlib import Path

import pytest

from restante_crypto import proofs
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import MAX_BODY_BYTES, MAX_LIST_ADDRESSES, MAX_LISTS, PREKEYS_LOW_MARK
from restante_server.app import Relay
from restante_server.config import CONNECTION_REQUEST_BYTES
from restante_server.services import relay as shared
from restante_server.stores.contract import Accepted, Outcome
from support.relay import HOUR, Owner, Peer, relay_in_process

SUITE = 3


async def test_unknown_revoked_and_deleted_addresses_answer_alike(relay: Relay) -> None:
    revoked, deleted = Owner(), Owner()
    async with await Peer.own(relay.url, revoked) as receiver:
        revoked_address = await receiver.add_address(revoked.address())
        await receiver.ask(lambda n: frames.AddressRevoke(n, [revoked_address]))
    async with await Peer.own(relay.url, deleted) as receiver:
        deleted_address = await receiver.add_address(deleted.address())
        await receiver.ask(frames.MailboxDelete)
    async with await Peer.connect(relay.url) as sender:
        deposits = [(await sender.deposit([a])).failed for a in (bytes(24), revoked_address, deleted_address)]
        assert deposits == [[(0, Code.GONE)]] * 3
        claims = [
            (await sender.ask(lambda n, a=a: frames.Claim(n, SUITE, [a]))).prekeys
            for a in (bytes(24), revoked_address, deleted_address)
        ]
        assert claims == [[frames.ClaimedPrekey(Code.GONE, 0, b"")]] * 3


async def test_bad_addresses_do_not_stop_the_others(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        good = await receiver.add_address(owner.address())
        full = await receiver.add_address(owner.address(cap=1))
        assert (await sender.deposit([full])).failed == []
        assert (await sender.deposit([bytes(24), good, full])).failed == [(0, Code.GONE), (2, Code.FULL)]
        assert (await receiver.ask(frames.Status)).entries == 2


async def test_same_deposit_twice_is_one(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        message_id = os.urandom(16)
        for body in (b"same", b"same", b"other body"):
            assert (await sender.deposit([address], body, message_id=message_id)).failed == []
        assert (await receiver.ask(frames.Status)).entries == 2


async def test_few_deposits_to_a_long_list_are_in_work_at_a_time(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    working, most = 0, 0

    def deposit(_: object, outcome: Outcome) -> None:
        nonlocal working, most
        working += 1
        most = max(most, working)
        asyncio.get_running_loop().call_soon(finish, outcome)

    def finish(outcome: Outcome) -> None:
        nonlocal working
        working -= 1
        outcome.set_result(Accepted(()))

    async with await Peer.connect(relay.url) as sender:
        addresses = [bytes(24)] * MAX_LIST_ADDRESSES
        assert isinstance(await sender.ask(lambda n: frames.ListPut(n, 1, addresses)), frames.Done)
        monkeypatch.setattr(relay.store, "begin_deposit", deposit)
        build = lambda n: frames.Deposit(n, os.urandom(16), 1, b"x", HOUR, None, 0)  # noqa: E731
        for number in [await sender.send(build) for _ in range(50)]:
            assert await sender.answer(number) == frames.Deposited(number, [])
    assert 1 < most <= CONNECTION_REQUEST_BYTES // (MAX_LIST_ADDRESSES * 24) + 1


async def test_a_fence_is_won_once(relay: Relay) -> None:
    owner = Owner()
    fence, winner = os.urandom(32), os.urandom(16)
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        assert (await sender.ask(lambda n: frames.FenceGet(n, fence))).code == Code.NOT_FOUND
        assert (await sender.deposit([address], b"first", message_id=winner, fence=fence)).failed == []
        assert (await sender.deposit([address], b"second", fence=fence)).code == Code.CONFLICT
        assert (await sender.deposit([address], b"first", message_id=winner, fence=fence)).failed == []
        found = await sender.ask(lambda n: frames.FenceGet(n, fence))
        assert (found.message_id, found.body, found.digest) == (winner, b"first", proofs.body_digest(b"first"))
        assert isinstance(await receiver.next(), frames.Drained)
        (numbered,) = await receiver.entries(1)
        assert numbered.entry == frames.Entry(winner, b"first", fence)
        assert (await receiver.ask(frames.Status)).entries == 1


async def test_requests_of_one_connection_take_effect_in_order(relay: Relay) -> None:
    owner = Owner()
    fence = os.urandom(32)
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        deposit = await sender.send(lambda n: frames.Deposit(n, os.urandom(16), [address], b"x", HOUR, fence, 0))
        get = await sender.send(lambda n: frames.FenceGet(n, fence))
        late = await sender.send(lambda n: frames.Deposit(n, os.urandom(16), [address], b"y", HOUR, fence, 0))
        assert isinstance(await sender.answer(deposit), frames.Deposited)
        assert (await sender.answer(get)).body == b"x"
        assert (await sender.answer(late)).code == Code.CONFLICT


async def test_list_handles(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        assert (await sender.deposit(7)).code == Code.NOT_FOUND
        await sender.ask(lambda n: frames.ListPut(n, 7, [address, bytes(24)]))
        assert (await sender.deposit(7)).failed == [(1, Code.GONE)]
        await sender.ask(lambda n: frames.ListPut(n, 7, [address]))
        assert (await sender.deposit(7)).failed == []
        for _ in range(2):
            assert isinstance(await sender.ask(lambda n: frames.ListDrop(n, 7)), frames.Done)
        assert (await sender.deposit(7)).code == Code.NOT_FOUND
        async with await Peer.connect(relay.url) as other:
            assert (await other.deposit(7)).code == Code.NOT_FOUND, "a handle belongs to its connection"


async def test_number_of_lists_is_limited(relay: Relay) -> None:
    async with await Peer.connect(relay.url) as sender:
        for handle in range(MAX_LISTS):
            assert isinstance(await sender.ask(lambda n, h=handle: frames.ListPut(n, h, [bytes(24)])), frames.Done)
        assert (await sender.ask(lambda n: frames.ListPut(n, MAX_LISTS, [bytes(24)]))).code == Code.LIMIT
        assert isinstance(await sender.ask(lambda n: frames.ListPut(n, 0, [bytes(24)] * 2)), frames.Done)


async def test_addresses_behind_lists_are_limited_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PROCESS_LIST_ADDRESSES", 100)
    async with relay_in_process(tmp_path) as relay, await Peer.connect(relay.url) as two:
        put = lambda n: frames.ListPut(n, 1, [bytes(24)] * 60)  # noqa: E731 -- shorter than a function
        async with await Peer.connect(relay.url) as one:
            assert isinstance(await one.ask(put), frames.Done)
            assert isinstance(await one.ask(put), frames.Done), "it takes its own place"
            assert (await two.ask(put)).code == Code.FULL
        while isinstance(answer := await two.ask(put), frames.Error):
            assert answer.code == Code.FULL, "until the relay has seen that the other one closed"


async def test_prekeys_are_claimed_in_order_once(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        claim = lambda n: frames.Claim(n, SUITE, [address])  # noqa: E731 -- shorter than a function
        assert (await sender.ask(claim)).prekeys == [frames.ClaimedPrekey(Code.EMPTY, 0, b"")]
        await receiver.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, [b"one", b"two"], b"last", False))
        twice = await sender.ask(lambda n: frames.Claim(n, SUITE, [address, address]))
        assert twice.prekeys == [frames.ClaimedPrekey(0, 1, b"one"), frames.ClaimedPrekey(0, 2, b"two")]
        for _ in range(2):
            assert (await sender.ask(claim)).prekeys == [frames.ClaimedPrekey(0, 0, b"last")]
        status = await receiver.ask(frames.Status)
        assert status.pools == [frames.PoolCount(SUITE, 2, 2, 0, True)]


async def test_owner_is_told_when_prekeys_run_low(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        packages = [b"package"] * (PREKEYS_LOW_MARK + 1)
        await receiver.ask(lambda n: frames.PrekeysPut(n, SUITE, 1, packages, b"", False))
        await receiver.subscribe()
        assert isinstance(await receiver.next(), frames.Drained)
        for _ in range(3):
            await sender.ask(lambda n: frames.Claim(n, SUITE, [address]))
        assert await receiver.next() == frames.PrekeysLow(SUITE, PREKEYS_LOW_MARK - 1)
        await receiver.ask(frames.Status)
        assert not receiver.pushed, "told once"


async def test_large_bodies_need_their_flag(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        body = bytes(MAX_BODY_BYTES + 1)
        assert (await sender.deposit([address], body)).code == Code.LIMIT
        assert (await sender.deposit([address], body, flags=frames.FLAG_LARGE)).failed == []


async def test_a_request_beyond_a_limit_fails_alone(relay: Relay) -> None:
    async with await Peer.connect(relay.url) as sender:
        answer = await sender.ask(lambda n: frames.Deposit(n, bytes(16), [bytes(24)], b"x", 1, None, 0))
        assert (answer.code, answer.detail) == (Code.LIMIT, "lifetime")
        assert (await sender.deposit([bytes(24)])).failed == [(0, Code.GONE)]
