"""Reading request bodies with byte limits and a deadline, which uvicorn and Starlette do not have."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Generator, Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossfade.errors import BodiesBusyError, BodyTooLargeError, BodyTooSlowError, CrossfadeError, MalformedRequestError
from crossfade.settings import HttpSettings
from crossfade.web.budget import ARRIVING_BYTES, SMALL_BODY_BYTES, Arrival, BodyBudget
from crossfade.web.problems import error_response

Headers = Iterable[tuple[bytes, bytes]]
_MAX_DIGITS = 18


class ClientGoneError(Exception):
    """The client hung up before its body was complete; there is nobody to answer."""


def parse_length(header: bytes) -> int:
    """Return the number in a Content-Length header.

    Raises:
        MalformedRequestError: It is none.
    """
    if not (header.isdigit() and len(header) <= _MAX_DIGITS):
        raise MalformedRequestError(problem="Content-Length is not a number")
    return int(header)


def check_size(body: bytes, limit: int) -> bytes:
    """Return a small body that has arrived already.

    Raises:
        BodyTooLargeError: It is longer than `limit`.
    """
    if len(body) > limit:
        raise BodyTooLargeError(limit_bytes=limit)
    return body


async def read_body(
    receive: Receive, content_length: bytes | None, limit: int, seconds: float, budget: BodyBudget
) -> bytes:
    """Read a whole request body.

    Args:
        receive: Of the ASGI request.
        content_length: That header, when there is one; a body that announces too much is refused unread.
        limit: Bytes.
        seconds: For the whole body, however many pieces it comes in.
        budget: Counts the body; the caller releases it when the request is answered.

    Raises:
        BodyTooLargeError: It is longer than `limit`; no more than that was kept.
        BodyTooSlowError: It is not complete after `seconds`.
        BodiesBusyError: The process holds too many bytes of other bodies.
        MalformedRequestError: The announced length is no number.
        ClientGoneError: The connection ended.
    """
    if content_length is not None and parse_length(content_length) > limit:
        raise BodyTooLargeError(limit_bytes=limit)
    # A small body is there before it is asked for: then the deadline, which costs more than the reading, is not needed.
    steps = receive().__await__()
    message: Message | None = None
    waiting_for: object = None
    try:
        waiting_for = next(steps)
    except StopIteration as arrived:
        message = arrived.value
        if not message.get("more_body", False) and message["type"] == "http.request" and len(message["body"]) <= limit:
            body: bytes = message["body"]
            if len(body) > SMALL_BODY_BYTES:  # spares small ones the call
                budget.grow(0, len(body))
            return body
    arrival: Arrival | None = None
    try:
        async with asyncio.timeout(seconds) as patience:
            if message is None:
                message = await _resume(steps, waiting_for)
            arrival = budget.begin(patience)
            return await _read_pieces(message, receive, limit, budget, arrival)
    except TimeoutError as error:
        if arrival is not None and arrival.evicted:
            raise BodiesBusyError(limit_bytes=ARRIVING_BYTES) from error
        raise BodyTooSlowError(limit_seconds=seconds) from error


class BodyGuard:
    """ASGI middleware: an application behind it sees only complete bodies of an accepted size.

    Args:
        app: What answers.
        settings: The limits.
        budget: Counts the large bodies of both planes.
        streams: Tells for a method and path whether the application reads that body itself, in pieces and with limits
            of its own (uploads).
    """

    def __init__(
        self, app: ASGIApp, settings: HttpSettings, budget: BodyBudget, streams: Callable[[str, str], bool]
    ) -> None:
        self._app = app
        self._budget = budget
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_timeout_seconds
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _has_body(scope["headers"]) or self._streams(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            length = dict(scope["headers"]).get(b"content-length")
            body = await read_body(receive, length, self._limit, self._seconds, self._budget)
        except CrossfadeError as error:
            await error_response(error, str(scope.get("crossfade.request_id", "")))(scope, receive, send)
            return
        except ClientGoneError:
            return
        try:
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._budget.release(len(body))


@types.coroutine
def _resume(steps: Generator[Any, Any, Message], waiting_for: object) -> Generator[Any, Any, Message]:
    """Await the rest of an awaitable that has already been run up to the first thing it waits for."""
    try:
        while True:
            try:
                value = yield waiting_for
            except BaseException as error:  # noqa: BLE001 - a cancellation is passed on like anything else
                waiting_for = steps.throw(error)
            else:
                waiting_for = steps.send(value)
    except StopIteration as finished:
        message: Message = finished.value
        return message


async def _read_pieces(message: Message, receive: Receive, limit: int, budget: BodyBudget, arrival: Arrival) -> bytes:
    pieces: list[bytes] = []
    try:
        while True:
            piece = _piece(message, arrival.size, limit)
            budget.arrive(arrival, len(piece))
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)
            message = await receive()
    except BaseException:
        budget.release(arrival.size)
        raise
    finally:
        budget.end(arrival)


def _piece(message: Message, size: int, limit: int) -> bytes:
    """Return what a message adds to a body that has `size` bytes already."""
    if message["type"] != "http.request":
        raise ClientGoneError
    piece: bytes = message.get("body", b"")
    if size + len(piece) > limit:
        raise BodyTooLargeError(limit_bytes=limit)
    return piece


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


def _has_body(headers: Headers) -> bool:
    return any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)
