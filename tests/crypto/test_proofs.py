"""The vectors that PROTOCOL.md prints, and what each id, digest and signed message commits to."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import restante_protocol
from restante_crypto import primitives, proofs
from restante_protocol import frames, ids
from support import plain_client, wire

DOCUMENT = (Path(restante_protocol.__file__).parents[1] / "PROTOCOL.md").read_text(encoding="utf-8")
VECTORS = {
    what: bytes.fromhex(value)
    for what, value in re.findall(
        r"^\| (.+) \| `([0-9a-f]+)` \|$", DOCUMENT.split("## 11. Test vectors")[-1], re.MULTILINE
    )
}

OWNER_SEED, RELAY_SEED = bytes(range(32)), bytes(range(32, 64))
OWNER, RELAY = primitives.ed25519_public(OWNER_SEED), primitives.ed25519_public(RELAY_SEED)
NONCE = bytes(range(16))
CLIENT_NONCE, RELAY_NONCE = b"\x01" * 32, b"\x02" * 32
BODY = b"sealed"
MAILBOX = proofs.mailbox_id(7, OWNER, NONCE)
ADDRESS = proofs.address_id(7, OWNER, NONCE)
SLOT = proofs.slot_id(7, OWNER, NONCE)
BLOB = proofs.blob_id(7, OWNER, NONCE)


def test_ids_and_digests_are_those_of_the_document() -> None:
    assert VECTORS["owner key"] == OWNER
    assert VECTORS["relay key"] == RELAY
    assert VECTORS["mailbox id"] == MAILBOX
    assert VECTORS["address id"] == ADDRESS
    assert VECTORS["slot id"] == SLOT
    assert VECTORS["blob id"] == BLOB
    assert VECTORS["slot id of the publication `policy`"] == proofs.public_slot_id(RELAY, "policy")
    assert VECTORS["body digest"] == proofs.body_digest(BODY)
    assert VECTORS["deposit digest to the address id, then the slot id"] == proofs.deposit_digest(
        NONCE, [ADDRESS, SLOT], BODY
    )


@pytest.mark.parametrize(
    ("what", "seed", "message"),
    [
        ("signature in Welcome", RELAY_SEED, proofs.welcome_message(RELAY, CLIENT_NONCE, RELAY_NONCE)),
        ("signature in Open", OWNER_SEED, proofs.open_message(RELAY, MAILBOX, CLIENT_NONCE, RELAY_NONCE)),
        (
            "signature in SlotPut, version 1, lifetime 86400",
            OWNER_SEED,
            proofs.slot_put_message(RELAY, SLOT, 1, 86_400, BODY),
        ),
        ("signature in SlotDelete", OWNER_SEED, proofs.slot_delete_message(RELAY, SLOT)),
        (
            "signature of a blob upload, lifetime 86400",
            OWNER_SEED,
            proofs.blob_put_message(RELAY, BLOB, 86_400, len(BODY), proofs.body_digest(BODY)),
        ),
        ("signature of a blob deletion", OWNER_SEED, proofs.blob_delete_message(RELAY, BLOB)),
        ("admission receipt of the mailbox", RELAY_SEED, proofs.admission_message(MAILBOX)),
        (
            "receipt of the mailbox's erasure at 1800000000",
            RELAY_SEED,
            proofs.erased_message(MAILBOX, 1_800_000_000),
        ),
        (
            "signature of its version 1 with the content `[]`",
            RELAY_SEED,
            proofs.public_message(proofs.public_slot_id(RELAY, "policy"), 1, b"[]"),
        ),
    ],
)
def test_signatures_are_those_of_the_document(what: str, seed: bytes, message: bytes) -> None:
    assert primitives.ed25519_sign(seed, message) == VECTORS[what]
    assert primitives.ed25519_verify(primitives.ed25519_public(seed), message, VECTORS[what])


def test_frames_are_those_of_the_document() -> None:
    deposit = frames.Deposit(1, NONCE, [ADDRESS], BODY, 86_400, None, 0)
    assert frames.encode(frames.Hello([1], frames.ROLE_RECEIVER, CLIENT_NONCE)) == VECTORS["Hello of a receiver"]
    assert frames.encode(deposit) == VECTORS["Deposit to the address id, request 1, lifetime 86400, no fence, no flags"]


def test_every_vector_of_the_document_is_compared() -> None:
    assert len(VECTORS) == 24  # four of them in test_directory.py


@given(wire.keys, wire.nonces, st.integers(0, ids.BUCKETS - 1))
def test_an_independent_client_computes_the_same_ids(key: bytes, nonce: bytes, bucket: int) -> None:
    kinds: dict[str, Callable[[int, bytes, bytes], bytes]] = {
        "mailbox": proofs.mailbox_id,
        "address": proofs.address_id,
        "slot": proofs.slot_id,
        "blob": proofs.blob_id,
    }
    made = {kind: make(bucket, key, nonce) for kind, make in kinds.items()}
    assert made == {kind: plain_client.identifier(kind, bucket, key, nonce) for kind in kinds}
    assert len(set(made.values())) == 4
    assert all(ids.is_id(identifier) and ids.bucket_of(identifier) == bucket for identifier in made.values())


@given(st.lists(st.tuples(wire.keys, wire.nonces), min_size=2, max_size=2, unique=True))
def test_an_id_commits_to_key_and_nonce(pairs: list[tuple[bytes, bytes]]) -> None:
    one, other = pairs
    assert proofs.mailbox_id(0, *one) != proofs.mailbox_id(0, *other)


DEPOSITS = st.tuples(wire.message_ids, st.lists(wire.identifiers, max_size=3), st.binary(max_size=60))


@given(DEPOSITS, DEPOSITS)
def test_a_deposit_is_known_by_id_addresses_and_body(one: Any, other: Any) -> None:  # noqa: ANN401 -- their arguments
    assert (proofs.deposit_digest(*one) == proofs.deposit_digest(*other)) == (one == other)


@given(st.data(), wire.message_ids, st.lists(wire.identifiers, min_size=1, max_size=3))
def test_an_address_is_not_taken_for_the_body(data: st.DataObject, message_id: bytes, addresses: list[bytes]) -> None:
    cut = data.draw(st.integers(0, len(addresses) - 1))
    moved = proofs.deposit_digest(message_id, addresses[:cut], b"".join(addresses[cut:]))
    assert moved != proofs.deposit_digest(message_id, addresses, b"")


def test_no_signed_message_stands_for_another() -> None:
    messages = {
        "welcome": proofs.welcome_message(RELAY, CLIENT_NONCE, RELAY_NONCE),
        "open": proofs.open_message(RELAY, MAILBOX, CLIENT_NONCE, RELAY_NONCE),
        "slot put": proofs.slot_put_message(RELAY, SLOT, 1, 60, BODY),
        "slot delete": proofs.slot_delete_message(RELAY, SLOT),
        "admission": proofs.admission_message(MAILBOX),
        "erased": proofs.erased_message(MAILBOX, 1),
        "public": proofs.public_message(SLOT, 1, BODY),
    }
    for name, message in messages.items():
        assert message.startswith(plain_client.label(name))
        assert not any(other.startswith(plain_client.label(name)) for other in messages.values() if other != message)


@pytest.mark.parametrize(
    "other",
    [
        proofs.slot_put_message(OWNER, SLOT, 1, 60, BODY),
        proofs.slot_put_message(RELAY, ADDRESS, 1, 60, BODY),
        proofs.slot_put_message(RELAY, SLOT, 2, 60, BODY),
        proofs.slot_put_message(RELAY, SLOT, 1, 61, BODY),
        proofs.slot_put_message(RELAY, SLOT, 1, 60, BODY + b"."),
    ],
)
def test_a_signature_for_a_slot_fits_nothing_else(other: bytes) -> None:
    signature = primitives.ed25519_sign(OWNER_SEED, proofs.slot_put_message(RELAY, SLOT, 1, 60, BODY))
    assert not primitives.ed25519_verify(OWNER, other, signature)


@pytest.mark.parametrize(
    "wrong", [b"", bytes(31), bytes(32), b"\x01" + bytes(31)], ids=["empty", "short", "zero", "one"]
)
def test_keys_of_small_order_sign_nothing(wrong: bytes) -> None:
    forged = b"\x01" + bytes(63)  # R is the identity, s is 0: fits any message under the identity as key
    assert not primitives.ed25519_verify(wrong, proofs.admission_message(MAILBOX), forged)
