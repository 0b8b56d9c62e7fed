"""Messaging Layer Security (RFC 9420), without I/O: values in, values out.

``Group`` is the door. Time and randomness are arguments, state is frozen, and a failure changes nothing.
"""

from restante_crypto.mls.commits import CommitProcessed, Policy, StagedCommit
from restante_crypto.mls.credential import Credential
from restante_crypto.mls.epoch import LateMessage, Member, PastEpoch
from restante_crypto.mls.errors import (
    CredentialError,
    DecodeError,
    ForeignMessage,
    GenerationUsed,
    MLSError,
    OwnMessage,
    PathError,
    StateError,
    UnprotectError,
    ValidationError,
)
from restante_crypto.mls.extensions import (
    LAST_RESORT,
    REQUIRED_CAPABILITIES,
    Capabilities,
    Extension,
    ExternalSender,
    Lifetime,
    RequiredCapabilities,
    encode_external_senders,
)
from restante_crypto.mls.external import ask_to_join
from restante_crypto.mls.external import propose as propose_from_outside
from restante_crypto.mls.group import (
    Application,
    Group,
    Joined,
    JoinedExternally,
    ProposalReceived,
    Protected,
    is_welcome,
    key_package_message,
    parse_key_package_message,
)
from restante_crypto.mls.key_package import KeyPackage, KeyPackageBundle, create_key_package, validate_key_package
from restante_crypto.mls.leaf_node import LeafNode, SignatureKeyPair
from restante_crypto.mls.proposals import (
    Add,
    CustomProposal,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    Update,
)
from restante_crypto.mls.psk import PreSharedKeyID, resumption_psk_id

__all__ = [
    "LAST_RESORT",
    "REQUIRED_CAPABILITIES",
    "Add",
    "Application",
    "Capabilities",
    "CommitProcessed",
    "Credential",
    "CredentialError",
    "CustomProposal",
    "DecodeError",
    "Extension",
    "ExternalSender",
    "ForeignMessage",
    "GenerationUsed",
    "Group",
    "GroupContextExtensions",
    "Joined",
    "JoinedExternally",
    "KeyPackage",
    "KeyPackageBundle",
    "LateMessage",
    "LeafNode",
    "Lifetime",
    "MLSError",
    "Member",
    "OwnMessage",
    "PastEpoch",
    "PathError",
    "Policy",
    "PreSharedKey",
    "PreSharedKeyID",
    "Proposal",
    "ProposalReceived",
    "Protected",
    "ReInit",
    "Remove",
    "RequiredCapabilities",
    "SignatureKeyPair",
    "StagedCommit",
    "StateError",
    "UnprotectError",
    "Update",
    "ValidationError",
    "ask_to_join",
    "create_key_package",
    "encode_external_senders",
    "is_welcome",
    "key_package_message",
    "parse_key_package_message",
    "propose_from_outside",
    "resumption_psk_id",
    "validate_key_package",
]
