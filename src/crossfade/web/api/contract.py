"""How every route of the control plane reads its request and writes its answer.

Requests and answers are the msgspec structs that the client uses too, so the OpenAPI document, which is made from them,
cannot say anything else than what is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, TypeVar
from urllib.parse import unquote

import msgspec
from fastapi import Depends, Header, Query, Request, Response

from crossfade.errors import MalformedRequestError
from crossfade.platform import Platform
from crossfade.registry.requests import Rehearsal
from crossfade.web.logs import get_logger
from crossfade.web.problems import MEDIA_TYPE, Problem, request_id

T = TypeVar("T")
REF_TEMPLATE = "#/components/schemas/{name}"
PIECE_BYTES = 256 * 2**10
_JSON = "application/json"

_schemas: dict[str, Any] = {}


def schema_of(kind: Any) -> dict[str, Any]:
    """Return a reference to the schema of a type, and remember the schema for the OpenAPI document."""
    (schema,), found = msgspec.json.schema_components([kind], ref_template=REF_TEMPLATE)
    _schemas.update(found)
    return schema


def schemas() -> dict[str, Any]:
    """Return the schemas of all types that routes named."""
    return dict(sorted(_schemas.items()))


def documented(
    answers: Any,
    *,
    takes: type[msgspec.Struct] | None = None,
    changes: bool = False,
    status: int = 200,
    media_type: str = _JSON,
) -> dict[str, Any]:
    """Return the keywords of a route decorator: status, request and answer schemas.

    Args:
        answers: The type of the answer; `bytes` is a file.
        takes: The type of the JSON body.
        changes: The route honours `?dry_run=true`, which answers with a `Rehearsal`.
        status: Of a success.
        media_type: Of a success.
    """
    schema = {"type": "string", "format": "binary"} if answers is bytes else schema_of(answers)
    if changes:
        schema = {"anyOf": [schema, schema_of(Rehearsal)]}
    problem = {"description": "Refused", "content": {MEDIA_TYPE: {"schema": schema_of(Problem)}}}
    success = {"description": "Done", "content": {media_type: {"schema": schema}}}
    extra: dict[str, Any] = {}
    if takes is not None:
        extra["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema_of(takes)}}}
    return {
        "status_code": status,
        "response_class": Response,
        "response_model": None,
        "responses": {status: success, "default": problem},
        "openapi_extra": extra,
    }


def answer(value: object, status: int = 200) -> Response:
    """Return a struct as a JSON answer."""
    return Response(msgspec.json.encode(value), status, media_type=_JSON)


def body(kind: type[T]) -> Any:
    """Return a dependency that decodes the JSON body; an absent body is an empty object."""
    decoder = msgspec.json.Decoder(kind)

    async def read(request: Request) -> T:
        try:
            return decoder.decode(await request.body() or b"{}")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise MalformedRequestError(problem=str(error)) from error
        except RecursionError:
            raise MalformedRequestError(problem="the JSON is nested too deeply") from None

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
