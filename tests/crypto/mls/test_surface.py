"""What the package offers, and what it needs: nothing of a relay, of the SDK, or of the network."""

import os
import subprocess
import sys

import restante_crypto.mls

PUBLIC = [
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

FOREIGN = (
    "restante",
    "restante_server",
    "restante_protocol",
    "aiohttp",
    "asyncio",
    "sqlite3",
    "msgspec",
    "redis",
    "apsw",
)


def test_the_public_names_are_these() -> None:
    assert sorted(restante_crypto.mls.__all__) == sorted(PUBLIC)
    assert all(hasattr(restante_crypto.mls, name) for name in PUBLIC)


def test_it_is_imported_alone() -> None:
    code = "import sys, restante_crypto.mls; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    alone = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # which imports more
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=alone)  # noqa: S603
    loaded = run.stdout.split()
    assert "restante_crypto" in loaded
    assert not set(FOREIGN) & set(loaded)
