"""What a person can do without an app, with the client's file alone: the commands below."""

import argparse
import asyncio
import getpass
import os
import sys
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from restante import Client, Found, RestanteError

_LANGUAGE: Final = "en"


async def _export(client: Client, arguments: argparse.Namespace) -> str:
    export = await client.export_data()
    await asyncio.to_thread(export.write, arguments.folder)
    return f"{sum(len(rows) for rows in export.document['held'].values())} things, {len(export.files)} files"


async def _erase(client: Client, _arguments: argparse.Namespace) -> str:
    erasure = await client.erase()
    return f"mailbox {erasure.mailbox.hex()}\nerased {erasure.erased_at.isoformat()}\nreceipt {erasure.signature.hex()}"


async def _consent(client: Client, arguments: argparse.Namespace) -> str:
    if arguments.grant:
        await client.consent(arguments.grant)
    if arguments.withdraw:
        await client.withdraw(arguments.withdraw)
    shown = [
        f"{each.name}: {'granted' if each.granted else 'off'}\n  {each.title(arguments.language)}\n"
        f"  {each.what(arguments.language)}\n  {each.refusing(arguments.language)}"
        for each in await client.purposes()
    ]
    return "\n".join(shown) or "this relay offers nothing optional"


async def _policy(client: Client, arguments: argparse.Namespace) -> str:
    policy = await client.policy(arguments.number)
    return policy.text(arguments.language).rstrip() if policy is not None else "there is no such policy"


async def _news(client: Client, arguments: argparse.Namespace) -> str:
    shown = [
        f"{each.announced_at:%Y-%m-%d} [{each.kind}] {each.text(arguments.language)}"
        for each in await client.announcements()
    ]
    return "\n".join(shown) or "nothing is announced"


async def _handle(client: Client, arguments: argparse.Namespace) -> str:
    if arguments.set:
        await client.set_handle(arguments.set)
    if arguments.clear:
        await client.clear_handle()
    if arguments.find:
        return _shown(await client.find_handle(arguments.find))
    return await client.handle() or "no handle"


async def _number(client: Client, arguments: argparse.Namespace) -> str:
    if arguments.verify:
        await client.verify_number(arguments.verify)
        return "a code was sent"
    if arguments.confirm:
        await client.confirm_number(*arguments.confirm)
    if arguments.clear:
        await client.clear_number()
    if arguments.find:
        return _shown(next(iter((await client.find_numbers([arguments.find])).values()), None))
    return await client.number() or "no number"


async def _push(client: Client, arguments: argparse.Namespace) -> str:
    if arguments.set:
        await client.set_push(arguments.set)
    if arguments.clear:
        await client.clear_push()
    return f"{await client.push() or 'no endpoint'}\nkey {await client.push_key()}"


def _shown(found: Found | None) -> str:
    if found is None:
        return "nobody"
    return f"{found.account}\n{found.invite}\nunverified: compare safety numbers"


_COMMANDS: Final[dict[str, Callable[[Client, argparse.Namespace], Awaitable[str]]]] = {
    "export": _export,
    "erase": _erase,
    "consent": _consent,
    "policy": _policy,
    "news": _news,
    "handle": _handle,
    "number": _number,
    "push": _push,
}


async def _run(arguments: argparse.Namespace) -> str:
    passphrase = os.environ.get("RESTANTE_PASSPHRASE") or getpass.getpass("passphrase: ")
    async with Client.open(arguments.file, relay=arguments.relay, passphrase=passphrase) as client:
        return await _COMMANDS[arguments.command](client, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="restante", description="An account at a relay, without an app.")
    commands = parser.add_subparsers(dest="command", required=True)
    added = {name: commands.add_parser(name) for name in _COMMANDS}
    for command in added.values():
        command.add_argument(
            "file", type=Path, help="the client's file; asks for its passphrase, or RESTANTE_PASSPHRASE"
        )
        command.add_argument("--relay", required=True, help="the relay's URL")
        command.add_argument("--language", default=_LANGUAGE, help="such as en or zh")
    added["export"].add_argument("folder", type=Path, help="that does not exist yet")
    either = added["consent"].add_mutually_exclusive_group()
    either.add_argument("--grant", metavar="PURPOSE")
    either.add_argument("--withdraw", metavar="PURPOSE")
    for name, other in (("handle", "--set"), ("number", "--verify")):
        either = added[name].add_mutually_exclusive_group()
        either.add_argument(other, metavar=name.upper())
        either.add_argument("--find", metavar=name.upper())
        either.add_argument("--clear", action="store_true")
    either.add_argument("--confirm", nargs=2, metavar=("NUMBER", "CODE"))
    either = added["push"].add_mutually_exclusive_group()
    either.add_argument("--set", metavar="URL")
    either.add_argument("--clear", action="store_true")
    added["policy"].add_argument("--number", type=int, help="of an earlier version")
    return parser


def _plain(text: str) -> str:
    """Return a text without what a terminal would obey: some of it is the relay's."""
    commands = {ord(each) for each in text if unicodedata.category(each) == "Cc"} - {ord("\n")}
    return text.translate(dict.fromkeys(commands, "\N{REPLACEMENT CHARACTER}"))


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not arguments.file.is_file():
        parser.error("there is no such file")
    try:
        print(_plain(asyncio.run(_run(arguments))))  # noqa: T201 -- the command's result
    except (RestanteError, OSError, ValueError) as error:
        print(_plain(f"restante: {error}"), file=sys.stderr)  # noqa: T201 -- the same
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
