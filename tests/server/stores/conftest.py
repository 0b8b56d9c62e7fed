"""The stores that the conformance suite runs over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante_server.stores.contract import Store
from support.stores import Opener


@pytest.fixture(params=["sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    assert request.param == "sqlite"
    return Opener(tmp_path / "store" / "relay.db")


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    opened = await opener.open()
    yield opened
    await opened.close()
