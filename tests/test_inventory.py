"""The kinds of declarations that ``test_data`` does not take away: keys, slots, blobs, cookies, what goes to others."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest

from restante_server import inventory, processors
from restante_server.inventory import Kind
from restante_server.processors import Outgoing, Role, names_of
from restante_server.stores import blobs
from restante_server.stores.redis_scripts import KEYS
from support import observed
from support.public_pages import PAGES
from support.relay import relay_in_process

UNDECLARED = {
    Kind.KEY: "{b}:last-seen",
    Kind.SLOT: "address book",
    Kind.BLOB: "blob.uploader",
    Kind.COOKIE: "session",
    Kind.PUSH: "push.sender",
    Kind.SMS: "sms.contact",
}


def handed_on(role: Role) -> set[str]:
    """Return the fields of all that goes to a role's processor."""
    kinds = [each for each in vars(processors).values() if isinstance(each, type) and issubclass(each, Outgoing)]
    return {name for kind in kinds if kind is not Outgoing and kind.role == role for name in names_of(kind)}


@pytest.mark.parametrize("kind", UNDECLARED, ids=lambda kind: kind.name)
def test_what_is_undeclared_is_noticed_and_a_line_that_is_removed_is_missed(kind: Kind) -> None:
    names = set(inventory.names(kind))
    assert observed.unmatched({UNDECLARED[kind]}, names)[0] == {UNDECLARED[kind]}
    for gone in names:
        example = gone.replace("*", "1")
        assert observed.unmatched({example}, names)[0] == set()
        assert observed.unmatched({example}, names - {gone})[0] == {example}


def test_what_goes_to_others_is_declared_and_all_that_is_declared_goes() -> None:
    assert handed_on(Role.SMS) == inventory.names(Kind.SMS)
    assert handed_on(Role.PUSH) == inventory.names(Kind.PUSH)
    assert handed_on(Role.OBJECT_STORAGE) == inventory.names(Kind.BLOB) == {f"blob.{name}" for name in blobs.FIELDS}


def test_every_key_of_the_layout_is_declared() -> None:
    declared = {name.removeprefix("{b}:").removesuffix(":*") for name in inventory.names(Kind.KEY)}
    assert set(KEYS) <= declared


def test_another_field_for_others_would_be_noticed() -> None:
    @dataclass(frozen=True, slots=True, repr=False)
    class Louder(Outgoing):
        role: ClassVar[Role] = Role.PUSH
        thing: ClassVar[str] = "push"
        token: str
        sender: str

    assert names_of(Louder) - inventory.names(Kind.PUSH) == {"push.sender"}


async def test_nothing_sets_a_cookie(tmp_path: Path) -> None:
    """Every page in each form, what is not there, what is refused, and the handshake."""
    async with relay_in_process(tmp_path, operator_name="One"):
        pass
    found: set[str] = set()
    async with relay_in_process(tmp_path, operator_name="Two") as relay, aiohttp.ClientSession() as http:
        plain = {path.partition("?")[0] for path in PAGES}
        paths = [*PAGES, *(f"{path}{form}" for path in plain for form in (".txt", ".json"))]
        for path in [*paths, "/", "/nowhere", "/privacy/9", "/v1/socket", "/v1/blobs/" + "00" * 24, "/.well-known/x"]:
            for method in ("GET", "POST", "PUT", "DELETE"):
                async with http.request(method, relay.url + path, headers={"Cookie": "tracker=1"}) as response:
                    found |= set(response.cookies) | set(response.headers.getall("Set-Cookie", []))
        async with http.ws_connect(relay.url + "/v1/socket") as socket:
            found |= set(socket._response.cookies)
    assert found == set(inventory.names(Kind.COOKIE)), "each that is set is declared: there is none"
