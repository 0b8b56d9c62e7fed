"""Push as an application sees it: a device that sleeps is woken, and its push service learns nothing else."""

from pathlib import Path
from typing import Any

import pytest

from restante import ConsentNeeded
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
