"""Diagnostics over HTTP: a report has no body and no headers, and its answer says only whether it was taken."""

from typing import Final

from aiohttp import web

from restante_protocol.diagnostics import CLASSES, Measure
from restante_server import policy
from restante_server.services.diagnostics import Diagnostics
from restante_server.transport.pages import HEADERS, guarded

PATH: Final = "/v1/diagnostics"


def routes(diagnostics: Diagnostics) -> list[web.RouteDef]:
    """Return what an aiohttp application needs."""

    async def show(_request: web.Request) -> web.StreamResponse:
        body = policy.encode(await diagnostics.shown())
        return web.Response(body=body, content_type="application/json", headers=HEADERS)

    async def take(request: web.Request) -> web.StreamResponse:
        name, number = request.match_info["measure"], int(request.match_info["number"])
        if name not in set(Measure) or number >= CLASSES[Measure(name)]:
            response = web.Response(status=404)
        else:
            response = web.Response(status=204 if diagnostics.count(Measure(name), number) else 503)
        response.force_close()  # nothing else comes on this connection
        return response

    return [web.get(PATH, guarded(show)), web.post(PATH + r"/{measure:[a-z]{1,16}}/{number:\d}", take)]
