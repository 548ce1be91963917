"""Errors as RFC 9457 problem documents: what every route of the control plane answers when it refuses.

The document says what the Python exception and the command line say: `code`, `detail`, `hint` and the facts. A bug
answers with a request id and nothing else; its traceback goes to the log.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response as PlainResponse
from starlette.routing import Match

from crossfade.errors import CrossfadeError, InvalidInputError
from crossfade.web.logs import get_logger

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "x-request-id"
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
SEE_ROUTES = "see every route at `/docs`"


class Problem(msgspec.Struct, frozen=True):
    """A refusal (RFC 9457): what is wrong, which code it has, what to do about it.

    Args:
        type: `urn:crossfade:` and the code; stable.
        title: What this kind of problem is.
        status: The HTTP status.
        detail: What is wrong this time, one sentence.
        instance: The request id, as in the server's log.
        code: Stable name of the kind, one per error class.
        hint: What to do about it, often a command.
        facts: The values in the sentence, for programs.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    hint: str = ""
    facts: dict[str, Any] = {}

    @classmethod
    def of(cls, error: CrossfadeError, instance: str) -> Problem:
        """Return the document of an error.

        Example:
            >>> from crossfade.errors import DrainingError
            >>> Problem.of(DrainingError(), "urn:uuid:1").type
            'urn:crossfade:draining'
        """
        title = (type(error).__doc__ or "").partition("\n")[0].rstrip(".")
        facts: dict[str, Any] = msgspec.to_builtins(error.facts, str_keys=True, enc_hook=str)
        return cls(
            f"urn:crossfade:{error.code}",
            title,
            error.http_status,
            error.message,
            instance,
            error.code,
            error.hint,
            facts,
        )


def plain_problem(status: int, code: str, title: str, detail: str, instance: str, hint: str) -> Problem:
    """Return the document of a refusal that is no exception of ours."""
    return Problem(f"urn:crossfade:{code}", title, status, detail, instance, code, hint)


def problem_for(error: Exception, instance: str, path: str) -> Problem:
    """Return the document of any exception; what is not deliberate is logged with its traceback and tells nothing."""
    if isinstance(error, CrossfadeError):
        return Problem.of(error, instance)
    get_logger().error("bug", request_id=instance, path=path[:200], exc_info=error)
    detail, hint = "the server met a fault of its own; it was logged", f"look for `{instance}` in the server's log"
    return plain_problem(500, "internal_error", "A fault in Crossfade", detail, instance, hint)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return a problem as an HTTP answer; what is overloaded or starting may be asked again after a second."""
    extra = dict(headers or {})
    if problem.status == 503:
        extra.setdefault("retry-after", "1")
    return PlainResponse(msgspec.json.encode(problem), problem.status, extra, MEDIA_TYPE)


def error_response(error: CrossfadeError, instance: str = "") -> Response:
    """Return a deliberate error as an HTTP answer."""
    return problem_response(Problem.of(error, instance))


def install(app: FastAPI) -> None:
    """Make every error of the application answer with a problem document."""
    app.add_exception_handler(CrossfadeError, _deliberate)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(Exception, _bug)


def request_id(request: Request) -> str:
    """Return the id that `web.security` gave this request."""
    return str(request.scope.get("crossfade.request_id", ""))


def _deliberate(request: Request, error: Exception) -> Response:
    assert isinstance(error, CrossfadeError)  # noqa: S101 - tells mypy what add_exception_handler guarantees
    return error_response(error, request_id(request))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = [
        {"field": ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]), "problem": item["msg"]}
        for item in error.errors()
    ]
    text = "; ".join(f"`{item['field']}`: {item['problem']}" for item in found)
    return error_response(InvalidInputError(problem=text, errors=found), request_id(request))


def _routing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    detail = f"`{request.method} {request.url.path[:200]}`: {error.detail}"
    problem = plain_problem(error.status_code, code, str(error.detail), detail, request_id(request), SEE_ROUTES)
    if error.status_code == 405:
        return problem_response(problem, {"allow": ", ".join(_methods(request))})
    return problem_response(problem, dict(error.headers or {}))


def _methods(request: Request) -> list[str]:
    """Return the methods that a path has: each is a route of its own, which would tell of itself only."""
    scopes = ((method, {**request.scope, "method": method}) for method in _METHODS)
    return [
        method for method, scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


def _bug(request: Request, error: Exception) -> Response:
    return problem_response(problem_for(error, request_id(request), request.url.path))
