"""The data plane: predictions, health and metrics, in front of the control plane.

A prediction passes no framework, no middleware and no log line, a small one not even ASGI; see `web.exchange`. Errors
of the Open Inference Protocol are `{"error": "..."}`, those of MLflow's routes `{"error_code", "message"}`, those of
OpenFeature's `{"errorCode", "errorDetails"}`, all others are problem documents (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from crossfade.core.identity import new_id
from crossfade.errors import SignatureMismatchError
from crossfade.serving.flags import FlagService
from crossfade.serving.prediction import PredictionService
from crossfade.settings import HttpSettings
from crossfade.web.budget import BodyBudget
from crossfade.web.callers import CallerCheck
from crossfade.web.calls import BodyReader, Call
from crossfade.web.exchange import JSON, Answer, Header, Request
from crossfade.web.flags import Flags
from crossfade.web.guard import ClientGoneError
from crossfade.web.inference import Inference
from crossfade.web.invocations import Invocations
from crossfade.web.paths import Family, Route, family_of, find_route
from crossfade.web.problems import SEE_ROUTES, Problem, plain_problem, problem_for
from crossfade.web.repository import Repository

_MAX_KNOWN_PATHS = 1024
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_PROBLEM = (b"content-type", b"application/problem+json")

PARTS = (Inference, Repository, Invocations, Flags)
"""Their methods are the actions of `web.paths`."""
_OFREP_CODES = {404: "FLAG_NOT_FOUND", **dict.fromkeys((400, 413, 415, 422), "PARSE_ERROR")}
_MLFLOW_CODES = {
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}

Action = Callable[[Call], Awaitable[Answer]]


class DataPlane:
    """ASGI application: answers its own paths, and hands every other one to the control plane.

    Args:
        predictions: What answers predictions.
        flags: What evaluates flags.
        settings: Limits, and the names this server answers for.
        control: The control plane.
        bodies: Counts the large bodies of both planes.
    """

    def __init__(
        self,
        predictions: PredictionService,
        flags: FlagService,
        settings: HttpSettings,
        control: ASGIApp,
        bodies: BodyBudget,
    ) -> None:
        self._callers = CallerCheck(settings)
        reader = BodyReader(settings, bodies)
        self._parts = (
            Inference(predictions, settings, reader),
            Repository(predictions, settings, reader, self._callers),
            Invocations(predictions, settings, reader),
            Flags(flags, reader),
        )
        self._predictions = predictions
        self._bodies = bodies
        self._control = control
        self._known: dict[str, tuple[Route, Action]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        raw_path = scope.get("raw_path")
        path = "" if scope["type"] != "http" else scope["path"] if raw_path is None else raw_path.decode("latin-1")
        if not self.owns(path):
            await self._control(scope, receive, send)
            return
        client = scope.get("client")
        request = Request(scope["method"], path, scope["query_string"], dict(scope["headers"]), receive, client)
        answer = await self.answer(request)
        if answer is not None:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})

    def owns(self, path: str) -> bool:
        """Tell whether an undecoded path belongs to this plane."""
        return path in self._known or family_of(path) is not None

    async def answer(self, request: Request) -> Answer | None:
        """Answer a request to a path that this plane owns; None when there is nobody to answer."""
        path, headers, method = request.path, request.headers, request.method
        known = self._known.get(path)
        try:
            route, action = known or self._find(path)
            self._callers.check(method, headers)
            if method == route.method or (method == "HEAD" and route.method == "GET"):
                call = Call(route, headers, request.query, request.body, request.client)
                try:
                    answer = await action(call)
                finally:
                    self._bodies.release(call.body_bytes)
            else:
                answer = _method_not_allowed(route, method)
        except ClientGoneError:
            return None
        except Exception as error:  # noqa: BLE001 - the last resort of the process: a bug is logged and answered
            problem = problem_for(error, _new_instance(), path)
            answer = _refusal(problem, "plain" if _wants_problems(headers) else family_of(path) or "plain")
        sent = [*answer.headers, _NOSNIFF, (b"content-length", b"%d" % len(answer.body))]
        if self._predictions.guarded:
            self._tell_emergency(path, sent)
        return Answer(answer.body, answer.status, tuple(sent))

    def _tell_emergency(self, path: str, headers: list[Header]) -> None:
        """Say which emergencies an answer is in: of everything, and of the model that the path names."""
        known = self._known.get(path)
        ref = None if known is None else known[0].ref
        said = self._predictions.emergencies("" if ref is None else ref.name)
        if said:
            headers.append((b"x-crossfade-emergency", said.encode()))

    def _find(self, path: str) -> tuple[Route, Action]:
        route = find_route(path)
        if len(self._known) >= _MAX_KNOWN_PATHS:
            self._known.clear()
        action = next(getattr(part, route.action) for part in self._parts if hasattr(part, route.action))
        known = self._known[path] = (route, action)
        return known


def _wants_problems(headers: dict[bytes, bytes]) -> bool:
    """Tell whether the client asks for problem documents even on the protocol's paths, as Crossfade's own does."""
    return headers.get(b"accept") == _PROBLEM[1]


def _refusal(problem: Problem, family: Family, *headers: Header) -> Answer:
    if problem.status in {429, 503}:
        headers = (*headers, (b"retry-after", str(problem.facts.get("retry_after_seconds", 1)).encode()))
    if family == "oip":
        text = f"{problem.detail} ({problem.hint})" if problem.hint else problem.detail
        return Answer(orjson.dumps({"error": text}), problem.status, (JSON, *headers))
    if family == "mlflow":
        return _mlflow_refusal(problem, headers)
    if family == "ofrep":
        code = _OFREP_CODES.get(problem.status, "GENERAL")
        status = 400 if problem.status == 422 else problem.status
        return Answer(orjson.dumps({"errorCode": code, "errorDetails": problem.detail}), status, (JSON, *headers))
    return Answer(msgspec.json.encode(problem), problem.status, (_PROBLEM, *headers))


def _mlflow_refusal(problem: Problem, headers: tuple[Header, ...]) -> Answer:
    """Refuse as MLflow does: 400 for whatever is wrong with the input, and plain text for a wrong content type."""
    text = f"{problem.detail} ({problem.hint})" if problem.hint else problem.detail
    if problem.status == 415:
        return Answer(text.encode(), problem.status, ((b"content-type", b"text/plain; charset=utf-8"),))
    mismatch = problem.code == SignatureMismatchError.code
    code = "INVALID_PARAMETER_VALUE" if mismatch else _MLFLOW_CODES.get(problem.status, "BAD_REQUEST")
    if problem.status in {405, 500}:
        code = problem.code.upper()
    status = 400 if problem.status == 422 else problem.status
    return Answer(orjson.dumps({"error_code": code, "message": text}), status, (JSON, *headers))


def _method_not_allowed(route: Route, method: str) -> Answer:
    allowed = "GET, HEAD" if route.method == "GET" else "POST"
    text = f"{method[:16]} is not allowed here, only {allowed}"
    problem = plain_problem(405, "method_not_allowed", "Method Not Allowed", text, _new_instance(), SEE_ROUTES)
    return _refusal(problem, route.family, (b"allow", allowed.encode()))


def _new_instance() -> str:
    return f"urn:uuid:{new_id()}"
