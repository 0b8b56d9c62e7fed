"""The stores that the conformance suite runs over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_server.stores.contract import Store
from support.stores import AnyOpener, Opener, give_addresses, new_redis


@pytest.fixture
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AnyOpener:
    """The embedded store, or what a module marked with ``support.stores.every_store`` asks for."""
    give_addresses({})
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return Opener(tmp_path / "store" / "relay.db")
    return new_redis(request.getfixturevalue("redis_url" if kind == "redis" else "cluster_url"))


@pytest.fixture
async def store(opener: AnyOpener) -> AsyncIterator[Store]:
    opened = await opener.open()
    yield opened
    await opened.close()
