"""Commits on their way, through the public API and a real relay."""

import asyncio
from pathlib import Path

from support.people import people, settled, together
from support.relay import relay_in_process


async def test_ten_members_commit_at_the_same_time(tmp_path: Path) -> None:
    names = [f"member{number}" for number in range(10)]
    async with relay_in_process(tmp_path / "relay") as relay, people(tmp_path, relay.url, *names, "guest") as readers:
        *members, guest = readers
        rooms = await together(*members)
        for _ in range(3):
            healing = [room.update_keys() for room in rooms[2:]]
            await asyncio.gather(rooms[1].add(await guest.client.invite()), *healing)
            await guest.room()
            await settled(rooms, members)
            healing = [room.update_keys() for room in rooms[1:]]
            await asyncio.gather(rooms[0].remove(guest.client.account_id), *healing)
            await settled(rooms, members)
        assert all(len(room.members) == 10 for room in rooms)
        assert all(reader.alarms == [] for reader in readers)
