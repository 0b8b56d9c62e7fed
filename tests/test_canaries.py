"""Nothing of what people say is anywhere on the relay's side: files, backups, logs, metrics.

The table in docs/threats.md says what the operator can and cannot see; this goes through a whole scenario and looks.
"""

from pathlib import Path

import aiohttp

from restante import Conversation
from restante.account import account_key
from support.mortal import mortal_relay
from support.people import Reader, people, settled, together

TITLE = "Canary title 5f2c"
TEXTS = [f"canary text {number} 9e1b" for number in range(20)]


async def scenario(readers: list[Reader]) -> list[Conversation]:
    alice, bob, carol, dave = readers
    rooms = await together(alice, bob, carol, title=TITLE)
    for number, text in enumerate(TEXTS):
        await rooms[number % 3].send(text)
    await rooms[0].update_keys()
    await rooms[0].add(await dave.client.invite())
    rooms.append(await dave.room())
    await rooms[0].remove(bob.client.account_id)
    await rooms[2].leave()
    await settled([rooms[0], rooms[3]], [alice, dave])
    return rooms


async def test_no_canary_on_the_relays_side(tmp_path: Path) -> None:
    folder = tmp_path / "relay"
    async with (
        mortal_relay(folder, "--ops-listen", "127.0.0.1:0") as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol", "dave") as readers,
    ):
        rooms = await scenario(readers)
        readers[3].client.conversations()
        await rooms[0].send("canary text that waits 9e1b")
        contents = await relay.everything(tmp_path / "backup")
        accounts = [reader.client.account_id for reader in readers]
        needles = [
            *(text.encode() for text in [*TEXTS, TITLE, "canary", "9e1b"]),
            *(account.encode() for account in accounts),
            *(account_key(account) for account in accounts),
            *(account_key(account).hex().encode() for account in accounts),
            *(room.id.encode() for room in rooms),
            *(bytes.fromhex(room.id) for room in rooms),
        ]
        assert sum(map(len, contents.values())) > 100_000
        for name, content in contents.items():
            for needle in needles:
                assert needle not in content, (name, needle)
        logged = contents[relay.log.as_posix()]
        assert b"127.0.0.1" not in logged
        assert b"::1" not in logged


async def test_no_canary_in_the_metrics(tmp_path: Path) -> None:
    from support.relay import relay_in_process  # noqa: PLC0415 -- beside the other kind of relay

    async with (
        relay_in_process(tmp_path / "relay", ops_listen=("127.0.0.1", 0)) as relay,
        people(tmp_path, relay.url, "alice", "bob", "carol", "dave") as readers,
        aiohttp.ClientSession() as session,
    ):
        await scenario(readers)
        async with session.get(relay.ops_url + "/metrics") as response:
            shown = await response.text()
        assert "restante_" in shown
        for needle in ("canary", "127.0.0.1", *(reader.client.account_id for reader in readers)):
            assert needle not in shown
