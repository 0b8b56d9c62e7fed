"""Which URLs are endpoints, at whose hosts, and which addresses are on the internet."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from restante_protocol.limits import MAX_ENDPOINT_BYTES
from restante_server.endpoints import Endpoint, Host, is_address, is_public


@pytest.mark.parametrize(
    ("text", "host", "port", "origin"),
    [
        ("https://push.example.net", "push.example.net", 443, "https://push.example.net"),
        ("https://push.example.net:443/a?b=%2F", "push.example.net", 443, "https://push.example.net"),
        ("https://push.example.net:8443/wpush/v2/gAAA-_:x", "push.example.net", 8443, "https://push.example.net:8443"),
        ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "http://127.0.0.1:8080"),
        ("http://[::1]/a", "[::1]", 80, "http://[::1]"),
    ],
)
def test_endpoints(text: str, host: str, port: int, origin: str) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.text, endpoint.host, endpoint.port, endpoint.origin) == (text, host, port, origin)
    assert endpoint.address == {"[::1]": "::1", "127.0.0.1": "127.0.0.1"}.get(host, "")
    assert "push" not in repr(endpoint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "push.example.net",
        "ftp://push.example.net/",
        "//push.example.net/",
        "https:push.example.net",
        "https://",
        "https:///a",
        "https://user@push.example.net/",
        "https://push.example.net@elsewhere.net/",
        "https://push.example.net\\@elsewhere.net/",
        "https://push.example.net/#fragment",
        "https://push.example.net/a b",
        "https://push.example.net/\n",
        "https://push.example.net/\u00e9",
        "https://push.example.net/%zz",
        "https://PUSH.example.net/",
        "https://push..example.net/",
        "https://-push.example.net/",
        "https://push.example.net./",
        "https://push.example.net:/",
        "https://push.example.net:0/",
        "https://push.example.net:65536/",
        "https://push.example.net:+80/",
        "https://push.example.net?a",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://" + "a" * 64 + ".net/",
        "https://push.example.net/" + "a" * MAX_ENDPOINT_BYTES,
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="no "):
        Endpoint.parse(text)


_TEXTS = st.text("htps:/.@#?%[]0127ax-\\ \n", max_size=40) | st.from_regex(
    r"https?://[a-z0-9.@:\[\]-]{1,30}(/[!-~]{0,20})?", fullmatch=True
)


@given(_TEXTS)
def test_the_library_that_connects_reads_every_endpoint_the_same(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError:
        return
    url = URL(text, encoded=True)
    assert (url.scheme, url.host, url.port) == (endpoint.scheme, endpoint.host.strip("[]"), endpoint.port)
    assert (url.user, url.password, url.fragment, str(url)) == (None, None, "", text)


@pytest.mark.parametrize(
    ("host", "endpoint", "has"),
    [
        ("push.example.net", "https://push.example.net/a", True),
        ("push.example.net", "http://push.example.net/a", True),
        ("push.example.net", "https://push.example.net:8443/a", False),
        ("push.example.net:8443", "https://push.example.net:8443/a", True),
        ("push.example.net:8443", "https://push.example.net/a", False),
        ("push.example.net", "https://a.push.example.net/a", False),
        ("push.example.net", "https://push.example.net.elsewhere.net/a", False),
        ("*.example.net", "https://push.example.net/a", True),
        ("*.example.net", "https://a.b.example.net/a", True),
        ("*.example.net", "https://example.net/a", False),
        ("*.example.net", "https://badexample.net/a", False),
        ("[::1]:80", "http://[::1]/a", True),
    ],
)
def test_hosts_have_endpoints(host: str, endpoint: str, *, has: bool) -> None:
    assert Host.parse(host).has(Endpoint.parse(endpoint)) == has


PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104 -- what is to be refused
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "localhost",
    "",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_on_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111"])
def test_what_is(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_nothing_private_is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_address(str(address))
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert not is_public(str(address))
