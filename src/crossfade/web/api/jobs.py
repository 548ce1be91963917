"""Batch jobs: submit one for an uploaded file, see how far it is, cancel it, download its result."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from crossfade.errors import ConflictError, NotFoundError
from crossfade.jobs.records import MEDIA_TYPES, Job, JobRequest, State
from crossfade.registry.requests import ReasonRequest, Rehearsal
from crossfade.registry.versions import Page
from crossfade.web.api.contract import (
    Cursor,
    DryRun,
    Limit,
    Open,
    Principal,
    answer,
    body,
    documented,
    log_change,
    pieces_of,
)

routes = APIRouter(tags=["jobs"])


@routes.post(
    "/jobs", **documented(Job, takes=JobRequest, changes=True, refuses=(NotFoundError, ConflictError), status=201)
)
def submit_job(
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[JobRequest, body(JobRequest, "crossfade jobs submit --help")],
    dry_run: DryRun = False,
) -> Response:
    """Have an uploaded file predicted by one version. The same request again answers 200 instead of 201."""
    job, new = platform.jobs.submit(wanted, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"predict a {job.format} file with {job.model}:{job.version}"))
    if wanted.holder:
        platform.registry.release(wanted.holder)
    if new:
        log_change(request, "job.submit", principal, job=job.id, ref=f"{job.model}:{job.version}")
    return answer(job, 201 if new else 200)


@routes.get("/jobs", **documented(Page[Job]))
def list_jobs(
    platform: Open,
    model: Annotated[str, Query(description="only jobs of this model", max_length=64)] = "",
    state: Annotated[State | None, Query(description="only jobs in this state")] = None,
    cursor: Cursor = "",
    limit: Limit = 100,
) -> Response:
    """List batch jobs, newest first."""
    return answer(platform.jobs.list(model=model, state=state or "", cursor=cursor, limit=limit))


@routes.get("/jobs/{job}", **documented(Job, refuses=(NotFoundError,)))
def show_job(job: str, platform: Open) -> Response:
    """Show a batch job: its state, how many rows are done, how many of them failed, how fast it is."""
    return answer(platform.jobs.find(job))


@routes.post(
    "/jobs/{job}/cancel", **documented(Job, takes=ReasonRequest, changes=True, refuses=(NotFoundError, ConflictError))
)
def cancel_job(
    job: str,
    platform: Open,
    principal: Principal,
    request: Request,
    wanted: Annotated[ReasonRequest, body(ReasonRequest, "crossfade jobs cancel --help")],
    dry_run: DryRun = False,
) -> Response:
    """Stop a batch job; what it has answered so far is let go of."""
    after = platform.jobs.cancel(job, reason=wanted.reason, principal=principal, dry_run=dry_run)
    if dry_run:
        return answer(Rehearsal(f"cancel job {after.id} after {after.rows_done} rows"))
    log_change(request, "job.cancel", principal, job=after.id)
    return answer(after)


@routes.get(
    "/jobs/{job}/result",
    **documented(bytes, media_types=MEDIA_TYPES.values(), refuses=(NotFoundError, ConflictError)),
)
def download_result(job: str, platform: Open) -> Response:
    """Download the answers of a batch job. Check their SHA-256 against the job."""
    found, result, stream = platform.jobs.open_result(job)
    headers = {
        "content-length": str(result.size_bytes),
        "content-disposition": f'attachment; filename="{found.id}.{found.output}"',
        "etag": f'"{result.digest}"',
    }
    return StreamingResponse(pieces_of(stream), headers=headers, media_type=result.media_type)
