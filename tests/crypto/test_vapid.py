"""Tokens of RFC 8292, verified by another path than the one that signs."""

from hypothesis import given
from hypothesis import strategies as st

from restante_crypto import vapid
from restante_crypto.primitives import P256_UNIFORM_BYTES, P256Key
from support.push_service import verified

KEY = P256Key(bytes(range(P256_UNIFORM_BYTES)))
AUDIENCE = "https://push.example.net"


def test_a_token_says_for_whom_until_when_and_from_whom() -> None:
    header, claims, key = verified(vapid.authorization(KEY, AUDIENCE, 1_800_000_000, "mailto:post@example.org"))
    assert header == {"typ": "JWT", "alg": "ES256"}
    assert claims == {"aud": AUDIENCE, "exp": 1_800_000_000, "sub": "mailto:post@example.org"}
    assert key == KEY.public


def test_without_a_subject_there_is_none() -> None:
    _, claims, _ = verified(vapid.authorization(KEY, AUDIENCE, 1))
    assert claims == {"aud": AUDIENCE, "exp": 1}


@given(st.binary(min_size=P256_UNIFORM_BYTES, max_size=P256_UNIFORM_BYTES), st.integers(0, 2**33), st.text(max_size=40))
def test_every_key_signs_what_its_public_key_verifies(uniform: bytes, expires: int, subject: str) -> None:
    key = P256Key(uniform)
    _, claims, public = verified(vapid.authorization(key, AUDIENCE, expires, subject))
    assert (claims["exp"], claims.get("sub", ""), public) == (expires, subject, key.public)
