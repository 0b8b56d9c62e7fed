"""The pages in a real browser, as a phone shows them: axe-core finds nothing to object to, and nothing is fetched."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from support.browser import Browser
from support.public_pages import PAGES
from support.relay import relay_in_process


async def test_axe_finds_no_violation_and_nothing_is_fetched(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay", operator_name="One"):
        pass
    async with (
        relay_in_process(tmp_path / "relay", operator_name="Two") as relay,
        Browser.start(tmp_path / "profile") as browser,
    ):
        for path in PAGES:
            seen = await browser.show(relay.url + path)
            assert seen.requests == [relay.url + path], "the page, and nothing from anywhere"
            assert seen.errors == [], path
            assert seen.cookies == [], path
            assert len(seen.text) > 20, path
            found = await browser.axe()
            assert found["violations"] == [], path
            assert found["passes"] > 10, path
            assert found["wide"] <= found["width"] == 390, "it fits a phone"
            assert seen.requests == [relay.url + path], "not later, either"
            assert await browser.run("localStorage.length + sessionStorage.length") == 0


BAD = b"""<!doctype html><html><head><title></title><style>
div { width: 900px; background: url(/background.png) }</style>
</head><body><img src=/picture.png><p style="color: #eee; background: #fff">pale</p><div>wide</div>
<script>console.log("here")</script></body></html>"""


class BadPage(BaseHTTPRequestHandler):
    """Everything that a page should not do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", "tracker=1")
        self.send_header("Content-Security-Policy", "img-src 'none'")
        self.end_headers()
        self.wfile.write(BAD)

    def log_message(self, *_: object) -> None:
        pass


async def test_a_bad_page_would_be_noticed(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), BadPage) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        async with Browser.start(tmp_path / "profile") as browser:
            seen = await browser.show(url)
            assert seen.requests != [url]
            assert "Runtime.consoleAPICalled" in seen.errors
            assert any("img-src" in error for error in seen.errors)
            assert [cookie["name"] for cookie in seen.cookies] == ["tracker"]
            found = await browser.axe()
            assert {"image-alt", "color-contrast", "document-title"} <= {name for name, _ in found["violations"]}
            assert found["wide"] > found["width"] or found["wide"] > 390
        server.shutdown()
