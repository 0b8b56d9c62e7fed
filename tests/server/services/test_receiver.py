import os
from collections.abc import Callable

import pytest

from restante_crypto import primitives, proofs
from restante_protocol import frames
from restante_protocol.errors import Code
from restante_protocol.limits import MAILBOX_PREKEYS, MAX_PREKEY_BATCH
from restante_server.app import Relay
from restante_server.stores.contract import StoreUnavailable
from support.relay import Owner, Peer


async def test_wrong_key_answers_alike_whether_or_not_the_mailbox_exists(relay: Relay) -> None:
    there, not_there = Owner(), Owner()
    async with await Peer.own(relay.url, there):
        pass
    answers = []
    for owner in (there, not_there):
        async with await Peer.connect(relay.url, frames.ROLE_RECEIVER) as peer:
            answers.append(await peer.prove(owner, seed=os.urandom(32)))
    assert answers[0] == answers[1] == frames.Error(1, Code.UNAUTHORIZED, "")


async def test_a_store_that_did_not_answer_is_asked_again(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(_mailbox: bytes) -> bool:
        raise StoreUnavailable

    owner = Owner()
    async with await Peer.own(relay.url, owner):
        pass
    async with await Peer.connect(relay.url, frames.ROLE_RECEIVER) as peer:
        with monkeypatch.context() as broken:
            broken.setattr(relay.store, "has_mailbox", unavailable)
            assert (await peer.prove(owner)).code == Code.UNAVAILABLE
        assert isinstance(await peer.prove(owner), frames.Done)


async def test_an_own_key_does_not_open_anothers_mailbox(relay: Relay) -> None:
    victim, thief = Owner(), Owner()
    async with await Peer.own(relay.url, victim):
        pass
    thief.mailbox = victim.mailbox
    async with await Peer.connect(relay.url, frames.ROLE_RECEIVER) as peer:
        assert (await peer.prove(thief)).code == Code.UNAUTHORIZED


async def test_a_proof_fits_its_connection_alone(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as first:
        message = proofs.open_message(first.welcome.relay_key, owner.mailbox, first.nonce, first.welcome.nonce)
        signature = primitives.ed25519_sign(owner.seed, message)
    async with await Peer.connect(relay.url, frames.ROLE_RECEIVER) as second:
        replayed = await second.ask(lambda n: frames.Open(n, owner.mailbox, owner.key, owner.nonce, signature))
        assert replayed.code == Code.UNAUTHORIZED
        assert isinstance(await second.prove(owner), frames.Done), "another try is allowed"


async def test_relay_proves_its_key(relay: Relay) -> None:
    async with await Peer.connect(relay.url) as peer:
        message = proofs.welcome_message(peer.welcome.relay_key, peer.nonce, peer.welcome.nonce)
        assert primitives.ed25519_verify(peer.welcome.relay_key, message, peer.welcome.signature)
        assert peer.welcome.level == relay.store.level


async def test_create_is_idempotent_and_comes_with_a_receipt(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner, create=False) as peer:
        first, second = [await peer.ask(lambda n: frames.Create(n, b"")) for _ in range(2)]
        assert first.incarnation == second.incarnation
        assert primitives.ed25519_verify(peer.welcome.relay_key, proofs.admission_message(owner.mailbox), first.receipt)


async def test_nothing_works_before_the_mailbox_is_created(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner, create=False) as peer:
        spec = owner.address()
        builders: list[Callable[[int], frames.ClientFrame]] = [
            frames.Status,
            lambda n: frames.Subscribe(n, b"", 0, []),
            lambda n: frames.AddressPut(n, [spec]),
            lambda n: frames.PrekeysPut(n, 3, 1, [b"x"], b"", False),
        ]
        assert [(await peer.ask(build)).code for build in builders] == [Code.NO_MAILBOX] * 4


async def test_addresses_have_to_be_made_with_the_mailboxs_key(relay: Relay) -> None:
    owner, other = Owner(), Owner()
    wrong_bucket = Owner(bucket=4)
    wrong_bucket.key = owner.key
    async with await Peer.own(relay.url, owner) as receiver:
        for spec in (other.address(), wrong_bucket.address()):
            answer = await receiver.ask(lambda n, s=spec: frames.AddressPut(n, [s]))
            assert answer.code == Code.UNAUTHORIZED


async def test_addresses_are_revoked_by_their_owner_alone(relay: Relay) -> None:
    owner, other = Owner(), Owner()
    async with (
        await Peer.own(relay.url, owner) as receiver,
        await Peer.own(relay.url, other) as stranger,
        await Peer.connect(relay.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        assert isinstance(await stranger.ask(lambda n: frames.AddressRevoke(n, [address])), frames.Done)
        assert (await sender.deposit([address])).failed == []
        assert isinstance(await receiver.ask(lambda n: frames.AddressRevoke(n, [address])), frames.Done)
        assert (await sender.deposit([address])).failed == [(0, Code.GONE)]
        assert (await receiver.ask(frames.Status)).entries == 1, "what came through it stays"


async def test_prekey_pools_are_limited(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        batch = [b"package"] * MAX_PREKEY_BATCH
        first = 1
        while first <= MAILBOX_PREKEYS:
            put = await receiver.ask(lambda n, f=first: frames.PrekeysPut(n, 3, f, batch, b"", False))
            assert isinstance(put, frames.Done)
            first += MAX_PREKEY_BATCH
        answer = await receiver.ask(lambda n: frames.PrekeysPut(n, 3, first, [b"one more"], b"", False))
        assert answer.code == Code.LIMIT


async def test_subscribe_with_a_wrong_incarnation_gives_a_new_one(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver:
        before = await receiver.subscribe()
    async with await Peer.own(relay.url, owner) as receiver:
        same = await receiver.subscribe(before.incarnation)
        assert same.incarnation == before.incarnation
    async with await Peer.own(relay.url, owner) as receiver:
        other = await receiver.subscribe(os.urandom(16), seen=2**50)
        assert other.incarnation != before.incarnation
        assert (await receiver.ask(frames.Status)).sequence >= 2**50
