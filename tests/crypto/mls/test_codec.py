"""The codec, and every decoder on bytes that are not its own: DecodeError, and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_crypto.mls import codec
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.extensions import Capabilities, Extension, Lifetime, RequiredCapabilities
from restante_crypto.mls.framing import AuthenticatedContent, Commit, FramedContent, Sender
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_package import KeyPackage, KeyPackageBundle
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.proposals import ProposalOrRef, decode_proposal
from restante_crypto.mls.psk import PreSharedKeyID
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.update_path import UpdatePath
from restante_crypto.mls.welcome import GroupInfo, GroupSecrets, Welcome
from restante_crypto.suites import SUITES
from support.mls import Party, key_package, signature_key_pair

STRUCTS = [
    AuthenticatedContent,
    Capabilities,
    Commit,
    Credential,
    Extension,
    FramedContent,
    GroupContext,
    GroupInfo,
    GroupSecrets,
    KeyPackage,
    LeafNode,
    Lifetime,
    MLSMessage,
    PreSharedKeyID,
    PrivateMessage,
    ProposalOrRef,
    PublicMessage,
    RequiredCapabilities,
    Sender,
    UpdatePath,
    Welcome,
]


@given(st.lists(st.integers(0, 255), max_size=300), st.integers(0, 2**30 - 1), st.booleans())
def test_round_trips(items: list[int], length: int, present: bool) -> None:
    reader = Reader(codec.vector(codec.u8(item) for item in items))
    assert list(reader.vector(Reader.u8)) == items
    assert Reader(codec.length(length)).length() == length
    value = b"\x05" if present else None
    assert Reader(codec.optional(value)).optional(Reader.u8) == (5 if present else None)


def test_numbers() -> None:
    reader = Reader(codec.u8(1) + codec.u16(2) + codec.u32(3) + codec.u64(4) + b"rest")
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.rest()) == (1, 2, 3, 4, b"rest")
    reader.done()


@pytest.mark.parametrize("wrong", ["", "40", "4000", "403f", "80003fff", "c0", "c000000000000000", "01"])
def test_lengths_in_no_allowed_form(wrong: str) -> None:
    with pytest.raises(DecodeError):
        Reader(bytes.fromhex(wrong)).opaque()


def test_flags_and_trailing_bytes() -> None:
    with pytest.raises(DecodeError):
        Reader(b"\x02").optional(Reader.u8)
    with pytest.raises(DecodeError):
        codec.parse(Lifetime, bytes(17))


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_refused_or_read_exactly(struct: type, data: bytes) -> None:
    try:
        value: Any = codec.parse(struct, data)
    except DecodeError:
        return
    assert value.encode() == data


@given(data=st.binary(max_size=400))
def test_random_bytes_are_no_tree_bundle_or_proposal(data: bytes) -> None:
    for parse in (lambda: RatchetTree.from_bytes(SUITES[3], data), lambda: KeyPackageBundle.from_bytes(data)):
        try:
            parse()
        except DecodeError:
            continue
    try:
        decode_proposal(Reader(data))
    except DecodeError:
        return


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_mutated_messages_are_refused_or_read_exactly(position: int, value: int) -> None:
    for message in MESSAGES:
        changed = bytearray(message)
        changed[position % len(changed)] = value
        try:
            parsed = MLSMessage.parse(bytes(changed))
        except DecodeError:
            continue
        assert parsed.encode() == bytes(changed)


def _messages() -> list[bytes]:
    party = Party.of(3)
    staged = party.groups[0].commit(random=bytes)
    package = key_package(signature_key_pair()).key_package
    return [party.say(1, b"x" * 50), staged.message, MLSMessage(package).encode()]


MESSAGES = _messages()


def test_trees_of_a_wrong_shape() -> None:
    leaf = key_package(signature_key_pair()).key_package.leaf_node.encode()
    wrong = [
        codec.vector([]),
        codec.vector([b"\x00"]),
        codec.vector([b"\x01\x01" + leaf, b"\x00"]),
        codec.vector([b"\x01\x02" + codec.opaque(b"k") + codec.opaque(b"") + codec.opaque(b"")]),
        codec.vector([b"\x01\x03" + leaf]),
    ]
    for data in wrong:
        with pytest.raises(DecodeError):
            RatchetTree.from_bytes(SUITES[3], data)
