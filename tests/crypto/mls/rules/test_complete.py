"""Every rule that the package names is in a table of this folder, or in another test that is named here."""

import ast
import runpy
from pathlib import Path as File
from typing import Final

import restante_crypto.mls
from restante_crypto.mls import ValidationError

HERE: Final = File(__file__).parent
ELSEWHERE: Final = {
    "7.3 lifetime": "test_group.py",  # of whoever sends: it alone looks at a clock
    "11.2 all members of the group before": "test_joining.py",
    "11.2 ReInit of the group before": "test_joining.py",
    "11.2 parameters of the ReInit": "test_joining.py",
    "11.2 the group does not continue that one": "test_joining.py",
    "11.3 members of the group before": "test_joining.py",
    "11.3 version and cipher suite": "test_joining.py",
    "12.4.3.1 epoch of a resumed group": "test_joining.py",
    "12.4.3.1 more than one resumed group": "test_joining.py",
}
"""Rules of groups that continue another, whose Welcomes take two groups to make."""


def test_every_rule_of_the_package_is_in_a_table() -> None:
    rules = set()
    for source in File(restante_crypto.mls.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ValidationError":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                rules.add(argument.value)
    rows = [
        row for file in HERE.glob("test_*.py") if file != File(__file__) for row in runpy.run_path(str(file))["TABLE"]
    ]
    refusals = {row.rule for row in rows if row.error is ValidationError} - {
        "a credential that the application refuses"
    }
    assert refusals | set(ELSEWHERE) == rules
    for rule, name in ELSEWHERE.items():
        text = (HERE.parent / name).read_text().replace("\\", "")
        assert rule in text
