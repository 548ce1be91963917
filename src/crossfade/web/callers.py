"""Who may call from where: the Host and Origin allow-lists of both planes.

A page of another site can reach a loopback server through the user's browser: by DNS rebinding (its own name resolves
to 127.0.0.1, so the Host header is foreign) and by cross-site requests (the Origin header is foreign). Both are refused
by allow-lists: names must be known, and everything but GET and HEAD counts as a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from crossfade.errors import HostNotAllowedError, OriginNotAllowedError
from crossfade.settings import HttpSettings

SAFE_METHODS = frozenset({"GET", "HEAD"})
_LOOPBACK_NAMES = frozenset({"localhost"})
_MAX_REMEMBERED = 256


class CallerCheck:
    """Decides by the headers of a request whether it is answered at all.

    Example:
        >>> CallerCheck(HttpSettings()).check("GET", {b"host": b"localhost:8000"})
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._names = _LOOPBACK_NAMES | {settings.host.lower()} | {name.lower() for name in settings.allowed_hosts}
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
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise OriginNotAllowedError(origin=origin[:100].decode("latin-1"))
        if headers.get(b"sec-fetch-site", b"none") == b"cross-site":
            raise OriginNotAllowedError(origin="another site")

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1")
        try:
            name = (urlsplit(f"//{text}").hostname or "").lower()
        except ValueError:
            name = ""
        if name not in self._names and not _is_address(name):
            raise HostNotAllowedError(host=text[:100])
        if len(self._remembered) < _MAX_REMEMBERED:
            self._remembered.add(host)


def _is_address(name: str) -> bool:
    """Rebinding needs a name: a page cannot make a browser send a bare address that is not the server's own."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
