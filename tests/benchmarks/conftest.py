"""The load generator, compiled once."""

from pathlib import Path

import pytest

from benchmarks import load


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return load.generator(tmp_path_factory.mktemp("loadgen"))
    except load.NoCompilerError as error:
        pytest.skip(str(error))
