"""What a relay's operator publishes: signed by the relay's pinned key, the same for all. PROTOCOL.md section 6.12.

Nothing here is correspondence: it comes from the operator, not from a person, and it is not encrypted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from restante.engine import records
from restante.packed import read_json
from restante_crypto import primitives, proofs
from restante_crypto.directory import Kind
from restante_protocol import ids

__all__ = ["Official", "Policy", "Purpose", "Transparency"]

POLICY: Final = "policy"
DIRECTORY: Final = "directory"
ANNOUNCEMENTS: Final = "announcements"
OFFICIAL: Final = "official"
PUSH: Final = "push"
TRANSPARENCY: Final = "transparency"

_MAX_SECONDS: Final = 253_402_300_800  # the year 10,000, which ``datetime`` does not know
_MAX_NUMBER: Final = 2**53  # what JSON carries everywhere

_Number = Annotated[int, msgspec.Meta(ge=0, lt=_MAX_NUMBER)]


class _Keys(msgspec.Struct, frozen=True):
    handle: str
    number: str


@dataclass(frozen=True, slots=True)
class DirectoryKeys:
    """The public keys of a relay's directory, 32 bytes each."""

    handle: bytes
    number: bytes

    def of(self, kind: Kind) -> bytes:
        """Return the key for a kind."""
        return self.handle if kind is Kind.HANDLE else self.number


def read_directory(content: bytes) -> DirectoryKeys:
    """Return the directory's public keys. Raises ValueError."""
    keys = read_json(content, _Keys)
    return DirectoryKeys(bytes.fromhex(keys.handle), bytes.fromhex(keys.number))


class _Push(msgspec.Struct, frozen=True):
    vapid: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{87}$")]  # 65 bytes in base64url


def read_push(content: bytes) -> str:
    """Return the relay's key for push services, as they take it. Raises ValueError."""
    return read_json(content, _Push).vapid


class _Listed(msgspec.Struct, frozen=True):
    number: _Number
    version: str
    published: Annotated[int, msgspec.Meta(ge=0, lt=_MAX_SECONDS)]


class _Operator(msgspec.Struct, frozen=True):
    name: str
    contact: str


class _Said(msgspec.Struct, frozen=True):
    text: str


class _PurposeSaid(msgspec.Struct, frozen=True):
    title: str
    what: str
    refusing: str


class _Offered(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    version: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    languages: Annotated[dict[str, _PurposeSaid], msgspec.Meta(min_length=1)]


class _Policy(msgspec.Struct, frozen=True):
    operator: _Operator
    languages: dict[str, _Said]
    purposes: list[_Offered] = []


@dataclass(frozen=True, slots=True)
class Purpose:
    """Something optional that the relay offers: off until ``client.consent(name)``.

    Attributes:
        name: "handle", "number", "push", "diagnostics", "news", or one of a later version.
        version: names what it says (8 bytes); another one has to be granted anew.
        granted: it was granted as it is offered now.
    """

    name: str
    version: bytes
    granted: bool
    _said: Mapping[str, _PurposeSaid] = field(repr=False, compare=False)

    def _in(self, language: str) -> _PurposeSaid:
        return self._said.get(language) or next(iter(self._said.values()))

    def title(self, language: str = "en") -> str:
        """Return its title in this language, or else in its first."""
        return self._in(language).title

    def what(self, language: str = "en") -> str:
        """Return what happens once it is granted."""
        return self._in(language).what

    def refusing(self, language: str = "en") -> str:
        """Return what it means not to grant it."""
        return self._in(language).refusing


@dataclass(frozen=True, slots=True)
class Policy:
    """A relay's privacy policy.

    Attributes:
        number: from 1; the highest one counts.
        version: names its content.
        published: when, by the relay's clock.
        operator: who is responsible; may be empty.
        contact: how to reach them; may be empty.
        languages: which languages it is in, such as "en".
        purposes: what is optional, by name.
        data: all of it, as JSON data.
    """

    number: int
    version: str
    published: datetime
    operator: str
    contact: str
    languages: tuple[str, ...]
    purposes: Mapping[str, Purpose] = field(repr=False, compare=False)
    data: Mapping[str, Any] = field(repr=False, compare=False)
    _texts: Mapping[str, str] = field(repr=False)

    def text(self, language: str = "en") -> str:
        """Return it as plain text to show, in this language or else in its first."""
        return self._texts.get(language) or self._texts[self.languages[0]]


@dataclass(frozen=True, slots=True)
class Official:
    """Somebody of the operator's people, who is written to like anybody else: end-to-end encrypted.

    Attributes:
        name: what the operator calls them, such as "Support".
        invite: for ``client.start_conversation``.
    """

    name: str
    invite: str


def read_official(content: bytes) -> list[Official]:
    """Return whom one can write to. Raises ValueError."""
    return read_json(content, list[Official])


@dataclass(frozen=True, slots=True)
class Transparency:
    """How often a relay's operator has handed data of anybody to others.

    Attributes:
        count: how often.
        head: the hash of the newest entry of the log, hexadecimal: each names the one before.
        grounds: how often on each ground (PROTOCOL.md section 6.16).
    """

    count: _Number
    head: str
    grounds: dict[str, _Number]


def read_transparency(content: bytes) -> Transparency:
    """Return the counts. Raises ValueError."""
    return read_json(content, Transparency)


def slot_of(relay_key: bytes, name: str) -> bytes:
    """Return the slot of a publication."""
    return proofs.public_slot_id(relay_key, name)


def opened(relay_key: bytes, name: str, version: int, body: bytes) -> bytes:
    """Return the content of a publication as JSON. Raises ValueError unless the relay's key has signed it."""
    signature, content = body[: ids.SIGNATURE_BYTES], body[ids.SIGNATURE_BYTES :]
    signed = proofs.public_message(slot_of(relay_key, name), version, content)
    if not primitives.ed25519_verify(relay_key, signed, signature):
        raise ValueError("not signed by the relay")
    return content


def policy_name(number: int) -> str:
    """Return the name of the policy of this number."""
    return f"{POLICY} {number}"


def read_listed(content: bytes) -> list[_Listed]:
    """Return the versions of the policy, oldest first. Raises ValueError."""
    return read_json(content, list[_Listed])


class _Announced(msgspec.Struct, frozen=True):
    number: _Number
    at: Annotated[int, msgspec.Meta(ge=1, lt=_MAX_SECONDS * 1000)]
    kind: str
    texts: Annotated[dict[str, str], msgspec.Meta(min_length=1)]


def read_announcements(content: bytes) -> list[records.AnnouncedEvent]:
    """Return what is announced, oldest first. Raises ValueError."""
    listed = read_json(content, list[_Announced])
    return [records.AnnouncedEvent(each.number, each.at, each.kind, each.texts) for each in listed]


def read_policy(listed: _Listed, content: bytes) -> Policy:
    """Return a policy. Raises ValueError if it is none, or not the one that was listed."""
    if primitives.blake2b(content, size=8, person=b"restante policy").hex() != listed.version:
        raise ValueError("another policy than the one listed")
    said = read_json(content, _Policy)
    if not said.languages:
        raise ValueError("a policy in no language")
    return Policy(
        number=listed.number,
        version=listed.version,
        published=datetime.fromtimestamp(listed.published, UTC),
        operator=said.operator.name,
        contact=said.operator.contact,
        languages=tuple(said.languages),
        purposes={
            each.name: Purpose(each.name, bytes.fromhex(each.version), granted=False, _said=each.languages)
            for each in said.purposes
        },
        data=read_json(content, dict[str, Any]),
        _texts={language: each.text for language, each in said.languages.items()},
    )
