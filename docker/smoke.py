"""Two people over a relay that runs somewhere: ``smoke.py talk URL FOLDER``, and later ``smoke.py fetch URL FOLDER``.

``talk`` has them exchange a message each, and leaves one for Bob, who is away. ``fetch`` has him come back for it.
"""

import asyncio
import sys
from pathlib import Path

from restante import Client, ContactRequest, Message

PASSPHRASE = "of two who do not exist"  # noqa: S105 -- files of a test
PATIENCE = 60  # seconds for each of both


async def _next(client: Client) -> Message:
    """Return the next message; who asks for contact is accepted."""
    async for event in client.events():
        if isinstance(event, ContactRequest):
            await event.accept()
        elif isinstance(event, Message):
            return event
    raise SystemExit("the client was closed")


def _expect(message: Message, text: str) -> None:
    if message.text != text:
        raise SystemExit(f"another message came than {text!r}")


async def talk(url: str, folder: Path) -> None:
    """Greet, answer, and write to somebody who has gone."""
    async with Client.open(folder / "alice.db", relay=url, passphrase=PASSPHRASE) as alice:
        async with Client.open(folder / "bob.db", relay=url, passphrase=PASSPHRASE) as bob:
            room = await alice.start_conversation([await bob.invite()])
            await room.send("hello")
            greeting = await _next(bob)
            _expect(greeting, "hello")
            await greeting.conversation.send("hello yourself")
            _expect(await _next(alice), "hello yourself")
        await room.send("kept")


async def fetch(url: str, folder: Path) -> None:
    """Come back, and find what was left."""
    async with Client.open(folder / "bob.db", relay=url, passphrase=PASSPHRASE) as bob:
        _expect(await _next(bob), "kept")


async def main() -> None:
    """Do one of both."""
    what, url, folder = sys.argv[1:]
    async with asyncio.timeout(PATIENCE):
        await {"talk": talk, "fetch": fetch}[what](url, Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
