"""What stands before the control plane: the check of callers, request ids, and the headers that restrain browsers."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossfade.core.identity import new_id
from crossfade.settings import HttpSettings
from crossfade.web.callers import SAFE_METHODS, CallerCheck
from crossfade.web.problems import problem_for, problem_response

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_FOR_ALL = re.compile(r"/api/v1/versions/[^/]+|/api/v1/configs/[^/]+/active")
"""What other machines may read: `Client.load` needs the signature of a version, and configs are read by programs."""


class ControlGuard:
    """ASGI middleware: refuses foreign callers, gives every request an id, adds security headers to every answer."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._callers = CallerCheck(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        instance = scope["crossfade.request_id"] = f"urn:uuid:{new_id()}"
        started = False

        async def send_hardened(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in _HEADERS if header[0] not in given),
                    (b"x-request-id", instance.encode()),
                ]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_hardened)
        except Exception as error:
            if started:
                raise  # it cannot be answered a second time; the server cuts the connection
            await problem_response(problem_for(error, instance, scope["path"]))(scope, receive, send_hardened)

    def _check(self, scope: Scope) -> None:
        headers, method = dict(scope["headers"]), scope["method"]
        self._callers.check(method, headers)
        if method not in SAFE_METHODS or not _FOR_ALL.fullmatch(scope["path"]):
            self._callers.check_local(scope.get("client"), headers)
