"""What stands before the control plane: the check of callers, request ids, and the headers that restrain browsers."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossfade.core.identity import new_id
from crossfade.errors import CrossfadeError
from crossfade.settings import HttpSettings
from crossfade.web.callers import CallerCheck
from crossfade.web.problems import error_response

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class ControlGuard:
    """ASGI middleware: refuses foreign callers, gives every request an id, adds security headers to every answer."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._callers = CallerCheck(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        instance = scope["crossfade.request_id"] = f"urn:uuid:{new_id()}"

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in _HEADERS if header[0] not in given),
                    (b"x-request-id", instance.encode()),
                ]
            await send(message)

        try:
            self._callers.check(scope["method"], dict(scope["headers"]))
        except CrossfadeError as error:
            await error_response(error, instance)(scope, receive, send_hardened)
            return
        await self._app(scope, receive, send_hardened)
