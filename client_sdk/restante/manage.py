"""What a person can do without an app, with the client's file alone: ``python -m restante.manage``, or ``restante``.

Each command opens the file, does one thing, and closes it.
"""

import argparse
import asyncio
import getpass
import os
import sys
from pathlib import Path

from restante import Client, Policy, PolicyDeclined, RestanteError
from restante.commands import COMMANDS, plain, show


async def _run(arguments: argparse.Namespace) -> str:
    passphrase = os.environ.get("RESTANTE_PASSPHRASE") or getpass.getpass("passphrase: ")

    async def agree(policy: Policy | None) -> bool:
        if policy is not None and not arguments.agree:
            show(policy.text(arguments.language))
        return policy is None or bool(arguments.agree)

    new = getattr(arguments, "new", False)
    async with Client.open(
        arguments.file,
        relay=arguments.relay,
        passphrase=passphrase,
        admission=arguments.admission if new else "",
        agree=agree if new else None,
    ) as client:
        return await COMMANDS[arguments.command].run(client, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="restante", description="An account at a relay, without an app.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.about, description=command.about)
        added.add_argument("file", type=Path, help="the client's file; asks for its passphrase, or RESTANTE_PASSPHRASE")
        added.add_argument("--relay", required=True, metavar="URL", help="the relay's URL")
        command.options(added)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.file.is_file() == getattr(arguments, "new", False):
        parser.error("the file exists" if arguments.file.is_file() else "there is no such file")
    try:
        shown = asyncio.run(_run(arguments))
    except PolicyDeclined:
        print("restante: --agree agrees to this policy", file=sys.stderr)  # noqa: T201 -- the same
        return 1
    except (RestanteError, OSError, ValueError) as error:
        print(plain(f"restante: {error}"), file=sys.stderr)  # noqa: T201 -- the same
        return 1
    if shown:
        show(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
