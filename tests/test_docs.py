"""The examples of README and docs run, as they stand there, against a real relay."""

import asyncio
import re
import textwrap
from pathlib import Path

import pytest

from support.relay import relay_in_process

ROOT = Path(__file__).parent.parent
EXAMPLES = [
    pytest.param(path, code, id=f"{path.name}-{number}")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE), 1)
]


@pytest.mark.parametrize(("path", "code"), EXAMPLES)
async def test_example(
    path: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with relay_in_process(tmp_path / "relay", purposes=("push",)) as relay:
        source = f"async def example():\n{textwrap.indent(code, '    ')}"
        names: dict[str, object] = {}
        exec(compile(source.replace("http://127.0.0.1:8787", relay.url), path.name, "exec"), names)  # noqa: S102 -- our own text
        async with asyncio.timeout(60):
            await names["example"]()  # type: ignore[operator]  # the function just made
    printed = capsys.readouterr().out.splitlines()
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert printed == expected or not expected


def test_every_local_link_leads_somewhere() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
