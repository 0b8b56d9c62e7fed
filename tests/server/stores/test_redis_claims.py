"""Claims of prekeys in Redis: what a node remembers of pools, and when it may not."""

import asyncio
from collections import Counter

import pytest

from restante_protocol import limits
from restante_protocol.errors import Code
from restante_protocol.frames import encode_prekey
from restante_server.stores.contract import PoolLow, StoreUnavailable
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_calls import Call
from restante_server.stores.redis_claims import Claims
from restante_server.stores.redis_scripts import KEYS, bucket_keys
from support.stores import SUITE, MovedClock, address, mailbox, make_mailbox, two_nodes


def counted(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how many calls of each script a store makes from now on."""
    submit, calls = store.masters.submit, Counter[str]()

    def count(call: Call) -> None:
        calls[call.script] += 1
        submit(call)

    monkeypatch.setattr(store.masters, "submit", count)
    return calls


async def test_claims_of_one_tick_are_one_call(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1, 2])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"%d" % number for number in range(1, 9)], b"last", replace=False)
    await first.claim(SUITE, [address(1), address(2)])
    calls = counted(first, monkeypatch)
    claims = [first.claim(SUITE, [address(1)]) for _ in range(5)]
    found = [claimed for claimed, _ in await asyncio.gather(*claims)]
    assert found == [[encode_prekey(0, number, b"%d" % number)] for number in range(3, 8)]
    assert calls["popped"] == 1
    await first.claim(SUITE, [address(2)])
    assert calls["popped"] == 2
    await first.close()
    await second.close()


async def test_only_what_was_revoked_or_deleted_has_pools_looked_up_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1, 2])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"last", replace=False)
    await first.claim(SUITE, [address(1)])
    calls = counted(first, monkeypatch)
    await first.revoke_addresses(mailbox(2), [address(2)])
    await first.delete_mailbox(mailbox(2))
    await first.claim(SUITE, [address(1)])
    assert (calls["popped"], calls["claim"]) == (1, 0)
    await first.revoke_addresses(mailbox(1), [address(2)])
    await first.claim(SUITE, [address(1)])
    assert (calls["popped"], calls["claim"]) == (1, 1)
    for look_ups in (2, 3):
        claimed, _ = await first.claim(SUITE, [address(1)])
        assert [*claimed] == [encode_prekey(0, 0, b"last")]
        assert (calls["popped"], calls["claim"]) == (2, look_ups), "an empty pool is not remembered"
    await first.close()
    await second.close()


async def test_who_does_not_wait_any_more_holds_up_nobody(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1, 2])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"%d" % number for number in range(1, 9)], b"", replace=False)
    await first.claim(SUITE, [address(1), address(2)])
    for revoked in ([], [address(2)]):
        await second.revoke_addresses(mailbox(1), revoked)
        gone, stays = (asyncio.ensure_future(first.claim(SUITE, [address(1)])) for _ in range(2))
        gone.cancel()
        claimed, _ = await stays
        assert claimed[0].startswith(encode_prekey(0, 1, b"")[:2])
    await first.close()
    await second.close()


async def test_what_is_popped_through_an_address_that_is_no_more_is_issued_to_nobody(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1, 2, 3])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"%d" % number for number in range(1, 9)], b"", replace=False)
    await first.claim(SUITE, [address(1), address(2), address(3)])
    await second.revoke_addresses(mailbox(1), [address(2)])
    together = [first.claim(SUITE, [address(number)]) for number in (3, 1, 2, 1)]
    found = [list(claimed) for claimed, _ in await asyncio.gather(*together)]
    gone = [encode_prekey(Code.GONE, 0, b"")]
    assert found == [[encode_prekey(0, 4, b"4")], [encode_prekey(0, 5, b"5")], gone, [encode_prekey(0, 7, b"7")]]
    claimed, _ = await first.claim(SUITE, [address(2), address(1)])
    assert [*claimed] == [*gone, encode_prekey(0, 8, b"8")], "the node has looked it up"
    await first.close()
    await second.close()


async def test_what_is_popped_after_another_history_began_is_issued_to_nobody(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"%d" % number for number in range(1, 9)], b"last", replace=False)
    await first.claim(SUITE, [address(1)])
    state = bucket_keys(first.masters.prefix, 0)[KEYS.index("state")]
    epoch = bytes(8)
    await first.masters.command("HSET", state, "epoch", epoch)
    first.masters.epochs[0] = epoch
    claimed, _ = await first.claim(SUITE, [address(1)])
    assert [*claimed] == [encode_prekey(0, 0, b"last")]
    await first.close()
    await second.close()


async def test_what_nobody_counted_is_issued_to_nobody(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"%d" % number for number in range(1, 9)], b"last", replace=False)
    await first.claim(SUITE, [address(1)])
    await first.masters.command("SCRIPT", "FLUSH")
    claimed, _ = await first.claim(SUITE, [address(1)])
    assert [*claimed] == [encode_prekey(0, 3, b"3")], "the second was popped, and its count refused"
    await first.close()
    await second.close()


async def test_a_pool_that_one_node_remembers_is_looked_up_after_a_revocation_at_another(redis_url: str) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1, 2])
    packages = [b"%d" % number for number in range(1, limits.PREKEYS_LOW_MARK + 4)]
    await second.put_prekeys(mailbox(1), SUITE, 1, packages, b"last", replace=False)
    both = [address(1), address(2)]
    assert (await first.claim(SUITE, both))[0] == [encode_prekey(0, 1, b"1"), encode_prekey(0, 2, b"2")]
    await second.revoke_addresses(mailbox(1), [address(1)])
    claimed, low = await first.claim(SUITE, both)
    assert claimed == [encode_prekey(Code.GONE, 0, b""), encode_prekey(0, 4, b"4")]
    assert low == [PoolLow(mailbox(1), SUITE, limits.PREKEYS_LOW_MARK - 1)]
    claimed, low = await first.claim(SUITE, [address(2)])
    assert claimed == [encode_prekey(0, 5, b"5")]
    assert not low
    claimed, _ = await first.claim(SUITE, [address(2)] * limits.PREKEYS_LOW_MARK)
    assert claimed[-1] == encode_prekey(0, 0, b"last")
    await first.close()
    await second.close()


async def test_a_remembered_pool_of_a_lost_store_is_unavailable(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await two_nodes(redis_url, MovedClock())
    await make_mailbox(first, 1, [1, 2])
    await first.put_prekeys(mailbox(1), SUITE, 1, [b"1", b"2", b"3"], b"last", replace=False)
    await first.claim(SUITE, [address(1)])

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    await second.revoke_addresses(mailbox(1), [address(2)])
    with monkeypatch.context() as patched:
        patched.setattr(Claims, "_look_up_rest", fail)
        with pytest.raises(StoreUnavailable):
            await first.claim(SUITE, [address(1)])
    assert (await first.claim(SUITE, [address(1)]))[0] == [encode_prekey(0, 3, b"3")]
    await first.close()
    with pytest.raises(StoreUnavailable):
        await first.claim(SUITE, [address(1)])
    await second.close()
