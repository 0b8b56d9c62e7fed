"""What a Redis or Valkey server promises: asked at start, after every reconnect and every change of roles.

WAITAOF is not used: measured, it answers before the sync. What a server does not tell counts as not promised.
"""

from dataclasses import dataclass
from typing import Any, Final

from restante_server.stores.contract import Level, StoreRefused
from restante_server.stores.redis_link import Link

OLDEST: Final = 7  # major version: sharded pub/sub, flags of scripts
_SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server said.

    Attributes:
        settings: of CONFIG GET; a setting that cannot be read is absent.
        role: "master" or "slave".
        version: major.
        run_id: of this run of the server.
        replication: id of the history that it writes.
        previous: id of the history that it continues after a promotion.
        replicas: that are connected.
    """

    settings: dict[str, str]
    role: str
    version: int
    run_id: bytes
    replication: bytes
    previous: bytes
    replicas: int


async def ask(link: Link) -> Facts:
    """Ask a server. Raises LinkLost, and StoreRefused if it wants a password first."""
    commands: list[tuple[Any, ...]] = [("CONFIG", "GET", name) for name in _SETTINGS]
    replies = await link.call([*commands, ("INFO", "server"), ("INFO", "replication")])
    if str(replies[0]).startswith("NOAUTH"):
        raise StoreRefused("the server wants a password: redis://[USER]:PASSWORD@HOST")
    settings = {
        name: reply[1].decode()
        for name, reply in zip(_SETTINGS, replies, strict=False)
        if isinstance(reply, list) and len(reply) == 2  # noqa: PLR2004 -- name and value
    }
    server, replication = (info(reply) for reply in replies[len(_SETTINGS) :])
    version = server.get("valkey_version") or server.get("redis_version", "0")
    return Facts(
        settings=settings,
        role=replication.get("role", ""),
        version=int(version.split(".")[0]),
        run_id=server.get("run_id", "").encode(),
        replication=replication.get("master_replid", "").encode(),
        previous=replication.get("master_replid2", "").encode(),
        replicas=int(replication.get("connected_slaves", 0)),
    )


def info(reply: Any) -> dict[str, str]:  # noqa: ANN401 -- a reply
    """Return the fields of an INFO reply; none if it was refused."""
    if not isinstance(reply, bytes):
        return {}
    return dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)


def _check_server(facts: Facts) -> None:
    if facts.version < OLDEST or not facts.run_id:
        raise StoreRefused(f"Redis or Valkey {OLDEST} or newer is needed, and INFO must be allowed")
    if facts.role != "master":
        raise StoreRefused("this server is a replica: name its master, its sentinels or its cluster")
    for name in _SETTINGS:
        if name not in facts.settings:
            raise StoreRefused(f"CONFIG GET {name} is not allowed: what cannot be read is not promised")


def judge(facts: Facts, *, may_fail_over: bool, accept_loss: bool) -> Level:
    """Return the level that a master holds. Raises StoreRefused with what to do."""
    settings = facts.settings
    _check_server(facts)
    if settings["maxmemory-policy"] != "noeviction":
        raise StoreRefused("messages would be evicted: CONFIG SET maxmemory-policy noeviction")
    if settings["appendonly"] != "yes":
        raise StoreRefused("a restart would lose everything: CONFIG SET appendonly yes")
    if settings["appendfsync"] != "always":
        if settings["appendfsync"] == "everysec" and accept_loss:
            return "process"
        raise StoreRefused(
            "a power failure would lose accepted messages: CONFIG SET appendfsync always"
            " (or everysec, and serve --accept-loss-on-power-failure)"
        )
    if settings["no-appendfsync-on-rewrite"] != "no":
        raise StoreRefused("a rewrite would suspend syncs: CONFIG SET no-appendfsync-on-rewrite no")
    if may_fail_over and facts.replicas:
        return "failover"
    return "power"
