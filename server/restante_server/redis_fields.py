"""What is in each key of a store on Redis, field by field, for the inventory: the formats are in ``redis_lua``.

A key is a hash of records, which have their fields one after another; ``state`` and ``store`` are hashes of fields.
"""

from collections.abc import Mapping
from typing import Final

_EXPIRES: Final = "when it is dropped"
_QUEUE: Final = "running number of its mailbox"
_SUITE: Final = "number of the cipher suite"

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "mailbox": {
        "id": "the mailbox's id, random to everybody else",
        "number": "running number that other keys name",
        "incarnation": "random mark of one unbroken history",
        "epoch": "mark of the store's history that it was written under",
        "addresses": "how many addresses it has",
        "receive_key": "its owner's public key, made for this mailbox alone",
        "suites": "of which cipher suites it has pools",
    },
    "queue": {
        "number": "running number of the mailbox",
        "mailbox": "its id",
        "node": "which relay serves it now: a random mark of its process",
        "owner_token": "random mark of the subscription",
        "last": "last sequence given",
        "acknowledged": "highest sequence acknowledged",
        "head": "position of the oldest entry",
        "tail": "position of the next",
        "entries": "how many wait",
        "size": "bytes that wait",
        "large": "of these in large messages",
        "invites": "how many entries came through addresses that strangers may know",
        "counted": "whether entries are counted by address",
    },
    "address": {
        "id": "the address's id, unguessable",
        "number": "running number that entries name",
        "queue": _QUEUE,
        "cap": "how many entries may wait that came through it",
        "kind": "whether strangers may know it",
    },
    "waiting": {"address": "running number of an address", "count": "how many entries wait that came through it"},
    "entry": {
        "queue": _QUEUE,
        "position": "its place there",
        "sequence": "of the first message",
        "payload": "running number of the first message",
        "size": "bytes that wait",
        "flags": "large or not, through an invite or not, whether members are scattered",
        "address": "running number of the address",
        "members": "which of the messages that came together still wait",
    },
    "payload": {
        "number": "running number",
        "expires": _EXPIRES,
        "message_id": "random, made by the depositor",
        "fence": "the tag that it won, if any",
        "body": "the ciphertext, once for all its recipients in a bucket",
        "entries": "which entries wait for it and those that came with it",
    },
    "reference": {
        "payload": "running number of the first message",
        "mailboxes": "how many mailboxes wait for what came together",
        "sizes": "bytes of each message",
    },
    "expiry": {"kind": "message, fence, slot or code", "what": "its number, tag, id or hash", "expires": _EXPIRES},
    "fence": {
        "tag": "random to everybody but the group",
        "message_id": "the winner's",
        "digest": "hash of the winner's ciphertext",
        "deposit": "hash of the winner's deposit",
        "known_until": "until when its retry is told from another deposit",
        "body": "the winner's ciphertext",
    },
    "pending": {
        "fence": "the tag",
        "message_id": "random, made by the depositor",
        "addresses": "where it still has to go",
        "body": "the ciphertext",
        "lifetime": "seconds",
        "large": "which quota it draws on",
        "digest": "hash of the deposit",
    },
    "lease": {"fence": "the tag", "until": "when another relay goes on"},
    "seen": {"digest": "hash of a deposit", "expires": _EXPIRES, "failed": "its outcome"},
    "forget": {"digest": "hash of a deposit", "expires": _EXPIRES},
    "pool": {
        "queue": _QUEUE,
        "suite": _SUITE,
        "epoch": "mark of the store's history that it was written under",
        "uploaded": "highest number accepted",
        "issued": "highest number given out, of a pool that was cleared",
        "cleared": "whether it was",
        "last_resort": "whether there is a KeyPackage for when it is empty",
        "gaps": "which numbers do not follow the one before",
    },
    "last-resort": {"queue": _QUEUE, "suite": _SUITE, "package": "a sealed KeyPackage for when the pool is empty"},
    "prekey:*": {
        "queue": _QUEUE,
        "suite": _SUITE,
        "low": "whether its pool runs low with it",
        "number": "its number",
        "package": "a sealed KeyPackage",
    },
    "slot": {
        "id": "the slot's id, unguessable",
        "version": "how often it was written",
        "expires": _EXPIRES,
        "body": "the ciphertext",
    },
    "code": {
        "hash": "hash of an invite code",
        "expires": "when it is void",
        "mailbox": "the mailbox that it is being used for, for an instant; zeros: it is used up",
    },
    "state": {
        "epoch": "mark of the bucket's history",
        "counters": "its version, the next running numbers, how many mailboxes, entries and bytes it has",
        "run": "which run of the server wrote it",
        "replication": "which history of the server's replication",
        "revocations": "how often addresses were revoked",
        "garbage": "how far addresses of deleted mailboxes were looked for",
        "spent*": "by number of a mailbox: addresses that much was claimed through, until the owner is told",
    },
    "store": {"version": "of the layout", "buckets": "how many there are", "key": "the relay's own key"},
}
