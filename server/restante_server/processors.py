"""Who else receives data: declared processors, and the gateway that everything goes through on its way to one.

The policy names every declared processor. Code that hands anything to others asks the gateway first: it refuses a
processor that the operator has not declared, and fields that are not declared for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from restante_server.categories import Text
from restante_server.config import SettingError


class Role(StrEnum):
    """What a processor does for the operator."""

    HOSTING = "hosting"  # owns or runs the machine, or the Redis servers
    OBJECT_STORAGE = "object-storage"  # keeps blobs: S3


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
}


@dataclass(frozen=True, slots=True)
class Processor:
    """Somebody who receives data for the operator.

    Attributes:
        role: what they do.
        name: who they are.
        country: where.
        agreement: what binds them, such as a contract's title and date.
    """

    role: Role
    name: str
    country: str
    agreement: str


class Undeclared(Exception):  # noqa: N818 -- says what is the case
    """Data would go to somebody, or be data, that the policy does not name."""


def parse(text: str) -> Processor:
    """Return the processor in "ROLE=NAME;COUNTRY;AGREEMENT". Raises SettingError."""
    role, _, rest = text.partition("=")
    parts = [part.strip() for part in rest.split(";")]
    if role not in set(Role) or len(parts) != 3 or not all(parts):  # noqa: PLR2004 -- name, country, agreement
        raise SettingError("a processor is ROLE=NAME;COUNTRY;AGREEMENT, and a role " + " or ".join(Role))
    return Processor(Role(role), *parts)


class Gateway:
    """The one door out."""

    def __init__(self, declared: Sequence[Processor]) -> None:
        """Let data go to these alone."""
        self._declared = {processor.role: processor for processor in declared}

    def pass_out(self, role: Role, fields: Iterable[str]) -> Processor:
        """Return who receives these fields (names in the inventory) in this role. Raises Undeclared."""
        processor = self._declared.get(role)
        if processor is None:
            raise Undeclared(f"declare who does it: --processor '{role}=NAME;COUNTRY;AGREEMENT'")
        if beyond := sorted(set(fields) - ROLES[role].fields):
            raise Undeclared(f"{role} is not declared to receive {', '.join(beyond)}")
        return processor
