"""Messaging Layer Security (RFC 9420), without I/O: values in, values out.

``Group`` is the door. Time and randomness are arguments, state is frozen, and a failure changes nothing.
"""

from restante_crypto.mls.credential import Credential
from restante_crypto.mls.epoch import LateMessage, Member, PastEpoch
from restante_crypto.mls.errors import (
    CredentialError,
    DecodeError,
    GenerationUsed,
    MLSError,
    OwnMessage,
    PathError,
    StateError,
    UnprotectError,
    ValidationError,
)
from restante_crypto.mls.extensions import LAST_RESORT, Capabilities, Extension, Lifetime
from restante_crypto.mls.group import (
    Application,
    CommitProcessed,
    Group,
    Joined,
    ProposalReceived,
    Protected,
    StagedCommit,
    key_package_message,
    parse_key_package_message,
)
from restante_crypto.mls.key_package import KeyPackage, KeyPackageBundle, create_key_package, validate_key_package
from restante_crypto.mls.leaf_node import LeafNode, SignatureKeyPair
from restante_crypto.mls.proposals import Add, GroupContextExtensions, PreSharedKey, Proposal, Remove, Update

__all__ = [
    "LAST_RESORT",
    "Add",
    "Application",
    "Capabilities",
    "CommitProcessed",
    "Credential",
    "CredentialError",
    "DecodeError",
    "Extension",
    "GenerationUsed",
    "Group",
    "GroupContextExtensions",
    "Joined",
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
    "PreSharedKey",
    "Proposal",
    "ProposalReceived",
    "Protected",
    "Remove",
    "SignatureKeyPair",
    "StagedCommit",
    "StateError",
    "UnprotectError",
    "Update",
    "ValidationError",
    "create_key_package",
    "key_package_message",
    "parse_key_package_message",
    "validate_key_package",
]
