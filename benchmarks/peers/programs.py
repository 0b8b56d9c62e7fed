"""Programs of others, brought into a folder without root: from PyPI, or unpacked from Debian's packages."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.systems import MissingError

PATIENCE_SECONDS: Final = 300
DONE: Final = ".done"


def _run(command: Sequence[str | Path], folder: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 -- our own words
            list(command), cwd=folder, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise MissingError(f"{command[0]}: {said.strip().splitlines()[-1][:200]}") from None
    return done.stdout


def pypi(requirement: str, folder: Path) -> Path:
    """Return a folder with a package of PyPI and all that it needs. Raises MissingError."""
    place = (folder / re.split(r"[=\[<>]", requirement)[0]).absolute()
    if not (place / DONE).exists():
        place.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", place, requirement], folder)
        (place / DONE).touch()
    return place


def debian(package: str, folder: Path) -> Path:
    """Return a folder with a Debian package, and what it needs and this machine lacks. Raises MissingError."""
    place = (folder / package).absolute()
    if not (place / DONE).exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise MissingError(f"{package}: it comes from Debian's packages, and there is no apt-get")
        place.mkdir(parents=True, exist_ok=True)
        listed = _run(["apt-get", "install", "--yes", "--simulate", "--no-install-recommends", package], folder)
        names = installs(listed)
        _run(["apt-get", "download", *(names or [package])], place)
        for archive in sorted(place.glob("*.deb")):
            _run(["dpkg", "--extract", archive, place], place)
            archive.unlink()
        (place / DONE).touch()
    return place


def installs(simulated: str) -> list[str]:
    """Return the packages that a simulated installation names."""
    return [line.split()[1] for line in simulated.splitlines() if line.startswith("Inst ")]


def libraries(place: Path) -> Mapping[str, str]:
    """Return the environment in which a program finds the libraries that were unpacked with it."""
    folders = [*place.glob("usr/lib/*-linux-gnu*"), *place.glob("lib/*-linux-gnu*"), place / "usr/lib"]
    return {"LD_LIBRARY_PATH": os.pathsep.join(str(each) for each in folders)}
