"""The relay's public pages: what its operator publishes, as HTML, plain text and JSON. PROTOCOL.md section 6.12.

No script, no cookie, nothing from elsewhere, and nothing about the visitor is kept: a page depends on its address
and on the language that the browser asks for.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import jinja2
from aiohttp import web
from markupsafe import Markup

from restante_server import policy
from restante_server import policy_texts as texts
from restante_server.categories import LANGUAGES, Text
from restante_server.services import bulletin
from restante_server.services.bulletin import Bulletin
from restante_server.stores.contract import StoreError

_NAMES: Final = {"en": "English", "zh": "中文"}
_NAVIGATION: Final = Text("Languages and versions", "语言和版本")
_VERSION: Final = Text("Version {number} ({version}), {date}", "第 {number} 版（{version}),{date}")
_EARLIER: Final = Text("Version {number}, {date}", "第 {number} 版，{date}")
_CHANGED: Final = Text("What changed in version {number}", "第 {number} 版的变更")
_NO_EARLIER: Final = Text("This is the first version.", "这是第一个版本。")

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("restante_server.transport"), autoescape=True, undefined=jinja2.StrictUndefined
)
_page = _environment.get_template("page.html")
_style = _environment.get_template("style.css").render().strip()
_style_hash = base64.b64encode(hashlib.sha256(_style.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_style_hash}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Language",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(published: Bulletin) -> list[web.RouteDef]:
    """Return what an aiohttp application needs."""
    pages = _Policy(published)
    return [
        web.get("/.well-known/restante", guarded(pages.show_relay)),
        web.get(r"/privacy{form:(\.txt|\.json)?}", guarded(pages.show)),
        web.get(r"/privacy/{number:[1-9]\d{0,5}}{form:(\.txt|\.json)?}", guarded(pages.show)),
        web.get(r"/privacy/{number:[1-9]\d{0,5}}/changes{form:(\.txt)?}", guarded(pages.show_changes)),
    ]


def guarded(handler: _Handler) -> _Handler:
    """Return a handler that says so if the store does not answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except StoreError:
            return web.Response(status=503, text="try again later\n", headers=HEADERS)

    return handle


def language_of(request: web.Request) -> str:
    """Return the language that the address names, or else that the browser prefers, or else the first."""
    asked = request.query.get("lang", "")
    if asked in LANGUAGES:
        return asked
    preferred: list[tuple[float, str]] = []
    for part in request.headers.get("Accept-Language", "")[:200].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            preferred.append((-float(quality or 1), tag[:2].lower()))
        except ValueError:
            continue
    return next((tag for _, tag in sorted(preferred, key=lambda each: each[0]) if tag in LANGUAGES), LANGUAGES[0])


def html(language: str, title: str, **parts: Any) -> web.Response:  # noqa: ANN401 -- the template's
    """Return a page."""
    shown: dict[str, Any] = {"lead": [], "sections": [], "links": [], "changes": [], **parts}
    text = _page.render(
        language=language,
        title=title,
        style=Markup(_style),  # noqa: S704 -- our own file
        navigation=_NAVIGATION[language],
        **shown,
    )
    return web.Response(text=text, content_type="text/html", headers=HEADERS)


class _Policy:
    def __init__(self, published: Bulletin) -> None:
        self._published = published

    async def _find(self, request: web.Request) -> tuple[list[dict[str, Any]], int, dict[str, Any]]:
        """Return all versions, the number asked for (by default the newest), and its content."""
        _, listed = await self._published.read(bulletin.POLICY)
        number = int(request.match_info.get("number") or len(listed or []))
        content = await self._text(number) if listed and number <= len(listed) else None
        if content is None:
            raise web.HTTPNotFound(text="no such policy\n", headers=HEADERS)
        return listed, number, content

    async def _text(self, number: int) -> dict[str, Any] | None:
        _, content = await self._published.read(bulletin.policy_name(number))
        return content if content is None else dict(content)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Answer /privacy and /privacy/NUMBER in any form."""
        listed, number, content = await self._find(request)
        language = language_of(request)
        said = content["languages"][language]
        match request.match_info["form"]:
            case ".txt":
                return web.Response(text=said["text"], headers=HEADERS)
            case ".json":
                shown = {**listed[number - 1], "policy": content}
                return web.Response(body=policy.encode(shown), content_type="application/json", headers=HEADERS)
        entry = listed[number - 1]
        version = _VERSION[language].format(number=number, version=entry["version"], date=_date(entry))
        return html(
            language,
            said["title"],
            lead=[said["operator"], version],
            sections=said["sections"],
            links=[*languages(request.path), *_versions(listed, number, language)],
        )

    async def show_relay(self, _request: web.Request) -> web.StreamResponse:
        """Answer /.well-known/restante: the relay's key, its policy's number, its official invites."""
        _, listed = await self._published.read(bulletin.POLICY)
        _, official = await self._published.read(bulletin.OFFICIAL)
        shown = {"relay_key": self._published.relay_key.hex(), "policy": len(listed or []), "official": official or []}
        return web.Response(body=policy.encode(shown), content_type="application/json", headers=HEADERS)

    async def show_changes(self, request: web.Request) -> web.StreamResponse:
        """Answer /privacy/NUMBER/changes: what is new and what is gone since the version before."""
        _, number, content = await self._find(request)
        language = language_of(request)
        before = await self._text(number - 1) if number > 1 else None
        changed: list[tuple[str, str]] = []
        if before is not None:
            changed = policy.changes(before["languages"][language]["text"], content["languages"][language]["text"])
        if request.match_info["form"] == ".txt":
            lines = [f"{sign} {line}\n" for sign, line in changed]
            return web.Response(text="".join(lines) or _NO_EARLIER[language] + "\n", headers=HEADERS)
        return html(
            language,
            _CHANGED[language].format(number=number),
            lead=[] if changed else [_NO_EARLIER[language]],
            changes=changed,
            links=[*languages(request.path), link(f"/privacy/{number}?lang={language}", texts.TITLE[language])],
        )


def _date(entry: dict[str, Any]) -> str:
    return datetime.fromtimestamp(entry["published"], UTC).date().isoformat()


def link(href: str, text: str, language: str = "") -> dict[str, str]:
    """Return a link of a page."""
    return {"href": href, "text": text, "language": language}


def languages(path: str) -> list[dict[str, str]]:
    """Return links to the same page in every language."""
    return [link(f"{path}?lang={language}", _NAMES[language], language) for language in LANGUAGES]


def _versions(listed: list[dict[str, Any]], number: int, language: str) -> list[dict[str, str]]:
    links = [link(f"/privacy/{number}/changes?lang={language}", _CHANGED[language].format(number=number))]
    for entry in reversed(listed):
        if entry["number"] != number:
            text = _EARLIER[language].format(number=entry["number"], date=_date(entry))
            links.append(link(f"/privacy/{entry['number']}?lang={language}", text))
    return links
