"""What a relay stores and emits, found by looking: for comparison with the inventory."""

import ast
from collections.abc import Set as AbstractSet
from fnmatch import fnmatch
from pathlib import Path

import apsw
from prometheus_client import CollectorRegistry

from restante_crypto import primitives
from restante_server import processors
from restante_server.processors import Outgoing, Role, names_of
from restante_server.stores.blobs import FIELDS, HEAD_BYTES, BlobHead

SERVER = Path(__file__).parent.parent.parent / "server" / "restante_server"
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_BY_STRUCTLOG = {"event", "level", "timestamp"}


def columns(database: Path) -> set[str]:
    """Return table.column of everything in a database."""
    db = apsw.Connection(str(database))
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
    found = {
        f"{table}.{column}"
        for table in tables
        if not table.startswith("sqlite_")
        for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))
    }
    db.close()
    return found


def filled(database: Path) -> set[str]:
    """Return table.column of the tables that have rows."""
    found = columns(database)
    db = apsw.Connection(str(database))
    rows = {
        table: db.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 -- names of the schema
        for table in {column.partition(".")[0] for column in found}
    }
    db.close()
    return {column for column in found if rows[column.partition(".")[0]]}


def blobs(folder: Path) -> set[str]:
    """Return the parts of the blobs in a folder; ``?`` if a file is anything else."""
    found: set[str] = set()
    for path in folder.glob("??/*"):
        data = path.read_bytes()
        head = BlobHead.decode(data, len(data))
        whole = head is not None and primitives.blake2b(data[HEAD_BYTES:], size=32) == head.digest
        found |= {f"blob.{name}" for name in (FIELDS if whole else "?")}
    return found


def files(folder: Path) -> set[str]:
    """Return the names of a folder's files, those in folders below with their folder's."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def values(database: Path, table: str, column: str) -> list[bytes]:
    """Return a column."""
    db = apsw.Connection(str(database))
    found = [value for (value,) in db.execute(f"SELECT {column} FROM {table}")]  # noqa: S608 -- a test's own names
    db.close()
    return found


def labels(registry: CollectorRegistry) -> set[str]:
    """Return metric.label of all samples."""
    return {
        f"{family.name}.{label}"
        for family in registry.collect()
        for sample in family.samples
        for label in sample.labels
    }


def log_fields(folder: Path = SERVER) -> set[str]:
    """Return the fields that the source hands to the log, and those that structlog adds."""
    found = set(_BY_STRUCTLOG)
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in _LEVELS and isinstance(node.func.value, ast.Name) and node.func.value.id == "_log":
                found |= {keyword.arg or "**" for keyword in node.keywords}
            elif path.name == "logs.py" and node.func.attr == "log":
                found |= _foreign_fields(path)
    return found


def _foreign_fields(path: Path) -> set[str]:
    """Return what the log adds to other packages' records: ``kind``, and the keys set on ``fields``."""
    return {"kind"} | {
        target.slice.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Subscript)
        and isinstance(target.value, ast.Name)
        and target.value.id == "fields"
        and isinstance(target.slice, ast.Constant)
        and isinstance(target.slice.value, str)
    }


def handed_on(role: Role) -> set[str]:
    """Return the fields of all that goes to a role's processor."""
    kinds = [each for each in vars(processors).values() if isinstance(each, type) and issubclass(each, Outgoing)]
    return {name for kind in kinds if kind is not Outgoing and kind.role == role for name in names_of(kind)}


def unmatched(names: AbstractSet[str], patterns: AbstractSet[str]) -> tuple[set[str], set[str]]:
    """Return the names that no pattern fits, and the patterns that fit no name."""
    return (
        {name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)},
        {pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)},
    )
