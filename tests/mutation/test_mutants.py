"""That mutation testing can fail: what the tests do not notice is a survivor, and is said to be one."""

import subprocess
import sys
from pathlib import Path

import pytest

from mutation.mutants import ROOT, SOURCES, mutants

PROGRAM = Path(__file__).with_name("mutants.py")


def run(done: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    options = [*(f"--tests={test}" for test in tests), f"--done={done}", "--module=public_message"]
    return subprocess.run(  # noqa: S603 -- our own interpreter
        [sys.executable, str(PROGRAM), *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(300)  # of a machine of many
def test_survivors_are_told_from_the_killed_and_are_not_tried_again(tmp_path: Path) -> None:
    """The tests of outsiders' messages notice what is changed in those, and nothing in members' tags."""
    done = tmp_path / "done.jsonl"
    first = run(done, "tests/crypto/mls/test_public_message.py")
    assert first.returncode == 1, first.stderr
    assert "survivors that mutation.md does not explain" in first.stderr
    assert "`public_message.membership_tag`" in first.stdout
    assert "`public_message.of_an_outsider`" not in first.stdout
    tried = done.read_text()
    assert len(tried.splitlines()) == len(mutants("public_message", (SOURCES / "public_message.py").read_text()))
    assert run(done, "tests/crypto/mls/test_public_message.py").stdout == first.stdout
    assert done.read_text() == tried


def test_a_mutant_is_named_by_its_place_and_has_one_change() -> None:
    source = "def f(a: int) -> int:\n    return a + 1 if a < 3 else -1\n"
    names = [mutant.name for mutant in mutants("m", source)]
    assert names == [
        "`m.f`, `a < 3`: condition negated",
        "`m.f`, `a < 3`: Lt to LtE",
        "`m.f`, `3`: 3 + 1",
        "`m.f`, `a + 1`: Add to Sub",
        "`m.f`, `1`: 1 + 1",
        "`m.f`, `1`: 1 + 1, place 2",
    ]
