"""Uploads: which blobs are missing, and the bytes themselves, streamed and hashed, never held in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from crossfade.core.hashing import is_digest
from crossfade.errors import BodyTooLargeError, MalformedRequestError, StorageFullError, UnsafeError, UploadsBusyError
from crossfade.registry.acceptance import MAX_FILES
from crossfade.registry.requests import Upload, UploadRequest
from crossfade.storage.blobs.port import Blob
from crossfade.web.api.contract import READING_A_BODY, Open, answer, body, documented
from crossfade.web.guard import parse_length
from crossfade.web.pace import Pace

routes = APIRouter(tags=["uploads"])

CONCURRENT_UPLOADS = 16
"""Each keeps a thread busy; they have their own, so that uploads never block the other routes."""
_PATIENCE_SECONDS = 5.0
_PATH = re.compile(r"/api/v1/blobs/[^/]+")
_HOLDER = re.compile(r"[0-9A-Za-z-]{8,64}")

Holder = Annotated[str, Query(description="id of the registration, chosen by the client", max_length=64)]


def reads_own_body(method: str, path: str) -> bool:
    """Tell whether a route reads its body itself, in pieces and with limits of its own."""
    return method == "PUT" and _PATH.fullmatch(path) is not None


@routes.post("/uploads", **documented(Upload, takes=UploadRequest, refuses=(StorageFullError,)))
def begin_upload(
    platform: Open, wanted: Annotated[UploadRequest, body(UploadRequest, "crossfade models register --help")]
) -> Response:
    """Begin a registration: its blobs are safe from garbage collection from now on; learn which have to be sent."""
    _check_holder(wanted.holder)
    if len(wanted.digests) > MAX_FILES:
        raise MalformedRequestError(problem=f"{len(wanted.digests)} digests, at most {MAX_FILES}")
    for digest in wanted.digests:
        _check_digest(digest)
    backend = platform.registry.backend
    backend.lease_blobs(wanted.digests, wanted.holder)
    # A blob that went bad has to be sent again: nobody else would ever replace it.
    missing = tuple(digest for digest in wanted.digests if backend.blobs.find_intact(digest) is None)
    return answer(Upload(wanted.holder, missing))


@routes.put(
    "/blobs/{digest}",
    **documented(Blob, refuses=(*READING_A_BODY, UnsafeError, StorageFullError))
    | {"openapi_extra": {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}},
)
async def put_blob(digest: str, holder: Holder, platform: Open, request: Request) -> Response:
    """Store the bytes that have this SHA-256."""
    _check_digest(digest)
    _check_holder(holder)
    limit = platform.settings.registry.max_blob_bytes
    length = request.headers.get("content-length")
    if length is not None and parse_length(length.encode("latin-1")) > limit:
        raise BodyTooLargeError(limit_bytes=limit)
    pieces = _pieces(request.stream(), Pace(platform.settings.http.body_timeout_seconds))
    try:
        async with _place(request.app.state.upload_places):
            thread = CapacityLimiter(1)  # of its own: the place is what limits
            blob = await to_thread.run_sync(platform.registry.store_blob, pieces, digest, holder, limiter=thread)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    return answer(blob)


def _pieces(stream: AsyncIterator[bytes], pace: Pace) -> Iterator[bytes]:
    """Yield the body on a worker thread, as it arrives on the event loop."""
    while (piece := from_thread.run(pace.next_piece, stream)) is not None:
        yield piece


@asynccontextmanager
async def _place(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold a place among the uploads; who gets none soon is sent away instead of left waiting."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await places.acquire()
    except TimeoutError as error:
        raise UploadsBusyError(limit=CONCURRENT_UPLOADS) from error
    try:
        yield
    finally:
        places.release()


def _check_digest(digest: str) -> None:
    if not is_digest(digest):
        raise MalformedRequestError(problem=f"`{digest[:80]}` is not a SHA-256 in lower-case hexadecimal")


def _check_holder(holder: str) -> None:
    if not _HOLDER.fullmatch(holder):
        raise MalformedRequestError(problem="`holder` is 8 to 64 letters, digits and hyphens")
