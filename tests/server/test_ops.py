import asyncio
import re
from pathlib import Path

import aiohttp

from restante_protocol.errors import Code
from restante_server.app import Relay
from support.relay import Owner, Peer, relay_in_process


async def _get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_health_and_readiness(relay: Relay) -> None:
    assert await _get(relay.ops_url + "/healthz") == (200, "ok\n")
    assert await _get(relay.ops_url + "/readyz") == (200, "ready level=power\n")


async def test_not_ready_once_the_store_has_failed(relay: Relay) -> None:
    relay.store.failed.set()
    assert (await _get(relay.ops_url + "/readyz"))[0] == 503
    assert (await _get(relay.ops_url + "/healthz"))[0] == 200


async def test_metrics_count(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        await sender.deposit([address, bytes(24)])
        await receiver.next()
        await receiver.entries(1)
        _, text = await _get(relay.ops_url + "/metrics")
        for line in (
            'restante_connections{role="sender"} 1.0',
            'restante_connections{role="receiver"} 1.0',
            'restante_requests_total{kind="Deposit"} 1.0',
            "restante_deposits_total 1.0",
            "restante_entries_committed_total 1.0",
            "restante_deposit_seconds_count 1.0",
            'restante_refusals_total{code="no_mailbox"} 1.0',
        ):
            assert line in text.splitlines()
    while 'restante_connections{role="sender"} 0.0' not in (await _get(relay.ops_url + "/metrics"))[1]:
        pass


async def test_metrics_name_nobody(relay: Relay) -> None:
    owner = Owner()
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await sender.deposit([address, bytes(24)])
        await sender.deposit(9)
        _, text = await _get(relay.ops_url + "/metrics")
    for secret in (owner.mailbox, owner.key, address):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
    assert "127.0.0.1" not in text
    labels = set(re.findall(r"(\w+)=\"", text))
    assert labels == {"role", "kind", "code", "outcome", "le"}


async def test_every_metric_of_the_manual_exists(relay: Relay) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    named = set(re.findall(r"\b(?:restante|process)_[a-z_]+\b", manual))
    shown = {sample.name for family in relay.metrics.registry.collect() for sample in family.samples}
    assert len(named) > 8
    assert named - shown == set()
    for code in re.findall(r'code="(\w+)"', manual):
        assert Code[code.upper()]


async def test_the_upkeep_measures(relay: Relay) -> None:
    while not relay.metrics.disk_free._value.get():
        await asyncio.sleep(0)
    assert relay.metrics.blobs._value.get() == 0


async def test_off_by_default(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        assert relay.ops_url == ""
