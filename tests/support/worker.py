"""A client in a process of its own, to be killed: it takes up what comes, sends without pause, and reports each step.

Lines on standard output are JSON: ["account", id], ["invite", text], ["sending", text], ["sent", id, text],
["got", id, sender, text]. A line is written after the step it reports has returned.

Options: "invite" makes one; "large" puts every Commit into a blob, and makes one only; "half" and "whole" stop for
ever, with the line ["stopped"], when the first blob is half or wholly at the relay.
"""

import asyncio
import itertools
import json
import sys
import uuid
from collections.abc import AsyncIterator, Collection
from typing import Any

from restante import Client, ContactRequest, Conversation, MemberAdded, Message, blobs, handshakes

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


async def stop() -> None:
    report("stopped")
    await asyncio.Event().wait()


async def half(key: bytes, content: bytes) -> AsyncIterator[bytes]:
    """The first half of a sealed blob."""
    piece = next(blobs._sealed(key, content))
    assert isinstance(piece, bytes)
    yield piece[: len(piece) // 2]
    await stop()


async def whole(*arguments: Any) -> None:  # noqa: ANN401 -- whatever it takes
    await upload(*arguments)
    await stop()


upload = blobs.upload


def prepare(options: Collection[str]) -> None:
    if "large" in options:
        handshakes.COMMIT_INLINE_BYTES = 0  # type: ignore[misc]  # smaller than it is
    if "half" in options:
        blobs._pieces = half
    if "whole" in options:
        blobs.upload = whole  # type: ignore[assignment]  # it returns nothing


async def talk(client: Client, *, commits: int) -> None:
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
            if number % COMMIT_EVERY == 0 and number <= commits * COMMIT_EVERY:
                await room.update_keys()
            await asyncio.sleep(0.002)  # some hundred messages a second: who reads them has to follow


async def main(path: str, relay: str, options: Collection[str]) -> None:
    prepare(options)
    async with Client.open(path, relay=relay, passphrase="worker") as client:
        report("account", client.account_id)
        if "invite" in options:
            report("invite", await client.invite())
        await talk(client, commits=1 if "large" in options else sys.maxsize)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
