"""What others need."""

from pathlib import Path

import pytest
from benchmarks.systems import MissingError

from benchmarks.peers import programs

SIMULATED = """\
The following NEW packages will be installed:
  libcjson1 mosquitto
Inst libcjson1 (1.7.15-1 Debian:12.8/stable [amd64])
Inst mosquitto (2.0.11-1.2 Debian:12.8/stable [amd64])
Conf libcjson1 (1.7.15-1 Debian:12.8/stable [amd64])
"""


def test_what_a_simulated_installation_would_bring() -> None:
    assert programs.installs(SIMULATED) == ["libcjson1", "mosquitto"]


def test_what_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="mosquitto"):
        programs.debian("mosquitto", tmp_path)


def test_libraries_are_found_where_they_were_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    assert str(folder) in programs.libraries(tmp_path)["LD_LIBRARY_PATH"]
