from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from restante_crypto import proofs
from restante_server import policy
from restante_server.identity import Identity
from restante_server.policy import Operator
from restante_server.services.bulletin import ANNOUNCEMENTS, LIFETIME, POLICY, Bulletin, policy_name
from restante_server.stores.sqlite import SqliteStore
from support.stores import Opener


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    return Opener(tmp_path / "relay.db")


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[SqliteStore]:
    opened = await opener.open()
    yield opened
    await opened.close()


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.open(tmp_path)


def content(name: str) -> dict[str, Any]:
    return policy.document(Operator(name))


async def versions(published: Bulletin) -> list[tuple[int, str]]:
    _, listed = await published.read(POLICY)
    return [(entry["number"], entry["version"]) for entry in listed]


async def test_only_a_changed_policy_is_a_new_version_and_all_stay(
    opener: Opener, store: SqliteStore, identity: Identity
) -> None:
    published = Bulletin(store, identity, opener.clock)
    first, second = content("One"), content("Two")
    assert await published.publish_policy(first) == 1
    assert await published.publish_policy(first) == 1
    assert await published.publish_policy(second) == 2
    assert await versions(published) == [(1, policy.version(first)), (2, policy.version(second))]
    assert [(await published.read(policy_name(number)))[1] for number in (1, 2)] == [first, second]
    assert await published.publish_policy(first) == 3
    assert await versions(published) == [(n, policy.version(each)) for n, each in enumerate((first, second, first), 1)]


async def test_refreshing_keeps_it_alive_and_giving_up_lets_it_go(
    opener: Opener, store: SqliteStore, identity: Identity
) -> None:
    published = Bulletin(store, identity, opener.clock)
    await published.publish_policy(content("One"))
    await published.publish_policy(content("Two"))
    opener.clock.advance(LIFETIME - 1)
    await published.publish_policy(content("Two"))
    opener.clock.advance(LIFETIME - 1)
    assert len(await versions(published)) == 2
    assert (await published.read(policy_name(1)))[1] == content("One")
    opener.clock.advance(2)
    assert await published.read(POLICY) == (0, None)


async def test_two_relays_of_one_key_agree(opener: Opener, store: SqliteStore, identity: Identity) -> None:
    one, other = (Bulletin(store, identity, opener.clock) for _ in range(2))
    await one.publish_policy(content("One"))
    assert await other.publish_policy(content("One")) == 1
    version, listed = await one.read(POLICY)
    assert await other.write(POLICY, version + 1, listed)
    assert not await one.write(POLICY, version + 1, []), "the other was faster"


async def test_announcements_are_numbered_in_the_order_of_time(
    opener: Opener, store: SqliteStore, identity: Identity
) -> None:
    published = Bulletin(store, identity, opener.clock)
    await published.announce("incident", {"en": "one"})
    await published.announce("transfer", {"en": "two", "zh": "二"})
    _, listed = await published.read(ANNOUNCEMENTS)
    assert [(each["number"], each["kind"], each["texts"]["en"]) for each in listed] == [
        (1, "incident", "one"),
        (2, "transfer", "two"),
    ]
    assert listed[0]["at"] < listed[1]["at"], "within one millisecond too"
    opener.clock.advance(LIFETIME - 1)
    await published.refresh_announcements()
    opener.clock.advance(LIFETIME - 1)
    assert (await published.read(ANNOUNCEMENTS))[1] == listed


async def test_a_policy_is_announced_once(opener: Opener, store: SqliteStore, identity: Identity) -> None:
    published = Bulletin(store, identity, opener.clock)
    await published.refresh_announcements()
    for number in (2, 2, 3, 2):
        await published.announce("policy", {"en": "changed"}, number=number)
    assert [each["policy"] for each in (await published.read(ANNOUNCEMENTS))[1]] == [2, 3]


async def test_the_oldest_announcements_make_room(opener: Opener, store: SqliteStore, identity: Identity) -> None:
    published = Bulletin(store, identity, opener.clock)
    for _ in range(20):
        await published.announce("service", {"en": "x" * 4096})
    _, listed = await published.read(ANNOUNCEMENTS)
    assert [each["number"] for each in listed] == list(range(6, 21))


async def test_what_another_key_wrote_is_not_published(opener: Opener, store: SqliteStore, identity: Identity) -> None:
    published = Bulletin(store, identity, opener.clock)
    slot = proofs.public_slot_id(identity.public, POLICY)
    assert await store.put_slot(slot, 1, LIFETIME, bytes(64) + b"[]")
    assert await published.read(POLICY) == (1, None)
    await published.publish_policy(content("One"))
    assert len(await versions(published)) == 1


async def test_too_much_is_not_published(opener: Opener, store: SqliteStore, identity: Identity) -> None:
    with pytest.raises(ValueError, match="too much"):
        await Bulletin(store, identity, opener.clock).write(POLICY, 1, ["x" * 70_000])
