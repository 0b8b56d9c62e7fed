import asyncio
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from typer.testing import CliRunner

from restante_protocol import frames
from restante_server import persons
from restante_server.__main__ import cli
from support.relay import Owner, Peer, relay_in_process

RUN = CliRunner()


def _run(*arguments: str) -> tuple[int, str]:
    result = RUN.invoke(cli, arguments)
    return result.exit_code, result.output


async def _fill(folder: Path) -> tuple[Owner, bytes]:
    owner = Owner()
    async with (
        relay_in_process(folder) as relay,
        await Peer.own(relay.url, owner) as receiver,
        await Peer.connect(relay.url) as sender,
    ):
        address = await receiver.add_address(owner.address())
        await sender.deposit([address], b"waiting")
        return owner, sender.welcome.relay_key


async def _read(folder: Path, owner: Owner) -> tuple[list[bytes], bytes]:
    async with relay_in_process(folder) as relay, await Peer.own(relay.url, owner, create=False) as receiver:
        await receiver.subscribe()
        bodies = []
        while not isinstance(each := await receiver.next(), frames.Drained):
            bodies.append(each.entry.body)
        return bodies, receiver.welcome.relay_key


@pytest.mark.parametrize(
    "command",
    sorted({each.name or each.callback.__name__ for each in cli.registered_commands} - set(persons.COMMANDS)),
)
def test_every_command_explains_itself(command: str) -> None:
    code, text = _run(command, "--help")
    assert code == 0
    assert "Usage:" in text


def test_backup_and_restore(tmp_path: Path) -> None:
    owner, relay_key = asyncio.run(_fill(tmp_path / "here"))
    store = f"--store=sqlite:{tmp_path / 'here' / 'relay.db'}"
    copy, there = str(tmp_path / "copy"), f"--store=sqlite:{tmp_path / 'there' / 'relay.db'}"
    assert _run("backup", store, copy)[0] == 0
    code, text = _run("backup", store, copy)
    assert (code, "exists already" in text) == (1, True)
    assert _run("restore", there, copy)[0] == 0
    assert asyncio.run(_read(tmp_path / "there", owner)) == ([b"waiting"], relay_key)
    code, text = _run("restore", there, copy)
    assert (code, "--force" in text) == (1, True)
    assert _run("restore", there, "--force", copy)[0] == 0
    code, text = _run("restore", there, str(tmp_path / "nowhere"))
    assert (code, "complete backup" in text) == (1, True)


async def test_restore_refuses_while_a_relay_runs(tmp_path: Path) -> None:
    await _fill(tmp_path / "here")
    store = f"--store=sqlite:{tmp_path / 'here' / 'relay.db'}"
    async with relay_in_process(tmp_path / "here"):
        assert (await asyncio.to_thread(_run, "backup", store, str(tmp_path / "copy")))[0] == 0
        code, text = await asyncio.to_thread(_run, "restore", store, "--force", str(tmp_path / "copy"))
        assert code == 1
        assert "another process" in text


def test_admit_prints_codes(tmp_path: Path) -> None:
    code, text = _run("admit", f"--store=sqlite:{tmp_path / 'relay.db'}", "--count=3")
    assert code == 0
    assert [len(line) for line in text.splitlines()] == [19, 19, 19]


def test_admit_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, text = _run("admit", f"--store=sqlite:{tmp_path / 'file' / 'relay.db'}")
    assert code == 1
    assert "cannot write" in text


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    asyncio.run(_fill(tmp_path))
    db = apsw.Connection(str(tmp_path / "relay.db"))
    db.execute("PRAGMA user_version=99")
    db.close()
    before = (tmp_path / "relay.db").read_bytes()
    command = [sys.executable, "-m", "restante_server", "serve", "--listen=127.0.0.1:0"]
    refused = subprocess.run(  # noqa: S603 -- our own
        [*command, f"--store=sqlite:{tmp_path / 'relay.db'}"], capture_output=True, check=False
    )
    assert (refused.returncode, b"newer version" in refused.stderr, refused.stdout) == (1, True, b"")
    assert (tmp_path / "relay.db").read_bytes() == before


async def test_doctor_tries_a_running_relay(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        store = f"--store=sqlite:{tmp_path / 'relay.db'}"
        _, text = await asyncio.to_thread(_run, "doctor", store, f"--url={relay.url}")
    assert "ok   round trip" in text
    assert "level=power" in text
    _, text = await asyncio.to_thread(_run, "doctor", store, f"--url={relay.url}")
    assert "FAIL round trip: no relay answers there" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "--listen=nowhere"], "HOST:PORT"),
        (["serve", "--store=postgres:x"], "sqlite:PATH"),
        (["serve", "--admission=maybe"], "open, invite or closed"),
        (["serve", "--ops-listen=x"], "HOST:PORT"),
        (["backup", "--store=x", "y"], "sqlite:PATH"),
    ],
)
def test_wrong_settings_are_named(arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    code, output = _run(*arguments)
    assert code == 2
    assert text in output


def test_settings_come_from_the_environment_too() -> None:
    result = RUN.invoke(cli, ["serve"], env={"RESTANTE_LISTEN": "nowhere", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 2
    assert "HOST:PORT" in result.output


async def test_serve_says_why_it_cannot(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        port = relay.url.rpartition(":")[2]
        for arguments, text in (
            ((f"--store=sqlite:{tmp_path / 'relay.db'}", "--listen=127.0.0.1:0"), b"another process holds"),
            ((f"--store=sqlite:{tmp_path / 'other.db'}", f"--listen=127.0.0.1:{port}"), b"cannot listen or write"),
        ):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "restante_server", "serve", *arguments, stderr=asyncio.subprocess.PIPE
            )
            _, error = await process.communicate()
            assert process.returncode == 1
            assert text in error
            assert b"Traceback" not in error


def test_a_missing_extra_is_explained() -> None:
    program = (
        "import sys, runpy; sys.modules['typer'] = None; sys.argv = ['restante'];"
        " runpy.run_module('restante_server', run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)  # noqa: S603 -- our own
    assert process.returncode == 1
    assert b"pip install 'restante[server]'" in process.stderr
    assert b"Traceback" not in process.stderr


async def test_disclose(tmp_path: Path) -> None:
    owner = Owner()
    store = tmp_path / "relay.db"
    words = ["disclose", "--to", "A court", "--reason", "file 1", f"--store=sqlite:{store}", "--field", "mailbox.id"]

    async def run(*more: str) -> tuple[int, str]:
        return await asyncio.to_thread(_run, *words, *more)

    valid = ("--ground", "legal-duty", "--mailbox", owner.mailbox.hex())
    async with relay_in_process(tmp_path) as relay, await Peer.own(relay.url, owner):
        code, text = await run(*valid, "--barred-until", "2027-01-31")
        assert code == 0
        answer = Path(text.strip())
        assert owner.mailbox.hex() in answer.read_text()  # noqa: ASYNC240 -- a small file
        code, text = await run("--ground", "emergency", "--mailbox", bytes(24).hex())
        assert (code, "no such mailbox" in text) == (1, True)
        assert list(tmp_path.glob("relay.db.disclosed-*")) == [answer]  # noqa: ASYNC240 -- the same
    for wrong in (
        ("--ground", "curiosity", "--mailbox", owner.mailbox.hex()),
        ("--ground", "consent", "--mailbox", "no id"),
        (*valid, "--field", "prekey.package"),
    ):
        assert (await run(*wrong))[0] == 2
    code, text = await run(*valid, "--wait", "0")
    assert (code, "no relay has answered" in text) == (1, True)
    (tmp_path / "file").touch()
    code, text = await run(*valid, f"--store=sqlite:{tmp_path / 'file' / 'relay.db'}")
    assert (code, "cannot write" in text) == (1, True)


def test_what_is_not_built_is_not_offered(tmp_path: Path) -> None:
    code, text = _run("serve", f"--store=sqlite:{tmp_path / 'relay.db'}", "--purposes=news, advertising")
    assert (code, "handle, number, push, diagnostics, news" in " ".join(text.split())) == (2, True)


def test_push_needs_a_service_that_is_declared(tmp_path: Path) -> None:
    code, text = _run("serve", f"--store=sqlite:{tmp_path / 'relay.db'}", "--purposes=push")
    assert (code, "--processor 'push=NAME;COUNTRY;AGREEMENT;HOST HOST...'" in text) == (1, True)
