"""Text messages: to the console while one develops, or to a provider's webhook, signed.

The webhook gets ``POST``, ``Content-Type: application/json``, an object of ``number`` and ``text``, with the headers
``Restante-Timestamp`` (Unix seconds) and ``Restante-Signature``: the hexadecimal HMAC-SHA256 of timestamp ‖ "." ‖ body
under the secret that both sides share. It answers 2xx once it has taken the message. It is in others' hands: what is
sent there has passed the gateway.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import aiohttp

from restante_crypto import primitives
from restante_server.clock import Clock
from restante_server.config import SettingError
from restante_server.processors import Gateway, Passed, Role, TextMessage, Undeclared
from restante_server.services.numbers import Send

CONSOLE: Final = "console"
PATIENCE: Final = 10  # seconds for the provider to take a message
_LEAST_SECRET: Final = 16  # bytes


async def to_console(message: TextMessage) -> None:
    """Show a message on standard error: for development alone."""
    print(f"text message to {message.number}: {message.text}", file=sys.stderr, flush=True)  # noqa: T201 -- its purpose


async def to_nobody(_message: TextMessage) -> None:
    """Send nothing: no number can be verified."""
    raise OSError("no sender")


class Webhook:
    """A provider's webhook."""

    def __init__(self, url: str, secret: bytes, clock: Clock) -> None:
        """Nothing is sent yet."""
        self._url = url
        self._secret = secret
        self._clock = clock

    async def post(self, message: Passed[TextMessage]) -> None:
        """Send a message that has passed the gateway. Raises OSError or TimeoutError."""
        values = message.values
        body = json.dumps({"number": values.number, "text": values.text}, ensure_ascii=False).encode()
        timestamp = str(self._clock() // 1000)
        signature = primitives.hmac("sha256", self._secret, timestamp.encode() + b"." + body).hex()
        headers = {
            "Content-Type": "application/json",
            "Restante-Timestamp": timestamp,
            "Restante-Signature": signature,
        }
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            try:
                async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                    taken = answer.ok and answer.status < 300  # noqa: PLR2004 -- 2xx
            except aiohttp.ClientError:
                raise OSError("the provider does not answer") from None
        if not taken:
            raise OSError("the provider refuses")


async def sender(where: str, secret: Path | None, gateway: Gateway, clock: Clock, *, wanted: bool) -> Send:
    """Return what sends text messages: "console", an https URL, or nothing if numbers are not ``wanted``.

    Raises:
        SettingError: none is set and one is wanted; the secret is missing or short; nobody is declared for it.
    """
    if not wanted:
        return to_nobody
    if where == CONSOLE:
        return to_console
    if not where.startswith(("https://", "http://127.0.0.1", "http://[::1]")):
        raise SettingError("numbers are verified by text messages: --sms is console, or an https URL")
    if secret is None:
        raise SettingError("a webhook needs a secret: --sms-secret FILE")
    try:
        shared = (await asyncio.to_thread(secret.read_bytes)).strip()
    except OSError as error:
        raise SettingError(f"cannot read the secret of the webhook: {error.strerror}") from None
    if len(shared) < _LEAST_SECRET:
        raise SettingError(f"the secret of the webhook has at least {_LEAST_SECRET} bytes")
    try:
        gateway.processors(Role.SMS)
    except Undeclared as error:
        raise SettingError(f"text messages go through others' hands: {error}") from None
    webhook = Webhook(where, shared, clock)

    async def send(message: TextMessage) -> None:
        await webhook.post(gateway.pass_out(message))

    return send
