"""The commands of a person, in processes of their own, at a relay in one of its own."""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from restante import Client, commands, manage
from restante_server import persons
from support.mortal import MortalRelay, mortal_relay
from support.relay import relay_in_process, relay_process

PURPOSES = "--purposes=handle,number,diagnostics,news"
PASSPHRASE = "a passphrase"
NICKNAME, AVATAR = "Canary Nickname", b"canary avatar"


COMMAND = str(Path(sys.executable).with_name("restante"))


async def restante(*arguments: str, status: int = 0) -> str:
    """Run a command; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "RESTANTE_PASSPHRASE": PASSPHRASE},
    )
    out, error = await process.communicate()
    assert process.returncode == status, error.decode()
    return (out + error).decode().strip() if status else out.decode().strip()


class Person:
    """Somebody with a file and no app."""

    def __init__(self, file: Path, relay: MortalRelay) -> None:
        self.file = file
        self.relay = relay

    async def does(self, command: str, *arguments: str, status: int = 0) -> str:
        return await restante(command, str(self.file), f"--relay={self.relay.url}", *arguments, status=status)


def holding(folders: list[Path], traces: list[bytes]) -> set[str]:
    """The files in which one of these is."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if any(trace in path.read_bytes() for trace in traces)}


def identifying(mine: Path) -> list[bytes]:
    """What of an export is in no other person's: ids, keys, and of each file a part."""
    held: dict[str, list[dict[str, Any]]] = json.loads((mine / "export.json").read_text())["held"]
    assert all(held[kind] for kind in ("mailbox", "address", "prekey", "slot", "consent", "handle"))
    ids = [bytes.fromhex(row["id"]) for rows in held.values() for row in rows if "id" in row]
    places = [bytes.fromhex(row["place"]) for row in held["handle"] + held["number"]]
    parts = [path.read_bytes()[24:56] for path in mine.glob("*.bin")]
    return [*ids, *places, bytes.fromhex(held["mailbox"][0]["receive_key"]), *parts]


@pytest.mark.database_file
@pytest.mark.timeout(240)
async def test_support_and_disclosures_without_an_app(tmp_path: Path) -> None:
    """Policy and agreement, official people, a conversation with them, announcements, what was disclosed."""
    async with mortal_relay(tmp_path / "relay", PURPOSES, "--sms=console") as relay:
        person, staff = (Person(tmp_path / f"{name}.db", relay) for name in ("person", "staff"))
        store = f"--store=sqlite:{relay.store}"
        shown, support = await asyncio.gather(
            person.does("invite", "--new", status=1), staff.does("invite", "--new", "--agree")
        )
        assert "Security and reliability" in shown
        assert "--agree" in shown
        await relay.stop()
        await relay.start(f"--official-invite=Support={support}")
        person.file.unlink()
        await asyncio.gather(
            person.does("invite", "--new", "--agree"), restante("announce", "service", "Sunday: down", store)
        )
        official, asked = await one_after_the_other(person, ("official",), ("write", "Support", "canary: it hums"))
        assert official == f"Support\n  {support}"
        conversation = asked.removeprefix("conversation ")
        read, answered = await one_after_the_other(staff, ("read", "--accept"), ("write", conversation, "canary: try"))
        account = re.findall(f"{conversation} ([a-z2-7]{{52}}) canary: it hums", read)[0]
        assert answered == asked
        async with Client.open(person.file, relay=relay.url, passphrase=PASSPHRASE) as client:
            assert client.account_id == account
            mailbox = client._engine.mailbox.hex()
        disclose = (
            "--ground=legal-duty",
            f"--mailbox={mailbox}",
            "--field=mailbox.id",
            "--to=A court",
            "--reason=file 1",
        )
        await restante("disclose", *disclose, store)
        read, told, news = await one_after_the_other(person, ("read",), ("disclosures",), ("news",))
        assert read.endswith("canary: try")
        assert "disclosures of this relay: 1\n  legal-duty: 1\nof this account, as far as it may be told: 1\n" in told
        assert told.endswith("[legal-duty] to A court: mailbox.id; file 1")
        assert news.endswith("[service] Sunday: down")
        contents = await relay.everything(tmp_path / "backup")
        assert [name for name, content in contents.items() if b"canary" in content] == []


@pytest.mark.database_file
async def test_export_and_erase(place: tuple[list[str], list[Path]], tmp_path: Path) -> None:
    """On each store: what was taken home is found there, and after erasing nowhere, nor in a later copy."""
    arguments, folders = place
    folder, file = tmp_path / "relay", tmp_path / "a.db"
    async with relay_process(folder, *arguments, PURPOSES, "--sms=console") as relay:
        async with Client.open(file, relay=relay.url, passphrase=PASSPHRASE) as client:
            await client.invite()
            await client.set_profile(NICKNAME, AVATAR)
            await client.consent("handle")
            await client.set_handle("canary")
            owner = client._engine.mailbox.hex()
        told = await restante("export", str(file), str(tmp_path / "mine"), "--relay", relay.url)
        assert re.fullmatch(r"\d+ things, \d+ files", told)
        traces = identifying(tmp_path / "mine")
        assert len(traces) > 30
        assert await asyncio.to_thread(holding, folders, traces), "the search finds"
        receipt = await restante("erase", str(file), "--relay", relay.url)
        assert re.fullmatch(rf"mailbox {owner}\nerased \S+\nreceipt [0-9a-f]{{128}}", receipt)
        assert await asyncio.to_thread(holding, folders, traces) == set()
        for number, each in enumerate(folders):
            await asyncio.to_thread(shutil.copytree, each, tmp_path / "later" / str(number))
        assert await asyncio.to_thread(holding, [tmp_path / "later"], traces) == set()
        await relay.stop()
    assert not any(trace in relay.stderr for trace in traces)


async def one_after_the_other(person: Person, *wanted: tuple[str, ...]) -> list[str]:
    """Run commands of one person, whose file one process at a time holds."""
    return [await person.does(*each) for each in wanted]


# The command line.


async def test_the_relay_lists_the_same_commands() -> None:
    assert "nickname" in await restante("profile", "--help")
    again = await asyncio.create_subprocess_exec(sys.executable, "-m", "restante_server", "profile", "--help")
    assert await again.wait() == 0
    assert {name: command.about for name, command in commands.COMMANDS.items()} == persons.COMMANDS


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        manage.main([command, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
    parser = argparse.ArgumentParser()
    commands.COMMANDS[command].options(parser)
    assert all(option.help for option in parser._actions)


async def test_what_is_shown_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    async with relay_in_process(tmp_path / "relay") as relay:

        async def run(command: str, *arguments: str, file: str = "a.db") -> str:
            whole = [command, str(tmp_path / file), "--relay", relay.url, *arguments]
            status = await asyncio.to_thread(manage.main, whole)
            out, error = capsys.readouterr()
            return (out if status == 0 else error).rstrip("\n")

        assert (await run("invite", "--new", "--agree")).startswith("restante:")
        with pytest.raises(SystemExit):
            await run("invite", "--new")
        assert "the file exists" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            await run("invite", file="none.db")
        assert await run("profile") == "no profile"
        assert await run("profile", "--nickname=Ann\x1b[2J") == "nickname Ann\\x1b[2J\navatar 0 bytes"
        (tmp_path / "picture").write_bytes(b"picture")
        await run("profile", "--avatar", str(tmp_path / "picture"))
        assert await run("profile", "--save", str(tmp_path / "saved")) == "nickname Ann\\x1b[2J\navatar 7 bytes"
        assert (tmp_path / "saved").read_bytes() == b"picture"
        assert await run("profile", "--no-avatar", "--nickname=") == "no profile"
        assert await run("profile", "--clear") == "no profile"
        assert await run("official") == "the operator names nobody"
        assert await run("contacts") == "no contacts"
        assert (await run("disclosures")).endswith("of this account, as far as it may be told: 0")
        assert "this is no invite" in await run("write", "Support", "hello")
        assert await run("read", "--wait=0.05") == ""
        invite = await run("invite", "--new", "--agree", file="b.db")
        first = await run("write", invite, "one")
        assert await run("write", invite, "two") == first, "the same conversation"
        assert "--accept takes it up" in await run("read", "--wait=0.2", file="b.db")
        read = await run("read", "--accept", file="b.db")
        assert [line.rpartition(" ")[2] for line in read.splitlines()] == ["conversation", "one", "two"]
        account = read.split()[-2]
        assert await run("contacts", file="b.db") == f"{account} unverified"
        assert "another safety number" in await run("contacts", "--confirm", account, "0" * 60, file="b.db")
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            await client.conversations()[0].send(b"\x00\x01")
        assert (await run("read", file="b.db")).endswith(" 2 bytes")
