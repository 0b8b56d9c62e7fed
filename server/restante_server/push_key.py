"""The keys of push, derived from the relay's own: nothing more to keep, and all relays of one key have them.

One names the relay to push services (RFC 8292). Another seals endpoints and gives their slots ids that say nothing, so
a store without the relay's key does not say who is woken, where, or at which service.
"""

import os
from collections.abc import Callable
from typing import Final, Self

from restante_crypto import padding, primitives, vapid
from restante_protocol import ids, limits
from restante_server.identity import Identity

_NONCE: Final = primitives.XCHACHA_NONCE_BYTES
_PERSON: Final = b"restante push"
_PLAIN_BYTES: Final = padding.padded_length(limits.MAX_ENDPOINT_BYTES + 1)  # of every endpoint, however short it is


class PushKey:
    """The keys.

    Attributes:
        public: the VAPID key, as text.
    """

    __slots__ = ("_seed", "_vapid", "public")

    def __init__(self, seed: bytes) -> None:
        """Derive them from 32 bytes."""
        self._seed = seed
        self._vapid = primitives.P256Key(
            primitives.blake2b(b"vapid", size=primitives.P256_UNIFORM_BYTES, person=_PERSON, key=seed)
        )
        self.public = vapid.base64url(self._vapid.public)

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """Return the keys of a relay."""
        return cls(identity.derived("push"))

    def slot(self, what: str, mailbox: bytes) -> bytes:
        """Return the id of a slot of the relay, in the mailbox's bucket."""
        key = self._key(f"slot {what}")
        return mailbox[:1] + primitives.blake2b(mailbox, size=ids.ID_BYTES - 1, person=_PERSON, key=key)

    def seal(self, slot: bytes, endpoint: str, random: Callable[[int], bytes] = os.urandom) -> bytes:
        """Return what a slot has as body: always of one length."""
        nonce = random(_NONCE)
        plain = padding.pad(endpoint.encode("ascii"), _PLAIN_BYTES)
        return nonce + primitives.xchacha_seal(self._key("seal"), nonce, plain, slot)

    def open_sealed(self, slot: bytes, body: bytes) -> str:
        """Return the endpoint that was sealed into this slot. Raises ``primitives.AuthenticationError``."""
        plain = primitives.xchacha_open(self._key("seal"), body[:_NONCE], body[_NONCE:], slot)
        return padding.unpad(plain).decode("ascii")

    def authorization(self, audience: str, expires: int, subject: str) -> str:
        """Return the header field that names the relay: see ``vapid.authorization``."""
        return vapid.authorization(self._vapid, audience, expires, subject)

    def _key(self, what: str) -> bytes:
        return primitives.blake2b(what.encode(), size=32, person=_PERSON, key=self._seed)
