"""All fuzz targets: those of MLS, and here what else reads bytes of others. A target's corpus is small and made here.

What is stored in tests/fuzz/corpus/ is tried, too.
"""

from functools import cache, partial
from math import inf

from msgspec.structs import replace

from restante import account, invites, names, publications
from restante.account import ConversationData, Identity, LeafData
from restante.blobs import BlobKeys, BlobReference
from restante.content import Content
from restante.engine.profiles import ProfileBody, ProfileLink
from restante.errors import InviteError
from restante.handshakes import Admission, CommitReference, Voucher
from restante.invites import Invite, Manifest, ManifestDevice, open_manifest, open_prekey, seal_prekey
from restante.resync import ResyncAnswer, ResyncRequest, read_request
from restante_crypto import oprf, padding, primitives, sealing
from restante_crypto.blobs import BlobError, BlobSecret, Decoder, Encoder
from restante_crypto.suites import XWING
from restante_protocol import frames
from restante_protocol.errors import RemoteError
from restante_server.stores.blobs import BlobHead
from restante_server.transport import rfc6455
from restante_server.webpush import retry_after
from support.fuzz_members import play, scripts
from support.fuzz_mls import MLS_TARGETS
from support.fuzzing import Target, one_random, refused
from support.websockets import frame


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
    found = [] if (message := whole.next()) is None else [message]
    pieces = rfc6455.Reader(1000)
    for byte in data:
        pieces.receive(bytes((byte,)))
        if (message := pieces.next()) is not None:
            assert found == [message]
            return
    assert not found


@cache
def evaluation() -> tuple[oprf.KeyPair, list[oprf.Blinded], bytes]:
    keys = oprf.derive_key_pair(oprf.Mode.VOPRF, bytes(32), b"fuzz")
    blinded = [oprf.blind(oprf.Mode.VOPRF, bytes([each]), one_random()) for each in range(2)]
    made = oprf.blind_evaluate_verifiably(keys, [each.element for each in blinded], one_random())
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


IDENTITY = Identity(bytes(range(32)))
INVITE = Invite(relay_url="wss://relay", relay_key=bytes(32), slot=bytes(24), key=bytes(32), account=IDENTITY.public)


@cache
def manifest() -> Manifest:
    device = ManifestDevice(
        signature_key=bytes(32),
        certificate=account.certify(IDENTITY, bytes(32)),
        prekey_key=bytes(32),
        pools=((3, bytes(24)),),
    )
    return Manifest(version=1, account=IDENTITY.public, expires=2**40, devices=(device,))


def signed_manifest(payload: bytes) -> None:
    """Read what an account has signed and sealed, whatever that is."""
    signed = IDENTITY.sign(invites._signed_message(INVITE, payload)) + payload
    body = sealing.seal(INVITE.key, padding.pad(signed, invites.MANIFEST_BYTES), INVITE.slot, one_random())
    assert open_manifest(body, INVITE, now=0).account == IDENTITY.public


def read_policy(content: bytes) -> None:
    """Read a policy that the relay has listed."""
    (listed,) = publications.read_listed(b'[{"number":1,"version":"","published":1}]')
    version = primitives.blake2b(content, size=8, person=b"restante policy").hex()
    for language in publications.read_policy(replace(listed, version=version), content).languages:
        assert isinstance(language, str)


def read_retry_after(field: bytes) -> None:
    """Read what a push service says of when to come again."""
    assert 0 <= retry_after(field.decode("utf-8", "surrogateescape"), 1_800_000_000) < inf


DEEP = b'[{"number":1,"version":"v","published":1,"more":' + b"[" * 2000 + b"]" * 2000 + b"}]"
POLICY = (
    b'{"operator":{"name":"n","contact":"c"},"languages":{"en":{"text":"t"}},"purposes":[{"name":"push",'
    b'"version":"0011223344556677","languages":{"en":{"title":"t","what":"w","refusing":"r"}}}]}'
)

TARGETS: dict[str, Target] = {
    **MLS_TARGETS,
    "sealed body": Target(
        refused(sealing.SealError, partial(sealing.open_body, bytes(32))),
        lambda: [sealing.seal_body(bytes(8), bytes(32), b"message", one_random())],
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
        lambda: [
            frames.encode(frames.Subscribe(1, b"i" * 16, 0, [frames.PoolState(3, 1, 0)])),
            frames.encode(frames.Evaluate(1, frames.DIRECTORY_NUMBER, [bytes(32)] * 2)),
            frames.encode(frames.NumberConfirm(1, "+447911123456", "123456")),
            frames.encode(frames.PushPut(1, "https://push.example.net/a")),
        ],
    ),
    "relay frame": Target(
        refused(RemoteError, frames.decode_relay_frame),
        lambda: [
            frames.encode(frames.Subscribed(1, b"i" * 16, b"t" * 8, 0, [frames.PoolCount(3, 1, 0, 1, True)])),
            frames.encode(frames.Numbers(1, [frames.DirectoryRecord(bytes(24), bytes(512))], more=True)),
            frames.encode(frames.Evaluated(1, [bytes(32)], bytes(64))),
            frames.encode(frames.Push(1, "https://push.example.net/a")),
        ],
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
            Admission(message=b"message", tree=tree, voucher=voucher).encode()
            for tree in (b"tree", BlobReference(bytes(24), bytes(32), bytes(32), 5))
            for voucher in (None, Voucher(bytes(32), bytes(32), bytes(64), bytes(64)))
        ],
    ),
    "sdk Content": Target(refused(ValueError, Content.decode), lambda: [b"\x93\x01\xc0\xc0"]),
    "sdk directory's keys": Target(
        refused(ValueError, publications.read_directory), lambda: [b'{"handle":"00ff","number":"0102","later":1}']
    ),
    "sdk handle": Target(
        refused(ValueError, lambda data: names.handle(data.decode("utf-8", "replace"))), lambda: [b"alice.b_c-9"]
    ),
    "sdk LeafData": Target(refused(ValueError, LeafData.decode), lambda: [b"\x93\x01\xc0\xc0"]),
    "sdk resync request": Target(
        refused(ValueError, read_request),
        lambda: [
            ResyncRequest(
                conversation=b"c", epoch=1, authenticator=b"a", public=b"p", address=bytes(24), signature_key=bytes(32)
            ).message()
        ],
    ),
    "sdk resync answer": Target(
        refused(ValueError, ResyncAnswer.decode),
        lambda: [
            ResyncAnswer(
                request=bytes(32),
                history=[(1, b"a")],
                fence=bytes(32),
                tag=bytes(8),
                key=bytes(32),
                replaces=1,
                resumption=True,
                group_info=b"g",
                tree=b"t",
                signature_key=bytes(32),
            ).encode()
        ],
    ),
    "sdk Manifest": Target(refused(ValueError, Manifest.decode), lambda: [manifest().encode()]),
    "sdk Invite": Target(
        refused(InviteError, lambda data: Invite.parse(data.decode("latin-1"))), lambda: [INVITE.text().encode()]
    ),
    "sdk sealed manifest": Target(
        refused(InviteError, lambda data: open_manifest(data, INVITE, now=0)),
        lambda: [manifest().seal(INVITE, IDENTITY, one_random())],
    ),
    "sdk signed manifest": Target(refused(InviteError, signed_manifest), lambda: [manifest().encode()], cost=4),
    "sdk sealed prekey": Target(
        refused(InviteError, lambda data: open_prekey(bytes(32), data)),
        lambda: [seal_prekey(bytes(32), b"key package", one_random())],
    ),
    "sdk ConversationData": Target(
        refused(ValueError, ConversationData.decode),
        lambda: [ConversationData(relay_url="wss://relay", relay_key=bytes(32), title="title", created=1).encode()],
    ),
    "sdk ProfileLink": Target(
        refused(ValueError, ProfileLink.decode), lambda: [ProfileLink(slot=bytes(24), key=bytes(32), number=1).encode()]
    ),
    "sdk ProfileBody": Target(
        refused(ValueError, ProfileBody.decode),
        lambda: [ProfileBody(number=1, nickname="name", avatar=b"avatar", signature=bytes(64)).encode()],
    ),
    "sdk list of policies": Target(
        refused(ValueError, publications.read_listed), lambda: [b'[{"number":1,"version":"v","published":1}]', DEEP]
    ),
    "sdk policy": Target(refused(ValueError, read_policy), lambda: [POLICY, DEEP]),
    "sdk announcements": Target(
        refused(ValueError, publications.read_announcements),
        lambda: [b'[{"number":1,"at":1,"kind":"news","texts":{"en":"text"}}]', DEEP],
    ),
    "sdk publication": Target(
        refused(ValueError, lambda data: publications.opened(IDENTITY.public, "policy", 1, data)),
        lambda: [bytes(64) + POLICY],
    ),
    "relay Retry-After": Target(
        read_retry_after, lambda: [b"120", b"Fri, 15 Jan 2027 08:02:00 GMT", b"Fri Jan 15 08:02:00 2027"]
    ),
    "members, suite 3": Target(partial(play, 3), scripts, cost=40),
    "members, X-Wing": Target(partial(play, XWING), scripts, cost=80),
}
