import os
from pathlib import Path

import pytest

from restante_server import doctor


def _finding(findings: list[doctor.Finding], name: str) -> doctor.Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_findings_without_a_relay(tmp_path: Path) -> None:
    findings = list(doctor.examine(tmp_path / "not" / "yet" / "relay.db", ""))
    assert [finding.name for finding in findings] == ["open files", "clock", "file system", "disk sync"]
    assert _finding(findings, "clock").ok
    assert "ms" in _finding(findings, "disk sync").text
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_a_clock_in_the_past_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante_server.doctor.time.time", lambda: 0.0)
    assert not _finding(list(doctor.examine(tmp_path / "relay.db", "")), "clock").ok


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not _finding(list(doctor.examine(tmp_path / "relay.db", "")), "disk sync").ok
