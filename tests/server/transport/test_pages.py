import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from restante_crypto import primitives
from restante_server.app import Relay
from support.relay import relay_in_process

NAME = 'Post & <Sons> "Ltd"'


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    """A relay whose policy changed twice: the operator's name, then the contact."""
    for operator, contact in (("First", ""), (NAME, "")):
        async with relay_in_process(tmp_path, operator_name=operator, operator_contact=contact):
            pass
    async with relay_in_process(tmp_path, operator_name=NAME, operator_contact="post@example.org") as running:
        yield running


class Elements(HTMLParser):
    """Every start tag of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


async def get(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
    async with session.get(url, headers=headers) as response:
        return response, await response.text()


async def test_the_policy_in_three_forms(relay: Relay, session: aiohttp.ClientSession) -> None:
    response, html = await get(session, relay.url + "/privacy")
    assert (response.status, response.content_type) == (200, "text/html")
    assert NAME in Elements(html).text
    assert "<Sons>" not in html
    response, text = await get(session, relay.url + "/privacy.txt")
    assert (response.status, response.content_type) == (200, "text/plain")
    response, raw = await get(session, relay.url + "/privacy.json")
    assert (response.status, response.content_type) == (200, "application/json")
    shown = json.loads(raw)
    assert (shown["number"], shown["policy"]["languages"]["en"]["text"]) == (3, text)


PAGES = ["/privacy", "/privacy?lang=zh", "/privacy/1", "/privacy/2/changes", "/privacy/1/changes"]


@pytest.mark.parametrize("path", PAGES)
async def test_no_script_no_cookie_nothing_from_elsewhere(
    relay: Relay, session: aiohttp.ClientSession, path: str
) -> None:
    response, html = await get(session, relay.url + path, Cookie="tracker=1")
    assert response.status == 200
    assert "Set-Cookie" not in response.headers
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    page = Elements(html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form", "input", "svg", "video", "audio"}
    for _, attributes in page.tags:
        assert not {name for name in attributes if name.startswith("on") or name in {"src", "style", "srcset"}}
        assert (attributes.get("href") or "/").startswith("/privacy") or "href" not in attributes
    assert "url(" not in html
    assert "@import" not in html


async def test_the_style_is_the_one_that_the_header_allows(relay: Relay, session: aiohttp.ClientSession) -> None:
    response, html = await get(session, relay.url + "/privacy")
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("query", "header", "language"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "fr, zh;q=0.2, en;q=0.7", "en"),
        ("", "fr;q=high, zh", "zh"),
        ("?lang=zh", "en", "zh"),
        ("?lang=xx", "zh", "zh"),
        ("?lang=en", "zh", "en"),
    ],
)
async def test_the_language_is_that_of_the_address_or_the_browser(
    relay: Relay, session: aiohttp.ClientSession, query: str, header: str, language: str
) -> None:
    _, html = await get(session, relay.url + "/privacy" + query, **{"Accept-Language": header})
    assert f'<html lang="{language}">' in html
    assert ("隐私政策" in html) == (language == "zh")


async def test_earlier_versions_stay_with_what_changed(relay: Relay, session: aiohttp.ClientSession) -> None:
    _, html = await get(session, relay.url + "/privacy")
    links = {attributes["href"] for tag, attributes in Elements(html).tags if tag == "a"}
    assert {"/privacy/1?lang=en", "/privacy/2?lang=en", "/privacy/3/changes?lang=en"} <= links
    for link in links:
        response, _ = await get(session, relay.url + str(link))
        assert response.status == 200, link
    _, first = await get(session, relay.url + "/privacy/1.txt")
    assert "First runs this relay" in first
    _, changes = await get(session, relay.url + "/privacy/3/changes.txt")
    assert [line[:2] for line in changes.splitlines()] == ["- ", "+ "]
    assert "post@example.org" in changes.splitlines()[1]
    _, html = await get(session, relay.url + "/privacy/3/changes")
    assert html.count("<ins>") == html.count("<del>") == 1
    _, text = await get(session, relay.url + "/privacy/1/changes.txt")
    assert text == "This is the first version.\n"


@pytest.mark.parametrize(
    "path", ["/privacy/4", "/privacy/0", "/privacy/1.pdf", "/privacy/4/changes", "/privacy/x", "/"]
)
async def test_what_does_not_exist(relay: Relay, session: aiohttp.ClientSession, path: str) -> None:
    response, _ = await get(session, relay.url + path)
    assert response.status == 404


async def test_a_store_that_is_gone(relay: Relay, session: aiohttp.ClientSession) -> None:
    await relay.store.close()
    response, _ = await get(session, relay.url + "/privacy")
    assert response.status == 503


async def test_a_relay_says_where_its_people_are(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    shown = []
    for official in (("Support=restante:AA", "Activities=restante:BB"), (), ()):
        async with relay_in_process(tmp_path, official=official) as relay:
            response, text = await get(session, relay.url + "/.well-known/restante")
            assert (response.status, response.content_type) == (200, "application/json")
            assert "Set-Cookie" not in response.headers
            shown.append(json.loads(text))
    key = primitives.ed25519_public((tmp_path / "relay.key").read_bytes()).hex()
    assert shown[0] == {
        "relay_key": key,
        "policy": 1,
        "official": [{"name": "Support", "invite": "restante:AA"}, {"name": "Activities", "invite": "restante:BB"}],
    }
    assert shown[1] == shown[2] == {"relay_key": key, "policy": 1, "official": []}
