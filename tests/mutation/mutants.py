"""Mutation tests of MLS: change one thing in a module, run the tests of ``tests/crypto``: do they notice?

``python tests/mutation/mutants.py [--module NAME] [--sample N] [--seed N] [--jobs N]``. No file is changed: each mutant
is compiled from its syntax tree in a process of its own, forked from one that has everything else loaded. What was
tried is in ``.mutants.jsonl`` by the module's source and the place; a run that was stopped goes on, and a survivor is
tried again as soon as the tests are others. Exit status 1 says that there is a survivor which docs/mutation.md does
not explain.
"""

import argparse
import ast
import copy
import hashlib
import importlib
import importlib.util
import json
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ROOT / "crypto" / "restante_crypto" / "mls"
EXPLAINED: Final = ROOT / "docs" / "mutation.md"
LOG: Final = ROOT / ".mutants.log"
HELPERS: Final = ("forger.py", "mls.py", "rules.py", "rules_commits.py", "rules_joining.py")  # of tests/support
RULES: Final = ("tests/crypto/mls/rules",)
FORGERIES: Final = "tests/crypto/mls/test_forgeries.py"
VECTORS: Final = "tests/crypto/vectors/test_vectors.py"
FIRST: Final[dict[str, tuple[str, ...]]] = {  # by module: the tests by which most of its mutants die
    "tree_math": (f"{VECTORS}::test_tree_math",),
    "key_schedule": (f"{VECTORS}::test_key_schedule",),
    "secret_tree": ("tests/crypto/mls/test_secret_tree.py", FORGERIES, f"{VECTORS}::test_secret_tree"),
    "tree_validation": RULES,
    "proposal_list": RULES,
    "framing": RULES,
    "public_message": RULES,
    "private_message": (FORGERIES,),
}
ALL: Final = ("tests/crypto/mls", "tests/crypto/vectors")
SECONDS: Final = (
    60  # of a processor; the tests take 6, on a busy machine three times that, and a mutant that takes longer loops
)
MEMORY: Final = 3 << 30  # bytes; a mutant that needs more collects without end
SHOWN: Final = 100  # characters of the code that was changed

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
    """One change: where, which (as docs/mutation.md has it), and the tree with it."""

    line: int
    name: str
    tree: ast.Module


class Places(ast.NodeVisitor):
    """Collects the nodes that can be changed; what is for readers, types and representations is not."""

    def __init__(self, module: str) -> None:
        self.found: list[tuple[str, ast.AST]] = []
        self._within = [module]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
        self._visit_within(node.name, [*node.body, *defaults])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_within(node.name, node.body)

    def _visit_within(self, name: str, nodes: Iterable[ast.AST]) -> None:
        self._within.append(name)
        for node in nodes:
            self.visit(node)
        self._within.pop()

    def _found(self, node: ast.AST) -> None:
        self.found.append((".".join(self._within), node))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Call) and _name(node.value.func) == "field"):
            self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self._found(node)
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._found(node)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp | ast.If | ast.IfExp) or _counts(node):
            self._found(node)
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


def mutants(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    tree = ast.parse(source)
    places = Places(module)
    places.visit(tree)
    made = []
    seen: Counter[str] = Counter()
    for number, (within, node) in enumerate(places.found):
        node.number = number  # type: ignore[attr-defined]  # found again in a copy
        shown = ast.unparse(node.test if isinstance(node, ast.If | ast.IfExp) else node)[:SHOWN]
        for what, other in changes(node):
            name = f"`{within}`, `{' '.join(shown.split())}`: {what}"
            seen[name] += 1
            if seen[name] > 1:
                name += f", place {seen[name]}"
            whole = ast.fix_missing_locations(_Replace(number, other).visit(copy.deepcopy(tree)))
            made.append(Mutant(getattr(node, "lineno", 0), name, whole))
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


@cache
def load() -> None:
    """Import what the tests import, once and not by every mutant: all but what a mutant could be part of."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    importlib.import_module("conftest")
    for name in list(sys.modules):
        if name.startswith("restante_crypto.mls") or name.split(".")[0] in {"conftest", "support", "restante"}:
            del sys.modules[name]


def fork(answer: Callable[[], bool]) -> int:
    """Find out something in a process of its own, whose exit status will be 0 for yes; return its id."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        status = 0 if answer() else 1
    finally:
        sys.stdout.flush()
        os._exit(status)


def survives(module: str, tree: ast.Module, stages: Sequence[Sequence[str]]) -> bool:
    """Run the tests with this module in place of the real one, stage after stage; say whether all pass."""
    for tests in stages:
        _, status = os.waitpid(fork(partial(_passes, module, tree, tests)), 0)
        if status:  # failed, killed at a limit, or fallen over
            return False
    return True


def _passes(module: str, tree: ast.Module, tests: Sequence[str]) -> bool:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, _Finder(f"restante_crypto.mls.{module}", SOURCES / f"{module}.py", tree))
    with LOG.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    ours = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "60"]
    loaded = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return pytest.main([*ours, *loaded, *tests]) == pytest.ExitCode.OK


def try_all(
    module: str, todo: Sequence[tuple[int, Mutant]], stages: Sequence[Sequence[str]], jobs: int
) -> Iterator[tuple[int, bool]]:
    """Yield (number, whether it survives) for each of these mutants, as they come."""
    running: dict[int, int] = {}
    waiting = list(reversed(todo))
    while waiting or running:
        while waiting and len(running) < jobs:
            number, mutant = waiting.pop()
            running[fork(partial(survives, module, mutant.tree, stages))] = number
        process, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        if code not in {0, 1}:
            sys.exit(f"process {process} ended with {code}")
        yield running.pop(process), code == 0


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _digest_of_tests() -> str:
    return _digest(
        *sorted((ROOT / "tests" / "crypto").rglob("*.py")), *(ROOT / "tests" / "support" / name for name in HELPERS)
    )


def _known(done: Path, tests: str) -> dict[tuple[str, str, int], bool]:
    """What was tried: (module, digest of its source, number). Survivors of other tests are to be tried again."""
    rows = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    return {
        (module, digest, number): survived
        for module, digest, number, survived, by in rows
        if not survived or by == tests
    }


def run(module: str, options: argparse.Namespace) -> list[Mutant]:
    """Try the mutants of a module; print and return the survivors."""
    path = SOURCES / f"{module}.py"
    source, digest, tests = path.read_text(), _digest(path), _digest_of_tests()
    stages = [options.tests] if options.tests else [FIRST[module], ALL]
    made = list(enumerate(mutants(module, source)))
    chosen = sorted(random.Random(options.seed).sample(made, min(options.sample or len(made), len(made))), key=_number)
    known = _known(options.done, tests)
    todo = [each for each in chosen if (module, digest, each[0]) not in known]
    if todo:
        load()
        if not survives(module, ast.parse(source), stages):
            sys.exit(f"the tests fail as it is: {LOG}")
    for number, survived in try_all(module, todo, stages, options.jobs):
        known[module, digest, number] = survived
        with options.done.open("a") as file:
            file.write(json.dumps([module, digest, number, survived, tests]) + "\n")
    survivors = [mutant for number, mutant in chosen if known[module, digest, number]]
    killed = len(chosen) - len(survivors)
    print(f"{module}: {killed} of {len(chosen)} killed ({len(made)} in all)", flush=True)  # noqa: T201
    return survivors


def _number(each: tuple[int, Mutant]) -> int:
    return each[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", choices=FIRST)
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module, drawn by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    parser.add_argument("--tests", action="append", help="these instead of the module's and all")
    parser.add_argument("--done", type=Path, default=ROOT / ".mutants.jsonl", help="what was tried")
    options = parser.parse_args()
    os.chdir(ROOT)
    explained = " ".join(EXPLAINED.read_text().split())
    open_ones = 0
    for module in options.module or FIRST:
        for mutant in run(module, options):
            known = mutant.name in explained
            open_ones += not known
            print(f"  line {mutant.line}: {mutant.name}{' (explained)' if known else ''}", flush=True)  # noqa: T201
    sys.exit(f"{open_ones} survivors that {EXPLAINED.name} does not explain" if open_ones else 0)


if __name__ == "__main__":
    main()
