"""Text messages: to whom, signed, and refused where somebody is not declared."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from restante_server import sms
from restante_server.config import SettingError
from restante_server.processors import Gateway, Processor, Role, TextMessage
from support.stores import MovedClock

SECRET = b"a shared secret of the test"
MESSAGE = TextMessage("+447911123456", "123456 is your code.")
DECLARED = Gateway([Processor(Role.SMS, "Example Telephony", "Iceland", "agreement")])
URL = "https://sms.example/"


class Provider:
    """A provider's webhook: what it was sent, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.got: list[tuple[bytes, dict[str, str]]] = []
        self.status = 204
        self.silent = False

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((await request.read(), dict(request.headers)))
        if self.silent:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers={"Location": self.url})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made, app = Provider(), web.Application()
    app.router.add_post("/", made.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


async def test_a_webhook_gets_the_message_signed(provider: Provider, secret: Path) -> None:
    clock = MovedClock()
    send = await sms.sender(provider.url, secret, DECLARED, clock, wanted=True)
    await send(MESSAGE)
    ((body, headers),) = provider.got
    assert json.loads(body) == {"number": MESSAGE.number, "text": MESSAGE.text}
    assert headers["Content-Type"] == "application/json"
    assert headers["Restante-Timestamp"] == str(clock() // 1000)
    signed = headers["Restante-Timestamp"].encode() + b"." + body
    assert headers["Restante-Signature"] == hmac.new(SECRET, signed, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("status", [301, 307, 400, 500])
async def test_what_is_not_taken_is_an_error(provider: Provider, secret: Path, status: int) -> None:
    provider.status = status
    send = await sms.sender(provider.url, secret, DECLARED, MovedClock(), wanted=True)
    with pytest.raises(OSError, match="refuses"):
        await send(MESSAGE)
    assert len(provider.got) == 1, "no redirect is followed"


async def test_a_provider_that_does_not_answer(
    provider: Provider, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sms, "PATIENCE", 0.2)
    provider.silent = True
    with pytest.raises(TimeoutError):
        await (await sms.sender(provider.url, secret, DECLARED, MovedClock(), wanted=True))(MESSAGE)
    with pytest.raises(OSError, match="does not answer"):
        await (await sms.sender("http://127.0.0.1:1/", secret, DECLARED, MovedClock(), wanted=True))(MESSAGE)


async def test_the_console_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    await (await sms.sender("console", None, Gateway([]), MovedClock(), wanted=True))(MESSAGE)
    assert capsys.readouterr() == ("", f"text message to {MESSAGE.number}: {MESSAGE.text}\n")


async def test_nothing_is_sent_where_numbers_are_not_offered() -> None:
    with pytest.raises(OSError, match="no sender"):
        await (await sms.sender(URL, None, Gateway([]), MovedClock(), wanted=False))(MESSAGE)


async def test_what_cannot_be_set(secret: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"short")
    for where, file, gateway, text in (
        ("", None, DECLARED, "console, or an https URL"),
        ("http://sms.example/", secret, DECLARED, "https"),
        (URL, None, DECLARED, "--sms-secret"),
        (URL, tmp_path / "nowhere", DECLARED, "cannot read"),
        (URL, short, DECLARED, "16 bytes"),
        (URL, secret, Gateway([]), "others' hands"),
    ):
        with pytest.raises(SettingError, match=text):
            await sms.sender(where, file, gateway, MovedClock(), wanted=True)
