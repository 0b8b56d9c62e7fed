"""A member's own Update: its new leaf, and the secrets that are kept until a Commit has it or the epoch ends.

They are kept with the proposal that they belong to (RFC 9420 section 12.1.2). Another member's Commit that refers to it
puts them in the place of those before; whatever else ends the epoch drops them with it, as ``discard_proposals`` does.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from restante_crypto.mls import codec, grease
from restante_crypto.mls.codec import Reader
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.extensions import Capabilities, Extensions
from restante_crypto.mls.leaf_node import SOURCE_UPDATE, SignatureKeyPair
from restante_crypto.mls.proposals import Update
from restante_crypto.mls.tree_validation import check_leaf
from restante_crypto.primitives import Random

if TYPE_CHECKING:
    from restante_crypto.mls.group import Group


@dataclass(frozen=True, slots=True)
class OwnUpdate:
    """The secrets of an Update of one's own: the leaf's HPKE private key, and the key pair that signs from then on."""

    leaf_private: bytes = field(repr=False)
    signer: SignatureKeyPair

    def encode(self) -> bytes:
        """Encode, for storage alone."""
        return b"".join(map(codec.opaque, (self.leaf_private, self.signer.public, self.signer.private)))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read one."""
        return cls(reader.opaque(), SignatureKeyPair(reader.opaque(), reader.opaque()))


def make(
    group: "Group",
    *,
    signer: SignatureKeyPair | None,
    credential: Credential | None,
    leaf_extensions: Extensions | None,
    leaf_capabilities: Capabilities | None,
    random: Random,
) -> tuple[Update, OwnUpdate]:
    """Return an Update to a leaf with a fresh key, and its secrets: see ``Group.propose_update``."""
    suite, signer = group.keys.suite, signer or group.signer
    old = group.tree.occupied_leaf(group.own_index)
    capabilities, extensions = leaf_capabilities or old.capabilities, old.extensions
    if leaf_extensions is not None or leaf_capabilities is not None:
        wanted = extensions if leaf_extensions is None else leaf_extensions
        capabilities, extensions = grease.leaf(capabilities, wanted, random)
    leaf_private, encryption_key = suite.kem.derive_key_pair(random(suite.hash_bytes))
    leaf = replace(
        old,
        encryption_key=encryption_key,
        signature_key=signer.public,
        credential=credential or old.credential,
        capabilities=capabilities,
        source=SOURCE_UPDATE,
        lifetime=None,
        parent_hash=b"",
        extensions=extensions,
        raw=b"",
    ).sign(signer, group.group_id, group.own_index)
    check_leaf(leaf, suite, group.extensions)
    return Update(leaf), OwnUpdate(leaf_private, signer)
