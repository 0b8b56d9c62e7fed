"""A client in a process of its own, to be killed: it takes up what comes, sends without pause, and reports each step.

Lines on standard output are JSON: ["account", id], ["invite", text], ["sending", text], ["sent", id, text],
["got", id, sender, text]. A line is written after the step it reports has returned.
"""

import asyncio
import itertools
import json
import sys
import uuid

from restante import Client, ContactRequest, Conversation, MemberAdded, Message

COMMIT_EVERY = 7  # messages


def report(*line: str | None) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def read(client: Client, rooms: "asyncio.Queue[Conversation]") -> None:
    async for event in client.events():
        match event:
            case ContactRequest(conversation=room):
                await event.accept()
                rooms.put_nowait(room)
            case MemberAdded(conversation=room):
                rooms.put_nowait(room)
            case Message(id=name, sender=sender, text=text):
                report("got", name, sender, text)
            case other:
                report("event", type(other).__name__, str(other))


async def talk(client: Client) -> None:
    rooms: asyncio.Queue[Conversation] = asyncio.Queue()
    for room in client.conversations():
        rooms.put_nowait(room)
    async with asyncio.TaskGroup() as group:
        group.create_task(read(client, rooms))
        room = await rooms.get()
        for number in itertools.count(1):
            text = uuid.uuid4().hex
            report("sending", text)
            receipt = await room.send(text)
            report("sent", receipt.id, text)
            if number % COMMIT_EVERY == 0:
                await room.update_keys()
            await asyncio.sleep(0.002)


async def main(path: str, relay: str, *, invites: bool) -> None:
    async with Client.open(path, relay=relay, passphrase="worker") as client:
        report("account", client.account_id)
        if invites:
            report("invite", await client.invite())
        await talk(client)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], invites=sys.argv[3:] == ["invite"]))
