"""The application without a socket: an httpx transport that calls it in this process, bodies streaming both ways.

The command line uses it when no `--server` is given, so that there is one code path: REST.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from threading import Lock, Thread, main_thread
from typing import ClassVar

import anyio
import httpx
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.from_thread import BlockingPortal
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
        self._starting = Lock()
        self._loop: _Loop | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; the body of the answer is read as it is produced."""
        with self._starting:
            if self._loop is None:
                self._loop = _Loop()
        portal = self._loop.portal
        exchange = portal.call(_Exchange.create, self._app, request)
        portal.start_task_soon(exchange.run)
        start = portal.call(exchange.next_message)
        return httpx.Response(start["status"], headers=start["headers"], stream=_Body(portal, exchange))

    def close(self) -> None:
        """Stop the event loop."""
        if self._loop is not None:
            self._loop.close()
        self._loop = None


class _Loop:
    """An event loop on a thread of its own; the end of the program closes it when nobody else did.

    The loop of `anyio.from_thread.start_blocking_portal` is waited for before anything can be told to close it.
    """

    _open: ClassVar[set[_Loop]] = set()
    _watching: ClassVar[bool] = False

    def __init__(self) -> None:
        started: Future[BlockingPortal] = Future()
        self._thread = Thread(target=anyio.run, args=(_run_portal, started), name="crossfade in this process")
        self._thread.start()
        self.portal = started.result()
        self._open.add(self)
        if not _Loop._watching:
            _Loop._watching = True
            Thread(target=_close_at_exit, name="crossfade at exit", daemon=True).start()

    def close(self, *, abandon: bool = False) -> None:
        """Stop the loop, after what is under way has ended, or at once."""
        self._open.discard(self)
        self.portal.call(self.portal.stop, abandon)
        self._thread.join()

    @classmethod
    def close_all(cls) -> None:
        """Stop every loop at once."""
        for loop in list(cls._open):
            loop.close(abandon=True)


async def _run_portal(started: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        started.set_result(portal)
        await portal.sleep_until_stopped()


def _close_at_exit() -> None:
    main_thread().join()
    _Loop.close_all()


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
