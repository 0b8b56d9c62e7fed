"""Fuzz targets: functions of bytes that return, or fail. A target's corpus is small and made here.

Every decoder raises its documented error or reads exactly what it was given. Groups raise MLSError and stay as they
were. ``play`` lets two to five members talk over a network that drops, repeats, reorders and corrupts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Any

from restante.account import LeafData
from restante.blobs import BlobKeys, BlobReference
from restante.content import Content
from restante.errors import InviteError
from restante.handshakes import Admission, CommitReference
from restante.invites import Invite, Manifest
from restante_crypto import hpke, oprf, padding, primitives, sealing
from restante_crypto.blobs import BlobError, BlobSecret, Decoder, Encoder
from restante_crypto.mls import (
    Add,
    Application,
    CommitProcessed,
    Group,
    KeyPackageBundle,
    MLSError,
    PastEpoch,
    Proposal,
    ProposalReceived,
    Remove,
    StateError,
    codec,
    parse_key_package_message,
)
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.errors import DecodeError
from restante_crypto.mls.extensions import Capabilities, Extension, Lifetime, RequiredCapabilities
from restante_crypto.mls.framing import AuthenticatedContent, Commit, FramedContent, Sender
from restante_crypto.mls.group_context import GroupContext
from restante_crypto.mls.key_package import KeyPackage
from restante_crypto.mls.leaf_node import LeafNode
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.proposals import ProposalOrRef, decode_proposal
from restante_crypto.mls.psk import PreSharedKeyID
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.ratchet_tree import RatchetTree
from restante_crypto.mls.update_path import UpdatePath
from restante_crypto.mls.welcome import GroupInfo, GroupSecrets, Welcome
from restante_crypto.suites import SUITES, XWING
from restante_protocol import frames
from restante_protocol.errors import RemoteError
from restante_server.stores.blobs import BlobHead
from restante_server.transport import rfc6455
from support.mls import Party, key_package, nobody, signature_key_pair
from support.websockets import frame

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """``cost``: how many inputs of a cheap decoder one input of this takes."""

    run: Run
    corpus: Callable[[], list[bytes]]
    cost: int = 1


@cache
def party(suite: int = 3) -> Party:
    """Three members, one of whom has committed since."""
    made = Party.of(3, suite)
    made.commit(1)
    return made


@cache
def joining(suite: int = 3) -> tuple[bytes, bytes, KeyPackageBundle, Any]:
    """A Commit that adds, its Welcome, and the KeyPackage with its signer."""
    signer = signature_key_pair()
    bundle = key_package(signer, suite=suite)
    staged = party(suite).groups[0].commit([Add(bundle.key_package), Remove(2)], random=_random())
    assert staged.welcome is not None
    return staged.message, staged.welcome, bundle, signer


def _random() -> primitives.Random:
    return Random(1).randbytes


@cache
def messages(suite: int = 3) -> tuple[bytes, ...]:
    """What member 0 of ``party`` may send: data, a proposal, a Commit."""
    group = party(suite).groups[0]
    return (
        group.protect(b"data" * 20, random=_random(), authenticated_data=b"more").message,
        group.propose(Remove(2), random=_random()).message,
        joining(suite)[0],
    )


# Decoders.


def struct(decodable: type[Any]) -> Run:
    def run(data: bytes) -> None:
        try:
            value = codec.parse(decodable, data)
        except DecodeError:
            return
        assert value.encode() == data

    return run


def proposal(data: bytes) -> None:
    reader = Reader(data)
    try:
        value = decode_proposal(reader)
        reader.done()
    except DecodeError:
        return
    assert value.encode() == data


def tree(data: bytes) -> None:
    try:
        value = RatchetTree.from_bytes(SUITES[3], data)
    except DecodeError:
        return
    assert value.encode() == data


def bundle(data: bytes) -> None:
    try:
        value = KeyPackageBundle.from_bytes(data)
    except DecodeError:
        return
    assert value.to_bytes() == data


def refused(errors: type[Exception] | tuple[type[Exception], ...], parse: Callable[[bytes], object]) -> Run:
    def run(data: bytes) -> None:
        try:
            parse(data)
        except errors:
            return

    return run


def halves(parse: Callable[[bytes, bytes], object]) -> Callable[[bytes], object]:
    """Split at the first two bytes' number."""

    def run(data: bytes) -> object:
        end = 2 + int.from_bytes(data[:2], "big")
        return parse(data[2:end], data[end:])

    return run


def joined(first: bytes, second: bytes) -> bytes:
    return len(first).to_bytes(2, "big") + first + second


def stored_group() -> list[bytes]:
    group = party().groups[0]
    past = group.archive()
    return [joined(each.epoch_state(), each.message_state()) for each in (group, past)]


def encodings() -> list[bytes]:
    """Encodings of most structs; a decoder's own are among them."""
    application, proposed, commit = messages()
    welcome_message = joining()[1]
    package = joining()[2].key_package
    welcome = MLSMessage.parse(welcome_message).body
    group = party().groups[0]
    private = MLSMessage.parse(application).body
    values: list[Any] = [
        package,
        package.leaf_node,
        package.leaf_node.capabilities,
        package.leaf_node.credential,
        Lifetime(0, 1),
        Extension(1, b"x"),
        RequiredCapabilities((1,), (2,), (1,)),
        group.context,
        welcome,
        private,
        Sender(1, 2),
        ProposalOrRef(Remove(1)),
        ProposalOrRef(None, bytes(32)),
        FramedContent(b"group", 1, Sender(1, 0), b"", 2, Add(package)),
        AuthenticatedContent(1, FramedContent(b"group", 1, Sender(1, 0), b"", 1, b"data"), bytes(64)),
        PreSharedKeyID(1, psk_id=b"psk", psk_nonce=bytes(32)),
        GroupSecrets(bytes(32), bytes(32), ()),
        GroupInfo(group.context, (), bytes(32), 0, bytes(64)),
    ]
    return [value.encode() for value in values] + [application, proposed, commit, welcome_message, group.tree.encode()]


# Groups.


def process(suite: int, data: bytes) -> None:
    group = party(suite).groups[1]
    before = group.message_state()
    try:
        result = group.process(data, authenticate=nobody)
    except MLSError:
        pass
    else:
        assert data in messages(suite), f"a forgery was taken: {result}"
    assert group.message_state() == before


def join(suite: int, data: bytes) -> None:
    _, welcome, package, signer = joining(suite)
    try:
        Group.join(data, package, signer=signer, authenticate=nobody)
    except MLSError:
        return
    assert data == welcome


def opened(suite: int, data: bytes) -> None:
    private, _ = SUITES[suite].kem.derive_key_pair(bytes(32))
    try:
        sealing.open_welcome(suite, private, data)
    except sealing.SealError:
        return
    assert data[sealing.TAG_BYTES :] in [each[sealing.TAG_BYTES :] for each in sealed(suite)]  # the tag is for finding


@cache
def sealed(suite: int) -> list[bytes]:
    _, public = SUITES[suite].kem.derive_key_pair(bytes(32))
    return [sealing.seal_welcome(suite, public, b"welcome", _random())]


def encapsulated(suite: int, data: bytes) -> None:
    """Bytes as public key, and as encapsulation."""
    kem = SUITES[suite].kem
    private, _ = kem.derive_key_pair(bytes(32))
    info = hpke.info_context(SUITES[suite], b"")
    for use in (
        lambda: hpke.seal(SUITES[suite], data, info, b"", b"", _random()),
        lambda: hpke.open(SUITES[suite], data, private, info, b"", bytes(16)),
    ):
        try:
            use()
        except hpke.HpkeError:
            continue


def keys_of(suite: int) -> list[bytes]:
    kem = SUITES[suite].kem
    _, public = kem.derive_key_pair(bytes(32))
    return [public, kem.encapsulate(public, _random())[1]]


# Members.


class Play:
    """Two to five members; each byte is what happens next. Commits reach all in one order, as fences make it."""

    def __init__(self, data: bytes) -> None:
        self.script = list(data)
        self.party = Party.of(2)
        self.mail: dict[int, list[tuple[bytes, bytes | None]]] = {index: [] for index in self.party.groups}
        self.opened: set[tuple[int, bytes]] = set()

    def number(self, below: int) -> int:
        return (self.script.pop(0) if self.script else 0) % below

    def someone(self) -> int:
        return sorted(self.party.groups)[self.number(len(self.party.groups))]

    def run(self) -> None:
        while self.script:
            who = self.someone()
            match self.number(8):
                case 0 | 1:
                    self.say(who)
                case 2:
                    self.propose(who)
                case 3:
                    self.commit(who)
                case 4:
                    self.corrupt(who)
                case 5:
                    self.mail[who].reverse()
                case 6:
                    del self.mail[who][: self.number(3)]
                case _:
                    self.deliver(who)
        for index in list(self.party.groups):
            self.deliver(index)
        assert self.party.agree()

    def say(self, who: int) -> None:
        data = bytes(self.number(256) for _ in range(3))
        self.party.groups[who] = self.party.groups[who].discard_proposals()  # or a Commit must come first
        self.post(who, self.party.say(who, data), data)

    def propose(self, who: int) -> None:
        proposed = self.party.groups[who].propose(Remove(self.someone()), random=_fresh)
        self.party.groups[who] = proposed.group
        self.post(who, proposed.message, None)

    def post(self, sender: int, message: bytes, data: bytes | None) -> None:
        for index, mail in self.mail.items():
            if index != sender:
                mail.extend([(message, data)] * (1 + self.number(2)))

    def deliver(self, who: int) -> None:
        mail, self.mail[who] = self.mail[who], []
        for message, data in mail:
            group = self.party.groups[who]
            try:
                result = group.process(message, authenticate=nobody)
            except MLSError:
                continue
            if isinstance(result, Application):
                assert result.data == data, "a message was changed"
                assert (who, message) not in self.opened, "a message was opened twice"
                self.opened.add((who, message))
            else:
                assert isinstance(result, ProposalReceived)
            self.party.groups[who] = result.group

    def corrupt(self, who: int) -> None:
        """Give a member a changed copy of what waits for it: it must not open."""
        if self.mail[who]:
            message = bytearray(self.mail[who][0][0])
            message[(self.number(256) * 256 + self.number(256)) % len(message)] ^= 1 << self.number(8)
            self.must_refuse(who, bytes(message))

    def must_refuse(self, who: int, message: bytes) -> None:
        group = self.party.groups[who]
        before = group.message_state()
        try:
            group.process(message, authenticate=nobody)
        except MLSError:
            assert group.message_state() == before
            return
        raise AssertionError("a changed message was opened")

    def commit(self, who: int) -> None:
        group = self.party.groups[who]
        proposals: list[Proposal] = []
        joiner = None
        kind = self.number(3)
        if kind == 0 and len(group.members) < 5:
            joiner = signature_key_pair()
            package = key_package(joiner)
            proposals = [Add(package.key_package)]
        elif kind == 1 and len(group.members) > 2:
            proposals = [Remove(self.someone())]
        try:
            staged = group.commit(proposals, random=_fresh)
        except MLSError:  # nobody removes themselves
            return
        at = self.number(256) % len(staged.message)
        changed = staged.message[:at] + bytes((staged.message[at] ^ 0x10,)) + staged.message[at + 1 :]
        following = {who: staged.group}
        for index, old in self.party.groups.items():
            if index == who:
                continue
            self.must_refuse(index, changed)
            result = old.process(staged.message, authenticate=nobody)
            assert isinstance(result, CommitProcessed)
            if result.group is not None:
                following[index] = result.group
        if joiner is not None:
            assert staged.welcome is not None
            joined_group = Group.join(staged.welcome, package, signer=joiner, authenticate=nobody).group
            following[joined_group.own_index] = joined_group
        self.party.groups = dict(sorted(following.items()))
        self.mail = {index: self.mail.get(index, []) for index in self.party.groups}
        assert self.party.agree()


_fresh = Random(7).randbytes


def play(data: bytes) -> None:
    Play(data[:60]).run()


STRUCTS: tuple[Any, ...] = (
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
)


@cache
def blob() -> tuple[bytes, BlobSecret]:
    """Return a sealed blob of two chunks and what opens it."""
    encoder = Encoder(bytes(32))
    first = encoder.update(bytes(range(200)) * 400)
    rest, secret = encoder.finish()
    return first + rest, secret


def open_blob(data: bytes) -> None:
    """Give a decoder what is not the blob, in pieces: it opens nothing else than the content."""
    sealed_blob, secret = blob()
    content = bytes(range(200)) * 400
    for decoder, expected, right in (
        (Decoder(secret), content, sealed_blob),
        (Decoder(secret, 70_000, 70_100), content[70_000:70_100], sealed_blob[65_552:]),
    ):
        found = b""
        try:
            for start in range(0, max(1, len(data)), 1000):
                found += decoder.update(data[start : start + 1000])
            decoder.finish()
        except BlobError:
            assert expected.startswith(found)
        else:
            assert data == right
            assert found == expected


def read_websocket(data: bytes) -> None:
    """Read what a client sent, whole and byte by byte: both give the same."""
    whole = rfc6455.Reader(1000)
    whole.receive(data)
    found = [message] if (message := whole.next()) else []
    pieces = rfc6455.Reader(1000)
    for byte in data:
        pieces.receive(bytes((byte,)))
        if message := pieces.next():
            assert found == [message]
            return
    assert not found


@cache
def evaluation() -> tuple[oprf.KeyPair, list[oprf.Blinded], bytes]:
    keys = oprf.derive_key_pair(oprf.Mode.VOPRF, bytes(32), b"fuzz")
    blinded = [oprf.blind(oprf.Mode.VOPRF, bytes([each]), _random()) for each in range(2)]
    made = oprf.blind_evaluate_verifiably(keys, [each.element for each in blinded], _random())
    return keys, blinded, b"".join((*made.elements, made.proof))


def evaluated(data: bytes) -> None:
    """What a relay says to two blinded elements: verified, and anything but the true answer is refused."""
    keys, blinded, true = evaluation()
    elements = (data[:32], data[32:64])
    try:
        oprf.finalize_verified(keys.public, blinded, oprf.Evaluation(elements, data[64:]))
    except oprf.OPRFError:
        return
    assert data == true


TARGETS: dict[str, Target] = {
    **{f"mls {each.__name__}": Target(struct(each), encodings) for each in STRUCTS},
    "mls proposal": Target(proposal, lambda: [Remove(1).encode(), Add(joining()[2].key_package).encode()]),
    "mls tree": Target(tree, lambda: [party().groups[0].tree.encode()]),
    "mls bundle": Target(bundle, lambda: [joining()[2].to_bytes()]),
    "mls KeyPackage message": Target(refused(DecodeError, parse_key_package_message), encodings),
    "mls stored group": Target(refused(StateError, halves(Group.restore)), stored_group, cost=4),
    "mls stored epoch": Target(refused(StateError, halves(PastEpoch.restore)), stored_group, cost=4),
    "mls process, suite 3": Target(partial(process, 3), lambda: list(messages(3)), cost=20),
    "mls process, X-Wing": Target(partial(process, XWING), lambda: list(messages(XWING)), cost=20),
    "mls join, suite 3": Target(partial(join, 3), lambda: [joining(3)[1]], cost=20),
    "mls join, X-Wing": Target(partial(join, XWING), lambda: [joining(XWING)[1]], cost=20),
    "hpke, suite 3": Target(partial(encapsulated, 3), lambda: keys_of(3), cost=20),
    "hpke, X-Wing": Target(partial(encapsulated, XWING), lambda: keys_of(XWING), cost=20),
    "sealed Welcome, suite 3": Target(partial(opened, 3), lambda: sealed(3), cost=20),
    "sealed Welcome, X-Wing": Target(partial(opened, XWING), lambda: sealed(XWING), cost=20),
    "sealed body": Target(
        refused(sealing.SealError, partial(sealing.open_body, bytes(32))),
        lambda: [sealing.seal_body(bytes(8), bytes(32), b"message", _random())],
    ),
    "oprf evaluation": Target(evaluated, lambda: [evaluation()[2]], cost=20),
    "oprf element": Target(
        refused(oprf.DeserializeError, lambda data: oprf.blind_evaluate(evaluation()[0], data)),
        lambda: [evaluation()[1][0].element],
    ),
    "padding": Target(refused(padding.PaddingError, padding.unpad), lambda: [padding.pad(b"text")]),
    "blob": Target(open_blob, lambda: [blob()[0], blob()[0][65_552:], blob()[0][:65_552]], cost=20),
    "blob head": Target(
        refused((), lambda data: BlobHead.decode(data, len(data))),
        lambda: [BlobHead(1_900_000_000, bytes(32), 5).encode() + b"body"],
    ),
    "websocket": Target(
        refused(rfc6455.WebSocketError, read_websocket),
        lambda: [frame(b"one", final=False) + frame(b"", 9) + frame(b"two", 0) + frame(b"\x03\xe8why", 8)],
    ),
    "client frame": Target(
        refused(RemoteError, frames.decode_client_frame),
        lambda: [frames.encode(frames.Subscribe(1, b"i" * 16, 0, [frames.PoolState(3, 1, 0)]))],
    ),
    "relay frame": Target(
        refused(RemoteError, frames.decode_relay_frame),
        lambda: [frames.encode(frames.Subscribed(1, b"i" * 16, b"t" * 8, 0, [frames.PoolCount(3, 1, 0, 1, True)]))],
    ),
    "sdk BlobReference": Target(
        refused(ValueError, BlobReference.decode),
        lambda: [BlobReference(bytes(24), bytes(32), bytes(32), 5).encode()],
    ),
    "sdk BlobKeys": Target(
        refused(ValueError, BlobKeys.decode), lambda: [BlobKeys(bytes(32), bytes(16), 7, bytes(32)).encode()]
    ),
    "sdk CommitReference": Target(
        refused(ValueError, CommitReference.decode),
        lambda: [CommitReference(commit=BlobReference(bytes(24), bytes(32), bytes(32), 5)).encode()],
    ),
    "sdk Admission": Target(
        refused(ValueError, Admission.decode),
        lambda: [
            Admission(message=b"message", tree=tree).encode()
            for tree in (b"tree", BlobReference(bytes(24), bytes(32), bytes(32), 5))
        ],
    ),
    "sdk Content": Target(refused(ValueError, Content.decode), lambda: [b"\x93\x01\xc0\xc0"]),
    "sdk LeafData": Target(refused(ValueError, LeafData.decode), lambda: [b"\x93\x01\xc0\xc0"]),
    "sdk Manifest": Target(refused(ValueError, Manifest.decode), lambda: [b"\x95\x01\x01\xc4\x00\x00\x90"]),
    "sdk Invite": Target(
        refused(InviteError, lambda data: Invite.parse(data.decode("latin-1"))), lambda: [b"restante:AQID"]
    ),
    "members": Target(
        play, lambda: [bytes(range(0, 250, 5)), bytes([3, 0, 1, 7]) * 10, b"\x01\x04\x03" * 15], cost=400
    ),
}
