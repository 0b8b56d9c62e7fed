"""Three members who know each other; a module whose members differ makes its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engines import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, "alice", "bob", "carol")
    yield made
    made.close()
