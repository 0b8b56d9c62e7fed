"""The data inventory: one declaration for every single thing that a relay stores or emits.

docs/data.md and the privacy policy are made from it, the log lets no other field through, and ``tests/test_data.py``
compares it with relays that were used, in both directions. ``python -m restante_server.inventory`` prints docs/data.md.

Longer than 600 lines because it is a list.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from restante_protocol import limits
from restante_server import redis_fields
from restante_server.categories import Category
from restante_server.config import CODE_LIFETIME, PUSH_MOST_REST, TOMBSTONE_LIFETIME


class Kind(StrEnum):
    """Where a thing is found."""

    COLUMN = "column"  # of the embedded store: table.column
    KEY = "Redis key"  # of a store on Redis, after the prefix; b is the number of a bucket
    FIELD = "Redis field"  # of what is in such a key: key.field
    FILE = "file"  # beside the store; * stands for a random or running part
    BLOB = "part of a blob"
    LOG = "log field"
    LABEL = "metric label"  # metric.label
    SLOT = "slot"  # what is in one, by the name in PROTOCOL.md section 6.12 or the SDK's
    COOKIE = "cookie"
    PUSH = "part of a push"  # its URL and header fields: there is no content
    SMS = "field of a text message"


@dataclass(frozen=True, slots=True)
class Item:
    """One declared thing.

    Attributes:
        kind: where it is found.
        name: how it is called there.
        category: its purpose, legal basis, readers, lifetime and erasure.
        what: what it is.
        lifetime: seconds after which it is gone whatever happens, or None if its owner decides.
        enforced: what makes it go.
        exported: where it is in the owner's export: a kind of what is held, or a field of one, as the SDK's
            ``export.schema.json`` describes them. Empty: it is not there.
        disclosable: the operator may be asked to hand it out (section 6.16).
    """

    kind: Kind
    name: str
    category: Category
    what: str
    lifetime: int | None
    enforced: str
    exported: str = ""
    disclosable: bool = False


_DAY: Final = 86_400
_HANDED_OVER: Final = 120  # seconds in which another relay has gone on where one ended
_DELETE: Final = "MailboxDelete"
_REVOKE: Final = "AddressRevoke, MailboxDelete"
_SWEEP: Final = "the sweep"
_LAPSE: Final = limits.MAX_SLOT_LIFETIME
_WITHDRAWN: Final = "ConsentPut, MailboxDelete"
_HANDLE: Final = f"HandlePut, HandleDelete, {_WITHDRAWN}"
_NUMBER: Final = f"NumberConfirm, NumberDelete, {_WITHDRAWN}"
_QUERIES: Final = limits.NUMBER_QUERIES * limits.NUMBER_QUERY_SECONDS
_KEYS: Final = {  # where a key's values are in an export, but for what relays need among themselves
    "mailbox": "mailbox",
    "queue": "mailbox",
    "address": "address",
    "entry": "payload",
    "payload": "payload",
    "pool": "pool",
    "last-resort": "pool.last_resort",
    "prekey:*": "prekey",
    "slot": "slot",
}
_BLOB_ENDS: Final = "DELETE, the sweep"


def _columns(
    table: str,
    category: Category,
    columns: dict[str, str],
    enforced: str,
    lifetime: int | None = None,
    *,
    exported: bool = False,
    disclosable: bool = False,
) -> tuple[Item, ...]:
    return tuple(
        Item(Kind.COLUMN, thing, category, what, lifetime, enforced, thing if exported else "", disclosable)
        for thing, what in ((f"{table}.{name}", what) for name, what in columns.items())
    )


def _all(kind: Kind, category: Category, names: dict[str, str], enforced: str) -> tuple[Item, ...]:
    return tuple(Item(kind, name, category, what, None, enforced) for name, what in names.items())


def _keys(category: Category, names: dict[str, str], enforced: str, lifetime: int | None = None) -> tuple[Item, ...]:
    return tuple(
        Item(kind, f"{{b}}:{name}", category, what, lifetime, enforced, exported)
        for key, about in names.items()
        for kind, name, what, exported in (
            (Kind.KEY, key, about, _KEYS.get(key, "")),
            *((Kind.FIELD, f"{key}.{field}", each, "") for field, each in redis_fields.FIELDS[key].items()),
        )
    )


ITEMS: Final[tuple[Item, ...]] = (
    *_columns(
        "mailbox",
        Category.MAILBOX,
        {
            "n": "running number that other tables name",
            "id": "the mailbox's id, random to everybody else",
            "receive_key": "its owner's public key, made for this mailbox alone",
            "incarnation": "random mark of one unbroken history",
            "epoch": "mark of the store's history that it was written under",
            "last": "last sequence given",
            "acknowledged": "highest sequence acknowledged",
            "cursor": "entries up to here are gone",
            "kept": "but for these sequences",
            "addresses": "how many addresses it has",
            "spent": "addresses that much was claimed through, until the owner is told",
        },
        _DELETE,
        exported=True,
        disclosable=True,
    ),
    *_columns(
        "address",
        Category.ADDRESS,
        {
            "n": "running number that entries name",
            "id": "the address's id, unguessable",
            "mailbox": "its mailbox's running number",
            "cap": "how many entries may wait that came through it",
            "kind": "whether strangers may know it",
        },
        _REVOKE,
        exported=True,
        disclosable=True,
    ),
    *_columns(
        "payload",
        Category.MESSAGE,
        {
            "n": "running number",
            "message_id": "random, made by the depositor",
            "fence": "the tag that it won, if any",
            "expires": "when it is dropped",
            "large": "which quota it draws on",
            "members": "how many payloads, from this one on, have the same recipients",
            "recipients": "which entries wait for these payloads; emptied when all have fetched them",
            "body": "the ciphertext, once for all its recipients",
        },
        "Ack, the sweep",
        limits.FENCE_LIFETIME,
        exported=True,
        disclosable=True,
    ),
    *_columns(
        "fence",
        Category.MESSAGE,
        {
            "tag": "random to everybody but the group",
            "message_id": "the winner's",
            "digest": "hash of the winner's ciphertext",
            "payload": "the winner's running number",
            "expires": "when it is dropped",
        },
        _SWEEP,
        limits.FENCE_LIFETIME,
    ),
    *_columns(
        "deduplication",
        Category.MESSAGE,
        {
            "digest": "hash of a deposit",
            "failed": "its outcome",
            "expires": "when it is dropped",
        },
        _SWEEP,
        limits.DEDUPLICATION_LIFETIME,
    ),
    *_columns(
        "deduplication_log",
        Category.MESSAGE,
        {
            "n": "running number of a commit",
            "expires": "when the row is dropped",
            "digests": "hashes of its deposits",
        },
        _SWEEP,
        limits.DEDUPLICATION_LIFETIME,
    ),
    *_columns(
        "pool",
        Category.PREKEY,
        {
            "mailbox": "its mailbox's running number",
            "suite": "number of the cipher suite",
            "uploaded": "highest number accepted",
            "issued": "highest number given out",
            "left": "how many are left",
            "last_resort": "a sealed KeyPackage for when the pool is empty",
        },
        _DELETE,
        exported=True,
    ),
    *_columns(
        "prekey",
        Category.PREKEY,
        {
            "mailbox": "its mailbox's running number",
            "suite": "number of the cipher suite",
            "number": "its number",
            "package": "a sealed KeyPackage",
        },
        "Claim, MailboxDelete",
        exported=True,
    ),
    *_columns(
        "slot",
        Category.SLOT,
        {
            "id": "the slot's id, unguessable",
            "version": "how often it was written",
            "expires": "when it is dropped",
            "body": "the ciphertext",
        },
        "SlotDelete, the sweep",
        TOMBSTONE_LIFETIME,  # of a tombstone; all others have 120 days
        exported=True,
    ),
    *(
        Item(Kind.BLOB, f"blob.{name}", Category.BLOB, what, limits.MAX_BLOB_LIFETIME, _BLOB_ENDS, f"blob.{name}")
        for name, what in {
            "id": "the blob's id, unguessable: the file's name",
            "expires": "when it is dropped",
            "digest": "hash of the ciphertext",
            "body": "the ciphertext",
        }.items()
    ),
    Item(
        Kind.FILE,
        "relay.db.blobs/*/*",
        Category.BLOB,
        "a blob: its parts above and nothing else; or one on its way in, under a random name",
        limits.MAX_BLOB_LIFETIME,
        _BLOB_ENDS,
    ),
    Item(
        Kind.SLOT,
        "invite",
        Category.SLOT,
        "the sealed manifest behind an invite",
        limits.MAX_SLOT_LIFETIME,
        "SlotDelete, the sweep",
        "slot",
    ),
    Item(
        Kind.SLOT,
        "profile",
        Category.SLOT,
        "a sealed nickname and avatar, padded",
        limits.MAX_SLOT_LIFETIME,
        "SlotDelete, the sweep",
        "slot",
    ),
    Item(
        Kind.SLOT,
        "consent",
        Category.GRANTED,
        "under a keyed hash of mailbox and purpose: the version that was granted, and when",
        limits.MAX_SLOT_LIFETIME,
        "ConsentPut, MailboxDelete, the sweep",
        "consent",
    ),
    Item(
        Kind.SLOT,
        "push endpoint",
        Category.ENDPOINT,
        "under a keyed hash of a mailbox: sealed, where its device is woken",
        _LAPSE,
        f"PushPut, PushDelete, {_WITHDRAWN}, the push service, the sweep",
        "push.endpoint",
    ),
    Item(
        Kind.SLOT,
        "push rest",
        Category.ENDPOINT,
        "under a keyed hash of a mailbox: when its device may be woken again",
        PUSH_MOST_REST,
        f"PushDelete, {_WITHDRAWN}, the sweep",
        "push.rest",
    ),
    *(
        Item(Kind.SLOT, name, Category.DIRECTORY, what, lifetime, f"{ended}, the sweep", exported)
        for name, what, lifetime, ended, exported in (
            ("handle", "at a place from the handle: a mark of whose it is, a sealed invite", _LAPSE, _HANDLE, "handle"),
            ("directory entry", "sealed: where the records of a mailbox are", _LAPSE, _WITHDRAWN, "handle.place"),
            ("number record", "a sealed invite", _LAPSE, _NUMBER, "number.record"),
            ("number list", "the places of a bucket, from numbers", _LAPSE, _NUMBER, "number.place"),
            ("number holder", "under a keyed hash of a number: sealed, whose it is", _LAPSE, _NUMBER, "number"),
            (
                "number code",
                "sealed: the mark of a code that was sent",
                limits.NUMBER_CODE_LIFETIME,
                "NumberConfirm",
                "",
            ),
            (
                "number queries",
                "under a keyed hash of a number: when it may ask for all again",
                _QUERIES,
                "time",
                "number.queries",
            ),
            ("number texts", "under a keyed hash of a number: when it may be sent more", _DAY, "time", "number.texts"),
        )
    ),
    Item(
        Kind.SLOT,
        "tombstone",
        Category.TOMBSTONE,
        "keyed hash of something erased, and when",
        TOMBSTONE_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "policy",
        Category.PUBLISHED,
        "the list of the policy's versions",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(Kind.SLOT, "policy *", Category.PUBLISHED, "one version", limits.MAX_SLOT_LIFETIME, _SWEEP),
    Item(
        Kind.SLOT,
        "directory",
        Category.PUBLISHED,
        "the directory's public keys",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "push",
        Category.PUBLISHED,
        "the relay's public key for push services",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "official",
        Category.PUBLISHED,
        "names and invites of the operator's own people, who are reached like anybody else",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "diagnostics",
        Category.SUMS,
        "how many reports there were of each class of each measure",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "announcements",
        Category.PUBLISHED,
        "what the operator has to tell everybody",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "transparency",
        Category.PUBLISHED,
        "how often data was disclosed, on which grounds, and the hash of the newest entry of the log",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
    ),
    Item(
        Kind.SLOT,
        "disclosure *",
        Category.DISCLOSURE,
        "an entry of the log: ground, recipient, reason, names of fields, keyed hash of the mailbox",
        limits.MAX_SLOT_LIFETIME,
        _SWEEP,
        "disclosure",
    ),
    Item(
        Kind.FILE,
        "relay.db.disclose-*",
        Category.DISCLOSURE,
        "what the operator asks for, with the mailbox's id",
        None,
        "the relay takes it within seconds",
    ),
    Item(
        Kind.FILE,
        "relay.db.disclosed-*",
        Category.DISCLOSURE,
        "what was handed out",
        None,
        "the operator, who hands it on",
    ),
    Item(
        Kind.FILE,
        "relay.db.announcement-*",
        Category.PUBLISHED,
        "a new announcement",
        None,
        "the relay takes it within seconds",
    ),
    *_columns(
        "code",
        Category.CODE,
        {"hash": "hash of an invite code", "expires": "when it is void", "used": "whether it is used up"},
        "the sweep",
        CODE_LIFETIME,
    ),
    *_keys(
        Category.MAILBOX,
        {
            "mailbox": "mailboxes by id",
            "queue": "the part of them that changes most, by running number",
        },
        _DELETE,
    ),
    *_keys(
        Category.ADDRESS,
        {
            "address": "addresses by id",
            "waiting": "how many entries wait that came through it",
        },
        f"{_REVOKE}, the sweep",
    ),
    *_keys(
        Category.MESSAGE,
        {
            "entry": "what waits for a mailbox, by position",
            "payload": "messages, once for all recipients of a bucket",
            "reference": "how many wait for messages that came together",
        },
        "Ack, the sweep",
        limits.MAX_LIFETIME,
    ),
    *_keys(
        Category.MESSAGE,
        {"fence": "fences that were won, by tag"},
        _SWEEP,
        limits.FENCE_LIFETIME,
    ),
    *_keys(
        Category.MESSAGE,
        {"expiry": "when messages, fences, slots and codes are dropped"},
        _SWEEP,
        TOMBSTONE_LIFETIME,  # of a tombstone; all others go earlier
    ),
    *_keys(
        Category.MESSAGE,
        {"pending": "a deposit that has won its fence and is not yet everywhere", "lease": "when another node goes on"},
        "a relay, within seconds",
        _HANDED_OVER,
    ),
    *_keys(
        Category.MESSAGE,
        {"seen": "outcomes of deposits", "forget": "when that is dropped"},
        _SWEEP,
        limits.DEDUPLICATION_LIFETIME,
    ),
    *_keys(
        Category.PREKEY,
        {"pool": "pools by mailbox and suite", "last-resort": "KeyPackages for when they are empty"},
        _DELETE,
    ),
    *_keys(
        Category.PREKEY,
        {"prekey:*": "one-time KeyPackages, by mailbox and suite"},
        "Claim, MailboxDelete",
    ),
    *_keys(
        Category.SLOT,
        {"slot": "slots by id"},
        "SlotDelete, the sweep",
        TOMBSTONE_LIFETIME,  # as above
    ),
    *_keys(Category.CODE, {"code": "hashes of invite codes"}, "the sweep", CODE_LIFETIME),
    *_keys(
        Category.STORE,
        {
            "state": "marks and counters of a bucket",
            "store": "what the whole store has",
        },
        "with the store",
    ),
    *_columns(
        "meta",
        Category.STORE,
        {
            "key": "name of a mark, or 'claims' and a number",
            "value": "the mark, random; or numbers of packages issued, until they are deleted",
        },
        "with the store",
    ),
    *_all(
        Kind.FILE,
        Category.STORE,
        {
            "relay.db": "the database: the columns above",
            "relay.db-wal": "its write-ahead log: the latest changes of the same columns",
            "relay.db-shm": "an index of that log",
            "relay.db.lock": "empty: who holds the store",
            "relay.db.epoch": "mark of the store's history",
            "relay.db.v*": "the database before an upgrade, for the operator to delete",
            "relay.key": "the relay's own key, from which those of push are derived",
            "*.new": "one of these files while it is written: the next time it is written over",
            "relay.db.restored": "a backup's database while it is put back",
        },
        "with the store",
    ),
    Item(
        Kind.FILE,
        "relay.tombstones",
        Category.TOMBSTONE,
        "the same tombstones, for when the store is lost or put back",
        TOMBSTONE_LIFETIME,
        "the relay's start",
    ),
    Item(
        Kind.FILE,
        "oprf.key",
        Category.DIRECTORY,
        "the directory's secret: in no store and no backup",
        None,
        "with the directory",
    ),
    Item(
        Kind.FILE,
        "relay.db.codes-*",
        Category.CODE,
        "hashes of new invite codes, and when they were made",
        CODE_LIFETIME,
        "the relay takes them within seconds",
    ),
    *_all(
        Kind.SMS,
        Category.HANDED_ON,
        {"sms.number": "the number that is to be checked", "sms.text": "the code, and what it is for"},
        "it is sent, and not kept",
    ),
    *_all(
        Kind.PUSH,
        Category.HANDED_ON,
        {
            "push.endpoint": "the URL that a device has at its push service",
            "push.authorization": "which relay asks, signed: the same for all endpoints of a service for six hours",
            "push.ttl": "how long the service may try: the same for all",
            "push.topic": "that a later push replaces an earlier one: the same for all",
            "push.urgency": "the same for all",
        },
        "it is sent, and not kept",
    ),
    *_all(
        Kind.LOG,
        Category.OPERATIONS,
        {
            "event": "constant text: what happened",
            "timestamp": "when",
            "level": "how grave",
            "error": "type of an exception",
            "frame": "type of a frame",
            "kind": "name of the package that speaks",
            "reason": "constant text: why",
            "where": "places in the code",
        },
        "the operator's log rotation",
    ),
    *_all(
        Kind.LABEL,
        Category.OPERATIONS,
        {
            "restante_connections.role": "sender or receiver",
            "restante_pushes.outcome": "what a push service said",
            "restante_requests.kind": "type of a frame",
            "restante_refusals.code": "code of an error",
            "restante_deposit_seconds.le": "bound of a histogram's bucket",
        },
        "the metrics' reader",
    ),
)


GIVEN: Final = {
    "profile": ("nickname", "avatar"),
    "consent": ("consent",),
    "push endpoint": ("endpoint",),
    "handle": ("handle",),
    "number holder": ("number",),
}
"""What a person says of themselves and the relay holds in whatever form, by the slot: they can change each of it."""


def names(kind: Kind) -> frozenset[str]:
    """Return the names of all declared things of a kind."""
    return frozenset(item.name for item in ITEMS if item.kind == kind)


def disclosable() -> frozenset[str]:
    """Return the names of what the operator may be asked to hand out."""
    return frozenset(item.name for item in ITEMS if item.disclosable)


def page() -> str:
    """Return docs/data.md."""
    parts = [_HEAD]
    for category in Category:
        about = category.value
        parts.append(
            f"## {about.title.en}\n\n{_sentence(about.what.en)} **Why:** {about.purpose.en}. "
            f"**Basis:** {about.basis.en}. **Who can read it:** {about.readers.en}. "
            f"**How long:** {about.kept.en}. **How it goes:** {about.erased.en}.\n\n"
            "| thing | kind | what it is | gone at the latest after | ended by | in an export |\n"
            "|---|---|---|---|---|---|"
        )
        parts[-1] += "".join(
            f"\n| `{item.name}` | {item.kind} | {item.what} | {_days(item.lifetime)} | {item.enforced} |"
            f" {f'`{item.exported}`' if item.exported else ''} |"
            for item in ITEMS
            if item.category is category
        )
    return "\n\n".join([*parts, _TAIL])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _days(seconds: int | None) -> str:
    if seconds is None:
        return ""
    if seconds < _DAY:
        return f"{seconds // 60} minutes"
    days = -(-seconds // _DAY)
    return f"{days} day{'s' if days > 1 else ''}"


_HEAD: Final = """# What is stored, why, and for how long

Everything that the relay keeps or says, made from `restante_server/inventory.py` by
`python -m restante_server.inventory`. `tests/test_data.py` compares the inventory with relays that were used: what is
there and not declared fails the suite, and so does what is declared and not there, or is there after its time. *In an
export* says where a person finds it who exports what is theirs, as
[export.schema.json](../client_sdk/restante/export.schema.json) describes; a Redis key's line speaks for its fields, but
for those that relays need among themselves, such as positions and who serves a mailbox now."""
_TAIL: Final = """## What is not stored

**IP addresses** are known to the operating system while a connection is open; the relay does not read them. There
are no **cookies**, no accounts, no names and no telephone numbers.

## The client's file

It holds the account's keys, MLS states, messages that wait to be sent or to be read by the application, for two days
the ciphertexts that were sent, and for a month hashes by which repeats are known. Nothing that was handled.
"""


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 -- the command's result
