"""Chromium for tests, as a phone shows pages, over its DevTools protocol; and axe-core in it.

Needs Chromium (Debian's ``chromium``) and axe-core (``make peers``, or its file in RESTANTE_AXE). Without them tests
are skipped, which RESTANTE_REQUIRE_BROWSER makes an error.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from support.waiting import until

SECONDS = 90  # until a test gives up
ROOT = Path(__file__).parent.parent.parent
AXE = Path(os.environ.get("RESTANTE_AXE", ROOT / ".peers" / "node_modules" / "axe-core" / "axe.min.js"))
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
_AXE_RUN = """axe.run(document, {resultTypes: ["violations"], preload: false}).then(found => JSON.stringify({
    violations: found.violations.map(each => [each.id, each.nodes.map(node => node.html)]),
    passes: found.passes.length, width: innerWidth, wide: document.documentElement.scrollWidth,
}))"""


def chromium() -> str:
    """Return the browser's program, or skip the test."""
    if not AXE.exists():
        _missing("no axe-core (make peers)")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return _missing("no Chromium (apt-get install chromium)")


def _missing(what: str) -> str:
    text = f"NOT CHECKED IN A BROWSER: {what}"
    if os.environ.get("RESTANTE_REQUIRE_BROWSER"):
        pytest.fail(text)
    pytest.skip(text)


@dataclass
class Seen:
    """What a page did.

    Attributes:
        requests: the addresses that the browser asked for, in order.
        errors: what it complained about: the page's policy broken, a script's error, something that cannot be loaded.
        cookies: what it kept.
        text: what a person reads.
    """

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cookies: list[Any] = field(default_factory=list)
    text: str = ""


class Browser:
    """A browser with one page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._session = ""
        self._seen = Seen()
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, profile: Path) -> AsyncIterator[Self]:
        """Run a browser with a new, empty profile until the block ends."""
        program = chromium()
        profile.mkdir()  # noqa: ASYNC240 -- a test's own folder
        process = await asyncio.create_subprocess_exec(
            program,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with (
                asyncio.timeout(SECONDS),
                aiohttp.ClientSession() as http,
                http.ws_connect(await _endpoint(profile), max_msg_size=0) as socket,
            ):
                browser = cls(socket)
                await browser._open_page()
                yield browser
                browser._reader.cancel()
        finally:
            process.kill()
            await process.wait()

    async def _open_page(self) -> None:
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Audits"):
            await self._call(f"{domain}.enable")
        await self._call("Emulation.setDeviceMetricsOverride", **PHONE)

    async def show(self, url: str) -> Seen:
        """Load a page; return what it did."""
        self._seen = Seen()
        self._loaded.clear()
        await self._call("Page.navigate", url=url)
        await self._loaded.wait()
        self._seen.text = await self.run("document.body.innerText")
        self._seen.cookies = (await self._call("Network.getAllCookies"))["cookies"]
        return self._seen

    async def run(self, expression: str) -> Any:  # noqa: ANN401 -- whatever the page says
        """Return the value of an expression in the page."""
        answer = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def axe(self) -> dict[str, Any]:
        """Return what axe-core finds in the page that is shown, and how wide that is."""
        await self.run(AXE.read_text())  # noqa: ASYNC240 -- a local file
        found: dict[str, Any] = json.loads(await self.run(_AXE_RUN))
        return found

    async def _call(self, method: str, **parameters: object) -> Any:  # noqa: ANN401 -- an answer of the browser
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        return await self._waiting[number]

    async def _read(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                waiting = self._waiting.pop(told["id"])
                if "error" in told:
                    waiting.set_exception(AssertionError(told["error"]))
                else:
                    waiting.set_result(told["result"])
            else:
                self._take(told["method"], told["params"])

    def _take(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self._seen.requests.append(told["request"]["url"])
            case "Page.loadEventFired":
                self._loaded.set()
            case "Log.entryAdded":
                self._seen.errors.append(told["entry"]["text"])
            case "Audits.issueAdded":
                self._seen.errors.append(told["issue"]["code"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self._seen.errors.append(method)


async def _endpoint(profile: Path) -> str:
    """Return where the browser listens, once it does."""
    file = profile / "DevToolsActivePort"
    await until(lambda: file.exists() and "\n" in file.read_text())
    port, path = file.read_text().split("\n")[:2]
    return f"ws://127.0.0.1:{port}{path}"
