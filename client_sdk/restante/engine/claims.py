"""What somebody's invite leads to: their manifest, and KeyPackages of their devices, each checked to be theirs.

The relay hands all of it out, and can give none of another account, nor an older manifest than this file has seen.
"""

from collections.abc import Sequence
from typing import Final

from restante.account import authenticate
from restante.engine.conversations import Conversations, leaf_account, leaf_data
from restante.engine.state import State
from restante.errors import InviteError
from restante.invites import Invite, Manifest, ManifestDevice, open_manifest, open_prekey
from restante_crypto.mls import CredentialError, KeyPackage, MLSError, validate_key_package

_MANIFEST: Final = b"manifest"  # then its slot, in the contacts' table: the version that was seen last


class Claims:
    """What is claimed by invites. A manifest that is read is a transaction."""

    def __init__(self, state: State, conversations: Conversations) -> None:
        """Nothing is read until it is asked for."""
        self._state = state
        self._table = state.tables.contacts
        self._conversations = conversations

    def read_invite(self, text: str) -> Invite:
        """Parse an invite. Raises InviteError."""
        invite = Invite.parse(text)
        if invite.relay_key != self._state.account.relay_key:
            raise InviteError("the invite leads to another relay; conversations across relays are not supported yet")
        if invite.account == self._state.me:
            raise InviteError("this invite is this account's own")
        return invite

    def read_manifest(self, invite: Invite, body: bytes) -> Manifest:
        """Open an invite's manifest. Raises InviteError."""
        stored = self._table.get(_MANIFEST + invite.slot)
        seen = int.from_bytes(stored, "big") if stored else 0
        manifest = open_manifest(body, invite, now=self._state.now(), seen_version=seen)
        with self._state.transaction():
            self._table.put(_MANIFEST + invite.slot, manifest.version.to_bytes(8, "big"))
        return manifest

    def choose_suite(self, manifests: Sequence[Manifest], conversation_id: str | None = None) -> int:
        """Return the suite to claim KeyPackages of: the conversation's, or the best that all devices offer.

        What the manifests say is signed, so nobody between can make it a worse one; and what the relay has or has not
        at hand does not count: an empty pool is no reason to take another.

        Raises:
            InviteError: there is none.
        """
        mine = self._state.suites
        if conversation_id is not None:
            mine = (self._conversations.member(conversation_id).current.suite,)
        offers = [{suite for suite, _ in device.pools} for manifest in manifests for device in manifest.devices]
        for suite in mine:
            if all(suite in offered for offered in offers):
                return suite
        if conversation_id is not None:
            raise InviteError("the account does not offer the cipher suite of this conversation")
        raise InviteError("the accounts offer no cipher suite that all of them and this version have")

    def read_prekey(self, invite: Invite, device: ManifestDevice, suite: int, package: bytes) -> KeyPackage:
        """Open and check a claimed package: the invited account's, this device's. Raises InviteError."""
        try:
            key_package = KeyPackage.parse(open_prekey(device.prekey_key, package))
            validate_key_package(key_package, suite, now=self._state.now())
            authenticate(key_package.leaf_node, None)
        except (MLSError, CredentialError) as error:
            raise InviteError("the relay handed out a KeyPackage that fails its checks") from error
        leaf = key_package.leaf_node
        if (
            leaf_account(leaf) != invite.account
            or leaf.signature_key != device.signature_key
            or leaf_data(leaf).relay_key != invite.relay_key
        ):
            raise InviteError("the relay handed out a KeyPackage of somebody else")
        return key_package
