"""What a refusal is over HTTP: an Error frame under a status. PROTOCOL.md section 6.11."""

from typing import Final

from aiohttp import web

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server.metrics import Metrics

_STATUS: Final = {
    Code.MALFORMED: 400,
    Code.UNAUTHORIZED: 403,
    Code.NOT_FOUND: 404,
    Code.TIMEOUT: 408,
    Code.CONFLICT: 409,
    Code.LIMIT: 413,
    Code.TOO_LARGE: 413,
    Code.OVERLOADED: 503,
    Code.GOING_AWAY: 503,
    Code.UNAVAILABLE: 503,
    Code.FULL: 507,
}


def refusal(metrics: Metrics, code: Code, detail: str, request: int = 0) -> web.Response:
    """Return the answer, after which the connection is closed, and count it."""
    metrics.refusals.labels(code.name.lower()).inc()
    response = web.Response(status=_STATUS[code], body=frames.encode(frames.Error(request, code, detail)))
    response.force_close()
    return response
