"""The demo: three people in two conversations, and beside it what the relay's disk holds of that.

Run it with ``restante demo`` or ``make demo``. It starts a real relay in a process of its own, with its store in a
temporary folder, and three real clients.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

from restante import Client, ContactRequest, Conversation, Event, MemberAdded, Message
from restante.account import account_key

_PEOPLE = ("Alice", "Bob", "Carol")
_START_SECONDS = 30


def _say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201 -- the demo's output


@contextlib.asynccontextmanager
async def _relay(folder: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "restante_server",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--store",
        f"sqlite:{folder / 'relay.db'}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        if process.stdout is None:
            raise RuntimeError("no output of the relay")
        async with asyncio.timeout(_START_SECONDS):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("ready "):
            raise RuntimeError("the relay did not start: is restante[server] installed?")
        _say(f"$ restante serve\n{line}")
        yield line.split()[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class _Person:
    """One of the three: a client, and what it has read."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self._events = client.events()
        self.rooms: list[Conversation] = []

    async def _next(self) -> Event:
        async with asyncio.timeout(_START_SECONDS):
            return await anext(self._events)

    async def joins(self) -> None:
        """Take up the next conversation, from a stranger or a contact."""
        match await self._next():
            case ContactRequest(conversation=room) as request:
                await request.accept()
                self.rooms.append(room)
            case MemberAdded(conversation=room):
                self.rooms.append(room)
            case other:
                raise RuntimeError(f"not a conversation: {other}")

    async def reads(self, names: dict[str, str]) -> str:
        """Return the next message as this person sees it."""
        event = await self._next()
        if not isinstance(event, Message):
            raise TypeError(f"not a message: {event}")
        title = event.conversation.title or "to you alone"
        return f"[{title}] {names[event.sender]}: {event.text}"


async def _talk(people: list[_Person]) -> tuple[list[str], list[bytes]]:
    """Hold two conversations; return what people read and the words to look for on the disk."""
    alice, bob, carol = people
    names = {person.client.account_id: person.name for person in people}
    title = "Picnic on Sunday"
    pair = await alice.client.start_conversation(await bob.client.invite())
    await bob.joins()
    trio = await bob.client.start_conversation([await alice.client.invite(), await carol.client.invite()], title=title)
    await alice.joins()
    await carol.joins()
    script = [
        (alice, pair, "The spare key is under the blue flowerpot.", [bob]),
        (bob, bob.rooms[0], "Got it, thank you 🌱", [alice]),
        (bob, trio, "Who brings the cherry cake?", [alice, carol]),
        (carol, carol.rooms[0], "I do. And the kite!", [alice, bob]),
    ]
    read = []
    for sender, room, text, readers in script:
        await room.send(text)
        for reader in readers:
            read.append(f"{reader.name:6} reads  {await reader.reads(names)}")
            if reader.name == sender.name:
                raise RuntimeError("one's own messages are no events")
    await asyncio.gather(*(person.client.drained() for person in people))
    words = [title, *names, *(text for _, _, text, _ in script)]
    return read, [word.encode() for word in words] + [account_key(account) for account in names]


def _search(folder: Path, needles: list[bytes]) -> tuple[int, int, bytes]:
    """Return (bytes searched, needles found, a sample of the disk)."""
    found, total, sample = 0, 0, b""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        data = path.read_bytes()
        total += len(data)
        found += sum(needle in data for needle in needles)
        if path.name.endswith(("-wal", ".db")) and len(data) > len(sample):
            middle = len(data) * 2 // 3
            sample = data[middle : middle + 4096].lstrip(b"\x00")[:192]
    return total, found, sample


def _table(read: list[str], sample: bytes) -> str:
    width = max(30, (shutil.get_terminal_size((140, 24)).columns - 53))
    left = [line for text in read for line in textwrap.wrap(text, width, subsequent_indent=" " * 14)]
    right = [sample[i : i + 16].hex(" ") for i in range(0, len(sample), 16)]
    rows = max(len(left), len(right))
    left += [""] * (rows - len(left))
    right += [""] * (rows - len(right))
    head = f"{'what people read':{width}} | what the operator's disk holds"
    return "\n".join([head, "-" * len(head), *(f"{a:{width}} | {b}" for a, b in zip(left, right, strict=True))])


async def _demo() -> int:
    with tempfile.TemporaryDirectory(prefix="restante-demo-") as temporary:
        folder = Path(temporary)
        store = folder / "relay"
        async with _relay(store) as url, contextlib.AsyncExitStack() as stack:
            people = [
                _Person(
                    name,
                    await stack.enter_async_context(
                        Client.open(folder / f"{name.lower()}.db", relay=url, passphrase=f"{name}'s passphrase")
                    ),
                )
                for name in _PEOPLE
            ]
            read, needles = await _talk(people)
            total, found, sample = _search(store, needles)
        _say(_table(read, sample))
        _say()
        _say(f"Searched {total:,} bytes of the relay's files for every text, title and account: {found} found.")
        return 1 if found else 0


def main() -> None:
    """Run the demo; exit with 1 if the disk shows anything."""
    sys.exit(asyncio.run(_demo()))


if __name__ == "__main__":
    main()
