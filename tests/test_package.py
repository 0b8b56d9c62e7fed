"""The package as people install it: the wheel in a clean environment, without and with the relay."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RELAY_ONLY = ("apsw", "prometheus_client", "redis", "structlog", "typer", "uvloop")


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(  # noqa: S603 -- our own commands
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clean environment with the wheel, and the wheel."""
    folder = tmp_path_factory.mktemp("package")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("restante-*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return python, wheel


@pytest.mark.timeout(300)
def test_the_sdk_alone(installed: tuple[Path, Path]) -> None:
    python, _ = installed
    script = f"import restante, importlib.util as u; print([m for m in {RELAY_ONLY!r} if u.find_spec(m)])"
    assert run(python, "-c", script, cwd=python.parent).strip() == "[]"
    asked = subprocess.run(  # noqa: S603 -- our own command
        [python, "-m", "restante_server", "serve"], capture_output=True, text=True, check=False, timeout=60
    )
    assert asked.returncode != 0
    assert "restante[server]" in asked.stderr
    assert "nickname" in run(python.with_name("restante"), "profile", "--help", cwd=python.parent), "is the SDK's"


@pytest.mark.timeout(300)
def test_with_the_relay(installed: tuple[Path, Path]) -> None:
    python, wheel = installed
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[server]", cwd=python.parent)
    shown = run(python, "-m", "restante.demo", cwd=python.parent)
    assert "0 found" in shown
