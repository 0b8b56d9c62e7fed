"""docker/ and docs/operations.md against the command line: what they set exists, and what exists is listed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from restante_server.__main__ import cli

ROOT = Path(__file__).parent.parent
OPTIONS = [option for command in typer.main.get_group(cli).commands.values() for option in command.params]
SETTINGS = {str(option.envvar) for option in OPTIONS if option.envvar}
OF_COMPOSE = {"RESTANTE_DOMAIN", "RESTANTE_HTTP_PORT", "RESTANTE_HTTPS_PORT", "RESTANTE_RELAYS"}  # not the relay's


def test_every_setting_of_the_files_exists() -> None:
    for path in sorted((ROOT / "docker").iterdir()):
        named = set(re.findall(r"\bRESTANTE_[A-Z_]+", path.read_text()))
        assert named <= SETTINGS | OF_COMPOSE, path.name


def test_every_setting_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"\bRESTANTE_[A-Z_]+", manual)) >= SETTINGS
    serve = typer.main.get_group(cli).commands["serve"]
    flags = {flag for option in serve.params for flag in option.opts if flag.startswith("--")}
    assert {flag for flag in flags if f"`{flag}" not in manual} == set()


def _run(*command: str, **environment: str) -> tuple[int, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(  # noqa: S603 -- our own scripts
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_tools_that_are_here_have_nothing_to_say() -> None:
    status, text = _run("docker/check.sh")
    assert status == 0, text


@pytest.mark.skipif(not os.environ.get("RESTANTE_TEST_COMPOSE"), reason="RESTANTE_TEST_COMPOSE=1 starts containers")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", ["compose.yaml", "compose.cluster.yaml"])
def test_a_message_survives_down_and_up(file: str) -> None:
    status, text = _run("docker/smoke.sh", file, PYTHON=sys.executable)
    assert status == 0, text
    assert "survived" in text
