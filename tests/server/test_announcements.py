from pathlib import Path

import pytest
from typer.testing import CliRunner

from restante_server import announcements, letters
from restante_server.__main__ import cli
from restante_server.announcements import Announcement, Kind
from restante_server.identity import Identity
from restante_server.services.bulletin import ANNOUNCEMENTS, Bulletin
from support.relay import relay_in_process
from support.stores import MovedClock


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
