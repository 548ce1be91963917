"""`GrpcServer`: gRPC on the event loop of a serving process, within the limits that HTTP has.

gRPC takes a message as a whole and does not say beforehand how large it is. What arrives at once is read at once; only
so many calls may take longer, each within the time for a body, that slow clients cannot fill the memory.

Each of several processes listens on the same port (SO_REUSEPORT), and the kernel deals out connections. One client
keeps its connection, so a single client keeps to one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from crossfade.core.identity import new_id
from crossfade.errors import (
    BodiesBusyError,
    BodyTooSlowError,
    MalformedRequestError,
    MissingExtraError,
    SettingsError,
)
from crossfade.serving.prediction import PredictionService
from crossfade.serving.protocol.messages import SERVICE, message_class
from crossfade.serving.protocol.remote import parse_message
from crossfade.settings import Settings
from crossfade.web.budget import BodyBudget
from crossfade.web.grpc_service import GrpcService, Method, RemoteCall
from crossfade.web.problems import Problem, problem_for

MAX_CALLS = 4096
"""Beyond it gRPC refuses calls: the last resort of a process that is flooded."""
_PROMPT_SECONDS = 0.1
"""What takes longer to arrive needs one of the places for slow messages."""
_LONGEST_TEXT = 2_000
"""Of an error: it travels in a header."""

_CODES = {
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    412: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    507: "RESOURCE_EXHAUSTED",
}
"""HTTP status -> gRPC status; whatever else is wrong with a request is INVALID_ARGUMENT."""


class GrpcServer:
    """Serves `GrpcService` until it is stopped; both on the running event loop.

    Args:
        predictions: What answers.
        settings: Where to listen, and the limits.
        bodies: Counts the large messages together with the bodies of HTTP requests.

    Raises:
        MissingExtraError: grpcio or protobuf is not installed.
    """

    def __init__(self, predictions: PredictionService, settings: Settings, bodies: BodyBudget) -> None:
        try:
            self._grpc: Any = import_module("grpc.aio")
        except ImportError as error:
            raise MissingExtraError(feature="gRPC", package="grpcio", extra="grpc") from error
        message_class("ModelInferRequest")
        http = settings.http
        self._methods = GrpcService(predictions, http).methods()
        self._bodies = bodies
        self._body_seconds = http.body_timeout_seconds
        self._slow_calls = 0
        self._most_slow_calls = bodies.limit_bytes // http.max_body_bytes
        self._address = (
            f"[{http.host}]:{settings.grpc.port}" if ":" in http.host else f"{http.host}:{settings.grpc.port}"
        )
        self._options = [
            ("grpc.max_receive_message_length", http.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", http.max_header_bytes),
            ("grpc.so_reuseport", int(settings.serving.workers > 1)),
        ]
        self._server: Any = None

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            SettingsError: The address cannot be used.
        """
        server = self._grpc.server(options=self._options, maximum_concurrent_rpcs=MAX_CALLS)
        core = import_module("grpc")
        handlers = {
            name: core.stream_unary_rpc_method_handler(self._handler(name, method))
            for name, method in self._methods.items()
        }
        server.add_generic_rpc_handlers((core.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise SettingsError(field="grpc.port", problem=f"{self._address} cannot be used") from error
        await server.start()
        self._server = server

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and give those under way this time to end."""
        if self._server is not None:
            await self._server.stop(seconds)

    def _handler(self, name: str, method: Method) -> Callable[[Any, Any], Awaitable[bytes]]:
        # One message in, one out. It is declared as a stream, which is the same on the wire, so that we read it.
        async def answer(_messages: Any, context: Any) -> bytes:
            held = 0
            try:
                body = await self._read(context)
                self._bodies.grow(0, len(body))
                held = len(body)
                reply: bytes = (await method(_call(name, body, context))).SerializeToString()
            except Exception as error:  # noqa: BLE001 - the last resort of the process: a bug is logged and answered
                problem = problem_for(error, f"urn:uuid:{new_id()}", f"{SERVICE}/{name}")
            else:
                return reply
            finally:
                self._bodies.release(held)
            return await self._refuse(context, problem)

        return answer

    async def _read(self, context: Any) -> bytes:
        reading = asyncio.ensure_future(context.read())
        try:
            arrived, _ = await asyncio.wait({reading}, timeout=_PROMPT_SECONDS)
            body = await (reading if arrived else self._read_slowly(reading))
        finally:
            reading.cancel()
        if not isinstance(body, bytes):
            raise MalformedRequestError(problem="the call ended without a message")
        return body

    async def _read_slowly(self, reading: asyncio.Future[Any]) -> Any:
        if self._slow_calls >= self._most_slow_calls:
            raise BodiesBusyError(limit_bytes=self._bodies.limit_bytes)
        self._slow_calls += 1
        try:
            async with asyncio.timeout(self._body_seconds):
                return await reading
        except TimeoutError as error:
            raise BodyTooSlowError(limit_seconds=self._body_seconds) from error
        finally:
            self._slow_calls -= 1

    async def _refuse(self, context: Any, problem: Problem) -> bytes:
        code = import_module("grpc").StatusCode[_CODES.get(problem.status, "INVALID_ARGUMENT")]
        text = f"{problem.detail} ({problem.hint})" if problem.hint else problem.detail
        trailing = [("crossfade-code", problem.code)]
        if "retry_after_seconds" in problem.facts:
            trailing.append(("retry-after", str(problem.facts["retry_after_seconds"])))
        await context.abort(code, text[:_LONGEST_TEXT], tuple(trailing))
        raise AssertionError("abort raises")


def _call(name: str, body: bytes, context: Any) -> RemoteCall:
    headers = {
        key.encode(): value if isinstance(value, bytes) else value.encode()
        for key, value in context.invocation_metadata() or ()
    }
    message = parse_message(f"{name}Request", body)
    return RemoteCall(message, headers, parse_peer(context.peer()), context.time_remaining())


def parse_peer(peer: str) -> tuple[str, int] | None:
    """Return the address and port in gRPC's name of a caller, None when it has none.

    Example:
        >>> parse_peer("ipv6:%5B::1%5D:50051"), parse_peer("unix:")
        (('::1', 50051), None)
    """
    kind, _, place = unquote(peer).partition(":")
    host, _, port = place.rpartition(":")
    if kind not in {"ipv4", "ipv6"} or not port.isdigit():
        return None
    return host.strip("[]"), int(port)
