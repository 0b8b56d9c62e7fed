"""Push as an application sees it: a device that sleeps is woken, and its push service learns nothing else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from restante import Client, ConsentNeeded, PurposeChanged, PushLost, Refused, RelayError, manage
from restante_protocol.errors import Code
from restante_server.config import PushPace
from restante_server.processors import WakeUp
from support.people import people, together
from support.push_service import PushService, decoded, push_service, verified
from support.relay import relay_in_process

SOON = PushPace(0.0, 0.0, 0)


def settings(service: PushService, **others: Any) -> dict[str, Any]:  # noqa: ANN401 -- of a relay
    return {
        "purposes": ("push",),
        "processors": (service.declaration,),
        "push_private": True,
        "push_pace": SOON,
        "operator_contact": "post@example.org",
        **others,
    }


async def test_a_sleeping_device_is_woken_and_the_service_learns_nothing_else(
    tmp_path: Path, any_store: dict[str, Any]
) -> None:
    async with (
        push_service() as service,
        relay_in_process(tmp_path / "relay", **settings(service), **any_store) as relay,
        people(tmp_path, relay.url, "alice") as (alice,),
    ):
        async with people(tmp_path, relay.url, "bob") as (bob,):
            room, _ = await together(alice, bob)
            await bob.client.consent("push")
            await bob.client.set_push(service.endpoint("bob"))
            assert await bob.client.push() == service.endpoint("bob")
            key = await bob.client.push_key()
            mailbox = bob.client._engine.mailbox
            await room.send("while bob is here")
            await bob.reads("while bob is here")
        await room.send("while bob is away")
        (push,) = await service.until(1)
        assert (push.method, push.path, push.body) == ("POST", "/wake/bob", b"")
        header = dict(push.headers)
        _, claims, signer = verified(header.pop("Authorization"))
        assert signer == decoded(key)
        assert claims.keys() == {"aud", "exp", "sub"}
        assert (claims["aud"], claims["sub"]) == (service.origin, "mailto:post@example.org")
        assert header == {
            "Host": service.host,
            "TTL": WakeUp.__dataclass_fields__["ttl"].default,
            "Topic": "waiting",
            "Urgency": "normal",
            "Content-Length": "0",
        }
        told = repr(push) + repr(claims)
        for secret in (mailbox.hex(), alice.client.account_id, room.id, "while bob is away"):
            assert secret not in told
        async with people(tmp_path, relay.url, "bob") as (bob,):
            await bob.reads("while bob is away")


async def test_without_consent_nothing_leaves_the_device(tmp_path: Path) -> None:
    async with (
        push_service() as service,
        relay_in_process(tmp_path / "relay", **settings(service)) as relay,
        people(tmp_path, relay.url, "alice") as (alice,),
    ):
        with pytest.raises(ConsentNeeded, match="push"):
            await alice.client.set_push(service.endpoint("alice"))
        assert await alice.client.push() is None
        await alice.client.clear_push()


class Lost:
    """Counts a client's PushLost, and names its PurposeChanged."""

    def __init__(self, client: Client) -> None:
        self.lost = 0
        self.changed: list[str] = []
        client.on(PushLost)(self._lose)
        client.on(PurposeChanged)(lambda event: self.changed.append(event.purpose))

    def _lose(self, _event: PushLost) -> None:
        self.lost += 1


async def own(client: Client) -> str | None:
    """What the client's file says."""
    stored = await client._driver.run(client._engine.push.own)
    return stored.endpoint if stored is not None else None


async def test_an_endpoint_that_is_gone_is_told_once(tmp_path: Path) -> None:
    async with (
        push_service() as service,
        relay_in_process(tmp_path / "relay", **settings(service)) as relay,
        people(tmp_path, relay.url, "alice") as (alice,),
    ):
        async with people(tmp_path, relay.url, "bob") as (bob,):
            room, _ = await together(alice, bob)
            await bob.client.consent("push")
            await bob.client.set_push(service.endpoint("bob"))
        service.answers = [410]
        await room.send("nobody is woken")
        await service.until(1)
        await relay.push.finish(20)
        async with Client.open(tmp_path / "bob.db", relay=relay.url, passphrase="passphrase of bob") as client:
            read = Lost(client)
            assert await client.push() is None
            assert await client.push() is None
            while not read.lost:
                await client.drained()
            assert (await own(client), read.lost) == (None, 1)


async def test_only_services_of_the_policy_are_taken(tmp_path: Path) -> None:
    async with (
        push_service() as service,
        relay_in_process(tmp_path / "relay", **settings(service)) as relay,
        people(tmp_path, relay.url, "alice") as (alice,),
    ):
        await alice.client.consent("push")
        for endpoint, code in (("https://elsewhere.net/a", Code.NOT_FOUND), ("elsewhere", Code.LIMIT)):
            with pytest.raises(Refused) as caught:
                await alice.client.set_push(endpoint)
            assert caught.value.code == code
        assert await alice.client.push() is None


async def test_withdrawing_erases_it_everywhere_and_it_does_not_come_back(tmp_path: Path) -> None:
    async with (
        push_service() as service,
        relay_in_process(tmp_path / "relay", **settings(service)) as relay,
        people(tmp_path, relay.url, "alice") as (alice,),
    ):
        client = alice.client
        await client.consent("push")
        await client.set_push(service.endpoint("alice"))
        await client.withdraw("push")
        assert await own(client) is None
        await client.consent("push")
        assert await client.push() is None
        await client.set_push(service.endpoint("again"))
        await client.clear_push()
        assert (await client.push(), await own(client)) == (None, None)
        assert (await client.export_data()).document["held"]["push"] == []


async def test_a_relay_that_lost_its_store_is_told_again(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with push_service() as service:
        async with (
            relay_in_process(folder, **settings(service)) as relay,
            people(tmp_path, relay.url, "alice") as (alice,),
        ):
            await alice.client.consent("push")
            await alice.client.set_push(service.endpoint("alice"))
        for path in folder.glob("relay.db*"):
            if path.is_file():
                path.unlink()
        async with (
            relay_in_process(folder, **settings(service)) as relay,
            people(tmp_path, relay.url, "alice") as (alice,),
        ):
            await alice.client._driver.chores.settled()
            assert await alice.client.push() == service.endpoint("alice")


async def test_where_it_is_not_offered_any_more_it_ends(tmp_path: Path) -> None:
    """The purpose's change is told; that the endpoint went with it needs no words of its own."""
    async with push_service() as service:
        async with (
            relay_in_process(tmp_path / "relay", **settings(service)) as relay,
            people(tmp_path, relay.url, "alice") as (alice,),
        ):
            await alice.client.consent("push")
            await alice.client.set_push(service.endpoint("alice"))
        async with (
            relay_in_process(tmp_path / "relay", purposes=("news",)) as relay,
            Client.open(tmp_path / "alice.db", relay=relay.url, passphrase="passphrase of alice") as client,
        ):
            read = Lost(client)
            with pytest.raises(RelayError, match="does not wake"):
                await client.push_key()
            await client.purposes()
            while not read.changed:
                await client.drained()
            await client._driver.chores.settled()
            assert (read.changed, read.lost, await own(client)) == (["push"], 0, None)


async def test_a_service_that_is_not_declared_any_more_is_told(tmp_path: Path) -> None:
    """The endpoint is put again each day, and refused then; what the relay cannot take now it is told later."""
    folder = tmp_path / "relay"
    async with push_service() as service, push_service() as other:
        chosen = settings(service)
        chosen["processors"] = (f"{service.declaration} {other.host}",)
        async with (
            relay_in_process(folder, **chosen) as relay,
            Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
        ):
            read = Lost(client)
            await client.consent("push")
            await client.set_push(other.endpoint("alice"))
            full = Refused(Code.FULL, "")
            with pytest.MonkeyPatch.context() as patch:

                async def refused(*_: object) -> None:
                    raise full

                patch.setattr(client._driver, "ask_as_owner", refused)
                assert await client.push() == other.endpoint("alice")
            assert await client.push() == other.endpoint("alice")
        chosen["processors"] = (service.declaration,)
        async with (
            relay_in_process(folder, **chosen) as relay,
            Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client,
        ):
            read = Lost(client)
            assert await client.push() is None
            while not read.lost:
                await client.drained()


async def test_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    async with push_service() as service, relay_in_process(tmp_path / "relay", **settings(service)) as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            await client.consent("push")
            key = await client.push_key()

        async def run(*arguments: str) -> str:
            whole = ["push", str(tmp_path / "a.db"), "--relay", relay.url, *arguments]
            status = await asyncio.to_thread(manage.main, whole)
            out, error = capsys.readouterr()
            return out if status == 0 else error

        assert await run() == f"no endpoint\nkey {key}\n"
        assert service.endpoint("a") in await run("--set", service.endpoint("a"))
        assert "no endpoint" in await run("--clear")
        assert "restante: " in await run("--set", "https://elsewhere.net/")
