import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from restante import Client
from restante_server import announcements, letters
from restante_server.__main__ import cli
from restante_server.announcements import Announcement, Kind
from restante_server.identity import Identity
from restante_server.services.bulletin import ANNOUNCEMENTS, Bulletin
from support.relay import TIMEOUT, relay_in_process
from support.stores import MovedClock
from support.waiting import until


async def test_a_command_reaches_a_running_relay(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        store = f"sqlite:{tmp_path / 'relay.db'}"
        arguments = [
            "announce",
            "transfer",
            "Example Mail takes over.",
            "--zh",
            "由 Example Mail 接管。",
            "--store",
            store,
        ]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        published = Bulletin(relay.store, Identity.open(tmp_path), MovedClock())
        while not (listed := (await published.read(ANNOUNCEMENTS))[1]):
            pass
        assert listed[0]["kind"] == "transfer"
        assert listed[0]["texts"] == {"en": "Example Mail takes over.", "zh": "由 Example Mail 接管。"}
        while letters.find(tmp_path / "relay.db", "announcement"):
            await relay.store.totals()


async def test_a_changed_policy_announces_itself(tmp_path: Path) -> None:
    for name in ("One", "One", "Two"):
        async with relay_in_process(tmp_path, operator_name=name) as relay:
            published = Bulletin(relay.store, Identity.open(tmp_path), MovedClock())
            _, listed = await published.read(ANNOUNCEMENTS)
            assert (listed is None) == (name == "One")
    assert [(each["kind"], each["policy"]) for each in listed] == [("policy", 2)]
    assert "Version 2" in listed[0]["texts"]["en"]
    assert "第 2 版" in listed[0]["texts"]["zh"]


async def test_a_letter_that_two_relays_read_is_announced_once(tmp_path: Path, any_store: dict[str, Any]) -> None:
    async with relay_in_process(tmp_path / "relay", **any_store) as relay:
        identity, other = Identity.open(tmp_path / "relay"), tmp_path / "beside" / "relay.db"
        one, two = (Bulletin(relay.store, identity, MovedClock()) for _ in range(2))
        for text in ("first", "second"):
            announcements.leave(other, Announcement(Kind.INCIDENT, {"en": text}))
        found = letters.find(other, "announcement")
        await asyncio.gather(*(announcements.collect(other, each) for each in (one, two)))
        assert letters.find(other, "announcement") == []
        for path, data in found:  # a crash before a letter was removed
            path.write_bytes(data)
        await announcements.collect(other, two)
        _, listed = await one.read(ANNOUNCEMENTS)
        assert [each["texts"]["en"] for each in listed] == ["first", "second"]


async def test_workers_announce_each_letter_once(tmp_path: Path, redis_url: str) -> None:
    url = f"{redis_url}?prefix=test-{os.urandom(8).hex()}"
    store = tmp_path / "relay.db"
    texts = {f"letter {number}" for number in range(10)}
    command = (sys.executable, "-m", "restante_server")
    process = await asyncio.create_subprocess_exec(
        *(*command, "serve", "--listen=127.0.0.1:0", "--workers=2", f"--store={url}", f"--state={tmp_path}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT):
        ready = await process.stdout.readline()
    for text in texts:
        announcements.leave(store, Announcement(Kind.SERVICE, {"en": text}))
    async with Client.open(tmp_path / "a.db", relay=ready.split()[1].decode(), passphrase="p") as client:

        async def published() -> bool:
            return len(await client.announcements()) == len(texts) and not letters.find(store, "announcement")

        await until(published)
        found = [each.text() for each in await client.announcements()]
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(TIMEOUT):
        await process.communicate()
    assert (len(found), set(found)) == (len(texts), texts)


@pytest.mark.parametrize("text", ["", "x" * 4097])
def test_texts_have_a_length(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="1 to 4096 bytes"):
        announcements.leave(tmp_path / "relay.db", Announcement(Kind.SERVICE, {"en": text}))
    assert list(tmp_path.iterdir()) == []
    result = CliRunner().invoke(cli, ["announce", "service", text, "--store", f"sqlite:{tmp_path / 'relay.db'}"])
    assert result.exit_code == 2


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = CliRunner().invoke(
        cli, ["announce", "service", "text", "--store", f"sqlite:{tmp_path / 'file' / 'relay.db'}"]
    )
    assert result.exit_code == 1
