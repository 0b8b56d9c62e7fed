"""Mutation tests of MLS: change one thing in a module, run the tests of ``tests/crypto``: do they notice?

``python tests/mutation/mutants.py [--module NAME] [--sample N] [--seed N]``. No file is changed: each mutant is
compiled from its syntax tree in a process of its own, forked from one that has the libraries loaded. What was tried is
in ``.mutants.jsonl`` by module, source and place: a run that was stopped goes on. docs/mutation.md has the results.
"""

import argparse
import ast
import copy
import hashlib
import importlib.util
import json
import os
import random
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import cryptography.hazmat.primitives.ciphers.aead
import nacl.bindings
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ROOT / "crypto" / "restante_crypto" / "mls"
DONE: Final = ROOT / ".mutants.jsonl"
MODULES: Final = (
    "tree_math",
    "key_schedule",
    "secret_tree",
    "tree_validation",
    "proposal_list",
    "framing",
    "public_message",
    "private_message",
)
SECONDS: Final = 25  # of a processor; the tests take 7, and a mutant that takes longer loops
MEMORY: Final = 3 << 30  # bytes; a mutant that needs more collects without end
TESTS: Final = (
    ("tests/crypto/mls/test_rules.py",),
    ("tests/crypto/vectors", "tests/crypto/mls"),
)  # most die by the first
LOADED: Final = (cryptography.hazmat.primitives.ciphers.aead, nacl.bindings)  # once, not by every mutant

COMPARES: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change: where, what, and the tree with it."""

    line: int
    what: str
    tree: ast.Module


class Places(ast.NodeVisitor):
    """Collects the nodes that can be changed; what is for readers, types and representations is not."""

    def __init__(self) -> None:
        self.found: list[ast.AST] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for statement in node.body:
            self.visit(statement)
        for default in [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]:
            self.visit(default)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Call) and _name(node.value.func) == "field"):
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.found.append(node)
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.found.append(node)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp | ast.If | ast.IfExp) or _counts(node):
            self.found.append(node)
        super().generic_visit(node)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _counts(node: ast.AST) -> bool:
    return (isinstance(node, ast.Constant) and isinstance(node.value, int | bytes)) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert)
    )


def changes(node: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401, C901 -- any node of a syntax tree, a case each
    """Yield (what, another node) for a node."""
    match node:
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                other = copy.deepcopy(node)
                other.ops[index] = COMPARES[type(operator)]()
                yield f"{type(operator).__name__} to {type(other.ops[index]).__name__}", other
        case ast.BinOp() if type(node.op) in OPERATORS and not _is_type(node):
            changed = OPERATORS[type(node.op)]
            yield f"{type(node.op).__name__} to {changed.__name__}", ast.BinOp(node.left, changed(), node.right)
        case ast.BoolOp():
            flipped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield f"{type(node.op).__name__} flipped", ast.BoolOp(flipped, node.values)
        case ast.If() | ast.IfExp():
            negated = copy.deepcopy(node)
            negated.test = ast.UnaryOp(ast.Not(), negated.test)
            yield "condition negated", negated
        case ast.UnaryOp():
            yield f"{type(node.op).__name__} dropped", node.operand
        case ast.Constant(value=bool()):
            yield f"{node.value!r} flipped", ast.Constant(not node.value)
        case ast.Constant(value=int(number)):
            yield f"{number!r} + 1", ast.Constant(number + 1)
        case ast.Constant(value=bytes(value)):
            yield f"{value!r} longer", ast.Constant(value + b"!")
        case ast.Raise() | ast.Expr():
            yield f"{type(node).__name__.lower()} dropped", ast.Pass()


def _is_type(node: ast.BinOp) -> bool:
    """Whether it is a union of types, as in isinstance."""
    return isinstance(node.op, ast.BitOr) and isinstance(node.left, ast.Name) and node.left.id[:1].isupper()


class _Replace(ast.NodeTransformer):
    def __init__(self, number: int, other: ast.AST) -> None:
        self._number = number
        self._other = other

    def visit(self, node: ast.AST) -> Any:  # noqa: ANN401 -- as NodeTransformer
        if getattr(node, "number", None) == self._number:
            return ast.copy_location(self._other, node)
        return self.generic_visit(node)


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    tree = ast.parse(source)
    places = Places()
    places.visit(tree)
    made = []
    for number, node in enumerate(places.found):
        node.number = number  # type: ignore[attr-defined]  # found again in a copy
        for what, other in changes(node):
            whole = ast.fix_missing_locations(_Replace(number, other).visit(copy.deepcopy(tree)))
            made.append(Mutant(getattr(node, "lineno", 0), what, whole))
    return made


class _Loader(SourceFileLoader):
    tree: ast.Module

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.tree, self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        loader = _Loader(fullname, str(self._path))
        loader.tree = self._tree
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


def survives(module: str, tree: ast.Module, log: Path) -> bool:
    """Run the tests with this module in place of the real one; say whether all pass."""
    return all(_passes(module, tree, log, tests) for tests in TESTS)


def _passes(module: str, tree: ast.Module, log: Path, tests: Sequence[str]) -> bool:
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, _Finder(f"restante_crypto.mls.{module}", SOURCES / f"{module}.py", tree))
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "60", *tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", choices=MODULES)
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module, drawn by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.chdir(ROOT)
    known = {}
    if DONE.exists():
        known = {tuple(row[:3]): row[3] for row in map(json.loads, DONE.read_text().splitlines())}
    for module in options.module or MODULES:
        source = (SOURCES / f"{module}.py").read_text()
        if not survives(module, ast.parse(source), ROOT / ".mutants.log"):
            sys.exit(f"the tests fail as it is: {(ROOT / '.mutants.log')}")
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        made = list(enumerate(mutants(source)))
        chosen = random.Random(options.seed).sample(made, min(options.sample or len(made), len(made)))
        survivors = []
        for number, mutant in sorted(chosen, key=lambda each: each[0]):
            key = (module, digest, number)
            if key not in known:
                known[key] = survives(module, mutant.tree, ROOT / ".mutants.log")
                with DONE.open("a") as file:
                    file.write(json.dumps([*key, known[key]]) + "\n")
            if known[key]:
                survivors.append(mutant)
                print(f"  {module}.py:{mutant.line}: {mutant.what}", flush=True)  # noqa: T201
        count = len(chosen)
        print(f"{module}: {count - len(survivors)} of {count} killed ({len(made)} in all)", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
