"""`exchange`: one HTTP request to somebody else's server, with a deadline for all of it and an answer of bounded size.

A timeout of each read lets a server keep its caller for hours by sending one byte at a time; here every step gets what
is left of one deadline. Redirects are not followed, connections are not kept, proxies of the environment are not used,
and where addresses are given, the name is not looked up again: TLS and the `Host` header still speak of the name.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import httpcore

_PIECE_BYTES = 16 * 2**10
_PORTS = {b"http": 80, b"https": 443}


class ExchangeError(Exception):
    """Nothing usable came back; its text says what happened, and nothing of what was sent."""


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case; of a repeated one the last.
        body: Empty when it was not asked for.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    body: bytes = b"",
    addresses: Sequence[str] = (),
    seconds: float,
    max_bytes: int,
    monotonic: Callable[[], float] = time.monotonic,
) -> Answer:
    """Send one request and return the answer.

    Args:
        method: Of HTTP.
        url: `http` or `https`, of plain ASCII.
        headers: Besides `Host` and `Content-Length`.
        body: What is sent.
        addresses: Of the host, tried one after another; by default its name is looked up.
        seconds: For everything, from connecting to the last byte.
        max_bytes: Of the answer's body; 0 does not read it.
        monotonic: The clock.

    Raises:
        ExchangeError: No connection, no answer in time, one that is no HTTP, is compressed, or is too large.
    """
    network = _Network(addresses, monotonic() + seconds, monotonic)
    asked = {"Accept-Encoding": "identity", "Connection": "close"} | headers
    try:
        with (
            httpcore.ConnectionPool(max_connections=1, network_backend=network) as pool,
            pool.stream(method, url, headers=_with_host(url, asked, body), content=body) as response,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if max_bytes and found.get("content-encoding", "identity") != "identity":
                raise ExchangeError("the answer is compressed, which was not asked for")
            content = _read(response.iter_stream(), max_bytes) if max_bytes else b""
            return Answer(response.status, found, content)
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise ExchangeError(f"no answer within {seconds:g} s") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        raise ExchangeError(str(error)[:200] or type(error).__name__) from error


def _with_host(url: str, headers: dict[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    parsed = httpcore.URL(url)
    host = parsed.host
    if parsed.port not in (None, _PORTS.get(parsed.scheme)):
        host = b"%b:%d" % (host, parsed.port)
    given = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    return [(b"Host", host), *given, (b"Content-Length", str(len(body)).encode())]


def _read(pieces: Iterable[bytes], max_bytes: int) -> bytes:
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > max_bytes:
            raise ExchangeError(f"the answer is larger than {max_bytes} bytes")
    return bytes(found)


class _Network(httpcore.NetworkBackend):
    """Connects to the given addresses, and lets every step have what is left of the deadline."""

    def __init__(self, addresses: Sequence[str], deadline: float, monotonic: Callable[[], float]) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._monotonic = monotonic
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = list(self._addresses) or [host]
        for address in addresses[:-1]:  # an unreachable one must leave time for the others
            half = self._left() / 2
            try:
                stream = self._inner.connect_tcp(address, port, half, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            return _Stream(stream, self._left)
        stream = self._inner.connect_tcp(addresses[-1], port, self._left(), local_address, socket_options)
        return _Stream(stream, self._left)

    def _left(self) -> float:
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, left: Callable[[], float]) -> None:
        self._inner = inner
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._inner.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        for start in range(0, len(buffer), _PIECE_BYTES):
            self._inner.write(buffer[start : start + _PIECE_BYTES], self._left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._left()), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
