"""What every store does: one suite for all of them."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante_protocol import frames, limits
from restante_protocol.errors import Code
from restante_protocol.frames import encode_prekey
from restante_server.stores.contract import (
    SPENT_KEPT,
    Accepted,
    AddressSpec,
    Delivery,
    FenceLost,
    Pool,
    PoolLow,
    SeenPool,
    Store,
    StoredSlot,
    StoreUnavailable,
    Subscription,
    Totals,
)
from restante_server.stores.quotas import Quotas
from support.stores import (
    DAY,
    START,
    SUITE,
    Opener,
    acknowledge,
    address,
    bodies,
    code,
    deposit,
    every_store,
    fence,
    identifier,
    mailbox,
    make_mailbox,
    read_all,
    store_deposit,
    subscribe,
)

pytestmark = every_store

# Mailboxes.


async def test_a_mailbox_is_created_once(store: Store) -> None:
    assert not await store.has_mailbox(mailbox(1))
    incarnation = await store.create_mailbox(mailbox(1), bytes(32), None)
    assert incarnation is not None
    assert len(incarnation) == 16
    assert await store.has_mailbox(mailbox(1))
    assert await store.create_mailbox(mailbox(1), bytes(32), None) == incarnation


async def test_a_code_admits_one_mailbox(store: Store) -> None:
    await store.add_codes([code(1)], DAY)
    assert await store.create_mailbox(mailbox(1), bytes(32), code(2)) is None
    incarnation = await store.create_mailbox(mailbox(1), bytes(32), code(1))
    assert incarnation is not None
    assert await store.create_mailbox(mailbox(2), bytes(32), code(1)) is None
    assert not await store.has_mailbox(mailbox(2))
    assert await store.create_mailbox(mailbox(1), bytes(32), code(1)) == incarnation


async def test_a_code_is_not_used_up_by_a_mailbox_that_exists(store: Store) -> None:
    await make_mailbox(store, 1)
    await store.add_codes([code(1)], DAY)
    await store.create_mailbox(mailbox(1), bytes(32), code(1))
    assert await store.create_mailbox(mailbox(2), bytes(32), code(1)) is not None


async def test_a_code_that_was_used_stays_so_however_often_it_is_added(store: Store, opener: Opener) -> None:
    await store.add_codes([code(1)], DAY)
    await store.create_mailbox(mailbox(1), bytes(32), code(1))
    await store.sweep()
    await store.add_codes([code(1), code(2)], DAY)
    assert await store.create_mailbox(mailbox(2), bytes(32), code(1)) is None
    await store.delete_mailbox(mailbox(1))
    for number in (1, 3):
        assert await store.create_mailbox(mailbox(number), bytes(32), code(1)) is None
    assert await store.create_mailbox(mailbox(2), bytes(32), code(2)) is not None


async def test_a_code_that_is_added_again_is_good_no_longer_for_it(store: Store, opener: Opener) -> None:
    await store.add_codes([code(1)], DAY)
    opener.clock.advance(DAY // 2)
    await store.add_codes([code(1)], DAY)
    opener.clock.advance(DAY // 2)
    assert await store.create_mailbox(mailbox(1), bytes(32), code(1)) is None


@pytest.mark.parametrize("swept", [False, True])
async def test_a_code_expires(store: Store, opener: Opener, swept: bool) -> None:
    await store.add_codes([code(1)], DAY)
    opener.clock.advance(DAY)
    if swept:
        await store.sweep()
    assert await store.create_mailbox(mailbox(1), bytes(32), code(1)) is None


async def test_deletion_takes_everything_of_the_mailbox(store: Store) -> None:
    await make_mailbox(store, 1, [1, 2])
    await make_mailbox(store, 2, [3])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"package"], b"last", replace=False)
    await store.deposit(deposit(1, [address(1), address(3)]))
    await subscribe(store, 1)
    await store.delete_mailbox(mailbox(1))
    assert not await store.has_mailbox(mailbox(1))
    assert await store.status(mailbox(1)) is None
    assert await store.subscribe(mailbox(1), b"", 0, []) is None
    assert await read_all(store, 1) == []
    assert await store.deposit(deposit(2, [address(1), address(2)])) == Accepted(((0, Code.GONE), (1, Code.GONE)))
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(Code.GONE, 0, b"")]
    assert await bodies(store, 2) == [b"ciphertext"]
    assert await store.totals() == Totals(1, 1, len(b"ciphertext"))
    await store.delete_mailbox(mailbox(1))


async def test_a_mailbox_made_again_is_another(store: Store) -> None:
    first = await store.create_mailbox(mailbox(1), bytes(32), None)
    await store.put_addresses(mailbox(1), [AddressSpec(address(1), 10, 0)])
    await store.deposit(deposit(1, [address(1)]))
    await store.delete_mailbox(mailbox(1))
    assert await store.create_mailbox(mailbox(1), bytes(32), None) != first
    assert await store.deposit(deposit(2, [address(1)])) == Accepted(((0, Code.GONE),))
    assert await read_all(store, 1) == []


async def test_nothing_works_without_a_mailbox(store: Store) -> None:
    assert await store.subscribe(mailbox(1), b"", 0, []) is None
    assert await store.status(mailbox(1)) is None
    assert await store.put_addresses(mailbox(1), [AddressSpec(address(1), 1, 0)]) == Code.NO_MAILBOX
    assert await store.put_prekeys(mailbox(1), SUITE, 1, [b"p"], b"", replace=False) == Code.NO_MAILBOX
    assert not await acknowledge(store, 1, 1, owner=Subscription(bytes(16), bytes(8), 0, 0, ()))
    assert await store.read(mailbox(1), 0, 1, 1) == []
    await store.revoke_addresses(mailbox(1), [address(1)])
    await store.release(mailbox(1), bytes(8))


# Subscriptions.


async def test_a_mailbox_is_served_while_a_subscription_has_it(store: Store) -> None:
    assert not await store.is_served(mailbox(1))
    await make_mailbox(store, 1, [1])
    assert not await store.is_served(mailbox(1))
    older, newer = await subscribe(store, 1), await subscribe(store, 1)
    for token, served in ((older.owner_token, True), (newer.owner_token, False)):
        await store.release(mailbox(1), token)
        assert await store.is_served(mailbox(1)) == served
    await subscribe(store, 1)
    await store.delete_mailbox(mailbox(1))
    assert not await store.is_served(mailbox(1))


async def test_the_newest_subscription_owns_the_mailbox(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    older = await subscribe(store, 1)
    newer = await subscribe(store, 1)
    assert older.incarnation == newer.incarnation
    assert older.owner_token != newer.owner_token
    assert not await acknowledge(store, 1, newer.last_sequence, owner=older)
    assert await bodies(store, 1) == [b"ciphertext"]
    await store.release(mailbox(1), older.owner_token)
    assert await acknowledge(store, 1, newer.last_sequence, owner=newer)
    assert await bodies(store, 1) == []
    await store.release(mailbox(1), newer.owner_token)
    assert not await acknowledge(store, 1, newer.last_sequence, owner=newer)


async def test_a_subscription_that_knows_the_state_keeps_the_incarnation(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"a", b"b"], b"", replace=False)
    await store.claim(SUITE, [address(1)])
    await store.deposit(deposit(1, [address(1)]))
    first = await subscribe(store, 1)
    again = await store.subscribe(
        mailbox(1), first.incarnation, first.last_sequence, [SeenPool(SUITE, 2, 1), SeenPool(9, 0, 0)]
    )
    assert again is not None
    assert again.incarnation == first.incarnation
    assert again.pools == (Pool(SUITE, 2, 1, 1, last_resort=False),)


@pytest.mark.parametrize(
    ("seen", "pools"),
    [
        (START << 20, []),
        (0, [SeenPool(SUITE, 3, 0)]),
        (0, [SeenPool(SUITE, 2, 2)]),
        (0, [SeenPool(7, 1, 0)]),
        (0, [SeenPool(7, 0, 1)]),
    ],
    ids=["seen", "uploaded", "used", "uploaded to no pool", "used from no pool"],
)
async def test_a_store_that_is_behind_takes_a_new_incarnation(store: Store, seen: int, pools: list[SeenPool]) -> None:
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"a", b"b"], b"last", replace=False)
    await store.claim(SUITE, [address(1)])
    await store.deposit(deposit(1, [address(1)]))
    first = await subscribe(store, 1)
    await acknowledge(store, 1, first.last_sequence, owner=first)
    await store.deposit(deposit(2, [address(1)], body=b"unread"))
    new = await store.subscribe(mailbox(1), first.incarnation, seen, pools)
    assert new is not None
    assert new.incarnation != first.incarnation
    assert new.acknowledged == 0
    assert new.last_sequence >= seen
    assert all(pool.left == 0 for pool in new.pools)
    assert not await acknowledge(store, 1, new.last_sequence, owner=first)
    assert await bodies(store, 1) == [b"unread"]
    await store.deposit(deposit(3, [address(1)]))
    assert (await read_all(store, 1))[-1].sequence > max(seen, first.last_sequence)
    held = {pool.suite: pool for pool in new.pools}
    assert held[SUITE].last_resort
    for pool in pools:
        assert held[pool.suite].uploaded >= pool.uploaded
        assert held[pool.suite].issued >= pool.used
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 0, b"last")]
    after = await store.subscribe(mailbox(1), new.incarnation, new.last_sequence, pools)
    assert after is not None
    assert after.incarnation == new.incarnation


async def test_another_incarnation_is_answered_with_a_new_one(store: Store) -> None:
    await make_mailbox(store, 1)
    first = await subscribe(store, 1)
    new = await store.subscribe(mailbox(1), bytes(16), 0, [])
    assert new is not None
    assert new.incarnation not in (first.incarnation, bytes(16))


async def test_a_subscription_says_what_was_acknowledged(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    for number in range(3):
        await store.deposit(deposit(number, [address(1)]))
    sequences = [entry.sequence for entry in await read_all(store, 1)]
    await acknowledge(store, 1, sequences[1])
    subscription = await subscribe(store, 1)
    assert subscription.acknowledged == sequences[1]
    assert subscription.last_sequence == sequences[2]
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    assert (await subscribe(store, 1)).acknowledged == sequences[2]


async def test_who_claims_to_have_seen_the_most_stops_nobodys_deposits(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2])
    most = SeenPool(SUITE, limits.MAX_PREKEY_NUMBER, limits.MAX_PREKEY_NUMBER)
    assert await store.subscribe(mailbox(1), b"", limits.MAX_SEEN, [most]) is not None
    assert await store.deposit(deposit(1, [address(1), address(2)])) == Accepted(())
    assert [entry.sequence for entry in await read_all(store, 1)] == [limits.MAX_SEEN + 1]
    assert await bodies(store, 2) == [b"ciphertext"]
    first = limits.MAX_PREKEY_NUMBER + 1 - limits.MAX_PREKEY_BATCH
    packages = [b"package"] * limits.MAX_PREKEY_BATCH
    assert await store.put_prekeys(mailbox(2), SUITE, first, packages, b"", replace=False) is None


# Reading and acknowledging.


async def test_sequences_follow_the_clock_and_increase(store: Store, opener: Opener) -> None:
    await make_mailbox(store, 1, [1])
    for number in range(2):
        await store.deposit(deposit(number, [address(1)]))
    opener.clock.advance(1)
    await store.deposit(deposit(2, [address(1)]))
    opener.clock.advance(-3600)
    await store.deposit(deposit(3, [address(1)]))
    least = START << limits.SEQUENCE_TIME_SHIFT
    later = (START + 1000) << limits.SEQUENCE_TIME_SHIFT
    assert [entry.sequence for entry in await read_all(store, 1)] == [least, least + 1, later, later + 1]


async def test_reading_is_bounded(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    for number in range(5):
        await store.deposit(deposit(number, [address(1)], body=bytes((number,)) * 100))
    everything = await read_all(store, 1)
    assert [entry.body[0] for entry in everything] == [0, 1, 2, 3, 4]
    first = everything[0].sequence
    assert await store.read(mailbox(1), first, 2, 1000) == everything[1:3]
    assert await store.read(mailbox(1), first, 100, 250) == everything[1:3]
    assert await store.read(mailbox(1), first, 100, 300) == everything[1:4]
    assert await store.read(mailbox(1), first, 100, 1) == everything[1:2]
    assert await store.read(mailbox(1), everything[-1].sequence, 100, 1000) == []


async def test_entries_carry_what_was_deposited(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(7, [address(1)], body=b"commit", fence=fence(1)))
    (entry,) = await read_all(store, 1)
    assert (entry.message_id, entry.body, entry.fence) == ((7).to_bytes(16, "big"), b"commit", fence(1))


async def test_acknowledged_entries_are_gone_and_exceptions_stay(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    for number in range(5):
        await store.deposit(deposit(number, [address(1)], body=b"%d" % number))
    sequences = [entry.sequence for entry in await read_all(store, 1)]
    owner = await subscribe(store, 1)
    assert await acknowledge(store, 1, sequences[3], [sequences[1], sequences[2]], owner)
    assert await bodies(store, 1) == [b"1", b"2", b"4"]
    assert await acknowledge(store, 1, sequences[1], [], owner)
    assert await bodies(store, 1) == [b"2", b"4"]
    assert await acknowledge(store, 1, sequences[4], [sequences[0]], owner)
    assert await bodies(store, 1) == []
    status = await store.status(mailbox(1))
    assert status is not None
    assert (status.sequence, status.entries, status.size) == (sequences[4], 0, 0)


async def test_many_entries_and_acknowledgements(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    owner = await subscribe(store, 1)
    await asyncio.gather(*(store.deposit(deposit(n, [address(1)], body=b"%d" % n)) for n in range(400)))
    sequences = [entry.sequence for entry in await read_all(store, 1)]
    for n in range(0, 300, 3):
        await acknowledge(store, 1, sequences[n], [], owner)
    assert await bodies(store, 1) == [b"%d" % n for n in range(298, 400)]


async def test_what_exists_is_counted(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2])
    await store.deposit(deposit(1, [address(1), address(2)], body=bytes(10)))
    await store.deposit(deposit(2, [address(1)], body=bytes(5)))
    status = await store.status(mailbox(1))
    assert status is not None
    assert (status.entries, status.size) == (2, 15)
    assert await store.totals() == Totals(2, 3, 25)


# Addresses.


async def test_unknown_revoked_and_deleted_addresses_are_alike(store: Store) -> None:
    await make_mailbox(store, 1, [1, 2])
    await make_mailbox(store, 2, [3])
    await store.revoke_addresses(mailbox(1), [address(2)])
    await store.delete_mailbox(mailbox(2))
    addresses = [address(2), address(3), address(4), address(1)]
    assert await store.deposit(deposit(1, addresses)) == Accepted(tuple((n, Code.GONE) for n in range(3)))
    claimed, _ = await store.claim(SUITE, addresses[:3])
    assert claimed == [encode_prekey(Code.GONE, 0, b"")] * 3
    assert await store.resolve(addresses) == [None, None, None, mailbox(1)]


async def test_a_revoked_address_leaves_its_entries(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)]))
    await store.revoke_addresses(mailbox(1), [address(1)])
    assert await bodies(store, 1) == [b"ciphertext"]
    assert await acknowledge(store, 1, limits.MAX_SEQUENCE)
    await make_mailbox(store, 1, [1], cap=1)
    assert await store.deposit(deposit(2, [address(1)])) == Accepted(())


async def test_only_the_owner_revokes_or_changes_an_address(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2)
    await store.revoke_addresses(mailbox(2), [address(1)])
    assert await store.put_addresses(mailbox(2), [AddressSpec(address(1), 1, 0)]) is None
    assert await store.resolve([address(1)]) == [mailbox(1)]


async def test_a_mailbox_has_so_many_addresses(opener: Opener) -> None:
    opener.quotas = Quotas(addresses=2)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    specs = [AddressSpec(address(n), 1, 0) for n in (2, 3)]
    assert await store.put_addresses(mailbox(1), specs) == Code.LIMIT
    assert await store.resolve([address(2)]) == [None]
    specs = [AddressSpec(address(n), 1, 0) for n in (1, 2, 2)]
    assert await store.put_addresses(mailbox(1), specs) is None
    await store.revoke_addresses(mailbox(1), [address(1), address(9)])
    assert await store.put_addresses(mailbox(1), [AddressSpec(address(3), 1, 0)]) is None
    await store.close()


async def test_an_address_has_a_cap(store: Store) -> None:
    await make_mailbox(store, 1, [1], cap=2)
    await make_mailbox(store, 1, [2], cap=1)
    both = [address(1), address(2)]
    assert await store.deposit(deposit(1, both)) == Accepted(())
    assert await store.deposit(deposit(2, both)) == Accepted(((1, Code.FULL),))
    assert await store.deposit(deposit(3, both)) == Accepted(((0, Code.FULL), (1, Code.FULL)))
    await make_mailbox(store, 1, [2], cap=2)
    assert await store.deposit(deposit(4, both)) == Accepted(((0, Code.FULL),))
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    assert await store.deposit(deposit(5, both)) == Accepted(())


# Deposits.


async def test_a_deposit_reaches_every_address_that_can_take_it(store: Store) -> None:
    for number in range(3):
        await make_mailbox(store, number, [number])
    await store.revoke_addresses(mailbox(1), [address(1)])
    assert await store.deposit(deposit(1, [address(n) for n in range(3)])) == Accepted(((1, Code.GONE),))
    assert [len(await read_all(store, n)) for n in range(3)] == [1, 0, 1]


async def test_two_addresses_of_one_mailbox_are_two_entries(store: Store) -> None:
    await make_mailbox(store, 1, [1, 2])
    await store.deposit(deposit(1, [address(1), address(2), address(1)]))
    first, second, third = await read_all(store, 1)
    assert first.sequence < second.sequence < third.sequence
    await acknowledge(store, 1, second.sequence)
    assert await read_all(store, 1) == [third]


async def test_a_repeated_deposit_is_answered_as_before(store: Store, opener: Opener) -> None:
    await make_mailbox(store, 1, [1])
    item = deposit(1, [address(1), address(2)])
    assert await store.deposit(item) == Accepted(((1, Code.GONE),))
    await make_mailbox(store, 1, [2])
    assert await store.deposit(item) == Accepted(((1, Code.GONE),))
    assert len(await read_all(store, 1)) == 1
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    opener.clock.advance(DAY - 1)
    await store.sweep()
    assert await store.deposit(item) == Accepted(((1, Code.GONE),))
    assert await read_all(store, 1) == []
    opener.clock.advance(1)
    await store.sweep()
    assert await store.deposit(item) == Accepted(())
    assert len(await read_all(store, 1)) == 2


async def test_another_deposit_with_the_same_message_id_is_not_suppressed(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)], body=b"copied id"))
    await store.deposit(deposit(1, [address(1)], body=b"the message"))
    assert await bodies(store, 1) == [b"copied id", b"the message"]


@pytest.mark.parametrize(
    ("quotas", "taken"),
    [
        (Quotas(entries=3), 3),
        (Quotas(size=25), 2),
        (Quotas(large_size=20), 10),
        (Quotas(entries=9, size=1000), 9),
    ],
)
async def test_a_mailbox_holds_so_much(opener: Opener, quotas: Quotas, taken: int) -> None:
    opener.quotas = quotas
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    for number in range(10):
        answer = await store.deposit(deposit(number, [address(1)], body=bytes(10)))
        assert answer == Accepted(() if number < taken else ((0, Code.FULL),))
    (first, *_) = await read_all(store, 1)
    await acknowledge(store, 1, first.sequence)
    assert await store.deposit(deposit(10, [address(1)], body=bytes(10))) == Accepted(())
    await store.close()


async def test_large_bodies_have_a_cap_of_their_own(opener: Opener) -> None:
    opener.quotas = Quotas(size=1000, large_size=100)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    assert await store.deposit(deposit(1, [address(1)], body=bytes(90), large=True)) == Accepted(())
    assert await store.deposit(deposit(2, [address(1)], body=bytes(11), large=True)) == Accepted(((0, Code.FULL),))
    assert await store.deposit(deposit(3, [address(1)], body=bytes(11))) == Accepted(())
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    assert await store.deposit(deposit(4, [address(1)], body=bytes(100), large=True)) == Accepted(())
    await store.close()


async def test_invites_share_a_quarter(opener: Opener) -> None:
    opener.quotas = Quotas(entries=8)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 1, [2, 3], kind=frames.KIND_INVITE)
    assert await store.deposit(deposit(1, [address(2), address(3)])) == Accepted(())
    assert await store.deposit(deposit(2, [address(1), address(2)])) == Accepted(((1, Code.FULL),))
    first = (await read_all(store, 1))[0].sequence
    await acknowledge(store, 1, first)
    assert await store.deposit(deposit(3, [address(3)])) == Accepted(())
    await store.close()


async def test_deliveries_are_announced_before_the_deposit_returns(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2])
    seen: list[Delivery] = []

    def listener(deliveries: Sequence[Delivery]) -> None:
        seen.extend(deliveries)

    store.listen(listener)
    await store.deposit(deposit(1, [address(1), address(9), address(2)], fence=fence(1)))
    (delivery,) = seen
    assert list(delivery.entries) == [(bytes(15) + b"\x01", b"ciphertext", fence(1))]
    sequences = [(await read_all(store, n))[0].sequence for n in (1, 2)]
    assert list(delivery.recipients) == [(mailbox(1), sequences[0], 1), (mailbox(2), sequences[1], 1)]
    await store.deposit(deposit(1, [address(1), address(9), address(2)], fence=fence(1)))
    await store.deposit(deposit(2, [address(9)]))
    await store.deposit(deposit(3, [address(1)], fence=fence(1)))
    assert len(seen) == 1


async def test_deliveries_are_announced_in_order(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    sequences: list[int] = []
    store.listen(
        lambda deliveries: sequences.extend(
            sequence
            for delivery in deliveries
            for _, first, taken in delivery.recipients
            for sequence in range(first, first + taken)
        )
    )
    await asyncio.gather(*(store.deposit(deposit(n, [address(1)])) for n in range(200)))
    assert sequences == sorted(set(sequences))
    assert sequences == [entry.sequence for entry in await read_all(store, 1)]


async def test_the_listener_hears_each_mailboxs_order_whatever_the_lists(store: Store) -> None:
    addresses = [*range(6), *range(10, 16)]  # two of each mailbox, and a list may name one twice
    for n in range(6):
        await make_mailbox(store, n, [n, n + 10])
    told: dict[bytes, list[int]] = {}

    def listen(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            for where, first, taken in delivery.recipients:
                told.setdefault(where, []).extend(range(first, first + taken))

    store.listen(listen)
    random = Random(7)
    lists = [random.choices(addresses, k=random.randint(1, 6)) for _ in range(8)]
    for start in range(0, 300, 30):
        chosen = [random.choice(lists) for _ in range(30)]
        await asyncio.gather(
            *(store_deposit(store, deposit(start + n, [address(a) for a in to])) for n, to in enumerate(chosen))
        )
    for n in range(6):
        assert told[mailbox(n)] == [entry.sequence for entry in await read_all(store, n)]


async def test_a_list_that_names_a_mailbox_twice_overtakes_nothing(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2, 12])
    told: list[bytes] = []
    store.listen(
        lambda deliveries: told.extend(
            body
            for delivery in deliveries
            if mailbox(1) in [where for where, _, _ in delivery.recipients]
            for _, body, _ in delivery.entries
        )
    )
    items = [[1], [2, 12, 1], [1], [12, 2, 1, 1]]
    await asyncio.gather(
        *(store.deposit(deposit(n, [address(a) for a in to], body=b"%d" % n)) for n, to in enumerate(items))
    )
    stored = [entry.body for entry in await read_all(store, 1)]
    assert stored == [b"0", b"1", b"2", b"3", b"3"]
    assert told == stored[:4]


async def test_a_part_of_what_came_together_is_acknowledged(store: Store) -> None:
    for n in (1, 2):
        await make_mailbox(store, n, [n])
    owner = await subscribe(store, 1)
    together = [deposit(n, [address(1), address(2)], body=b"%d" % n * (n + 1)) for n in range(9)]
    await asyncio.gather(*(store_deposit(store, item) for item in together))
    sequences = [entry.sequence for entry in await read_all(store, 1)]
    await acknowledge(store, 1, sequences[1], [], owner)
    await acknowledge(store, 1, sequences[6], [sequences[3], sequences[5]], owner)
    await acknowledge(store, 1, sequences[4], [], owner)
    assert await bodies(store, 1) == [b"555555", b"77777777", b"888888888"]
    assert [entry.body for entry in await store.read(mailbox(1), sequences[5], 2, 100)] == [b"77777777", b"888888888"]
    assert [entry.body for entry in await store.read(mailbox(1), 0, 9, 7)] == [b"555555"]
    status = await store.status(mailbox(1))
    assert status is not None
    assert (status.entries, status.size) == (3, 23)
    assert await bodies(store, 2) == [item.body for item in together]
    assert (await store.totals()).entries == 12
    await acknowledge(store, 1, sequences[8], [], owner)
    await acknowledge(store, 2, sequences[8] + (1 << 20))
    assert await store.totals() == Totals(2, 0, 0)


async def test_calls_take_effect_in_their_order(store: Store) -> None:
    answers = await asyncio.gather(
        store.create_mailbox(mailbox(1), bytes(32), None),
        store.put_addresses(mailbox(1), [AddressSpec(address(1), 10, 0)]),
        store_deposit(store, deposit(1, [address(1)])),
        store.delete_mailbox(mailbox(1)),
        store_deposit(store, deposit(2, [address(1)])),
        store.create_mailbox(mailbox(1), bytes(32), None),
        store.put_addresses(mailbox(1), [AddressSpec(address(1), 10, 0)]),
        store_deposit(store, deposit(3, [address(1)], body=b"last")),
        store.status(mailbox(1)),
    )
    assert answers[0] != answers[5]
    assert answers[2] == answers[7] == Accepted(())
    assert answers[4] == Accepted(((0, Code.GONE),))
    assert answers[8].entries == 1
    assert await bodies(store, 1) == [b"last"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=50)), min_size=1, max_size=8))
def test_bodies_come_back_as_they_were(opener: Opener, items: list[tuple[bool, bytes]]) -> None:
    async def run() -> None:
        store = await opener.elsewhere().open()
        await make_mailbox(store, 1, [1])
        for number, (large, body) in enumerate(items):
            await store.deposit(deposit(number, [address(1)], body=body, large=large))
        assert await bodies(store, 1) == [body for _, body in items]
        await store.close()

    asyncio.run(run())


# Lifetimes.


async def test_an_entry_expires(store: Store, opener: Opener) -> None:
    for number in (1, 2):
        await make_mailbox(store, number, [number], cap=2)
    await store.deposit(deposit(1, [address(1), address(2)], body=b"short", lifetime=60))
    await store.deposit(deposit(2, [address(1), address(2)], body=b"long"))
    opener.clock.advance(60)
    assert [await bodies(store, n) for n in (1, 2)] == [[b"long"], [b"long"]]
    assert (await store.read(mailbox(1), 0, 1, 1))[0].body == b"long"
    await store.sweep()
    assert await store.totals() == Totals(2, 2, 8)
    assert await store.deposit(deposit(3, [address(1)])) == Accepted(())
    assert await bodies(store, 1) == [b"long", b"ciphertext"]


async def test_an_expired_fence_winner_is_still_the_winner(store: Store, opener: Opener) -> None:
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)], lifetime=60, fence=fence(1)))
    opener.clock.advance(61)
    await store.sweep()
    assert await read_all(store, 1) == []
    assert (await store.totals()).entries == 0
    winner = await store.winner(fence(1))
    assert winner is not None
    assert winner.body == b"ciphertext"
    opener.clock.advance(limits.FENCE_LIFETIME)
    await store.sweep()
    assert await store.winner(fence(1)) is None
    assert await store.deposit(deposit(2, [address(1)], fence=fence(1))) == Accepted(())


async def test_a_sweep_takes_any_number(store: Store, opener: Opener) -> None:
    await make_mailbox(store, 1, [1])
    await asyncio.gather(*(store.deposit(deposit(n, [address(1)], lifetime=60)) for n in range(600)))
    opener.clock.advance(60)
    assert await read_all(store, 1) == []
    await store.sweep()
    assert await store.totals() == Totals(1, 0, 0)


async def test_a_sweep_spares_what_was_deleted(store: Store, opener: Opener) -> None:
    await make_mailbox(store, 1, [1])
    await make_mailbox(store, 2, [2])
    await store.deposit(deposit(1, [address(1), address(2)], lifetime=60))
    await store.delete_mailbox(mailbox(1))
    await acknowledge(store, 2, limits.MAX_SEQUENCE)
    opener.clock.advance(60)
    await store.sweep()
    assert await store.totals() == Totals(1, 0, 0)


# Fences.


async def test_a_fence_is_won_once(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    assert await store.winner(fence(1)) is None
    item = deposit(1, [address(1)], body=b"winner", fence=fence(1))
    answers = await asyncio.gather(
        store.deposit(item),
        store.deposit(deposit(2, [address(1)], body=b"loser", fence=fence(1))),
        store.deposit(deposit(1, [address(1)], body=b"other body", fence=fence(1))),
    )
    assert list(answers) == [Accepted(()), FenceLost(), FenceLost()]
    assert await bodies(store, 1) == [b"winner"]
    winner = await store.winner(fence(1))
    assert winner is not None
    assert (winner.message_id, winner.body) == (item.message_id, b"winner")
    assert await store.deposit(item) == Accepted(())
    to_others = deposit(1, [address(9)], body=b"winner", fence=fence(1))
    assert await store.deposit(to_others) == Accepted(())


async def test_a_fence_is_won_though_nobody_is_there(store: Store, opener: Opener) -> None:
    assert await store.deposit(deposit(1, [address(9)], fence=fence(1))) == Accepted(((0, Code.GONE),))
    assert await store.deposit(deposit(2, [address(9)], fence=fence(1))) == FenceLost()
    opener.clock.advance(limits.FENCE_LIFETIME - 1)
    await store.sweep()
    assert await store.winner(fence(1)) is not None


async def test_a_fence_outlives_the_acknowledgement_of_its_winner(store: Store, opener: Opener) -> None:
    await make_mailbox(store, 1, [1])
    await store.deposit(deposit(1, [address(1)], fence=fence(1), lifetime=limits.MAX_LIFETIME))
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    opener.clock.advance(limits.FENCE_LIFETIME - 1)
    await store.sweep()
    assert await store.winner(fence(1)) is not None
    opener.clock.advance(1)
    await store.sweep()
    assert await store.winner(fence(1)) is None


# Prekeys.


async def test_prekeys_are_issued_in_order_and_once(store: Store) -> None:
    await make_mailbox(store, 1, [1, 2])
    assert await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"last", replace=False) is None
    claimed, low = await store.claim(SUITE, [address(1), address(2), address(9)])
    assert claimed == [encode_prekey(0, 1, b"1"), encode_prekey(0, 2, b"2"), encode_prekey(Code.GONE, 0, b"")]
    assert low == []
    claimed, _ = await store.claim(SUITE, [address(1), address(1)])
    assert claimed == [encode_prekey(0, 3, b"3"), encode_prekey(0, 0, b"last")]
    assert (await subscribe(store, 1)).pools == (Pool(SUITE, 3, 3, 0, last_resort=True),)


async def test_an_empty_pool_without_last_resort_is_empty(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(Code.EMPTY, 0, b"")]
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1"], b"", replace=False)
    assert (await store.claim(SUITE + 1, [address(1)]))[0] == [encode_prekey(Code.EMPTY, 0, b"")]
    await store.claim(SUITE, [address(1)])
    assert (await store.claim(SUITE, [address(1)]))[0] == [encode_prekey(Code.EMPTY, 0, b"")]


async def test_a_number_is_never_issued_twice(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"", replace=False)
    await store.claim(SUITE, [address(1)])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1 again", b"2 again", b"3"], b"", replace=False)
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1 again"], b"", replace=False)
    claimed, _ = await store.claim(SUITE, [address(1)] * 3)
    assert claimed == [encode_prekey(0, 2, b"2"), encode_prekey(0, 3, b"3"), encode_prekey(Code.EMPTY, 0, b"")]


async def test_a_pool_is_replaced(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"last", replace=False)
    await store.put_prekeys(mailbox(1), SUITE, 3, [b"3"], b"newer", replace=True)
    claimed, _ = await store.claim(SUITE, [address(1)] * 2)
    assert claimed == [encode_prekey(0, 3, b"3"), encode_prekey(0, 0, b"newer")]
    await store.put_prekeys(mailbox(1), SUITE, 10, [], b"", replace=True)
    assert (await subscribe(store, 1)).pools == (Pool(SUITE, 3, 3, 0, last_resort=True),)


async def test_pools_are_bounded(opener: Opener) -> None:
    opener.quotas = Quotas(prekeys=2)
    store = await opener.open()
    await make_mailbox(store, 1, [1])
    assert await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"", replace=False) == Code.LIMIT
    for suite in range(1, limits.MAX_SUITES + 1):
        assert await store.put_prekeys(mailbox(1), suite, 1, [b"1", b"2"], b"", replace=False) is None
    assert await store.put_prekeys(mailbox(1), 99, 1, [b"1"], b"", replace=False) == Code.LIMIT
    assert await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"", replace=False) == Code.LIMIT
    assert await store.put_prekeys(mailbox(1), SUITE, 3, [b"3"], b"", replace=True) is None
    status = await store.status(mailbox(1))
    assert status is not None
    assert Pool(SUITE, 3, 0, 1, last_resort=False) in status.pools
    await store.close()


async def test_the_owner_is_told_once_when_a_pool_runs_low(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    packages = [bytes((n,)) for n in range(limits.PREKEYS_LOW_MARK + 1)]
    await store.put_prekeys(mailbox(1), SUITE, 1, packages, b"", replace=False)
    lows = [(await store.claim(SUITE, [address(1)]))[1] for _ in packages]
    assert lows[1] == [PoolLow(mailbox(1), SUITE, limits.PREKEYS_LOW_MARK - 1)]
    assert not any(lows[:1] + lows[2:])


async def test_a_pool_that_is_filled_up_runs_low_with_what_it_has_then(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    mark, uploaded, number = limits.PREKEYS_LOW_MARK, 0, 0
    for count, claims, lows in ((mark, 1, 1), (5, 4, 0), (1, 2, 1), (mark + 3, mark - 1, 0), (mark, 2 * mark, 1)):
        packages = [b"%d" % (uploaded + place) for place in range(1, count + 1)]
        await store.put_prekeys(mailbox(1), SUITE, uploaded + 1, packages, b"", replace=False)
        uploaded += count
        told: list[PoolLow] = []
        for _ in range(claims):
            number += 1
            claimed, low = await store.claim(SUITE, [address(1)])
            assert list(claimed) == [encode_prekey(0, number, b"%d" % number)]
            told += low
        assert told == [PoolLow(mailbox(1), SUITE, mark - 1)] * lows


async def test_an_address_that_was_claimed_from_is_gone_once_revoked(store: Store) -> None:
    await make_mailbox(store, 1, [1, 2])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3", b"4", b"5"], b"", replace=False)
    both = [address(1), address(2)]
    assert (await store.claim(SUITE, both))[0] == [encode_prekey(0, 1, b"1"), encode_prekey(0, 2, b"2")]
    await store.revoke_addresses(mailbox(1), [address(1)])
    gone = encode_prekey(Code.GONE, 0, b"")
    assert (await store.claim(SUITE, both))[0] == [gone, encode_prekey(0, 3, b"3")]
    assert (await store.claim(SUITE, [address(2)]))[0] == [encode_prekey(0, 4, b"4")]
    await store.delete_mailbox(mailbox(1))
    assert (await store.claim(SUITE, both))[0] == [gone] * 2


async def test_numbers_may_have_gaps(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    for first, packages in ((3, [b"3", b"4"]), (400, [b"400"]), (70_000, [b"70000", b"70001"]), (2**33, [b"last"])):
        await store.put_prekeys(mailbox(1), SUITE, first, packages, b"", replace=False)
    issued, left = [0], 6
    for number in (3, 4, 400, 70_000, 70_001, 2**33):
        assert (await subscribe(store, 1)).pools == (Pool(SUITE, 2**33, issued[-1], left, last_resort=False),)
        claimed, _ = await store.claim(SUITE, [address(1)])
        assert claimed[0].startswith(encode_prekey(0, number, b"")[:-1][:-1])
        issued.append(number)
        left -= 1
    assert (await subscribe(store, 1)).pools == (Pool(SUITE, 2**33, 2**33, 0, last_resort=False),)
    await store.put_prekeys(mailbox(1), SUITE, 2**33 + 5, [b"a", b"b"], b"", replace=False)
    await store.put_prekeys(mailbox(1), SUITE, 2**33 + 7, [], b"", replace=True)
    assert (await subscribe(store, 1)).pools == (Pool(SUITE, 2**33 + 6, 2**33, 0, last_resort=False),)


async def test_a_spent_address_gets_the_last_resort_alone(store: Store) -> None:
    await make_mailbox(store, 1, [1, 2])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"last", replace=False)
    claimed, _ = await store.claim(SUITE, [address(1), address(2), address(1), address(9)], [0, 2, 3])
    last = encode_prekey(0, 0, b"last")
    assert claimed == [last, encode_prekey(0, 1, b"1"), last, encode_prekey(Code.GONE, 0, b"")]


async def test_the_owner_learns_of_spent_addresses_at_the_next_subscription(opener: Opener) -> None:
    store = await opener.open()
    await make_mailbox(store, 1, [1, 2])
    assert [await store.mark_spent(address(number)) for number in (2, 1, 2)] == [mailbox(1)] * 3
    assert await store.mark_spent(address(9)) is None
    await store.close()
    store = await opener.open()
    assert (await subscribe(store, 1)).spent == (address(2), address(1))
    assert (await subscribe(store, 1)).spent == ()
    await store.mark_spent(address(1))
    await store.delete_mailbox(mailbox(1))
    assert await store.mark_spent(address(1)) is None
    await make_mailbox(store, 1, [1])
    assert (await subscribe(store, 1)).spent == ()
    await store.close()


async def test_so_many_spent_addresses_are_kept(store: Store) -> None:
    numbers = list(range(1, SPENT_KEPT + 2))
    await make_mailbox(store, 1, numbers)
    for number in numbers:
        await store.mark_spent(address(number))
    assert (await subscribe(store, 1)).spent == tuple(address(number) for number in numbers[:-1])


# Slots.


async def test_a_slot_is_written_from_version_to_version(store: Store) -> None:
    slot = identifier("slot", 1)
    assert await store.get_slot(slot) is None
    assert not await store.put_slot(slot, 2, DAY, b"second")
    assert await store.put_slot(slot, 1, DAY, b"first")
    assert await store.put_slot(slot, 1, DAY, b"first")
    assert not await store.put_slot(slot, 1, DAY, b"other")
    assert await store.put_slot(slot, 2, DAY, b"second")
    assert not await store.put_slot(slot, 1, DAY, b"first")
    assert await store.get_slot(slot) == StoredSlot(2, b"second")
    await store.delete_slot(slot)
    await store.delete_slot(slot)
    assert await store.get_slot(slot) is None
    assert await store.put_slot(slot, 1, DAY, b"")


@pytest.mark.parametrize("swept", [False, True])
async def test_a_slot_expires(store: Store, opener: Opener, swept: bool) -> None:
    slot = identifier("slot", 1)
    await store.put_slot(slot, 1, DAY, b"first")
    opener.clock.advance(DAY - 1)
    await store.put_slot(slot, 2, DAY, b"second")
    opener.clock.advance(DAY - 1)
    assert await store.get_slot(slot) == StoredSlot(2, b"second")
    opener.clock.advance(1)
    if swept:
        await store.sweep()
    assert await store.get_slot(slot) is None
    assert await store.put_slot(slot, 1, DAY, b"anew")


# Opening and closing.


async def test_everything_survives_closing(opener: Opener) -> None:
    store = await opener.open()
    for number in (1, 2):
        await make_mailbox(store, number, [number])
    await store.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2"], b"last", replace=False)
    await store.claim(SUITE, [address(1)])
    item = deposit(0, [address(1), address(2), address(9)], body=b"0", fence=fence(1))
    await store.deposit(item)
    for number in range(1, 5):
        await store.deposit(deposit(number, [address(1)], body=b"%d" % number, large=number == 4))
    sequences = [entry.sequence for entry in await read_all(store, 1)]
    await acknowledge(store, 1, sequences[3], [sequences[0], sequences[2]])
    await store.put_slot(identifier("slot", 1), 1, DAY, b"slot")
    before = await read_all(store, 1), await store.status(mailbox(1)), await store.totals()
    first = await subscribe(store, 1)
    await store.close()

    store = await opener.open()
    assert (await read_all(store, 1), await store.status(mailbox(1)), await store.totals()) == before
    assert [entry.body for entry in before[0]] == [b"0", b"2", b"4"]
    again = await store.subscribe(mailbox(1), first.incarnation, sequences[4], [SeenPool(SUITE, 2, 1)])
    assert again is not None
    assert (again.incarnation, again.acknowledged, again.pools) == (
        first.incarnation,
        sequences[3],
        (Pool(SUITE, 2, 1, 1, last_resort=True),),
    )
    assert not await acknowledge(store, 1, sequences[4], owner=first)
    assert await store.deposit(item) == Accepted(((2, Code.GONE),))
    assert await store.deposit(deposit(9, [address(1)], fence=fence(1))) == FenceLost()
    assert await store.get_slot(identifier("slot", 1)) == StoredSlot(1, b"slot")
    await acknowledge(store, 1, limits.MAX_SEQUENCE)
    await acknowledge(store, 2, limits.MAX_SEQUENCE)
    assert await store.totals() == Totals(2, 0, 0)
    assert await store.winner(fence(1)) is not None
    await store.close()


async def test_a_closed_store_answers_nothing(opener: Opener) -> None:
    store = await opener.open()
    pending = asyncio.ensure_future(store.create_mailbox(mailbox(1), bytes(32), None))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await pending is not None
    with pytest.raises(StoreUnavailable):
        await store.has_mailbox(mailbox(1))
    with pytest.raises(StoreUnavailable):
        await store.deposit(deposit(1, [address(1)]))
