"""One description of a call, and what an answer means: shared by the synchronous and the asynchronous client.

A `Call` says what to send and which type the answer decodes to; nothing here does input or output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from getpass import getuser
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from crossfade.core.identity import ModelRef
from crossfade.errors import (
    ConflictError,
    CrossfadeError,
    DeniedError,
    InvalidInputError,
    MalformedRequestError,
    NotFoundError,
    ServerUnreachableError,
    UnavailableError,
    UnsafeError,
)

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""
JSON = "application/json"
PIECE_BYTES = 2**20
ATTEMPTS = 4
"""How often a call is sent at most."""
_NOT_MODIFIED = 304
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

_FAMILIES: dict[int, type[CrossfadeError]] = {
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: UnsafeError,
    422: InvalidInputError,
    429: UnavailableError,
    503: UnavailableError,
}


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and what its answer means.

    Args:
        method: The HTTP method.
        path: Below the server's address, already quoted.
        answer: Reads the answer of a success.
        params: The query; what is None, empty or False is left out.
        body: A struct is sent as JSON, bytes as they are, a file in pieces.
        headers: Besides those of every request.
        repeatable: Doing it twice changes nothing more than doing it once, so it may be sent again after a failure.
        sent: Told how many bytes of the body have gone, when it is not a struct.
    """

    method: str
    path: str
    answer: Callable[[httpx.Response], T]
    params: Mapping[str, object] = field(default_factory=dict)
    body: msgspec.Struct | bytes | Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    sent: Callable[[int], None] | None = None

    def options(self) -> dict[str, Any]:
        """Return the query and the headers as httpx wants them."""
        headers = {**self.headers}
        if isinstance(self.body, msgspec.Struct):
            headers["content-type"] = JSON
        elif self.body is not None:
            headers.setdefault("content-type", "application/octet-stream")
            headers["content-length"] = str(self.body.stat().st_size if isinstance(self.body, Path) else len(self.body))
        given = {name: value for name, value in self.params.items() if value is not False and value not in (None, "")}
        query = {name: "true" if value is True else str(value) for name, value in given.items()}
        return {"params": query, "headers": headers}

    def pieces(self) -> Iterator[bytes]:
        """Yield the body; a file is read as it is sent."""
        if isinstance(self.body, msgspec.Struct):
            yield msgspec.json.encode(self.body)
            return
        reader = self.body.open("rb") if isinstance(self.body, Path) else BytesIO(self.body or b"")
        done = 0
        with reader:
            while piece := reader.read(PIECE_BYTES):
                yield piece
                done += len(piece)
                if self.sent is not None:
                    self.sent(done)

    def finish(self, response: httpx.Response) -> T:
        """Return the answer, or raise what the server refused with.

        Raises:
            CrossfadeError: The server refused; the class is the one it raised there.
        """
        if not (response.is_success or response.status_code == _NOT_MODIFIED):
            raise refusal(response)
        try:
            return self.answer(response)
        except msgspec.MsgspecError as error:
            url = str(response.request.url.copy_with(query=None))
            problem = "the answer is not Crossfade's, or that of another release"
            raise ServerUnreachableError(url=url, problem=problem) from error


def json_as(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Return a reader of JSON answers of this type."""
    decoder = msgspec.json.Decoder(kind)
    return lambda response: decoder.decode(response.content)


class _ProblemBody(msgspec.Struct):
    code: str = ""
    detail: str = ""
    hint: str = ""
    facts: dict[str, Any] = {}
    error: str = ""


def refusal(response: httpx.Response) -> CrossfadeError:
    """Return the error that a server answered with, as the class it has there."""
    try:
        body = msgspec.json.decode(response.content, type=_ProblemBody)
    except msgspec.MsgspecError:
        body = _ProblemBody()
    kind = error_classes().get(body.code)
    if kind is not None:
        try:
            return kind(**body.facts)
        except (KeyError, TypeError):
            pass  # a server of another release knows other facts
    problem = body.detail or body.error or f"the server answered {response.status_code}"
    family = _FAMILIES.get(response.status_code, InvalidInputError if response.status_code < 500 else UnavailableError)
    error = family(problem=problem, what=f"{response.request.method} {response.request.url.path}")
    error.hint = error.hint or body.hint
    return error


@cache
def error_classes() -> dict[str, type[CrossfadeError]]:
    """Return every error class by its code."""

    def descend(kind: type[CrossfadeError]) -> Iterator[type[CrossfadeError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from descend(child)

    return {kind.code: kind for kind in descend(CrossfadeError)}


def pause_before_retry(call: Call[Any], attempt: int, outcome: httpx.Response | httpx.TransportError) -> float | None:
    """Decide, from the outcome of an attempt, how long to wait before the next; None means that this was the last.

    What was never sent may always be sent again; what may have arrived only when it is repeatable.
    """
    if attempt >= ATTEMPTS:
        return None
    if isinstance(outcome, httpx.Response):
        asked = outcome.headers.get("retry-after", "")
        waits = call.repeatable and outcome.status_code in {429, 503} and asked.isdecimal()
        return min(float(asked), _LONGEST_PAUSE) if waits else None
    never_sent = isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout)
    broke = call.repeatable and isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)
    return _FIRST_PAUSE * attempt if never_sent or broke else None


def unreachable(base_url: httpx.URL, error: httpx.HTTPError) -> ServerUnreachableError:
    """Translate a failure of the connection."""
    url = str(base_url).rstrip("/")
    return ServerUnreachableError(url=url, problem=str(error) or type(error).__name__)


def principal_header(principal: str | None) -> dict[str, str]:
    """Return the header that says who is asking: the only place where a client names its user."""
    if principal is None:
        try:
            principal = getuser()
        except (KeyError, OSError):  # a container may run under a number without a name
            principal = "local"
    return {"x-principal": quote(principal, safe=" @")}


def is_loopback(base_url: str) -> bool:
    """Tell whether a server runs on this machine, where no proxy must come between."""
    host = httpx.URL(base_url).host
    return host == "localhost" or host.startswith("127.") or host == "::1"


def ref_path(ref: str | ModelRef) -> str:
    """Return a reference as one segment of a path: `name:2.1.0`, `name@alias`, `name:production`, `name:3`.

    Raises:
        InvalidRefError: It is no reference.
    """
    parsed = ModelRef.parse(ref) if isinstance(ref, str) else ref
    if parsed.alias is not None:
        return quote(f"{parsed.name}@{parsed.alias}", safe="@")
    return quote(f"{parsed.name}:{parsed.version or parsed.stage or parsed.number}", safe=":")


def segment(text: str) -> str:
    """Return text as one segment of a path.

    Raises:
        MalformedRequestError: It is empty, or a dot segment that URLs give a meaning to.
    """
    if text in {"", ".", ".."}:
        raise MalformedRequestError(problem=f"`{text}` is not a name")
    return quote(text, safe="")
