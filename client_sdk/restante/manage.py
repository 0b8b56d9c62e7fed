"""``restante export`` and ``restante erase``: a person's data without an app, from the client's file."""

import argparse
import asyncio
import getpass
import os
import sys
from pathlib import Path

from restante import Client, RestanteError


async def _export(client: Client, folder: Path) -> str:
    export = await client.export_data()
    await asyncio.to_thread(export.write, folder)
    return f"{sum(len(rows) for rows in export.document['held'].values())} things, {len(export.files)} files"


async def _erase(client: Client) -> str:
    erasure = await client.erase()
    return f"mailbox {erasure.mailbox.hex()}\nerased {erasure.erased_at.isoformat()}\nreceipt {erasure.signature.hex()}"


async def _run(arguments: argparse.Namespace) -> str:
    passphrase = os.environ.get("RESTANTE_PASSPHRASE") or getpass.getpass("passphrase: ")
    async with Client.open(arguments.file, relay=arguments.relay, passphrase=passphrase) as client:
        if arguments.command == "export":
            return await _export(client, arguments.folder)
        return await _erase(client)


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="restante", description="What the relay holds of an account.")
    parser.add_argument("command", choices=("export", "erase"))
    parser.add_argument("file", type=Path, help="the client's file; its passphrase is asked, or RESTANTE_PASSPHRASE")
    parser.add_argument("folder", type=Path, nargs="?", help="for export: a folder that does not exist yet")
    parser.add_argument("--relay", required=True, help="the relay's URL")
    arguments = parser.parse_args(argv)
    if (arguments.command == "export") != (arguments.folder is not None):
        parser.error("export takes a folder, erase takes none")
    if not arguments.file.is_file():
        parser.error("there is no such file")
    try:
        print(asyncio.run(_run(arguments)))  # noqa: T201 -- the command's result
    except (RestanteError, OSError) as error:
        print(f"restante: {error}", file=sys.stderr)  # noqa: T201 -- the same
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
