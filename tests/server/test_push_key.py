"""The keys of push: derived, apart from one another, and needed to read anything."""

import os

import pytest

from restante_crypto.primitives import AuthenticationError
from restante_protocol.limits import MAX_ENDPOINT_BYTES
from restante_server.identity import Identity
from restante_server.push_key import PushKey

MAILBOX, OTHER = b"\x07" + bytes(23), b"\x08" + bytes(23)
ENDPOINT = "https://push.example.net/a"


def test_all_relays_of_one_key_have_the_same_and_no_other() -> None:
    seed = os.urandom(32)
    one, same, other = (PushKey.of(Identity.of(each)) for each in (seed, seed, os.urandom(32)))
    assert one.public == same.public != other.public
    assert one.slot("endpoint", MAILBOX) == same.slot("endpoint", MAILBOX) != other.slot("endpoint", MAILBOX)
    assert Identity.of(seed).derived("push") != Identity.of(seed).derived("other")


def test_slots_say_nothing_but_their_bucket() -> None:
    key = PushKey(bytes(32))
    slots = {key.slot(what, mailbox) for what in ("endpoint", "rest") for mailbox in (MAILBOX, OTHER)}
    assert len(slots) == 4
    assert {(len(slot), slot[0]) for slot in slots} == {(24, 7), (24, 8)}


def test_endpoints_are_sealed_into_their_place_and_all_of_one_length() -> None:
    key, slot = PushKey(bytes(32)), PushKey(bytes(32)).slot("endpoint", MAILBOX)
    longest = ENDPOINT.ljust(MAX_ENDPOINT_BYTES, "a")
    sealed = [key.seal(slot, endpoint) for endpoint in (ENDPOINT, longest)]
    assert len(sealed[0]) == len(sealed[1])
    assert [key.open_sealed(slot, body) for body in sealed] == [ENDPOINT, longest]
    for other, place in ((PushKey(b"\x01" * 32), slot), (key, key.slot("endpoint", OTHER))):
        with pytest.raises(AuthenticationError):
            other.open_sealed(place, sealed[0])
