"""Who else receives data: declared processors, and the gateway that everything goes through on its way to one.

The policy names every declared processor. What goes out is a value of one of the types here, whose fields are names in
the inventory. ``Gateway.pass_out`` refuses a processor that the operator has not declared, and fields that are not
declared for it; what opens connections to others takes nothing but the ``Passed`` that it returns. So there is no
other way out: the types say it, and ``tests/server/test_processors.py`` looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import IO, ClassVar, Final, Generic, TypeVar

from restante_server.categories import Text
from restante_server.config import SettingError
from restante_server.endpoints import Endpoint, Host


class Role(StrEnum):
    """What a processor does for the operator."""

    HOSTING = "hosting"  # owns or runs the machine, or the Redis servers
    OBJECT_STORAGE = "object-storage"  # keeps blobs: S3
    SMS = "sms"  # sends text messages that check a mobile number
    PUSH = "push"  # rings a device whose app is not running


class Outgoing:
    """What goes out at a time. A subclass is a frozen dataclass; a field ``x`` is ``thing.x`` in the inventory.

    Attributes:
        role: whose processor it goes to.
        thing: see above.
    """

    __slots__ = ()
    role: ClassVar[Role]
    thing: ClassVar[str]

    def goes_to(self, _processor: "Processor") -> bool:
        """Say whether it is for this one of those who have its role."""
        return True


@dataclass(frozen=True, slots=True, repr=False)
class BlobName(Outgoing):
    """Which blob is asked about, fetched or deleted."""

    role: ClassVar[Role] = Role.OBJECT_STORAGE
    thing: ClassVar[str] = "blob"
    id: bytes


@dataclass(frozen=True, slots=True, repr=False)
class StoredBlob(Outgoing):
    """A blob to be kept; ``body`` is the file whose content is its object (``stores.blobs``)."""

    role: ClassVar[Role] = Role.OBJECT_STORAGE
    thing: ClassVar[str] = "blob"
    id: bytes
    expires: int
    digest: bytes
    body: IO[bytes]


@dataclass(frozen=True, slots=True, repr=False)
class TextMessage(Outgoing):
    """A text message: a number as E.164 writes it, and what it is told."""

    role: ClassVar[Role] = Role.SMS
    thing: ClassVar[str] = "sms"
    number: str
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class WakeUp(Outgoing):
    """A push without content: all that a push service learns is which endpoint, and when. PROTOCOL.md section 6.18.

    Attributes:
        endpoint: its URL.
        authorization: which relay asks (RFC 8292); the same for all endpoints of one service for hours.
        ttl: seconds that the service keeps it for a device that it does not reach.
        topic: what a later one replaces an earlier one by: the same for all.
        urgency: RFC 8030 section 5.3; the same for all.
    """

    role: ClassVar[Role] = Role.PUSH
    thing: ClassVar[str] = "push"
    endpoint: str
    authorization: str
    ttl: str = "604800"  # a week: whoever looks less often finds out when they look
    topic: str = "waiting"
    urgency: str = "normal"

    def goes_to(self, processor: "Processor") -> bool:
        """Say whether it is for this push service: by its host."""
        return processor.has(Endpoint.parse(self.endpoint))


_MORE: Final = {**dict.fromkeys(Role, ""), Role.PUSH: ";HOST HOST..."}  # at the end of a declaration
V = TypeVar("V", bound=Outgoing)


@dataclass(frozen=True, slots=True)
class About:
    """What a role receives and what for; ``fields`` are names in the inventory, empty if it is all that is stored."""

    purpose: Text
    data: Text
    fields: frozenset[str]


ROLES: Final = {
    Role.HOSTING: About(
        Text("runs the machine that the relay is on", "运行中继所在的机器"),
        Text("all that is listed above, as it is on the disk", "上述所有数据，与磁盘上的形式相同"),
        frozenset(),
    ),
    Role.OBJECT_STORAGE: About(
        Text("keeps encrypted attachments", "保存加密附件"),
        Text(
            "of each attachment its random id, its expiry, its hash and its ciphertext",
            "每个附件的随机标识、到期时间、哈希值和密文",
        ),
        frozenset({"blob.id", "blob.expires", "blob.digest", "blob.body"}),
    ),
    Role.SMS: About(
        Text("sends the text message that checks your mobile number", "发送用于验证您手机号码的短信"),
        Text("the number and the text with the code", "号码和含验证码的短信内容"),
        frozenset({"sms.number", "sms.text"}),
    ),
    Role.PUSH: About(
        Text("wakes your app when something waits", "有内容等待时唤醒您的应用"),
        Text(
            "the address that your device has there, when something waits, and which relay says so; neither content "
            "nor sender nor conversation",
            "您的设备在该处的地址、何时有内容等待以及由哪个中继通知；不含内容、发送者或会话",
        ),
        frozenset({"push.endpoint", "push.authorization", "push.ttl", "push.topic", "push.urgency"}),
    ),
}


@dataclass(frozen=True, slots=True)
class Processor:
    """Somebody who receives data for the operator.

    Attributes:
        role: what they do.
        name: who they are.
        country: where.
        agreement: what binds them, such as a contract's title and date.
        hosts: of a push service: where it is.
    """

    role: Role
    name: str
    country: str
    agreement: str
    hosts: tuple[Host, ...] = ()

    def has(self, endpoint: Endpoint) -> bool:
        """Say whether an endpoint is at this push service."""
        return any(host.has(endpoint) for host in self.hosts)


class Undeclared(Exception):  # noqa: N818 -- says what is the case
    """Data would go to somebody, or be data, that the policy does not name."""


def parse(text: str) -> Processor:
    """Return the processor in "ROLE=NAME;COUNTRY;AGREEMENT"; of push also ";HOST HOST...". Raises SettingError."""
    role, _, rest = text.partition("=")
    parts = [part.strip() for part in rest.split(";")]
    if role not in set(Role) or len(parts) != 3 + (role == Role.PUSH) or not all(parts):
        raise SettingError(
            "a processor is ROLE=NAME;COUNTRY;AGREEMENT, of push with ;HOST HOST... at the end, and a role "
            + " or ".join(Role)
        )
    try:
        hosts = tuple(Host.parse(host) for more in parts[3:] for host in more.split())
    except ValueError:
        raise SettingError("a host of a push service is NAME, NAME:PORT or *.NAME, in lower case") from None
    name, country, agreement = parts[:3]
    return Processor(Role(role), name, country, agreement, hosts)


def names_of(kind: type[Outgoing]) -> frozenset[str]:
    """Return the inventory's names of what a type hands out."""
    return frozenset(f"{kind.thing}.{each.name}" for each in fields(kind))  # type: ignore[arg-type]  # a dataclass


@dataclass(frozen=True, slots=True, repr=False)
class Passed(Generic[V]):
    """Values that may go out, and to whom. Made by ``Gateway.pass_out`` alone."""

    processor: Processor
    values: V


class Gateway:
    """The one door out."""

    def __init__(self, declared: Sequence[Processor]) -> None:
        """Let data go to these alone."""
        self._declared = tuple(declared)

    def processors(self, role: Role) -> Sequence[Processor]:
        """Return those who have this role. Raises Undeclared: nobody has."""
        found = [processor for processor in self._declared if processor.role is role]
        if not found:
            raise Undeclared(f"declare who does it: --processor '{role}=NAME;COUNTRY;AGREEMENT{_MORE[role]}'")
        return found

    def pass_out(self, values: V) -> Passed[V]:
        """Let values out. Raises Undeclared: nobody is declared for them, or not for all of their fields."""
        role = values.role
        found = [each for each in self.processors(role) if values.goes_to(each)]
        if not found:
            raise Undeclared(f"no {role} that is declared is where this would go")
        if beyond := sorted(names_of(type(values)) - ROLES[role].fields):
            raise Undeclared(f"{role} is not declared to receive {', '.join(beyond)}")
        return Passed(found[0], values)
