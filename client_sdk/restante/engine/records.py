"""What the client's file holds, as values. Each is one cell: MessagePack arrays, sealed by ``restante.file``.

New fields go to the end with a default; the order of TABLES is the order of their numbers in the file.
"""

from typing import Final, Self

import msgspec

TABLES: Final = (
    "account",
    "addresses",
    "prekeys",
    "used_prekeys",
    "invites",
    "contacts",
    "conversations",
    "groups",
    "messages",
    "past_groups",
    "past_messages",
    "epochs",
    "outbox",
    "deposits",
    "commits",
    "intents",
    "winners",
    "sent",
    "seen",
    "numbers",
    "held",
    "events",
    "resyncs",
    "recent",
    "opened",
    "devices",
    "blobs",
    "awaited",
    "rosters",
    "resync_keys",
    "resync_answers",
    "rejoins",
    "downloads",
)

PURPOSE_SPARE: Final = 0  # registered, for the next leaf that rotates
PURPOSE_INVITE: Final = 1  # in a manifest
PURPOSE_PREKEY: Final = 2  # in a KeyPackage that nobody used yet
PURPOSE_CONVERSATION: Final = 3  # in a leaf

INTENT_UPDATE: Final = 0
INTENT_ADD: Final = 1
INTENT_REMOVE: Final = 2
INTENT_LEAVE: Final = 3  # somebody else's wish to leave
INTENT_REINIT: Final = 4  # to end the group for one with a better suite
INTENT_BEGIN: Final = 5  # to begin that one
INTENTS_OF_MEMBERS: Final = frozenset({INTENT_UPDATE, INTENT_ADD, INTENT_REMOVE, INTENT_LEAVE})


class Record(msgspec.Struct, frozen=True, array_like=True, repr_omit_defaults=True):
    """Base of the records; they have no repr of their contents."""

    def __repr__(self) -> str:
        """Return the type's name alone."""
        return f"<{type(self).__name__}>"

    def pack(self) -> bytes:
        """Return the record as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Return the record in these bytes. Its seal was checked before."""
        return msgspec.msgpack.decode(data, type=cls)


class Account(Record, frozen=True):
    """This account and device: made once, with the relay's pinned key and admission receipt as they come."""

    identity_seed: bytes
    device_seed: bytes
    receive_seed: bytes
    bucket: int
    mailbox_nonce: bytes
    prekey_key: bytes
    relay_url: str
    relay_key: bytes = b""
    receipt: bytes = b""


class Position(Record, frozen=True):
    """How far the mailbox is processed: its incarnation, the highest sequence, and when the relay last forgot.

    ``renewed`` is the Unix second in which another incarnation was met, or 0.
    """

    incarnation: bytes = b""
    cursor: int = 0
    renewed: int = 0


class Pool(Record, frozen=True):
    """A prekey pool: highest number made, highest seen used, how many are left, age of its last resort."""

    made: int = 0
    used: int = 0
    left: int = 0
    replace: bool = False
    last_resort_at: int = 0


class Address(Record, frozen=True):
    """One deposit address of ours. Times are Unix seconds."""

    nonce: bytes
    purpose: int
    conversation: bytes = b""
    registered: bool = False
    revoke_at: int = 0


class Prekey(Record, frozen=True):
    """A KeyPackage whose private halves are here. Number 0: the last resort."""

    suite: int
    number: int
    bundle: bytes
    address: bytes
    uploaded: bool = False


class OwnProfile(Record, frozen=True):
    """This account's profile, and the slot that it is in. ``number`` counts its changes."""

    write_seed: bytes
    nonce: bytes
    bucket: int
    key: bytes
    nickname: str = ""
    avatar: bytes = b""
    number: int = 0
    stored: bool = False
    expires: int = 0


class Consent(Record, frozen=True):
    """A purpose of the relay's policy that the person decided on. An empty version: withdrawn, to be told."""

    version: bytes
    told: bool = False
    renew_at: int = 0


class OwnEntry(Record, frozen=True):
    """What this account has in the directory: the name, the relay's key that it is under, and its own invite there."""

    name: str
    public: bytes
    place: bytes
    key: bytes
    invite: str
    renew_at: int = 0


class OwnPush(Record, frozen=True):
    """Where this device is woken, whether the relay was told, and when it is asked whether it still knows."""

    endpoint: str
    told: bool
    look_at: int = 0


class Usage(Record, frozen=True):
    """What was counted for diagnostics since ``since``, to be reported at ``due`` (Unix seconds). ``days``: bits."""

    since: int
    due: int
    days: int = 0
    messages: int = 0
    failures: int = 0
    speeds: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])


class InviteSlot(Record, frozen=True):
    """An invite that we gave: its slot and what stands in it."""

    write_seed: bytes
    nonce: bytes
    key: bytes
    claim_address: bytes
    manifest_version: int = 0
    expires: int = 0
    stored: bool = False
    suites: tuple[int, ...] = ()


class ConversationState(Record, frozen=True):
    """A conversation beside its MLS group."""

    title: str | None
    inviter: bytes
    address: bytes
    accepted: bool = True
    active: bool = True
    resync: bool = False  # our state is beyond use: nothing is sent until we have let ourselves in again
    catching_up: bool = False  # it is only old: first follow what the others have committed
    resync_at: int = 0  # when we asked last, Unix seconds
    resync_count: int = 0  # how often we have asked
    resync_address: bytes = b""  # where the answer goes, and later our leaf's
    fence_number: int = 0
    fence_previous: bytes = b""
    number: int = 0
    previous: bytes = b""
    epoch_base: int = 0
    awaited: bool = False  # the Commit that won is in a blob that is not here yet: nothing is sent meanwhile
    rotate: bool = False
    sent_since_heal: int = 0
    heal_at: int = 0  # when we commit fresh keys if the reason still holds, Unix seconds; 0: there is none
    healed_at: int = 0
    resync_epoch: int = -1  # the last epoch that the others have too; -1: the current one
    late_keys_at: int = 0  # when late_keys was noted, Unix seconds
    late_keys: tuple[tuple[int, int, int], ...] = ()  # see Group.late_keys
    offer: bytes = b""  # welcome tag of the KeyPackage that we offer, or will with our next Commit
    youngest: int = 0  # the epoch in which the last member came: all hold the resumption PSKs since


class Outgoing(Record, frozen=True):
    """A content on its way out. epoch -1: not encrypted yet."""

    content_id: bytes
    content_type: str
    body: bytes
    sent_at: int
    in_reply_to: bytes | None = None
    number: int = 0
    previous: bytes = b""
    epoch: int = -1
    message_id: bytes = b""
    sealed: bytes = b""
    addresses: list[bytes] = msgspec.field(default_factory=list)
    disposition: int = 1  # content.RENDER


class Ready(Record, frozen=True):
    """A deposit whose bytes are final: a Welcome, a leave, a request, or a second try for a full mailbox."""

    message_id: bytes
    addresses: list[bytes]
    body: bytes
    fence: bytes | None = None
    not_before: int = 0
    expires: int = 0
    blobs: tuple[bytes, ...] = ()  # they have to be at the relay before it


class PendingCommit(Record, frozen=True):
    """Our Commit, staged: it applies only when it has won its fence."""

    epoch: int
    fence: bytes
    message_id: bytes
    body: bytes
    addresses: list[bytes]
    group: bytes
    messages: bytes
    welcomes: list[Ready]
    intents: list[bytes]
    address: bytes = b""  # our leaf's new address, if it rotates
    blobs: tuple[bytes, ...] = ()  # the Commit itself if it is large, and the tree: both have to be there first
    reference: bytes = b""  # blob id of the Commit itself


class Intent(Record, frozen=True):
    """What a Commit of ours shall do."""

    kind: int
    account: bytes = b""
    signature_key: bytes = b""
    key_package: bytes = b""
    not_before: int = 0


class Epoch(Record, frozen=True):
    """What opens the outer seal of an epoch, and what proves later to have been in it. The cell's key is its tag."""

    conversation: bytes
    epoch: int
    key: bytes
    authenticator: bytes
    resumption_psk: bytes
    group_id: bytes
    group_epoch: int
    suite: int
    ended: int = 0  # Unix seconds; 0: it is the current one


class RosterMember(Record, frozen=True):
    """A member's leaf, as far as it takes to ask it."""

    signature_key: bytes
    account: bytes
    address: bytes


class Roster(Record, frozen=True):
    """Whom to ask when the group's state is lost."""

    suite: int
    members: list[RosterMember]


class ResyncKey(Record, frozen=True):
    """A request of ours: the HPKE key that opens its answers. The cell's key is the tag of its public half."""

    conversation: bytes
    private: bytes
    digest: bytes
    epoch: int
    authenticator: bytes
    branch: bytes
    suite: int


class Rejoin(Record, frozen=True):
    """Our external Commit, staged: it applies only when it has won its fence."""

    fence: bytes
    message_id: bytes
    body: bytes
    addresses: list[bytes]
    group: bytes
    messages: bytes
    address: bytes
    epoch: int  # the last one in common before
    blobs: tuple[bytes, ...] = ()  # the Commit, if it is large


class Asked(Record, frozen=True):
    """A request of another member. The cell's key is its digest; ``request`` is empty once it was answered."""

    conversation: bytes
    request: bytes = b""


class Answered(Record, frozen=True):
    """When one device was answered lately, in Unix seconds."""

    times: list[int]


class WinningCommit(Record, frozen=True):
    """A Commit that won: what repairs a relay that was rolled back, and tells a fork."""

    fence: bytes
    message_id: bytes
    body: bytes
    blob: bytes = b""  # where the Commit is, if it is not in the body


class Numbers(Record, frozen=True):
    """The numbering of one device's contents, as we have seen it."""

    last: int


class Held(Record, frozen=True):
    """An entry that no key opened yet."""

    message_id: bytes
    body: bytes
    fence: bytes | None
    received_at: int


class Blob(Record, frozen=True):
    """A blob that this client made, or keeps for its group: ``restante.blobs.BlobKeys``, and the content."""

    keys: bytes
    content: bytes
    expires: int
    uploaded: bool = False
    own: bool = True  # this client has uploaded it, or may have


class Awaited(Record, frozen=True):
    """An entry that is processed once a blob (``restante.blobs.BlobReference``) is here. Times: Unix milliseconds.

    ``account`` vouches for a Welcome; it is empty if nobody does.
    """

    reference: bytes
    entry: Held
    due: int
    tries: int = 0
    lost_at: int = 0  # when the relay first said that it does not have it
    welcome: bool = False
    account: bytes = b""


class Spent(Record, frozen=True):
    """Bytes that a payer has had downloaded since a Unix second."""

    since: int
    size: int = 0


class MessageEvent(Record, frozen=True, tag=1):
    """A content arrived."""

    conversation: bytes
    sender: bytes
    content_id: bytes
    content_type: str
    body: bytes
    sent_at: int


class RequestEvent(Record, frozen=True, tag=2):
    """A stranger started a conversation."""

    conversation: bytes
    sender: bytes


class AddedEvent(Record, frozen=True, tag=3):
    """An account joined; ``by`` is empty if this device was lost meanwhile."""

    conversation: bytes
    member: bytes
    by: bytes


class RemovedEvent(Record, frozen=True, tag=4):
    """An account left or was removed; ``by`` as above."""

    conversation: bytes
    member: bytes
    by: bytes


class FailedEvent(Record, frozen=True, tag=5):
    """Something that arrived could not be opened or used."""

    conversation: bytes
    cause: str
    advice: str


class MissingEvent(Record, frozen=True, tag=6):
    """Contents of a sender did not arrive."""

    conversation: bytes
    sender: bytes
    count: int


class RolledBackEvent(Record, frozen=True, tag=7):
    """This file is older than what was done with it."""


class DeviceEvent(Record, frozen=True, tag=8):
    """An account that is known uses a device that was not seen before."""

    conversation: bytes
    account: bytes


class DeviceChangedEvent(Record, frozen=True, tag=15):
    """A device of an account that is a member is gone ("removed"), or let itself in again ("rejoined")."""

    conversation: bytes
    account: bytes
    change: str


class ProfileEvent(Record, frozen=True, tag=11):
    """A contact told where their profile is, or that it changed."""

    conversation: bytes
    account: bytes


class SuiteEvent(Record, frozen=True, tag=20):
    """A conversation goes on with a better cipher suite, of this name."""

    conversation: bytes
    suite: str


class AnnouncedEvent(Record, frozen=True, tag=9):
    """The relay's operator announced something to everybody. ``at``: Unix milliseconds of the relay's clock."""

    number: int
    at: int
    kind: str
    texts: dict[str, str]


class OverusedEvent(Record, frozen=True, tag=10):
    """An invite was claimed from too often."""

    invite: str


class PurposeEvent(Record, frozen=True, tag=12):
    """A purpose that was granted says something else now, or is not offered any more: it is off."""

    purpose: str


class DisclosedEvent(Record, frozen=True, tag=13):
    """The relay's operator handed data of this client's mailbox to others. ``at``: Unix seconds."""

    number: int
    at: int
    ground: str
    to: str
    reason: str
    fields: list[str]


class EntryLostEvent(Record, frozen=True, tag=14):
    """This account's handle or number is not in the directory any more, by no wish of its owner."""

    purpose: str


class PushLostEvent(Record, frozen=True, tag=17):
    """This device is not woken any more, by no wish of its owner."""


StoredEvent = (
    MessageEvent
    | RequestEvent
    | AddedEvent
    | RemovedEvent
    | FailedEvent
    | MissingEvent
    | RolledBackEvent
    | DeviceEvent
    | DeviceChangedEvent
    | AnnouncedEvent
    | OverusedEvent
    | ProfileEvent
    | SuiteEvent
    | PurposeEvent
    | DisclosedEvent
    | EntryLostEvent
    | PushLostEvent
)
_event_decoder: msgspec.msgpack.Decoder[StoredEvent] = msgspec.msgpack.Decoder(StoredEvent)


def unpack_event(data: bytes) -> StoredEvent:
    """Return the event in these bytes."""
    return _event_decoder.decode(data)
