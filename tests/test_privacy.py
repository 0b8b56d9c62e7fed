"""docs/privacy.md: each promise of the policy is there, and so are the code and the test that it names."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from restante_server import policy_texts

ROOT = Path(__file__).parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "privacy.md").read_text().splitlines()
    if line.startswith("| ") and "`" in line
]


def test_every_promise_of_the_policy_is_in_the_table() -> None:
    assert {row[0] for row in ROWS} == {promise.title.en for promise in policy_texts.PROMISES}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_the_code_and_the_test_exist(row: list[str]) -> None:
    promise, meaning, code, test = row
    assert promise
    assert meaning
    assert (ROOT / code.strip("`")).is_file(), code
    path, _, name = test.strip("`").partition("::")
    tree = ast.parse((ROOT / path).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names, test


def test_the_relay_imports_nothing_that_decrypts() -> None:
    """As the import rules say, and looked at once more here, so that it does not rest on one configuration."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rule,) = [each for each in contracts if each["name"] == "the relay cannot decrypt"]
    assert set(rule["forbidden_modules"]) >= {"restante_crypto.mls", "restante_crypto.hpke", "restante_crypto.sealing"}
    for path in (ROOT / "server").rglob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) (restante\S*)", path.read_text(), re.MULTILINE):
            assert not module.startswith(tuple(rule["forbidden_modules"])), path
            assert module.partition(".")[0] in {"restante_server", "restante_crypto", "restante_protocol"}, path
    for path in (ROOT / "server").rglob("*.py"):
        taken = re.findall(r"^\s*from restante_crypto import (.*)", path.read_text(), re.MULTILINE)
        assert {name.strip() for line in taken for name in line.split(",")} <= {
            "directory",
            "oprf",
            "padding",
            "primitives",
            "proofs",
            "vapid",
        }, path
