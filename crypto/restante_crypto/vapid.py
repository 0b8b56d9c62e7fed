"""Who asks a push service to wake a device: RFC 8292 (VAPID), a JSON Web Token signed by the relay's P-256 key.

A push service takes wake-ups for an endpoint from the key alone that the endpoint was made for. Pushes have no content
here, so nothing of RFC 8291 is.
"""

import base64
import json
from typing import Final

from restante_crypto.primitives import P256Key

MAX_SECONDS: Final = 86_400  # that a token may be valid for: RFC 8292 section 2


def base64url(data: bytes) -> str:
    """Return the text that keys and tokens are written as: RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def authorization(key: P256Key, audience: str, expires: int, subject: str = "") -> str:
    """Return the value of the header field ``Authorization``: RFC 8292 section 3.

    Args:
        key: the application server's.
        audience: the push service's origin, such as ``https://push.example.net``.
        expires: Unix seconds, at most MAX_SECONDS from now.
        subject: a ``mailto:`` or ``https:`` URI of whoever answers for the key, or nothing.
    """
    claims: dict[str, str | int] = {"aud": audience, "exp": expires}
    if subject:
        claims["sub"] = subject
    signed = f"{_encoded({'typ': 'JWT', 'alg': 'ES256'})}.{_encoded(claims)}"
    signature = key.sign(signed.encode("ascii"))
    return f"vapid t={signed}.{base64url(signature)}, k={base64url(key.public)}"


def _encoded(content: dict[str, str] | dict[str, str | int]) -> str:
    return base64url(json.dumps(content, separators=(",", ":")).encode())
