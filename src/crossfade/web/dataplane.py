"""The data plane: predictions, health and metrics as one bare ASGI application in front of the control plane.

A prediction passes no framework, no middleware, no task of its own and no log line. Errors of the Open Inference
Protocol are `{"error": "..."}`, those of MLflow's routes `{"error_code", "message"}`, all others are problem documents
(RFC 9457).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from crossfade.core.identity import new_id
from crossfade.errors import CrossfadeError, SignatureMismatchError, UnsupportedMediaTypeError
from crossfade.serving.prediction import PredictionService
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck
from crossfade.web.calls import JSON, Answer, Call, Header
from crossfade.web.guard import ClientGoneError
from crossfade.web.inference import Inference
from crossfade.web.invocations import Invocations
from crossfade.web.logs import get_logger
from crossfade.web.paths import Family, Route, family_of, find_route
from crossfade.web.problems import Problem
from crossfade.web.protocol import respond
from crossfade.web.repository import Repository

_MAX_KNOWN_PATHS = 1024
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_PROBLEM = (b"content-type", b"application/problem+json")

PARTS = (Inference, Repository, Invocations)
"""Their methods are the actions of `web.paths`."""
_MLFLOW_CODES = {403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 503: "TEMPORARILY_UNAVAILABLE"}

Action = Callable[[Call], Awaitable[Answer]]


class DataPlane:
    """ASGI application: answers its own paths, and hands every other one to the control plane.

    Args:
        predictions: What answers predictions.
        settings: Limits, and the names this server answers for.
        control: The control plane.
    """

    def __init__(self, predictions: PredictionService, settings: HttpSettings, control: ASGIApp) -> None:
        self._parts = tuple(part(predictions, settings) for part in PARTS)
        self._callers = CallerCheck(settings)
        self._control = control
        self._known: dict[str, tuple[Route, Action]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._control(scope, receive, send)
            return
        raw_path = scope.get("raw_path")
        path = scope["path"] if raw_path is None else raw_path.decode("latin-1")
        known = self._known.get(path)
        family = family_of(path) if known is None else known[0].family
        if family is None:
            await self._control(scope, receive, send)
            return
        try:
            route, action = known or self._find(path)
            headers, method = dict(scope["headers"]), scope["method"]
            self._callers.check(method, headers)
            if method == route.method or (method == "HEAD" and route.method == "GET"):
                answer = await action(Call(route, headers, scope["query_string"], receive, scope.get("client")))
            else:
                answer = _method_not_allowed(route, method)
        except CrossfadeError as error:
            answer = _refusal(error, "plain" if _wants_problems(scope) else family)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - the last resort of the process: it is logged and answered
            answer = _fault(error, path, family)
        sent_headers = [*answer.headers, _NOSNIFF, (b"content-length", b"%d" % len(answer.body))]
        await respond(scope, send, answer.status, sent_headers, answer.body)

    def _find(self, path: str) -> tuple[Route, Action]:
        route = find_route(path)
        if len(self._known) >= _MAX_KNOWN_PATHS:
            self._known.clear()
        action = next(getattr(part, route.action) for part in self._parts if hasattr(part, route.action))
        known = self._known[path] = (route, action)
        return known


def _wants_problems(scope: Scope) -> bool:
    """Tell whether the client asks for problem documents even on the protocol's paths, as Crossfade's own does."""
    return (b"accept", _PROBLEM[1]) in scope["headers"]


def _refusal(error: CrossfadeError, family: Family) -> Answer:
    retry = ((b"retry-after", b"1"),) if error.http_status == 503 else ()
    if family == "oip":
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        return Answer(orjson.dumps({"error": text}), error.http_status, (JSON, *retry))
    if family == "mlflow":
        return _mlflow_refusal(error, retry)
    problem = Problem.of(error, f"urn:uuid:{new_id()}")
    return Answer(msgspec.json.encode(problem), error.http_status, (_PROBLEM, *retry))


def _mlflow_refusal(error: CrossfadeError, headers: tuple[Header, ...]) -> Answer:
    """Refuse as MLflow does: 400 for whatever is wrong with the input, and plain text for a wrong content type."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, UnsupportedMediaTypeError):
        return Answer(text.encode(), error.http_status, ((b"content-type", b"text/plain; charset=utf-8"),))
    mismatch = isinstance(error, SignatureMismatchError)
    code = "INVALID_PARAMETER_VALUE" if mismatch else _MLFLOW_CODES.get(error.http_status, "BAD_REQUEST")
    status = 400 if error.http_status == 422 else error.http_status
    return Answer(orjson.dumps({"error_code": code, "message": text}), status, (JSON, *headers))


def _method_not_allowed(route: Route, method: str) -> Answer:
    allowed = b"GET, HEAD" if route.method == "GET" else b"POST"
    text = f"{method[:16]} is not allowed here, only {allowed.decode()}"
    return _plain_refusal(405, "method_not_allowed", text, route.family, f"urn:uuid:{new_id()}", ((b"allow", allowed),))


def _fault(error: Exception, path: str, family: Family) -> Answer:
    instance = f"urn:uuid:{new_id()}"
    get_logger().error("bug", request_id=instance, path=path[:200], exc_info=error)
    text = f"the server met a fault of its own; it was logged as {instance}"
    return _plain_refusal(500, "internal_error", text, family, instance, ())


def _plain_refusal(
    status: int, code: str, text: str, family: Family, instance: str, headers: tuple[tuple[bytes, bytes], ...]
) -> Answer:
    if family == "oip":
        return Answer(orjson.dumps({"error": text}), status, (JSON, *headers))
    if family == "mlflow":
        return Answer(orjson.dumps({"error_code": code.upper(), "message": text}), status, (JSON, *headers))
    problem = Problem(f"urn:crossfade:{code}", code.replace("_", " ").capitalize(), status, text, instance, code)
    return Answer(msgspec.json.encode(problem), status, (_PROBLEM, *headers))
