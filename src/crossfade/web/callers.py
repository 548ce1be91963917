"""Who may call from where: the Host and Origin allow-lists of both planes, and what only this machine may ask for.

A page of another site can reach a loopback server through the user's browser: by DNS rebinding (its own name resolves
to 127.0.0.1, so the Host header is foreign) and by cross-site requests (the Origin header is foreign). Both are refused
by allow-lists: names must be known, and everything but GET and HEAD counts as a change. A page is the server's own when
its origin is `http://` and the Host header of the same request. A proxy in front may turn that into `https://` for the
names in `http.allowed_hosts`, because whoever listed a name knows what answers there.

Nobody is authenticated yet, so control is for callers on this machine, unless `http.allow_remote_control` says
otherwise. A proxy on this machine calls from here for anybody; the headers that it adds tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address

from crossfade.errors import HostNotAllowedError, OriginNotAllowedError, RemoteControlError
from crossfade.settings import HttpSettings

SAFE_METHODS = frozenset({"GET", "HEAD"})
_LOOPBACK_NAMES = frozenset({"localhost"})
_MAX_REMEMBERED = 256
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{0,5})?")
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_FORWARDING = frozenset(
    {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)


class CallerCheck:
    """Decides by the headers and the address of a request whether it is answered at all.

    Example:
        >>> CallerCheck(HttpSettings()).check("GET", {b"host": b"localhost:8000"})
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._listed = {name.lower() for name in settings.allowed_hosts}
        self._names = _LOOPBACK_NAMES | {settings.host.lower()} | self._listed
        self._remote_control = settings.allow_remote_control
        self._remembered: set[bytes] = set()

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Pass or refuse a request.

        Args:
            method: Of the request.
            headers: By lower-case name.

        Raises:
            HostNotAllowedError: The Host header is missing or foreign.
            OriginNotAllowedError: A page of another site wants to change something.
        """
        host = headers.get(b"host", b"")
        if host not in self._remembered:
            self._check_host(host)
        if method in SAFE_METHODS:
            return
        origin = headers.get(b"origin")
        if origin is not None and not self._is_own(origin.lower(), host.lower()):
            raise OriginNotAllowedError(origin=origin[:100].decode("latin-1"))
        if headers.get(b"sec-fetch-site", b"none") == b"cross-site":
            raise OriginNotAllowedError(origin="another site")

    def check_local(self, client: tuple[str, int] | None, headers: Mapping[bytes, bytes]) -> None:
        """Pass or refuse a request for which the caller has to be on this machine.

        Args:
            client: Address and port of the caller; None, when it hung up at once, is nobody here.
            headers: By lower-case name.

        Raises:
            RemoteControlError: It comes from another machine, or a proxy brings it from anywhere.
        """
        if self._remote_control:
            return
        if not _FORWARDING.isdisjoint(headers):
            raise RemoteControlError(caller="whoever calls through a proxy")
        if client is None or not is_loopback(client[0]):
            raise RemoteControlError(caller="another machine" if client is None else client[0])

    def _check_host(self, host: bytes) -> None:
        name = _name(host)
        if not name or (name not in self._names and not _is_address(name)):
            raise HostNotAllowedError(host=host[:100].decode("latin-1"))
        if len(self._remembered) < _MAX_REMEMBERED:
            self._remembered.add(host)

    def _is_own(self, origin: bytes, host: bytes) -> bool:
        scheme, _, place = origin.partition(b"://")
        port = _DEFAULT_PORTS.get(scheme)
        if port is None or place.removesuffix(port) != host.removesuffix(port):
            return False
        return scheme == b"http" or _name(host) in self._listed


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address or name.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES


def _name(host: bytes) -> str:
    """Return the name or address in a Host header in lower case, empty when it is none."""
    match = _HOST.fullmatch(host.decode("latin-1").lower())
    return "" if match is None else match[1] or match[2]


def _is_address(name: str) -> bool:
    """Rebinding needs a name: a page cannot make a browser send a bare address that is not the server's own."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
