"""The application without a socket: an httpx transport that calls it in this process, bodies streaming both ways.

The command line uses it when no `--server` is given, so that there is one code path: REST.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import httpx
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Message, Scope


class InProcessTransport(httpx.BaseTransport):
    """Answers the requests of a synchronous `httpx.Client` with an ASGI application on an event loop of its own.

    Example:
        >>> async def app(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 204, "headers": []})
        ...     await send({"type": "http.response.body"})
        >>> with httpx.Client(transport=InProcessTransport(app), base_url="http://localhost") as client:
        ...     client.get("/").status_code
        204
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._exits = ExitStack()
        self._portal: BlockingPortal | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; the body of the answer is read as it is produced."""
        if self._portal is None:
            self._portal = self._exits.enter_context(start_blocking_portal())
        exchange = self._portal.call(_Exchange.create, self._app, request)
        self._portal.start_task_soon(exchange.run)
        start = self._portal.call(exchange.next_message)
        body = _Body(self._portal, exchange)
        return httpx.Response(start["status"], headers=start["headers"], stream=body)

    def close(self) -> None:
        """Stop the event loop."""
        self._exits.close()
        self._portal = None


class _Exchange:
    """One request and its answer, on the event loop."""

    def __init__(self, app: ASGIApp, request: httpx.Request) -> None:
        self._app = app
        self._request = request
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 - what a synchronous client sends
        self._chunks = iter(request.stream)
        self._more = True
        self._gone = anyio.Event()
        streams: tuple[ObjectSendStream[Message | Exception], ObjectReceiveStream[Message | Exception]]
        streams = anyio.create_memory_object_stream[Message | Exception](1)
        self._sender, self._receiver = streams

    @classmethod
    async def create(cls, app: ASGIApp, request: httpx.Request) -> _Exchange:
        return cls(app, request)

    async def run(self) -> None:
        async with self._sender:
            try:
                await self._app(self._scope(), self._receive, self._send)
            except anyio.BrokenResourceError:
                pass  # the caller closed the answer before its end
            except Exception as error:  # noqa: BLE001 - a bug travels to the caller's thread
                await self._sender.send(error)

    async def next_message(self) -> Message:
        """Return the next message of the application, or raise what it raised."""
        item = await self._receiver.receive()
        if isinstance(item, Exception):
            await self._receiver.aclose()
            raise item
        return item

    async def abandon(self) -> None:
        """Tell the application that nobody reads any more."""
        self._gone.set()
        await self._receiver.aclose()

    def _scope(self) -> Scope:
        url = self._request.url
        path = url.raw_path.partition(b"?")[0]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self._request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": path,
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "client": ("127.0.0.1", 0),
            "server": (url.host, url.port),
        }

    async def _receive(self) -> Message:
        if not self._more:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        chunk = await run_sync(next, self._chunks, None)
        self._more = chunk is not None
        return {"type": "http.request", "body": chunk or b"", "more_body": self._more}

    async def _send(self, message: Message) -> None:
        await self._sender.send(message)


class _Body(httpx.SyncByteStream):
    """The body of the answer, as the application produces it."""

    def __init__(self, portal: BlockingPortal, exchange: _Exchange) -> None:
        self._portal = portal
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        more = True
        while more:
            message = self._portal.call(self._exchange.next_message)
            more = message.get("more_body", False)
            yield message.get("body", b"")

    def close(self) -> None:
        self._portal.call(self._exchange.abandon)
