"""Pushes on their way to a real push service: what it is told, what becomes of its answers, and where none go."""

import asyncio
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest

from restante_server import webpush
from restante_server.config import SettingError
from restante_server.endpoints import Endpoint, Host
from restante_server.processors import Gateway, Passed, WakeUp, parse
from restante_server.services.push import Answer, Outcome
from restante_server.webpush import WebPush, service
from support.certificates import Authority
from support.push_service import PushService, push_service
from support.stores import MovedClock


def passed(pushes: PushService, endpoint: str = "") -> Passed[WakeUp]:
    values = WakeUp(endpoint or pushes.endpoint("device"), "vapid t=a.b.c, k=d")
    return Gateway([parse(pushes.declaration)]).pass_out(values)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.TAKEN),
        (201, Outcome.TAKEN),
        (202, Outcome.TAKEN),
        (302, Outcome.REFUSED),
        (400, Outcome.REFUSED),
        (401, Outcome.REFUSED),
        (403, Outcome.REFUSED),
        (404, Outcome.GONE),
        (410, Outcome.GONE),
        (413, Outcome.REFUSED),
        (429, Outcome.BUSY),
        (500, Outcome.LATER),
        (503, Outcome.LATER),
    ],
)
async def test_what_answers_mean(status: int, outcome: Outcome) -> None:
    async with push_service() as pushes, WebPush(private=True) as web:
        pushes.answers = [status]
        pushes.location = pushes.endpoint("elsewhere")
        assert (await web.post(passed(pushes))).outcome is outcome
        assert [push.path for push in pushes.pushes] == ["/wake/device"], "no redirect is followed"


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("", 0),
        ("120", 120),
        ("9999999999", 9_999_999_999),
        ("99999999999", 0),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120),
        ("Friday, 15-Jan-27 08:02:00 GMT", 120),
        ("Fri Jan 15 08:02:00 2027", 120),
        ("Fri, 15 Jan 2027 07:59:00 GMT", 0),
        ("Fri, 32 Jan 2027 08:02:00 GMT", 0),
        ("-1", 0),
        ("1.5", 0),
        ("soon", 0),
    ],
)
async def test_how_long_a_service_wants_to_be_left_alone(field: str, seconds: float) -> None:
    async with push_service() as pushes, WebPush(clock=MovedClock(), private=True) as web:
        for status, outcome in ((503, Outcome.LATER), (429, Outcome.BUSY)):
            pushes.answers, pushes.retry_after = [status], field
            assert await web.post(passed(pushes)) == Answer(outcome, seconds)


async def test_the_request_has_no_content_and_no_field_more() -> None:
    async with push_service() as pushes, WebPush(private=True) as web:
        await web.post(passed(pushes))
        (push,) = pushes.pushes
        assert (push.method, push.body) == ("POST", b"")
        assert push.headers == {
            "Host": pushes.host,
            "Authorization": "vapid t=a.b.c, k=d",
            "TTL": "604800",
            "Topic": "waiting",
            "Urgency": "normal",
            "Content-Length": "0",
        }


async def test_who_does_not_answer_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with push_service() as pushes, WebPush(private=True) as web:
        monkeypatch.setattr(webpush, "PATIENCE", 0.05)
        pushes.silent = True
        assert (await web.post(passed(pushes))).outcome is Outcome.LATER
        gone = passed(pushes)
    async with WebPush(private=True) as web:
        assert (await web.post(gone)).outcome is Outcome.LATER, "nobody listens there"


async def test_over_tls_a_certificate_is_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with push_service(authority.context("127.0.0.1")) as pushes:
        async with WebPush(private=True, context=ssl.create_default_context(cafile=authority.file)) as web:
            assert (await web.post(passed(pushes))).outcome is Outcome.TAKEN
        async with WebPush(private=True) as web:
            assert (await web.post(passed(pushes))).outcome is Outcome.LATER
        assert len(pushes.pushes) == 1


async def test_nothing_is_sent_to_what_is_not_on_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A literal address is refused at once; a name when it is resolved, whatever else it resolves to."""
    async with push_service() as pushes, WebPush() as web:
        for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254"):
            assert not web.may_reach(Endpoint.parse(f"https://{host}/a"))
        assert not web.may_reach(Endpoint.parse("http://push.example.net/a"))
        assert web.may_reach(Endpoint.parse("https://push.example.net/a"))
        assert (await web.post(passed(pushes))).outcome is Outcome.REFUSED
        resolve = asyncio.get_running_loop().getaddrinfo
        asked: list[str] = []

        async def rebinding(host: str, port: int, **more: object) -> object:
            asked.append(host)
            address = "8.8.8.8" if host == "public.example.net" else "127.0.0.1"
            return await resolve(address, port, type=socket.SOCK_STREAM)

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
        for name in ("localhost", "push.example.net", "127.1", "2130706433"):
            pushes_there = f"push=A;B;C;{name}:{pushes.port}"
            gateway = Gateway([parse(pushes_there)])
            message = gateway.pass_out(WakeUp(f"https://{name}:{pushes.port}/a", "vapid"))
            assert (await web.post(message)).outcome is Outcome.LATER
        assert pushes.pushes == []
        assert "push.example.net" in asked
        resolver = webpush._Public()
        found = await resolver.resolve("public.example.net", 443)
        await resolver.close()
        assert [each["host"] for each in found] == ["8.8.8.8"]


async def test_services_are_looked_at() -> None:
    async with push_service() as pushes, WebPush(private=True) as web, WebPush() as strict:
        assert await web.answers(Host.parse(pushes.host))
        assert not await web.answers(Host.parse("127.0.0.1:9"))
        assert not await strict.answers(Host.parse(pushes.host))
        assert [(push.method, push.path) for push in pushes.pushes] == [("HEAD", "/")]


@pytest.mark.parametrize(
    ("contact", "subject"),
    [
        ("post@example.org", "mailto:post@example.org"),
        ("mailto:post@example.org", "mailto:post@example.org"),
        ("https://example.org/contact", "https://example.org/contact"),
        ("Example Post, Example Street 1", ""),
        ("", ""),
    ],
)
async def test_the_operator_is_named_if_a_uri_can(contact: str, subject: str) -> None:
    async with WebPush() as web:
        declared = Gateway([parse("push=Example Push;Iceland;agreement;push.example.net")])
        made = service(web, declared, contact)
        assert made.subject == subject
        assert made.is_declared(Endpoint.parse("https://push.example.net/a"))
        assert not made.is_declared(Endpoint.parse("https://push.example.org/a"))
        with pytest.raises(SettingError, match="--processor 'push="):
            service(web, Gateway([]), contact)


def test_the_session_keeps_no_cookies() -> None:
    async def jar() -> object:
        async with WebPush() as web:
            return web._session.cookie_jar

    assert isinstance(asyncio.run(jar()), aiohttp.DummyCookieJar)
