"""What the operator publishes, in slots that the relay's own key writes: the same for all. PROTOCOL.md section 6.12.

A published body is the relay key's signature over slot, version and content, then the content: UTF-8 JSON. Clients
fetch it like any slot, without a credential, so reading it tells the relay nothing about who reads.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from restante_crypto import primitives, proofs
from restante_protocol import ids, limits
from restante_server import policy
from restante_server.clock import Clock
from restante_server.identity import Identity
from restante_server.stores.contract import Store

POLICY: Final = "policy"  # the list of all versions of the policy
ANNOUNCEMENTS: Final = "announcements"
OFFICIAL: Final = "official"  # invites of the operator's own people
LIFETIME: Final = (
    limits.MAX_SLOT_LIFETIME
)  # after the last refresh: what a relay that is given up leaves goes by itself
MAX_CONTENT_BYTES: Final = limits.MAX_SLOT_BYTES - ids.SIGNATURE_BYTES


def policy_name(number: int) -> str:
    """Return the name of the slot that holds the policy of this number, from 1."""
    return f"{POLICY} {number}"


class Bulletin:
    """The published slots of one relay. Several relays of one key may share a store."""

    def __init__(self, store: Store, identity: Identity, clock: Clock) -> None:
        """Take an open store."""
        self._store = store
        self._identity = identity
        self._clock = clock

    @property
    def relay_key(self) -> bytes:
        """The key that signs."""
        return self._identity.public

    async def signed(self, name: str) -> tuple[int, bytes, Any]:
        """Return a publication's version, signature and content; 0, nothing and None if there is none.

        The content of one that is not by this relay is None, too.
        """
        slot = proofs.public_slot_id(self._identity.public, name)
        stored = await self._store.get_slot(slot)
        if stored is None:
            return 0, b"", None
        signature, content = stored.body[: ids.SIGNATURE_BYTES], stored.body[ids.SIGNATURE_BYTES :]
        signed = proofs.public_message(slot, stored.version, content)
        if not primitives.ed25519_verify(self._identity.public, signed, signature):
            return stored.version, signature, None  # of another store, put in this one's place
        return stored.version, signature, json.loads(content)

    async def read(self, name: str) -> tuple[int, Any]:
        """Return a publication's version and content: see ``signed``."""
        version, _, content = await self.signed(name)
        return version, content

    async def write(self, name: str, version: int, content: object) -> bool:
        """Publish over the version before, or again; False if another relay was faster.

        Raises:
            ValueError: the content is above MAX_CONTENT_BYTES.
        """
        data = policy.encode(content)
        if len(data) > MAX_CONTENT_BYTES:
            raise ValueError("too much to publish")
        slot = proofs.public_slot_id(self._identity.public, name)
        body = self._identity.publish(slot, version, data) + data
        return await self._store.put_slot(slot, version, LIFETIME, body)

    async def publish_official(self, invites: list[dict[str, str]]) -> None:
        """Publish who of the operator's people can be written to; if nobody ever could, nothing."""
        while True:
            version, before = await self.read(OFFICIAL)
            if (not version and not invites) or await self.write(OFFICIAL, version + (before != invites), invites):
                return

    async def publish_policy(self, content: dict[str, Any]) -> int:
        """Publish a policy unless it is the newest; keep all published before alive; return its number."""
        name = policy.version(content)
        while True:
            version, listed = await self.read(POLICY)
            entries: list[dict[str, Any]] = listed or []
            fresh = not entries or entries[-1]["version"] != name
            if fresh:
                number = len(entries) + 1
                await self._publish_text(number, content)
                entries.append({"number": number, "version": name, "published": self._clock() // 1000})
            if await self.write(POLICY, version + fresh, entries):
                await self._refresh(len(entries))
                return len(entries)

    async def announce(self, kind: str, texts: Mapping[str, str], *, number: int = 0, letter: str = "") -> None:
        """Announce a text, by language tag, to everybody; the oldest announcements make room.

        With a policy's number, or with the name of the letter it came in, it is announced once.
        """
        while True:
            version, listed = await self.read(ANNOUNCEMENTS)
            entries: list[dict[str, Any]] = listed or []
            if number and any(entry["policy"] >= number for entry in entries):
                return
            if letter and any(entry["letter"] == letter for entry in entries):
                return
            last = entries[-1] if entries else {"number": 0, "at": 0}
            entry = {"number": last["number"] + 1, "at": max(self._clock(), last["at"] + 1), "policy": number}
            entries.append({**entry, "letter": letter, "kind": kind, "texts": dict(texts)})
            while len(policy.encode(entries)) > MAX_CONTENT_BYTES:
                del entries[0]
            if await self.write(ANNOUNCEMENTS, version + 1, entries):
                return

    async def refresh_announcements(self) -> None:
        """Keep them alive."""
        version, listed = await self.read(ANNOUNCEMENTS)
        if listed is not None:
            await self.write(ANNOUNCEMENTS, version, listed)

    async def _publish_text(self, number: int, content: dict[str, Any]) -> None:
        version, stored = await self.read(policy_name(number))
        if stored != content:  # left by a relay that ended between the two writes, or by nobody
            await self.write(policy_name(number), version + 1, content)

    async def _refresh(self, count: int) -> None:
        for number in range(1, count + 1):
            version, content = await self.read(policy_name(number))
            if content is not None:
                await self.write(policy_name(number), version, content)
