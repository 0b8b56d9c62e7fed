"""docker/ and docs/operations.md against the command line: what they set exists, and what exists is listed."""

import re
from pathlib import Path

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
