"""What a person takes home of a relay's store, and what they erase."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from restante import Client, Closed, Erasure, RelayError, handshakes, manage, yourdata
from restante.blobs import digest_of
from restante.yourdata import schema
from restante_server import disclosures, inventory
from restante_server.grounds import Ground
from restante_server.services.disclosure import Request, new_id
from support import disk
from support.directories import NUMBERS, OFFERED, Phones
from support.mortal import mortal_relay
from support.people import Reader, people, person, settled, together
from support.relay import relay_in_process


def check(document: Mapping[str, Any]) -> dict[str, Any]:
    """Hold an export against its schema; return what is held."""
    Draft202012Validator(schema()).validate(document)
    held: dict[str, Any] = document["held"]
    return held


def described() -> dict[str, set[str]]:
    """The fields of each kind that the schema describes."""
    kinds = schema()["properties"]["held"]["properties"]
    return {kind: set(each["items"]["properties"]) for kind, each in kinds.items()}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Commit and tree is too large for a body, and becomes a blob."""
    monkeypatch.setattr(handshakes, "COMMIT_INLINE_BYTES", 0)
    monkeypatch.setattr(handshakes, "TREE_INLINE_BYTES", 0)


async def use_everything(alice: Reader, bob: Reader, phones: Phones, folder: Path) -> None:
    """Have the relay hold something of every kind of alice; then she takes nothing more."""
    client = alice.client
    rooms = await together(alice, bob)
    await rooms[0].update_keys()
    await settled(rooms, [alice, bob])
    await client.set_profile("Alice", b"picture")
    for purpose in ("handle", "number", "push"):
        await client.consent(purpose)
    await client.set_handle("alice")
    await client.set_push("https://push.example.net/alice")
    await client.verify_number(NUMBERS[0])
    await client.confirm_number(NUMBERS[0], phones.code(NUMBERS[0]))
    await bob.client.consent("number")
    await client.find_numbers([NUMBERS[1]])
    request = Request(new_id(), Ground.CONSENT, client._engine.mailbox, ("mailbox.id",), "Somebody", "asked for")
    await asyncio.to_thread(disclosures.leave, folder / "relay.db", request)
    await alice.until(lambda: bool(alice.disclosed))
    await client.drained()
    client._driver._owner = None
    await rooms[1].send("waits")


@pytest.mark.usefixtures("cheap", "large", "willing")
async def test_the_export_is_what_its_schema_describes(
    tmp_path: Path, any_store: dict[str, Any], phones: Phones
) -> None:
    folder = tmp_path / "relay"
    offered = {**OFFERED, "purposes": ("handle", "number", "push")}
    async with (
        relay_in_process(folder, **offered, **any_store) as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        await use_everything(alice, bob, phones, folder)
        export = await alice.client.export_data()
        held = check(export.document)
        told = {kind: {name for row in rows for name in row} for kind, rows in held.items()}
        if any_store:
            required = schema()["properties"]["held"]["properties"]
            assert all(set(required[kind]["items"]["required"]) <= told[kind] <= described()[kind] for kind in told)
        else:
            assert told == described(), "each field that is described is there"
        (disclosed,) = held["disclosure"]
        entry = json.loads(disclosed["entry"])
        assert (entry["to"], entry["fields"]) == ("Somebody", ["mailbox.id"])
        (same,) = await alice.client.disclosures()
        assert (same.to, same.fields, same.number) == ("Somebody", ("mailbox.id",), 1)
        counted = await alice.client.transparency()
        assert counted is not None
        assert (counted.count, counted.grounds) == (1, {"consent": 1})
        assert {each["kind"] for each in held["slot"]} == {"invite", "profile"}
        assert {each["purpose"] for each in held["consent"]} == {"handle", "number", "push"}
        await carol.client.drained()
        empty = check((await carol.client.export_data()).document)
        assert [kind for kind, rows in empty.items() if not rows] == [
            *("payload", "slot", "blob", "consent", "handle", "number", "push", "disclosure")
        ]
        await asyncio.to_thread(export.write, tmp_path / "mine")
    mine = tmp_path / "mine"
    assert json.loads((mine / "export.json").read_text()) == export.document
    assert json.loads((mine / "export.schema.json").read_text()) == schema()
    named = {each["file"] for rows in held.values() for row in rows for each in row.values() if isinstance(each, dict)}
    assert {path.name for path in mine.iterdir()} == {"export.json", "export.schema.json", *named}
    for blob in held["blob"]:
        body = (mine / blob["body"]["file"]).read_bytes()
        assert (len(body), digest_of(body).hex()) == (blob["size"], blob["digest"])


def test_what_the_inventory_says_is_exported_is_described_and_nothing_else() -> None:
    names = {f"{kind}.{field}" for kind, fields in described().items() for field in fields}
    exported = {item.exported for item in inventory.ITEMS if item.exported}
    assert exported <= names | set(described())
    missing = {name for name in names if name not in exported and name.partition(".")[0] not in exported}
    assert missing == {"blob.size"}, "which no column has"


def test_every_field_is_described_and_no_other_is_taken() -> None:
    def objects(node: object) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield node
            for each in node.values():
                yield from objects(each)
        elif isinstance(node, list):
            for each in node:
                yield from objects(each)

    Draft202012Validator.check_schema(schema())
    for node in objects(schema()):
        assert node["additionalProperties"] is False
        assert all(each["description"].endswith(".") for each in node["properties"].values())


@pytest.mark.parametrize("changed", [{"format": 2}, {"more": 1}, {"relay_key": "00"}, {"held": {}}])
async def test_what_is_no_export_is_noticed(tmp_path: Path, changed: dict[str, Any]) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        document = (await alice.client.export_data()).document
    check(document)
    with pytest.raises(ValidationError):
        check({**document, **changed})


def test_a_relay_cannot_name_files() -> None:
    with pytest.raises(RelayError, match="without a name"):
        yourdata._Document().put("../../home", b"", "body", b"anything")


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
        ids = {bytes.fromhex(each["id"]) for each in held["address"]}
        assert ids < disk.addresses(folder), "hers, not his"
        assert len(ids) == mailbox["addresses"]
        packages = disk.packages(folder)
        told = {export.files[each["package"]["file"]] for each in held["prekey"]}
        assert told
        assert told < packages
        slots = {bytes.fromhex(each["id"]) for each in held["slot"]}
        assert slots <= set(disk.slots(folder))
        assert len(slots) == 1


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
            assert len(traces) > 30
            there = disk.files(*disk.places(folder)).values()
            assert any(each in data for each in traces for data in there), "the search finds"
            erasure = await alice.client.erase()
            assert erasure.verify()
            assert not Erasure(bytes(24), erasure.erased_at, erasure.relay_key, erasure.signature).verify()
            assert erasure.mailbox == alice.client._engine.mailbox
            disk.back_up(folder, tmp_path / "later")
            for name, data in disk.files(*disk.places(folder), tmp_path / "later").items():
                assert not [each for each in traces if each in data], name
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


async def test_a_relay_that_is_away_erases_when_it_is_back(tmp_path: Path) -> None:
    async with mortal_relay(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        await alice.client.invite()
        await relay.stop()
        erasing = asyncio.ensure_future(alice.client.erase())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(erasing), 0.1)
        await relay.start()
        assert (await erasing).verify()


async def test_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
