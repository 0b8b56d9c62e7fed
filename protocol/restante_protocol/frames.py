"""The frames of the wire: MessagePack arrays whose first element is the frame's number. PROTOCOL.md section 5.

A frame is one binary WebSocket message. Numbers below 64 come from clients, from 64 on from the relay. Unknown fields,
missing fields and wrong types are malformed. Lengths that a type cannot say (ids, keys) are in ``checks``.

Longer than 600 lines because it is a list: one small class for each frame, in the order of their numbers.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from restante_protocol import limits
from restante_protocol.errors import Code, RemoteError

VERSION: Final = 1

ROLE_SENDER: Final = 0  # anonymous: deposits, claims, fences, slots
ROLE_RECEIVER: Final = 1  # proves one mailbox: reads, acknowledges, manages it

FLAG_EPHEMERAL: Final = 1  # delivered to who is connected, never stored
FLAG_URGENT: Final = 2  # reserved: devices are woken for every entry that is stored
FLAG_LARGE: Final = 4  # body above MAX_BODY_BYTES, drawn from a cap of its own
KNOWN_FLAGS: Final = FLAG_EPHEMERAL | FLAG_URGENT | FLAG_LARGE

KIND_CONVERSATION: Final = 0  # an address that members of one conversation know
KIND_INVITE: Final = 1  # an address that strangers may know: shares a quarter of the mailbox

DIRECTORY_HANDLE: Final = 0  # what people are found by
DIRECTORY_NUMBER: Final = 1

ADMISSION_OPEN: Final = 0
ADMISSION_CODE: Final = 1
ADMISSION_CLOSED: Final = 2


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all frames."""


# From the client, both roles.


class Hello(_Frame, frozen=True, tag=1):
    """First frame of a connection.

    Attributes:
        versions: protocol versions the client speaks, best first.
        role: ROLE_SENDER or ROLE_RECEIVER, for the whole connection.
        nonce: 32 random bytes, bound into the relay's signature and the client's proof.
    """

    versions: list[int]
    role: int
    nonce: bytes


# From the client in the role of sender.


class Deposit(_Frame, frozen=True, tag=16):
    """Put one body into the mailboxes behind many addresses. Answered by Deposited, or Error CONFLICT for a lost fence.

    Attributes:
        request: chosen by the client, echoed in the answer.
        message_id: 16 random bytes; the same id with the same addresses and body is the same deposit for 24 h.
        to: address ids, or the handle of a list registered on this connection.
        body: the ciphertext.
        lifetime: seconds until an unfetched entry is dropped, 60 to 2,592,000.
        fence: a 32-byte tag that only the first deposit wins, or None.
        flags: FLAG_* together.
    """

    request: int
    message_id: bytes
    to: list[bytes] | int
    body: bytes
    lifetime: int
    fence: bytes | None
    flags: int


class ListPut(_Frame, frozen=True, tag=17):
    """Register (or replace) a list of addresses under a handle of this connection. Answered by Done."""

    request: int
    handle: int
    addresses: list[bytes]


class ListDrop(_Frame, frozen=True, tag=18):
    """Forget a list handle. Answered by Done, also if there is none."""

    request: int
    handle: int


class Claim(_Frame, frozen=True, tag=19):
    """Take one prekey from the pool behind each address. Answered by Claimed, index by index."""

    request: int
    suite: int
    addresses: list[bytes]


class FenceGet(_Frame, frozen=True, tag=20):
    """Fetch who won a fence. Answered by Fence, or Error NOT_FOUND."""

    request: int
    fence: bytes


class SlotGet(_Frame, frozen=True, tag=21):
    """Fetch a slot. Answered by Slot, or Error NOT_FOUND."""

    request: int
    slot: bytes


class SlotPut(_Frame, frozen=True, tag=22):
    """Write a slot if its version is `version` - 1 (0: it does not exist). Answered by Done or Error CONFLICT.

    Attributes:
        request: echoed.
        slot: its id, which commits to write_key and nonce.
        write_key: Ed25519 public key.
        nonce: 16 bytes.
        version: the new version, from 1.
        lifetime: seconds until the slot is dropped unless written again.
        body: at most 64 KiB.
        signature: by the write key, over ``proofs.slot_put_message``.
    """

    request: int
    slot: bytes
    write_key: bytes
    nonce: bytes
    version: int
    lifetime: int
    body: bytes
    signature: bytes


class SlotDelete(_Frame, frozen=True, tag=23):
    """Delete a slot. Answered by Done, also if it is gone. The signature is over ``proofs.slot_delete_message``."""

    request: int
    slot: bytes
    write_key: bytes
    nonce: bytes
    signature: bytes


# From the client in the role of receiver.


class Open(_Frame, frozen=True, tag=32):
    """Prove a mailbox, once per connection. Answered by Done, Error NO_MAILBOX or Error UNAUTHORIZED.

    After NO_MAILBOX the connection is proved all the same, and Create is the next frame.

    Attributes:
        request: echoed.
        mailbox: its id, which commits to receive_key and id_nonce.
        receive_key: Ed25519 public key.
        id_nonce: 16 bytes.
        signature: by the receive key, over ``proofs.open_message``: this relay, this mailbox, both nonces.
    """

    request: int
    mailbox: bytes
    receive_key: bytes
    id_nonce: bytes
    signature: bytes


class Create(_Frame, frozen=True, tag=33):
    """Create the proved mailbox; nothing happens if it exists. Answered by Created or Error NOT_ADMITTED.

    Attributes:
        request: echoed.
        admission: an admission receipt of this relay for this mailbox, an invite code, or empty.
    """

    request: int
    admission: bytes


class PoolState(_Frame, frozen=True):
    """What one side knows of a prekey pool: suite, highest number uploaded, highest number seen used (0: none)."""

    suite: int
    uploaded: int
    used: int


class Subscribe(_Frame, frozen=True, tag=34):
    """Ask for the mailbox's entries. Answered by Subscribed, then runs, then Drained, then what comes.

    Attributes:
        request: echoed.
        incarnation: the one that `seen` belongs to, or empty.
        seen: highest sequence that the client has processed, 0 for none.
        pools: the client's side of each prekey pool.
    """

    request: int
    incarnation: bytes
    seen: int
    pools: list[PoolState]


class Ack(_Frame, frozen=True, tag=35):
    """Everything up to `sequence` is processed, except the listed ones. No answer; Error STALE if the owner changed."""

    owner_token: bytes
    incarnation: bytes
    sequence: int
    exceptions: list[int]


class AddressSpec(_Frame, frozen=True):
    """One address to register: id (commits to the receive key and nonce), nonce, cap in entries, KIND_*."""

    address: bytes
    nonce: bytes
    cap: int
    kind: int


class AddressPut(_Frame, frozen=True, tag=36):
    """Register addresses, or change their cap and kind. Idempotent. Answered by Done."""

    request: int
    addresses: list[AddressSpec]


class AddressRevoke(_Frame, frozen=True, tag=37):
    """Revoke addresses; entries that came through them stay. Idempotent. Answered by Done."""

    request: int
    addresses: list[bytes]


class PrekeysPut(_Frame, frozen=True, tag=38):
    """Append one-time packages to a pool. Answered by Done.

    Attributes:
        request: echoed.
        suite: MLS cipher suite number.
        first: number of the first package; they count up by one. Numbers the relay has seen are skipped: a retry
            is harmless, and a number is never issued twice.
        packages: sealed KeyPackages, opaque.
        last_resort: replaces the pool's last-resort package unless empty.
        replace: drop all one-time packages of the pool first.
    """

    request: int
    suite: int
    first: int
    packages: list[bytes]
    last_resort: bytes
    replace: bool


class Status(_Frame, frozen=True, tag=39):
    """Ask for the mailbox's last sequence and its pools. Answered by MailboxStatus."""

    request: int


class MailboxDelete(_Frame, frozen=True, tag=40):
    """Erase the mailbox, its addresses, entries and prekeys. Answered by Erased; then the relay closes."""

    request: int


class Export(_Frame, frozen=True, tag=41):
    """Ask for the next part of all that the relay holds of the mailbox. Answered by Exported.

    Attributes:
        request: echoed.
        after: empty for the first part, then what the last answer said.
    """

    request: int
    after: bytes


class ConsentPut(_Frame, frozen=True, tag=42):
    """Grant or withdraw a purpose. Answered by Done, or Error NOT_FOUND or CONFLICT: it is not offered like this.

    Attributes:
        request: echoed.
        purpose: its name in the relay's policy.
        version: the 8 bytes that name what it says there; empty to withdraw.
    """

    request: int
    purpose: str
    version: bytes


class ConsentGet(_Frame, frozen=True, tag=43):
    """Ask what the mailbox has granted. Answered by Consents."""

    request: int


class Evaluate(_Frame, frozen=True, tag=44):
    """Evaluate the relay's PRF at blinded elements of 32 bytes. Answered by Evaluated, or Error BUDGET.

    Attributes:
        request: echoed.
        kind: DIRECTORY_HANDLE or DIRECTORY_NUMBER; the latter only for who has verified a number.
        elements: of RFC 9497.
    """

    request: int
    kind: int
    elements: list[bytes]


class HandlePut(_Frame, frozen=True, tag=45):
    """Put the mailbox's record at a handle's place, and at no other. Answered by Done, or Error CONFLICT: it is taken.

    Attributes:
        request: echoed.
        place: 24 bytes, an id.
        record: DIRECTORY_RECORD_BYTES, sealed.
    """

    request: int
    place: bytes
    record: bytes


class HandleDelete(_Frame, frozen=True, tag=46):
    """Erase the mailbox's record at its handle. Answered by Done, also if there is none."""

    request: int


class NumberClaim(_Frame, frozen=True, tag=47):
    """Have a code sent to a mobile number, as E.164 writes it. Answered by Done, or Error BUDGET or LIMIT."""

    request: int
    number: str


class NumberConfirm(_Frame, frozen=True, tag=48):
    """Say the code that was sent. Answered by Done, Error UNAUTHORIZED or Error NOT_FOUND.

    Attributes:
        request: echoed.
        number: as in NumberClaim.
        code: NUMBER_CODE_DIGITS digits.
    """

    request: int
    number: str
    code: str


class NumberPut(_Frame, frozen=True, tag=49):
    """Put the record of the mailbox's verified number. Answered by Done, or Error UNAUTHORIZED: it has none."""

    request: int
    record: bytes


class NumberDelete(_Frame, frozen=True, tag=50):
    """Erase the mailbox's number and its record. Answered by Done, also if there is none."""

    request: int


class NumbersGet(_Frame, frozen=True, tag=51):
    """Ask for the records of numbers in a bucket, only for who has verified one. Answered by Numbers.

    Attributes:
        request: echoed.
        bucket: 0 to 239, the first byte of the places.
        after: empty for the first page, then the last place of the page before.
    """

    request: int
    bucket: int
    after: bytes


class PushPut(_Frame, frozen=True, tag=52):
    """Say where the mailbox's device is woken, from now on and nowhere else. Answered by Done.

    Attributes:
        request: echoed.
        endpoint: an https URL at a push service that the relay's policy names; 1 to MAX_ENDPOINT_BYTES.
    """

    request: int
    endpoint: str


class PushDelete(_Frame, frozen=True, tag=53):
    """Have the mailbox's device woken no more. Answered by Done, also if it never was."""

    request: int


class PushGet(_Frame, frozen=True, tag=54):
    """Ask where the mailbox's device is woken. Answered by Push."""

    request: int


# From the relay.


class Welcome(_Frame, frozen=True, tag=64):
    """Answer to Hello.

    Attributes:
        version: the chosen protocol version.
        relay_key: the relay's Ed25519 public key; clients pin it.
        nonce: 32 random bytes.
        signature: by the relay key, over ``proofs.welcome_message``.
        admission: ADMISSION_*.
        level: "power", "failover" or "process": what "accepted" survives.
    """

    version: int
    relay_key: bytes
    nonce: bytes
    signature: bytes
    admission: int
    level: str


class Error(_Frame, frozen=True, tag=65):
    """A request failed (request > 0) or the connection did (request = 0, then it closes). Detail is a constant."""

    request: int
    code: int
    detail: str


class Done(_Frame, frozen=True, tag=66):
    """The request happened, durably."""

    request: int


class Deposited(_Frame, frozen=True, tag=67):
    """The deposit is accepted for every address but the listed ones: pairs (index, Code.GONE or Code.FULL)."""

    request: int
    failed: list[tuple[int, int]]


class ClaimedPrekey(_Frame, frozen=True):
    """Outcome for one address: code 0 and a package, or GONE or EMPTY. Number 0 is the last-resort package."""

    code: int
    number: int
    package: bytes


class Claimed(_Frame, frozen=True, tag=68):
    """Answer to Claim, in the order of its addresses."""

    request: int
    prekeys: list[ClaimedPrekey]


class Fence(_Frame, frozen=True, tag=69):
    """The winner of a fence: message id, BLAKE2b-256 of its body, and the body."""

    request: int
    message_id: bytes
    digest: bytes
    body: bytes


class Slot(_Frame, frozen=True, tag=70):
    """A slot's version and body."""

    request: int
    version: int
    body: bytes


class Created(_Frame, frozen=True, tag=71):
    """The mailbox exists.

    Attributes:
        request: echoed.
        incarnation: of the mailbox.
        receipt: the relay's signature over ``proofs.admission_message``: admits this mailbox again after a loss.
    """

    request: int
    incarnation: bytes
    receipt: bytes


class PoolCount(_Frame, frozen=True):
    """A pool at the relay: suite, highest number accepted, highest number issued, packages left, last resort there."""

    suite: int
    uploaded: int
    issued: int
    left: int
    last_resort: bool


class Subscribed(_Frame, frozen=True, tag=72):
    """The subscription is on; it took the mailbox from any other connection.

    Attributes:
        request: echoed.
        incarnation: if it is not the one presented, `seen` and all prekeys uploaded before mean nothing any more.
        owner_token: goes into every Ack.
        acknowledged: highest sequence ever acknowledged in this incarnation; above the client's own: its file is old.
        pools: the relay's side of each pool.
    """

    request: int
    incarnation: bytes
    owner_token: bytes
    acknowledged: int
    pools: list[PoolCount]


class Run(_Frame, frozen=True, tag=73):
    """`count` Entry messages follow at once, with the sequences first_sequence, first_sequence + 1, and so on."""

    first_sequence: int
    count: int


class Entry(_Frame, frozen=True, tag=74):
    """One entry, the same bytes for every recipient: message id, body, and the fence it won, if any."""

    message_id: bytes
    body: bytes
    fence: bytes | None


class Drained(_Frame, frozen=True, tag=75):
    """The backlog that the relay held at Subscribe has been sent. `sequence`: the mailbox's last one then."""

    sequence: int


class MailboxStatus(_Frame, frozen=True, tag=76):
    """Answer to Status: last sequence given (0: none yet), entries and bytes waiting, pools."""

    request: int
    sequence: int
    entries: int
    size: int
    pools: list[PoolCount]


class Held(_Frame, frozen=True):
    """One value that the relay holds: the data inventory's name for it, in which row of its kind, and the value."""

    name: str
    key: bytes
    value: bytes | int


class Exported(_Frame, frozen=True, tag=78):
    """Answer to Export: a part, and what to ask for next (empty: this was the last)."""

    request: int
    held: list[Held]
    after: bytes


class Erased(_Frame, frozen=True, tag=79):
    """Answer to MailboxDelete: when (Unix seconds), and the relay's signature over ``proofs.erased_message``."""

    request: int
    erased_at: int
    receipt: bytes


class PrekeysLow(_Frame, frozen=True, tag=77):
    """The count of a pool crossed the low mark."""

    suite: int
    left: int


class AddressSpent(_Frame, frozen=True, tag=80):
    """So much was claimed through an address that it gives no one-time packages for now."""

    address: bytes


class Consent(_Frame, frozen=True):
    """A purpose that was granted: its name, the version (8 bytes) that was, and when (Unix seconds)."""

    purpose: str
    version: bytes
    granted_at: int


class Consents(_Frame, frozen=True, tag=81):
    """Answer to ConsentGet. A version that is not the one offered now grants nothing."""

    request: int
    consents: list[Consent]


class Evaluated(_Frame, frozen=True, tag=83):
    """Answer to Evaluate: elements in the order asked, and one proof (64 bytes) for the published key."""

    request: int
    elements: list[bytes]
    proof: bytes


class DirectoryRecord(_Frame, frozen=True):
    """A record and its place; or a decoy, which nobody can tell from one."""

    place: bytes
    record: bytes


class Numbers(_Frame, frozen=True, tag=84):
    """Answer to NumbersGet: records by ascending place, and whether there are more."""

    request: int
    records: list[DirectoryRecord]
    more: bool


class Push(_Frame, frozen=True, tag=93):
    """Answer to PushGet: the endpoint, or nothing: none was put, or its push service says that it is gone."""

    request: int
    endpoint: str


class Disclosed(_Frame, frozen=True, tag=91):
    """The relay's operator handed data of the mailbox to others: section 6.16.

    Attributes:
        entry: the log's, UTF-8 JSON.
        signature: the relay's over ``proofs.disclosed_message``.
    """

    entry: bytes
    signature: bytes


ClientFrame = (
    Hello
    | Deposit
    | ListPut
    | ListDrop
    | Claim
    | FenceGet
    | SlotGet
    | SlotPut
    | SlotDelete
    | Open
    | Create
    | Subscribe
    | Ack
    | AddressPut
    | AddressRevoke
    | PrekeysPut
    | Status
    | MailboxDelete
    | Export
    | ConsentPut
    | ConsentGet
    | Evaluate
    | HandlePut
    | HandleDelete
    | NumberClaim
    | NumberConfirm
    | NumberPut
    | NumberDelete
    | NumbersGet
    | PushPut
    | PushDelete
    | PushGet
)
RelayFrame = (
    Welcome
    | Error
    | Done
    | Deposited
    | Claimed
    | Fence
    | Slot
    | Created
    | Subscribed
    | Run
    | Entry
    | Drained
    | MailboxStatus
    | PrekeysLow
    | AddressSpent
    | Disclosed
    | Exported
    | Erased
    | Consents
    | Evaluated
    | Numbers
    | Push
)


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:  # noqa: ANN401 -- the caller's decoder says which
    if len(data) > limits.MAX_FRAME_BYTES:
        raise RemoteError(Code.TOO_LARGE, "frame")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise RemoteError(Code.MALFORMED, "frame") from None


_encoder = msgspec.msgpack.Encoder()
_client_decoder: msgspec.msgpack.Decoder[ClientFrame] = msgspec.msgpack.Decoder(ClientFrame)
_relay_decoder: msgspec.msgpack.Decoder[RelayFrame] = msgspec.msgpack.Decoder(RelayFrame)


_RUN: Final = struct.Struct(">3sQB")
_RUN_START: Final = b"\x93\x49\xcf"  # an array of three, Run's number, and that eight bytes follow
_CLAIMED_START: Final = b"\x93\x44"  # an array of three, and Claimed's number
_FEW: Final = 0x90  # an array of up to 15, whose length is in the same byte; others' is in the next two
_MOST_OF_FEW: Final = 0xF
_EIGHT_BYTES: Final = 1 << 32  # the least number that has them in MessagePack
_ONE_BYTE: Final = 1 << 7  # numbers below are one


def encode(frame: ClientFrame | RelayFrame) -> bytes:
    """Return the frame as one MessagePack array."""
    return _encoder.encode(frame)


def encode_run(first_sequence: int, count: int) -> bytes:
    """Return ``encode(Run(first_sequence, count))``: there is one for each write to a recipient."""
    if first_sequence >= _EIGHT_BYTES and count < _ONE_BYTE:
        return _RUN.pack(_RUN_START, first_sequence, count)
    return encode(Run(first_sequence, count))


def encode_prekey(code: int, number: int, package: bytes) -> bytes:
    """Return the bytes of a ClaimedPrekey."""
    return _encoder.encode(ClaimedPrekey(code, number, package))


def encode_claimed(request: int, prekeys: Sequence[bytes]) -> list[bytes]:
    """Return ``encode(Claimed(request, ...))`` of ClaimedPrekeys that are encoded, as pieces to be joined."""
    count = len(prekeys)
    size = bytes((_FEW | count,)) if count <= _MOST_OF_FEW else b"\xdc" + count.to_bytes(2, "big")
    return [_CLAIMED_START + _encoder.encode(request) + size, *prekeys]


def decode_client_frame(data: bytes) -> ClientFrame:
    """Decode a frame that a client sent; ``checks.check`` is the next step.

    Raises:
        RemoteError: MALFORMED if it is no frame of this protocol, TOO_LARGE if it is beyond MAX_FRAME_BYTES.
    """
    frame: ClientFrame = _decode(_client_decoder, data)
    return frame


def decode_relay_frame(data: bytes) -> RelayFrame:
    """Decode a frame that a relay sent. Raises RemoteError(MALFORMED) or RemoteError(TOO_LARGE)."""
    frame: RelayFrame = _decode(_relay_decoder, data)
    return frame
