"""``restante``: what a person does at a relay without an app is the SDK's, all else the relay's.

The relay imports no client, so the SDK's commands run in a process of their own; an installation without the relay has
them, too.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

COMMANDS: Final = {
    "invite": "Make an invite to give to somebody; with --new make the account first.",
    "write": "Send a text: to an invite, to one of the operator's people, or into a conversation.",
    "read": "Show what others have sent, and take it off the relay.",
    "contacts": "Show who is known, and whether safety numbers were compared; compare them.",
    "profile": "Show, change or delete the nickname and avatar that contacts see.",
    "consent": "Show what a relay offers beyond the service, each off until it is granted; grant or withdraw one.",
    "handle": 'Show, set, clear or look for a handle; the purpose "handle" has to be granted.',
    "number": 'Show, verify, clear or look for a mobile number; the purpose "number" has to be granted.',
    "push": 'Show, set or clear where a device is woken, and show the relay\'s key for it; "push" has to be granted.',
    "export": "Bring home all that a relay holds of an account.",
    "erase": "Erase all that a relay holds of an account, for good, and print the relay's receipt.",
    "policy": "Show a relay's privacy policy, signed by the key that the file knows.",
    "news": "Show what a relay's operator announces to everybody, signed by the key that the file knows.",
    "official": "Show whom of the operator's people one can write to, signed by the key that the file knows.",
    "disclosures": "Show what the operator has handed to others: how often at all, and what of this account.",
}


def run(arguments: Sequence[str]) -> int:
    """Run a command with its arguments; return its exit status."""
    command = [sys.executable, "-m", "restante.manage", *arguments]
    return subprocess.run(command, check=False).returncode  # noqa: S603 -- our own, without a shell


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        sys.exit(run(sys.argv[1:]))
    from restante_server import __main__ as relay  # noqa: PLC0415 -- what the relay needs may not be installed

    relay.main()
