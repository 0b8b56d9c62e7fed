"""A connection to a server: TLS that is checked, and users with passwords."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from restante_server.stores.contract import StoreRefused
from restante_server.stores.redis import RedisStore
from restante_server.stores.redis_address import RedisAddress, parse_redis
from restante_server.stores.redis_link import Link, LinkLost
from support.certificates import Authority
from support.proxies import Proxy
from support.redis_servers import RedisServer, free_ports
from support.stores import address, bodies, deposit, give_addresses, make_mailbox


@dataclass
class Sealed:
    """A server that is reached with TLS, and who vouches for it."""

    server: RedisServer
    port: int
    authority: Authority

    def url(self, host: str = "localhost", *, trusts: Authority | None = None) -> str:
        return f"rediss://{host}:{self.port}?ssl_ca_certs={(trusts or self.authority).file}"


@pytest.fixture(params=["its own", "a proxy's"])
async def sealed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sealed]:
    """TLS of the server itself, where that is built in, or of a proxy. It is certified for localhost alone."""
    give_addresses({})
    authority = Authority(tmp_path)
    port, tls_port = free_ports(2)
    server = RedisServer(tmp_path / "redis", port)
    try:
        if request.param == "a proxy's":
            await asyncio.to_thread(server.start)
            proxy = await Proxy(port, tls=authority.context("localhost")).start()
            yield Sealed(server, proxy.port, authority)
            await proxy.stop()
        else:
            certificate, key = authority.certify("localhost")
            files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
            authorities = ("--tls-ca-cert-file", str(authority.file))
            try:
                await asyncio.to_thread(server.start, "--tls-port", str(tls_port), *files, *authorities)
            except AssertionError:
                pytest.skip("this server is built without TLS: name another with --redis-server PATH")
            yield Sealed(server, tls_port, authority)
    finally:
        server.stop()


async def test_a_store_over_tls(sealed: Sealed) -> None:
    store = await RedisStore.open(parse_redis(sealed.url()))
    await make_mailbox(store, 1, [1])
    body = bytes(range(256)) * 256  # more than a record of TLS holds
    await store.deposit(deposit(1, [address(1)], body=body))
    assert await bodies(store, 1) == [body]
    await store.close()


async def test_who_is_certified_by_nobody_we_trust_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="CERTIFICATE_VERIFY_FAILED"):
        await RedisStore.open(parse_redis(sealed.url(trusts=Authority(tmp_path, "other"))))
    with pytest.raises(StoreRefused, match="CERTIFICATE_VERIFY_FAILED"):  # the system's authorities
        await RedisStore.open(parse_redis(f"rediss://localhost:{sealed.port}"))


async def test_who_is_certified_as_somebody_else_is_refused(sealed: Sealed) -> None:
    with pytest.raises(StoreRefused, match=r"not valid for '127\.0\.0\.1'"):
        await RedisStore.open(parse_redis(sealed.url("127.0.0.1")))


async def test_without_tls_nothing_is_said_to_a_port_with_it_nor_the_other_way(sealed: Sealed) -> None:
    with pytest.raises(StoreRefused, match="does not answer"):
        await RedisStore.open(parse_redis(f"redis://localhost:{sealed.port}"))
    url = sealed.url().replace(str(sealed.port), str(sealed.server.port), 1)
    with pytest.raises(StoreRefused, match="does not answer"):
        await RedisStore.open(parse_redis(url))


def test_what_a_connection_checks(tmp_path: Path) -> None:
    context = parse_redis(f"rediss://h?ssl_ca_certs={Authority(tmp_path).file}").ssl_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_users_and_passwords(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, free_ports(1)[0])
    server.start()
    server.command("ACL", "SETUSER", "reader", "on", ">se:cr@et", "+@all")
    server.command("ACL", "SETUSER", "open", "on", "nopass", "+@all")
    server.command("CONFIG", "SET", "requirepass", "the default's")

    async def who(credentials: str) -> str:
        where: RedisAddress = parse_redis(f"redis://{credentials}127.0.0.1:{server.port}")
        link = await Link.open(where, where.hosts[0])
        try:
            (reply,) = await link.call([("ACL", "WHOAMI")])
        finally:
            link.close()
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    try:
        assert await who("reader:se%3Acr%40et@") == "reader"
        assert await who("open:@") == "open"
        assert await who(":the%20default's@") == "default"
        assert (await who("")).startswith("NOAUTH")
        for wrong in ("reader:other@", "nobody:se%3Acr%40et@", ":other@"):
            with pytest.raises(LinkLost, match="WRONGPASS"):
                await who(wrong)
    finally:
        server.stop()
