"""The inputs that fuzzing begins with: those that a target makes, and those that are stored in tests/fuzz/corpus/.

A file per target: a line of hexadecimal digits per input, what begins with # is a comment. ``with_atheris.py --keep``
writes them; a failure that was repaired is added by hand.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from support.fuzz_targets import TARGETS

FOLDER: Final = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
MOST: Final = 12  # stored inputs of a target, the shortest: a corpus is small
MOST_BYTES: Final = 512  # of one


def place(name: str) -> Path:
    """Return the file of a target."""
    return FOLDER / f"{name.replace(' ', '-').replace(',', '')}.txt"


def stored(name: str) -> list[bytes]:
    """Return what is stored for a target."""
    file = place(name)
    lines = file.read_text().splitlines() if file.exists() else []
    return [bytes.fromhex(line) for line in lines if not line.startswith("#")]


def seeds(name: str) -> list[bytes]:
    """Return all that fuzzing of a target begins with."""
    return [*TARGETS[name].corpus(), *stored(name)]


def add(name: str, inputs: Iterable[bytes]) -> None:
    """Store the shortest of these inputs with what is there."""
    known = stored(name)
    fresh = sorted(
        {data for data in inputs if 0 < len(data) <= MOST_BYTES} - set(known), key=lambda data: (len(data), data)
    )
    lines = [data.hex() for data in [*known, *fresh[: max(0, MOST - len(known))]]]
    if lines:
        FOLDER.mkdir(exist_ok=True)
        place(name).write_text("\n".join([f"# {name}", *lines]) + "\n")
