"""The relay's settings, checked, and its limits.

Each setting is a flag of ``restante serve`` and RESTANTE_* in the environment. What both sides of the wire agree on is
in ``restante_protocol.limits``.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from restante_protocol import limits

MAX_OFFICIAL_NAME_BYTES: Final = 64
_INVITE: Final = re.compile(r"restante:[A-Za-z0-9_-]{1,2048}")  # what is in it is for clients to check
DEFAULT_LISTEN: Final = "127.0.0.1:8787"
DEFAULT_STORE: Final = "sqlite:restante-data/relay.db"
DEFAULT_STATE: Final = "restante-data"  # with Redis: the relay's key, blobs, what the command line leaves
ADMISSION_MODES: Final = ("open", "invite", "closed")
_MAX_PORT: Final = 65535

_MIB: Final = 1024 * 1024
PROCESS_BUFFER_BYTES: Final = 256 * _MIB  # above it new connections are refused: what one small host can spare
PROCESS_REQUEST_BYTES: Final = 64 * _MIB  # requests waiting for the store; above it nobody's requests are read
CONNECTION_REQUEST_BYTES: Final = 2 * _MIB  # the same for one connection: a large frame in, a large answer out
PROCESS_LIST_ADDRESSES: Final = 1_000_000  # behind list handles of all connections: about 90 MiB
SLOT_CREATIONS: Final = 1000  # a burst of new slots; they are created without credential
SLOT_CREATIONS_PER_SECOND: Final = 10  # and how fast the burst comes back
CLAIM_BUDGETS: Final = 500_000  # addresses whose budget is not full: some 100 MiB
CLAIM_CONNECTIONS: Final = 1024  # that claims over HTTP keep: each may hold an answer in memory
CLAIM_PATIENCE: Final = 30.0  # seconds that one claim over HTTP may take, its answer read
BLOB_TRANSFERS: Final = 256  # up- and downloads at a time: each holds a piece in memory and a thread now and then
BLOB_PIECE_BYTES: Final = 128 * 1024  # of a blob, that is read or written at a time
BLOB_CREATIONS: Final = 500  # a burst of new blobs; they are created without credential
BLOB_CREATIONS_PER_SECOND: Final = 5
BLOB_CREATIONS_BYTES: Final = 1024 * _MIB  # the same in bytes
BLOB_CREATIONS_BYTES_PER_SECOND: Final = 4 * _MIB
BLOB_LEAST_CHARGE: Final = 64 * 1024  # bytes that a blob counts for at least: 65,536 of them fit the default limit
BLOB_HEADS: Final = 256  # that a sweep reads at a time
BLOB_SWEEP_INTERVAL: Final = 300.0  # seconds between looks through all blobs
PUSH_CONNECTIONS: Final = 32  # pushes on their way at a time: the slowest takes ten seconds
PUSH_WAITING: Final = 100_000  # mailboxes that wait for their push: some 30 MiB; more are woken by what comes later
PUSH_MOST_REST: Final = (
    3600  # seconds that a push service or a device is left alone at most, whatever a service asks for
)
DIAGNOSTICS_BURST: Final = 1000  # reports; nobody answers for them
DIAGNOSTICS_PER_SECOND: Final = 5  # of a million clients each sends one in a week
SPARE_FILES: Final = 64  # of the process's open files: kept for the store and the listeners
SHUTDOWN_GRACE: Final = 5.0  # seconds to finish what was received before the relay stops
SWEEP_INTERVAL: Final = 60.0  # seconds between removals of what has expired
HANDLE_EVALUATIONS: Final = 2000  # a burst of evaluations for handles, by all mailboxes together
HANDLE_EVALUATIONS_PER_SECOND: Final = 2  # and how fast it comes back: a dictionary of a million takes six days
NUMBER_TEXTS: Final = 100  # a burst of text messages: they cost money
NUMBER_TEXTS_PER_SECOND: Final = 0.1  # and how fast it comes back: 8,640 a day
CODE_LIFETIME: Final = 30 * 86_400  # seconds until an unused invite code is void
BACKUP_LIFETIME: Final = 365 * 86_400  # seconds; an older backup is not restored: what was erased since is unknown
TOMBSTONE_LIFETIME: Final = BACKUP_LIFETIME + 86_400  # outlives every backup that may hold what was erased
PUBLISH_INTERVAL: Final = 86_400.0  # seconds between refreshes of what the operator publishes
CODES_INTERVAL: Final = 1.0  # seconds between looks for what ``restante admit`` and ``announce`` have left


STRANDED_SECONDS: Final = 2.0  # out of reach of the store; then clients may do better at another node
BENCH_REST: Final = 30.0  # seconds between turns of ``restante bench``, which are others' own


class SettingError(ValueError):
    """A setting that cannot be."""


@dataclass(frozen=True, slots=True)
class BenchLimits:
    """What one turn of ``restante bench`` may do, in each process.

    Attributes:
        seconds: it may take; 0: there are no turns.
        mailboxes: it may make.
        deposits: it may make.
    """

    seconds: int = 0
    mailboxes: int = 20
    deposits: int = 10_000


@dataclass(frozen=True, slots=True)
class PushPace:
    """When devices are woken.

    Attributes:
        least_delay: seconds between an entry and its push, so that the two do not come together.
        most_delay: the same; how many of these is chance.
        rest: seconds until a mailbox's next push.
    """

    least_delay: float = 1.0
    most_delay: float = 5.0
    rest: int = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """What a relay is started with.

    Attributes:
        listen: host and port; port 0 picks a free one.
        store: the database file; with Redis a name in the folder of what is kept beside it.
        redis: URL of a Redis or Valkey store, instead of the database file; or empty.
        accept_loss: a power failure may lose what was accepted shortly before.
        reuse_port: other processes listen at the same address.
        admission: who may create mailboxes: "open", "invite" or "closed".
        max_store_bytes: of the database file; 0 for no limit.
        blobs: the folder for blobs, or s3://BUCKET/PREFIX; by default a folder beside the database.
        max_blobs_bytes: of all blobs; 0: none are taken.
        ops_listen: host and port for health and metrics, or None.
        operator_name: who is responsible, for the privacy policy.
        operator_contact: how to reach them.
        processors: who else receives data, for ``processors.parse``.
        bench: what ``restante bench`` may do.
        purposes: which optional ones are offered, for ``purposes.parse``.
        official: names and invites of the operator's own people, for ``parse_official``.
        oprf_key: file of the directory's secret; by default beside the store.
        new_oprf_key: begin an empty directory, if the store has one under another key.
        sms: "console" or the URL of a webhook: what sends text messages.
        sms_secret: file of the secret shared with the webhook.
        push_private: push services may be at private addresses, and without TLS.
        push_pace: when devices are woken.
        handshake_timeout: seconds until Hello has come and a receiver has proved its mailbox.
        ping_interval: seconds of silence after which a ping is sent.
        ping_timeout: seconds of silence after which the connection is closed.
        buffer_bytes: what connections may make the process hold before new ones are refused.
    """

    listen: tuple[str, int]
    store: Path
    redis: str = ""
    accept_loss: bool = False
    reuse_port: bool = False
    admission: str = "open"
    max_store_bytes: int = 0
    blobs: Path | str | None = None
    max_blobs_bytes: int = limits.BLOBS_BYTES
    ops_listen: tuple[str, int] | None = None
    operator_name: str = ""
    operator_contact: str = ""
    processors: tuple[str, ...] = ()
    bench: BenchLimits = BenchLimits()
    purposes: tuple[str, ...] = ()
    official: tuple[str, ...] = ()
    oprf_key: Path | None = None
    new_oprf_key: bool = False
    sms: str = ""
    sms_secret: Path | None = None
    push_private: bool = False
    push_pace: PushPace = PushPace()
    handshake_timeout: float = limits.HANDSHAKE_TIMEOUT
    ping_interval: float = limits.PING_INTERVAL
    ping_timeout: float = limits.PING_TIMEOUT
    buffer_bytes: int = PROCESS_BUFFER_BYTES


def parse_blobs(value: str) -> Path | str | None:
    """Return the folder, or s3://BUCKET/PREFIX as it is; None for nothing. Raises SettingError."""
    scheme, separator, rest = value.partition("://")
    if separator and (scheme != "s3" or not rest):
        raise SettingError("blobs are in a FOLDER or in s3://BUCKET/PREFIX")
    return value if separator else Path(value) if value else None


def parse_official(value: str) -> dict[str, str]:
    """Return the name and the invite of NAME=restante:.... Raises SettingError."""
    name, _, invite = value.partition("=")
    if not 0 < len(name.encode()) <= MAX_OFFICIAL_NAME_BYTES or not _INVITE.fullmatch(invite):
        raise SettingError("an official invite is NAME=restante:...")
    return {"name": name, "invite": invite}


def parse_several(value: str) -> tuple[str, ...]:
    """Return what one variable of the environment says: a JSON array of texts, or one text as it is, or nothing.

    Raises:
        SettingError: it begins like an array and is none of texts.
    """
    if not value.strip():
        return ()
    if not value.lstrip().startswith("["):
        return (value,)
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise SettingError('several values in one variable are a JSON array: ["ONE", "OTHER"]')
    return tuple(found)


def parse_listen(value: str) -> tuple[str, int]:
    """Return (host, port) of HOST:PORT or [HOST]:PORT. Raises SettingError."""
    host, separator, port = value.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise SettingError("an address is HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 -- an empty host is asked for


def parse_store(value: str) -> Path:
    """Return the file of sqlite:PATH. Raises SettingError."""
    scheme, separator, path = value.partition(":")
    if scheme != "sqlite" or not separator or not path:
        raise SettingError("a store is sqlite:PATH")
    return Path(path)
