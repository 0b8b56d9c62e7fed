import json
from pathlib import Path

import pytest

from restante import Client, Closed, Erasure, manage
from restante_server import inventory
from restante_server.stores import backup as backups
from support import observed
from support.people import people, person, together
from support.relay import relay_in_process


@pytest.mark.database_file
async def test_the_export_holds_all_that_the_relay_holds(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with (
        relay_in_process(folder) as relay,
        people(tmp_path, relay.url, "alice", "bob") as (alice, bob),
    ):
        await together(alice, bob)
        await alice.client.invite()
        await alice.client.drained()
        export = await alice.client.export_data()
        held = export.document["held"]
        (mailbox,) = held["mailbox"]
        assert mailbox["id"] == alice.client._engine.mailbox.hex()
        database = folder / "relay.db"
        ids = {bytes.fromhex(each["id"]) for each in held["address"]}
        assert ids < set(observed.values(database, "address", "id")), "hers, not his"
        assert len(ids) == mailbox["addresses"]
        packages = set(observed.values(database, "prekey", "package"))
        told = {export.files[each["package"]["file"]] for each in held["prekey"]}
        assert told
        assert told < packages
        slots = {bytes.fromhex(each["id"]) for each in held["slot"]}
        assert slots <= set(observed.values(database, "slot", "id"))
        assert len(slots) == 1
        declared = {item.name for item in inventory.ITEMS if item.exported and not item.name.startswith("payload.")}
        names = {f"{kind}.{name}" for kind, rows in held.items() for row in rows for name in row}
        assert declared - names == set()
        export.write(tmp_path / "mine")
        assert json.loads((tmp_path / "mine" / "export.json").read_text()) == export.document
        assert {path.name for path in (tmp_path / "mine").iterdir()} == {"export.json", *export.files}


@pytest.mark.database_file
async def test_erased_is_nowhere_and_never_again(tmp_path: Path) -> None:
    """Acceptance line 3: the database, its log, the logs and later backups, searched."""
    folder = tmp_path / "relay"
    async with relay_in_process(folder) as relay:
        async with people(tmp_path, relay.url, "alice", "bob") as (alice, bob):
            room, _ = await together(alice, bob)
            await room.send("kept by bob")
            await bob.reads("kept by bob")
            invite = await alice.client.invite()
            await alice.client.drained()
            export = await alice.client.export_data()
            held = export.document["held"]
            traces = list(export.files.values()) + [
                bytes.fromhex(value)
                for kind, rows in held.items()
                if kind != "payload"
                for row in rows
                for name, value in row.items()
                if isinstance(value, str) and len(value) >= 32 and (kind, name) != ("mailbox", "epoch")
            ]
            assert len(traces) > 100
            assert any(each in (folder / "relay.db").read_bytes() + _wal(folder) for each in traces)
            erasure = await alice.client.erase()
            assert erasure.verify()
            assert not Erasure(bytes(24), erasure.erased_at, erasure.relay_key, erasure.signature).verify()
            assert erasure.mailbox == alice.client._engine.mailbox
            backups.backup(folder / "relay.db", tmp_path / "later")
            for file in (*folder.rglob("*"), *(tmp_path / "later").rglob("*")):
                if file.is_file():
                    data = file.read_bytes()
                    assert not [each for each in traces if each in data], file.name
            with pytest.raises(Closed, match="erased"):
                await alice.client.invite()
        async with person(tmp_path, "alice", relay.url) as alice:
            with pytest.raises(Closed, match="erased"):
                await alice.client.export_data()
            assert (await alice.client.erase()).verify(), "again, after an interruption"
        async with person(tmp_path, "carol", relay.url) as carol:
            with pytest.raises(Exception, match="revoked"):
                await carol.client.start_conversation([invite])
        assert (await relay.store.totals()).mailboxes == 2, "bob and carol"


def _wal(folder: Path) -> bytes:
    path = folder / "relay.db-wal"
    return path.read_bytes() if path.exists() else b""


async def test_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio  # noqa: PLC0415 -- the command runs a loop of its own, in a thread

    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    async with relay_in_process(tmp_path / "relay") as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            await client.invite()

        async def run(*arguments: str) -> int:
            command = [*arguments, "--relay", relay.url]
            return await asyncio.to_thread(manage.main, command)

        file = str(tmp_path / "a.db")
        assert await run("export", file, str(tmp_path / "mine")) == 0
        assert (tmp_path / "mine" / "export.json").exists()
        assert await run("export", file, str(tmp_path / "mine")) == 1, "the folder exists"
        assert await run("erase", file) == 0
        assert "receipt" in capsys.readouterr().out
        assert await run("export", file, str(tmp_path / "again")) == 1
        for wrong in (["erase", file, str(tmp_path)], ["export", file], ["erase", str(tmp_path / "none.db")]):
            with pytest.raises(SystemExit):
                await run(*wrong)
