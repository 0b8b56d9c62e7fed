"""The stores that the conformance suite runs over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_server.stores.contract import Store
from support.redis_servers import redis_itself
from support.stores import AnyOpener, Opener, give_addresses, new_redis

URLS = {"redis": "redis_url", "cluster": "cluster_url", "redis-server": "redis_itself_url"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("every_store"):
        metafunc.parametrize("opener", ["sqlite", *URLS][: 4 if redis_itself() else 3], indirect=True)


@pytest.fixture
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AnyOpener:
    """The embedded store, or what a module marked with ``support.stores.every_store`` asks for."""
    give_addresses({})
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return Opener(tmp_path / "store" / "relay.db")
    return new_redis(request.getfixturevalue(URLS[kind]))


@pytest.fixture
async def store(opener: AnyOpener) -> AsyncIterator[Store]:
    opened = await opener.open()
    yield opened
    await opened.close()
