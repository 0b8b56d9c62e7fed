"""The benchmark of MLS itself, with this project alone: small, resumed, and its memory."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.mls_contestants import CLASSICAL, HYBRID, OURS, Contestant, Ours

from benchmarks import mls, mls_contestants, mls_memory, mls_report


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ours() -> list[Contestant]:
        return [Ours()]

    def no_plot(_run: object, _place: Path) -> None:
        """Drawing takes seconds."""

    monkeypatch.setattr(mls, "contestants", ours)
    monkeypatch.setattr(mls_report, "plot", no_plot)


def test_a_run_is_written_and_forgets_its_state(tmp_path: Path) -> None:
    state = tmp_path / "work" / "state.json"
    mls.main(["--members", "2", "4", "--rounds", "1", "--state", str(state), "--results", str(tmp_path)])
    assert not state.exists()
    assert "| Commit that removes one | " in (tmp_path / "mls.md").read_text()
    result = json.loads((tmp_path / "mls.json").read_text())
    assert {row["by"] for row in result["rows"]} == {OURS}
    assert {row["operation"] for row in result["rows"]} == set(mls_report.SHOWN)


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    state: dict[str, Any] = {"turns": {}}
    mls.measure([4], 1, 1, state, place)
    assert json.loads(place.read_text()) == state
    del state["turns"][mls.label(HYBRID, 4, 0)]
    place.write_text(json.dumps(state))
    known = state["turns"][mls.label(CLASSICAL, 4, 0)]["by"][OURS]["times"]
    arguments = ["--members", "4", "--rounds", "1", "--state", str(place), "--results", str(tmp_path)]
    mls.main(arguments)
    rows = json.loads((tmp_path / "mls.json").read_text())["rows"]
    assert {row["operation"]: row["ms"][0] for row in rows if row["suite"] == CLASSICAL} == known
    assert {row["suite"] for row in rows} == {CLASSICAL, HYBRID}
    place.write_text(json.dumps({"turns": {mls.label(kind, 4, 0): {} for kind in (CLASSICAL, HYBRID)}}))
    mls.main([*arguments, "--again"])  # else it would take these


def test_memory_is_that_of_a_member_with_and_without_parents() -> None:
    sizes = mls_memory.measure(3, 16)
    assert 500 < sizes["blank"] < sizes["warm"] < 4096 * 2


def test_who_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mls_contestants, "PEERS", tmp_path)
    found: list[Any] = mls_contestants.contestants()
    assert [each.name for each in found] == [OURS]
    assert capsys.readouterr().out.count("not measured") == 2
