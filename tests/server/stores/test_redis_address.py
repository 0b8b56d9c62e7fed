"""URLs of Redis stores."""

import pytest

from restante_server.stores.redis_address import RedisAddress, is_redis, parse_redis


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h:1", RedisAddress("single", (("h", 1),))),
        ("redis://h/3", RedisAddress("single", (("h", 6379),), database=3)),
        ("rediss://u:p%40@h:1", RedisAddress("single", (("h", 1),), tls=True, username="u", password="p@")),
        ("redis://:p@h", RedisAddress("single", (("h", 6379),), password="p")),
        ("redis+cluster://a:1,b:2", RedisAddress("cluster", (("a", 1), ("b", 2)))),
        ("redis+sentinel://a,[::1]:2/mine", RedisAddress("sentinel", (("a", 26379), ("::1", 2)), service="mine")),
        (
            "redis+sentinel://u:p%40@a/mine?sentinel_username=w&sentinel_password=p%40%3F",
            RedisAddress(
                *("sentinel", (("a", 26379),)),
                username="u",
                password="p@",
                service="mine",
                sentinel_username="w",
                sentinel_password="p@?",
            ),
        ),
        ("redis://h?prefix=x&ssl_ca_certs=/f", RedisAddress("single", (("h", 6379),), prefix="x", ca_file="/f")),
    ],
)
def test_urls(url: str, address: RedisAddress) -> None:
    assert is_redis(url)
    assert parse_redis(url) == address
    assert "p@" not in repr(address)
    assert (address.ssl_context() is not None) == address.tls if not address.ca_file else True


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis+sentinel://h",
        "redis+cluster://h/1",
        "redis://h/name",
        "redis://h?prefix=",
        "redis://h?prefix={x}",
        "redis://h?other=1",
        "redis://h?sentinel_password=p",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_redis(url)
