"""Uploads: which blobs are missing, and the bytes themselves, streamed and hashed, never held in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Annotated

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from crossfade.core.hashing import is_digest
from crossfade.errors import BodyTooLargeError, BodyTooSlowError, MalformedRequestError
from crossfade.registry.acceptance import MAX_FILES
from crossfade.registry.requests import Upload, UploadRequest
from crossfade.storage.blobs.port import Blob
from crossfade.web.api.contract import Open, answer, body, documented

routes = APIRouter(tags=["uploads"])

CONCURRENT_UPLOADS = 16
"""Each keeps a thread busy; they have their own, so that uploads never block the other routes."""
_PATH = re.compile(r"/api/v1/blobs/[^/]+")
_HOLDER = re.compile(r"[0-9A-Za-z-]{8,64}")

Holder = Annotated[str, Query(description="id of the registration, chosen by the client", max_length=64)]


def reads_own_body(method: str, path: str) -> bool:
    """Tell whether a route reads its body itself, in pieces and with limits of its own."""
    return method == "PUT" and _PATH.fullmatch(path) is not None


@routes.post("/uploads", **documented(Upload, takes=UploadRequest))
def begin_upload(platform: Open, wanted: Annotated[UploadRequest, body(UploadRequest)]) -> Response:
    """Begin a registration: its blobs are safe from garbage collection from now on; learn which have to be sent."""
    _check_holder(wanted.holder)
    if len(wanted.digests) > MAX_FILES:
        raise MalformedRequestError(problem=f"{len(wanted.digests)} digests, at most {MAX_FILES}")
    for digest in wanted.digests:
        _check_digest(digest)
    backend = platform.registry.backend
    backend.lease_blobs(wanted.digests, wanted.holder)
    missing = tuple(digest for digest in wanted.digests if backend.blobs.find(digest) is None)
    return answer(Upload(wanted.holder, missing))


@routes.put(
    "/blobs/{digest}",
    **documented(Blob)
    | {"openapi_extra": {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}},
)
async def put_blob(digest: str, holder: Holder, platform: Open, request: Request) -> Response:
    """Store the bytes that have this SHA-256."""
    _check_digest(digest)
    _check_holder(holder)
    limit = platform.settings.registry.max_blob_bytes
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise BodyTooLargeError(limit_bytes=limit)
    pieces = _pieces(request.stream(), platform.settings.http.body_timeout_seconds)
    try:
        blob = await to_thread.run_sync(platform.registry.store_blob, pieces, digest, holder, limiter=_limiter())
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    return answer(blob)


def _pieces(stream: AsyncIterator[bytes], seconds: float) -> Iterator[bytes]:
    """Yield the body on a worker thread, as it arrives on the event loop."""

    async def following() -> bytes | None:
        try:
            async with asyncio.timeout(seconds):
                return await anext(stream, None)
        except TimeoutError as error:
            raise BodyTooSlowError(limit_seconds=seconds) from error

    while (piece := from_thread.run(following)) is not None:
        yield piece


@cache
def _limiter() -> CapacityLimiter:
    return CapacityLimiter(CONCURRENT_UPLOADS)


def _check_digest(digest: str) -> None:
    if not is_digest(digest):
        raise MalformedRequestError(problem=f"`{digest[:80]}` is not a SHA-256 in lower-case hexadecimal")


def _check_holder(holder: str) -> None:
    if not _HOLDER.fullmatch(holder):
        raise MalformedRequestError(problem="`holder` is 8 to 64 letters, digits and hyphens")
