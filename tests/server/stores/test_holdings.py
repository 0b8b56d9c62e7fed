"""What every store tells of a mailbox, and that deleting and scrubbing leaves nothing of it."""

import os

from restante_server.stores.contract import Store
from support.stores import (
    DAY,
    SUITE,
    AnyOpener,
    address,
    deposit,
    every_store,
    identifier,
    mailbox,
    make_mailbox,
    read_all,
)

pytestmark = every_store


async def held(store: Store, number: int) -> dict[tuple[str, bytes], bytes | int]:
    found: dict[tuple[str, bytes], bytes | int] = {}
    after = b""
    for _ in range(10_000):
        part, after = await store.holdings(mailbox(number), after)
        assert len(after) <= 32
        for each in part:
            assert (each.name, each.key) not in found, "once"
            found[each.name, each.key] = each.value
        if not after:
            return found
    raise AssertionError("no end")


async def test_all_of_a_mailbox_is_told_and_nothing_of_another(store: Store) -> None:
    addresses = list(range(1, 400))
    for first in range(0, len(addresses), 200):
        await make_mailbox(store, 1, addresses[first : first + 200], cap=770)
    await make_mailbox(store, 2, [1000])
    packages = [os.urandom(40) for _ in range(300)]
    for first in range(0, 300, 100):
        await store.put_prekeys(mailbox(1), SUITE, first + 1, packages[first : first + 100], b"last", replace=False)
    await store.put_prekeys(mailbox(1), SUITE + 1, 1, [b"of another suite"], b"", replace=False)
    await store.put_prekeys(mailbox(2), SUITE, 1, [b"of another mailbox"], b"", replace=False)
    bodies = [os.urandom(5000) for _ in range(150)]
    for number, body in enumerate(bodies):
        await store.deposit(deposit(number, [address(1), address(1000)], body=body))
    await store.deposit(deposit(9999, [address(1000)], body=b"for another"))
    found = await held(store, 1)
    assert found["mailbox.id", b""] == mailbox(1)
    assert found["mailbox.receive_key", b""] == bytes(32)
    assert found["mailbox.addresses", b""] == 399
    assert {key for name, key in found if name == "address.id"} == {address(number) for number in addresses}
    assert {found["address.cap", address(number)] for number in addresses} == {770}
    told = [value for (name, _), value in found.items() if name == "prekey.package"]
    assert sorted(told) == sorted([*packages, b"of another suite"])  # type: ignore[type-var]  # all are bytes
    assert found["pool.last_resort", SUITE.to_bytes(2, "big")] == b"last"
    entries = await read_all(store, 1)
    assert [each.body for each in entries] == bodies
    for entry in entries:
        assert found["payload.body", entry.sequence.to_bytes(8, "big")] == entry.body
        assert found["payload.message_id", entry.sequence.to_bytes(8, "big")] == entry.message_id
    assert not {b"of another mailbox", b"for another", mailbox(2), address(1000)} & set(found.values())


async def test_what_is_told_of_a_pool_is_what_its_owner_is_told(store: Store) -> None:
    await make_mailbox(store, 1, [1])
    await store.put_prekeys(mailbox(1), 1, 5, [b"5", b"6"], b"", replace=False)
    await store.put_prekeys(mailbox(1), 1, 9, [b"9"], b"", replace=False)
    await store.put_prekeys(mailbox(1), 2, 1, [b"1"], b"last", replace=False)
    await store.put_prekeys(mailbox(1), 3, 1, [b"1", b"2"], b"", replace=False)
    await store.put_prekeys(mailbox(1), 3, 3, [], b"", replace=True)
    await store.claim(2, [address(1)])
    for _ in range(3):
        status = await store.status(mailbox(1))
        assert status is not None
        found = await held(store, 1)
        for pool in status.pools:
            key = pool.suite.to_bytes(2, "big")
            told = tuple(found[f"pool.{name}", key] for name in ("uploaded", "issued", "left"))
            assert told == (pool.uploaded, pool.issued, pool.left)
            packages = [at for name, at in found if name == "prekey.package" and at[:2] == key]
            assert len(packages) == pool.left
        await store.claim(1, [address(1)])


async def test_nothing_is_held_of_who_is_not_there(store: Store) -> None:
    assert await store.holdings(mailbox(1), b"") == ([], b"")
    await make_mailbox(store, 1, [1])
    await store.delete_mailbox(mailbox(1))
    for after in (b"", b"\x01", b"\x02", b"\x03", b"\x04" + bytes(8)):
        assert await store.holdings(mailbox(1), after) == ([], b"")


async def test_scrubbing_changes_nothing_that_is_there(opener: AnyOpener) -> None:
    store = await opener.open()
    for number in range(20):
        await make_mailbox(store, number, [number])
        await store.put_slot(identifier("slot", number), 1, DAY, b"slot %d" % number)
    for number in range(100):
        await store.deposit(deposit(number, [address(n) for n in range(20)], body=b"body %d" % number))
    for number in range(10):
        await store.delete_mailbox(mailbox(number))
    before = [await read_all(store, number) for number in range(10, 20)]
    await store.scrub()
    assert [await read_all(store, number) for number in range(10, 20)] == before
    await store.deposit(deposit(1000, [address(15)], body=b"after"))
    await store.close()
    store = await opener.open()
    assert [each.body for each in await read_all(store, 15)] == [each.body for each in before[5]] + [b"after"]
    slot = await store.get_slot(identifier("slot", 5))
    assert slot is not None
    assert slot.body == b"slot 5"
    await store.close()
