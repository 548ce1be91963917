"""uvicorn's HTTP protocol with the time and size limits that it lacks, and a short way for small requests.

A stock uvicorn keeps a connection that sends nothing, or half a request head, open for ever, reads a head of any size,
and parses any number of pipelined requests. The limits here cost nothing while requests arrive whole: a timer is only
armed when a piece of data leaves a request unfinished.

A small request to a path of the data plane is kept until it is whole, and answered by an `Exchange`. It goes through
ASGI, like all others, when it does not come soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from crossfade.settings import HttpSettings
from crossfade.web.budget import SMALL_BODY_BYTES
from crossfade.web.exchange import Exchange, Plane, Request

MAX_PIPELINED = 64
"""Requests that may wait on one connection while an earlier one is answered."""
_SOON_SECONDS = 0.05
"""A body that does not come with its head comes in the next packet, from most clients."""
_HEAD_TOO_LARGE = (431, "the request head is too large")


def guarded_protocol(settings: HttpSettings, plane: Plane | None = None) -> type[asyncio.Protocol]:
    """Return the protocol class for `uvicorn.Config(http=...)` with these limits.

    Args:
        settings: The limits.
        plane: What answers small requests without ASGI.

    Example:
        >>> guarded_protocol(HttpSettings(header_timeout_seconds=2)).header_seconds
        2.0
    """

    class GuardedProtocol(_GuardedProtocol):
        header_seconds = settings.header_timeout_seconds
        max_header_bytes = settings.max_header_bytes
        stall_seconds = settings.body_timeout_seconds
        data_plane = plane

    return GuardedProtocol


class _Small:
    """A small request that is not whole yet."""

    __slots__ = ("body", "headers", "path", "query")

    def __init__(self, path: str, query: bytes, headers: dict[bytes, bytes]) -> None:
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""


class _GuardedProtocol(HttpToolsProtocol):
    """Closes connections that are silent, slow with a head, oversized, stuck or flooding.

    A body is limited by `web.guard`. When its request was refused early, what still arrives of it is drained for
    `header_seconds`, so that the client can read the refusal, and then cut.
    """

    header_seconds: float
    max_header_bytes: int
    stall_seconds: float
    data_plane: Plane | None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._arriving: Literal["nothing", "head", "body"] = "nothing"
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._refusal = (400, "this is not HTTP")
        self._small: _Small | None = None
        self._exchange = None if self.data_plane is None else Exchange(self, self.data_plane)
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a whole head in time."""
        super().connection_made(transport)
        self._arm(self._head_is_late)

    def data_received(self, data: bytes) -> None:
        """Parse, then limit what is still unfinished."""
        head_goes_on = self._arriving == "head"
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self._arriving == "head":
            self._head_bytes = self._head_bytes + len(data) if head_goes_on else self._size_of_head()
            if self._head_bytes > self.max_header_bytes:
                self._refuse(*_HEAD_TOO_LARGE)
                return
        elif self._small is not None:
            self._arm(self._body_is_late, _SOON_SECONDS)
            return
        elif self._arriving == "body" or self._answering():
            return
        self._arm(self._head_is_late)

    def on_message_begin(self) -> None:
        """A head begins. Its ASGI scope is made when it is known to need one."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._arriving = "head"

    def on_headers_complete(self) -> None:
        """A head ends; its request may start."""
        self._arriving = "body"
        self._disarm()
        if (
            self._head_bytes + self._chunk_bytes > self.max_header_bytes
            and self._size_of_head() > self.max_header_bytes
        ):
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError(_HEAD_TOO_LARGE[1])  # the parser stops and data_received answers
        self._head_bytes = 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")
        self._small = self._small_request()
        if self._small is None:
            self._begin_asgi()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        if self._small is None:
            super().on_body(body)
        else:
            self._small.body += body

    def on_message_complete(self) -> None:
        """A request has arrived whole."""
        self._arriving = "nothing"
        self._disarm()
        small, self._small = self._small, None
        if small is None or self._exchange is None:
            super().on_message_complete()
            return
        request = Request(
            self.parser.get_method().decode("ascii"), small.path, small.query, small.headers, small.body, self.client
        )
        self.cycle = self._exchange  # type: ignore[assignment]  # it has what uvicorn looks at
        self._exchange.begin(request, keep_alive=self.parser.should_keep_alive())

    def on_response_complete(self) -> None:
        """An answer is sent; if its request is still arriving, drain that for a while."""
        super().on_response_complete()
        if self._arriving == "body" and self.cycle.response_complete:
            self._arm(self.transport.abort)

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def shutdown(self) -> None:
        """Close the connection after the request that is under way."""
        if self._small is not None:
            self._body_is_late()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and what leads back here: else only the garbage collector would free the connection."""
        super().connection_lost(exc)
        cycle: object = self.cycle
        if cycle is self._exchange:
            self.cycle = None  # type: ignore[assignment]  # as before the first request
        self._exchange = None
        self._disarm()
        if self._stall_timer is not None:
            self._stall_timer.cancel()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's sentence says less than ours
        """Answer what could not be parsed."""
        self._refuse(*self._refusal)

    def _small_request(self) -> _Small | None:
        """Return what to keep of a request until it is whole; None when it has to go through ASGI."""
        plane, parser = self.data_plane, self.parser
        if plane is None or self._answering() or self.expect_100_continue or parser.get_http_version() != "1.1":
            return None
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            return None
        headers = dict(self.headers)
        if b"transfer-encoding" in headers or parser.should_upgrade():
            return None
        if int(headers.get(b"content-length", b"0")) > SMALL_BODY_BYTES:
            return None
        path, _, query = self.url.partition(b"?")
        name = path.decode("latin-1")
        return _Small(name, query, headers) if b"#" not in self.url and plane.owns(name) else None

    def _begin_asgi(self) -> None:
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # makes the scope
        self.url, self.expect_100_continue = url, expected
        self.headers += headers
        super().on_headers_complete()

    def _body_is_late(self) -> None:
        """Let a small request whose body did not come soon go through ASGI, where the limits of bodies are."""
        small, self._small = self._small, None
        self._disarm()
        if small is not None:
            self._begin_asgi()
            super().on_body(small.body)

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_is_late(self) -> None:
        if self._arriving == "head":
            self._refuse(408, "the request head did not arrive in time")
        else:
            self.transport.close()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _arm(self, action: Callable[[], None], seconds: float | None = None) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds or self.header_seconds, action)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, message: str) -> None:
        self._disarm()
        if not self._answering() and not self.transport.is_closing():
            body = orjson.dumps({"error": message})
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nx-content-type-options: nosniff\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
        self.transport.close()
