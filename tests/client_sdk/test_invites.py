import base64
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.account import Identity, certify
from restante.errors import InviteError
from restante.invites import Invite, Manifest, ManifestDevice, open_manifest, open_prekey, seal_prekey
from restante_crypto import padding, sealing

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
NOW = 1_800_000_000


def invite(**changes: object) -> Invite:
    fields = {
        "relay_url": "https://relay.example/",
        "relay_key": b"r" * 32,
        "slot": b"\x01" * 24,
        "key": b"k" * 32,
        "account": ALICE.public,
    } | changes
    return Invite(**fields)  # type: ignore[arg-type]  # wrong values are wanted too


def device(identity: Identity = ALICE, **changes: object) -> ManifestDevice:
    fields = {
        "signature_key": b"d" * 32,
        "certificate": certify(identity, b"d" * 32),
        "prekey_key": b"p" * 32,
        "pools": ((3, bytes(24)),),
    } | changes
    return ManifestDevice(**fields)  # type: ignore[arg-type]  # the same


def manifest(**changes: object) -> Manifest:
    fields = {"version": 2, "account": ALICE.public, "expires": NOW + 1, "devices": (device(),)} | changes
    return Manifest(**fields)  # type: ignore[arg-type]  # the same


_URLS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)


@given(relay_url=_URLS, key=st.binary(min_size=32, max_size=32))
def test_an_invite_reads_back_from_its_text(relay_url: str, key: bytes) -> None:
    value = invite(relay_url=relay_url, key=key)
    text = value.text()
    assert text.startswith("restante:")
    assert text == "".join(text.split())
    assert Invite.parse(text) == value


def test_whitespace_and_a_capitalised_scheme_are_tolerated() -> None:
    text = invite().text()
    assert Invite.parse(f"  Restante:{text[9:40]}\n\t{text[40:]} \r\n") == invite()


def _text(array: list[object]) -> str:
    return "restante:" + base64.urlsafe_b64encode(msgspec.msgpack.encode(array)).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begin"),
        ("https://relay.example", "begin"),
        ("restante:", "damaged"),
        ("restante:!!!!", "damaged"),
        ("restante:\u00e9", "damaged"),
        ("restante:A", "damaged"),
        (invite().text()[:-4], "damaged"),
        (invite().text() + "AAAA" * 2000, "damaged"),
        (_text([1, "u", bytes(32), bytes(24), bytes(32), bytes(31)]), "damaged"),
        (_text([1, "u", bytes(32), bytes(24), bytes(31), bytes(32)]), "damaged"),
        (_text([1, "u", bytes(32), b"\xff" * 24, bytes(32), bytes(32)]), "damaged"),
        (_text([1, "u", bytes(31), bytes(24), bytes(32), bytes(32)]), "damaged"),
        (_text([1, "", bytes(32), bytes(24), bytes(32), bytes(32)]), "damaged"),
        (_text([2, "u", bytes(32), bytes(24), bytes(32), bytes(32), "new"]), "newer"),
    ],
)
def test_texts_that_are_no_invites(text: str, reason: str) -> None:
    with pytest.raises(InviteError, match=reason):
        Invite.parse(text)


@given(st.text())
def test_any_text_is_an_invite_or_an_invite_error(text: str) -> None:
    with pytest.raises(InviteError):
        Invite.parse("restante:" + text)


def test_no_secret_in_a_repr() -> None:
    assert repr((invite(), device(), manifest())) == "(<Invite>, <ManifestDevice>, <Manifest>)"


def test_a_manifest_opens_with_its_invite() -> None:
    body = manifest().seal(invite(), ALICE, os.urandom)
    assert open_manifest(body, invite(), now=NOW) == manifest()
    assert open_manifest(body, invite(), now=NOW, seen_version=2) == manifest()
    assert ALICE.public not in body


def test_manifests_of_one_and_of_two_devices_have_one_size() -> None:
    sizes = {len(manifest(devices=(device(),) * n).seal(invite(), ALICE, os.urandom)) for n in (1, 2)}
    assert sizes == {1024 + 40}


def test_a_manifest_is_sealed_for_its_invite_and_slot() -> None:
    body = manifest().seal(invite(), ALICE, os.urandom)
    for other in (invite(key=b"x" * 32), invite(slot=b"\x02" * 24)):
        with pytest.raises(InviteError, match="something else"):
            open_manifest(body, other, now=NOW)
    for wrong in (b"", body[:-1], body[:30], bytes(len(body))):
        with pytest.raises(InviteError, match="something else"):
            open_manifest(wrong, invite(), now=NOW)


def test_a_manifest_is_signed_by_the_account_of_the_invite() -> None:
    with pytest.raises(InviteError, match="not signed"):
        open_manifest(manifest().seal(invite(), BOB, os.urandom), invite(), now=NOW)
    with pytest.raises(InviteError, match="not signed"):
        open_manifest(sealing.seal(b"k" * 32, padding.pad(b"short"), b"\x01" * 24, os.urandom), invite(), now=NOW)


def test_another_invites_manifest_is_refused_even_under_this_invites_key() -> None:
    other = invite(slot=b"\x02" * 24)
    signed = sealing.open_sealed(other.key, manifest().seal(other, ALICE, os.urandom), other.slot)
    moved = sealing.seal(invite().key, signed, invite().slot, os.urandom)
    with pytest.raises(InviteError, match="not signed"):
        open_manifest(moved, invite(), now=NOW)


def test_a_manifest_of_another_account_is_refused() -> None:
    body = manifest(account=BOB.public).seal(invite(), ALICE, os.urandom)
    with pytest.raises(InviteError, match="another account"):
        open_manifest(body, invite(), now=NOW)


def test_a_device_without_certificate_is_refused() -> None:
    body = manifest(devices=(device(), device(BOB))).seal(invite(), ALICE, os.urandom)
    with pytest.raises(InviteError, match="certified"):
        open_manifest(body, invite(), now=NOW)


def test_an_expired_manifest_is_refused() -> None:
    body = manifest().seal(invite(), ALICE, os.urandom)
    with pytest.raises(InviteError, match="expired"):
        open_manifest(body, invite(), now=NOW + 1)


def test_an_older_version_than_one_seen_is_refused() -> None:
    body = manifest().seal(invite(), ALICE, os.urandom)
    with pytest.raises(InviteError, match="older"):
        open_manifest(body, invite(), now=NOW, seen_version=3)


def test_a_signed_manifest_that_cannot_be_read_is_refused() -> None:
    class Strange(Manifest, frozen=True, kw_only=True):
        def encode(self) -> bytes:
            return b"\x91\x00"

    strange = Strange(version=1, account=ALICE.public, expires=NOW + 1, devices=(device(),))
    with pytest.raises(InviteError, match="cannot be read"):
        open_manifest(strange.seal(invite(), ALICE, os.urandom), invite(), now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 0},
        {"version": 0},
        {"version": 2**63},
        {"account": b""},
        {"expires": -1},
        {"devices": ()},
        {"devices": (device(),) * 65},
    ],
)
def test_manifests_are_strict(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        manifest(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"signature_key": bytes(31)},
        {"certificate": b""},
        {"prekey_key": bytes(33)},
        {"pools": ()},
        {"pools": ((3, bytes(24)),) * 9},
        {"pools": ((3, bytes(23)),)},
        {"pools": ((1 << 16, bytes(24)),)},
    ],
)
def test_devices_are_strict(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))[:4]):
        device(**changes)


def test_prekeys_round_trip_in_one_size() -> None:
    sealed = [seal_prekey(b"p" * 32, bytes(size), os.urandom) for size in (1, 400, 900)]
    assert [len(open_prekey(b"p" * 32, box)) for box in sealed] == [1, 400, 900]
    assert {len(box) for box in sealed} == {1024 + 40}


def test_a_prekey_under_another_key_is_refused() -> None:
    sealed = seal_prekey(b"p" * 32, b"package", os.urandom)
    with pytest.raises(InviteError, match="prekey"):
        open_prekey(b"q" * 32, sealed)
    with pytest.raises(InviteError, match="prekey"):
        open_prekey(b"p" * 32, sealing.seal(b"p" * 32, b"not padded", b"restante prekey", os.urandom))
