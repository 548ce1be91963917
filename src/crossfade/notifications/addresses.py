"""Where a webhook may go: addresses of the public Internet, and of hosts that the operator has named.

Whoever may write a URL into a plan could otherwise have this server ask the services around it, which trust it: the
cloud's metadata, databases, itself. So a name is looked up once, every address that it has is judged, and the
connection goes to the judged address; a name server that answers differently a moment later changes nothing.

Source: IANA special-purpose address registries (RFC 6890); OWASP, Server Side Request Forgery Prevention Cheat Sheet.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from crossfade.errors import WebhookRefusedError

Resolve = Callable[[str, int], list[str]]
"""From a host and a port to its addresses."""

_SCHEMES = {"http": 80, "https": 443}
_MAX_URL = 2_000
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@]+))(?::([0-9]{1,5}))?")
_VISIBLE = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}\.?$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9]?\.?"
)

_NEVER = [
    (ip_network(net), what)
    for net, what in (
        ("0.0.0.0/8", "unspecified"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("168.63.129.16/32", "a metadata service"),
        ("100.100.100.200/32", "a metadata service"),
        ("192.0.0.192/32", "a metadata service"),
        ("fd00:ec2::254/128", "a metadata service"),
        ("fd20:ce::254/128", "a metadata service"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        ("2001::/32", "a Teredo tunnel"),
        ("100::/64", "a black hole"),
    )
]
"""What no setting opens."""
_PRIVATE = [
    (ip_network(net), what)
    for net, what in (
        ("127.0.0.0/8", "loopback"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("100.64.0.0/10", "shared by a provider"),
        ("192.0.0.0/24", "for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("::1/128", "loopback"),
        ("fc00::/7", "private"),
        ("fec0::/10", "private"),
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
        ("64:ff9b:1::/48", "a local translation"),
        ("5f00::/16", "for segment routing"),
        ("2001:2::/48", "for benchmarks"),
        ("2001:10::/28", "no address of a host"),
        ("2001:20::/28", "no address of a host"),
    )
]
"""What a host that the operator has named may have."""
_WRAPPED: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("::/96"), 0),  # IPv4-compatible
    (IPv6Network("2002::/16"), 80),  # 6to4
)
"""Networks whose addresses hold one of IPv4, and how many bits follow it."""
_ISATAP = (0x00005EFE, 0x02005EFE)


class Target(NamedTuple):
    """Where a URL leads.

    Attributes:
        host: As it stands in the URL, in lower case, without brackets.
        port: With the default of the scheme filled in.
    """

    host: str
    port: int


def target_of(url: str) -> Target:
    """Return where a URL leads, when it is written so that everybody reads the same in it.

    Raises:
        WebhookRefusedError: Its scheme is not `http` or `https`, it holds a user, a fragment, blanks, backslashes or
            letters beyond ASCII, or its host is a number in any spelling but the usual one.

    Example:
        >>> target_of("https://hooks.example.com/releases")
        Target(host='hooks.example.com', port=443)
    """
    if len(url) > _MAX_URL or not _VISIBLE.fullmatch(url) or "\\" in url:
        raise WebhookRefusedError(host="", problem="its URL is too long, or holds characters that a URL has to escape")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise WebhookRefusedError(host="", problem="its URL cannot be read") from None
    place = _PLACE.fullmatch(parts.netloc)
    if place is None or "#" in url:
        raise WebhookRefusedError(host="", problem="its URL needs a host, and has no user, password or fragment")
    host, port = (place[1] or place[2]).lower(), int(place[3] or 0)
    if parts.scheme not in _SCHEMES:
        raise WebhookRefusedError(host=host[:80], problem="only `http` and `https` are allowed")
    if place[3] is not None and not 0 < port < 65_536:
        raise WebhookRefusedError(host=host[:80], problem="its port is none")
    found = literal(host)
    written = isinstance(found, IPv6Address) if place[1] else isinstance(found, IPv4Address) or _NAME.fullmatch(host)
    if not written:
        raise WebhookRefusedError(
            host=host[:80], problem="its host is no name, nor an address as it is usually written"
        )
    return Target(host, port or _SCHEMES[parts.scheme])


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is the usual spelling of, or None; `0177.1` and `2130706433` are none."""
    try:
        found = ip_address(host)
    except ValueError:
        return None
    return None if getattr(found, "scope_id", None) else found


def resolve(host: str, port: int) -> list[str]:
    """Look a host up.

    Raises:
        OSError: It has no address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def objection(address: str, *, private: bool = False) -> str:
    """Say why nothing is sent to an address; empty when nothing speaks against it.

    Args:
        address: In its usual spelling.
        private: Whether the operator has named the host.

    Example:
        >>> objection("10.0.0.1"), objection("::ffff:169.254.169.254"), objection("93.184.216.34")
        ('private', 'link-local, where clouds keep their metadata', '')
    """
    judged = literal(address)
    if judged is None:
        return "not an address"
    closed = _NEVER if private else [*_NEVER, *_PRIVATE]
    for network, what in closed:
        if judged in network:
            return what
    if judged == IPv6Address("::1"):  # would be the IPv4-compatible spelling of 0.0.0.1
        return ""
    inner = _wrapped(judged) if isinstance(judged, IPv6Address) else None
    return "" if inner is None else objection(str(inner), private=private)


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    number = int(address)
    for network, behind in _WRAPPED:
        if address in network:
            return IPv4Address(number >> behind & 0xFFFFFFFF)
    return IPv4Address(number & 0xFFFFFFFF) if number >> 32 & 0xFFFFFFFF in _ISATAP else None


def allowed_addresses(target: Target, *, private: bool, look_up: Resolve = resolve) -> list[str]:
    """Return the addresses of a target, looked up this once.

    Args:
        target: Where something shall be sent.
        private: Whether the operator has named the host.
        look_up: From a host to its addresses.

    Raises:
        WebhookRefusedError: One of them is not on the public Internet; that others are does not help.
        OSError: It has none.
    """
    found = look_up(target.host, target.port)
    for address in found:
        if why := objection(address, private=private):
            raise WebhookRefusedError(host=target.host[:80], problem=f"it has an address that is {why}")
    return found
