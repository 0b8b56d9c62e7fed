"""Every field that a person gave can be changed, by the SDK and by command: then only the new one is held."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from restante import Client, Export, manage
from restante_server import inventory
from restante_server.inventory import Kind
from support import disk
from support.directories import NUMBERS, OFFERED, Phones
from support.relay import relay_in_process

OFFER: dict[str, Any] = {**OFFERED, "purposes": ("handle", "number", "push")}
ENDPOINTS = [f"https://push.example.net/{name}" for name in "abc"]
FIELDS = [field for fields in inventory.GIVEN.values() for field in fields]


@dataclass(frozen=True)
class Field:
    """How one is given, shown and found: values in turn, its kind in an export, the SDK's calls, the command."""

    values: list[str]
    kind: str
    give: Callable[[Client, str, Phones], Awaitable[None]]
    shown: Callable[[Client], Awaitable[str | None]]
    command: Callable[[str], list[list[str]]]


async def _verify(client: Client, number: str, phones: Phones) -> None:
    await client.verify_number(number)
    await client.confirm_number(number, phones.code(number))


async def _nickname(client: Client) -> str | None:
    own = await client.profile(client.account_id)
    return own.nickname if own is not None else None


async def _avatar(client: Client) -> str | None:
    own = await client.profile(client.account_id)
    return own.avatar.decode() if own is not None else None


async def _decide(client: Client, value: str, _: Phones) -> None:
    await (client.consent if value == "yes" else client.withdraw)("push")


async def _decided(client: Client) -> str:
    return next("yes" if each.granted else "no" for each in await client.purposes() if each.name == "push")


HOW = {
    "nickname": Field(
        ["Ann", "Anne", "Anna"],
        "slot",
        lambda client, value, _: client.set_profile(value),
        _nickname,
        lambda value: [["profile", "--nickname", value]],
    ),
    "avatar": Field(
        ["one", "two", "three"],
        "slot",
        lambda client, value, _: client.set_profile("", value.encode()),
        _avatar,
        lambda value: [["profile", "--avatar", value]],
    ),
    "consent": Field(
        ["yes", "no", "yes"],
        "consent",
        _decide,
        _decided,
        lambda value: [["consent", "--grant" if value == "yes" else "--withdraw", "push"]],
    ),
    "endpoint": Field(
        ENDPOINTS,
        "push",
        lambda client, value, _: client.set_push(value),
        lambda client: client.push(),
        lambda value: [["push", "--set", value]],
    ),
    "handle": Field(
        ["ann", "anne", "anna"],
        "handle",
        lambda client, value, _: client.set_handle(value),
        lambda client: client.handle(),
        lambda value: [["handle", "--set", value]],
    ),
    "number": Field(
        NUMBERS[:3],
        "number",
        _verify,
        lambda client: client.number(),
        lambda value: [["number", "--verify", value], ["number", "--confirm", value]],
    ),
}


def held(export: Export, kind: str) -> list[tuple[Any, bytes]]:
    """What the relay holds of it: the row, and the sealed bytes in it."""
    rows = [
        row
        for row in export.document["held"][kind]
        if row.get("kind") != "invite" and row.get("purpose", "push") == "push"
    ]
    sealed = [[export.files[each["file"]] for each in row.values() if isinstance(each, dict)] for row in rows]
    return [(row, b"".join(files)) for row, files in zip(rows, sealed, strict=True)]


def test_there_is_a_way_for_each() -> None:
    assert set(HOW) == set(FIELDS)
    assert set(inventory.GIVEN) <= inventory.names(Kind.SLOT)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("name", FIELDS)
async def test_every_field_can_be_changed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phones: Phones
) -> None:
    field, folder, file = HOW[name], tmp_path / "relay", tmp_path / "a.db"
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    monkeypatch.chdir(tmp_path)
    await asyncio.to_thread((tmp_path / field.values[2]).write_text, "three") if name == "avatar" else None
    before: list[tuple[Any, bytes]] = []
    async with relay_in_process(folder, **OFFER) as relay:
        for turn, value in enumerate(field.values):
            if turn == 2:
                for command, *arguments in field.command(value):
                    code = [phones.code(value)] if "--confirm" in arguments else []
                    whole = [command, str(file), "--relay", relay.url, *arguments, *code]
                    assert await asyncio.to_thread(manage.main, whole) == 0
            async with Client.open(file, relay=relay.url, passphrase="p") as client:
                if turn == 0:
                    for purpose in OFFER["purposes"]:
                        await client.consent(purpose)
                if turn < 2:
                    await field.give(client, value, phones)
                assert await field.shown(client) == value
                now = held(await client.export_data(), field.kind)
            assert len(now) == (value != "no")
            assert now != before
            stored = list(disk.slots(folder).values())
            for _, sealed in now:
                assert any(sealed in body for body in stored)
            for _, sealed in before:
                assert not sealed or not any(sealed in body for body in stored)
            before = now
