"""The document against a real relay: a client written from PROTOCOL.md alone does everything that it describes."""

import ast
import hashlib
import inspect
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from restante_server.config import PushPace
from support import plain_client, plain_directory
from support.directories import NUMBERS, Phones
from support.plain_client import (
    RECEIVER,
    SENDER,
    Answer,
    BlobOwner,
    Closed,
    Owner,
    PlainBlobs,
    PlainClaims,
    PlainClient,
    Received,
    Refused,
    SlotOwner,
)
from support.plain_directory import HANDLE, KINDS, NUMBER, Blinded, Place
from support.push_service import decoded, push_service, verified
from support.relay import relay_in_process

EMPTY, GONE = 41, 40
SUITE = 3


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with relay_in_process(tmp_path) as relay:
        yield relay.url


@pytest.fixture
async def sender(url: str) -> AsyncIterator[PlainClient]:
    async with await PlainClient.connect(url, SENDER) as client:
        yield client


@pytest.fixture
async def receiver(url: str, owner: Owner) -> AsyncIterator[PlainClient]:
    async with await PlainClient.connect(url, RECEIVER) as client:
        await client.open_or_create(owner)
        yield client


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_it_imports_nothing_of_restante() -> None:
    names = {
        name
        for module in (plain_client, plain_directory)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert not {name for name in names if name.startswith(("restante", "support"))}


async def test_a_message_waits_comes_and_goes(
    url: str, owner: Owner, receiver: PlainClient, sender: PlainClient
) -> None:
    address = await receiver.add_address(owner)
    assert await sender.deposit([address], b"first", message_id=b"1" * 16) == []
    acknowledged, pools = await receiver.subscribe()
    assert (acknowledged, pools) == (0, [])
    (first,) = await receiver.drain()
    assert (first.message_id, first.body, first.fence) == (b"1" * 16, b"first", None)
    await sender.deposit([address], b"second", fence=b"f" * 32)
    second = await receiver.entry()
    assert (second.body, second.fence) == (b"second", b"f" * 32)
    assert second.sequence > first.sequence
    await receiver.ack(second.sequence, [first.sequence])
    sequence, *_ = await receiver.status()
    assert sequence == second.sequence
    await receiver.close()
    async with await PlainClient.connect(url, RECEIVER) as again:
        await again.open(owner)
        acknowledged, _ = await again.subscribe(receiver.incarnation, second.sequence)
        assert again.incarnation == receiver.incarnation
        assert acknowledged == second.sequence
        assert await again.drain() == [first]
        await again.ack(second.sequence)


async def test_ephemeral_entries_have_the_sequence_0(owner: Owner, receiver: PlainClient, sender: PlainClient) -> None:
    address = await receiver.add_address(owner)
    await receiver.subscribe()
    assert await receiver.drain() == []
    assert await sender.deposit([address, b"\x01" * 24], b"typing", flags=1) == [(1, GONE)]
    assert (await receiver.entry()).sequence == 0
    assert (await receiver.status())[1] == 0


async def test_lists_stand_for_their_addresses(owner: Owner, receiver: PlainClient, sender: PlainClient) -> None:
    addresses = [await receiver.add_address(owner) for _ in range(3)]
    await sender.list_put(5, addresses)
    await receiver.address_revoke(addresses[1:2])
    assert await sender.deposit(5, b"body") == [(1, GONE)]
    await sender.list_drop(5)
    with pytest.raises(Refused, match=r"^25 "):
        await sender.deposit(5, b"body")


async def test_a_fence_is_won_once(owner: Owner, receiver: PlainClient, sender: PlainClient) -> None:
    address = await receiver.add_address(owner)
    fence = os.urandom(32)
    with pytest.raises(Refused, match=r"^25 "):
        await sender.fence_get(fence)
    await sender.deposit([address], b"winner", message_id=b"w" * 16, fence=fence)
    await sender.deposit([address], b"winner", message_id=b"w" * 16, fence=fence)
    with pytest.raises(Refused, match=r"^24 "):
        await sender.deposit([address], b"loser", fence=fence)
    assert await sender.fence_get(fence) == (b"w" * 16, b"winner")


async def test_prekeys_are_issued_once_in_order(owner: Owner, receiver: PlainClient, sender: PlainClient) -> None:
    address = await receiver.add_address(owner)
    assert await sender.claim(SUITE, [address, b"\x02" * 24]) == [(EMPTY, 0, b""), (GONE, 0, b"")]
    await receiver.prekeys_put(SUITE, 1, [b"one", b"two"], last_resort=b"last")
    await receiver.prekeys_put(SUITE, 1, [b"one", b"two"])
    assert await sender.claim(SUITE, [address] * 3) == [(0, 1, b"one"), (0, 2, b"two"), (0, 0, b"last")]
    assert (await receiver.status())[3] == [[SUITE, 2, 2, 0, True]]
    await receiver.subscribe(pools=[(SUITE, 2, 2)])
    await receiver.drain()
    await receiver.prekeys_put(SUITE, 3, [bytes([number]) for number in range(20)], replace=True)
    await sender.claim(SUITE, [address])
    assert await receiver.push() == [plain_client.PREKEYS_LOW, SUITE, 19]


async def test_an_address_gives_few_prekeys_at_once(owner: Owner, receiver: PlainClient, sender: PlainClient) -> None:
    address, other = await receiver.add_address(owner), await receiver.add_address(owner)
    await receiver.prekeys_put(SUITE, 1, [bytes([number]) for number in range(50)], last_resort=b"last")
    assert [number for _, number, _ in await sender.claim(SUITE, [address] * 22)] == [*range(1, 21), 0, 0]
    assert await sender.claim(SUITE, [other, address]) == [(0, 21, bytes([20])), (0, 0, b"last")]
    await receiver.subscribe(pools=[(SUITE, 50, 21)])
    assert await receiver.push() in ([plain_client.ADDRESS_SPENT, address], [plain_client.DRAINED, 0])
    assert await receiver.push() in ([plain_client.ADDRESS_SPENT, address], [plain_client.DRAINED, 0])


async def test_prekeys_are_claimed_over_http(
    url: str, owner: Owner, receiver: PlainClient, sender: PlainClient
) -> None:
    address = await receiver.add_address(owner)
    await receiver.prekeys_put(SUITE, 1, [b"one", b"two"], last_resort=b"last")
    async with aiohttp.ClientSession() as session:
        claims = PlainClaims(session, url)
        assert await claims.claim(SUITE, [address, b"\x02" * 24]) == [(0, 1, b"one"), (GONE, 0, b"")]
        assert await sender.claim(SUITE, [address]) == [(0, 2, b"two")]
        assert await claims.claim(SUITE, [address] * 2) == [(0, 0, b"last")] * 2
        with pytest.raises(Refused, match=r"^20 "):
            await claims.claim(SUITE, [])
        assert (await claims.post(b"no frame"))[0] == 400


async def test_a_slot_is_changed_by_its_write_key_alone(sender: PlainClient) -> None:
    owner = SlotOwner()
    with pytest.raises(Refused, match=r"^25 "):
        await sender.slot_get(owner.slot)
    await sender.slot_put(owner, 1, b"first")
    with pytest.raises(Refused, match=r"^24 "):
        await sender.slot_put(owner, 1, b"other")
    await sender.slot_put(owner, 2, b"second")
    await sender.slot_put(owner, 2, b"second")
    assert await sender.slot_get(owner.slot) == (2, b"second")
    stranger = SlotOwner()
    stranger.nonce = owner.nonce
    signature = stranger.key.sign(b"anything").signature
    with pytest.raises(Refused, match=r"^21 "):
        await sender.request(plain_client.SLOT_DELETE, owner.slot, stranger.public, owner.nonce, signature)
    await sender.slot_delete(owner)
    await sender.slot_delete(owner)
    with pytest.raises(Refused, match=r"^25 "):
        await sender.slot_get(owner.slot)


async def test_a_blob_is_uploaded_read_in_parts_and_deleted_by_its_key(url: str, sender: PlainClient) -> None:
    blobs = PlainBlobs(url, sender.relay_key)
    owner, stranger = BlobOwner(), BlobOwner()
    body = os.urandom(300_000)
    assert await blobs.get(owner.blob) == Answer(404, code=25)
    assert await blobs.put(owner, body) == Answer(201)
    assert await blobs.put(owner, body) == Answer(200)
    assert await blobs.put(owner, body[:-1]) == Answer(409, code=24)
    assert await blobs.get(owner.blob) == Answer(200, body)
    assert await blobs.get(owner.blob, "1000-270000") == Answer(
        206, body[1000:270_001], part="bytes 1000-270000/300000"
    )
    assert await blobs.get(owner.blob, "-10") == Answer(206, body[-10:], part="bytes 299990-299999/300000")
    assert await blobs.get(owner.blob, "300000-") == Answer(416, code=20, part="bytes */300000")
    stranger.nonce = owner.nonce
    signed = plain_client.label("blob delete") + blobs.relay_key + owner.blob
    assert await blobs.request("DELETE", owner.blob, stranger.headers(signed)) == Answer(403, code=21)
    assert await blobs.request("DELETE", owner.blob, owner.headers(b"other")) == Answer(403, code=21)
    assert await blobs.delete(owner) == Answer(204)
    assert await blobs.delete(owner) == Answer(204)
    assert await blobs.get(owner.blob) == Answer(404, code=25)


async def test_a_mailbox_is_created_and_deleted_by_its_key(url: str) -> None:
    owner = Owner()
    async with await PlainClient.connect(url, RECEIVER) as client:
        wrong = Owner(nonce=owner.nonce)
        signed = plain_client.label("open") + client.relay_key + owner.mailbox + client.nonce + client.relay_nonce
        signature = wrong.key.sign(signed).signature
        with pytest.raises(Refused, match=r"^21 "):
            await client.request(plain_client.OPEN, owner.mailbox, wrong.public, wrong.nonce, signature)
        with pytest.raises(Refused, match=r"^22 "):
            await client.open(owner)
        incarnation, receipt = await client.create()
        assert len(incarnation) == 16
        assert client.is_receipt(owner.mailbox, receipt)
        assert not client.is_receipt(Owner().mailbox, receipt)
        await client.mailbox_delete(owner.mailbox)
        with pytest.raises(Closed) as closed:
            await client.push()
        assert (closed.value.code, closed.value.close_code) == (None, 1000)
    async with await PlainClient.connect(url, RECEIVER) as client:
        with pytest.raises(Refused, match=r"^22 "):
            await client.open(owner)


async def test_what_is_held_is_told_and_gone_after_erasing(
    url: str, owner: Owner, receiver: PlainClient, sender: PlainClient
) -> None:
    address = await receiver.add_address(owner, cap=77)
    await receiver.prekeys_put(SUITE, 1, [b"package one", b"package two"], last_resort=b"last")
    assert await sender.deposit([address], b"sealed") == []
    held = await receiver.export()
    assert held["mailbox.id", b""] == owner.mailbox
    assert held["mailbox.receive_key", b""] == owner.public
    assert held["address.cap", address] == 77
    assert {b"package one", b"package two", b"last", b"sealed"} <= set(held.values())
    assert await receiver.mailbox_delete(owner.mailbox) > 0
    async with await PlainClient.connect(url, RECEIVER) as again:
        with pytest.raises(Refused):
            await again.open(owner)
        assert await again.export() == {}
        assert await again.mailbox_delete(owner.mailbox) > 0, "a retry has a receipt too"


async def test_the_newest_connection_owns_the_mailbox(url: str, owner: Owner, receiver: PlainClient) -> None:
    await receiver.subscribe()
    await receiver.drain()
    async with await PlainClient.connect(url, RECEIVER) as newer:
        await newer.open(owner)
        await newer.subscribe()
        await newer.drain()
        with pytest.raises(Closed) as closed:
            await receiver.push()
        assert (closed.value.code, closed.value.close_code) == (8, 1008)
        newer.owner_token = receiver.owner_token
        await newer.ack(0)
        with pytest.raises(Closed) as closed:
            await newer.mailbox_delete(owner.mailbox)
        assert (closed.value.code, closed.value.close_code) == (27, 1008)


@pytest.mark.parametrize(
    ("frame", "code", "close_code"),
    [
        ([], 1, 1002),
        ([plain_client.STATUS, 1], 2, 1002),
        ([plain_client.LIST_DROP, 0, 1], 1, 1002),
        ([plain_client.HELLO, [1], 0, b"n" * 32], 2, 1002),
    ],
)
async def test_a_broken_rule_closes(sender: PlainClient, frame: list[object], code: int, close_code: int) -> None:
    await sender.send(frame)
    with pytest.raises(Closed) as closed:
        await sender.push()
    assert (closed.value.code, closed.value.close_code) == (code, close_code)


async def test_a_limit_fails_alone(owner: Owner, receiver: PlainClient, sender: PlainClient) -> None:
    address = await receiver.add_address(owner)
    with pytest.raises(Refused, match=r"^20 "):
        await sender.deposit([address], b"body", lifetime=59)
    with pytest.raises(Refused, match=r"^20 "):
        await sender.deposit([address], bytes(96 * 1024 + 1))
    assert await sender.deposit([address], bytes(96 * 1024 + 1), flags=4) == []
    await receiver.subscribe()
    push = await receiver.push()
    assert isinstance(push, Received)
    assert len(push.body) == 96 * 1024 + 1


async def test_what_the_operator_publishes_is_signed_by_the_relay(sender: PlainClient) -> None:
    (listed,) = await sender.published("policy")
    policy = await sender.published(f"policy {listed['number']}")
    content = json.dumps(policy, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.blake2b(content, digest_size=8, person=b"restante policy").hexdigest() == listed["version"]
    assert {"en", "zh"} <= policy["languages"].keys()
    assert policy["languages"]["en"]["text"].startswith("Privacy policy\n")


async def test_a_device_is_woken(tmp_path: Path, owner: Owner) -> None:
    async with (
        push_service() as service,
        relay_in_process(
            tmp_path / "push",
            purposes=("push",),
            processors=(service.declaration,),
            push_private=True,
            push_pace=PushPace(0.0, 0.0, 0),
        ) as relay,
        await PlainClient.connect(relay.url, SENDER) as sender,
    ):
        async with await PlainClient.connect(relay.url, RECEIVER) as receiver:
            await receiver.open_or_create(owner)
            with pytest.raises(Refused, match=r"^29 "):
                await receiver.push_put(service.endpoint("device"))
            policy = await sender.published("policy 1")
            (push,) = [each for each in policy["purposes"] if each["name"] == "push"]
            await receiver.consent_put("push", bytes.fromhex(push["version"]))
            for wrong, code in (("http://", 20), ("https://elsewhere.net/", 25)):
                with pytest.raises(Refused, match=rf"^{code} "):
                    await receiver.push_put(wrong)
            await receiver.push_put(service.endpoint("device"))
            assert await receiver.push_get() == service.endpoint("device")
            address = await receiver.add_address(owner)
        await sender.deposit([address], b"body")
        (pushed,) = await service.until(1)
        assert (pushed.path, pushed.body, pushed.headers["Topic"]) == ("/wake/device", b"", "waiting")
        _, claims, key = verified(pushed.headers["Authorization"])
        assert (claims["aud"], key) == (service.origin, decoded((await sender.published("push"))["vapid"]))
        async with await PlainClient.connect(relay.url, RECEIVER) as receiver:
            await receiver.open(owner)
            await receiver.push_delete()
            assert await receiver.push_get() == ""


# The directory.


async def place_of(client: PlainClient, sender: PlainClient, kind: int, name: str) -> Place:
    """Have a name evaluated, and verify it with what is published."""
    blinded = Blinded.of(name)
    evaluated, proof = await client.evaluate(kind, blinded.element)
    keys = await sender.published("directory")
    blinded.verify(bytes.fromhex(keys[KINDS[kind].decode()]), evaluated, proof)
    return Place.of(blinded.output(evaluated), kind)


async def grant(client: PlainClient, sender: PlainClient) -> None:
    """Grant what the policy offers, in its versions."""
    (listed,) = await sender.published("policy")
    policy = await sender.published(f"policy {listed['number']}")
    for purpose in policy["purposes"]:
        await client.consent_put(purpose["name"], bytes.fromhex(purpose["version"]))


@pytest.fixture
async def named(tmp_path: Path) -> AsyncIterator[list[PlainClient]]:
    """Two mailboxes and a sender at a relay that has a directory."""
    async with (
        relay_in_process(tmp_path, purposes=("handle", "number"), sms="console") as relay,
        await PlainClient.connect(relay.url, RECEIVER) as alice,
        await PlainClient.connect(relay.url, RECEIVER) as bob,
        await PlainClient.connect(relay.url, SENDER) as sender,
    ):
        for each in (alice, bob):
            await each.open_or_create(Owner())
        yield [alice, bob, sender]


async def test_a_handle_is_found_by_who_knows_it(named: list[PlainClient]) -> None:
    alice, bob, sender = named
    with pytest.raises(Refused, match=r"^29 "):
        await alice.evaluate(HANDLE, Blinded.of("alice").element)
    for each in (alice, bob):
        await grant(each, sender)
    assert set(await alice.consents()) == {"handle", "number"}
    own = await place_of(alice, sender, HANDLE, "alice")
    await alice.handle_put(own.place, own.seal("an invite"))
    found = await place_of(bob, sender, HANDLE, "alice")
    assert found == own
    _, body = await sender.slot_get(found.slot)
    assert found.open(body) == "an invite"
    with pytest.raises(Refused, match=r"^24 "):
        await bob.handle_put(found.place, found.seal("taken"))
    await alice.handle_delete()
    with pytest.raises(Refused, match=r"^25 "):
        await sender.slot_get(found.slot)


async def test_a_number_is_found_by_who_has_verified_one(named: list[PlainClient], phones: Phones) -> None:
    alice, bob, sender = named
    one, two = NUMBERS[:2]
    for client, number in ((alice, one), (bob, two)):
        await grant(client, sender)
        with pytest.raises(Refused, match=r"^21 "):
            await place_of(client, sender, NUMBER, one)
        await client.number_claim(number)
        code = phones.code(number)
        with pytest.raises(Refused, match=r"^21 "):
            await client.number_confirm(number, code[::-1] if code != code[::-1] else "012345")
        await client.number_confirm(number, code)
    own = await place_of(alice, sender, NUMBER, one)
    await alice.number_put(own.seal("an invite"))
    found = await place_of(bob, sender, NUMBER, one)
    records = await bob.numbers(found.place[0])
    assert len(records) >= 100
    assert found.open(records[found.place]) == "an invite"
    await alice.number_delete()
    assert found.place not in await bob.numbers(found.place[0])
    await bob.consent_put("number", b"")
    assert set(await bob.consents()) == {"handle"}
