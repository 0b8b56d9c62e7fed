"""Runs the official MLS vectors: every case of every known file in the folder, and says what it skips and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from restante_crypto.suites import SUITES

DEFAULT = Path(__file__).resolve().parents[4] / "shared" / "mls-test-vectors"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise ``case`` with the cases of the file that the test's marker names."""
    if "case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("vectors")
    assert marker is not None
    folder: Path = metafunc.config.getoption("--mls-vectors") or DEFAULT
    parameters = [parameter for name in marker.args for parameter in _parameters(folder / f"{name}.json")]
    metafunc.parametrize("case", parameters)


def _parameters(path: Path) -> list[Any]:
    if not path.exists():
        skip = pytest.mark.skip(reason=f"no {path.name} in the folder of vectors")
        return [pytest.param({}, marks=skip, id=path.stem)]
    parameters = []
    for index, case in enumerate(json.loads(path.read_text())):
        suite = case.get("cipher_suite")
        name = f"{path.stem}-{index}" + (f"-suite{suite}" if suite else "")
        marks = []
        if suite is not None and suite not in SUITES:
            marks.append(pytest.mark.skip(reason=f"{path.name}: cipher suite {suite} is not supported"))
        parameters.append(pytest.param(case, marks=marks, id=name))
    return parameters


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vectors(*names): files of official vectors, without .json")
