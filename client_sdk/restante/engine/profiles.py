"""Profiles: what a person tells their contacts of themselves, in one encrypted slot of theirs.

The slot's id and key go as a content into every conversation whose other members are all contacts; nobody else can find
or open it, and the relay sees padded bytes. The body is signed by the account, so that who has the key cannot write in
another's name with the relay's help. A changed profile is another version of the slot, and is told again.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from restante import content
from restante.account import account_key
from restante.engine import records
from restante.engine.conversations import Conversation, Conversations, leaf_account
from restante.engine.mailroom import PutSlot
from restante.engine.outbox import Outbox
from restante.engine.state import State
from restante.packed import Packed, check
from restante.slots import RENEWAL, SlotKeys
from restante_crypto import padding, primitives, sealing
from restante_protocol import frames, ids, limits

MAX_NICKNAME_BYTES: Final = 256
MAX_AVATAR_BYTES: Final = 48 * 1024  # with padding, seal and signature below MAX_SLOT_BYTES
_LEAST_BYTES: Final = 4096  # so that a nickname alone looks like any other
_KEY_BYTES: Final = 32
_LABEL: Final = b"restante 1 profile\x00"
_OWN: Final = b"profile"
_SHARED: Final = b"shared"  # then a conversation's id: what was told there last
_OF: Final = b"profile"  # then an account, in the contacts' table


@dataclass(frozen=True, slots=True)
class Profile:
    """What an account says of itself.

    Attributes:
        account: whose it is.
        nickname: at most 256 bytes of UTF-8; may be empty. Anybody may call themselves anything.
        avatar: at most 48 KiB, as it was given; may be empty.
    """

    account: str
    nickname: str = field(repr=False)
    avatar: bytes = field(repr=False)


class ProfileLink(Packed, frozen=True, kw_only=True):
    """What is told to contacts: where the profile is and what opens it. ``number`` counts its changes."""

    version: int = 1
    slot: bytes
    key: bytes = field(repr=False)
    number: int

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(ids.is_id(self.slot) and len(self.key) == _KEY_BYTES and self.number >= 1, "profile link")


class ProfileBody(Packed, frozen=True, kw_only=True):
    """What is in the slot, under its seal."""

    version: int = 1
    number: int
    nickname: str
    avatar: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Check lengths. Raises ValueError."""
        check(self.number >= 1, "number")
        check(len(self.nickname.encode()) <= MAX_NICKNAME_BYTES, "nickname above 256 bytes")
        check(len(self.avatar) <= MAX_AVATAR_BYTES, "avatar above 48 KiB")


def _signed(slot: bytes, number: int, nickname: str, avatar: bytes) -> bytes:
    name = nickname.encode()
    return b"".join((_LABEL, slot, number.to_bytes(8, "big"), len(name).to_bytes(2, "big"), name, avatar))


def _keys(own: records.OwnProfile) -> SlotKeys:
    return SlotKeys(own.write_seed, own.nonce, own.bucket)


class Profiles:
    """This account's profile, and where those of its contacts are.

    ``set`` and ``forget`` are transactions; every other change runs inside one of the engine's.
    """

    def __init__(self, state: State, conversations: Conversations, outbox: Outbox) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._tables = state.tables
        self._conversations = conversations
        self._outbox = outbox

    # One's own.

    def own(self) -> records.OwnProfile | None:
        """Return it as the file has it."""
        stored = self._tables.account.get(_OWN)
        return records.OwnProfile.unpack(stored) if stored else None

    def mine(self) -> Profile | None:
        """Return it as contacts see it."""
        own = self.own()
        return Profile(self._state.my_id, own.nickname, own.avatar) if own is not None else None

    def set(self, nickname: str, avatar: bytes) -> None:
        """Change it. Raises ValueError if something is too long."""
        ProfileBody(number=1, nickname=nickname, avatar=avatar, signature=b"")
        state, own = self._state, self.own()
        if own is None:
            keys = SlotKeys.make(state.random)
            own = records.OwnProfile(keys.write_seed, keys.nonce, keys.bucket, key=state.random(_KEY_BYTES))
        with state.transaction():
            self._put(
                msgspec.structs.replace(own, nickname=nickname, avatar=avatar, number=own.number + 1, stored=False)
            )

    def forget(self) -> None:
        """It is deleted at the relay."""
        with self._state.transaction():
            self._tables.account.delete(_OWN)

    def _put(self, own: records.OwnProfile) -> None:
        self._tables.account.put(_OWN, own.pack())

    # Its slot.

    def slots(self) -> list[bytes]:
        """Return its slot, if there is one."""
        own = self.own()
        return [_keys(own).slot] if own is not None else []

    def chores(self) -> list[PutSlot]:
        """List the slot if it is to be written."""
        own = self.own()
        if own is None or (own.stored and own.expires - self._state.now() > RENEWAL):
            return []
        return [PutSlot(_keys(own).slot)]

    def done(self) -> None:
        """The slot is written."""
        own = self.own()
        if own is not None:
            self._put(msgspec.structs.replace(own, stored=True, expires=self._state.now() + limits.MAX_SLOT_LIFETIME))

    def register_again(self) -> None:
        """The relay may not have the slot."""
        own = self.own()
        if own is not None:
            self._put(msgspec.structs.replace(own, stored=False))

    def slot_frame(self, stored_version: int) -> frames.SlotPut:
        """Return the request, numbered 0, that writes the slot over this version of it (0: none)."""
        own, state = self.own(), self._state
        if own is None:
            raise ValueError("no profile")
        keys = _keys(own)
        slot = keys.slot
        signature = state.identity.sign(_signed(slot, own.number, own.nickname, own.avatar))
        plain = ProfileBody(number=own.number, nickname=own.nickname, avatar=own.avatar, signature=signature).encode()
        body = sealing.seal(own.key, padding.pad(plain, _LEAST_BYTES), slot, state.random)
        return keys.put(state.account.relay_key, stored_version + 1, limits.MAX_SLOT_LIFETIME, body)

    def slot_deletion(self) -> frames.SlotDelete | None:
        """Return the request, numbered 0, that deletes the slot; None if there is none."""
        own = self.own()
        return _keys(own).delete(self._state.account.relay_key) if own is not None else None

    # Telling contacts, and being told.

    def share(self) -> None:
        """Tell it where it was not told since it changed: in conversations whose other members are all contacts."""
        own = self.own()
        if own is None or not own.stored:
            return
        link = ProfileLink(slot=_keys(own).slot, key=own.key, number=own.number).encode()
        for conversation in self._conversations.all():
            mark = _SHARED + conversation.id
            if self._tables.account.get(mark) != link and self._among_contacts(conversation):
                self._outbox.submit(conversation, content.BYTES, link, None, disposition=content.PROFILE)
                self._tables.account.put(mark, link)

    def _among_contacts(self, conversation: Conversation) -> bool:
        if not (conversation.state.accepted and conversation.state.active and conversation.usable):
            return False
        others = {leaf_account(member.leaf) for member in conversation.current.members} - {self._state.me}
        return bool(others) and all(self._state.is_contact(other) for other in others)

    def received(self, conversation: Conversation, account: bytes, body: bytes, *, hold: bytes) -> None:
        """A member tells where their profile is."""
        try:
            link = ProfileLink.decode(body)
        except ValueError:
            return  # of a later version
        self._tables.contacts.put(_OF + account, link.encode())
        self._state.events.emit(records.ProfileEvent(conversation.id, account), hold=hold)

    def link(self, account: str) -> ProfileLink | None:
        """Return where a contact's profile is; None of who is no contact, or has told none.

        Raises:
            ValueError: this is no account id.
        """
        key = account_key(account)
        stored = self._tables.contacts.get(_OF + key)
        return ProfileLink.decode(stored) if stored and self._state.is_contact(key) else None

    def read(self, account: str, link: ProfileLink, body: bytes) -> Profile | None:
        """Open a contact's profile; None if it is not theirs, or older than what they told."""
        try:
            plain = padding.unpad(sealing.open_sealed(link.key, body, link.slot))
            told = ProfileBody.decode(plain)
        except (sealing.SealError, padding.PaddingError, ValueError):
            return None
        signed = _signed(link.slot, told.number, told.nickname, told.avatar)
        if told.number < link.number or not primitives.ed25519_verify(account_key(account), signed, told.signature):
            return None
        return Profile(account, told.nickname, told.avatar)
