"""What the SDK offers to applications: the names of the package, and of its two objects that do something."""

import restante

PUBLIC = [
    "AlreadyOpen",
    "Announcement",
    "Client",
    "Closed",
    "ConnectionChanged",
    "ConsentNeeded",
    "Contact",
    "ContactRequest",
    "Conversation",
    "ConversationError",
    "DecryptFailed",
    "DeviceAdded",
    "DeviceChanged",
    "Disclosed",
    "EntryLost",
    "Erasure",
    "Event",
    "Export",
    "FileDamaged",
    "FileError",
    "Found",
    "HandleTaken",
    "InviteError",
    "InviteOverused",
    "MemberAdded",
    "MemberRemoved",
    "Message",
    "MessageTooLarge",
    "MessagesMissing",
    "NotAMember",
    "NotAdmitted",
    "Official",
    "Policy",
    "PolicyDeclined",
    "Profile",
    "ProfileChanged",
    "Purpose",
    "PurposeChanged",
    "PushLost",
    "Queued",
    "Receipt",
    "Refused",
    "RelayChanged",
    "RelayError",
    "Replaced",
    "RestanteError",
    "SafetyNumber",
    "StateRolledBack",
    "SuiteChanged",
    "Transparency",
    "WrongPassphrase",
]

CLIENT = [
    "account_id",
    "announcements",
    "clear_handle",
    "clear_number",
    "clear_push",
    "confirm_number",
    "confirm_safety_number",
    "consent",
    "contacts",
    "conversations",
    "delete_profile",
    "disclosures",
    "drained",
    "erase",
    "events",
    "export_data",
    "find_handle",
    "find_numbers",
    "handle",
    "invite",
    "number",
    "official",
    "on",
    "open",
    "policy",
    "profile",
    "purposes",
    "push",
    "push_key",
    "safety_number",
    "set_handle",
    "set_profile",
    "set_push",
    "start_conversation",
    "transparency",
    "verify_number",
    "withdraw",
]

CONVERSATION = [
    "accept",
    "accepted",
    "active",
    "add",
    "epoch",
    "epoch_authenticator",
    "id",
    "leave",
    "members",
    "remove",
    "resync",
    "send",
    "suite",
    "title",
    "update_keys",
]


def names(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def test_the_public_names_are_these() -> None:
    assert sorted(restante.__all__) == PUBLIC
    assert all(hasattr(restante, name) for name in PUBLIC)


def test_what_a_client_and_a_conversation_do() -> None:
    assert names(restante.Client) == CLIENT
    assert names(restante.Conversation) == CONVERSATION
