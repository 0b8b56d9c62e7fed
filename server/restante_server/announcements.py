"""Announcements of the operator to everybody, on their way from ``restante announce`` to a relay."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from restante_server import letters, policy
from restante_server.services.bulletin import Bulletin

MAX_TEXT_BYTES: Final = 4096  # of one language: a notice, not a newsletter
_LETTER: Final = "announcement"


class Kind(StrEnum):
    """What an announcement is about. PROTOCOL.md section 6.12."""

    POLICY = "policy"  # the privacy policy or a purpose changed
    TRANSFER = "transfer"  # another operator takes over: a merger, an acquisition
    INCIDENT = "incident"  # something went wrong
    SERVICE = "service"  # anything else that everybody has to know
    NEWS = "news"  # beyond the necessary: clients show it to those who granted the purpose of this name


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is said: its kind, and the text by language tag."""

    kind: Kind
    texts: Mapping[str, str]


def leave(store: Path, announcement: Announcement) -> None:
    """Leave it for the relay of this store.

    Raises:
        ValueError: a text is empty or above MAX_TEXT_BYTES.
        OSError: the file cannot be written.
    """
    for text in announcement.texts.values():
        if not 0 < len(text.encode()) <= MAX_TEXT_BYTES:
            raise ValueError(f"a text has 1 to {MAX_TEXT_BYTES} bytes")
    letters.leave(store, _LETTER, policy.encode({"kind": announcement.kind, "texts": dict(announcement.texts)}))


async def collect(store: Path, published: Bulletin) -> None:
    """Publish what waits beside the store, once, however many relays read the same letters."""
    for path, data in await asyncio.to_thread(letters.find, store, _LETTER):
        letter = json.loads(data)
        await published.announce(letter["kind"], letter["texts"], letter=letters.name(path))
        await asyncio.to_thread(path.unlink, missing_ok=True)
