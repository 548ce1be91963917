"""`Exchange`: small requests that are there as a whole are answered without ASGI.

Its scope, its channels for two bodies and its messages take uvicorn a third of what a small prediction takes in all,
and none of it is needed where a request is one piece and so is its answer. Everything else passes through ASGI: large
bodies, those that arrive slowly, and the control plane.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

import msgspec
from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")

_ONE_WRITE_BYTES = 64 * 2**10
"""Larger answers are not copied to be one piece with their head."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request, whether its body has arrived or not.

    Args:
        method: In capitals.
        path: As it was sent, not decoded.
        query: What follows the question mark.
        headers: By lower-case name; of several with one name, the last.
        body: The whole of it, or where it comes from.
        client: Address and port, when they are known.
    """

    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes | Receive
    client: tuple[str, int] | None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is sent back.

    Args:
        body: All of it.
        status: Of HTTP.
        headers: Names in lower case, values from this program only. The plane adds what all its answers have, the
            content length among them.
    """

    body: bytes
    status: int = 200
    headers: tuple[Header, ...] = (JSON,)


class Plane(Protocol):
    """What answers whole requests."""

    def owns(self, path: str) -> bool:
        """Tell whether requests to this path are its own."""

    async def answer(self, request: Request) -> Answer | None:
        """Answer a request; None when there is nobody to answer. Errors are answers, too."""


class Exchange:
    """Answers the whole requests of one connection, one after the other.

    It stands where uvicorn expects the `RequestResponseCycle` of the current request.

    Args:
        connection: Whose requests these are.
        plane: What answers them.

    Attributes:
        response_complete: Whether the last answer was sent.
        disconnected: Whether the client is gone; uvicorn sets it.
        keep_alive: Whether another request may follow; uvicorn sets it when the server ends.
        message_event: What uvicorn sets so that who reads a body learns that the client is gone; nobody reads one here.
    """

    message_event: ClassVar[asyncio.Event] = asyncio.Event()

    def __init__(self, connection: HttpToolsProtocol, plane: Plane) -> None:
        self.response_complete = True
        self.disconnected = False
        self.keep_alive = True
        self._connection = connection
        self._plane = plane

    def begin(self, request: Request, *, keep_alive: bool) -> None:
        """Answer a request, in a task of its own."""
        self.response_complete = False
        self.keep_alive = keep_alive
        connection = self._connection
        connection.tasks.add(connection.loop.create_task(self._answer(request)))

    async def _answer(self, request: Request) -> None:
        connection = self._connection
        try:
            answer = await self._plane.answer(request)
            if connection.flow.write_paused:
                await connection.flow.drain()
            self.response_complete = True
            if answer is None or self.disconnected or connection.transport.is_closing():
                connection.transport.close()
            else:
                self._write(answer, bodiless=request.method == "HEAD")
                connection.on_response_complete()
        except BaseException:  # the server ends, or this has a bug: nobody waits for an answer that never comes
            self.response_complete = True
            connection.transport.close()
            raise
        finally:
            connection.tasks.discard(asyncio.current_task())

    def _write(self, answer: Answer, *, bodiless: bool) -> None:
        """Write the answer at once: half the system calls of a head and a body."""
        transport = self._connection.transport
        parts = [STATUS_LINE[answer.status]]
        for name, value in (*self._connection.server_state.default_headers, *answer.headers):
            if name == b"connection":  # sent by a server that drains
                self.keep_alive = False
            else:
                parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        if len(answer.body) > _ONE_WRITE_BYTES:
            transport.write(b"".join(parts))
            parts = []
        if not bodiless:
            parts.append(answer.body)
        transport.write(b"".join(parts))
        if not self.keep_alive:
            transport.close()
