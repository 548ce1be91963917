"""uvicorn's HTTP protocol with the time and size limits that it lacks.

A stock uvicorn keeps a connection that sends nothing, or half a request head, open for ever, reads a head of any size,
and parses any number of pipelined requests. The limits here cost nothing while requests arrive whole: a timer is only
armed when a piece of data leaves a head unfinished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, cast

import orjson
from starlette.types import Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from crossfade.settings import HttpSettings

Headers = list[tuple[bytes, bytes]]

MAX_PIPELINED = 64
"""Requests that may wait on one connection while an earlier one is answered."""
_CYCLE = "crossfade.cycle"
_ONE_WRITE_BYTES = 64 * 2**10
_HEAD_TOO_LARGE = (431, "the request head is too large")


async def respond(scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole answer.

    Behind `guarded_protocol` a small answer leaves in one write: half the system calls of the two ASGI messages, and
    no second look at headers that are our own. Elsewhere it is the two messages.

    Args:
        scope: Of the request.
        send: Of the request.
        status: HTTP status.
        headers: Names in lower case, values from this program only, the content length included.
        body: Of the answer.
    """
    # taken out: a scope that leads to itself would wait for the garbage collector, with all that belongs to the request
    cycle: RequestResponseCycle | None = scope.pop(_CYCLE, None)
    if cycle is None or cycle.access_log or cycle.flow.write_paused or len(body) > _ONE_WRITE_BYTES:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif not cycle.disconnected:
        _write_whole(cycle, status, headers, body)


def _write_whole(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> None:
    parts = [STATUS_LINE[status]]
    for name, value in (*cycle.default_headers, *headers):
        if name == b"connection":  # sent by a server that drains
            cycle.keep_alive = False
        else:
            parts += (name, b": ", value, b"\r\n")
    if not cycle.keep_alive:
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    if cycle.scope["method"] != "HEAD":
        parts.append(body)
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    cycle.transport.write(b"".join(parts))
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def guarded_protocol(settings: HttpSettings) -> type[asyncio.Protocol]:
    """Return the protocol class for `uvicorn.Config(http=...)` with these limits.

    Example:
        >>> guarded_protocol(HttpSettings(header_timeout_seconds=2)).header_seconds
        2.0
    """

    class GuardedProtocol(_GuardedProtocol):
        header_seconds = settings.header_timeout_seconds
        max_header_bytes = settings.max_header_bytes
        stall_seconds = settings.body_timeout_seconds

    return GuardedProtocol


class _GuardedProtocol(HttpToolsProtocol):
    """Closes connections that are silent, slow with a head, oversized, stuck or flooding.

    A body is limited by `web.guard`. When its request was refused early, what still arrives of it is drained for
    `header_seconds`, so that the client can read the refusal, and then cut.
    """

    header_seconds: float
    max_header_bytes: int
    stall_seconds: float

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
        elif self._arriving == "body" or self._answering():
            return
        self._arm(self._head_is_late)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
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
        super().on_headers_complete()
        cast("dict[str, Any]", self.scope)[_CYCLE] = self.cycle

    def on_message_complete(self) -> None:
        """A request has arrived whole."""
        super().on_message_complete()
        self._arriving = "nothing"
        self._disarm()

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

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        self._disarm()
        if self._stall_timer is not None:
            self._stall_timer.cancel()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's sentence says less than ours
        """Answer what could not be parsed."""
        self._refuse(*self._refusal)

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

    def _arm(self, action: Callable[[], None]) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_seconds, action)

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
