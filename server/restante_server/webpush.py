"""Pushes to push services: RFC 8030, without content. They are in others' hands: what is sent has passed the gateway.

Strangers say where to. So nothing is sent to an address that is not public, whatever name leads to it; no redirect is
followed, of an answer nothing is read but its status and Retry-After, no cookie kept, and the request has no header
field but the ones below.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from restante_server.clock import Clock, system_clock
from restante_server.config import PUSH_CONNECTIONS, SettingError
from restante_server.endpoints import Endpoint, Host, is_public
from restante_server.processors import Gateway, Passed, Role, Undeclared, WakeUp
from restante_server.services.push import Answer, Outcome, Service

PATIENCE: Final = 10  # seconds for a push service to take a push
_GONE: Final = frozenset({404, 410})  # RFC 8030 section 7.3: the subscription has ended
_BUSY: Final = frozenset({408, 425, 429})  # RFC 8030 section 8.4: strangers can bring this about, for their endpoints
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+")  # of mail
_SECONDS: Final = re.compile(r"[0-9]{1,10}")  # more digits are three centuries
_DATES: Final = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""RFC 9110 section 5.6.7: the form that is sent, and the two that are taken as well."""
_OURS: Final = 500  # from here on it is


class _Public(AbstractResolver):
    """Resolves names to public addresses, and to no other: each connection goes to an address that was looked at."""

    def __init__(self) -> None:
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See ``AbstractResolver``. Raises OSError if one of the addresses is not public."""
        found: list[ResolveResult] = await self._system.resolve(host, port, family)
        if not all(is_public(each["host"]) for each in found):
            raise OSError("not on the internet")
        return found

    async def close(self) -> None:
        """See ``AbstractResolver``."""
        await self._system.close()


class WebPush:
    """What sends pushes; an async context manager."""

    def __init__(
        self, *, clock: Clock = system_clock, private: bool = False, context: ssl.SSLContext | None = None
    ) -> None:
        """Nothing is sent yet.

        Args:
            clock: by which a date in Retry-After is read.
            private: push services may be at addresses that are not public, and without TLS.
            context: which certificates are trusted; by default the system's.
        """
        self._clock = clock
        self._private = private
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=None if private else _Public(),
                ssl=context or True,
                limit=PUSH_CONNECTIONS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def __aenter__(self) -> Self:
        """Go on."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._session.close()

    def may_reach(self, endpoint: Endpoint) -> bool:
        """Say whether anything is ever sent there: with TLS, and not to a literal address that is not public."""
        return self._private or (endpoint.scheme == "https" and (not endpoint.address or is_public(endpoint.address)))

    async def post(self, message: Passed[WakeUp]) -> Answer:
        """Send a push that has passed the gateway."""
        values = message.values
        endpoint = Endpoint.parse(values.endpoint)
        if not self.may_reach(endpoint):
            return Answer(Outcome.REFUSED)
        headers = {
            "Authorization": values.authorization,
            "TTL": values.ttl,
            "Topic": values.topic,
            "Urgency": values.urgency,
            "Content-Length": "0",
        }
        try:
            async with (
                asyncio.timeout(PATIENCE),
                self._session.post(URL(endpoint.text, encoded=True), headers=headers, allow_redirects=False) as answer,
            ):
                after = retry_after(answer.headers.get("Retry-After", ""), self._clock() // 1000)
                return Answer(_outcome(answer.status), after)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Answer(Outcome.LATER)

    async def answers(self, host: Host) -> bool:
        """Say whether anything answers at a host: for ``restante doctor``, and nobody's endpoint."""
        for scheme in ("https", "http") if self._private else ("https",):
            endpoint = Endpoint.parse(f"{scheme}://{host}/")
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                if self.may_reach(endpoint):
                    async with asyncio.timeout(PATIENCE), self._session.head(endpoint.text, allow_redirects=False):
                        return True
        return False


def retry_after(field: str, now: int) -> float:
    """Return the seconds in a Retry-After field (RFC 9110 section 10.2.3), whatever its text: 0 if it says nothing.

    It is a number, or a date, of which those up to ``now`` (Unix seconds) are none.
    """
    if _SECONDS.fullmatch(field):
        return float(field)
    for form in _DATES:
        with contextlib.suppress(ValueError):
            return max(0.0, datetime.strptime(field, form).replace(tzinfo=UTC).timestamp() - now)
    return 0.0


def _outcome(status: int) -> Outcome:
    if status < 300:  # noqa: PLR2004 -- 2xx
        return Outcome.TAKEN
    if status in _GONE:
        return Outcome.GONE
    if status in _BUSY:
        return Outcome.BUSY
    return Outcome.LATER if status >= _OURS else Outcome.REFUSED


def service(web: WebPush, gateway: Gateway, contact: str) -> Service:
    """Return what sends pushes to declared services. Raises SettingError: none is declared.

    Args:
        web: sends them.
        gateway: lets them out.
        contact: how to reach whoever answers for the relay; push services are told it if it is an address or URL.
    """
    try:
        declared = gateway.processors(Role.PUSH)
    except Undeclared as error:
        raise SettingError(f"pushes go through others' hands: {error}") from None

    async def send(message: WakeUp) -> Answer:
        return await web.post(gateway.pass_out(message))

    def is_declared(endpoint: Endpoint) -> bool:
        return any(processor.has(endpoint) for processor in declared)

    return Service(send, web.may_reach, is_declared, _subject(contact))


def _subject(contact: str) -> str:
    if contact.startswith(("https://", "mailto:")):
        return contact
    return f"mailto:{contact}" if _ADDRESS.fullmatch(contact) else ""
