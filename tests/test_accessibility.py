"""The pages in a real browser, as a phone shows them: axe-core finds nothing to object to.

Needs Chromium (Debian's ``chromium``) and axe-core (``npm install axe-core`` here, or its file in RESTANTE_AXE).
"""

import asyncio
import html
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.relay import relay_in_process

ROOT = Path(__file__).parent.parent
AXE = Path(os.environ.get("RESTANTE_AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = ["/privacy", "/privacy?lang=zh", "/privacy/2/changes"]
RUN = """<script>
axe.run(document, {resultTypes: ["violations"]}).then(found => {
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify({
    violations: found.violations.map(each => [each.id, each.nodes.map(node => node.html)]),
    passes: found.passes.length, width: innerWidth, wide: document.documentElement.scrollWidth,
    fetched: performance.getEntriesByType("resource").map(each => each.name),
  });
  document.body.append(pre);
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="NOT CHECKED: no Chromium (apt install chromium)")
@pytest.mark.skipif(not AXE.exists(), reason="NOT CHECKED: no axe-core (npm install axe-core)")
def test_axe_finds_no_violation_and_nothing_is_fetched(tmp_path: Path) -> None:
    asyncio.run(check(tmp_path, f"<script>{AXE.read_text()}</script>{RUN}"))


async def check(tmp_path: Path, script: str) -> None:
    async with relay_in_process(tmp_path / "relay", operator_name="One"):
        pass
    async with relay_in_process(tmp_path / "relay", operator_name="Two") as relay, aiohttp.ClientSession() as session:
        for number, path in enumerate(PAGES):
            async with session.get(relay.url + path) as response:
                page = await response.text()
            file = tmp_path / f"{number}.html"
            file.write_text(page.replace("</body>", script + "</body>"))
            found = await look(file, tmp_path / "profile")
            assert found["violations"] == [], path
            assert found["passes"] > 10, path
            assert found["wide"] <= found["width"], "it fits a phone"
            assert found["fetched"] == [], path


async def look(file: Path, profile: Path) -> dict[str, Any]:
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--window-size=500,900"]
    flags += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom"]
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *flags, file.as_uri(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(90):
        shown, _ = await process.communicate()
    match = re.search('<pre id="found">(.*?)</pre>', shown.decode(), re.DOTALL)
    assert match is not None, "axe-core did not finish"
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found
