"""Every fuzz target under a seeded mutator, and two under atheris: a short run here, a long one by ``make fuzz``."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from support import corpora
from support.fuzz_targets import TARGETS
from support.mutator import inputs


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target(name: str, request: pytest.FixtureRequest) -> None:
    target = TARGETS[name]
    seed, count = (request.config.getoption(option) for option in ("--seed", "--inputs"))
    for number, data in enumerate(inputs(seed, corpora.seeds(name), max(20, count // target.cost))):
        try:
            target.run(data)
        except BaseException:
            print(f"{name}, seed {seed}, input {number}: {data.hex()}")  # noqa: T201 -- pytest shows it
            raise


def test_stored_inputs_are_of_targets_that_exist_and_few() -> None:
    assert {file.name for file in corpora.FOLDER.iterdir()} <= {corpora.place(name).name for name in TARGETS}
    for name in TARGETS:
        stored = corpora.stored(name)
        assert len(stored) == len(set(stored)) <= corpora.MOST
        assert all(len(data) <= corpora.MOST_BYTES for data in stored)


def test_the_shortest_new_inputs_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "FOLDER", tmp_path / "corpus")
    corpora.add("padding", [])
    assert not corpora.place("padding").exists()
    corpora.add("padding", [b"three", b"", b"one", b"one", bytes(corpora.MOST_BYTES + 1)])
    assert corpora.stored("padding") == [b"one", b"three"]
    corpora.add("padding", [b"a", *(bytes([each]) * 9 for each in range(20))])
    assert corpora.stored("padding")[:3] == [b"one", b"three", b"a"]
    assert len(corpora.stored("padding")) == corpora.MOST


needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: group fuzz"
)
TOOL = Path(__file__).with_name("with_atheris.py")
BROKEN = """
import sys
sys.path.insert(0, {folder!r})
import with_atheris

def broken(data):
    assert data != b"bad"

with_atheris.TARGETS["padding"] = type(with_atheris.TARGETS["padding"])(broken, lambda: [b"good", b"bad"])
with_atheris.main()
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments, "--seconds", "1", "--runs", "40", "mls Lifetime", "padding"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 -- ourselves


@needs_atheris
def test_atheris_runs_targets() -> None:
    done = run(str(TOOL))
    assert done.returncode == 0, done.stderr
    assert "2 targets under atheris" in done.stdout


@needs_atheris
def test_atheris_says_with_which_input_a_target_failed() -> None:
    done = run("-c", BROKEN.format(folder=str(TOOL.parent)))
    assert done.returncode == 1
    assert "failed: ['padding']" in done.stderr
    assert f"padding: {b'bad'.hex()}\n" in done.stdout
