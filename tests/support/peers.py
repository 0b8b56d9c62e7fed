"""Members of a group by several implementations of MLS, behind one face; this project's is here.

The others, in ``ts_mls`` and ``rine``, are installed by ``make peers`` into a folder that git ignores; without it
``missing`` says why tests skip.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from restante_crypto import primitives
from restante_crypto.mls import (
    Application,
    Capabilities,
    CommitProcessed,
    Credential,
    Group,
    LeafNode,
    Lifetime,
    Policy,
    PreSharedKeyID,
    Proposal,
    ProposalReceived,
    SignatureKeyPair,
    create_key_package,
    key_package_message,
)
from restante_crypto.mls.psk import EXTERNAL
from restante_crypto.suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"

TS_MLS_1 = "ts-mls 1.6.4"
TS_MLS_2 = "ts-mls 2.0.0-rc.10"
RINE = "rine-mls 0.1.1"
OURS = "restante"

TS_MLS = (TS_MLS_1, TS_MLS_2)

SHARED = {TS_MLS_1: (3, 1, 84), TS_MLS_2: (3, 1, 0xF00E), RINE: (1,)}
"""The suites that a peer and we have."""

POLICY: Final = Policy(external_commits=True, max_lifetime=2**63 - 1)
"""Who has a GroupInfo may come, and the KeyPackages of ts-mls never end."""

PSK_ID: Final = b"known to all"
PSK: Final = bytes(range(32))


def external_psk(nonce: bytes) -> PreSharedKeyID:
    """The id, with this nonce, of a secret that all know."""
    return PreSharedKeyID(EXTERNAL, nonce, psk_id=PSK_ID)


def _lifetime() -> Lifetime:
    """A quarter of a year around now, which ts-mls compares with the clock."""
    now = int(time.time())
    return Lifetime(now - 3600, now + 90 * 86_400)


def missing(kind: str) -> str | None:
    """Why this peer cannot run here, or None."""
    if kind == RINE:
        return None if (PEERS / "python" / "rine_mls").is_dir() else "rine-mls is not installed: make peers"
    if shutil.which("node") is None:
        return "there is no node: ts-mls cannot run"
    major = 1 if kind == TS_MLS_1 else 2
    return None if (PEERS / "node_modules" / f"ts-mls-{major}").is_dir() else "ts-mls is not installed: make peers"


class Refused(Exception):  # noqa: N818 -- says what is the case
    """A peer raised an error of its own."""


@dataclass(frozen=True)
class State:
    """What all members of an epoch must agree on; ``secret`` is exported, or the confirmation tag."""

    epoch: int
    tree_hash: bytes
    authenticator: bytes


class Member(Protocol):
    """A client in at most one group.

    ``public`` asks for a PublicMessage; who has no call for it sends a PrivateMessage. With ``tree`` the tree is in the
    Welcome or GroupInfo; as bytes it is what came another way.

    Attributes:
        kind: its implementation.
        by_reference: whether it can propose, and knows PSKs; all take Updates and Removes by reference.
        key_package: an MLSMessage.
    """

    kind: str
    by_reference: bool
    key_package: bytes

    def create(self, group_id: bytes) -> None: ...
    def join(self, welcomes: list[bytes], tree: bytes | None = None) -> None: ...
    def commit(
        self, proposals: Sequence[Proposal], *, public: bool = False, tree: bool = True
    ) -> tuple[bytes, list[bytes]]: ...
    def propose(self, proposal: Proposal, *, public: bool = False) -> bytes: ...
    def protect(self, data: bytes) -> bytes: ...
    def process(self, message: bytes) -> bytes | None: ...
    def group_info(self, *, tree: bool = True) -> bytes: ...
    def join_externally(
        self, group_info: bytes, *, replaces: int | None = None, tree: bytes | None = None
    ) -> bytes: ...
    def index(self) -> int: ...
    def state(self) -> State: ...


def _nobody(_new: LeafNode, _old: LeafNode | None) -> None:
    """Takes every credential."""


def welcome_for(reference: bytes, welcomes: list[bytes]) -> bytes:
    """The Welcome with this KeyPackageRef; mls-rs makes one for each joiner."""
    (welcome,) = (each for each in welcomes if reference in each)
    return welcome


class Ours:
    """This project's client."""

    kind = OURS
    by_reference = True

    def __init__(self, suite: int, name: str) -> None:
        seed = os.urandom(32)
        self.signer = SignatureKeyPair(primitives.ed25519_public(seed), seed)
        self.suite = suite
        self.credential = Credential.basic(name.encode())
        self.capabilities = Capabilities(suites=tuple(SUITES))
        self.bundle = create_key_package(
            suite,
            signer=self.signer,
            credential=self.credential,
            capabilities=self.capabilities,
            lifetime=_lifetime(),
            random=os.urandom,
        )
        self.key_package = key_package_message(self.bundle.key_package)
        self.group: Group

    def create(self, group_id: bytes) -> None:
        self.group = Group.create(
            self.suite,
            group_id,
            signer=self.signer,
            credential=self.credential,
            capabilities=self.capabilities,
            lifetime=_lifetime(),
            random=os.urandom,
        )

    def join(self, welcomes: list[bytes], tree: bytes | None = None) -> None:
        joined = Group.join(
            welcome_for(self.bundle.key_package.ref(), welcomes),
            self.bundle,
            signer=self.signer,
            authenticate=_nobody,
            ratchet_tree=tree,
            psks={PSK_ID: PSK},
            policy=POLICY,
        )
        self.group = joined.group

    def _psks(self) -> dict[bytes, bytes]:
        """What this member knows: the secret of all, and the group's resumption PSK of this epoch."""
        resumption = self.group.group_id + self.group.epoch.to_bytes(8, "big")
        return {PSK_ID: PSK, resumption: self.group.secrets.resumption_psk}

    def commit(
        self, proposals: Sequence[Proposal], *, public: bool = False, tree: bool = True
    ) -> tuple[bytes, list[bytes]]:
        staged = self.group.commit(
            proposals,
            references=[key for key, sent in self.group.proposals.items() if sent.own is None],
            psks=self._psks(),
            public=public,
            tree_in_welcome=tree,
            policy=POLICY,
            random=os.urandom,
        )
        self.group = staged.group
        return staged.message, [staged.welcome] if staged.welcome is not None else []

    def propose(self, proposal: Proposal, *, public: bool = False) -> bytes:
        proposed = self.group.propose(proposal, public=public, random=os.urandom)
        self.group = proposed.group
        return proposed.message

    def propose_update(self, *, signer: bool = False, public: bool = False) -> bytes:
        """Fresh keys for this member's leaf, with ``signer`` another signature key, too: only this client can do so."""
        seed = os.urandom(32)
        fresh = SignatureKeyPair(primitives.ed25519_public(seed), seed) if signer else None
        proposed = self.group.propose_update(signer=fresh, public=public, random=os.urandom)
        self.group = Group.restore(proposed.group.epoch_state(), proposed.group.message_state())
        return proposed.message

    def group_info(self, *, tree: bool = True) -> bytes:
        return self.group.group_info(with_tree=tree)

    def join_externally(self, group_info: bytes, *, replaces: int | None = None, tree: bytes | None = None) -> bytes:
        joined = Group.join_externally(
            group_info,
            signer=self.signer,
            credential=self.credential,
            capabilities=self.capabilities,
            authenticate=_nobody,
            ratchet_tree=tree,
            replaces=replaces,
            policy=POLICY,
            random=os.urandom,
        )
        self.group = joined.group
        return joined.message

    def protect(self, data: bytes) -> bytes:
        protected = self.group.protect(data, random=os.urandom)
        self.group = protected.group
        return protected.message

    def process(self, message: bytes) -> bytes | None:
        result = self.group.process(message, authenticate=_nobody, psks=self._psks(), policy=POLICY)
        match result:
            case Application():
                self.group = result.group
                return result.data
            case ProposalReceived():
                self.group = result.group
            case CommitProcessed():
                assert result.group is not None
                # what was stored is what goes on
                self.group = Group.restore(result.group.epoch_state(), result.group.message_state())
                self.signer = self.group.signer
        return None

    def index(self) -> int:
        return self.group.own_index

    def state(self) -> State:
        return State(self.group.epoch, self.group.context.tree_hash, self.group.epoch_authenticator)

    def confirmation_tag(self) -> bytes:
        suite = SUITES[self.group.suite]
        key = self.group.secrets.confirmation_key
        return primitives.hmac(suite.hash_name, key, self.group.context.confirmed_transcript_hash)
