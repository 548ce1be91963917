"""How every route of the control plane reads its request and writes its answer.

Requests and answers are the msgspec structs that the client uses too, so the OpenAPI document, which is made from them,
cannot say anything else than what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, BinaryIO, TypeVar
from urllib.parse import unquote

import msgspec
from fastapi import Depends, Header, Query, Request, Response

from crossfade.core.decoding import problem_of
from crossfade.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    CrossfadeError,
    DeniedError,
    InvalidInputError,
    MalformedRequestError,
    StorageFullError,
    UnavailableError,
)
from crossfade.platform import Platform
from crossfade.registry.requests import Rehearsal
from crossfade.web.logs import get_logger
from crossfade.web.problems import MEDIA_TYPE, Problem, request_id

T = TypeVar("T")
REF_TEMPLATE = "#/components/schemas/{name}"
PIECE_BYTES = 256 * 2**10
_JSON = "application/json"

READING_A_BODY = (BodyTooSlowError, BodyTooLargeError)
_ALWAYS = (DeniedError, InvalidInputError, UnavailableError)
_CHANGING = (StorageFullError,)
_schemas: dict[str, Any] = {}
_promised: list[tuple[dict[str, Any], Any]] = []


def schema_of(kind: Any) -> dict[str, Any]:
    """Return what becomes a reference to the schema of a type as soon as somebody asks for `schemas`.

    Most processes never show the OpenAPI document, and making schemas takes longer than all else at their start.
    """
    promise: dict[str, Any] = {}
    _promised.append((promise, kind))
    return promise


def schemas() -> dict[str, Any]:
    """Return the schemas of all types that routes named, and keep what `schema_of` has promised."""
    while _promised:
        promise, kind = _promised.pop()
        (schema,), found = msgspec.json.schema_components([kind], ref_template=REF_TEMPLATE)
        promise.update(schema)
        for name, part in found.items():
            assert _schemas.setdefault(name, part) == part, f"two types are called `{name}`"  # noqa: S101 - one hides
    return dict(sorted(_schemas.items()))


def documented(
    answers: Any,
    *,
    takes: type[msgspec.Struct] | None = None,
    changes: bool = False,
    refuses: tuple[type[CrossfadeError], ...] = (),
    status: int = 200,
    media_types: Iterable[str] = (_JSON,),
) -> dict[str, Any]:
    """Return the keywords of a route decorator: status, request and answer schemas, and every status of a refusal.

    Args:
        answers: The type of the answer; `bytes` is a file.
        takes: The type of the JSON body.
        changes: The route honours `?dry_run=true`, which answers with a `Rehearsal`.
        refuses: Errors beyond those of every route, of every body and of every change.
        status: Of a success; a route that makes something answers 200 when it is there already.
        media_types: Of a success.
    """
    schema = {} if answers is bytes else schema_of(answers)
    if changes:
        schema = {"anyOf": [schema, schema_of(Rehearsal)]}
    success = {"description": "Done", "content": {kind: {"schema": schema} for kind in media_types}}
    refuses = (*_ALWAYS, *(_CHANGING if changes else ()), *(READING_A_BODY if takes is not None else ()), *refuses)
    extra: dict[str, Any] = {}
    if takes is not None:
        extra["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema_of(takes)}}}
    return {
        "status_code": status,
        "response_class": Response,
        "response_model": None,
        "responses": {200: success, status: success, **refusals(refuses)},
        "openapi_extra": extra,
    }


def refusals(kinds: Iterable[type[CrossfadeError]], media_types: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the OpenAPI responses of errors, by status.

    Args:
        kinds: Families of errors, or single ones whose status is not that of their family.
        media_types: How they are written; problem documents when it is left out.

    Example:
        >>> from crossfade.errors import NotFoundError
        >>> refusals([NotFoundError])["404"]["description"]
        'What was named does not exist.'
    """
    content = media_types or {MEDIA_TYPE: {"schema": schema_of(Problem)}}
    return {
        str(kind.http_status): {"description": (kind.__doc__ or "").partition("\n")[0], "content": content}
        for kind in reversed(list(kinds))  # of a status, the first describes it
    }


def answer(value: object, status: int = 200) -> Response:
    """Return a struct as a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=_JSON)


def body(kind: type[T], see: str) -> Any:
    """Return a dependency that decodes the JSON body; an absent body is an empty object.

    Args:
        kind: What it has to be.
        see: The command that shows what that is.
    """

    @cache
    def decoder() -> msgspec.json.Decoder[T]:  # made when the first one arrives, because it takes a while
        return msgspec.json.Decoder(kind)

    async def read(request: Request) -> T:
        try:
            return decoder().decode(await request.body() or b"{}")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MalformedRequestError(problem=problem_of(error, kind), see=see) from error
        except RecursionError:
            raise MalformedRequestError(problem="the JSON is nested too deeply", see=see) from None

    return Depends(read)


def _platform(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


def _principal(x_principal: Annotated[str, Header(description="who is asking", max_length=128)] = "local") -> str:
    """Say who is asking. There is no authentication yet: what the client says is believed, here and nowhere else."""
    name = unquote(x_principal)
    return "".join(character for character in name if character.isprintable())[:128] or "local"


Open = Annotated[Platform, Depends(_platform)]
Principal = Annotated[str, Depends(_principal)]
Cursor = Annotated[str, Query(description="`next_cursor` of the page before", max_length=200)]
Limit = Annotated[int, Query(description="items on a page", ge=1, le=1000)]
DryRun = Annotated[bool, Query(description="check everything, change nothing, say what would happen")]
Reason = Annotated[str, Query(description="kept in the history", max_length=2000)]


def log_change(request: Request, action: str, principal: str, **facts: object) -> None:
    """Write the log line of a change: one per change, after it was made."""
    get_logger().info(action, principal=principal, request_id=request_id(request), **facts)


def pieces_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield a stream piece by piece, and close it."""
    with stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece
