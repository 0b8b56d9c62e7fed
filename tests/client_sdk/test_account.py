import os
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.account import (
    CONVERSATION_EXTENSION,
    LEAF_EXTENSION,
    ConversationData,
    Identity,
    LeafData,
    account_id,
    account_key,
    authenticate,
    capabilities,
    certify,
    credential,
    leaf_extensions,
    verify_certificate,
)
from restante.packed import Packed
from restante_crypto import primitives
from restante_crypto.mls import (
    LAST_RESORT,
    Credential,
    CredentialError,
    Extension,
    LeafNode,
    Lifetime,
    SignatureKeyPair,
    create_key_package,
    validate_key_package,
)

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
PHONE, LAPTOP = (SignatureKeyPair(primitives.ed25519_public(seed), seed) for seed in (b"1" * 32, b"2" * 32))


def leaf_data(identity: Identity = ALICE, device: SignatureKeyPair = PHONE, **changes: object) -> LeafData:
    fields = {
        "certificate": certify(identity, device.public),
        "address": bytes(24),
        "relay_url": "https://relay.example",
        "relay_key": bytes(32),
    } | changes
    return LeafData(**fields)  # type: ignore[arg-type]  # wrong values are wanted too


def conversation_data(**changes: object) -> ConversationData:
    fields = {"relay_url": "https://relay.example", "relay_key": bytes(32), "title": "Tea", "created": 1} | changes
    return ConversationData(**fields)  # type: ignore[arg-type]  # the same


def leaf(identity: Identity = ALICE, device: SignatureKeyPair = PHONE) -> LeafNode:
    bundle = create_key_package(
        3,
        signer=device,
        credential=credential(identity.public),
        capabilities=capabilities((3,)),
        lifetime=Lifetime(0, 100),
        leaf_extensions=leaf_extensions(leaf_data(identity, device)),
        random=os.urandom,
    )
    validate_key_package(bundle.key_package, 3, now=50)
    return bundle.key_package.leaf_node


def test_an_identity_signs_and_hides_its_seed() -> None:
    assert primitives.ed25519_verify(ALICE.public, b"message", ALICE.sign(b"message"))
    assert repr(ALICE.seed) not in repr(ALICE)
    assert repr(ALICE.public) in repr(ALICE)


@given(st.binary(min_size=32, max_size=32))
def test_account_ids_are_52_characters_and_read_back(public: bytes) -> None:
    text = account_id(public)
    assert len(text) == 52
    assert text == text.lower()
    assert account_key(text) == public


@pytest.mark.parametrize(
    "text",
    [
        "",
        account_id(bytes(32)).upper().replace("A", "B").lower(),  # bits that no id has
        account_id(b"\xff" * 32).upper(),
        account_id(bytes(32))[:-1],
        account_id(bytes(32)) + "a",
        account_id(bytes(32)) + "====",
        "1" * 52,
        "\u00e9" * 52,
        account_id(bytes(33)),
    ],
)
def test_what_is_not_an_account_id(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- some are Python's own
        account_key(text)


def test_certificates() -> None:
    certificate = certify(ALICE, PHONE.public)
    assert len(certificate) == 64
    assert verify_certificate(ALICE.public, PHONE.public, certificate)
    assert not verify_certificate(BOB.public, PHONE.public, certificate)
    assert not verify_certificate(ALICE.public, LAPTOP.public, certificate)
    assert not verify_certificate(ALICE.public, PHONE.public, certificate[:-1])
    assert not verify_certificate(ALICE.public, PHONE.public, ALICE.sign(PHONE.public))


@pytest.mark.parametrize("value", [leaf_data(), conversation_data(), conversation_data(title=None)])
def test_extensions_round_trip_and_ignore_what_later_versions_append(value: Packed) -> None:
    assert type(value).decode(value.encode()) == value
    array = msgspec.msgpack.decode(value.encode())
    assert array[0] == 1
    assert type(value).decode(msgspec.msgpack.encode([*array, {"new": 1}])) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"certificate": bytes(63)},
        {"address": bytes(25)},
        {"address": b"\xf0" + bytes(23)},
        {"relay_url": ""},
        {"relay_url": "x" * 1025},
        {"relay_key": bytes(31)},
    ],
)
def test_leaf_data_is_strict(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).partition("_")[0]):
        leaf_data(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"relay_url": ""},
        {"relay_key": b""},
        {"title": "\u00e9" * 129},
        {"created": -1},
        {"created": 2**53},
    ],
)
def test_conversation_data_is_strict(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).partition("_")[0]):
        conversation_data(**changes)


def test_a_title_may_have_256_bytes() -> None:
    assert conversation_data(title="\u00e9" * 128).title == "\u00e9" * 128


@given(st.binary())
def test_any_bytes_are_an_extension_or_a_value_error(data: bytes) -> None:
    for kind in (LeafData, ConversationData):
        with pytest.raises(ValueError, match="not a"):
            kind.decode(data)


def test_capabilities_list_both_extensions_and_the_last_resort() -> None:
    value = capabilities([3, 1])
    assert value.suites == (3, 1)
    assert set(value.extensions) == {LEAF_EXTENSION, CONVERSATION_EXTENSION, LAST_RESORT}


def test_a_device_of_its_account_is_authentic() -> None:
    authenticate(leaf(), None)
    authenticate(leaf(), leaf())


def test_a_leaf_of_another_kind_or_size_of_credential_is_refused() -> None:
    for other in (Credential(2), Credential.basic(ALICE.public[:-1]), Credential(0x1A1A, ALICE.public)):
        with pytest.raises(CredentialError, match="names no account"):
            authenticate(replace(leaf(), credential=other), None)


def test_a_leaf_without_a_valid_extension_is_refused() -> None:
    for extensions in ((), (Extension(LEAF_EXTENSION, b""),), (Extension(7, leaf_data().encode()),)):
        with pytest.raises(CredentialError, match="extension"):
            authenticate(replace(leaf(), extensions=extensions), None)


def test_a_device_that_the_account_has_not_certified_is_refused() -> None:
    with pytest.raises(CredentialError, match="certified"):
        authenticate(replace(leaf(), credential=credential(BOB.public)), None)
    with pytest.raises(CredentialError, match="certified"):
        authenticate(replace(leaf(), signature_key=LAPTOP.public), None)


def test_a_leaf_never_changes_account_or_device() -> None:
    with pytest.raises(CredentialError, match="its account"):
        authenticate(leaf(BOB, PHONE), leaf(ALICE, PHONE))
    with pytest.raises(CredentialError, match="its device"):
        authenticate(leaf(ALICE, LAPTOP), leaf(ALICE, PHONE))
