"""Endpoints of push services: which URLs are one, at which hosts, and which addresses nothing is ever sent to.

A client says where its device is woken, so an endpoint is a stranger's text that has the relay open a connection. One
strict form is taken, at hosts that the operator has named, and a host whose address is not public is not connected to.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Self

from restante_protocol import limits

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL: Final = r"\[[0-9a-f:.]{2,45}\]"
_PORT: Final = r"(?::([1-9][0-9]{0,4}))?"
_ENDPOINT: Final = re.compile(
    rf"(https?)://({_NAME}|{_LITERAL}){_PORT}(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{{2}})*)?", re.ASCII
)  # neither user nor fragment, nothing to be escaped or normalised: every reader of it reads the same
_HOST: Final = re.compile(rf"((?:\*\.)?{_NAME}|{_LITERAL}){_PORT}", re.ASCII)
_PORTS: Final = {"https": 443, "http": 80}
_MAX_PORT: Final = 65_535
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in it, and some networks deliver to that


@dataclass(frozen=True, slots=True)
class Host:
    """Where a push service is: a name or an address, or all names below one.

    Attributes:
        name: in lower case; with ``*.`` in front all names below it.
        port: or None for the usual one.
    """

    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the host in NAME, NAME:PORT or *.NAME. Raises ValueError."""
        found = _HOST.fullmatch(text)
        if found is None:
            raise ValueError("no host")
        return cls(found[1], _port(found[2]) if found[2] else None)

    def has(self, endpoint: "Endpoint") -> bool:
        """Say whether an endpoint is there."""
        below = self.name.startswith("*.") and endpoint.host.endswith(self.name[1:])
        return (below or endpoint.host == self.name) and endpoint.port == (self.port or _PORTS[endpoint.scheme])

    def __str__(self) -> str:
        """Return it as it was written."""
        return self.name if self.port is None else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """An endpoint, taken apart.

    Attributes:
        text: the URL.
        scheme: https, or http.
        host: a name or a literal address.
        port: where it is.
    """

    text: str
    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a URL apart. Raises ValueError if it is not of the one form."""
        found = _ENDPOINT.fullmatch(text)
        if found is None or len(text) > limits.MAX_ENDPOINT_BYTES:
            raise ValueError("no endpoint")
        scheme = found[1]
        return cls(text, scheme, found[2], _port(found[3]) if found[3] else _PORTS[scheme])

    @property
    def origin(self) -> str:
        """Scheme, host and port, if it is not the usual one: RFC 6454 section 6.2."""
        shown = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{shown}"

    @property
    def address(self) -> str:
        """The literal address that it names, or nothing."""
        bare = self.host.removeprefix("[").removesuffix("]")
        return bare if bare != self.host or is_address(bare) else ""


def _port(digits: str) -> int:
    if int(digits) > _MAX_PORT:
        raise ValueError("no port")
    return int(digits)


def is_address(text: str) -> bool:
    """Say whether this is a literal address, not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Say whether an address is on the internet: not this machine's, a private network's, or another in disguise."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and (
        found.ipv4_mapped or found.sixtofour or found.teredo or found in _NAT64
    ):
        return False
    return found.is_global and not found.is_multicast
