"""Support and activities: the operator's people are reached like anybody else, and nobody else reads what they get."""

from pathlib import Path

from restante import Official
from support.mortal import mortal_relay
from support.people import people

COMPLAINT = "canary complaint 3c77"
ENTRY = "canary entry for the drawing 81af"


async def test_what_is_submitted_reaches_the_staffs_devices_and_nothing_else(tmp_path: Path) -> None:
    """Acceptance of "Support and activities": the relay's disk, backup and log are searched."""
    async with (
        mortal_relay(tmp_path / "relay") as relay,
        people(tmp_path, relay.url, "support", "activities", "person") as (support, activities, person),
    ):
        assert await person.client.official() == []
        invites = [await each.client.invite() for each in (support, activities)]
        await relay.stop()
        await relay.start(*(f"--official-invite={name}={each}" for name, each in zip("SA", invites, strict=True)))
        official = await person.client.official()
        assert official == [Official("S", invites[0]), Official("A", invites[1])]
        for each, staff, text in zip(official, (support, activities), (COMPLAINT, ENTRY), strict=True):
            room = await person.client.start_conversation(each.invite)
            answering = await staff.room()
            await room.send(text)
            await staff.reads(text)
            await answering.send("thanks")
        await person.until(lambda: len(person.got) == 2)
        assert (support.texts, activities.texts) == ([COMPLAINT], [ENTRY]), "each reads its own alone"
        await room.send(ENTRY)
        contents = await relay.everything(tmp_path / "backup")
        assert sum(map(len, contents.values())) > 100_000
        for name, content in contents.items():
            for needle in (COMPLAINT, ENTRY, "canary", person.client.account_id):
                assert needle.encode() not in content, name
