"""Where a Redis or Valkey store is: its URL.

::

    redis://[user:password@]HOST:PORT[/DB]                   one server
    redis+cluster://[user:password@]HOST:PORT[,HOST:PORT]    a cluster: any of its nodes
    redis+sentinel://[user:password@]HOST:PORT[,...]/NAME    the master that these sentinels name

``rediss`` instead of ``redis`` is TLS, to the sentinels as well. Parameters: ``prefix`` of all keys (default
``restante``), ``ssl_ca_certs``, a file of certificates to trust instead of the system's, and ``sentinel_username`` and
``sentinel_password``: user and password before the @ are the servers', sentinels have their own or none.
"""

import ssl
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
DEFAULT_PREFIX: Final = "restante"
PARAMETERS: Final = frozenset({"prefix", "ssl_ca_certs"})
SENTINEL_PARAMETERS: Final = frozenset({"sentinel_username", "sentinel_password"})
SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")

Kind = Literal["single", "cluster", "sentinel"]
Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed URL.

    Attributes:
        kind: one server, a cluster, or behind sentinels.
        hosts: at least one.
        tls: connections are encrypted.
        username: or empty.
        password: or empty.
        database: number; 0 in a cluster.
        service: the sentinels' name of the master.
        prefix: of all keys.
        ca_file: certificates to trust, or empty.
        sentinel_username: or empty.
        sentinel_password: or empty.
    """

    kind: Kind
    hosts: tuple[Host, ...]
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    service: str = ""
    prefix: str = DEFAULT_PREFIX
    ca_file: str = ""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what a connection encrypts with; None without TLS."""
        return ssl.create_default_context(cafile=self.ca_file or None) if self.tls else None

    def sentinels(self) -> "RedisAddress":
        """Return how a connection to a sentinel is made."""
        return replace(self, username=self.sentinel_username, password=self.sentinel_password, database=0)


def is_redis(url: str) -> bool:
    """Say whether this is meant as such a URL."""
    return url.partition("://")[0] in SCHEMES


def parse_redis(url: str) -> RedisAddress:
    """Parse a URL. Raises ValueError whose text says what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a store's scheme is one of {', '.join(SCHEMES)}")
    base, _, kind = parts.scheme.partition("+")
    credentials, _, netloc = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    query = parse_qs(parts.query, keep_blank_values=True)
    allowed = PARAMETERS | SENTINEL_PARAMETERS if kind == "sentinel" else PARAMETERS
    if unknown := query.keys() - allowed:
        raise ValueError(f"unknown parameter {min(unknown)}")
    path = parts.path.strip("/")
    if kind == "sentinel" and not path:
        raise ValueError("redis+sentinel://HOST:PORT/NAME needs the master's name")
    if kind == "cluster" and path not in {"", "0"}:
        raise ValueError("a cluster has no databases")
    if not kind and path and not path.isdecimal():
        raise ValueError("redis://HOST:PORT/DB: the database is a number")
    prefix = query.get("prefix", [DEFAULT_PREFIX])[-1]
    if not prefix or "{" in prefix or "}" in prefix:
        raise ValueError("a key prefix is not empty and holds no braces")
    return RedisAddress(
        kind={"": "single", "cluster": "cluster", "sentinel": "sentinel"}[kind],  # type: ignore[arg-type]
        hosts=tuple(_host(each, SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT) for each in netloc.split(",")),
        tls=base == "rediss",
        username=unquote(username),
        password=unquote(password),
        database=int(path) if path and not kind else 0,
        service=path if kind == "sentinel" else "",
        prefix=prefix,
        ca_file=query.get("ssl_ca_certs", [""])[-1],
        sentinel_username=query.get("sentinel_username", [""])[-1],
        sentinel_password=query.get("sentinel_password", [""])[-1],
    )


def _host(value: str, default: int) -> Host:
    parts = urlsplit(f"//{value}")
    return parts.hostname or "127.0.0.1", parts.port or default
