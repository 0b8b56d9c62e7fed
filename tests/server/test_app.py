import asyncio
import base64
import json
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.app import serve
from restante_server.config import Settings
from restante_server.stores.contract import StoreRefused
from support.push_service import push_service, wake_at
from support.relay import HOUR, PATH, Owner, Peer, RelayProcess, relay_in_process, relay_process


@pytest.mark.parametrize(
    "command", [(sys.executable, "-m", "restante_server"), (str(Path(sys.executable).parent / "restante"),)]
)
async def test_ready_line_and_orderly_end(tmp_path: Path, command: tuple[str, ...]) -> None:
    relay = await RelayProcess.start(tmp_path / "made", command=command)
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+ level=power\n", relay.ready)
    async with await Peer.connect(relay.url) as peer:
        assert (await peer.deposit([bytes(24)])).failed == [(0, Code.GONE)]
    assert await relay.stop() == 0
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_signals_let_everything_received_be_answered(tmp_path: Path, name: signal.Signals) -> None:
    owner = Owner()
    relay = await RelayProcess.start(tmp_path)
    receiver = await Peer.own(relay.url, owner)
    address = await receiver.add_address(owner.address())
    await receiver.close()
    async with await Peer.connect(relay.url) as sender:
        build = lambda n: frames.Deposit(n, os.urandom(16), [address], bytes(1000), HOUR, None, 0)  # noqa: E731
        numbers = [await sender.send(build) for _ in range(200)]
        await sender.answer(numbers[0])
        ending = asyncio.ensure_future(relay.stop(name))
        for number in numbers[1:]:
            assert await sender.answer(number) == frames.Deposited(number, [])
        assert await sender.receive() == frames.Error(0, Code.GOING_AWAY, "shutting down")
        assert await sender.receive() == 1001
        assert await ending == 0
    async with relay_process(tmp_path) as again, await Peer.own(again.url, owner) as receiver:
        assert (await receiver.ask(frames.Status)).entries == 200


async def test_values_with_spaces_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["hosting=Example Hosting;Iceland;agreement of 2026-01-01", "sms=Example Telephony;Iceland;the same"]
    monkeypatch.setenv("RESTANTE_PROCESSOR", json.dumps(declared))
    monkeypatch.setenv("RESTANTE_OFFICIAL_INVITE", "Support and more=restante:AA")
    async with relay_process(tmp_path) as relay, aiohttp.ClientSession() as session:
        async with session.get(f"{relay.url}/privacy.txt") as answer:
            text = await answer.text()
        assert all(name in text for name in ("Example Hosting", "agreement of 2026-01-01", "Example Telephony"))
        async with session.get(f"{relay.url}/.well-known/restante") as answer:
            assert (await answer.json())["official"] == [{"name": "Support and more", "invite": "restante:AA"}]
    monkeypatch.setenv("RESTANTE_PROCESSOR", "[hosting=Example Hosting;Iceland;agreement]")
    with pytest.raises(AssertionError, match="JSON array"):
        await RelayProcess.start(tmp_path)


async def test_what_waits_for_its_push_is_sent_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    async with push_service() as service:
        monkeypatch.setenv("RESTANTE_PROCESSOR", service.declaration)
        monkeypatch.setenv("RESTANTE_PUSH_PRIVATE", "true")
        async with relay_process(tmp_path, "--purposes=push") as relay:
            async with await Peer.own(relay.url, owner) as receiver:
                await wake_at(receiver, service, service.endpoint("device"))
                address = await receiver.add_address(owner.address())
            async with await Peer.connect(relay.url) as sender:
                await sender.deposit([address])
            assert await relay.stop() == 0
        assert [push.path for push in service.pushes] == ["/wake/device"]
        assert b"device" not in relay.stderr


async def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    owner = Owner()
    relay = await RelayProcess.start(tmp_path)
    receiver = await Peer.own(relay.url, owner)
    address = await receiver.add_address(owner.address())
    await receiver.ask(lambda n: frames.PrekeysPut(n, 3, 1, [b"one", b"two"], b"", False))
    subscribed = await receiver.subscribe()
    fence = os.urandom(32)
    async with await Peer.connect(relay.url) as sender:
        for number in range(20):
            assert (await sender.deposit([address], b"%d" % number)).failed == []
        assert (await sender.deposit([address], b"won", fence=fence)).failed == []
        claimed = await sender.ask(lambda n: frames.Claim(n, 3, [address]))
        assert claimed.prekeys[0].number == 1
        assert await relay.stop(signal.SIGKILL) == -signal.SIGKILL
    await receiver.close()
    async with (
        relay_process(tmp_path) as again,
        await Peer.own(again.url, owner) as receiver,
        await Peer.connect(again.url) as sender,
    ):
        assert (await receiver.subscribe(subscribed.incarnation)).incarnation == subscribed.incarnation
        bodies = [each.entry.body for each in await receiver.entries(21)]
        assert bodies == [*(b"%d" % number for number in range(20)), b"won"]
        assert (await sender.deposit([address], b"late", fence=fence)).code == Code.CONFLICT
        claimed = await sender.ask(lambda n: frames.Claim(n, 3, [address]))
        assert claimed.prekeys[0].number == 2


async def test_a_second_relay_on_the_same_store_is_refused(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path):
        with pytest.raises(StoreRefused, match="another process"):
            async with relay_in_process(tmp_path):
                pass


async def test_a_port_in_use_frees_the_store(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "one") as relay:
        port = int(relay.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            async with relay_in_process(tmp_path / "two", listen=("127.0.0.1", port)):
                pass
    async with relay_in_process(tmp_path / "two"):
        pass


async def test_ipv6(tmp_path: Path) -> None:
    try:
        async with relay_in_process(tmp_path, listen=("::1", 0)) as relay, await Peer.connect(relay.url) as peer:
            assert relay.url.startswith("http://[::1]:")
            assert peer.welcome.version == 1
    except OSError:
        pytest.skip("no IPv6 on this machine")


async def test_a_failed_store_ends_the_relay(tmp_path: Path) -> None:
    settings = Settings(("127.0.0.1", 0), tmp_path / "relay.db")
    assert await serve(settings, lambda relay: relay.store.failed.set()) == 1


def _spellings(value: bytes) -> list[bytes]:
    return [
        value,
        value.hex().encode(),
        base64.b64encode(value).rstrip(b"="),
        base64.urlsafe_b64encode(value).rstrip(b"="),
        base64.b32encode(value).rstrip(b"="),
        repr(value)[2:-1].encode(),
    ]


async def test_nothing_of_a_user_or_peer_is_in_logs_and_metrics(tmp_path: Path) -> None:
    owner = Owner()
    message_id, fence, body = os.urandom(16), os.urandom(32), os.urandom(40)
    relay = await RelayProcess.start(tmp_path)
    async with await Peer.own(relay.url, owner) as receiver, await Peer.connect(relay.url) as sender:
        address = await receiver.add_address(owner.address())
        await receiver.subscribe()
        await sender.deposit([address, bytes(24)], body, message_id=message_id, fence=fence)
        await sender.deposit([address], body, fence=fence)
        await sender.socket.send_bytes(b"\xc1")
        while not isinstance(await sender.receive(), int):
            pass
    async with aiohttp.ClientSession() as session, session.get(relay.url + PATH) as response:
        assert response.status == 400
    host, _, port = relay.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"NO REQUEST\r\n\r\n")  # aiohttp tells of it, with the peer's address
    assert b" 400 " in await reader.readline()
    writer.close()
    assert await relay.stop() == 0
    assert relay.stderr, "there is something to search"
    for secret in (owner.mailbox, owner.key, owner.nonce, address, message_id, fence, body):
        for spelling in _spellings(secret):
            assert spelling not in relay.stderr
    assert b"127.0.0.1" not in relay.stderr
    assert b"Traceback" not in relay.stderr
