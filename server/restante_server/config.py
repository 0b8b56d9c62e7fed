"""The relay's settings, checked. Each is a flag of ``restante serve`` and an environment variable RESTANTE_*."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_LISTEN: Final = "127.0.0.1:8787"
DEFAULT_STORE: Final = "sqlite:restante-data/relay.db"
ADMISSION_MODES: Final = ("open", "invite", "closed")
_MAX_PORT: Final = 65535


class SettingError(ValueError):
    """A setting that cannot be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a relay is started with.

    Attributes:
        listen: host and port; port 0 picks a free one.
        store: the database file.
        admission: who may create mailboxes: "open", "invite" or "closed".
        max_store_bytes: of the database file; 0 for no limit.
        ops_listen: host and port for health and metrics, or None.
    """

    listen: tuple[str, int]
    store: Path
    admission: str = "open"
    max_store_bytes: int = 0
    ops_listen: tuple[str, int] | None = None


def parse_listen(value: str) -> tuple[str, int]:
    """Return (host, port) of HOST:PORT or [HOST]:PORT. Raises SettingError."""
    host, separator, port = value.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise SettingError("an address is HOST:PORT")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 -- an empty host is asked for


def parse_store(value: str) -> Path:
    """Return the file of sqlite:PATH. Raises SettingError."""
    scheme, separator, path = value.partition(":")
    if scheme != "sqlite" or not separator or not path:
        raise SettingError("a store is sqlite:PATH")
    return Path(path)
